/* SPDX-License-Identifier: Apache-2.0 */
/* core/json.c: yyjson reads, we build the tree and write.
 *
 * The text is copied into the arena and read in place: strings and numbers of the tree are
 * pieces of that copy. yyjson's own memory is counted and capped, and gone when the call
 * returns. */
#include "json.h"

#include <stddef.h>
#include <stdlib.h>
#include <yyjson.h>

/* yyjson starts with 16 octets for each 6 of text, whatever the text holds. */
#define VALUES_SHARE 3
#define VALUES_LEAST 4096

struct budget {
    size_t left;
};

/* The size stands before each block, so that it can be given back. */
union block {
    size_t size;
    max_align_t align;
};

static void *budget_realloc(void *ctx, void *old, size_t old_size, size_t size)
{
    struct budget *budget = ctx;
    union block *block = old != NULL ? (union block *)old - 1 : NULL;
    size_t held = block != NULL ? block->size : 0;
    (void)old_size;
    if (size > budget->left + held)
        return NULL;
    block = realloc(block, sizeof(*block) + size);
    if (block == NULL)
        return NULL;
    budget->left = budget->left + held - size;
    block->size = size;
    return block + 1;
}

static void *budget_malloc(void *ctx, size_t size)
{
    return budget_realloc(ctx, NULL, 0, size);
}

static void budget_free(void *ctx, void *at)
{
    struct budget *budget = ctx;
    if (at == NULL)
        return;
    union block *block = (union block *)at - 1;
    budget->left += block->size;
    free(block);
}

struct reader {
    struct rig_slice text; /* as it came */
    const char *name;
    struct rig_arena *arena;
    struct rig_fault *why;
    size_t pos;    /* in `text`, behind the last key or value that was walked over */
    uint32_t line; /* of `pos` */
    bool refuses_repeated;
};

/* Counted from 1; a column is a character, not an octet. */
static void locate(struct rig_slice text, size_t pos, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < pos && i < text.len; i++) {
        if (text.at[i] == '\n') {
            ++*line;
            *column = 1;
        } else if ((text.at[i] & 0xc0) != 0x80) {
            ++*column;
        }
    }
}

static int refuse(const struct reader *reader, int code, size_t pos, const char *what)
{
    size_t line, column;
    locate(reader->text, pos, &line, &column);
    return rig_fault_set(reader->why, code, "%s:%zu:%zu: %s", reader->name, line, column, what);
}

static int refuse_size(const struct reader *reader)
{
    return rig_fault_set(reader->why, RIG_E_TOO_LARGE,
                         "%s: needs more than its limit of %zu octets of memory", reader->name,
                         reader->arena->max_bytes);
}

static size_t string_end(struct rig_slice text, size_t quote)
{
    size_t at = quote + 1;
    while (at < text.len && text.at[at] != '"')
        at += text.at[at] == '\\' ? 2 : 1;
    return at + 1;
}

/* Before yyjson sees it: for a megabyte of '[' it would take 16. */
static int check_depth(const struct reader *reader)
{
    struct rig_slice text = reader->text;
    size_t depth = 0;
    for (size_t at = 0; at < text.len;) {
        uint8_t c = text.at[at];
        if ((c == '[' || c == '{') && ++depth > RIG_DOC_DEPTH_MAX)
            return refuse(reader, RIG_E_TOO_LARGE, at, "nested too deeply");
        if ((c == ']' || c == '}') && depth > 0)
            depth--;
        at = c == '"' ? string_end(text, at) : at + 1;
    }
    return 0;
}

/* yyjson tells no places. The tree is walked in the order of the text, which is well-formed by
 * then, so going to the next key or value is enough. Answers its line. */
static uint32_t next_line(struct reader *reader)
{
    struct rig_slice text = reader->text;
    while (reader->pos < text.len && strchr(" \t\r\n,:]}", text.at[reader->pos]) != NULL)
        reader->line += text.at[reader->pos++] == '\n';
    uint8_t c = reader->pos < text.len ? text.at[reader->pos] : '[';
    if (c == '"')
        reader->pos = string_end(text, reader->pos);
    else if (c == '[' || c == '{')
        reader->pos++;
    else
        while (reader->pos < text.len && strchr(" \t\r\n,]}", text.at[reader->pos]) == NULL)
            reader->pos++;
    return reader->line;
}

