/* SPDX-License-Identifier: Apache-2.0 */
/* core/http2_session.h: what http2.c (the connection), http2_session.c (nghttp2's callbacks) and
 * http2_stream.c (the streams) share.
 *
 * nghttp2 may not be re-entered: while `is_in_session` only its submit functions are called,
 * and everything else waits for h2_touch, which brings the loop back to us. */
#pragma once

#include <nghttp2/nghttp2.h>
#include <uv.h>

#include "buf.h"
#include "http2.h"

struct h2_span {
    uint32_t name_len, value_len; /* of two neighbours in h2_block.text */
    bool is_secret;
};

/* The header block that is arriving; there is one at a time (RFC 9113 4.3). */
struct h2_block {
    struct rig_buf text;
    struct rig_buf spans;
    size_t bytes; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts */
    bool is_refused;
};

struct rig_h2_stream {
    struct rig_h2_stream *prev, *next; /* ring of all that exist */
    struct rig_h2_stream *next_news;
    struct rig_h2 *h2;
    int32_t id;
    const struct rig_h2_stream_events *events;
    void *ctx;
    struct rig_buf queue;    /* body octets on their way out */
    struct rig_slice direct; /* and what follows them, inside rig_h2_stream_write only */
    size_t promised_bytes;   /* of their front, in a DATA frame that nghttp2 has begun */
    size_t sent_bytes;       /* to be told by on_sent */
    size_t unconsumed_bytes; /* received, window not given back */
    nghttp2_nv *trailers;    /* one block with their text */
    size_t trailer_count;
    uint32_t code;
    bool has_news;    /* stands in the list of news */
    bool is_deferred; /* nghttp2 waits for body octets */
    bool has_ended;   /* our side, by the owner */
    bool is_dropped;  /* reset by the owner: nothing is told any more but the end */
    bool is_reset;    /* by either side */
    bool is_over;     /* for nghttp2; on_close is due */
};

struct rig_h2 {
    uv_idle_t work;   /* runs once when there is something to send or to tell */
    uv_timer_t timer; /* SETTINGS due, then keepalive */
    uv_timer_t idle;  /* a server's, while there is no stream */
    unsigned open_handles;
    struct rig_stream *stream;
    nghttp2_session *session;
    struct rig_h2_options options;
    const struct rig_h2_events *events;
    void *ctx;

    uint8_t *out; /* frames that the socket has not taken; NULL when there are none */
    size_t out_at, out_len;
    struct rig_h2_stream streams; /* ring */
    struct rig_h2_stream *news, **news_end;
    size_t open_count; /* streams that are not over */
    struct h2_block block;

    uint64_t active_ms; /* last octet received */
    uint64_t ping_ms;   /* when the unanswered PING went; 0: none */
    uint64_t ping_received_bytes;
    uint64_t received_bytes, sent_bytes;

    bool is_in_session;
    bool is_out_dead; /* the socket takes nothing any more */
    bool is_ready;
    bool is_draining;
    bool is_peer_leaving; /* GOAWAY came */
    bool is_broken;       /* GOAWAY with an error went out */
    bool wants_close;     /* rig_h2_close was called inside nghttp2 */
    bool is_closing;
    int end_err;
    struct rig_fault *fault; /* made when there is something to say */
    struct rig_buf goaway_text;
};

/* Comes back to this connection from the loop: sends, then tells what there is to tell. */
void h2_touch(struct rig_h2 *h2);

/* Sends what nghttp2 and the socket are willing to; without `flush` only what fills `out`. */
void h2_pump(struct rig_h2 *h2, bool flush);

/* Room for `len` octets at the end of `out`, which then count; NULL when it is full. */
uint8_t *h2_out_extend(struct rig_h2 *h2, size_t len);

/* True while callbacks may be called and nghttp2 may be asked. */
static inline bool h2_is_live(const struct rig_h2 *h2)
{
    return !h2->is_closing && !h2->wants_close;
}

/* Makes `h2->session`. */
void h2_session_new(struct rig_h2 *h2);

/* The fault, made if need be. */
struct rig_fault *h2_fault_of(struct rig_h2 *h2);

/* Arms the timer for the PING that is due next, if one will be. */
void h2_keepalive_arm(struct rig_h2 *h2);

/* A server's connection has, or no longer has, a stream. */
void h2_idle_arm(struct rig_h2 *h2);

/* A client's first stream starts its keepalive. */
void h2_stream_opened(struct rig_h2 *h2);

/* Streams. */
struct rig_h2_stream *h2_stream_new(struct rig_h2 *h2, int32_t id);
void h2_stream_is_over(struct rig_h2_stream *stream, uint32_t code);
void h2_streams_tell(struct rig_h2 *h2);          /* on_sent and on_close that are due */
void h2_streams_lose(struct rig_h2 *h2, int err); /* on_close of all */
bool h2_stream_is_deaf(const struct rig_h2_stream *stream);

/* nghttp2's callback for DATA that goes out without a copy of its own. */
int h2_stream_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source, void *ctx);
