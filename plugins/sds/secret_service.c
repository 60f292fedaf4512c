/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/secret_service.c: streams, the names they share, and when each is answered.
 *
 * A stream owes an answer for the subscriptions that are due. It is given in one message as soon
 * as all of them can be, and not before the previous message has left: so a proxy that does not
 * read costs one message, and pushes that pile up become one. */
#include "secret_service.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/grpc.h"
#include "core/log.h"
#include "plugins/services/secret_source.h"

#include "names.h"
#include "request.h"
#include "response.h"
#include "subscription.h"

#define SCOPE         "sds"
#define SERVICE       "/envoy.service.secret.v3.SecretDiscoveryService/"
#define REQUEST_MAX   (4u << 20) /* grpc-go's limit, which Istio's server has on this socket */
#define QUOTED_MAX    200        /* octets of a peer's text in ours */
#define VERSION_BYTES (RIG_CLOCK_TEXT_BYTES + 24)

/* Envoy has one connection with a stream for each secret. Istio takes 100000 streams on any number
 * of connections, but whoever may open the socket must not take all memory and descriptors. */
#define CONNECTIONS_MAX 64
#define STREAMS_MAX     256
#define IDLE_MS         60000

struct sds_stream {
    struct sds_stream *next;
    struct secret_service *service;
    struct rig_grpc_call *call;
    struct subscriptions subscriptions;
    uint64_t deadline_ms; /* of a request that waits; 0: none does */
    bool has_node;        /* the first request has been seen */
    bool is_ended;        /* finished; on_close is on its way */
    bool is_nack_logged;  /* of the last answer */
};

struct secret_service {
    const struct secret_service_options *options;
    struct rig_grpc_server *server;
    struct sds_stream *streams;
    struct names names;
    uv_timer_t timer; /* the next deadline of a waiting request */
    uint32_t nonce_prefix;
    uint64_t answers; /* of this process; also version and nonce */
    uint64_t pushes, nacks, requests, refused;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    unsigned open_handles;
};

static void stream_answer(struct sds_stream *stream);

/* ---- names ---- */

static bool stream_wants(const struct sds_stream *stream, const char *name)
{
    return !stream->is_ended &&
           subscriptions_find(&stream->subscriptions, rig_slice_text(name)) != NULL;
}

static bool is_wanted(void *ctx, const char *name)
{
    const struct secret_service *service = ctx;
    const struct sds_stream *stream = service->streams;
    while (stream != NULL && !stream_wants(stream, name))
        stream = stream->next;
    return stream != NULL;
}

static void on_change(void *ctx, const struct served_name *name, uint64_t generation)
{
    struct secret_service *service = ctx;
    unsigned told = 0;
    for (struct sds_stream *stream = service->streams; stream != NULL; stream = stream->next) {
        if (!stream_wants(stream, name->name))
            continue;
        struct subscription *subscription =
            subscriptions_find(&stream->subscriptions, rig_slice_text(name->name));
        if (subscription->sent_generation == generation)
            continue;
        told += subscription->sent_generation != 0;
        subscription->is_due = true;
        stream_answer(stream);
    }
    service->pushes += told;
    if (told > 0)
        rig_log_info(SCOPE, "%s has changed: pushed to %u streams", name->name, told);
}

/* ---- waiting ---- */

static void on_timer(uv_timer_t *timer);

static void service_arm(struct secret_service *service)
{
    uint64_t first_ms = 0;
    for (struct sds_stream *stream = service->streams; stream != NULL; stream = stream->next) {
        if (stream->deadline_ms != 0 && (first_ms == 0 || stream->deadline_ms < first_ms))
            first_ms = stream->deadline_ms;
    }
    uint64_t now_ms = rig_clock_ms();
    if (first_ms == 0)
        uv_timer_stop(&service->timer);
    else
        uv_timer_start(&service->timer, on_timer, first_ms > now_ms ? first_ms - now_ms : 0, 0);
}

