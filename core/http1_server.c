/* SPDX-License-Identifier: Apache-2.0 */
/* core/http1_server.c: HTTP/1.1 requests, one exchange at a time per connection.
 *
 * While an answer is due nothing is read, so a client that pipelines waits in the kernel. One
 * timer per connection covers the whole request and the taking of the answer; octets that
 * trickle in do not extend it. When there is no place left, the client that has been silent the
 * longest loses its own, so that who only connects keeps nobody out. */
#include "http1.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <llhttp.h>

#include "alloc.h"
#include "clock.h"
#include "http1_head.h"
#include "stream.h"

#define CONNECTIONS_MAX  64
#define IDLE_TIMEOUT_MS  30000
#define HEAD_BYTES_MAX   (16u << 10)
#define BODY_BYTES_MAX   (64u << 10)
#define TARGET_BYTES_MAX (8u << 10)
#define READ_BYTES       4096

/* What a refused client may still send: closing on unread octets would reset the connection, and
 * with it the answer (RFC 9112, 9.6). */
#define LINGER_MS        500
#define LINGER_BYTES_MAX (1u << 20)

struct connection {
    struct rig_http1_server *server;
    struct connection *prev, *next;
    struct rig_stream *stream;
    uv_timer_t timer;
    unsigned open_handles; /* stream and timer */
    llhttp_t parser;
    struct rig_buf target;
    struct rig_buf body;
    struct rig_buf pending; /* read, not parsed: behind a request that is being answered */
    struct rig_buf out;
    struct http1_head head;
    size_t head_bytes;
    size_t linger_bytes;
    int refusal;                         /* status to answer once parsing has stopped */
    struct rig_http1_exchange *exchange; /* the answer that is due */
    bool keeps_alive;
    bool is_loopback;
    bool is_delivering; /* inside on_request */
    bool is_lingering;  /* answered for the last time; what comes is thrown away */
    bool is_closing;
};

struct rig_http1_exchange {
    struct connection *connection; /* NULL: the peer has gone */
    bool is_head;
};

