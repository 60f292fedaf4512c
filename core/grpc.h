/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc.h: gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): servers, channels, calls.
 *
 * A message may be taken in two ways. Collected: on_message gets it whole, up to a limit.
 * Cut-through: on_begin tells its length, on_bytes hands out octets as they come, and the window
 * is given back only by rig_grpc_call_consume; nothing is allocated by an announced length.
 * Compression is never offered; a compressed message is INTERNAL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "buf.h"
#include "dial.h"
#include "fault.h"
#include "http2.h"

enum rig_grpc_code {
    RIG_GRPC_OK = 0,
    RIG_GRPC_CANCELLED = 1,
    RIG_GRPC_UNKNOWN = 2,
    RIG_GRPC_INVALID_ARGUMENT = 3,
    RIG_GRPC_DEADLINE_EXCEEDED = 4,
    RIG_GRPC_NOT_FOUND = 5,
    RIG_GRPC_PERMISSION_DENIED = 7,
    RIG_GRPC_RESOURCE_EXHAUSTED = 8,
    RIG_GRPC_ABORTED = 10,
    RIG_GRPC_UNIMPLEMENTED = 12,
    RIG_GRPC_INTERNAL = 13,
    RIG_GRPC_UNAVAILABLE = 14,
    RIG_GRPC_UNAUTHENTICATED = 16,
};

struct rig_grpc_status {
    int code;                  /* rig_grpc_code, or what the peer sent */
    const char *message;       /* decoded, at most 4 KiB; borrowed; never NULL */
    bool is_reset;             /* ended by RST_STREAM or with the connection, not by trailers */
    bool is_mid_message;       /* a message was under way */
    enum rig_dial_stage stage; /* of a channel that did not come up: where it failed */
};

struct rig_grpc_call; /* one call, either side */

struct rig_grpc_handler {
    /* Cut-through: used when on_message is NULL. `length` as announced by the peer. */
    void (*on_begin)(void *ctx, uint32_t length);
    void (*on_bytes)(void *ctx, struct rig_slice bytes);
    void (*on_end)(void *ctx); /* this message is complete */
    /* Collected: a message over `message_max_bytes` ends the call with RESOURCE_EXHAUSTED; so
     * does, at a server, the one with which the unfinished messages of a connection come to more
     * than four of that size. */
    void (*on_message)(void *ctx, struct rig_slice message);
    size_t message_max_bytes; /* 0: 4 MiB */
    /* The peer has sent all its messages (server: the client half-closed). Optional. */
    void (*on_half_close)(void *ctx);
    /* `len` payload octets (prefixes not counted) have gone to the connection's output; what
     * rig_grpc_call_queued counts has shrunk. Optional. */
    void (*on_sent)(void *ctx, size_t len);
    /* The call is over and gone (a server's call: also after its client has reset it, or the
     * connection is lost: UNAVAILABLE). Exactly once, last, never inside a call of ours (also after
     * rig_grpc_call_finish and _reset). */
    void (*on_close)(void *ctx, const struct rig_grpc_status *status);
};

/* ---- server ---- */

struct rig_grpc_server;

struct rig_grpc_method {
    const char *path; /* "/package.Service/Method" */
    /* A call has come. The callee accepts it (rig_grpc_call_accept) or finishes it before it
     * returns. */
    void (*on_call)(void *ctx, struct rig_grpc_call *call);
};

struct rig_grpc_server_options {
    const char *address; /* as rig_listener_options.address */
    unsigned socket_mode;
    struct rig_tls *tls;                   /* NULL: plain (h2c with prior knowledge) */
    const struct rig_grpc_method *methods; /* ends with { 0 }; keeps */
    void *ctx;                             /* of on_call */
    uint32_t max_connections;              /* as rig_listener_options.max_connections */
    struct rig_h2_options h2;              /* is_server is set by the server */
};

/* Binds, listens and serves. Unknown paths get UNIMPLEMENTED, a content-type that is not gRPC
 * 415, a method other than POST 405. Returns owned. */
int rig_grpc_server_open(uv_loop_t *loop, const struct rig_grpc_server_options *options,
                         struct rig_grpc_server **server, struct rig_fault *why);

const char *rig_grpc_server_address(const struct rig_grpc_server *server);

