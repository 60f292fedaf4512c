/* SPDX-License-Identifier: Apache-2.0 */
/* core/http2.c: the connection: octets in and out, keepalive, its end.
 *
 * nghttp2 takes all octets that it is given, and frames are gathered and leave in few writes at
 * the end of a loop step: both go through memory that connections share. An idle connection
 * holds no buffer. */
#include "http2.h"

#include <stdio.h>
#include <string.h>

#include "alloc.h"
#include "http2_session.h"
#include "secret.h"
#include "stream.h"

#define SCRATCH_BYTES   65536
#define OUT_FULL_BYTES  65536 /* nghttp2 is not asked for more while so much is unsent */
#define OUT_BYTES       (OUT_FULL_BYTES + (17u << 10)) /* and the frame that fills it */
#define READS_PER_EVENT 4                              /* then other connections have their turn */
#define OUTBOUND_MAX    4096 /* frames that wait to be sent; more is a flood's echo */
#define DEFAULT_WINDOW  65535
#define DEFAULT_STREAMS 100
#define DEFAULT_HEADERS 65536
#define DEFAULT_WAIT_MS 10000

/* ---- memory of the thread ---- */

/* One block to read into and one to write from serve all connections of a loop in turn; a second
 * one to write from is made only for a socket that does not take its octets. */
static _Thread_local struct {
    uint8_t *in;
    uint8_t *out; /* NULL while lent to a connection */
    size_t users;
} scratch;

static void scratch_ref(void)
{
    if (scratch.users++ == 0)
        scratch.in = rig_realloc(NULL, SCRATCH_BYTES);
}

static void scratch_unref(void)
{
    if (--scratch.users > 0)
        return;
    rig_free(scratch.in);
    rig_free(scratch.out);
    scratch.in = scratch.out = NULL;
}

static void out_release(struct rig_h2 *h2)
{
    if (h2->options.is_secret && h2->out != NULL)
        rig_wipe(h2->out, h2->out_len);
    if (scratch.out == NULL)
        scratch.out = h2->out;
    else
        rig_free(h2->out);
    h2->out = NULL;
    h2->out_at = h2->out_len = 0;
}

uint8_t *h2_out_extend(struct rig_h2 *h2, size_t len)
{
    /* One that is half sent is not filled again: that would mean moving it. */
    if (h2->out_at > 0 || h2->out_len >= OUT_FULL_BYTES || len > OUT_BYTES - h2->out_len)
        return NULL;
    if (h2->out == NULL) {
        h2->out = scratch.out != NULL ? scratch.out : rig_realloc(NULL, OUT_BYTES);
        scratch.out = NULL;
    }
    uint8_t *to = h2->out + h2->out_len;
    h2->out_len += len;
    return to;
}

/* ---- the end ---- */

const struct rig_fault *rig_h2_fault(const struct rig_h2 *h2)
{
    static const struct rig_fault none;
    return h2->fault != NULL ? h2->fault : &none;
}

static void h2_gone(struct rig_h2 *h2)
{
    if (--h2->open_handles > 0)
        return;
    h2_streams_lose(h2, h2->end_err < 0 ? h2->end_err : UV_ECANCELED);
    nghttp2_session_del(h2->session);
    h2->events->on_closed(h2->ctx, h2->end_err, rig_h2_fault(h2));
    out_release(h2);
    rig_buf_deinit(&h2->block.text);
    rig_buf_deinit(&h2->block.spans);
    rig_buf_deinit(&h2->goaway_text);
    rig_free(h2->fault);
    rig_free(h2);
    scratch_unref();
}

static void on_handle_closed(uv_handle_t *handle)
{
    h2_gone(handle->data);
}

static void on_stream_closed(void *ctx)
{
    h2_gone(ctx);
}

/* The first reason counts. Nothing is told before the loop has closed all handles. */
static void h2_end(struct rig_h2 *h2, int err)
{
    if (h2->is_closing)
        return;
    h2->is_closing = true;
    h2->end_err = err;
    if (err == 0 && h2->fault != NULL)
        h2->fault->text[0] = '\0';
    rig_stream_close(h2->stream, on_stream_closed, h2);
    uv_close((uv_handle_t *)&h2->work, on_handle_closed);
    uv_close((uv_handle_t *)&h2->timer, on_handle_closed);
    uv_close((uv_handle_t *)&h2->idle, on_handle_closed);
}

