/* SPDX-License-Identifier: Apache-2.0 */
/* core/alloc.c: the two kinds of sizes, and the claims that stay on. */
#include "alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "fault.h"

static _Noreturn void out_of_memory(size_t size)
{
    fprintf(stderr, "outrigger: out of memory, asking for %zu octets\n", size);
    abort();
}

void *rig_alloc(size_t size)
{
    void *block = calloc(1, size > 0 ? size : 1);
    if (block == NULL)
        out_of_memory(size);
    return block;
}

void *rig_realloc(void *block, size_t size)
{
    void *moved = realloc(block, size > 0 ? size : 1);
    if (moved == NULL)
        out_of_memory(size);
    return moved;
}

char *rig_strdup(const char *text)
{
    if (text == NULL)
        return NULL;
    size_t size = strlen(text) + 1;
    return memcpy(rig_alloc(size), text, size);
}

void rig_free(void *block)
{
    free(block);
}

int rig_alloc_capped(size_t size, size_t max_bytes, void **block)
{
    *block = NULL;
    if (size > max_bytes)
        return RIG_E_TOO_LARGE;
    *block = calloc(1, size > 0 ? size : 1);
    return *block != NULL ? 0 : UV_ENOMEM;
}

void rig_require_failed(const char *claim, const char *file, int line)
{
    fprintf(stderr, "outrigger: %s:%d: claim does not hold: %s\n", file, line, claim);
    abort();
}
