/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc_status.h: a status on the wire: percent-coded text, decimal code, timeouts. Private
 * to the grpc_*.c files. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "buf.h"

#define GRPC_MESSAGE_MAX   4096 /* error texts quote remote strings and could overrun a limit */
#define GRPC_TIMEOUT_BYTES 16

/* `text` as grpc-message, at most GRPC_MESSAGE_MAX octets; replaces what `out` held. */
void grpc_message_encode(const char *text, struct rig_buf *out);

/* Lenient: a '%' that begins no escape stays. At most GRPC_MESSAGE_MAX octets. Returns owned. */
char *grpc_message_decode(struct rig_slice encoded);

/* grpc-status; RIG_GRPC_UNKNOWN for what is not a small number. */
int grpc_code_parse(struct rig_slice text);

/* grpc-timeout: at most 8 digits and a unit. */
void grpc_timeout_text(uint32_t timeout_ms, char text[GRPC_TIMEOUT_BYTES]);
