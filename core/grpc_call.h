/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc_call.h: a call as grpc.c (both sides), grpc_server.c and grpc_channel.c share it.
 *
 *   open ----- finish, reset, trailers, broken rule -----> done ----- on_close ----> gone
 *
 * From `is_done` on its handler hears nothing but on_sent and on_close. */
#pragma once

#include "grpc.h"
#include "grpc_frame.h"

struct grpc_deadline;

struct rig_grpc_call {
    struct rig_h2 *h2;
    struct rig_h2_stream *stream;
    const struct rig_grpc_handler *handler; /* NULL: not accepted */
    void *ctx;
    const struct rig_h2_header *headers; /* of the request, while in on_call */
    size_t header_count;
    struct grpc_deadline *deadline;

    struct grpc_deframer in;
    struct rig_buf message; /* being collected */
    size_t *collected;      /* octets of all such of its connection; NULL: client */
    struct rig_slice whole; /* a message that came in one piece, inside one on_data */
    uint32_t message_bytes; /* announced */
    size_t handed_bytes;    /* payload, inside one on_data */

    struct rig_buf lengths; /* uint32_t of each queued message that has not begun to go */
    uint32_t prefix_left;   /* of the message that is going */
    uint32_t payload_left;
    uint32_t unwritten;  /* of the message begun by send_begin, to come from the owner */
    size_t queued_bytes; /* payload */

    int http_status; /* client: of the response */
    int code;        /* valid when is_done */
    char *text;
    bool is_server;
    bool has_response;   /* its headers were sent, or have come */
    bool is_half_closed; /* client: our side */
    bool is_done;
    bool is_reset;       /* done otherwise than by trailers */
    bool is_mid_message; /* when it became done */
};

extern const struct rig_h2_stream_events grpc_call_events;

struct rig_grpc_call *grpc_call_new(struct rig_h2 *h2, bool is_server);

/* Before anything else was sent: a response that is only headers. */
void grpc_call_reject(struct rig_grpc_call *call, int http_status, int code, const char *text);

/* Ends the call by a decision of ours. */
void grpc_call_fail(struct rig_grpc_call *call, int code, const char *text);

/* The client has half-closed. */
void grpc_call_half_closed(struct rig_grpc_call *call);

/* RIG_GRPC_DEADLINE_EXCEEDED after so long. */
void grpc_call_limit(struct rig_grpc_call *call, uv_loop_t *loop, uint32_t timeout_ms);

/* "application/grpc", "application/grpc+proto", "application/grpc; ...". */
bool grpc_is_content_type(struct rig_slice value);
