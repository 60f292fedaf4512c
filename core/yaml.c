/* SPDX-License-Identifier: Apache-2.0 */
/* core/yaml.c: libyaml's events -> the document tree.
 *
 * Plain scalars go by the core schema of YAML 1.2 (10.3.2), whatever libyaml thinks of 1.1: yes
 * and on are strings, 010 is ten, 0o10 is eight. Numbers are stored in JSON's spelling. An alias
 * is a copy in the arena, so that what expands is paid for where it expands. */
#include "yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <uv.h>
#include <yaml.h>

#include "json.h"

/* An anchor is looked up by walking; no document that a person wrote has nearly as many. */
#define ANCHORS_MAX 256

#define TAG_PREFIX "tag:yaml.org,2002:"

struct anchor {
    const char *name;
    struct rig_doc *doc; /* NULL while its node is still being read */
};

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    struct rig_slice text;
    const char *name;
    struct rig_arena *arena;
    struct rig_fault *why;
    size_t depth;
    struct anchor *anchors; /* in the arena */
    size_t anchor_count;
};

static uint32_t event_line(const struct reader *reader)
{
    return (uint32_t)reader->event.start_mark.line + 1;
}

#define refuse(reader, code, ...) refuse_at(reader, event_line(reader), code, __VA_ARGS__)

__attribute__((format(printf, 4, 5))) static int refuse_at(struct reader *reader, uint32_t line,
                                                           int code, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return rig_fault_set(reader->why, code, "%s:%u: %s", reader->name, line, what);
}

static int refuse_size(struct reader *reader)
{
    return refuse(reader, RIG_E_TOO_LARGE,
                  "the document, its aliases expanded, needs more than its limit of %zu octets",
                  reader->arena->max_bytes);
}

/* libyaml gives a place for what it scans and parses, but only an offset for what it cannot
 * even read as characters. */
static int refuse_parser(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return refuse_at(reader, 1, RIG_E_TOO_LARGE, "out of memory");
    size_t line = parser->problem_mark.line + 1;
    if (parser->error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < parser->problem_offset && i < reader->text.len; i++)
            line += reader->text.at[i] == '\n';
    }
    const char *problem = parser->problem != NULL ? parser->problem : "not well-formed";
    if (parser->context == NULL)
        return refuse_at(reader, (uint32_t)line, RIG_E_SYNTAX, "%s", problem);
    return refuse_at(reader, (uint32_t)line, RIG_E_SYNTAX, "%s %s", problem, parser->context);
}

static int next_event(struct reader *reader)
{
    if (reader->has_event)
        yaml_event_delete(&reader->event);
    reader->has_event = yaml_parser_parse(&reader->parser, &reader->event) != 0;
    return reader->has_event ? 0 : refuse_parser(reader);
}

static size_t skip(const char *text, size_t at, const char *set)
{
    return at + strspn(text + at, set);
}

#define DIGITS "0123456789"

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?  in JSON's spelling: no
 * plus, no leading zeros, digits on both sides of the point. False when it is no number. */
static bool spell_decimal(struct reader *reader, const char *text, struct rig_slice *spelled)
{
    size_t whole = text[0] == '-' || text[0] == '+' ? 1 : 0;
    size_t whole_end = skip(text, whole, DIGITS);
    size_t part = text[whole_end] == '.' ? whole_end + 1 : whole_end;
    size_t part_end = part > whole_end ? skip(text, part, DIGITS) : part;
    if (whole_end == whole && part_end == part)
        return false;
    size_t end = part_end;
    if (text[end] == 'e' || text[end] == 'E') {
        size_t power = end + 1;
        power += text[power] == '-' || text[power] == '+' ? 1 : 0;
        end = skip(text, power, DIGITS);
        if (end == power)
            return false;
    }
    if (text[end] != '\0')
        return false;
    while (whole + 1 < whole_end && text[whole] == '0')
        whole++;
    const char *digits = rig_arena_printf(
        reader->arena, "%s%.*s%s%.*s%s", text[0] == '-' ? "-" : "",
        whole_end > whole ? (int)(whole_end - whole) : 1, whole_end > whole ? text + whole : "0",
        part_end > part ? "." : "", (int)(part_end - part), text + part, text + part_end);
    *spelled = rig_slice_text(digits);
    return true;
}

