/* SPDX-License-Identifier: Apache-2.0 */
/* core/arena.c: blocks in a list, the newest first; a large allocation gets a block of its own. */
#include "arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "alloc.h"

#define BLOCK_BYTES 8192
#define ALIGN       16

struct rig_arena_block {
    struct rig_arena_block *next;
    size_t cap;
    size_t used;
    _Alignas(ALIGN) unsigned char at[];
};

void rig_arena_init(struct rig_arena *arena, size_t max_bytes)
{
    *arena = (struct rig_arena){.max_bytes = max_bytes};
}

void rig_arena_deinit(struct rig_arena *arena)
{
    struct rig_arena_block *block = arena->blocks;
    while (block != NULL) {
        struct rig_arena_block *next = block->next;
        rig_free(block);
        block = next;
    }
    *arena = (struct rig_arena){0};
}

static struct rig_arena_block *block_add(struct rig_arena *arena, size_t size)
{
    size_t cap = size > BLOCK_BYTES / 4 ? size : BLOCK_BYTES;
    struct rig_arena_block *block = rig_alloc(sizeof(*block) + cap);
    block->cap = cap;
    if (cap != BLOCK_BYTES && arena->blocks != NULL) {
        /* A block of its own goes behind the one that still has room. */
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

void *rig_arena_alloc(struct rig_arena *arena, size_t size)
{
    if (arena->is_spent || size > arena->max_bytes) {
        arena->is_spent = true;
        return NULL;
    }
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (size > arena->max_bytes - arena->used_bytes) {
        arena->is_spent = true;
        return NULL;
    }
    arena->used_bytes += size;
    struct rig_arena_block *block = arena->blocks;
    if (block == NULL || size > block->cap - block->used)
        block = block_add(arena, size);
    void *at = block->at + block->used;
    block->used += size;
    return at;
}

char *rig_arena_copy(struct rig_arena *arena, const void *at, size_t len)
{
    char *copy = rig_arena_alloc(arena, len + 1);
    if (copy != NULL && len > 0)
        memcpy(copy, at, len);
    return copy;
}

char *rig_arena_text(struct rig_arena *arena, const char *text)
{
    return rig_arena_copy(arena, text, strlen(text));
}

char *rig_arena_printf(struct rig_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len >= 0 ? rig_arena_alloc(arena, (size_t)len + 1) : NULL;
    if (text != NULL)
        vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return text;
}
