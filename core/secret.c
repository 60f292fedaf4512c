/* SPDX-License-Identifier: Apache-2.0 */
/* core/secret.c: pages that hold a key or a token, and nothing else. */
#include "secret.h"

#include <ctype.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <uv.h>

#include "alloc.h"

void rig_wipe(void *at, size_t len)
{
    OPENSSL_cleanse(at, len);
}

/* Room for `len` octets and a NUL, in pages that no core dump takes (madvise(2) DONTDUMP). */
static void secret_map(struct rig_secret *secret, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = (len + 1 + page - 1) / page * page;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    rig_require(at != MAP_FAILED);
    madvise(at, bytes, MADV_DONTDUMP);
    secret->at = at;
    secret->len = len;
    secret->mapped_bytes = bytes;
}

void rig_secret_set(struct rig_secret *secret, struct rig_slice bytes)
{
    struct rig_secret old = *secret;
    *secret = (struct rig_secret){0};
    if (bytes.len > 0) {
        secret_map(secret, bytes.len);
        memcpy(secret->at, bytes.at, bytes.len);
    }
    rig_secret_deinit(&old);
}

void rig_secret_deinit(struct rig_secret *secret)
{
    if (secret->at != NULL) {
        rig_wipe(secret->at, secret->mapped_bytes);
        munmap(secret->at, secret->mapped_bytes);
    }
    *secret = (struct rig_secret){0};
}

/* White space at both ends goes; the octets move to the front of their page. */
static void secret_trim(struct rig_secret *secret)
{
    size_t from = 0, to = secret->len;
    while (to > from && isspace(secret->at[to - 1]))
        to--;
    while (from < to && isspace(secret->at[from]))
        from++;
    memmove(secret->at, secret->at + from, to - from);
    rig_wipe(secret->at + (to - from), secret->len - (to - from));
    secret->len = to - from;
}

int rig_secret_read_file(struct rig_secret *secret, const char *path, size_t max_bytes,
                         struct rig_fault *why)
{
    struct rig_secret read_in = {0};
    int err = 0;
    int fd = rig_file_open(path);
    if (fd < 0)
        return rig_fault_set(why, fd, "%s: %s", path, uv_strerror(fd));
    secret_map(&read_in, max_bytes + 1);
    size_t len = 0;
    while (len <= max_bytes) {
        ssize_t got = read(fd, read_in.at + len, max_bytes + 1 - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            err = rig_fault_set(why, -errno, "%s: %s", path, uv_strerror(-errno));
        if (got <= 0)
            break;
        len += (size_t)got;
    }
    close(fd);
    if (err == 0 && len > max_bytes)
        err = rig_fault_set(why, RIG_E_TOO_LARGE, "%s: larger than %zu octets", path, max_bytes);
    if (err == 0) {
        read_in.len = len;
        secret_trim(&read_in);
        if (read_in.len == 0)
            err = rig_fault_set(why, RIG_E_ABSENT, "%s: file is empty", path);
    }
    if (err == 0)
        rig_secret_set(secret, rig_secret_slice(&read_in));
    rig_secret_deinit(&read_in);
    return err;
}