__attribute__((format(printf, 3, 4))) static void
stream_end(struct sds_stream *stream, enum rig_grpc_code code, const char *format, ...)
{
    char text[RIG_FAULT_BYTES + QUOTED_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    rig_log_debug(SCOPE, "stream ends with status %d: %s", code, text);
    stream->is_ended = true;
    stream->deadline_ms = 0;
    stream->service->refused += code != RIG_GRPC_OK;
    rig_grpc_call_finish(stream->call, code, text[0] != '\0' ? text : NULL);
}

static void stream_end_for(struct sds_stream *stream, const struct subscription *subscription,
                           const struct rig_fault *why)
{
    stream_end(stream, RIG_GRPC_UNAVAILABLE, "failed to generate secret for %.*s: %s", QUOTED_MAX,
               subscription->name, why->text);
}

static int subscription_current(const struct sds_stream *stream,
                                const struct subscription *subscription, struct secret *secret,
                                struct rig_fault *why)
{
    return names_current(names_find(&stream->service->names, subscription_name(subscription)),
                         secret, why);
}

static void stream_give_up(struct sds_stream *stream)
{
    struct subscription *each = stream->subscriptions.first;
    struct rig_fault why = {0};
    struct secret secret;
    for (; each != NULL; each = each->next) {
        if (each->is_due && subscription_current(stream, each, &secret, &why) < 0) {
            stream_end_for(stream, each, &why);
            return;
        }
    }
    stream->deadline_ms = 0;
    stream_answer(stream); /* it has just become available */
}

static void on_timer(uv_timer_t *timer)
{
    struct secret_service *service = timer->data;
    uint64_t now_ms = rig_clock_ms();
    for (struct sds_stream *stream = service->streams; stream != NULL; stream = stream->next) {
        if (stream->deadline_ms != 0 && stream->deadline_ms <= now_ms)
            stream_give_up(stream);
    }
    service_arm(service);
}

/* ---- answers ---- */

static void stream_send(struct sds_stream *stream, const struct sds_resource *resources,
                        size_t count)
{
    struct secret_service *service = stream->service;
    char version[VERSION_BYTES];
    char now[RIG_CLOCK_TEXT_BYTES];
    struct rig_buf message = {.is_secret = true};
    service->answers++;
    rig_clock_text(rig_clock_wall_s(), now);
    snprintf(version, sizeof(version), "%s/%" PRIu64, now, service->answers);
    snprintf(stream->subscriptions.nonce, sizeof(stream->subscriptions.nonce), "%08x-%" PRIx64,
             service->nonce_prefix, service->answers);
    sds_response_pack(resources, count, version, stream->subscriptions.nonce, &message);
    stream->is_nack_logged = false;
    rig_grpc_call_send(stream->call, rig_buf_slice(&message));
    rig_buf_deinit(&message);
    if (service->answers == 1)
        service->options->on_first_delivery(service->options->ctx);
}

/* Collects what is due: the number of resources, RIG_E_PENDING, or an error with its name. */
static int due_collect(struct sds_stream *stream, struct sds_resource *resources,
                       struct subscription **failed, struct rig_fault *why)
{
    int count = 0;
    int result = 0;
    for (struct subscription *each = stream->subscriptions.first; each; each = each->next) {
        if (!each->is_due)
            continue;
        struct sds_resource *resource = &resources[count++];
        resource->name = each->name;
        int err = subscription_current(stream, each, &resource->secret, why);
        if (err == RIG_E_PENDING) {
            result = err;
        } else if (err < 0) {
            *failed = each;
            return err;
        }
    }
    return result < 0 ? result : count;
}

static void due_clear(struct sds_stream *stream, const struct sds_resource *resources)
{
    size_t i = 0;
    for (struct subscription *each = stream->subscriptions.first; each; each = each->next) {
        if (!each->is_due)
            continue;
        each->is_due = false;
        each->sent_generation = resources[i++].secret.generation;
    }
}

static size_t due_count(const struct sds_stream *stream)
{
    size_t count = 0;
    for (struct subscription *each = stream->subscriptions.first; each; each = each->next)
        count += each->is_due;
    return count;
}

static void stream_answer(struct sds_stream *stream)
{
    size_t due = due_count(stream);
    if (stream->is_ended || due == 0 || rig_grpc_call_queued(stream->call) > 0)
        return;
    struct sds_resource *resources = rig_alloc(due * sizeof(*resources));
    struct subscription *failed = NULL;
    struct rig_fault why = {0};
    int count = due_collect(stream, resources, &failed, &why);
    if (count > 0) {
        stream->deadline_ms = 0;
        due_clear(stream, resources);
        stream_send(stream, resources, (size_t)count);
    } else if (count == RIG_E_PENDING) {
        if (stream->deadline_ms == 0)
            stream->deadline_ms = rig_clock_ms() + stream->service->options->wait_ms;
        service_arm(stream->service);
    } else {
        stream_end_for(stream, failed, &why);
    }
    rig_free(resources);
}

/* ---- requests ---- */

static void stream_nack(struct sds_stream *stream, const struct sds_request *request)
{
    size_t cursor = 0;
    struct rig_slice name = {0};
    stream->service->nacks++;
    if (stream->is_nack_logged)
        return;
    stream->is_nack_logged = true;
    sds_request_name(request, &cursor, &name);
    size_t name_len = name.len < QUOTED_MAX ? name.len : QUOTED_MAX;
    size_t text_len =
        request->error_message.len < RIG_FAULT_BYTES ? request->error_message.len : RIG_FAULT_BYTES;
    rig_log_warn(SCOPE, "the proxy refused secret %.*s: code %d: %.*s", (int)name_len,
                 name_len > 0 ? (const char *)name.at : "", request->error_code, (int)text_len,
                 text_len > 0 ? (const char *)request->error_message.at : "");
}

/* Every name must have a source before the set changes. */
static bool names_check(struct sds_stream *stream, const struct sds_request *request)
{
    struct secret_service *service = stream->service;
    size_t cursor = 0;
    struct rig_slice name;
    while (sds_request_name(request, &cursor, &name)) {
        if (names_add(&service->names, name) == NULL) {
            stream_end(stream, RIG_GRPC_INVALID_ARGUMENT, "unknown secret name \"%.*s\"",
                       (int)(name.len < QUOTED_MAX ? name.len : QUOTED_MAX), (const char *)name.at);
            return false;
        }
    }
    return true;
}

static bool request_check(struct sds_stream *stream, const struct sds_request *request)
{
    if (!stream->has_node && !request->has_node_id) {
        stream_end(stream, RIG_GRPC_INVALID_ARGUMENT, "missing node information");
        return false;
    }
    stream->has_node = true;
    if (!rig_slice_is(request->type_url, SDS_TYPE_URL)) {
        size_t len = request->type_url.len < QUOTED_MAX ? request->type_url.len : QUOTED_MAX;
        stream_end(stream, RIG_GRPC_INVALID_ARGUMENT, "type \"%.*s\" is not served here", (int)len,
                   len > 0 ? (const char *)request->type_url.at : "");
        return false;
    }
    return true;
}

static void on_message(void *ctx, struct rig_slice message)
{
    struct sds_stream *stream = ctx;
    struct secret_service *service = stream->service;
    struct sds_request request;
    if (stream->is_ended)
        return;
    service->requests++;
    if (sds_request_read(message, &request) < 0) {
        stream_end(stream, RIG_GRPC_INTERNAL, "the request is no DiscoveryRequest");
        return;
    }
    if (!request_check(stream, &request))
        return;
    enum request_kind kind = subscriptions_judge(&stream->subscriptions, &request);
    if (kind == REQUEST_NACK) {
        stream_nack(stream, &request);
        return;
    }
    if (kind == REQUEST_STALE)
        return;
    if (kind != REQUEST_UNSUBSCRIBE && !names_check(stream, &request)) {
        names_sweep(&service->names);
        return;
    }
    subscriptions_apply(&stream->subscriptions, kind, &request);
    if (due_count(stream) == 0)
        stream->deadline_ms = 0; /* what it waited for is no longer wanted */
    names_sweep(&service->names);
    stream_answer(stream);
}

static void on_sent(void *ctx, size_t len)
{
    (void)len;
    stream_answer(ctx);
}

static void on_half_close(void *ctx)
{
    struct sds_stream *stream = ctx;
    if (!stream->is_ended)
        stream_end(stream, RIG_GRPC_OK, "%s", "");
}

static void on_stream_close(void *ctx, const struct rig_grpc_status *status)
{
    struct sds_stream *stream = ctx;
    struct secret_service *service = stream->service;
    struct sds_stream **at = &service->streams;
    (void)status;
    while (*at != stream)
        at = &(*at)->next;
    *at = stream->next;
    subscriptions_deinit(&stream->subscriptions);
    rig_free(stream);
    names_sweep(&service->names);
}

static const struct rig_grpc_handler stream_handler = {
    .on_message = on_message,
    .message_max_bytes = REQUEST_MAX,
    .on_half_close = on_half_close,
    .on_sent = on_sent,
    .on_close = on_stream_close,
};

static void on_stream_secrets(void *ctx, struct rig_grpc_call *call)
{
    struct secret_service *service = ctx;
    struct sds_stream *stream = rig_new(struct sds_stream);
    stream->service = service;
    stream->call = call;
    stream->next = service->streams;
    service->streams = stream;
    rig_grpc_call_accept(call, &stream_handler, stream);
}

/* Envoy asks by StreamSecrets alone; Istio's server answers the others with these texts. */
static void on_delta_secrets(void *ctx, struct rig_grpc_call *call)
{
    (void)ctx;
    rig_grpc_call_finish(call, RIG_GRPC_UNIMPLEMENTED, "DeltaSecrets not implemented");
}

static void on_fetch_secrets(void *ctx, struct rig_grpc_call *call)
{
    (void)ctx;
    rig_grpc_call_finish(call, RIG_GRPC_UNIMPLEMENTED, "FetchSecrets not implemented");
}

static const struct rig_grpc_method methods[] = {
    {SERVICE "StreamSecrets", on_stream_secrets},
    {SERVICE "DeltaSecrets", on_delta_secrets},
    {SERVICE "FetchSecrets", on_fetch_secrets},
    {0},
};

/* ---- open and close ---- */

int secret_service_open(const struct secret_service_options *options,
                        struct secret_service **service, struct rig_fault *why)
{
    struct secret_service *it = rig_new(struct secret_service);
    const struct rig_grpc_server_options server = {
        .address = options->address,
        .socket_mode = options->socket_mode,
        .methods = methods,
        .ctx = it,
        .max_connections = CONNECTIONS_MAX,
        .h2 = {.max_streams = STREAMS_MAX, .idle_timeout_ms = IDLE_MS, .is_secret = true},
    };
    it->options = options;
    it->names = (struct names){.sources = options->sources,
                               .source_count = options->source_count,
                               .is_wanted = is_wanted,
                               .on_change = on_change,
                               .ctx = it};
    int err = rig_grpc_server_open(options->loop, &server, &it->server, why);
    if (err < 0) {
        rig_free(it);
        return err;
    }
    uv_random(NULL, NULL, &it->nonce_prefix, sizeof(it->nonce_prefix), 0, NULL);
    uv_timer_init(options->loop, &it->timer);
    it->timer.data = it;
    it->open_handles = 2;
    *service = it;
    return 0;
}

static void handle_closed(struct secret_service *service)
{
    if (--service->open_handles > 0)
        return;
    void (*on_closed)(void *ctx) = service->on_closed;
    void *ctx = service->closed_ctx;
    rig_free(service); /* streams and names have gone with the server */
    on_closed(ctx);
}

static void on_server_closed(void *ctx)
{
    handle_closed(ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

void secret_service_close(struct secret_service *service, void (*on_closed)(void *ctx), void *ctx)
{
    service->on_closed = on_closed;
    service->closed_ctx = ctx;
    for (struct sds_stream *stream = service->streams; stream != NULL; stream = stream->next)
        stream->is_ended = true;
    uv_close((uv_handle_t *)&service->timer, on_timer_closed);
    rig_grpc_server_close(service->server, on_server_closed, service);
}

static struct rig_doc *name_status(const struct secret_service *service,
                                   const struct served_name *name, struct rig_arena *arena)
{
    struct rig_doc *doc = rig_doc_map(arena);
    struct secret secret;
    int64_t streams = 0;
    for (struct sds_stream *stream = service->streams; stream != NULL; stream = stream->next)
        streams += stream_wants(stream, name->name);
    int err = names_current(name, &secret, NULL);
    rig_doc_set(arena, doc, "name", rig_doc_text(arena, name->name));
    rig_doc_set(arena, doc, "source", rig_doc_text(arena, name->source->plugin));
    rig_doc_set(arena, doc, "streams", rig_doc_int(arena, streams));
    rig_doc_set(arena, doc, "isReady", rig_doc_bool(arena, err == 0));
    if (err == 0)
        rig_doc_set(arena, doc, "generation", rig_doc_int(arena, (int64_t)secret.generation));
    return doc;
}

void secret_service_status(const struct secret_service *service, struct rig_arena *arena,
                           struct rig_doc *out)
{
    int64_t streams = 0;
    for (struct sds_stream *stream = service->streams; stream != NULL; stream = stream->next)
        streams++;
    rig_doc_set(arena, out, "address",
                rig_doc_text(arena, rig_grpc_server_address(service->server)));
    rig_doc_set(arena, out, "streams", rig_doc_int(arena, streams));
    rig_doc_set(arena, out, "requests", rig_doc_int(arena, (int64_t)service->requests));
    rig_doc_set(arena, out, "answers", rig_doc_int(arena, (int64_t)service->answers));
    rig_doc_set(arena, out, "pushes", rig_doc_int(arena, (int64_t)service->pushes));
    rig_doc_set(arena, out, "nacks", rig_doc_int(arena, (int64_t)service->nacks));
    rig_doc_set(arena, out, "refused", rig_doc_int(arena, (int64_t)service->refused));
    struct rig_doc *names = rig_doc_list(arena);
    for (const struct served_name *name = service->names.first; name != NULL; name = name->next)
        rig_doc_push(arena, names, name_status(service, name, arena));
    rig_doc_set(arena, out, "names", names);
}
