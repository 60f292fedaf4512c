/* SPDX-License-Identifier: Apache-2.0 */
/* core/http2_session.c: nghttp2's callbacks: header blocks, frames that came, frames that went.
 *
 * All of them run with nghttp2 on the stack, the owner's on_headers, on_data, on_request too:
 * what those ask for is submitted, and done when nghttp2 has returned. */
#include "http2_session.h"

#include <string.h>

#include "alloc.h"
#include "log.h"

#define HEADER_OVERHEAD  32   /* RFC 9113 6.5.2 */
#define BLOCK_KEEP_BYTES 4096 /* a larger header block's memory is given back */
#define GOAWAY_TEXT_MAX  200

struct rig_fault *h2_fault_of(struct rig_h2 *h2)
{
    if (h2->fault == NULL)
        h2->fault = rig_new(struct rig_fault);
    return h2->fault;
}

/* ---- header blocks ---- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct rig_h2 *h2 = ctx;
    rig_buf_clear(&h2->block.text);
    rig_buf_clear(&h2->block.spans);
    h2->block.bytes = 0;
    h2->block.is_refused = false;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        struct rig_h2_stream *stream = h2_stream_new(h2, frame->hd.stream_id);
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, stream);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx)
{
    struct rig_h2 *h2 = ctx;
    struct h2_block *block = &h2->block;
    if (block->is_refused)
        return 0;
    block->bytes += name_len + value_len + HEADER_OVERHEAD;
    if (block->bytes > h2->options.max_header_bytes) {
        block->is_refused = true;
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_ENHANCE_YOUR_CALM);
        return 0;
    }
    struct h2_span span = {(uint32_t)name_len, (uint32_t)value_len,
                           (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0};
    rig_buf_append(&block->text, name, name_len);
    rig_buf_append(&block->text, value, value_len);
    rig_buf_append(&block->spans, &span, sizeof(span));
    return 0;
}

static struct rig_h2_header *block_headers(const struct h2_block *block, size_t *count)
{
    *count = block->spans.len / sizeof(struct h2_span);
    struct rig_h2_header *headers = rig_alloc(*count * sizeof(*headers));
    const uint8_t *at = block->text.at;
    for (size_t i = 0; i < *count; i++) {
        struct h2_span span;
        memcpy(&span, block->spans.at + i * sizeof(span), sizeof(span));
        headers[i].name = rig_slice(at, span.name_len);
        headers[i].value = rig_slice(at + span.name_len, span.value_len);
        headers[i].is_secret = span.is_secret;
        at += span.name_len + span.value_len;
    }
    return headers;
}

static bool is_informational(const struct rig_h2_header *headers, size_t count)
{
    return count > 0 && rig_slice_is(headers[0].name, ":status") && headers[0].value.len == 3 &&
           headers[0].value.at[0] == '1';
}

static void headers_received(struct rig_h2 *h2, const nghttp2_frame *frame)
{
    struct rig_h2_stream *stream =
        nghttp2_session_get_stream_user_data(h2->session, frame->hd.stream_id);
    if (stream == NULL || h2->block.is_refused || !h2_is_live(h2))
        return;
    bool is_end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    size_t count;
    struct rig_h2_header *headers = block_headers(&h2->block, &count);
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        if (h2->events->on_request != NULL)
            h2->events->on_request(h2->ctx, stream, headers, count, is_end);
        if (stream->events == NULL)
            rig_h2_stream_reset(stream, NGHTTP2_REFUSED_STREAM);
    } else if (!h2_stream_is_deaf(stream) && !is_informational(headers, count) &&
               stream->events->on_headers != NULL) {
        stream->events->on_headers(stream->ctx, headers, count, is_end);
    }
    rig_free(headers);
    if (h2->block.text.cap > BLOCK_KEEP_BYTES) {
        rig_buf_deinit(&h2->block.text);
        rig_buf_deinit(&h2->block.spans);
    }
}

/* ---- frames that came ---- */

