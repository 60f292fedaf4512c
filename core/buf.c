/* SPDX-License-Identifier: Apache-2.0 */
/* core/buf.c: one growable block with a front that moves; also files, whole. */
#include "buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uv.h>

#include "alloc.h"
#include "fault.h"
#include "secret.h"

#define KEEP_BYTES 65536 /* an empty buf that is larger gives its block back */

bool rig_slice_starts(struct rig_slice a, const char *prefix)
{
    size_t len = strlen(prefix);
    return a.len >= len && memcmp(a.at, prefix, len) == 0;
}

static void block_free(struct rig_buf *buf)
{
    if (buf->is_secret)
        rig_wipe(buf->block, buf->cap);
    rig_free(buf->block);
}

size_t rig_utf8_len(struct rig_slice text, size_t at)
{
    const uint8_t *c = text.at + at;
    size_t left = text.len - at;
    size_t len = c[0] < 0x80   ? 1
                 : c[0] < 0xc2 ? 0
                 : c[0] < 0xe0 ? 2
                 : c[0] < 0xf0 ? 3
                 : c[0] < 0xf5 ? 4
                               : 0;
    if (len == 0 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies over U+10FFFF. */
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
        (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
        return 0;
    return len;
}

void rig_buf_deinit(struct rig_buf *buf)
{
    block_free(buf);
    *buf = (struct rig_buf){.is_secret = buf->is_secret};
}

void rig_buf_clear(struct rig_buf *buf)
{
    if (buf->cap > KEEP_BYTES) {
        rig_buf_deinit(buf);
        return;
    }
    if (buf->is_secret)
        rig_wipe(buf->at, buf->len);
    buf->at = buf->block;
    buf->len = 0;
}

uint8_t *rig_buf_reserve(struct rig_buf *buf, size_t len)
{
    rig_require(len <= SIZE_MAX / 4 && buf->len <= SIZE_MAX / 4);
    size_t front = (size_t)(buf->at - buf->block);
    if (buf->block != NULL && front + buf->len + len <= buf->cap)
        return buf->at + buf->len;
    /* Moving down is enough when at least half of the block is free in front. */
    if (buf->block != NULL && front > 0 && buf->len + len <= buf->cap && front >= buf->cap / 2) {
        memmove(buf->block, buf->at, buf->len);
        if (buf->is_secret)
            rig_wipe(buf->block + buf->len, front);
        buf->at = buf->block;
        return buf->at + buf->len;
    }
    /* A first block is as large as asked: who knows his size does not pay for growing. */
    size_t cap = buf->cap > 0 ? buf->cap : len < 64 ? 64 : len;
    while (cap < buf->len + len)
        cap += cap / 2 + 64;
    uint8_t *block;
    if (front == 0 && !buf->is_secret) {
        block = rig_realloc(buf->block, cap);
    } else {
        block = rig_realloc(NULL, cap);
        if (buf->at != NULL)
            memcpy(block, buf->at, buf->len);
        block_free(buf);
    }
    buf->block = buf->at = block;
    buf->cap = cap;
    return buf->at + buf->len;
}

void rig_buf_commit(struct rig_buf *buf, size_t len)
{
    buf->len += len;
}

void rig_buf_append(struct rig_buf *buf, const void *at, size_t len)
{
    if (len == 0)
        return;
    memcpy(rig_buf_reserve(buf, len), at, len);
    buf->len += len;
}

void rig_buf_append_slice(struct rig_buf *buf, struct rig_slice slice)
{
    rig_buf_append(buf, slice.at, slice.len);
}

void rig_buf_append_text(struct rig_buf *buf, const char *text)
{
    rig_buf_append(buf, text, strlen(text));
}

void rig_buf_printf(struct rig_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len > 0) {
        vsnprintf((char *)rig_buf_reserve(buf, (size_t)len + 1), (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

int rig_buf_append_capped(struct rig_buf *buf, const void *at, size_t len, size_t max_bytes)
{
    if (buf->len > max_bytes || len > max_bytes - buf->len)
        return RIG_E_TOO_LARGE;
    rig_buf_append(buf, at, len);
    return 0;
}

void rig_buf_consume(struct rig_buf *buf, size_t len)
{
    rig_require(len <= buf->len);
    if (buf->is_secret)
        rig_wipe(buf->at, len);
    buf->at += len;
    buf->len -= len;
    if (buf->len == 0)
        rig_buf_clear(buf);
}

const char *rig_buf_text(struct rig_buf *buf)
{
    *rig_buf_reserve(buf, 1) = '\0';
    return (const char *)buf->at;
}

int rig_file_open(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int err = fstat(fd, &info) < 0 ? -errno : S_ISFIFO(info.st_mode) ? UV_EFTYPE : 0;
    if (err < 0)
        close(fd);
    return err < 0 ? err : fd;
}

int rig_buf_read_file(struct rig_buf *buf, const char *path, size_t max_bytes)
{
    int fd = rig_file_open(path);
    if (fd < 0)
        return fd;
    size_t before = buf->len;
    int err = 0;
    for (;;) {
        ssize_t got = read(fd, rig_buf_reserve(buf, 4096), 4096);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            err = -errno;
        if (got <= 0)
            break;
        buf->len += (size_t)got;
        if (buf->len - before > max_bytes) {
            err = RIG_E_TOO_LARGE;
            break;
        }
    }
    close(fd);
    if (err < 0)
        buf->len = before;
    return err;
}

static int write_all(int fd, struct rig_slice slice)
{
    while (slice.len > 0) {
        ssize_t put = write(fd, slice.at, slice.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        slice.at += put;
        slice.len -= (size_t)put;
    }
    return 0;
}

int rig_file_replace(const char *path, struct rig_slice slice, unsigned mode)
{
    struct rig_buf name = {0};
    rig_buf_printf(&name, "%s.tmp.XXXXXX", path);
    char *temporary = rig_strdup(rig_buf_text(&name));
    rig_buf_deinit(&name);
    int err = 0;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        err = -errno;
        goto out;
    }
    err = fchmod(fd, mode) < 0 ? -errno : write_all(fd, slice);
    if (close(fd) < 0 && err == 0)
        err = -errno;
    if (err == 0 && rename(temporary, path) < 0)
        err = -errno;
    if (err < 0)
        unlink(temporary);
out:
    rig_free(temporary);
    return err;
}