static struct rig_slice slice_of(yyjson_val *val)
{
    return rig_slice(unsafe_yyjson_get_str(val), unsafe_yyjson_get_len(val));
}

static int build(struct reader *reader, yyjson_val *val, struct rig_doc **doc);

static int build_list(struct reader *reader, yyjson_val *val, struct rig_doc *list)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(val);
    yyjson_val *item;
    rig_doc_reserve(reader->arena, list, yyjson_arr_size(val));
    while ((item = yyjson_arr_iter_next(&iter)) != NULL) {
        struct rig_doc *value = NULL;
        int err = build(reader, item, &value);
        if (err < 0)
            return err;
        rig_doc_push(reader->arena, list, value);
    }
    return 0;
}

static int build_map(struct reader *reader, yyjson_val *val, struct rig_doc *map)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(val);
    yyjson_val *key;
    rig_doc_reserve(reader->arena, map, yyjson_obj_size(val));
    while ((key = yyjson_obj_iter_next(&iter)) != NULL) {
        uint32_t line = next_line(reader);
        struct rig_doc *value = NULL;
        int err = build(reader, yyjson_obj_iter_get_val(key), &value);
        if (err < 0)
            return err;
        struct rig_doc_member *member = rig_doc_append(reader->arena, map, slice_of(key), value);
        if (member == NULL)
            return refuse_size(reader);
        member->line = line;
    }
    if (!reader->refuses_repeated) {
        rig_doc_join_repeated(reader->arena, map);
        return 0;
    }
    const struct rig_doc_member *repeated = rig_doc_repeated(reader->arena, map);
    if (repeated == NULL)
        return 0;
    return rig_fault_set(reader->why, RIG_E_SYNTAX, "%s:%u: the key \"%.*s\" stood before",
                         reader->name, repeated->line, RIG_SLICE_ARG(repeated->key));
}

static int build(struct reader *reader, yyjson_val *val, struct rig_doc **doc)
{
    static const enum rig_doc_kind kinds[8] = {
        [YYJSON_TYPE_NULL] = RIG_DOC_NULL,  [YYJSON_TYPE_BOOL] = RIG_DOC_BOOL,
        [YYJSON_TYPE_RAW] = RIG_DOC_NUMBER, [YYJSON_TYPE_STR] = RIG_DOC_STRING,
        [YYJSON_TYPE_ARR] = RIG_DOC_LIST,   [YYJSON_TYPE_OBJ] = RIG_DOC_MAP,
    };
    struct rig_doc *made = rig_arena_new(reader->arena, struct rig_doc);
    if (made == NULL)
        return refuse_size(reader);
    made->kind = kinds[yyjson_get_type(val)];
    made->line = next_line(reader);
    made->is_true = yyjson_is_true(val);
    if (made->kind == RIG_DOC_NUMBER || made->kind == RIG_DOC_STRING)
        made->text = slice_of(val);
    int err = 0;
    if (made->kind == RIG_DOC_LIST)
        err = build_list(reader, val, made);
    else if (made->kind == RIG_DOC_MAP)
        err = build_map(reader, val, made);
    *doc = made;
    return err;
}

static int read_text(struct reader *reader, struct rig_doc **doc)
{
    struct rig_slice text = reader->text;
    struct rig_arena *arena = reader->arena;
    *doc = NULL;
    int err = check_depth(reader);
    if (err < 0)
        return err;
    if (text.len == 0)
        return refuse(reader, RIG_E_SYNTAX, 0, "there is no document");
    char *copy = rig_arena_alloc(arena, text.len + YYJSON_PADDING_SIZE);
    if (copy == NULL)
        return refuse_size(reader);
    memcpy(copy, text.at, text.len);

    struct budget budget = {arena->max_bytes - arena->used_bytes + text.len * VALUES_SHARE +
                            VALUES_LEAST};
    yyjson_alc alc = {budget_malloc, budget_realloc, budget_free, &budget};
    yyjson_read_err what;
    yyjson_doc *tree = yyjson_read_opts(
        copy, text.len, YYJSON_READ_INSITU | YYJSON_READ_NUMBER_AS_RAW, &alc, &what);
    if (tree == NULL && what.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
        return refuse_size(reader);
    if (tree == NULL)
        return refuse(reader, RIG_E_SYNTAX, what.pos, what.msg);
    err = build(reader, yyjson_doc_get_root(tree), doc);
    yyjson_doc_free(tree);
    if (err == 0 && rig_arena_is_spent(arena))
        err = refuse_size(reader);
    if (err < 0)
        *doc = NULL;
    return err;
}

int rig_json_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                  struct rig_doc **doc, struct rig_fault *why)
{
    struct reader reader = {.text = text, .name = name, .arena = arena, .why = why, .line = 1};
    return read_text(&reader, doc);
}

