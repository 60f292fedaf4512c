/* SPDX-License-Identifier: Apache-2.0 */
/* core/doc.c: the document tree.
 *
 * Containers are arrays that double; the old array stays in the arena until it goes. A look-up
 * walks the members: maps that people write are short, and readers of long ones use
 * rig_doc_append, which does not look. */
#include "doc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fault.h"

#define ROOM_FIRST 4

static struct rig_doc *make(struct rig_arena *arena, enum rig_doc_kind kind)
{
    struct rig_doc *doc = rig_arena_new(arena, struct rig_doc);
    if (doc != NULL)
        doc->kind = kind;
    return doc;
}

static struct rig_doc *make_text(struct rig_arena *arena, enum rig_doc_kind kind,
                                 struct rig_slice text)
{
    char *copy = rig_arena_copy(arena, text.at, text.len);
    struct rig_doc *doc = copy != NULL ? make(arena, kind) : NULL;
    if (doc != NULL)
        doc->text = rig_slice(copy, text.len);
    return doc;
}

struct rig_doc *rig_doc_null(struct rig_arena *arena)
{
    return make(arena, RIG_DOC_NULL);
}

struct rig_doc *rig_doc_bool(struct rig_arena *arena, bool value)
{
    struct rig_doc *doc = make(arena, RIG_DOC_BOOL);
    if (doc != NULL)
        doc->is_true = value;
    return doc;
}

struct rig_doc *rig_doc_int(struct rig_arena *arena, int64_t value)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%" PRId64, value);
    return make_text(arena, RIG_DOC_NUMBER, rig_slice(text, (size_t)len));
}

static size_t skip_digits(struct rig_slice text, size_t from)
{
    while (from < text.len && text.at[from] >= '0' && text.at[from] <= '9')
        from++;
    return from;
}

/* number = [ minus ] int [ frac ] [ exp ] (RFC 8259, 6) */
static bool is_number(struct rig_slice text)
{
    size_t at = text.len > 0 && text.at[0] == '-' ? 1 : 0;
    size_t end = skip_digits(text, at);
    if (end == at || (text.at[at] == '0' && end > at + 1))
        return false;
    at = end;
    if (at < text.len && text.at[at] == '.') {
        end = skip_digits(text, at + 1);
        if (end == at + 1)
            return false;
        at = end;
    }
    if (at < text.len && (text.at[at] == 'e' || text.at[at] == 'E')) {
        at++;
        if (at < text.len && (text.at[at] == '+' || text.at[at] == '-'))
            at++;
        end = skip_digits(text, at);
        if (end == at)
            return false;
        at = end;
    }
    return at == text.len;
}

struct rig_doc *rig_doc_number(struct rig_arena *arena, struct rig_slice text)
{
    return make_text(arena, is_number(text) ? RIG_DOC_NUMBER : RIG_DOC_STRING, text);
}

struct rig_doc *rig_doc_string(struct rig_arena *arena, struct rig_slice text)
{
    return make_text(arena, RIG_DOC_STRING, text);
}

struct rig_doc *rig_doc_text(struct rig_arena *arena, const char *text)
{
    return make_text(arena, RIG_DOC_STRING, rig_slice_text(text));
}

struct rig_doc *rig_doc_list(struct rig_arena *arena)
{
    return make(arena, RIG_DOC_LIST);
}

struct rig_doc *rig_doc_map(struct rig_arena *arena)
{
    return make(arena, RIG_DOC_MAP);
}

static bool is_kind(const struct rig_doc *doc, enum rig_doc_kind kind)
{
    return doc != NULL && doc->kind == kind;
}

/* Moves the elements to an array of `room`; false when the budget is used up. */
static bool grow(struct rig_arena *arena, struct rig_doc *doc, size_t room)
{
    bool is_map = doc->kind == RIG_DOC_MAP;
    size_t size = is_map ? sizeof(*doc->members) : sizeof(*doc->items);
    void *array = room <= SIZE_MAX / size ? rig_arena_alloc(arena, room * size) : NULL;
    if (array == NULL)
        return false;
    const void *old = is_map ? (const void *)doc->members : (const void *)doc->items;
    if (doc->count > 0)
        memcpy(array, old, doc->count * size);
    if (is_map)
        doc->members = array;
    else
        doc->items = array;
    doc->room = room;
    return true;
}

static bool has_room(struct rig_arena *arena, struct rig_doc *doc)
{
    if (doc->count < doc->room)
        return true;
    return grow(arena, doc, doc->room > 0 ? doc->room * 2 : ROOM_FIRST);
}

