/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/proto_memory.c: see proto_memory.h. */
#include "proto_memory.h"

static void *take(void *arena, size_t size)
{
    return rig_arena_alloc(arena, size);
}

static void give_back(void *arena, void *at)
{
    (void)arena, (void)at;
}

ProtobufCAllocator proto_memory(struct rig_arena *arena)
{
    return (ProtobufCAllocator){.alloc = take, .free = give_back, .allocator_data = arena};
}