/* 0o [0-7]+ and 0x [0-9a-fA-F]+, to at most 64 bits; JSON knows only tens. */
static int spell_radix(struct reader *reader, const char *text, struct rig_slice *spelled)
{
    bool is_hex = text[1] == 'x';
    const char *set = is_hex ? DIGITS "abcdefABCDEF" : "01234567";
    size_t end = skip(text, 2, set);
    if (end == 2 || text[end] != '\0')
        return 0;
    uint64_t sum = 0;
    for (size_t i = 2; i < end; i++) {
        unsigned figure =
            text[i] <= '9' ? (unsigned)(text[i] - '0') : (unsigned)((text[i] | 0x20) - 'a') + 10;
        if (sum >> (is_hex ? 60 : 61) != 0)
            return refuse(reader, RIG_E_RANGE, "%s does not fit 64 bits; quote it if it is text",
                          text);
        sum = sum << (is_hex ? 4 : 3) | figure;
    }
    *spelled = rig_slice_text(rig_arena_printf(reader->arena, "%llu", (unsigned long long)sum));
    return 1;
}

static bool is_one_of(const char *text, const char *const *words)
{
    while (*words != NULL && strcmp(text, *words) != 0)
        words++;
    return *words != NULL;
}

/* The core schema's table; `doc` is a string until something else matches. */
static int resolve(struct reader *reader, const char *text, struct rig_doc *doc)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    static const char *const infinities[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};
    size_t sign = text[0] == '-' || text[0] == '+' ? 1 : 0;
    if (is_one_of(text, nulls)) {
        doc->kind = RIG_DOC_NULL;
        return 0;
    }
    doc->is_true = is_one_of(text, trues);
    if (doc->is_true || is_one_of(text, falses)) {
        doc->kind = RIG_DOC_BOOL;
        return 0;
    }
    if (is_one_of(text + sign, infinities) || is_one_of(text, nans))
        return refuse(reader, RIG_E_RANGE,
                      "%s is a number that JSON does not have; quote it if it "
                      "is text",
                      text);
    int is_number = text[0] == '0' && (text[1] == 'x' || text[1] == 'o')
                        ? spell_radix(reader, text, &doc->text)
                        : spell_decimal(reader, text, &doc->text);
    if (is_number > 0)
        doc->kind = RIG_DOC_NUMBER;
    return is_number < 0 ? is_number : 0;
}

/* A tag says what the schema must have found. Null and booleans only match their own. */
static int check_tag(struct reader *reader, const char *tag, const struct rig_doc *doc)
{
    static const char *const names[] = {
        [RIG_DOC_NULL] = "null",  [RIG_DOC_BOOL] = "bool", [RIG_DOC_NUMBER] = "float",
        [RIG_DOC_STRING] = "str", [RIG_DOC_LIST] = "seq",  [RIG_DOC_MAP] = "map",
    };
    size_t prefix = sizeof(TAG_PREFIX) - 1;
    if (strncmp(tag, TAG_PREFIX, prefix) != 0)
        return refuse(reader, RIG_E_SYNTAX, "the tag %s has no meaning here", tag);
    const char *name = tag + prefix;
    if (strcmp(name, names[doc->kind]) == 0)
        return 0;
    if (doc->kind == RIG_DOC_NUMBER && strcmp(name, "int") == 0 &&
        strpbrk((const char *)doc->text.at, ".eE") == NULL)
        return 0;
    return refuse(reader, RIG_E_SYNTAX, "the tag %s does not fit %s", tag,
                  rig_doc_kind_text(doc->kind));
}

static int read_scalar(struct reader *reader, struct rig_doc *doc)
{
    const char *text = (const char *)reader->event.data.scalar.value;
    size_t len = reader->event.data.scalar.length;
    const char *tag = (const char *)reader->event.data.scalar.tag;
    bool is_plain = reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && tag == NULL;
    /* The non-specific tag "!" makes a string of any scalar (YAML 1.2, 6.9.1). */
    bool is_tagged = tag != NULL && strcmp(tag, TAG_PREFIX "str") != 0 && strcmp(tag, "!") != 0;
    doc->kind = RIG_DOC_STRING;
    if ((is_plain || is_tagged) && strlen(text) == len) {
        int err = resolve(reader, text, doc);
        if (err < 0)
            return err;
    }
    if (is_tagged && !rig_arena_is_spent(reader->arena)) {
        int err = check_tag(reader, tag, doc);
        if (err < 0)
            return err;
    }
    if (doc->kind == RIG_DOC_STRING)
        doc->text = rig_slice(rig_arena_copy(reader->arena, text, len), len);
    return rig_arena_is_spent(reader->arena) ? refuse_size(reader) : 0;
}

static int read_alias(struct reader *reader, struct rig_doc **doc)
{
    const char *name = (const char *)reader->event.data.alias.anchor;
    size_t i = reader->anchor_count;
    while (i > 0 && strcmp(reader->anchors[i - 1].name, name) != 0)
        i--;
    if (i == 0)
        return refuse(reader, RIG_E_SYNTAX, "there is no anchor &%s before *%s", name, name);
    const struct rig_doc *target = reader->anchors[i - 1].doc;
    if (target == NULL)
        return refuse(reader, RIG_E_SYNTAX, "*%s stands inside its own anchor", name);
    if (reader->depth + rig_doc_depth(target) > RIG_DOC_DEPTH_MAX)
        return refuse(reader, RIG_E_TOO_LARGE, "nested too deeply by way of *%s", name);
    *doc = rig_doc_copy(reader->arena, target);
    return *doc != NULL ? 0 : refuse_size(reader);
}