int rig_json_read_unique(struct rig_slice text, const char *name, struct rig_arena *arena,
                         struct rig_doc **doc, struct rig_fault *why)
{
    struct reader reader = {.text = text,
                            .name = name,
                            .arena = arena,
                            .why = why,
                            .line = 1,
                            .refuses_repeated = true};
    return read_text(&reader, doc);
}

static void write_escaped(struct rig_slice text, size_t at, size_t len, struct rig_buf *out)
{
    static const char shorts[128] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                     ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    uint8_t c = text.at[at];
    if (len == 0)
        rig_buf_append_text(out, "\xef\xbf\xbd"); /* U+FFFD: the output has to be UTF-8 */
    else if (shorts[c] != 0)
        rig_buf_printf(out, "\\%c", shorts[c]);
    else
        rig_buf_printf(out, "\\u%04x", c);
}

static void write_string(struct rig_slice text, struct rig_buf *out)
{
    size_t plain = 0; /* where the octets begin that go out as they are */
    rig_buf_append(out, "\"", 1);
    for (size_t at = 0; at < text.len;) {
        size_t len = rig_utf8_len(text, at);
        bool is_plain = len > 0 && text.at[at] >= 0x20 && text.at[at] != '"' && text.at[at] != '\\';
        if (!is_plain) {
            rig_buf_append(out, text.at + plain, at - plain);
            write_escaped(text, at, len, out);
            plain = at + 1;
        }
        at += is_plain ? len : 1;
    }
    rig_buf_append(out, text.at + plain, text.len - plain);
    rig_buf_append(out, "\"", 1);
}

static void write_break(enum rig_json_style style, size_t depth, struct rig_buf *out)
{
    if (style == RIG_JSON_COMPACT)
        return;
    rig_buf_append(out, "\n", 1);
    for (size_t i = 0; i < depth; i++)
        rig_buf_append_text(out, "  ");
}

static void write_value(const struct rig_doc *doc, enum rig_json_style style, size_t depth,
                        struct rig_buf *out)
{
    if (doc == NULL || doc->kind == RIG_DOC_NULL) {
        rig_buf_append_text(out, "null");
        return;
    }
    if (doc->kind == RIG_DOC_BOOL) {
        rig_buf_append_text(out, doc->is_true ? "true" : "false");
        return;
    }
    if (doc->kind == RIG_DOC_NUMBER || doc->kind == RIG_DOC_STRING) {
        if (doc->kind == RIG_DOC_NUMBER)
            rig_buf_append_slice(out, doc->text);
        else
            write_string(doc->text, out);
        return;
    }
    bool is_map = doc->kind == RIG_DOC_MAP;
    rig_buf_append(out, is_map ? "{" : "[", 1);
    for (size_t i = 0; i < doc->count; i++) {
        if (i > 0)
            rig_buf_append(out, ",", 1);
        write_break(style, depth + 1, out);
        if (is_map) {
            write_string(doc->members[i].key, out);
            rig_buf_append_text(out, style == RIG_JSON_PRETTY ? ": " : ":");
        }
        write_value(is_map ? doc->members[i].value : doc->items[i], style, depth + 1, out);
    }
    if (doc->count > 0)
        write_break(style, depth, out);
    rig_buf_append(out, is_map ? "}" : "]", 1);
}

void rig_json_write(const struct rig_doc *doc, enum rig_json_style style, struct rig_buf *out)
{
    write_value(doc, style, 0, out);
}
