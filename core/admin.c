/* SPDX-License-Identifier: Apache-2.0 */
/* core/admin.c: the routes of all plugins, and GET /status, on local listeners. */
#include <string.h>

#include "clock.h"
#include "host_private.h"
#include "http1.h"
#include "json.h"
#include "log.h"

#define STATUS_BYTES_MAX (1u << 20)

static struct rig_doc *timeline(const struct rig_host *host, struct rig_arena *arena)
{
    struct rig_doc *list = rig_doc_list(arena);
    for (size_t i = 0; i < host->mark_count; i++) {
        struct rig_doc *row = rig_doc_map(arena);
        double ms = (double)(host->marks[i].at_us - host->began_us) / 1000.0;
        char *text = rig_arena_printf(arena, "%.3f", ms);
        rig_doc_set(arena, row, "event", rig_doc_text(arena, host->marks[i].event));
        rig_doc_set(arena, row, "ms", rig_doc_number(arena, rig_slice_text(text)));
        rig_doc_push(arena, list, row);
    }
    return list;
}

static struct rig_doc *status_doc(const struct rig_host *host, struct rig_arena *arena)
{
    struct rig_doc *doc = rig_doc_map(arena);
    rig_doc_set(arena, doc, "version", rig_doc_text(arena, RIG_VERSION));
    rig_doc_set(arena, doc, "role", rig_doc_text(arena, host->role));
    rig_doc_set(arena, doc, "pid", rig_doc_int(arena, (int64_t)uv_os_getpid()));
    rig_doc_set(arena, doc, "phase", rig_doc_text(arena, host_phase_text(host->phase)));
    rig_doc_set(arena, doc, "uptimeMs",
                rig_doc_int(arena, (int64_t)((rig_clock_us() - host->began_us) / 1000)));
    rig_doc_set(arena, doc, "timeline", timeline(host, arena));
    struct rig_doc *plugins = rig_doc_map(arena);
    for (size_t i = 0; i < host->count; i++) {
        const struct host_plugin *p = &host->plugins[i];
        struct rig_doc *out = rig_doc_map(arena);
        if (p->is_started && p->loaded.plugin.status != NULL)
            p->loaded.plugin.status(p->self, arena, out);
        rig_doc_set(arena, plugins, p->loaded.plugin.name, out);
    }
    rig_doc_set(arena, doc, "plugins", plugins);
    return doc;
}

static void answer_text(struct rig_http1_exchange *exchange, int status, const char *text)
{
    rig_http1_respond(exchange, status, "text/plain; charset=utf-8", rig_slice_text(text));
}

static void answer_status(struct rig_host *host, struct rig_http1_exchange *exchange)
{
    struct rig_arena arena;
    struct rig_buf text = {0};
    rig_arena_init(&arena, STATUS_BYTES_MAX);
    const struct rig_doc *doc = status_doc(host, &arena);
    if (rig_arena_is_spent(&arena)) {
        answer_text(exchange, 500, "the status is larger than its limit\n");
    } else {
        rig_json_write(doc, RIG_JSON_PRETTY, &text);
        rig_buf_append_text(&text, "\n");
        rig_http1_respond(exchange, 200, "application/json", rig_buf_slice(&text));
    }
    rig_buf_deinit(&text);
    rig_arena_deinit(&arena);
}

static const struct rig_route *route_find(const struct host_plugin *p, struct rig_slice path)
{
    for (const struct rig_route *r = p->loaded.plugin.routes; r != NULL && r->path != NULL; r++) {
        if (p->is_started && rig_slice_is(path, r->path))
            return r;
    }
    return NULL;
}

static void on_request(void *ctx, struct rig_http1_exchange *exchange,
                       const struct rig_http1_request *request)
{
    static const struct rig_route own = {
        .method = "GET", .path = "/status", .is_loopback_only = true};
    struct rig_host *host = ctx;
    const struct rig_route *route = rig_slice_is(request->path, own.path) ? &own : NULL;
    void *self = NULL;
    for (size_t i = 0; i < host->count && route == NULL; i++) {
        route = route_find(&host->plugins[i], request->path);
        self = host->plugins[i].self;
    }
    if (route == NULL)
        answer_text(exchange, 404, "404 page not found\n");
    else if (route->is_loopback_only && !request->is_loopback)
        answer_text(exchange, 403, "only requests from this machine are answered here\n");
    else if (route->method != NULL && !rig_slice_is(request->method, route->method))
        answer_text(exchange, 405, "method is not allowed here\n");
    else if (route == &own)
        answer_status(host, exchange);
    else
        route->handle(self, exchange, request);
}

int rig_host_serve(struct rig_host *host, const char *address, struct rig_fault *why)
{
    if (host->listener_count == HOST_LISTENERS_MAX)
        return rig_fault_set(why, RIG_E_TOO_LARGE, "%s: too many listeners", address);
    struct rig_http1_server_options options = {
        .address = address, .on_request = on_request, .ctx = host};
    int err =
        rig_http1_server_open(&host->loop, &options, &host->listeners[host->listener_count], why);
    if (err == 0)
        host->listener_count++;
    return err;
}

static void on_listener_closed(void *ctx)
{
    struct rig_host *host = ctx;
    if (--host->closing == 0)
        host->on_admin_closed(host);
}

void admin_close(struct rig_host *host, void (*on_closed)(struct rig_host *host))
{
    host->on_admin_closed = on_closed;
    host->closing = host->listener_count;
    if (host->closing == 0) {
        on_closed(host);
        return;
    }
    for (size_t i = 0; i < host->listener_count; i++)
        rig_http1_server_close(host->listeners[i], on_listener_closed, host);
    host->listener_count = 0;
}
