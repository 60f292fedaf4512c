/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/proto_memory.h: a peer's message is unpacked into an arena: its cap is what
 * the message may cost, and it goes all at once. Never free what was unpacked this way. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "core/arena.h"

/* Keeps `arena`. */
ProtobufCAllocator proto_memory(struct rig_arena *arena);
