/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/upstream.c: one pair's connection to the control plane.
 *
 * Root file and token are read for each attempt, since kubelet replaces both under a running
 * agent. There is no client certificate and no retry here: Envoy retries (xds_proxy.c paces). */
#include "upstream.h"

#include "core/alloc.h"
#include "core/grpc.h"
#include "core/log.h"
#include "core/secret.h"
#include "core/tls.h"

#include "relay.h"
#include "xds_proxy.h"

#define ADS "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

/* TCP_USER_TIMEOUT as gRPC clients set it: what is not acknowledged for so long is lost. */
#define USER_TIMEOUT_MS 10000

static const struct workload_peer *peer(const struct relay *relay)
{
    return &relay->proxy->workload->discovery;
}

/* ---- the request's headers ---- */

static void add_header(struct rig_h2_header *headers, size_t *count, struct rig_slice name,
                       struct rig_slice value)
{
    headers[(*count)++] = (struct rig_h2_header){.name = name, .value = value};
}

/* "Bearer <token>"; empty, with a warning, when there is no token: the control plane decides. */
static void read_bearer(struct relay *relay, struct rig_secret *bearer)
{
    const struct rig_provider *provider = &relay->proxy->workload_provider;
    const struct workload_v1 *workload = provider->functions;
    struct rig_secret token = {0};
    struct rig_fault why = {0};
    if (workload->token(provider->self, &token, &why) < 0) {
        rig_log_warn(XDS_LOG, "no token for the control plane: %s", why.text);
        return;
    }
    struct rig_slice word = RIG_SLICE("Bearer ");
    size_t len = word.len + token.len;
    /* The room first, then the token straight into it: it is never in ordinary memory. */
    uint8_t *blank = rig_alloc(len);
    rig_secret_set(bearer, rig_slice(blank, len));
    rig_free(blank);
    memcpy(bearer->at, word.at, word.len);
    memcpy(bearer->at + word.len, token.at, token.len);
    rig_secret_deinit(&token);
}

static struct rig_grpc_call *start_call(struct relay *relay, const struct rig_grpc_handler *handler)
{
    const struct workload *workload = relay->proxy->workload;
    const struct rig_doc *extra = workload->xds_headers;
    size_t extra_count = extra != NULL ? extra->count : 0;
    struct rig_h2_header *headers = rig_alloc((extra_count + 2) * sizeof(*headers));
    size_t count = 0;
    struct rig_secret bearer = {0};
    read_bearer(relay, &bearer);
    if (bearer.len > 0) {
        add_header(headers, &count, RIG_SLICE("authorization"), rig_secret_slice(&bearer));
        headers[0].is_secret = true;
    }
    /* Sent even when empty, as Istio's agent does; exactly once, or istiod takes it for none. */
    add_header(headers, &count, RIG_SLICE("clusterid"), rig_slice_text(workload->cluster_id));
    for (size_t i = 0; i < extra_count; i++)
        add_header(headers, &count, extra->members[i].key, extra->members[i].value->text);

    const struct rig_grpc_request request = {
        .path = relay->is_delta ? ADS "DeltaAggregatedResources" : ADS "StreamAggregatedResources",
        .authority = peer(relay)->is_plaintext ? peer(relay)->address : peer(relay)->server_name,
        .is_tls = !peer(relay)->is_plaintext,
        .metadata = headers,
        .metadata_count = count,
    };
    struct rig_grpc_call *call = rig_grpc_call_start(relay->up.channel, &request, handler, relay);
    rig_secret_deinit(&bearer);
    rig_free(headers);
    return call;
}

/* ---- the stream ---- */

static void on_begin(void *ctx, uint32_t length)
{
    relay_response_begin(ctx, length);
}

static void on_bytes(void *ctx, struct rig_slice bytes)
{
    relay_response_bytes(ctx, bytes);
}

static void on_end(void *ctx)
{
    relay_response_end(ctx);
}

static void on_call_close(void *ctx, const struct rig_grpc_status *status)
{
    struct relay *relay = ctx;
    relay->up.call = NULL;
    if (!relay->up.is_closing)
        relay_upstream_ended(relay, status);
}