/* The newest anchor of a name counts (YAML 1.2, 7.1). Answers its place, or a code. */
static int add_anchor(struct reader *reader, const char *name)
{
    if (reader->anchors == NULL)
        reader->anchors = rig_arena_alloc(reader->arena, ANCHORS_MAX * sizeof(struct anchor));
    char *copy = rig_arena_text(reader->arena, name);
    if (copy == NULL || reader->anchors == NULL)
        return refuse_size(reader);
    if (reader->anchor_count == ANCHORS_MAX)
        return refuse(reader, RIG_E_TOO_LARGE, "more than %d anchors", ANCHORS_MAX);
    reader->anchors[reader->anchor_count] = (struct anchor){.name = copy};
    return (int)reader->anchor_count++;
}

static int read_node(struct reader *reader, struct rig_doc **doc);

static int read_list(struct reader *reader, struct rig_doc *list)
{
    for (;;) {
        struct rig_doc *item = NULL;
        int err = next_event(reader);
        if (err < 0 || reader->event.type == YAML_SEQUENCE_END_EVENT)
            return err;
        if ((err = read_node(reader, &item)) < 0)
            return err;
        rig_doc_push(reader->arena, list, item);
        if (rig_arena_is_spent(reader->arena))
            return refuse_size(reader);
    }
}

/* A key is its text, whatever the schema would make of it: 8080 and true are keys as they stand. */
static int read_key(struct reader *reader, struct rig_slice *key)
{
    if (reader->event.type != YAML_SCALAR_EVENT)
        return refuse(reader, RIG_E_SYNTAX, "a key has to be a plain word or a string");
    const char *text = (const char *)reader->event.data.scalar.value;
    const char *tag = (const char *)reader->event.data.scalar.tag;
    const char *anchor = (const char *)reader->event.data.scalar.anchor;
    size_t len = reader->event.data.scalar.length;
    if (tag != NULL && strcmp(tag, TAG_PREFIX "str") != 0 && strcmp(tag, "!") != 0)
        return refuse(reader, RIG_E_SYNTAX, "the tag %s has no meaning on a key", tag);
    if (reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && tag == NULL) {
        if (len == 0)
            return refuse(reader, RIG_E_SYNTAX, "a key is missing before ':'");
        if (strcmp(text, "<<") == 0)
            return refuse(reader, RIG_E_SYNTAX,
                          "'<<' does not merge maps here (YAML 1.2 has no merge keys); write the "
                          "members out, or quote the key");
    }
    *key = rig_slice(rig_arena_copy(reader->arena, text, len), len);
    if (anchor == NULL)
        return rig_arena_is_spent(reader->arena) ? refuse_size(reader) : 0;
    int place = add_anchor(reader, anchor);
    if (place < 0)
        return place;
    reader->anchors[place].doc = rig_doc_string(reader->arena, *key);
    return reader->anchors[place].doc != NULL ? 0 : refuse_size(reader);
}

static int check_repeated(struct reader *reader, const struct rig_doc *map)
{
    const struct rig_doc_member *repeated = rig_doc_repeated(reader->arena, map);
    const struct rig_doc_member *first = map->members;
    if (rig_arena_is_spent(reader->arena))
        return refuse_size(reader);
    if (repeated == NULL)
        return 0;
    while (!rig_slice_equal(first->key, repeated->key))
        first++;
    return refuse_at(reader, repeated->line, RIG_E_SYNTAX, "\"%.*s\" stands on line %u already",
                     RIG_SLICE_ARG(repeated->key), first->line);
}

static int read_map(struct reader *reader, struct rig_doc *map)
{
    for (;;) {
        struct rig_slice key = {0};
        struct rig_doc *value = NULL;
        int err = next_event(reader);
        if (err < 0)
            return err;
        if (reader->event.type == YAML_MAPPING_END_EVENT)
            return check_repeated(reader, map);
        uint32_t line = event_line(reader);
        if ((err = read_key(reader, &key)) < 0 || (err = next_event(reader)) < 0 ||
            (err = read_node(reader, &value)) < 0)
            return err;
        struct rig_doc_member *member = rig_doc_append(reader->arena, map, key, value);
        if (member == NULL || rig_arena_is_spent(reader->arena))
            return refuse_size(reader);
        member->line = line;
    }
}

