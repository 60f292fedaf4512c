/* SPDX-License-Identifier: Apache-2.0 */
/* core/doc.h: one document tree, in an arena, whatever text it was read from.
 *
 * Numbers keep their text, so that 1.10 or 10000000000000000001 comes out as it went in. Maps
 * keep the order of their keys. Each node knows the line it stood on (0 when it was made). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "buf.h"

enum rig_doc_kind {
    RIG_DOC_NULL,
    RIG_DOC_BOOL,
    RIG_DOC_NUMBER,
    RIG_DOC_STRING,
    RIG_DOC_LIST,
    RIG_DOC_MAP,
};

struct rig_doc_member;

struct rig_doc {
    enum rig_doc_kind kind;
    uint32_t line;
    bool is_true;          /* BOOL */
    struct rig_slice text; /* NUMBER and STRING; NUL-terminated in memory */
    struct rig_doc **items;          /* LIST */
    struct rig_doc_member *members;  /* MAP */
    size_t count;                    /* of items or members */
    size_t room;                     /* private */
};

struct rig_doc_member {
    struct rig_slice key; /* NUL-terminated in memory */
    uint32_t line;
    struct rig_doc *value;
};

/* Nesting that is read, printed or handed to Lua; deeper is RIG_E_TOO_LARGE. */
#define RIG_DOC_DEPTH_MAX 64

/* Makers. All copy text into the arena. NULL when the arena's budget is used up; every function
 * below takes NULL for a document and does nothing, so a builder checks the arena once. A text
 * that is no JSON number (RFC 8259, 6) makes a string of rig_doc_number. */
struct rig_doc *rig_doc_null(struct rig_arena *arena);
struct rig_doc *rig_doc_bool(struct rig_arena *arena, bool value);
struct rig_doc *rig_doc_int(struct rig_arena *arena, int64_t value);
struct rig_doc *rig_doc_number(struct rig_arena *arena, struct rig_slice text);
struct rig_doc *rig_doc_string(struct rig_arena *arena, struct rig_slice text);
struct rig_doc *rig_doc_text(struct rig_arena *arena, const char *text);
struct rig_doc *rig_doc_list(struct rig_arena *arena);
struct rig_doc *rig_doc_map(struct rig_arena *arena);

/* Adds to a list; adds to a map or replaces the member of that key. Borrow `value`'s arena:
 * it must live as long as the container. */
void rig_doc_push(struct rig_arena *arena, struct rig_doc *list, struct rig_doc *value);
void rig_doc_set(struct rig_arena *arena, struct rig_doc *map, const char *key,
                 struct rig_doc *value);
void rig_doc_set_slice(struct rig_arena *arena, struct rig_doc *map, struct rig_slice key,
                       struct rig_doc *value);
void rig_doc_remove(struct rig_doc *map, const char *key);

/* For readers, whose maps are as long as a peer likes: room for `count` more, and a member added
 * without a look at the keys that are there (keeps `key`; NULL when the budget is used up). Then,
 * once for each map: the first member whose key stood before, or NULL; or every repeated key
 * joined into its first place with its last value. */
void rig_doc_reserve(struct rig_arena *arena, struct rig_doc *container, size_t count);
struct rig_doc_member *rig_doc_append(struct rig_arena *arena, struct rig_doc *map,
                                      struct rig_slice key, struct rig_doc *value);
const struct rig_doc_member *rig_doc_repeated(struct rig_arena *arena, const struct rig_doc *map);
void rig_doc_join_repeated(struct rig_arena *arena, struct rig_doc *map);

/* Readers. NULL or the fallback when `doc` is NULL, of another kind, or lacks the key. */
struct rig_doc *rig_doc_get(const struct rig_doc *map, const char *key);
struct rig_doc *rig_doc_get_slice(const struct rig_doc *map, struct rig_slice key);
const char *rig_doc_get_text(const struct rig_doc *map, const char *key, const char *fallback);
bool rig_doc_get_bool(const struct rig_doc *map, const char *key, bool fallback);
/* RIG_E_RANGE when `number` is none, has a fraction or does not fit; 1.0 and 1e3 are integers. */
int rig_doc_int64(const struct rig_doc *number, int64_t *value);

/* A deep copy into `arena`. */
struct rig_doc *rig_doc_copy(struct rig_arena *arena, const struct rig_doc *doc);

/* Levels of containers: 0 for a scalar. */
size_t rig_doc_depth(const struct rig_doc *doc);

const char *rig_doc_kind_text(enum rig_doc_kind kind); /* "a map", "a string", ... */
