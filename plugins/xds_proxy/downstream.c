/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/downstream.c: Envoy's streams on the Unix socket.
 *
 * Both variants of ADS are served at any time: which one Envoy uses stands in its bootstrap, and
 * a newer Envoy in the same pod may use the other. */
#include "downstream.h"

#include "core/buf.h"
#include "core/grpc.h"

#include "relay.h"
#include "xds_proxy.h"

#define ADS "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

/* Every process of the pod may be Envoy, under whatever user it runs; Istio's mode. */
#define SOCKET_MODE 0666

/* Envoy has one stream on one connection. Whoever else may open the socket must not take all
 * descriptors, nor memory: a stream that is not read keeps a window of responses. */
#define CONNECTIONS_MAX 32
#define STREAMS_MAX     16
#define IDLE_MS         60000

static void on_sotw_call(void *ctx, struct rig_grpc_call *call)
{
    relay_open(ctx, call, false);
}

static void on_delta_call(void *ctx, struct rig_grpc_call *call)
{
    relay_open(ctx, call, true);
}

static const struct rig_grpc_method methods[] = {
    {.path = ADS "StreamAggregatedResources", .on_call = on_sotw_call},
    {.path = ADS "DeltaAggregatedResources", .on_call = on_delta_call},
    {0},
};

int downstream_listen(struct xds_proxy *proxy, const char *path, struct rig_fault *why)
{
    struct rig_buf address = {0};
    rig_buf_printf(&address, "unix:%s", path);
    const struct rig_grpc_server_options options = {
        .address = rig_buf_text(&address),
        .socket_mode = SOCKET_MODE,
        .methods = methods,
        .ctx = proxy,
        .max_connections = CONNECTIONS_MAX,
        .h2 = {.max_streams = STREAMS_MAX,
               .idle_timeout_ms = IDLE_MS,
               .keepalive_ms = (uint32_t)proxy->config->keepalive_ms,
               .keepalive_timeout_ms = (uint32_t)proxy->config->keepalive_timeout_ms},
    };
    int err = rig_grpc_server_open(proxy->loop, &options, &proxy->server, why);
    rig_buf_deinit(&address);
    return err;
}
