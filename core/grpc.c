/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc.c: a call, either side: messages in and out, and the one status it ends with.
 *
 * The status is decided once (call_done), by trailers, by a reset, by a broken rule or by the
 * owner, and told when the HTTP/2 stream is gone. */
#include "grpc.h"

#include <stdio.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "alloc.h"
#include "grpc_call.h"
#include "grpc_status.h"

#define MESSAGE_MAX_BYTES (4u << 20)
#define COLLECTED_MAX     4 /* largest messages that a connection may have unfinished */

struct grpc_deadline {
    uv_timer_t timer;
    uint32_t timeout_ms;
    struct rig_grpc_call *call;
};

struct rig_grpc_call *grpc_call_new(struct rig_h2 *h2, bool is_server)
{
    struct rig_grpc_call *call = rig_new(struct rig_grpc_call);
    call->h2 = h2;
    call->is_server = is_server;
    return call;
}

static void on_deadline_closed(uv_handle_t *handle)
{
    rig_free(handle->data);
}

/* What was collected of a message is delivered, or not wanted any more. */
static struct rig_buf message_take(struct rig_grpc_call *call)
{
    struct rig_buf message = call->message;
    call->message = (struct rig_buf){0};
    if (call->collected != NULL)
        *call->collected -= message.len;
    return message;
}

static void message_drop(struct rig_grpc_call *call)
{
    struct rig_buf message = message_take(call);
    rig_buf_deinit(&message);
}

static void call_free(struct rig_grpc_call *call)
{
    if (call->deadline != NULL)
        uv_close((uv_handle_t *)&call->deadline->timer, on_deadline_closed);
    message_drop(call);
    rig_buf_deinit(&call->lengths);
    rig_free(call->text);
    rig_free(call);
}

bool grpc_is_content_type(struct rig_slice value)
{
    size_t len = strlen("application/grpc");
    return rig_slice_starts(value, "application/grpc") &&
           (value.len == len || value.at[len] == '+' || value.at[len] == ';');
}

static struct rig_slice header_find(const struct rig_h2_header *headers, size_t count,
                                    const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (rig_slice_is(headers[i].name, name))
            return headers[i].value;
    }
    return rig_slice(NULL, 0);
}

struct rig_slice rig_grpc_call_metadata(const struct rig_grpc_call *call, const char *name)
{
    return header_find(call->headers, call->header_count, name);
}

/* ---- the end ---- */

/* Takes `text`. The first decision counts. */
static void call_done(struct rig_grpc_call *call, int code, char *text, bool is_reset)
{
    if (call->is_done) {
        rig_free(text);
        return;
    }
    call->is_done = true;
    call->code = code;
    call->text = text;
    call->is_reset = is_reset;
    call->is_mid_message = grpc_deframer_is_mid(&call->in);
    call->in.is_stopped = true;
    message_drop(call);
    if (call->deadline != NULL)
        uv_timer_stop(&call->deadline->timer);
}

/* Trailers, or with them all headers there are when nothing has been sent. */
static void status_send(struct rig_grpc_call *call, int http_status, int code, const char *text)
{
    char http_text[16], code_text[16];
    struct rig_buf message = {0};
    struct rig_h2_header headers[4];
    size_t count = 0;
    snprintf(http_text, sizeof(http_text), "%d", http_status);
    snprintf(code_text, sizeof(code_text), "%d", code);
    if (!call->has_response) {
        headers[count++] =
            (struct rig_h2_header){RIG_SLICE(":status"), rig_slice_text(http_text), false};
        headers[count++] =
            (struct rig_h2_header){RIG_SLICE("content-type"), RIG_SLICE("application/grpc"), false};
    }
    headers[count++] =
        (struct rig_h2_header){RIG_SLICE("grpc-status"), rig_slice_text(code_text), false};
    if (text != NULL && text[0] != '\0') {
        grpc_message_encode(text, &message);
        headers[count++] =
            (struct rig_h2_header){RIG_SLICE("grpc-message"), rig_buf_slice(&message), false};
    }
    if (call->has_response)
        rig_h2_stream_end(call->stream, headers, count);
    else
        rig_h2_stream_respond(call->stream, headers, count, true);
    call->has_response = true;
    rig_buf_deinit(&message);
}

void grpc_call_reject(struct rig_grpc_call *call, int http_status, int code, const char *text)
{
    call_done(call, code, rig_strdup(text), false);
    status_send(call, http_status, code, text);
}

