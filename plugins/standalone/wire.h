/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/wire.h: protobuf's wire format, writing side. */
#pragma once

#include <stdint.h>

#include "core/buf.h"

enum wire_type { WIRE_VARINT = 0, WIRE_BYTES = 2 };

void wire_varint(struct rig_buf *out, uint64_t value);
void wire_tag(struct rig_buf *out, uint32_t field, enum wire_type type);

/* A field of octets, text, or an embedded message. */
void wire_bytes(struct rig_buf *out, uint32_t field, struct rig_slice value);
void wire_text(struct rig_buf *out, uint32_t field, const char *value);
