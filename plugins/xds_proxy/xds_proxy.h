/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/xds_proxy.h: what the pairs of one proxy share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/backoff.h"
#include "core/plugin.h"
#include "plugins/services/workload.h"

#include "status.h"

#define XDS_LOG "xdsproxy" /* Istio's name of this log scope */

#define KEEPALIVE_MOST_MS 86400000

struct relay;
struct rig_grpc_server;
struct rig_tls;

struct xds_proxy_config {
    uint64_t connect_timeout_ms;
    uint64_t keepalive_ms;
    uint64_t keepalive_timeout_ms;
    uint64_t stream_window_bytes;
    uint64_t connection_window_bytes;
    uint64_t hold_max_bytes;
    uint64_t request_max_bytes;
    uint64_t request_queue_max_bytes;
};

struct xds_proxy {
    struct rig_host *host;
    uv_loop_t *loop;
    const struct xds_proxy_config *config;
    struct rig_provider workload_provider;
    const struct workload *workload;

    struct rig_grpc_server *server;
    struct relay *relays;  /* all that are not gone yet */
    struct relay *current; /* the pair that lives; NULL: none */
    uint64_t relay_count;  /* ever; numbers them in the log */

    struct rig_tls *trust; /* of the newest root file that was good */
    uint64_t keepalive_ms; /* towards the control plane: the option's, or more when it objected */
    struct rig_backoff backoff;
    uint64_t retry_ms; /* no attempt before this clock time */

    struct status status;
    rig_stopped_cb stopped; /* set by stop */
};

/* A pair, or the server, is gone: reports `stopped` when it was the last. */
void xds_proxy_check_stopped(struct xds_proxy *proxy);
