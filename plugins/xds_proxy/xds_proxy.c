/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/xds_proxy.c: plugin table, options, lifecycle.
 *
 * Stands between Envoy and the control plane on ADS and adds what Envoy lacks: the token, the
 * root certificate, and an answer while the control plane is away. */
#include "xds_proxy.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/grpc.h"
#include "core/log.h"
#include "core/tls.h"

#include "downstream.h"
#include "relay.h"

/* Between attempts that end before the control plane has said anything. Envoy waits longer than
 * this as a rule; it bounds one that does not. */
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS   5000

static const struct rig_option options[] = {
    RIG_OPT_IN(DURATION_MS, struct xds_proxy_config, connect_timeout_ms, "connectTimeout", "10s",
               10, 600000, NULL, NULL,
               "From the first look-up of the control plane's name to its SETTINGS frame"),
    RIG_OPT_IN(DURATION_MS, struct xds_proxy_config, keepalive_ms, "keepaliveInterval", "30s", 1000,
               KEEPALIVE_MOST_MS, "GRPC_KEEPALIVE_INTERVAL", NULL,
               "A peer that was silent for so long gets a PING"),
    RIG_OPT_IN(DURATION_MS, struct xds_proxy_config, keepalive_timeout_ms, "keepaliveTimeout",
               "10s", 100, 86400000, "GRPC_KEEPALIVE_TIMEOUT", NULL,
               "and is taken for dead when it stays silent for so long"),
    RIG_OPT_IN(UINT, struct xds_proxy_config, stream_window_bytes, "streamWindowBytes", "262144",
               65535, 2147483647, NULL, NULL,
               "Octets the control plane may send ahead of Envoy on a stream"),
    RIG_OPT_IN(UINT, struct xds_proxy_config, connection_window_bytes, "connectionWindowBytes",
               "524288", 65535, 2147483647, NULL, NULL, "and on a connection"),
    RIG_OPT_IN(UINT, struct xds_proxy_config, hold_max_bytes, "holdMaxBytes", "16777216", 16384,
               4294967295, NULL, NULL,
               "Octets of a response that are kept while its type is not known"),
    RIG_OPT_IN(UINT, struct xds_proxy_config, request_max_bytes, "requestMaxBytes", "4194304", 1024,
               2147483647, "ISTIO_GPRC_MAXRECVMSGSIZE", NULL, "Largest request taken from Envoy"),
    RIG_OPT_IN(UINT, struct xds_proxy_config, request_queue_max_bytes, "requestQueueMaxBytes",
               "67108864", 65536, 4294967295, NULL, NULL,
               "Octets of requests kept while the control plane does not read"),
    {0},
};

static int xds_proxy_init(struct rig_host *host, const void *config, void **self,
                          struct rig_fault *why)
{
    struct rig_provider provider;
    int err = rig_service_provider(host, WORKLOAD_SERVICE, 0, &provider);
    if (err < 0)
        return rig_fault_set(why, err, "no plugin offers the service %s", WORKLOAD_SERVICE);
    const struct workload_v1 *workload = provider.functions;
    struct xds_proxy *proxy = rig_new(struct xds_proxy);
    proxy->host = host;
    proxy->loop = rig_host_loop(host);
    proxy->config = config;
    proxy->workload_provider = provider;
    proxy->workload = workload->get(provider.self);
    proxy->keepalive_ms = proxy->config->keepalive_ms;
    rig_backoff_init(&proxy->backoff, RETRY_FIRST_MS, RETRY_MAX_MS);
    *self = proxy;
    return 0;
}

static int xds_proxy_start(void *self, struct rig_fault *why)
{
    struct xds_proxy *proxy = self;
    int err = downstream_listen(proxy, proxy->workload->xds_socket, why);
    if (err < 0)
        return err;
    rig_host_mark(proxy->host, "xds socket served");
    rig_log_info(XDS_LOG, "Initializing with upstream address \"%s\" and cluster \"%s\"",
                 proxy->workload->discovery.address, proxy->workload->cluster_id);
    return 0;
}

void xds_proxy_check_stopped(struct xds_proxy *proxy)
{
    if (proxy->stopped != NULL && proxy->server == NULL && proxy->relays == NULL)
        proxy->stopped(proxy->host);
}

static void on_server_closed(void *ctx)
{
    struct xds_proxy *proxy = ctx;
    proxy->server = NULL;
    xds_proxy_check_stopped(proxy);
}