struct rig_http1_server {
    uv_loop_t *loop;
    struct rig_listener *listener;
    struct rig_http1_server_options options;
    struct connection connections; /* ring; who was answered last, or has just come, is last */
    uint32_t live;                 /* of them, not closing */
    uint32_t max_connections;
    size_t open; /* connections and the listener */
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* ---- the end of a connection ---- */

static void server_release(struct rig_http1_server *server)
{
    if (--server->open > 0)
        return;
    if (server->on_closed != NULL)
        server->on_closed(server->closed_ctx);
    rig_free(server);
}

static void ring_add(struct connection *ring, struct connection *c)
{
    c->prev = ring->prev;
    c->next = ring;
    c->prev->next = c->next->prev = c;
}

static void ring_remove(struct connection *c)
{
    c->prev->next = c->next;
    c->next->prev = c->prev;
}

static void connection_release(struct connection *c)
{
    if (--c->open_handles > 0)
        return;
    struct rig_http1_server *server = c->server;
    ring_remove(c);
    rig_buf_deinit(&c->target);
    rig_buf_deinit(&c->body);
    rig_buf_deinit(&c->pending);
    rig_buf_deinit(&c->out);
    rig_free(c);
    server_release(server);
}

static void on_stream_closed(void *ctx)
{
    connection_release(ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
    connection_release(handle->data);
}

static void connection_close(struct connection *c)
{
    if (c->is_closing)
        return;
    c->is_closing = true;
    c->server->live--;
    if (c->exchange != NULL)
        c->exchange->connection = NULL; /* whoever answers it frees it */
    c->exchange = NULL;
    rig_stream_close(c->stream, on_stream_closed, c);
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    connection_close(timer->data);
}

static void timer_restart(struct connection *c)
{
    uint32_t ms = c->server->options.idle_timeout_ms;
    uv_timer_start(&c->timer, on_timeout, ms > 0 ? ms : IDLE_TIMEOUT_MS, 0);
}

/* ---- parsing ---- */

static int refuse(llhttp_t *parser, int status)
{
    ((struct connection *)parser->data)->refusal = status;
    return -1;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct connection *c = parser->data;
    if (rig_buf_append_capped(&c->target, at, len, TARGET_BYTES_MAX) < 0)
        return refuse(parser, 414);
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct connection *c = parser->data;
    size_t max = c->server->options.max_body_bytes;
    if (rig_buf_append_capped(&c->body, at, len, max > 0 ? max : BODY_BYTES_MAX) < 0)
        return refuse(parser, 413);
    return 0;
}

static int on_field(llhttp_t *parser, const char *at, size_t len)
{
    http1_head_name(&((struct connection *)parser->data)->head, at, len);
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t len)
{
    http1_head_value(&((struct connection *)parser->data)->head, at, len);
    return 0;
}

static int on_field_end(llhttp_t *parser)
{
    http1_head_field_end(&((struct connection *)parser->data)->head);
    return 0;
}

static int on_headers(llhttp_t *parser)
{
    struct connection *c = parser->data;
    size_t max = c->server->options.max_body_bytes;
    int status = http1_head_verdict(&c->head, parser);
    c->head_bytes = 0;
    if (status > 0)
        return refuse(parser, status);
    if (parser->content_length > (max > 0 ? max : BODY_BYTES_MAX) &&
        (parser->flags & F_CHUNKED) == 0)
        return refuse(parser, 413);
    if (c->head.wants_continue && (parser->content_length > 0 || (parser->flags & F_CHUNKED) != 0))
        rig_buf_append_text(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    c->head.wants_continue = false;
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    struct connection *c = parser->data;
    http1_head_reset(&c->head); /* of trailers */
    /* HTTP/1.0 would have to be told that the connection stays; it is not worth it. */
    c->keeps_alive =
        llhttp_should_keep_alive(parser) && !parser->upgrade && parser->http_minor == 1;
    return HPE_PAUSED; /* what follows in the buffer is the next request */
}

static const llhttp_settings_t *parser_settings(void)
{
    static llhttp_settings_t settings;
    if (settings.on_url == NULL) {
        llhttp_settings_init(&settings);
        settings.on_url = on_url;
        settings.on_header_field = on_field;
        settings.on_header_value = on_value;
        settings.on_header_value_complete = on_field_end;
        settings.on_body = on_body;
        settings.on_headers_complete = on_headers;
        settings.on_message_complete = on_complete;
    }
    return &settings;
}

/* ---- writing ---- */

static void out_flush(struct connection *c);
static void requests_go_on(struct connection *c);

static const char *reason_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {{200, "OK"},
                   {204, "No Content"},
                   {400, "Bad Request"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {417, "Expectation Failed"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].text;
    }
    return "Status";
}

/* RFC 9110, 6.6.1 */
static void date_append(struct rig_buf *out)
{
    char text[48];
    struct tm tm;
    time_t now = (time_t)rig_clock_wall_s();
    if (gmtime_r(&now, &tm) != NULL &&
        strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
        rig_buf_printf(out, "Date: %s\r\n", text);
}

static void answer_queue(struct connection *c, int status, const char *content_type,
                         struct rig_slice body, bool is_head)
{
    bool has_body = status != 204 && status != 304; /* RFC 9110, 8.6: nor has it a length */
    rig_buf_printf(&c->out, "HTTP/1.1 %d %s\r\n", status, reason_text(status));
    if (has_body)
        rig_buf_printf(&c->out, "Content-Length: %zu\r\n", body.len);
    if (has_body && content_type != NULL)
        rig_buf_printf(&c->out, "Content-Type: %s\r\n", content_type);
    date_append(&c->out);
    if (!c->keeps_alive)
        rig_buf_append_text(&c->out, "Connection: close\r\n");
    rig_buf_append_text(&c->out, "\r\n");
    if (has_body && !is_head)
        rig_buf_append_slice(&c->out, body);
}

/* Throws away what has come; false when the connection has ended or sent too much. */
static bool drain(struct connection *c)
{
    uint8_t at[READ_BYTES];
    ssize_t got;
    while ((got = rig_stream_read(c->stream, at, sizeof(at))) > 0) {
        c->linger_bytes += (size_t)got;
        if (c->linger_bytes > LINGER_BYTES_MAX)
            return false;
    }
    return got == UV_EAGAIN;
}

/* All is written, and nothing more will be. */
static void connection_finish(struct connection *c)
{
    if (c->refusal == 0 || !drain(c) || c->refusal == 400) {
        connection_close(c);
        return;
    }
    /* Refused for its size or its kind, not for nonsense: the rest of it is on its way. */
    c->is_lingering = true;
    uv_timer_start(&c->timer, on_timeout, LINGER_MS, 0);
    rig_stream_want_read(c->stream, true);
}

static void out_flush(struct connection *c)
{
    while (c->out.len > 0) {
        ssize_t put = rig_stream_write(c->stream, c->out.at, c->out.len);
        if (put == UV_EAGAIN)
            return;
        if (put < 0) {
            connection_close(c);
            return;
        }
        rig_buf_consume(&c->out, (size_t)put);
    }
    if (c->exchange == NULL && !c->keeps_alive && !c->is_lingering)
        connection_finish(c);
}

static void on_writable(void *ctx)
{
    struct connection *c = ctx;
    out_flush(c);
    requests_go_on(c);
}

void rig_http1_respond(struct rig_http1_exchange *exchange, int status, const char *content_type,
                       struct rig_slice body)
{
    struct connection *c = exchange->connection;
    bool is_head = exchange->is_head;
    rig_free(exchange);
    if (c == NULL)
        return;
    c->exchange = NULL;
    answer_queue(c, status, content_type, body, is_head);
    timer_restart(c);
    ring_remove(c);
    ring_add(&c->server->connections, c);
    out_flush(c);
    if (!c->is_delivering)
        requests_go_on(c);
}

/* An answer to what is no request, or one too large; the connection ends with it. */
static void answer_refusal(struct connection *c, int status)
{
    c->keeps_alive = false;
    c->refusal = status;
    rig_stream_want_read(c->stream, false);
    answer_queue(c, status, NULL, RIG_SLICE(""), false);
    out_flush(c);
}

/* ---- requests ---- */

static void request_deliver(struct connection *c)
{
    const char *method = llhttp_method_name((llhttp_method_t)c->parser.method);
    struct rig_http1_request request = {
        .method = rig_slice_text(method),
        .body = rig_buf_slice(&c->body),
        .is_loopback = c->is_loopback,
    };
    if (!http1_target_split(rig_buf_slice(&c->target), c->parser.method == HTTP_OPTIONS,
                            &request.path, &request.query)) {
        answer_refusal(c, 400);
        return;
    }
    struct rig_http1_exchange *exchange = rig_new(struct rig_http1_exchange);
    exchange->connection = c;
    exchange->is_head = c->parser.method == HTTP_HEAD;
    c->exchange = exchange;
    rig_stream_want_read(c->stream, false);
    uv_timer_stop(&c->timer); /* how long an answer takes is the handler's affair */
    c->is_delivering = true;
    c->server->options.on_request(c->server->options.ctx, exchange, &request);
    c->is_delivering = false;
    rig_buf_clear(&c->target);
    rig_buf_clear(&c->body);
}

/* Parses; false when the connection takes no more now. */
static bool parse(struct connection *c, const uint8_t *at, size_t len)
{
    http1_head_feed(&c->head, (const char *)at, len);
    llhttp_errno_t err = llhttp_execute(&c->parser, (const char *)at, len);
    http1_head_fed(&c->head);
    if (err == HPE_PAUSED) {
        const char *stop = llhttp_get_error_pos(&c->parser);
        size_t used = (size_t)(stop - (const char *)at);
        llhttp_resume(&c->parser);
        rig_buf_append(&c->pending, at + used, len - used);
        request_deliver(c);
        return false;
    }
    if (err != HPE_OK) {
        answer_refusal(c, c->refusal > 0 ? c->refusal : 400);
        return false;
    }
    if (c->out.len > 0)
        out_flush(c); /* 100 Continue */
    return !c->is_closing;
}

/* `head_bytes` counts what came since the last whole head: a bound, not an exact length. */
static bool head_is_too_long(struct connection *c, size_t len)
{
    c->head_bytes += len;
    return c->head_bytes > HEAD_BYTES_MAX;
}

static void requests_go_on(struct connection *c)
{
    while (c->pending.len > 0 && c->exchange == NULL && c->out.len == 0 && c->keeps_alive &&
           !c->is_closing) {
        struct rig_buf pending = c->pending;
        c->pending = (struct rig_buf){0};
        parse(c, pending.at, pending.len);
        rig_buf_deinit(&pending);
    }
    if (!c->is_closing && c->exchange == NULL && c->out.len == 0 && c->keeps_alive)
        rig_stream_want_read(c->stream, true);
}

static void on_readable(void *ctx)
{
    struct connection *c = ctx;
    uint8_t at[READ_BYTES];
    if (c->is_lingering) {
        if (!drain(c))
            connection_close(c);
        return;
    }
    for (;;) {
        ssize_t got = rig_stream_read(c->stream, at, sizeof(at));
        if (got == UV_EAGAIN)
            return;
        if (got <= 0) {
            connection_close(c);
            return;
        }
        size_t body_before = c->body.len;
        if (!parse(c, at, (size_t)got)) {
            requests_go_on(c);
            return;
        }
        if (c->body.len == body_before && head_is_too_long(c, (size_t)got)) {
            answer_refusal(c, 431);
            return;
        }
    }
}

static const struct rig_stream_events connection_events = {.on_readable = on_readable,
                                                           .on_writable = on_writable};

/* The listener takes one more than there are places, so that its coming is seen. */
static void place_make(struct rig_http1_server *server)
{
    struct connection *c = server->connections.next;
    while (c != &server->connections && (c->is_closing || c->exchange != NULL))
        c = c->next;
    if (c != &server->connections)
        connection_close(c);
}

static void on_accept(void *ctx, struct rig_stream *stream)
{
    struct rig_http1_server *server = ctx;
    if (server->live >= server->max_connections)
        place_make(server);
    struct connection *c = rig_new(struct connection);
    c->server = server;
    c->stream = stream;
    c->open_handles = 2;
    c->keeps_alive = true;
    c->is_loopback = rig_stream_peer_is_loopback(stream);
    ring_add(&server->connections, c);
    server->live++;
    server->open++;
    llhttp_init(&c->parser, HTTP_REQUEST, parser_settings());
    c->parser.data = c;
    uv_timer_init(server->loop, &c->timer);
    c->timer.data = c;
    timer_restart(c);
    rig_stream_bind(stream, &connection_events, c);
    rig_stream_want_read(stream, true);
}

int rig_http1_server_open(uv_loop_t *loop, const struct rig_http1_server_options *options,
                          struct rig_http1_server **out, struct rig_fault *why)
{
    struct rig_http1_server *server = rig_new(struct rig_http1_server);
    server->loop = loop;
    server->options = *options;
    server->connections.prev = server->connections.next = &server->connections;
    server->open = 1;
    server->max_connections =
        options->max_connections > 0 ? options->max_connections : CONNECTIONS_MAX;
    struct rig_listener_options listener = {
        .address = options->address,
        .socket_mode = options->socket_mode,
        .max_connections = server->max_connections + 1,
        .on_accept = on_accept,
        .ctx = server,
    };
    int err = rig_listener_open(loop, &listener, &server->listener, why);
    if (err < 0) {
        rig_free(server);
        return err;
    }
    *out = server;
    return 0;
}

const char *rig_http1_server_address(const struct rig_http1_server *server)
{
    return rig_listener_address(server->listener);
}

static void on_listener_closed(void *ctx)
{
    server_release(ctx);
}

void rig_http1_server_close(struct rig_http1_server *server, void (*on_closed)(void *ctx),
                            void *ctx)
{
    server->on_closed = on_closed;
    server->closed_ctx = ctx;
    for (struct connection *c = server->connections.next; c != &server->connections; c = c->next)
        connection_close(c);
    rig_listener_close(server->listener, on_listener_closed, server);
}
