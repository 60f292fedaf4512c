/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/wire.c: see wire.h. */
#include "wire.h"

void wire_varint(struct rig_buf *out, uint64_t value)
{
    uint8_t octets[10];
    size_t len = 0;
    for (; value >= 0x80; value >>= 7)
        octets[len++] = (uint8_t)(value | 0x80);
    octets[len++] = (uint8_t)value;
    rig_buf_append(out, octets, len);
}

void wire_tag(struct rig_buf *out, uint32_t field, enum wire_type type)
{
    wire_varint(out, (uint64_t)field << 3 | (uint64_t)type);
}

void wire_bytes(struct rig_buf *out, uint32_t field, struct rig_slice value)
{
    wire_tag(out, field, WIRE_BYTES);
    wire_varint(out, value.len);
    rig_buf_append_slice(out, value);
}

void wire_text(struct rig_buf *out, uint32_t field, const char *value)
{
    wire_bytes(out, field, rig_slice_text(value));
}