void rig_doc_reserve(struct rig_arena *arena, struct rig_doc *container, size_t count)
{
    if (!is_kind(container, RIG_DOC_LIST) && !is_kind(container, RIG_DOC_MAP))
        return;
    if (count > container->room - container->count)
        grow(arena, container, container->count + count);
}

void rig_doc_push(struct rig_arena *arena, struct rig_doc *list, struct rig_doc *value)
{
    if (!is_kind(list, RIG_DOC_LIST) || value == NULL || !has_room(arena, list))
        return;
    list->items[list->count++] = value;
}

static struct rig_doc_member *find(const struct rig_doc *map, struct rig_slice key)
{
    for (size_t i = 0; is_kind(map, RIG_DOC_MAP) && i < map->count; i++)
        if (rig_slice_equal(map->members[i].key, key))
            return &map->members[i];
    return NULL;
}

struct rig_doc_member *rig_doc_append(struct rig_arena *arena, struct rig_doc *map,
                                      struct rig_slice key, struct rig_doc *value)
{
    if (!is_kind(map, RIG_DOC_MAP) || value == NULL || !has_room(arena, map))
        return NULL;
    struct rig_doc_member *member = &map->members[map->count++];
    *member = (struct rig_doc_member){.key = key, .value = value};
    return member;
}

void rig_doc_set_slice(struct rig_arena *arena, struct rig_doc *map, struct rig_slice key,
                       struct rig_doc *value)
{
    if (!is_kind(map, RIG_DOC_MAP) || value == NULL)
        return;
    struct rig_doc_member *member = find(map, key);
    if (member != NULL) {
        member->value = value;
        return;
    }
    char *copy = rig_arena_copy(arena, key.at, key.len);
    if (copy != NULL)
        rig_doc_append(arena, map, rig_slice(copy, key.len), value);
}

void rig_doc_set(struct rig_arena *arena, struct rig_doc *map, const char *key,
                 struct rig_doc *value)
{
    rig_doc_set_slice(arena, map, rig_slice_text(key), value);
}

void rig_doc_remove(struct rig_doc *map, const char *key)
{
    struct rig_doc_member *member = find(map, rig_slice_text(key));
    if (member == NULL)
        return;
    size_t after = map->count - (size_t)(member - map->members) - 1;
    memmove(member, member + 1, after * sizeof(*member));
    map->count--;
}

/* By key, and equal keys by their place. */
static int member_compare(const void *left, const void *right)
{
    const struct rig_doc_member *a = *(struct rig_doc_member *const *)left;
    const struct rig_doc_member *b = *(struct rig_doc_member *const *)right;
    size_t len = a->key.len < b->key.len ? a->key.len : b->key.len;
    int order = len > 0 ? memcmp(a->key.at, b->key.at, len) : 0;
    if (order == 0 && a->key.len != b->key.len)
        order = a->key.len < b->key.len ? -1 : 1;
    if (order == 0)
        order = a < b ? -1 : a > b;
    return order;
}

/* The members in the order of their keys, or NULL: too few to repeat, or no budget. */
static struct rig_doc_member **sort(struct rig_arena *arena, const struct rig_doc *map)
{
    if (!is_kind(map, RIG_DOC_MAP) || map->count < 2)
        return NULL;
    struct rig_doc_member **sorted =
        rig_arena_alloc(arena, map->count * sizeof(struct rig_doc_member *));
    for (size_t i = 0; sorted != NULL && i < map->count; i++)
        sorted[i] = &map->members[i];
    if (sorted != NULL)
        qsort(sorted, map->count, sizeof(struct rig_doc_member *), member_compare);
    return sorted;
}

const struct rig_doc_member *rig_doc_repeated(struct rig_arena *arena, const struct rig_doc *map)
{
    struct rig_doc_member **sorted = sort(arena, map);
    const struct rig_doc_member *first = NULL;
    for (size_t i = 1; sorted != NULL && i < map->count; i++)
        if (rig_slice_equal(sorted[i - 1]->key, sorted[i]->key) &&
            (first == NULL || sorted[i] < first))
            first = sorted[i];
    return first;
}

void rig_doc_join_repeated(struct rig_arena *arena, struct rig_doc *map)
{
    struct rig_doc_member **sorted = sort(arena, map);
    if (sorted == NULL)
        return;
    struct rig_doc_member *first = sorted[0];
    for (size_t i = 1; i < map->count; i++) {
        if (!rig_slice_equal(first->key, sorted[i]->key)) {
            first = sorted[i];
            continue;
        }
        first->value = sorted[i]->value;
        first->line = sorted[i]->line;
        sorted[i]->value = NULL; /* dropped below */
    }
    size_t kept = 0;
    for (size_t i = 0; i < map->count; i++)
        if (map->members[i].value != NULL)
            map->members[kept++] = map->members[i];
    map->count = kept;
}