/* No new connections or calls: GOAWAY on all; open calls go on. */
void rig_grpc_server_drain(struct rig_grpc_server *server);

/* Ends everything; open calls get on_close before on_closed. */
void rig_grpc_server_close(struct rig_grpc_server *server, void (*on_closed)(void *ctx), void *ctx);

/* Takes up a call: keeps `handler`. Response headers go out with the first message. */
void rig_grpc_call_accept(struct rig_grpc_call *call, const struct rig_grpc_handler *handler,
                          void *ctx);

/* A request header by its lower-case name; empty when absent. Borrowed while in on_call. */
struct rig_slice rig_grpc_call_metadata(const struct rig_grpc_call *call, const char *name);

/* Server: trailers with this status after what is queued (trailers-only when nothing was sent).
 * `message` is percent-encoded and cut at 4 KiB; NULL: none. In the middle of a message of ours
 * it is a reset (INTERNAL_ERROR) instead: trailers would make the half look like a whole. */
void rig_grpc_call_finish(struct rig_grpc_call *call, int code, const char *message);

/* ---- channel (client) ---- */

struct rig_grpc_channel; /* one connection; no reconnect of its own */

struct rig_grpc_channel_options {
    struct rig_dial_options dial; /* timeout_ms covers the peer's SETTINGS too */
    struct rig_h2_options h2;
};

struct rig_grpc_channel_events {
    void (*on_ready)(void *ctx);
    /* The peer will take no new call. Optional. */
    void (*on_goaway)(void *ctx, uint32_t code, struct rig_slice debug);
    /* The channel is over and gone: it did not come up, was lost, or was closed (code OK).
     * Exactly once, last, after on_close of all its calls. */
    void (*on_closed)(void *ctx, const struct rig_grpc_status *status);
};

/* Starts to connect. Fails only for an address that cannot be parsed. Keeps `events`. */
int rig_grpc_channel_open(uv_loop_t *loop, const struct rig_grpc_channel_options *options,
                          const struct rig_grpc_channel_events *events, void *ctx,
                          struct rig_grpc_channel **channel, struct rig_fault *why);

/* Closes; calls still open end CANCELLED. on_closed follows. */
void rig_grpc_channel_close(struct rig_grpc_channel *channel);

struct rig_grpc_request {
    const char *path;
    const char *authority;                /* ":authority" */
    bool is_tls;                          /* ":scheme" https */
    const struct rig_h2_header *metadata; /* copied */
    size_t metadata_count;
    uint32_t timeout_ms; /* grpc-timeout, enforced here too; 0: none */
};

/* Starts a call on a ready channel; NULL when it takes no more. Keeps `handler`. Metadata that
 * HTTP does not allow (a line end in a token) ends the call INTERNAL before anything is sent. */
struct rig_grpc_call *rig_grpc_call_start(struct rig_grpc_channel *channel,
                                          const struct rig_grpc_request *request,
                                          const struct rig_grpc_handler *handler, void *ctx);

/* ---- both sides ---- */

/* Queues one whole message (copied). */
void rig_grpc_call_send(struct rig_grpc_call *call, struct rig_slice message);

/* Queues a message in pieces: the prefix, then exactly `length` octets in all. */
void rig_grpc_call_send_begin(struct rig_grpc_call *call, uint32_t length);
void rig_grpc_call_send_bytes(struct rig_grpc_call *call, struct rig_slice bytes);

/* Octets queued and not yet in the connection's output. */
size_t rig_grpc_call_queued(const struct rig_grpc_call *call);

/* Client: no more messages from us. */
void rig_grpc_call_half_close(struct rig_grpc_call *call);

/* RST_STREAM with an HTTP/2 error code; on_close follows with is_reset. */
void rig_grpc_call_reset(struct rig_grpc_call *call, uint32_t h2_code);

/* Cut-through: gives window back for octets that on_bytes had handed out. */
void rig_grpc_call_consume(struct rig_grpc_call *call, size_t len);

/* What a missing grpc-status means (grpc/doc/http-grpc-status-mapping.md, PROTOCOL-HTTP2.md). */
int rig_grpc_code_of_http(int http_status);
int rig_grpc_code_of_reset(uint32_t h2_code);
