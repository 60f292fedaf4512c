/* SPDX-License-Identifier: Apache-2.0 */
/* core/http2_stream.c: the streams of a connection: headers and bodies out, windows back, ends.
 *
 * A stream exists until its on_close has returned, which may be long after nghttp2 has forgotten
 * it (`is_over`). What is to be told is collected as news and told from the loop. */
#include <string.h>

#include "alloc.h"
#include "http2.h"
#include "http2_session.h"

#define FRAME_HEAD_BYTES 9
#define DIRECT_BYTES     4096 /* less is queued, and so shares a frame with what follows */

/* ---- life ---- */

struct rig_h2_stream *h2_stream_new(struct rig_h2 *h2, int32_t id)
{
    struct rig_h2_stream *stream = rig_new(struct rig_h2_stream);
    stream->h2 = h2;
    stream->id = id;
    stream->queue.is_secret = h2->options.is_secret;
    stream->prev = h2->streams.prev;
    stream->next = &h2->streams;
    stream->prev->next = stream->next->prev = stream;
    h2->open_count++;
    h2_idle_arm(h2);
    return stream;
}

static void stream_free(struct rig_h2_stream *stream)
{
    stream->prev->next = stream->next;
    stream->next->prev = stream->prev;
    rig_buf_deinit(&stream->queue);
    rig_free(stream->trailers);
    rig_free(stream);
}

static void news_add(struct rig_h2_stream *stream)
{
    struct rig_h2 *h2 = stream->h2;
    if (stream->has_news)
        return;
    stream->has_news = true;
    stream->next_news = NULL;
    *h2->news_end = stream;
    h2->news_end = &stream->next_news;
    h2_touch(h2);
}

void h2_stream_is_over(struct rig_h2_stream *stream, uint32_t code)
{
    stream->is_over = true;
    stream->code = code;
    stream->is_reset = stream->is_reset || code != NGHTTP2_NO_ERROR;
    stream->h2->open_count--;
    h2_idle_arm(stream->h2);
    /* What the owner had not given back would be lost to the other streams. */
    nghttp2_session_consume_connection(stream->h2->session, stream->unconsumed_bytes);
    stream->unconsumed_bytes = 0;
    news_add(stream);
}

bool h2_stream_is_deaf(const struct rig_h2_stream *stream)
{
    return stream->events == NULL || stream->is_over || stream->is_dropped ||
           !h2_is_live(stream->h2);
}

/* May the owner still send on it? */
static bool is_mute(const struct rig_h2_stream *stream)
{
    return stream->is_over || stream->is_dropped || stream->has_ended || !h2_is_live(stream->h2);
}

static void tell_close(struct rig_h2_stream *stream, bool is_reset, uint32_t code, int err)
{
    if (stream->events != NULL && stream->events->on_close != NULL)
        stream->events->on_close(stream->ctx, is_reset, code, err);
    stream_free(stream);
}

void h2_streams_tell(struct rig_h2 *h2)
{
    struct rig_h2_stream *stream = h2->news, *next;
    h2->news = NULL; /* news of the news is for the next step */
    h2->news_end = &h2->news;
    for (; stream != NULL && !h2->is_closing; stream = next) {
        next = stream->next_news;
        stream->has_news = false;
        size_t sent = stream->sent_bytes;
        stream->sent_bytes = 0;
        if (sent > 0 && !stream->is_dropped && stream->events->on_sent != NULL)
            stream->events->on_sent(stream->ctx, sent);
        /* With fresh news (on_sent led to a write) it stands in the list again: next step. */
        if (stream->is_over && !stream->has_news && !h2->is_closing)
            tell_close(stream, stream->is_reset, stream->code, 0);
    }
}

void h2_streams_lose(struct rig_h2 *h2, int err)
{
    while (h2->streams.next != &h2->streams) {
        struct rig_h2_stream *stream = h2->streams.next;
        if (stream->is_over)
            tell_close(stream, stream->is_reset, stream->code, 0);
        else
            tell_close(stream, false, NGHTTP2_NO_ERROR, err);
    }
}

/* ---- headers ---- */

/* nghttp2 copies names and values, so these borrow ours. */
static nghttp2_nv *nv_borrow(const struct rig_h2_header *headers, size_t count)
{
    nghttp2_nv *nv = rig_alloc(count * sizeof(*nv));
    for (size_t i = 0; i < count; i++) {
        nv[i].name = (uint8_t *)headers[i].name.at;
        nv[i].namelen = headers[i].name.len;
        nv[i].value = (uint8_t *)headers[i].value.at;
        nv[i].valuelen = headers[i].value.len;
        nv[i].flags = headers[i].is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
    }
    return nv;
}

/* For trailers, which wait until the body has gone: one block with the text behind it. */
static nghttp2_nv *nv_copy(const struct rig_h2_header *headers, size_t count)
{
    size_t bytes = count * sizeof(nghttp2_nv);
    for (size_t i = 0; i < count; i++)
        bytes += headers[i].name.len + headers[i].value.len;
    nghttp2_nv *nv = rig_alloc(bytes);
    uint8_t *text = (uint8_t *)(nv + count);
    for (size_t i = 0; i < count; i++) {
        nv[i].name = text;
        nv[i].namelen = headers[i].name.len;
        nv[i].value = text + headers[i].name.len;
        nv[i].valuelen = headers[i].value.len;
        nv[i].flags = headers[i].is_secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
        if (headers[i].name.len > 0)
            memcpy(nv[i].name, headers[i].name.at, headers[i].name.len);
        if (headers[i].value.len > 0)
            memcpy(nv[i].value, headers[i].value.at, headers[i].value.len);
        text = nv[i].value + headers[i].value.len;
    }
    return nv;
}

/* ---- body ---- */

