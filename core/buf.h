/* SPDX-License-Identifier: Apache-2.0 */
/* core/buf.h: octets. Slices borrow, bufs own.
 *
 * A buf is also a queue: append at the end, consume at the front. A zeroed buf is empty and
 * valid. Memory is given back when a buf that grew over 64 KiB runs empty. One that `is_secret`
 * is wiped where it was consumed, and before its memory is given back. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rig_slice {
    const uint8_t *at;
    size_t len;
};

#define RIG_SLICE(literal)   ((struct rig_slice){(const uint8_t *)(literal), sizeof(literal) - 1})
#define RIG_SLICE_ARG(slice) (int)(slice).len, (const char *)(slice).at /* for "%.*s" */

static inline struct rig_slice rig_slice(const void *at, size_t len)
{
    return (struct rig_slice){(const uint8_t *)at, len};
}

static inline struct rig_slice rig_slice_text(const char *text)
{
    return (struct rig_slice){(const uint8_t *)text, text != NULL ? strlen(text) : 0};
}

static inline bool rig_slice_equal(struct rig_slice a, struct rig_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool rig_slice_is(struct rig_slice a, const char *text)
{
    return rig_slice_equal(a, rig_slice_text(text));
}

bool rig_slice_starts(struct rig_slice a, const char *prefix);

/* Octets of the character at `at`, inside the slice; 0 when they are not UTF-8 (RFC 3629, 4). */
size_t rig_utf8_len(struct rig_slice text, size_t at);

struct rig_buf {
    uint8_t *block; /* private: the allocation */
    uint8_t *at;    /* first octet held */
    size_t len;     /* octets held */
    size_t cap;     /* private: octets from `block` on */
    bool is_secret; /* set while empty; stays */
};

void rig_buf_deinit(struct rig_buf *buf);
void rig_buf_clear(struct rig_buf *buf);

/* Appends; the size is ours, so it cannot fail. */
void rig_buf_append(struct rig_buf *buf, const void *at, size_t len);
void rig_buf_append_slice(struct rig_buf *buf, struct rig_slice slice);
void rig_buf_append_text(struct rig_buf *buf, const char *text);
void rig_buf_printf(struct rig_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends unless the buf would hold more than `max_bytes`: RIG_E_TOO_LARGE, nothing changed. */
int rig_buf_append_capped(struct rig_buf *buf, const void *at, size_t len, size_t max_bytes);

/* Room for `len` more octets at the end; rig_buf_commit makes the written ones count. */
uint8_t *rig_buf_reserve(struct rig_buf *buf, size_t len);
void rig_buf_commit(struct rig_buf *buf, size_t len);

/* Drops `len` octets from the front; `len` is at most what is held. */
void rig_buf_consume(struct rig_buf *buf, size_t len);

static inline struct rig_slice rig_buf_slice(const struct rig_buf *buf)
{
    return (struct rig_slice){buf->at, buf->len};
}

/* The content as a C string: a NUL follows it that does not count. Borrowed until changed. */
const char *rig_buf_text(struct rig_buf *buf);

/* Opens for reading: the descriptor, or libuv's code; UV_EFTYPE for a pipe, at which the loop would
 * wait for whoever writes. */
int rig_file_open(const char *path);

/* Appends a whole file. RIG_E_TOO_LARGE over `max_bytes`, libuv's code when it cannot be read. */
int rig_buf_read_file(struct rig_buf *buf, const char *path, size_t max_bytes);

/* Writes `slice` to `path` by way of a temporary file and a rename, so that a reader sees the
 * old content or the new. `mode` as for open(2). On failure nothing is left behind. */
int rig_file_replace(const char *path, struct rig_slice slice, unsigned mode);
