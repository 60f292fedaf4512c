/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc_frame.h: messages in a gRPC byte stream: one octet flag, four octets length, payload.
 *
 * Messages and the pieces fed need not be aligned in any way. Allocates nothing, whatever length
 * is announced. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "fault.h"

#define GRPC_PREFIX_BYTES 5

/* A zeroed one is at the start of a stream. */
struct grpc_deframer {
    uint8_t prefix[GRPC_PREFIX_BYTES];
    uint8_t prefix_len;
    bool is_inside;  /* a message: its prefix is complete, its end is not told */
    bool is_stopped; /* set by a callback: what is left is not looked at */
    uint32_t left;   /* payload octets to come */
};

struct grpc_sink {
    void (*on_begin)(void *ctx, uint32_t length);
    void (*on_bytes)(void *ctx, struct rig_slice bytes); /* at least one octet */
    void (*on_end)(void *ctx);
};

/* Takes the next octets. RIG_E_PROTOCOL for a flag that is not 0: no compression is ever agreed
 * on; nothing can be fed after that. */
int grpc_deframe(struct grpc_deframer *deframer, struct rig_slice data,
                 const struct grpc_sink *sink, void *ctx, struct rig_fault *why);

/* Would an end here cut a message? */
bool grpc_deframer_is_mid(const struct grpc_deframer *deframer);

void grpc_prefix(uint8_t prefix[GRPC_PREFIX_BYTES], uint32_t length);
