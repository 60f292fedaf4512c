/* SPDX-License-Identifier: Apache-2.0 */
/* core/http1_client.c: one request, one answer, one connection, one deadline. */
#include <stdio.h>
#include <string.h>

#include <llhttp.h>

#include "alloc.h"
#include "dial.h"
#include "http1.h"
#include "stream.h"

#define TIMEOUT_MS     1000
#define HEAD_BYTES_MAX (64u << 10)
#define BODY_BYTES_MAX (64u << 10)
#define READ_BYTES     4096

struct rig_http1_call {
    uv_timer_t timer;
    unsigned open_handles; /* the timer, and the stream once there is one */
    struct rig_dial *dial;
    struct rig_stream *stream;
    llhttp_t parser;
    struct rig_buf out;
    struct rig_buf body;
    size_t max_body_bytes;
    size_t seen_bytes;
    bool is_head;
    bool is_complete;
    bool is_too_large;
    bool is_over;
    int err; /* what the callback gets */
    int status;
    struct rig_fault why;
    rig_http1_call_cb on_done; /* NULL after cancel */
    void *ctx;
};

static void call_release(struct rig_http1_call *call)
{
    if (--call->open_handles > 0)
        return;
    if (call->on_done != NULL)
        call->on_done(call->ctx, call->err, call->status, rig_buf_slice(&call->body), &call->why);
    rig_buf_deinit(&call->out);
    rig_buf_deinit(&call->body);
    rig_free(call);
}

static void on_timer_closed(uv_handle_t *handle)
{
    call_release(handle->data);
}

static void on_stream_closed(void *ctx)
{
    call_release(ctx);
}

/* The callback runs when the last handle is closed, so it is never inside the starting call. */
static void call_end(struct rig_http1_call *call, int err)
{
    if (call->is_over)
        return;
    call->is_over = true;
    call->err = err;
    if (err < 0 && call->why.text[0] == '\0')
        rig_fault_set(&call->why, err, "%s", rig_error_text(err));
    if (call->dial != NULL)
        rig_dial_cancel(call->dial);
    call->dial = NULL;
    if (call->stream != NULL)
        rig_stream_close(call->stream, on_stream_closed, call);
    uv_close((uv_handle_t *)&call->timer, on_timer_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    call_end(timer->data, UV_ETIMEDOUT);
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct rig_http1_call *call = parser->data;
    if (rig_buf_append_capped(&call->body, at, len, call->max_body_bytes) < 0) {
        call->is_too_large = true;
        return -1;
    }
    return 0;
}

/* The answer to HEAD has the length of a body that does not come. */
static int on_headers(llhttp_t *parser)
{
    return ((struct rig_http1_call *)parser->data)->is_head ? 1 : 0;
}

static int on_complete(llhttp_t *parser)
{
    struct rig_http1_call *call = parser->data;
    if (parser->status_code < 200 && parser->status_code != 101)
        return 0; /* interim (RFC 9110, 15.2): the answer is still to come */
    call->status = parser->status_code;
    call->is_complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t *parser_settings(void)
{
    static llhttp_settings_t settings;
    if (settings.on_body == NULL) {
        llhttp_settings_init(&settings);
        settings.on_headers_complete = on_headers;
        settings.on_body = on_body;
        settings.on_message_complete = on_complete;
    }
    return &settings;
}

static void answer_parse(struct rig_http1_call *call, const uint8_t *at, size_t len)
{
    llhttp_errno_t err = llhttp_execute(&call->parser, (const char *)at, len);
    call->seen_bytes += len;
    if (call->is_complete) {
        call_end(call, 0);
    } else if (call->is_too_large || call->seen_bytes > HEAD_BYTES_MAX + 2 * call->max_body_bytes) {
        call_end(call, rig_fault_set(&call->why, RIG_E_TOO_LARGE,
                                     "the answer is larger than %zu octets", call->max_body_bytes));
    } else if (err != HPE_OK) {
        call_end(call, rig_fault_set(&call->why, RIG_E_PROTOCOL, "the answer is no HTTP/1.1: %s",
                                     llhttp_get_error_reason(&call->parser)));
    }
}

/* An answer without a length ends with the connection (RFC 9112 6.3). */
static void answer_ended(struct rig_http1_call *call, ssize_t got)
{
    if (got == 0 && llhttp_finish(&call->parser) == HPE_OK && call->is_complete)
        call_end(call, 0);
    else if (got == 0 && call->is_complete)
        call_end(call, 0);
    else
        call_end(call, got < 0
                           ? (int)got
                           : rig_fault_set(&call->why, UV_EOF, "the peer closed in mid-answer"));
}

static void on_readable(void *ctx)
{
    struct rig_http1_call *call = ctx;
    uint8_t at[READ_BYTES];
    while (!call->is_over) {
        ssize_t got = rig_stream_read(call->stream, at, sizeof(at));
        if (got == UV_EAGAIN)
            return;
        if (got <= 0)
            answer_ended(call, got);
        else
            answer_parse(call, at, (size_t)got);
    }
}

static void on_writable(void *ctx)
{
    struct rig_http1_call *call = ctx;
    while (call->out.len > 0) {
        ssize_t put = rig_stream_write(call->stream, call->out.at, call->out.len);
        if (put == UV_EAGAIN)
            return;
        if (put < 0) {
            call_end(call, (int)put);
            return;
        }
        rig_buf_consume(&call->out, (size_t)put);
    }
}

static const struct rig_stream_events call_events = {.on_readable = on_readable,
                                                     .on_writable = on_writable};

static void on_dialled(void *ctx, int err, enum rig_dial_stage stage, const struct rig_fault *why,
                       struct rig_stream *stream)
{
    struct rig_http1_call *call = ctx;
    (void)stage;
    call->dial = NULL;
    if (err < 0) {
        call->why = *why;
        call_end(call, err);
        return;
    }
    call->stream = stream;
    call->open_handles++;
    rig_stream_bind(stream, &call_events, call);
    rig_stream_want_read(stream, true);
    on_writable(call);
}

int rig_http1_call_start(uv_loop_t *loop, const struct rig_http1_call_options *options,
                         rig_http1_call_cb on_done, void *ctx, struct rig_http1_call **out,
                         struct rig_fault *why)
{
    struct rig_http1_call *call = rig_new(struct rig_http1_call);
    uint32_t timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_MS;
    struct rig_dial_options dial = {.address = options->address, .timeout_ms = timeout_ms};
    int err = rig_dial_start(loop, &dial, on_dialled, call, &call->dial, why);
    if (err < 0) {
        rig_free(call);
        return err;
    }
    bool is_unix = strncmp(options->address, "unix:", 5) == 0;
    rig_buf_printf(
        &call->out,
        "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nUser-Agent: outrigger/" RIG_VERSION
        "\r\n%s\r\n",
        options->method, options->target, is_unix ? "localhost" : options->address,
        strcmp(options->method, "GET") == 0 ? "" : "Content-Length: 0\r\n");
    call->max_body_bytes = options->max_body_bytes > 0 ? options->max_body_bytes : BODY_BYTES_MAX;
    call->is_head = strcmp(options->method, "HEAD") == 0;
    call->on_done = on_done;
    call->ctx = ctx;
    call->open_handles = 1;
    llhttp_init(&call->parser, HTTP_RESPONSE, parser_settings());
    call->parser.data = call;
    uv_timer_init(loop, &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, on_timeout, timeout_ms, 0);
    *out = call;
    return 0;
}

void rig_http1_call_cancel(struct rig_http1_call *call)
{
    call->on_done = NULL;
    call_end(call, UV_ECANCELED);
}