static void goaway_received(struct rig_h2 *h2, const nghttp2_goaway *frame)
{
    struct rig_slice debug = rig_slice(frame->opaque_data, frame->opaque_data_len);
    h2->is_peer_leaving = true;
    rig_buf_clear(&h2->goaway_text);
    rig_buf_printf(&h2->goaway_text, "code: %s, debug data: \"%.*s\"",
                   nghttp2_http2_strerror(frame->error_code),
                   (int)(debug.len < GOAWAY_TEXT_MAX ? debug.len : GOAWAY_TEXT_MAX),
                   debug.len > 0 ? (const char *)debug.at : "");
    if (h2_is_live(h2) && h2->events->on_goaway != NULL)
        h2->events->on_goaway(h2->ctx, frame->error_code, debug);
}

static void settings_received(struct rig_h2 *h2)
{
    if (h2->is_ready || !h2_is_live(h2))
        return;
    h2->is_ready = true;
    uv_timer_stop(&h2->timer);
    h2_keepalive_arm(h2);
    if (h2->events->on_ready != NULL)
        h2->events->on_ready(h2->ctx);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct rig_h2 *h2 = ctx;
    struct rig_h2_stream *stream;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        headers_received(h2, frame);
        break;
    case NGHTTP2_DATA:
        stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && stream != NULL &&
            !h2_stream_is_deaf(stream) && stream->events->on_data != NULL)
            stream->events->on_data(stream->ctx, rig_slice(NULL, 0), true);
        break;
    case NGHTTP2_RST_STREAM:
        stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (stream != NULL)
            stream->is_reset = true;
        break;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            settings_received(h2);
        break;
    case NGHTTP2_GOAWAY:
        goaway_received(h2, &frame->goaway);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *at,
                         size_t len, void *ctx)
{
    struct rig_h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)flags, (void)ctx;
    if (stream == NULL || h2_stream_is_deaf(stream)) {
        nghttp2_session_consume(session, id, len);
        return 0;
    }
    stream->unconsumed_bytes += len;
    if (stream->events->on_data != NULL)
        stream->events->on_data(stream->ctx, rig_slice(at, len), false);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *ctx)
{
    struct rig_h2_stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)ctx;
    if (stream != NULL)
        h2_stream_is_over(stream, code);
    return 0;
}

/* nghttp2's own words about what the peer did; the last ones before the end are the reason. */
static int on_error(nghttp2_session *session, int error, const char *text, size_t len, void *ctx)
{
    struct rig_h2 *h2 = ctx;
    (void)session, (void)error;
    rig_fault_set(h2_fault_of(h2), RIG_E_PROTOCOL, "peer broke HTTP/2: %.*s", (int)len, text);
    rig_log_debug("http2", "%s", h2->fault->text);
    return 0;
}

/* ---- frames that went ---- */

static ssize_t on_send(nghttp2_session *session, const uint8_t *at, size_t len, int flags,
                       void *ctx)
{
    uint8_t *to = h2_out_extend(ctx, len);
    (void)session, (void)flags;
    if (to == NULL)
        return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(to, at, len);
    return (ssize_t)len;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *ctx)
{
    struct rig_h2 *h2 = ctx;
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
        h2->is_broken = true;
    /* A response that is complete before its request asks the client to stop (RFC 9113 8.1). */
    if (h2->options.is_server &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_NO_ERROR);
    return 0;
}

/* Our own headers could not go (too large a block): without this the stream would hang. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *ctx)
{
    (void)ctx;
    if (frame->hd.type == NGHTTP2_HEADERS && error != NGHTTP2_ERR_STREAM_CLOSED &&
        error != NGHTTP2_ERR_STREAM_CLOSING)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_INTERNAL_ERROR);
    return 0;
}

/* ---- the session ---- */

void h2_session_new(struct rig_h2 *h2)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    rig_require(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, h2_stream_send_data);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_error_callback2(callbacks, on_error);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_reserved_remote_streams(option, 0);
    int rv = h2->options.is_server
                 ? nghttp2_session_server_new2(&h2->session, callbacks, h2, option)
                 : nghttp2_session_client_new2(&h2->session, callbacks, h2, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    rig_require(rv == 0);
}