static const struct rig_grpc_handler handler = {
    .on_begin = on_begin,
    .on_bytes = on_bytes,
    .on_end = on_end,
    .on_close = on_call_close,
};

/* ---- the connection ---- */

static void on_ready(void *ctx)
{
    struct relay *relay = ctx;
    if (relay->up.is_closing)
        return;
    relay->up.call = start_call(relay, &handler);
    if (relay->up.call != NULL)
        relay_upstream_ready(relay);
    else
        relay_upstream_failed(relay, "SETTINGS", "it takes no streams",
                              "connection error: desc = \"transport is closing\"");
}

static void on_goaway(void *ctx, uint32_t code, struct rig_slice debug)
{
    struct relay *relay = ctx;
    if (!relay->up.is_closing)
        relay_upstream_goaway(relay, code, debug);
}

/* What the stages are called, and how gRPC's Go client, hence Istio's agent, words them. */
static const struct {
    const char *name;
    const char *words;
} stages[] = {
    [RIG_DIAL_RESOLVE] = {"DNS", "transport: Error while dialing: "},
    [RIG_DIAL_CONNECT] = {"connect", "transport: Error while dialing: "},
    [RIG_DIAL_TLS] = {"TLS", "transport: authentication handshake failed: "},
    [RIG_DIAL_DONE] = {"SETTINGS", "error reading server preface: "},
};

static void on_channel_closed(void *ctx, const struct rig_grpc_status *status)
{
    struct relay *relay = ctx;
    relay->up.channel = NULL;
    /* A channel that was up has told its stream; there are no streams before that. */
    if (!relay->up.is_closing) {
        struct rig_buf message = {0};
        rig_buf_printf(&message, "connection error: desc = \"%s%s\"", stages[status->stage].words,
                       status->message);
        relay_upstream_failed(relay, stages[status->stage].name, status->message,
                              rig_buf_text(&message));
        rig_buf_deinit(&message);
    }
    relay_upstream_gone(relay);
}

static const struct rig_grpc_channel_events events = {
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_closed = on_channel_closed,
};

/* The trust anchors as the file has them now; the last good ones when it has none, since a file
 * that is being replaced must not take the control plane away. */
static int read_trust(struct relay *relay, struct rig_fault *why)
{
    struct xds_proxy *proxy = relay->proxy;
    const struct rig_tls_client_options options = {.root_path = peer(relay)->root_path,
                                                   .alpn = "h2"};
    struct rig_tls *trust = NULL;
    int err = rig_tls_client_new(&options, &trust, why);
    if (err < 0 && proxy->trust != NULL) {
        rig_log_warn(XDS_LOG, "going on with the root certificates read before: %s", why->text);
        return 0;
    }
    if (err < 0)
        return err;
    rig_tls_free(proxy->trust);
    proxy->trust = trust;
    return 0;
}

int upstream_open(struct relay *relay, struct rig_fault *why)
{
    const struct xds_proxy_config *config = relay->proxy->config;
    if (!peer(relay)->is_plaintext) {
        int err = read_trust(relay, why);
        if (err < 0)
            return err;
    }
    const struct rig_grpc_channel_options options = {
        .dial = {.address = peer(relay)->address,
                 .tls = peer(relay)->is_plaintext ? NULL : relay->proxy->trust,
                 .server_name = peer(relay)->server_name,
                 .timeout_ms = (uint32_t)config->connect_timeout_ms,
                 .user_timeout_ms = USER_TIMEOUT_MS},
        .h2 = {.stream_window_bytes = (uint32_t)config->stream_window_bytes,
               .connection_window_bytes = (uint32_t)config->connection_window_bytes,
               .keepalive_ms = (uint32_t)relay->proxy->keepalive_ms,
               .keepalive_timeout_ms = (uint32_t)config->keepalive_timeout_ms},
    };
    return rig_grpc_channel_open(relay->proxy->loop, &options, &events, relay, &relay->up.channel,
                                 why);
}

void upstream_close(struct relay *relay)
{
    if (relay->up.is_closing)
        return;
    relay->up.is_closing = true;
    if (relay->up.channel != NULL)
        rig_grpc_channel_close(relay->up.channel);
}
