/* SPDX-License-Identifier: Apache-2.0 */
/* core/alloc.h: heap memory, by who chose the size.
 *
 * Sizes that we choose never fail: without memory the program says so and aborts. Sizes that a
 * peer chooses go through rig_alloc_capped and have an error. There is no third kind. */
#pragma once

#include <stddef.h>

/* `size` zeroed octets, returned owned (rig_free); never NULL. */
void *rig_alloc(size_t size) __attribute__((returns_nonnull));

/* Resizes an owned block; never NULL. New octets are not zeroed. */
void *rig_realloc(void *block, size_t size) __attribute__((returns_nonnull));

/* A copy of `text`, returned owned; never NULL. NULL is copied as NULL. */
char *rig_strdup(const char *text);

void rig_free(void *block);

#define rig_new(type) ((type *)rig_alloc(sizeof(type)))

/* As rig_alloc, for a size that somebody else chose: RIG_E_TOO_LARGE when `size` is over
 * `max_bytes`, UV_ENOMEM when memory is short. */
int rig_alloc_capped(size_t size, size_t max_bytes, void **block);

/* Our own mistakes: stays on in release builds, prints the claim and aborts. */
#define rig_require(cond) ((cond) ? (void)0 : rig_require_failed(#cond, __FILE__, __LINE__))
_Noreturn void rig_require_failed(const char *claim, const char *file, int line);

/* The struct that contains `member` at `pointer`. */
#define rig_container(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))