/* What the peer had said before it went belongs to the reason: "max_age" is no accident. */
static void goaway_append(struct rig_h2 *h2)
{
    struct rig_fault *fault = h2_fault_of(h2);
    if (h2->is_peer_leaving)
        rig_fault_set(fault, 0, "%s, received prior goaway: %s", fault->text,
                      rig_buf_text(&h2->goaway_text));
}

static void h2_lose(struct rig_h2 *h2, int err)
{
    if (h2->is_closing)
        return;
    const char *reason = rig_stream_fault(h2->stream)->text;
    if (err == 0 || err == UV_EOF) {
        err = UV_EOF;
        rig_fault_set(h2_fault_of(h2), err, "connection closed by the peer");
    } else {
        rig_fault_set(h2_fault_of(h2), err, "connection lost: %s",
                      reason[0] != '\0' ? reason : rig_error_text(err));
    }
    goaway_append(h2);
    h2_end(h2, err);
}

static void h2_fail(struct rig_h2 *h2, int rv, const char *doing)
{
    int err = rv == NGHTTP2_ERR_NOMEM ? UV_ENOMEM : RIG_E_PROTOCOL;
    rig_fault_set(h2_fault_of(h2), err, "HTTP/2 failed while %s: %s", doing, nghttp2_strerror(rv));
    h2_end(h2, err);
}

/* ---- out ---- */

/* 0 when all is sent, UV_EAGAIN when the socket is full (on_writable follows). */
static int out_write(struct rig_h2 *h2)
{
    while (h2->out_at < h2->out_len) {
        ssize_t put = rig_stream_write(h2->stream, h2->out + h2->out_at, h2->out_len - h2->out_at);
        if (put < 0)
            return (int)put;
        h2->out_at += (size_t)put;
        h2->sent_bytes += (uint64_t)put;
    }
    out_release(h2);
    return 0;
}

/* 0, UV_EAGAIN, or why the connection cannot go on (`is_session`: an nghttp2 code). */
static int out_pump(struct rig_h2 *h2, bool flush, bool *is_session)
{
    *is_session = false;
    for (;;) {
        h2->is_in_session = true;
        int err = nghttp2_session_send(h2->session);
        h2->is_in_session = false;
        if (err < 0) {
            *is_session = true;
            return err;
        }
        if (h2->out_len == 0 || (!flush && h2->out_at == 0 && h2->out_len < OUT_FULL_BYTES))
            return 0;
        err = out_write(h2);
        if (err < 0)
            return err;
    }
}

/* A peer that closes has perhaps answered first: a failed write is no reason not to read on. The
 * end that reading finds is the connection's. */
void h2_pump(struct rig_h2 *h2, bool flush)
{
    bool is_session;
    if (h2->is_closing || h2->is_out_dead)
        return;
    int err = out_pump(h2, flush, &is_session);
    if (err < 0 && is_session) {
        h2_fail(h2, err, "sending");
    } else if (err < 0 && err != UV_EAGAIN) {
        h2->is_out_dead = true;
        out_release(h2);
    }
}

/* ---- the loop step ---- */

static void close_now(struct rig_h2 *h2)
{
    bool is_session;
    nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR);
    if (!h2->is_out_dead)
        out_pump(h2, true, &is_session); /* once: whether the peer takes it is its own affair */
    h2_end(h2, 0);
}

/* Has nghttp2 said all it wants to? Then the connection is over. */
static void check_over(struct rig_h2 *h2)
{
    if (h2->is_closing || nghttp2_session_want_read(h2->session) ||
        nghttp2_session_want_write(h2->session) || (h2->out_len > 0 && !h2->is_broken))
        return;
    if (h2->is_broken && h2_fault_of(h2)->text[0] == '\0')
        rig_fault_set(h2->fault, RIG_E_PROTOCOL, "peer broke HTTP/2");
    if (h2->is_broken)
        h2_end(h2, RIG_E_PROTOCOL);
    else if (h2->is_draining)
        h2_end(h2, 0);
    else
        h2_lose(h2, UV_EOF);
}

