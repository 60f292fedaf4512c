/* SPDX-License-Identifier: Apache-2.0 */
/* core/http2.h: one HTTP/2 connection (an nghttp2 session on a stream), client or server.
 *
 * Receive windows are ours to give: octets count against the peer's window until
 * rig_h2_stream_consume returns them, so a reader that stops consuming stops its peer. Reading
 * the connection itself never stops: other streams, PINGs and requests go on (RFC 9113 5.2). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "buf.h"
#include "fault.h"

struct rig_h2;        /* a connection */
struct rig_h2_stream; /* one stream of it */
struct rig_stream;

struct rig_h2_header {
    struct rig_slice name; /* lower case */
    struct rig_slice value;
    bool is_secret; /* never indexed by HPACK, never logged */
};

struct rig_h2_stream_events {
    /* Headers or trailers; `is_end`: END_STREAM was set. Borrows. Informational (1xx) headers
     * are not reported. */
    void (*on_headers)(void *ctx, const struct rig_h2_header *headers, size_t count, bool is_end);
    /* Octets of DATA, as they come; `is_end` may come with none. Borrows. */
    void (*on_data)(void *ctx, struct rig_slice data, bool is_end);
    /* `len` queued octets have gone into the connection's output. */
    void (*on_sent)(void *ctx, size_t len);
    /* The stream is over and gone: `is_reset` by RST_STREAM with `code` (or NO_ERROR), or lost
     * with the connection (`err` < 0). Exactly once, last, never inside a call of ours. */
    void (*on_close)(void *ctx, bool is_reset, uint32_t code, int err);
};

struct rig_h2_options {
    bool is_server;
    uint32_t stream_window_bytes;     /* 0: 65,535 */
    uint32_t connection_window_bytes; /* 0: 65,535 */
    uint32_t max_streams;             /* that the peer may open; 0: 100 */
    uint32_t max_header_bytes;        /* of one header block; 0: 65,536 */
    uint32_t keepalive_ms;            /* PING after no received octet for so long; 0: never */
    uint32_t keepalive_timeout_ms;    /* dead when still nothing after so long; 0: 10,000 */
    uint32_t settings_timeout_ms;     /* the peer's SETTINGS must be here by then; 0: 10,000 */
    uint32_t idle_timeout_ms;         /* server: closed after so long without a stream; 0: never */
    bool is_secret; /* keys are sent: the memory of what was sent is wiped (but not nghttp2's own,
                     * which holds headers) */
};

struct rig_h2_events {
    /* The peer's SETTINGS have arrived: the connection is usable. */
    void (*on_ready)(void *ctx);
    /* Server: a new stream with its request headers. The callee binds it (rig_h2_stream_bind)
     * before it returns; an unbound stream is reset with REFUSED_STREAM. `is_end`: no body. */
    void (*on_request)(void *ctx, struct rig_h2_stream *stream, const struct rig_h2_header *headers,
                       size_t count, bool is_end);
    /* The peer will take no new stream. `code` and debug text as received. */
    void (*on_goaway)(void *ctx, uint32_t code, struct rig_slice debug);
    /* The connection is over; all its streams have had on_close. Exactly once, last, never
     * inside a call of ours; `err` 0 after rig_h2_close, UV_EOF when the peer ended it. The
     * connection is gone when this returns. */
    void (*on_closed)(void *ctx, int err, const struct rig_fault *why);
};

/* Takes `stream`. Keeps `events`. Any member of `events` may be NULL but on_closed. */
struct rig_h2 *rig_h2_open(uv_loop_t *loop, struct rig_stream *stream,
                           const struct rig_h2_options *options, const struct rig_h2_events *events,
                           void *ctx);

/* GOAWAY(NO_ERROR), what is queued is tried once, then the socket is closed. on_closed follows. */
void rig_h2_close(struct rig_h2 *h2);

/* GOAWAY(NO_ERROR) and goes on with the streams that are open; on_closed follows the last. */
void rig_h2_drain(struct rig_h2 *h2);

/* Why the connection has ended, or is about to, for those whose stream is lost before on_closed
 * tells; empty text when nothing is known. Borrowed. */
const struct rig_fault *rig_h2_fault(const struct rig_h2 *h2);

/* Octets received and sent on this connection so far. */
void rig_h2_count(const struct rig_h2 *h2, uint64_t *received_bytes, uint64_t *sent_bytes);

/* Client: opens a stream with these headers (pseudo headers first; copied). NULL when the
 * connection takes no more (GOAWAY, closing). Keeps `events`. The body stays open. */
struct rig_h2_stream *rig_h2_request(struct rig_h2 *h2, const struct rig_h2_header *headers,
                                     size_t count, const struct rig_h2_stream_events *events,
                                     void *ctx);

/* Server: who gets this stream's events. Keeps `events`. */
void rig_h2_stream_bind(struct rig_h2_stream *stream, const struct rig_h2_stream_events *events,
                        void *ctx);

/* Server: response headers; with `is_end` there is no body (trailers-only). Copied. */
void rig_h2_stream_respond(struct rig_h2_stream *stream, const struct rig_h2_header *headers,
                           size_t count, bool is_end);

/* Queues body octets (copied). Unlimited here: the caller watches rig_h2_stream_queued. */
void rig_h2_stream_write(struct rig_h2_stream *stream, struct rig_slice data);

/* Octets queued and not yet in the connection's output. */
size_t rig_h2_stream_queued(const struct rig_h2_stream *stream);

/* Ends our side after what is queued; server with trailers when `count` > 0 (copied). A server
 * whose client has not ended its side follows with RST_STREAM(NO_ERROR) (RFC 9113 8.1). */
void rig_h2_stream_end(struct rig_h2_stream *stream, const struct rig_h2_header *trailers,
                       size_t count);

/* RST_STREAM now; what is queued is dropped. on_close follows. */
void rig_h2_stream_reset(struct rig_h2_stream *stream, uint32_t code);

/* Gives `len` octets of receive window back, to the stream and to the connection. */
void rig_h2_stream_consume(struct rig_h2_stream *stream, size_t len);
