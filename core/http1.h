/* SPDX-License-Identifier: Apache-2.0 */
/* core/http1.h: HTTP/1.1 by llhttp, strict: a small server with keep-alive, and a client for one
 * request to a local port. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "buf.h"
#include "fault.h"

struct rig_http1_server;
struct rig_http1_exchange; /* one request and the answer that is due */

struct rig_http1_request {
    struct rig_slice method;
    struct rig_slice path;   /* without the query */
    struct rig_slice query;  /* after '?', may be empty */
    struct rig_slice body;
    bool is_loopback; /* the peer is 127.0.0.0/8, ::1 or a Unix socket */
};

struct rig_http1_server_options {
    const char *address;
    unsigned socket_mode;
    uint32_t max_connections;  /* 0: 64; one more ends that whose client is silent the longest */
    uint32_t idle_timeout_ms;  /* a connection without a whole request; 0: 30,000 */
    size_t max_body_bytes;     /* 0: 64 KiB; over it 413 */
    /* Must lead to one rig_http1_respond, now or later. `request` is borrowed for the call. */
    void (*on_request)(void *ctx, struct rig_http1_exchange *exchange,
                       const struct rig_http1_request *request);
    void *ctx;
};

int rig_http1_server_open(uv_loop_t *loop, const struct rig_http1_server_options *options,
                          struct rig_http1_server **server, struct rig_fault *why);
const char *rig_http1_server_address(const struct rig_http1_server *server);
void rig_http1_server_close(struct rig_http1_server *server, void (*on_closed)(void *ctx),
                            void *ctx);

/* Answers and ends the exchange. Safe when the peer has gone meanwhile. Copies. */
void rig_http1_respond(struct rig_http1_exchange *exchange, int status, const char *content_type,
                       struct rig_slice body);

/* One request over a connection of its own; the answer's body up to `max_body_bytes`. */
struct rig_http1_call;

struct rig_http1_call_options {
    const char *address; /* "HOST:PORT" or "unix:PATH" */
    const char *method;
    const char *target;  /* path and query */
    uint32_t timeout_ms; /* over everything; 0: 1,000 */
    size_t max_body_bytes; /* 0: 64 KiB; more is RIG_E_TOO_LARGE */
};

/* err 0: `status` and `body` (borrowed). Exactly once, never inside the starting call. */
typedef void (*rig_http1_call_cb)(void *ctx, int err, int status, struct rig_slice body,
                                  const struct rig_fault *why);

int rig_http1_call_start(uv_loop_t *loop, const struct rig_http1_call_options *options,
                         rig_http1_call_cb on_done, void *ctx, struct rig_http1_call **call,
                         struct rig_fault *why);
void rig_http1_call_cancel(struct rig_http1_call *call); /* the callback will not come */