/* The end of each step that began in the loop. */
static void h2_turn(struct rig_h2 *h2)
{
    if (h2->wants_close && !h2->is_closing)
        close_now(h2);
    h2_pump(h2, true);
    if (!h2->is_closing)
        h2_streams_tell(h2);
    check_over(h2);
}

static void on_work(uv_idle_t *work)
{
    uv_idle_stop(work);
    h2_turn(work->data);
}

void h2_touch(struct rig_h2 *h2)
{
    if (!h2->is_closing)
        uv_idle_start(&h2->work, on_work);
}

/* ---- in ---- */

static void on_readable(void *ctx)
{
    struct rig_h2 *h2 = ctx;
    for (int i = 0; i < READS_PER_EVENT && h2_is_live(h2); i++) {
        ssize_t got = rig_stream_read(h2->stream, scratch.in, SCRATCH_BYTES);
        if (got == UV_EAGAIN)
            break;
        if (got <= 0) {
            h2_lose(h2, (int)got);
            break;
        }
        h2->received_bytes += (uint64_t)got;
        h2->active_ms = uv_now(h2->timer.loop);
        h2->is_in_session = true;
        ssize_t taken = nghttp2_session_mem_recv(h2->session, scratch.in, (size_t)got);
        h2->is_in_session = false;
        if (taken < 0) {
            h2_fail(h2, (int)taken, "receiving");
            break;
        }
        if (nghttp2_session_get_outbound_queue_size(h2->session) > OUTBOUND_MAX) {
            rig_fault_set(h2_fault_of(h2), RIG_E_PROTOCOL,
                          "peer makes us answer faster than it reads");
            h2_end(h2, RIG_E_PROTOCOL);
            break;
        }
        if (got < SCRATCH_BYTES)
            break; /* the socket is empty: poll tells when it is not */
    }
    h2_turn(h2);
}

static void on_writable(void *ctx)
{
    h2_turn(ctx);
}

static const struct rig_stream_events stream_events = {on_readable, on_writable};

/* ---- keepalive ---- */

static void on_timer(uv_timer_t *timer);

static void keepalive_ping(struct rig_h2 *h2, uint64_t now)
{
    nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
    h2->ping_ms = now;
    h2->ping_received_bytes = h2->received_bytes;
    uv_timer_start(&h2->timer, on_timer, h2->options.keepalive_timeout_ms, 0);
    h2_touch(h2);
}

/* Arms the timer for what is due next. A client without a stream does not ping: gRPC servers
 * answer such PINGs with GOAWAY(too_many_pings). */
void h2_keepalive_arm(struct rig_h2 *h2)
{
    uint64_t now = uv_now(h2->timer.loop);
    if (h2->options.keepalive_ms == 0 || !h2->is_ready || h2->is_closing)
        return;
    if (h2->ping_ms != 0 && h2->received_bytes != h2->ping_received_bytes)
        h2->ping_ms = 0; /* any octet is a sign of life */
    if (h2->ping_ms != 0) {
        uint64_t waited = now - h2->ping_ms;
        if (waited < h2->options.keepalive_timeout_ms) {
            uv_timer_start(&h2->timer, on_timer, h2->options.keepalive_timeout_ms - waited, 0);
            return;
        }
        rig_fault_set(h2_fault_of(h2), UV_ETIMEDOUT,
                      "connection lost: nothing received for %u ms, not even an answer to PING",
                      h2->options.keepalive_ms + h2->options.keepalive_timeout_ms);
        h2_end(h2, UV_ETIMEDOUT);
        return;
    }
    if (!h2->options.is_server && h2->open_count == 0) {
        uv_timer_stop(&h2->timer);
        return;
    }
    uint64_t quiet = now - h2->active_ms;
    if (quiet >= h2->options.keepalive_ms)
        keepalive_ping(h2, now);
    else
        uv_timer_start(&h2->timer, on_timer, h2->options.keepalive_ms - quiet, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct rig_h2 *h2 = timer->data;
    if (!h2->is_ready) {
        rig_fault_set(h2_fault_of(h2), UV_ETIMEDOUT,
                      "no HTTP/2 SETTINGS from the peer within %u ms",
                      h2->options.settings_timeout_ms);
        h2_end(h2, UV_ETIMEDOUT);
        return;
    }
    h2_keepalive_arm(h2);
}

static void on_idle(uv_timer_t *timer)
{
    rig_h2_close(timer->data);
}

/* Who holds connections without ever asking for anything takes them from others. The GOAWAY
 * tells a client whose request is on its way that it was not looked at (RFC 9113 6.8). */
void h2_idle_arm(struct rig_h2 *h2)
{
    if (!h2->options.is_server || h2->options.idle_timeout_ms == 0 || h2->is_closing)
        return;
    if (h2->open_count > 0)
        uv_timer_stop(&h2->idle);
    else
        uv_timer_start(&h2->idle, on_idle, h2->options.idle_timeout_ms, 0);
}

void h2_stream_opened(struct rig_h2 *h2)
{
    if (h2->options.is_server || h2->open_count > 1 || uv_is_active((uv_handle_t *)&h2->timer))
        return;
    /* The silence before the first stream was nobody's fault. */
    h2->active_ms = uv_now(h2->timer.loop);
    h2_keepalive_arm(h2);
}

/* ---- opening ---- */

static void settings_submit(struct rig_h2 *h2)
{
    nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h2->options.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h2->options.max_header_bytes},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, h2->options.max_streams},
    };
    if (!h2->options.is_server) /* a client's limit concerns pushes, and we take none */
        entries[2] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries,
                            sizeof(entries) / sizeof(entries[0]));
    nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                          (int32_t)h2->options.connection_window_bytes);
}