void rig_grpc_call_finish(struct rig_grpc_call *call, int code, const char *message)
{
    rig_require(call->is_server);
    if (call->is_done)
        return;
    if (call->unwritten > 0) { /* trailers would make half a message look like an end */
        rig_grpc_call_reset(call, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    grpc_call_reject(call, 200, code, message != NULL ? message : "");
}

void rig_grpc_call_reset(struct rig_grpc_call *call, uint32_t h2_code)
{
    call_done(call, rig_grpc_code_of_reset(h2_code), rig_strdup("reset by this side"), true);
    rig_h2_stream_reset(call->stream, h2_code);
}

void grpc_call_fail(struct rig_grpc_call *call, int code, const char *text)
{
    if (call->is_done)
        return;
    if (call->is_server && call->unwritten == 0) {
        rig_grpc_call_finish(call, code, text);
        return;
    }
    call_done(call, code, rig_strdup(text), true);
    rig_h2_stream_reset(call->stream, call->is_server ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
}

static void on_close(void *ctx, bool is_reset, uint32_t code, int err)
{
    struct rig_grpc_call *call = ctx;
    char text[RIG_FAULT_BYTES];
    if (err == UV_ECANCELED)
        call_done(call, RIG_GRPC_CANCELLED, rig_strdup("connection was closed by this side"), true);
    else if (err < 0)
        call_done(call, RIG_GRPC_UNAVAILABLE, rig_strdup(rig_h2_fault(call->h2)->text), true);
    snprintf(text, sizeof(text), "stream terminated by RST_STREAM with error code: %s",
             nghttp2_http2_strerror(code));
    call_done(call, rig_grpc_code_of_reset(code), rig_strdup(text), is_reset);
    struct rig_grpc_status status = {
        .code = call->code,
        .message = call->text,
        .is_reset = call->is_reset,
        .is_mid_message = call->is_mid_message,
        .stage = RIG_DIAL_DONE,
    };
    if (call->handler != NULL && call->handler->on_close != NULL)
        call->handler->on_close(call->ctx, &status);
    call_free(call);
}

static void on_deadline(uv_timer_t *timer)
{
    struct grpc_deadline *deadline = timer->data;
    char text[64];
    snprintf(text, sizeof(text), "deadline of %u ms exceeded", deadline->timeout_ms);
    grpc_call_fail(deadline->call, RIG_GRPC_DEADLINE_EXCEEDED, text);
}

void grpc_call_limit(struct rig_grpc_call *call, uv_loop_t *loop, uint32_t timeout_ms)
{
    struct grpc_deadline *deadline = rig_new(struct grpc_deadline);
    deadline->call = call;
    deadline->timeout_ms = timeout_ms;
    deadline->timer.data = deadline;
    uv_timer_init(loop, &deadline->timer);
    uv_timer_start(&deadline->timer, on_deadline, timeout_ms, 0);
    call->deadline = deadline;
}

/* ---- messages in ---- */

static size_t message_max(const struct rig_grpc_handler *handler)
{
    return handler->message_max_bytes > 0 ? handler->message_max_bytes : MESSAGE_MAX_BYTES;
}

static void on_message_begin(void *ctx, uint32_t length)
{
    struct rig_grpc_call *call = ctx;
    const struct rig_grpc_handler *handler = call->handler;
    if (handler->on_message == NULL) {
        if (handler->on_begin != NULL)
            handler->on_begin(call->ctx, length);
        return;
    }
    size_t max = message_max(handler);
    if (length > max) {
        char text[96];
        snprintf(text, sizeof(text), "received message larger than max (%u vs. %zu)", length, max);
        grpc_call_fail(call, RIG_GRPC_RESOURCE_EXHAUSTED, text);
        return;
    }
    call->message_bytes = length;
    call->whole = rig_slice(NULL, 0);
}

/* A stream costs its peer nothing, so what all of them hold together has a limit too. */
static void message_append(struct rig_grpc_call *call, struct rig_slice bytes)
{
    if (call->collected != NULL) {
        if (*call->collected + bytes.len > COLLECTED_MAX * message_max(call->handler)) {
            grpc_call_fail(call, RIG_GRPC_RESOURCE_EXHAUSTED,
                           "too many messages of this connection are not finished");
            return;
        }
        *call->collected += bytes.len;
    }
    rig_buf_append_slice(&call->message, bytes);
}

static void on_message_bytes(void *ctx, struct rig_slice bytes)
{
    struct rig_grpc_call *call = ctx;
    if (call->handler->on_message != NULL) {
        if (bytes.len == call->message_bytes)
            call->whole = bytes; /* its end follows at once: no copy */
        else
            message_append(call, bytes);
        return;
    }
    call->handed_bytes += bytes.len;
    if (call->handler->on_bytes != NULL)
        call->handler->on_bytes(call->ctx, bytes);
}

static void on_message_end(void *ctx)
{
    struct rig_grpc_call *call = ctx;
    const struct rig_grpc_handler *handler = call->handler;
    if (handler->on_message == NULL) {
        if (handler->on_end != NULL)
            handler->on_end(call->ctx);
        return;
    }
    /* The owner may end the call from inside; the octets must outlive that. */
    struct rig_buf message = message_take(call);
    handler->on_message(call->ctx, message.len > 0 ? rig_buf_slice(&message) : call->whole);
    rig_buf_deinit(&message);
}

static const struct grpc_sink message_sink = {on_message_begin, on_message_bytes, on_message_end};

void grpc_call_half_closed(struct rig_grpc_call *call)
{
    if (call->is_done)
        return;
    if (grpc_deframer_is_mid(&call->in))
        grpc_call_fail(call, RIG_GRPC_INTERNAL, "client ended its side in the middle of a message");
    else if (call->handler->on_half_close != NULL)
        call->handler->on_half_close(call->ctx);
}

static void on_data(void *ctx, struct rig_slice data, bool is_end)
{
    struct rig_grpc_call *call = ctx;
    struct rig_fault why;
    if (call->is_done) {
        rig_h2_stream_consume(call->stream, data.len);
        return;
    }
    call->handed_bytes = 0;
    int err = grpc_deframe(&call->in, data, &message_sink, call, &why);
    /* Prefixes, and all of a collected message: their window is given back here. */
    rig_h2_stream_consume(call->stream, data.len - call->handed_bytes);
    if (err < 0)
        grpc_call_fail(call, RIG_GRPC_INTERNAL, why.text);
    if (!is_end || call->is_done)
        return;
    if (call->is_server)
        grpc_call_half_closed(call);
    else if (grpc_deframer_is_mid(&call->in))
        grpc_call_fail(call, RIG_GRPC_INTERNAL,
                       "server ended the stream in the middle of a "
                       "message");
    else
        grpc_call_fail(call, RIG_GRPC_UNKNOWN, "server ended the stream without a status");
}

/* ---- responses (client) ---- */

static int http_status_parse(struct rig_slice text)
{
    int status = 0;
    if (text.len != 3)
        return 0;
    for (size_t i = 0; i < 3; i++)
        status = status * 10 + (text.at[i] - '0');
    return status;
}

/* The peer has said how it ends. */
static void trailers_received(struct rig_grpc_call *call, const struct rig_h2_header *headers,
                              size_t count)
{
    struct rig_slice code = header_find(headers, count, "grpc-status");
    char *text = grpc_message_decode(header_find(headers, count, "grpc-message"));
    if (code.at == NULL) {
        bool is_ok = call->http_status == 200;
        char why[96];
        snprintf(why, sizeof(why),
                 is_ok ? "server ended the stream without a status" : "unexpected HTTP status %d",
                 call->http_status);
        rig_free(text);
        call_done(call, is_ok ? RIG_GRPC_UNKNOWN : rig_grpc_code_of_http(call->http_status),
                  rig_strdup(why), false);
    } else if (grpc_deframer_is_mid(&call->in)) {
        char why[RIG_FAULT_BYTES];
        snprintf(why, sizeof(why),
                 "server ended the stream in the middle of a message: "
                 "grpc-status %d, %s",
                 grpc_code_parse(code), text);
        rig_free(text);
        call_done(call, RIG_GRPC_INTERNAL, rig_strdup(why), false);
    } else {
        call_done(call, grpc_code_parse(code), text, false);
    }
    /* Our side may still be open: nobody reads it any more. */
    if (!call->is_half_closed || rig_h2_stream_queued(call->stream) > 0)
        rig_h2_stream_reset(call->stream, NGHTTP2_NO_ERROR);
}

static void on_headers(void *ctx, const struct rig_h2_header *headers, size_t count, bool is_end)
{
    struct rig_grpc_call *call = ctx;
    if (call->is_done)
        return;
    if (call->is_server) { /* a client's trailers: they say nothing to us but the end */
        if (is_end)
            grpc_call_half_closed(call);
        return;
    }
    if (call->has_response) {
        trailers_received(call, headers, count);
        return;
    }
    call->has_response = true;
    call->http_status = http_status_parse(header_find(headers, count, ":status"));
    struct rig_slice type = header_find(headers, count, "content-type");
    if (is_end) {
        trailers_received(call, headers, count);
    } else if (call->http_status != 200 || !grpc_is_content_type(type)) {
        char why[160];
        snprintf(why, sizeof(why), "unexpected HTTP status %d, content-type \"%.*s\"",
                 call->http_status, (int)(type.len < 64 ? type.len : 64),
                 type.len > 0 ? (const char *)type.at : "");
        grpc_call_fail(call, rig_grpc_code_of_http(call->http_status), why);
    }
}

/* ---- messages out ---- */

static void on_sent(void *ctx, size_t len)
{
    struct rig_grpc_call *call = ctx;
    size_t payload = 0;
    while (len > 0) {
        if (call->prefix_left == 0 && call->payload_left == 0) {
            rig_require(call->lengths.len >= sizeof(uint32_t));
            memcpy(&call->payload_left, call->lengths.at, sizeof(uint32_t));
            rig_buf_consume(&call->lengths, sizeof(uint32_t));
            call->prefix_left = GRPC_PREFIX_BYTES;
        }
        size_t take = len < call->prefix_left ? len : call->prefix_left;
        call->prefix_left -= (uint32_t)take;
        len -= take;
        take = len < call->payload_left ? len : call->payload_left;
        call->payload_left -= (uint32_t)take;
        len -= take;
        payload += take;
    }
    call->queued_bytes -= payload;
    if (payload > 0 && call->handler != NULL && call->handler->on_sent != NULL)
        call->handler->on_sent(call->ctx, payload);
}

const struct rig_h2_stream_events grpc_call_events = {on_headers, on_data, on_sent, on_close};

void rig_grpc_call_accept(struct rig_grpc_call *call, const struct rig_grpc_handler *handler,
                          void *ctx)
{
    call->handler = handler;
    call->ctx = ctx;
}

void rig_grpc_call_send_begin(struct rig_grpc_call *call, uint32_t length)
{
    if (call->is_done)
        return;
    rig_require(call->unwritten == 0 && !call->is_half_closed);
    if (call->is_server && !call->has_response) {
        const struct rig_h2_header headers[] = {
            {RIG_SLICE(":status"), RIG_SLICE("200"), false},
            {RIG_SLICE("content-type"), RIG_SLICE("application/grpc"), false},
        };
        rig_h2_stream_respond(call->stream, headers, 2, false);
        call->has_response = true;
    }
    uint8_t prefix[GRPC_PREFIX_BYTES];
    grpc_prefix(prefix, length);
    rig_buf_append(&call->lengths, &length, sizeof(length));
    call->unwritten = length;
    rig_h2_stream_write(call->stream, rig_slice(prefix, sizeof(prefix)));
}

void rig_grpc_call_send_bytes(struct rig_grpc_call *call, struct rig_slice bytes)
{
    if (call->is_done)
        return;
    rig_require(bytes.len <= call->unwritten);
    call->unwritten -= (uint32_t)bytes.len;
    call->queued_bytes += bytes.len;
    rig_h2_stream_write(call->stream, bytes);
}

void rig_grpc_call_send(struct rig_grpc_call *call, struct rig_slice message)
{
    rig_require(message.len <= UINT32_MAX);
    rig_grpc_call_send_begin(call, (uint32_t)message.len);
    rig_grpc_call_send_bytes(call, message);
}

size_t rig_grpc_call_queued(const struct rig_grpc_call *call)
{
    return call->queued_bytes;
}

void rig_grpc_call_half_close(struct rig_grpc_call *call)
{
    rig_require(!call->is_server);
    if (call->is_done || call->is_half_closed)
        return;
    rig_require(call->unwritten == 0);
    call->is_half_closed = true;
    rig_h2_stream_end(call->stream, NULL, 0);
}

void rig_grpc_call_consume(struct rig_grpc_call *call, size_t len)
{
    if (!call->is_done)
        rig_h2_stream_consume(call->stream, len);
}