struct rig_doc *rig_doc_get_slice(const struct rig_doc *map, struct rig_slice key)
{
    const struct rig_doc_member *member = find(map, key);
    return member != NULL ? member->value : NULL;
}

struct rig_doc *rig_doc_get(const struct rig_doc *map, const char *key)
{
    return rig_doc_get_slice(map, rig_slice_text(key));
}

const char *rig_doc_get_text(const struct rig_doc *map, const char *key, const char *fallback)
{
    const struct rig_doc *value = rig_doc_get(map, key);
    return is_kind(value, RIG_DOC_STRING) ? (const char *)value->text.at : fallback;
}

bool rig_doc_get_bool(const struct rig_doc *map, const char *key, bool fallback)
{
    const struct rig_doc *value = rig_doc_get(map, key);
    return is_kind(value, RIG_DOC_BOOL) ? value->is_true : fallback;
}

/* The power of ten behind the digits; one beyond all that fits is as good as any larger one. */
static long exponent_of(const char *text)
{
    const char *e = strpbrk(text, "eE");
    long exponent = e != NULL ? strtol(e + 1, NULL, 10) : 0;
    return exponent > INT32_MAX ? INT32_MAX : exponent < INT32_MIN ? INT32_MIN : exponent;
}

int rig_doc_int64(const struct rig_doc *number, int64_t *value)
{
    if (!is_kind(number, RIG_DOC_NUMBER))
        return RIG_E_RANGE;
    const char *text = (const char *)number->text.at;
    bool is_negative = text[0] == '-';
    /* Digits still to come before the decimal point, once the exponent has moved it. */
    const char *digit = text + is_negative;
    size_t whole = strspn(digit, "0123456789");
    long long point = (long long)whole + exponent_of(text);
    uint64_t sum = 0;
    uint64_t most = is_negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    for (; *digit != '\0' && *digit != 'e' && *digit != 'E'; digit++) {
        if (*digit == '.')
            continue;
        unsigned figure = (unsigned)(*digit - '0');
        if (point-- <= 0) {
            if (figure != 0)
                return RIG_E_RANGE;
            continue;
        }
        if (sum > (most - figure) / 10)
            return RIG_E_RANGE;
        sum = sum * 10 + figure;
    }
    for (; point > 0 && sum != 0; point--) {
        if (sum > most / 10)
            return RIG_E_RANGE;
        sum *= 10;
    }
    *value = is_negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return 0;
}

struct rig_doc *rig_doc_copy(struct rig_arena *arena, const struct rig_doc *doc)
{
    if (doc == NULL)
        return NULL;
    struct rig_doc *copy =
        doc->text.at != NULL ? make_text(arena, doc->kind, doc->text) : make(arena, doc->kind);
    if (copy == NULL)
        return NULL;
    copy->line = doc->line;
    copy->is_true = doc->is_true;
    rig_doc_reserve(arena, copy, doc->count);
    for (size_t i = 0; i < doc->count && !rig_arena_is_spent(arena); i++) {
        if (doc->kind == RIG_DOC_LIST) {
            rig_doc_push(arena, copy, rig_doc_copy(arena, doc->items[i]));
            continue;
        }
        const struct rig_doc_member *from = &doc->members[i];
        char *key = rig_arena_copy(arena, from->key.at, from->key.len);
        struct rig_doc *value = key != NULL ? rig_doc_copy(arena, from->value) : NULL;
        struct rig_doc_member *to =
            rig_doc_append(arena, copy, rig_slice(key, from->key.len), value);
        if (to != NULL)
            to->line = from->line;
    }
    return rig_arena_is_spent(arena) ? NULL : copy;
}

size_t rig_doc_depth(const struct rig_doc *doc)
{
    size_t deepest = 0;
    if (!is_kind(doc, RIG_DOC_LIST) && !is_kind(doc, RIG_DOC_MAP))
        return 0;
    for (size_t i = 0; i < doc->count; i++) {
        bool is_map = doc->kind == RIG_DOC_MAP;
        size_t depth = rig_doc_depth(is_map ? doc->members[i].value : doc->items[i]);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

const char *rig_doc_kind_text(enum rig_doc_kind kind)
{
    static const char *const texts[] = {
        [RIG_DOC_NULL] = "null",       [RIG_DOC_BOOL] = "true or false",
        [RIG_DOC_NUMBER] = "a number", [RIG_DOC_STRING] = "a string",
        [RIG_DOC_LIST] = "a list",     [RIG_DOC_MAP] = "a map",
    };
    return (size_t)kind < sizeof(texts) / sizeof(texts[0]) ? texts[kind] : "nothing";
}
