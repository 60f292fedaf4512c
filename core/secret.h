/* SPDX-License-Identifier: Apache-2.0 */
/* core/secret.h: keys and tokens.
 *
 * A secret lives in pages of its own that are left out of core dumps, is wiped when it goes,
 * has no printer and no Lua form. Copies are made with rig_secret_set and by no other means. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "fault.h"

struct rig_secret {
    uint8_t *at; /* octets, followed by a NUL that does not count; NULL when empty */
    size_t len;
    size_t mapped_bytes; /* private */
};

/* Replaces the content by a copy of `bytes`; the old content is wiped. */
void rig_secret_set(struct rig_secret *secret, struct rig_slice bytes);

/* Wipes and releases; the secret is empty and usable again. */
void rig_secret_deinit(struct rig_secret *secret);

static inline struct rig_slice rig_secret_slice(const struct rig_secret *secret)
{
    return (struct rig_slice){secret->at, secret->len};
}

/* Reads a small file (a token, a key), white space at both ends dropped. libuv's code when it
 * cannot be read, RIG_E_TOO_LARGE over `max_bytes`, RIG_E_ABSENT when nothing remains. */
int rig_secret_read_file(struct rig_secret *secret, const char *path, size_t max_bytes,
                         struct rig_fault *why);

/* Overwrites octets in a way that no compiler removes. */
void rig_wipe(void *at, size_t len);
