/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc_frame.c: the deframer as a loop over what is at hand (PROTOCOL-HTTP2.md,
 * "Length-Prefixed-Message"). */
#include "grpc_frame.h"

#include <string.h>

static int prefix_check(const struct grpc_deframer *deframer, struct rig_fault *why)
{
    if (deframer->prefix[0] == 1)
        return rig_fault_set(why, RIG_E_PROTOCOL,
                             "message is compressed, but no compression was agreed on");
    if (deframer->prefix[0] > 1)
        return rig_fault_set(why, RIG_E_PROTOCOL, "message flag is 0x%02x, must be 0 or 1",
                             deframer->prefix[0]);
    return 0;
}

int grpc_deframe(struct grpc_deframer *deframer, struct rig_slice data,
                 const struct grpc_sink *sink, void *ctx, struct rig_fault *why)
{
    while (!deframer->is_stopped) {
        if (deframer->is_inside) {
            size_t take = data.len < deframer->left ? data.len : deframer->left;
            if (take > 0) {
                deframer->left -= (uint32_t)take;
                sink->on_bytes(ctx, rig_slice(data.at, take));
                data.at += take;
                data.len -= take;
            }
            if (deframer->left > 0 || deframer->is_stopped)
                break;
            deframer->is_inside = false;
            deframer->prefix_len = 0;
            sink->on_end(ctx);
            continue;
        }
        if (data.len == 0)
            break;
        size_t want = GRPC_PREFIX_BYTES - deframer->prefix_len;
        size_t take = data.len < want ? data.len : want;
        memcpy(deframer->prefix + deframer->prefix_len, data.at, take);
        deframer->prefix_len += (uint8_t)take;
        data.at += take;
        data.len -= take;
        int err = prefix_check(deframer, why); /* a wrong flag needs no length to be wrong */
        if (err < 0)
            return err;
        if (deframer->prefix_len < GRPC_PREFIX_BYTES)
            break;
        const uint8_t *p = deframer->prefix;
        deframer->left = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
        deframer->is_inside = true;
        sink->on_begin(ctx, deframer->left);
    }
    return 0;
}

bool grpc_deframer_is_mid(const struct grpc_deframer *deframer)
{
    return deframer->is_inside || deframer->prefix_len > 0;
}

void grpc_prefix(uint8_t prefix[GRPC_PREFIX_BYTES], uint32_t length)
{
    prefix[0] = 0;
    prefix[1] = (uint8_t)(length >> 24);
    prefix[2] = (uint8_t)(length >> 16);
    prefix[3] = (uint8_t)(length >> 8);
    prefix[4] = (uint8_t)length;
}
