/* SPDX-License-Identifier: Apache-2.0 */
/* core/arena.h: memory of work that ends, freed all at once.
 *
 * The cap is the work's budget: when it is used up the arena answers NULL and goes on answering
 * NULL, so a caller may check once at the end of a step (rig_arena_is_spent). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

struct rig_arena_block;

struct rig_arena {
    struct rig_arena_block *blocks; /* private */
    size_t used_bytes;
    size_t max_bytes;
    bool is_spent; /* an allocation was refused */
};

void rig_arena_init(struct rig_arena *arena, size_t max_bytes);
void rig_arena_deinit(struct rig_arena *arena);

/* Zeroed, aligned for any type; NULL when the budget is used up. */
void *rig_arena_alloc(struct rig_arena *arena, size_t size);

#define rig_arena_new(arena, type) ((type *)rig_arena_alloc(arena, sizeof(type)))

/* Copies, NUL-terminated; NULL when the budget is used up. */
char *rig_arena_copy(struct rig_arena *arena, const void *at, size_t len);
char *rig_arena_text(struct rig_arena *arena, const char *text);
char *rig_arena_printf(struct rig_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline bool rig_arena_is_spent(const struct rig_arena *arena)
{
    return arena->is_spent;
}
