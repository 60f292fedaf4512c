/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc_server.c: a listener, its connections, and which method a request is for. */
#include <stdio.h>
#include <string.h>

#include "alloc.h"
#include "grpc.h"
#include "grpc_call.h"
#include "stream.h"

struct connection {
    struct connection *prev, *next; /* ring of the server's */
    struct rig_grpc_server *server;
    struct rig_h2 *h2;
    size_t collected_bytes; /* of messages that are not whole yet */
};

struct rig_grpc_server {
    uv_loop_t *loop;
    uv_idle_t closing; /* used for its close callback: the loop's promise to come back */
    struct rig_listener *listener; /* NULL: drained */
    char *address;
    struct rig_grpc_server_options options;
    struct connection connections; /* ring */
    size_t open_count;             /* connections, listener, closing */
    bool is_closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static void server_unref(struct rig_grpc_server *server)
{
    if (--server->open_count > 0 || !server->is_closing)
        return;
    void (*on_closed)(void *ctx) = server->on_closed;
    void *ctx = server->closed_ctx;
    rig_free(server->address);
    rig_free(server);
    if (on_closed != NULL)
        on_closed(ctx);
}

/* ---- requests ---- */

static struct rig_slice header(const struct rig_grpc_call *call, const char *name)
{
    return rig_grpc_call_metadata(call, name);
}

static const struct rig_grpc_method *method_find(const struct rig_grpc_server *server,
                                                 struct rig_slice path)
{
    for (const struct rig_grpc_method *m = server->options.methods; m->path != NULL; m++) {
        if (rig_slice_is(path, m->path))
            return m;
    }
    return NULL;
}

/* "/package.Service/" of the path, empty when it has no method part. */
static struct rig_slice service_part(struct rig_slice path)
{
    while (path.len > 1 && path.at[path.len - 1] != '/')
        path.len--;
    return path.len > 1 ? path : rig_slice(NULL, 0);
}

static void unknown_method(struct rig_grpc_call *call, const struct rig_grpc_server *server,
                           struct rig_slice path)
{
    struct rig_buf text = {0};
    struct rig_slice service = service_part(path);
    bool is_known = false;
    for (const struct rig_grpc_method *m = server->options.methods; m->path != NULL; m++)
        is_known |= service.len > 0 && strncmp(m->path, (const char *)service.at, service.len) == 0;
    if (service.len == 0)
        rig_buf_printf(&text, "malformed method name: \"%.*s\"", RIG_SLICE_ARG(path));
    else if (is_known)
        rig_buf_printf(&text, "unknown method %.*s for service %.*s", (int)(path.len - service.len),
                       (const char *)path.at + service.len, (int)service.len - 2,
                       (const char *)service.at + 1);
    else
        rig_buf_printf(&text, "unknown service %.*s", (int)service.len - 2,
                       (const char *)service.at + 1);
    grpc_call_reject(call, 200, RIG_GRPC_UNIMPLEMENTED, rig_buf_text(&text));
    rig_buf_deinit(&text);
}

static void request_route(struct rig_grpc_call *call, struct rig_grpc_server *server)
{
    char text[160];
    struct rig_slice method = header(call, ":method"), type = header(call, "content-type");
    if (!rig_slice_is(method, "POST")) {
        snprintf(text, sizeof(text), "method is %.*s, must be POST",
                 (int)(method.len < 32 ? method.len : 32),
                 method.len > 0 ? (const char *)method.at : "");
        grpc_call_reject(call, 405, RIG_GRPC_INTERNAL, text);
        return;
    }
    if (!grpc_is_content_type(type)) {
        snprintf(text, sizeof(text), "invalid gRPC request content-type \"%.*s\"",
                 (int)(type.len < 64 ? type.len : 64), type.len > 0 ? (const char *)type.at : "");
        grpc_call_reject(call, 415, RIG_GRPC_INVALID_ARGUMENT, text);
        return;
    }
    const struct rig_grpc_method *found = method_find(server, header(call, ":path"));
    if (found == NULL) {
        unknown_method(call, server, header(call, ":path"));
        return;
    }
    found->on_call(server->options.ctx, call);
    rig_require(call->handler != NULL || call->is_done);
}

static void on_request(void *ctx, struct rig_h2_stream *stream, const struct rig_h2_header *headers,
                       size_t count, bool is_end)
{
    struct connection *connection = ctx;
    struct rig_grpc_call *call = grpc_call_new(connection->h2, true);
    call->stream = stream;
    call->collected = &connection->collected_bytes;
    call->headers = headers;
    call->header_count = count;
    rig_h2_stream_bind(stream, &grpc_call_events, call);
    request_route(call, connection->server);
    call->headers = NULL;
    call->header_count = 0;
    if (is_end)
        grpc_call_half_closed(call);
}

/* ---- connections ---- */

static void on_connection_closed(void *ctx, int err, const struct rig_fault *why)
{
    struct connection *connection = ctx;
    struct rig_grpc_server *server = connection->server;
    (void)err, (void)why;
    connection->prev->next = connection->next;
    connection->next->prev = connection->prev;
    rig_free(connection);
    server_unref(server);
}

static const struct rig_h2_events connection_events = {
    .on_request = on_request,
    .on_closed = on_connection_closed,
};

static void on_accept(void *ctx, struct rig_stream *stream)
{
    struct rig_grpc_server *server = ctx;
    struct connection *connection = rig_new(struct connection);
    connection->server = server;
    connection->prev = server->connections.prev;
    connection->next = &server->connections;
    connection->prev->next = connection->next->prev = connection;
    server->open_count++;
    connection->h2 =
        rig_h2_open(server->loop, stream, &server->options.h2, &connection_events, connection);
}

/* ---- the server ---- */

int rig_grpc_server_open(uv_loop_t *loop, const struct rig_grpc_server_options *options,
                         struct rig_grpc_server **out, struct rig_fault *why)
{
    struct rig_grpc_server *server = rig_new(struct rig_grpc_server);
    server->loop = loop;
    server->options = *options;
    server->options.address = NULL; /* borrowed; `address` is ours */
    server->options.h2.is_server = true;
    server->connections.prev = server->connections.next = &server->connections;
    struct rig_listener_options listen = {
        .address = options->address,
        .socket_mode = options->socket_mode,
        .tls = options->tls,
        .max_connections = options->max_connections,
        .on_accept = on_accept,
        .ctx = server,
    };
    int err = rig_listener_open(loop, &listen, &server->listener, why);
    if (err < 0) {
        rig_free(server);
        return err;
    }
    server->address = rig_strdup(rig_listener_address(server->listener));
    server->open_count = 1;
    *out = server;
    return 0;
}

const char *rig_grpc_server_address(const struct rig_grpc_server *server)
{
    return server->address;
}

static void on_listener_closed(void *ctx)
{
    server_unref(ctx);
}

static void stop_listening(struct rig_grpc_server *server)
{
    if (server->listener != NULL)
        rig_listener_close(server->listener, on_listener_closed, server);
    server->listener = NULL;
}

void rig_grpc_server_drain(struct rig_grpc_server *server)
{
    stop_listening(server);
    for (struct connection *c = server->connections.next; c != &server->connections; c = c->next)
        rig_h2_drain(c->h2);
}

static void on_closing(uv_handle_t *handle)
{
    server_unref(handle->data);
}

void rig_grpc_server_close(struct rig_grpc_server *server, void (*on_closed)(void *ctx), void *ctx)
{
    rig_require(!server->is_closing);
    server->is_closing = true;
    server->on_closed = on_closed;
    server->closed_ctx = ctx;
    stop_listening(server);
    for (struct connection *c = server->connections.next; c != &server->connections; c = c->next)
        rig_h2_close(c->h2);
    /* A drained server has perhaps no handle left whose close could be waited for. */
    uv_idle_init(server->loop, &server->closing);
    server->closing.data = server;
    server->open_count++;
    uv_close((uv_handle_t *)&server->closing, on_closing);
}