static int read_container(struct reader *reader, struct rig_doc *doc)
{
    bool is_map = reader->event.type == YAML_MAPPING_START_EVENT;
    const char *tag = is_map ? (const char *)reader->event.data.mapping_start.tag
                             : (const char *)reader->event.data.sequence_start.tag;
    doc->kind = is_map ? RIG_DOC_MAP : RIG_DOC_LIST;
    if (tag != NULL && strcmp(tag, "!") != 0) {
        int err = check_tag(reader, tag, doc);
        if (err < 0)
            return err;
    }
    if (reader->depth == RIG_DOC_DEPTH_MAX)
        return refuse(reader, RIG_E_TOO_LARGE, "nested too deeply");
    reader->depth++;
    int err = is_map ? read_map(reader, doc) : read_list(reader, doc);
    reader->depth--;
    return err;
}

/* From a node's first event to its last, which is left as the current one. */
static int read_node(struct reader *reader, struct rig_doc **doc)
{
    const char *anchor = NULL;
    if (reader->event.type == YAML_ALIAS_EVENT)
        return read_alias(reader, doc);
    if (reader->event.type == YAML_SCALAR_EVENT)
        anchor = (const char *)reader->event.data.scalar.anchor;
    else if (reader->event.type == YAML_SEQUENCE_START_EVENT)
        anchor = (const char *)reader->event.data.sequence_start.anchor;
    else
        anchor = (const char *)reader->event.data.mapping_start.anchor;
    int place = anchor != NULL ? add_anchor(reader, anchor) : 0;
    if (place < 0)
        return place;
    struct rig_doc *made = rig_arena_new(reader->arena, struct rig_doc);
    if (made == NULL)
        return refuse_size(reader);
    made->line = event_line(reader);
    int err = reader->event.type == YAML_SCALAR_EVENT ? read_scalar(reader, made)
                                                      : read_container(reader, made);
    if (err < 0)
        return err;
    if (anchor != NULL)
        reader->anchors[place].doc = made;
    *doc = made;
    return 0;
}

static int read_stream(struct reader *reader, struct rig_doc **doc)
{
    int err;
    if ((err = next_event(reader)) < 0 || (err = next_event(reader)) < 0)
        return err;
    if (reader->event.type == YAML_STREAM_END_EVENT) {
        *doc = rig_doc_null(reader->arena);
        return *doc != NULL ? 0 : refuse_size(reader);
    }
    /* The start of the document, its root, its end, and what follows. */
    if ((err = next_event(reader)) < 0 || (err = read_node(reader, doc)) < 0 ||
        (err = next_event(reader)) < 0 || (err = next_event(reader)) < 0)
        return err;
    if (reader->event.type != YAML_STREAM_END_EVENT)
        return refuse(reader, RIG_E_SYNTAX, "a second document begins; one is read");
    return 0;
}

/* JSON is YAML, but not to libyaml, which refuses surrogate pairs and folds U+2028. */
static bool looks_like_json(struct rig_slice text)
{
    size_t at = 0;
    while (at < text.len && memchr(" \t\r\n", text.at[at], 4) != NULL)
        at++;
    return at < text.len && memchr("{[\"", text.at[at], 3) != NULL;
}

int rig_yaml_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                  struct rig_doc **doc, struct rig_fault *why)
{
    *doc = NULL;
    if (looks_like_json(text) && rig_json_read_unique(text, name, arena, doc, NULL) == 0)
        return 0;
    struct reader reader = {.text = text, .name = name, .arena = arena, .why = why};
    if (rig_arena_is_spent(arena))
        return rig_fault_set(why, RIG_E_TOO_LARGE,
                             "%s: needs more than its limit of %zu octets of memory", name,
                             arena->max_bytes);
    if (!yaml_parser_initialize(&reader.parser))
        return rig_fault_set(why, UV_ENOMEM, "%s: out of memory", name);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, text.len > 0 ? text.at : (const uint8_t *)"",
                                 text.len);
    int err = read_stream(&reader, doc);
    if (reader.has_event)
        yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    if (err < 0)
        *doc = NULL;
    return err;
}

int rig_yaml_read_file(const char *path, size_t max_bytes, struct rig_arena *arena,
                       struct rig_doc **doc, struct rig_fault *why)
{
    struct rig_buf text = {0};
    *doc = NULL;
    int err = rig_buf_read_file(&text, path, max_bytes);
    if (err == RIG_E_TOO_LARGE)
        rig_fault_set(why, err, "%s: larger than its limit of %zu octets", path, max_bytes);
    else if (err < 0)
        rig_fault_set(why, err, "%s: %s", path, rig_error_text(err));
    else
        err = rig_yaml_read(rig_buf_slice(&text), path, arena, doc, why);
    rig_buf_deinit(&text);
    return err;
}