static ssize_t on_body(nghttp2_session *session, int32_t id, uint8_t *at, size_t len,
                       uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
    struct rig_h2_stream *stream = source->ptr;
    size_t there = stream->queue.len + stream->direct.len;
    size_t take = there < len ? there : len;
    (void)at, (void)ctx;
    if (take == 0 && !stream->has_ended) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (take > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    stream->promised_bytes = take;
    if (stream->has_ended && take == there) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->trailers != NULL) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_submit_trailer(session, id, stream->trailers, stream->trailer_count);
        }
    }
    return (ssize_t)take;
}

int h2_stream_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source, void *ctx)
{
    struct rig_h2 *h2 = ctx;
    struct rig_h2_stream *stream = source->ptr;
    (void)session, (void)frame;
    uint8_t *to = h2_out_extend(h2, FRAME_HEAD_BYTES + len);
    if (to == NULL)
        return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(to, head, FRAME_HEAD_BYTES);
    to += FRAME_HEAD_BYTES;
    size_t queued = stream->queue.len < len ? stream->queue.len : len;
    if (queued > 0) {
        memcpy(to, stream->queue.at, queued);
        rig_buf_consume(&stream->queue, queued);
    }
    if (queued < len) {
        memcpy(to + queued, stream->direct.at, len - queued);
        stream->direct.at += len - queued;
        stream->direct.len -= len - queued;
    }
    stream->promised_bytes = 0;
    stream->sent_bytes += len;
    news_add(stream);
    return 0;
}

static void body_resume(struct rig_h2_stream *stream)
{
    if (stream->is_deferred) {
        stream->is_deferred = false;
        nghttp2_session_resume_data(stream->h2->session, stream->id);
    }
    h2_touch(stream->h2);
}

/* ---- the owner's side ---- */

struct rig_h2_stream *rig_h2_request(struct rig_h2 *h2, const struct rig_h2_header *headers,
                                     size_t count, const struct rig_h2_stream_events *events,
                                     void *ctx)
{
    if (!h2_is_live(h2) || h2->is_draining || !nghttp2_session_check_request_allowed(h2->session))
        return NULL;
    struct rig_h2_stream *stream = h2_stream_new(h2, 0);
    stream->events = events;
    stream->ctx = ctx;
    nghttp2_data_provider body = {.source = {.ptr = stream}, .read_callback = on_body};
    nghttp2_nv *nv = nv_borrow(headers, count);
    stream->id = nghttp2_submit_request(h2->session, NULL, nv, count, &body, stream);
    rig_free(nv);
    if (stream->id < 0) {
        h2->open_count--;
        stream_free(stream);
        return NULL;
    }
    h2_stream_opened(h2);
    h2_touch(h2);
    return stream;
}

void rig_h2_stream_bind(struct rig_h2_stream *stream, const struct rig_h2_stream_events *events,
                        void *ctx)
{
    stream->events = events;
    stream->ctx = ctx;
}

void rig_h2_stream_respond(struct rig_h2_stream *stream, const struct rig_h2_header *headers,
                           size_t count, bool is_end)
{
    if (is_mute(stream))
        return;
    stream->has_ended = is_end;
    nghttp2_data_provider body = {.source = {.ptr = stream}, .read_callback = on_body};
    nghttp2_nv *nv = nv_borrow(headers, count);
    nghttp2_submit_response(stream->h2->session, stream->id, nv, count, is_end ? NULL : &body);
    rig_free(nv);
    h2_touch(stream->h2);
}

void rig_h2_stream_write(struct rig_h2_stream *stream, struct rig_slice data)
{
    if (is_mute(stream) || data.len == 0)
        return;
    if (data.len >= DIRECT_BYTES && stream->queue.len < DIRECT_BYTES &&
        !stream->h2->is_in_session) {
        /* Straight into frames: only what the windows or the socket do not take is queued. */
        stream->direct = data;
        body_resume(stream);
        h2_pump(stream->h2, false);
        data = stream->direct;
        stream->direct = rig_slice(NULL, 0);
    }
    rig_buf_append_slice(&stream->queue, data);
    body_resume(stream);
}

size_t rig_h2_stream_queued(const struct rig_h2_stream *stream)
{
    return stream->queue.len;
}

void rig_h2_stream_end(struct rig_h2_stream *stream, const struct rig_h2_header *trailers,
                       size_t count)
{
    if (is_mute(stream))
        return;
    stream->has_ended = true;
    if (count > 0) {
        stream->trailers = nv_copy(trailers, count);
        stream->trailer_count = count;
    }
    body_resume(stream);
}

void rig_h2_stream_reset(struct rig_h2_stream *stream, uint32_t code)
{
    if (stream->is_over || stream->is_dropped || !h2_is_live(stream->h2))
        return;
    stream->is_dropped = stream->is_reset = true;
    /* A DATA frame that has been begun must be completed, or the framing is lost. */
    if (stream->promised_bytes == 0)
        rig_buf_deinit(&stream->queue);
    else
        stream->queue.len = stream->promised_bytes;
    nghttp2_session_consume(stream->h2->session, stream->id, stream->unconsumed_bytes);
    stream->unconsumed_bytes = 0;
    nghttp2_submit_rst_stream(stream->h2->session, NGHTTP2_FLAG_NONE, stream->id, code);
    h2_touch(stream->h2);
}

void rig_h2_stream_consume(struct rig_h2_stream *stream, size_t len)
{
    if (stream->is_over || stream->is_dropped || !h2_is_live(stream->h2))
        return;
    rig_require(len <= stream->unconsumed_bytes);
    stream->unconsumed_bytes -= len;
    nghttp2_session_consume(stream->h2->session, stream->id, len);
    if (nghttp2_session_want_write(stream->h2->session))
        h2_touch(stream->h2);
}