/* There is no drain: while Envoy drains its connections it still wants its configuration. */
static void xds_proxy_stop(void *self, rig_stopped_cb stopped)
{
    struct xds_proxy *proxy = self;
    proxy->stopped = stopped;
    if (proxy->current != NULL)
        relay_close(proxy->current, RIG_GRPC_UNAVAILABLE, "agent is shutting down");
    rig_grpc_server_close(proxy->server, on_server_closed, proxy);
}

static void xds_proxy_free(void *self)
{
    struct xds_proxy *proxy = self;
    status_deinit(&proxy->status);
    rig_tls_free(proxy->trust);
    rig_free(proxy);
}

/* ---- what others are told ---- */

static bool service_is_connected(void *self)
{
    const struct xds_proxy *proxy = self;
    return proxy->current != NULL && proxy->current->state == RELAY_OPEN;
}

static const char *service_last_failure(void *self)
{
    struct xds_proxy *proxy = self;
    return status_last_failure(&proxy->status);
}

static bool service_type(void *self, size_t index, struct xds_type_status *out)
{
    struct xds_proxy *proxy = self;
    return status_type(&proxy->status, index, out);
}

static const struct xds_status_v1 service = {
    .is_connected = service_is_connected,
    .last_failure = service_last_failure,
    .type = service_type,
};

static struct rig_doc *type_doc(struct rig_arena *arena, const struct xds_type_status *type)
{
    struct rig_doc *out = rig_doc_map(arena);
    rig_doc_set(arena, out, "typeUrl", rig_doc_text(arena, type->type_url));
    rig_doc_set(arena, out, "version", rig_doc_text(arena, type->version));
    rig_doc_set(arena, out, "nonce", rig_doc_text(arena, type->nonce));
    if (type->pushes > 0)
        rig_doc_set(arena, out, "ageMs",
                    rig_doc_int(arena, (int64_t)(rig_clock_ms() - type->received_ms)));
    rig_doc_set(arena, out, "bytes", rig_doc_int(arena, (int64_t)type->bytes));
    rig_doc_set(arena, out, "resources", rig_doc_int(arena, (int64_t)type->resources));
    rig_doc_set(arena, out, "pushes", rig_doc_int(arena, (int64_t)type->pushes));
    rig_doc_set(arena, out, "acks", rig_doc_int(arena, (int64_t)type->acks));
    rig_doc_set(arena, out, "nacks", rig_doc_int(arena, (int64_t)type->nacks));
    if (type->nacks > 0)
        rig_doc_set(arena, out, "lastNack", rig_doc_text(arena, type->last_nack));
    return out;
}

static void xds_proxy_status(void *self, struct rig_arena *arena, struct rig_doc *out)
{
    struct xds_proxy *proxy = self;
    rig_doc_set(arena, out, "connected", rig_doc_bool(arena, service_is_connected(self)));
    rig_doc_set(arena, out, "address", rig_doc_text(arena, proxy->workload->discovery.address));
    rig_doc_set(arena, out, "lastFailure", rig_doc_text(arena, service_last_failure(self)));
    struct rig_doc *types = rig_doc_list(arena);
    struct xds_type_status type;
    for (size_t i = 0; status_type(&proxy->status, i, &type); i++)
        rig_doc_push(arena, types, type_doc(arena, &type));
    rig_doc_set(arena, out, "types", types);
}

static const struct rig_offer offers[] = {
    {XDS_STATUS_SERVICE, XDS_STATUS_VERSION, &service},
    {0},
};

static const struct rig_need needs[] = {
    {WORKLOAD_SERVICE, WORKLOAD_VERSION, RIG_NEED_ONE},
    {0},
};

RIG_EXPORT const struct rig_plugin xds_proxy_plugin = {
    .abi = RIG_PLUGIN_ABI,
    .size = sizeof(struct rig_plugin),
    .name = "xds_proxy",
    .about = "Relays Envoy's configuration from the control plane, message by message as it comes.",
    .version = RIG_VERSION,
    .config_size = sizeof(struct xds_proxy_config),
    .options = options,
    .offers = offers,
    .needs = needs,
    .init = xds_proxy_init,
    .start = xds_proxy_start,
    .stop = xds_proxy_stop,
    .free = xds_proxy_free,
    .status = xds_proxy_status,
};