static void default_to(uint32_t *value, uint32_t fallback)
{
    if (*value == 0)
        *value = fallback;
}

struct rig_h2 *rig_h2_open(uv_loop_t *loop, struct rig_stream *stream,
                           const struct rig_h2_options *options, const struct rig_h2_events *events,
                           void *ctx)
{
    struct rig_h2 *h2 = rig_new(struct rig_h2);
    h2->stream = stream;
    h2->options = *options;
    h2->events = events;
    h2->ctx = ctx;
    h2->streams.prev = h2->streams.next = &h2->streams;
    h2->news_end = &h2->news;
    default_to(&h2->options.stream_window_bytes, DEFAULT_WINDOW);
    default_to(&h2->options.connection_window_bytes, DEFAULT_WINDOW);
    default_to(&h2->options.max_streams, DEFAULT_STREAMS);
    default_to(&h2->options.max_header_bytes, DEFAULT_HEADERS);
    default_to(&h2->options.keepalive_timeout_ms, DEFAULT_WAIT_MS);
    default_to(&h2->options.settings_timeout_ms, DEFAULT_WAIT_MS);
    rig_require(h2->options.stream_window_bytes <= INT32_MAX &&
                h2->options.connection_window_bytes <= INT32_MAX);
    scratch_ref();
    h2_session_new(h2);
    settings_submit(h2);
    uv_idle_init(loop, &h2->work);
    uv_timer_init(loop, &h2->timer);
    uv_timer_init(loop, &h2->idle);
    h2->work.data = h2->timer.data = h2->idle.data = h2;
    h2->open_handles = 4; /* and the stream */
    h2->active_ms = uv_now(loop);
    uv_timer_start(&h2->timer, on_timer, h2->options.settings_timeout_ms, 0);
    h2_idle_arm(h2);
    rig_stream_bind(stream, &stream_events, h2);
    rig_stream_want_read(stream, true);
    h2_touch(h2);
    return h2;
}

void rig_h2_close(struct rig_h2 *h2)
{
    if (!h2_is_live(h2))
        return;
    if (h2->is_in_session) {
        h2->wants_close = true;
        h2_touch(h2);
    } else {
        close_now(h2);
    }
}

void rig_h2_drain(struct rig_h2 *h2)
{
    if (!h2_is_live(h2) || h2->is_draining)
        return;
    h2->is_draining = true;
    nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(h2->session), NGHTTP2_NO_ERROR,
                          NULL, 0);
    h2_touch(h2);
}

void rig_h2_count(const struct rig_h2 *h2, uint64_t *received_bytes, uint64_t *sent_bytes)
{
    *received_bytes = h2->received_bytes;
    *sent_bytes = h2->sent_bytes;
}
