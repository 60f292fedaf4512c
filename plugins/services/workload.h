/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/services/workload.h: who this pod is and whom it trusts; offered by `pod`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/doc.h"
#include "core/fault.h"
#include "core/secret.h"

#define WORKLOAD_SERVICE "workload"
#define WORKLOAD_VERSION 1u

/* A control plane end point and how it is verified. */
struct workload_peer {
    const char *address;     /* "istiod.istio-system.svc:15012" */
    const char *server_name; /* the name its certificate must carry, and :authority with TLS */
    const char *root_path;   /* PEM file of trust anchors; NULL: the system's */
    bool is_plaintext;
};

struct workload {
    const char *node_type;       /* "sidecar" */
    const char *node_id;         /* sidecar~IP~POD.NS~DOMAIN */
    const char *cluster;         /* node.cluster, "app.ns" */
    const char *pod_name;
    const char *pod_namespace;
    const char *service_account;
    const char *trust_domain;
    const char *spiffe_id;       /* spiffe://TD/ns/NS/sa/SA */
    const char *cluster_id;      /* ISTIO_META_CLUSTER_ID, "" when unset; sent as clusterid */
    const char *const *ip_addresses; /* INSTANCE_IP first; NULL-terminated */
    const char *xds_socket; /* Unix socket paths where Envoy asks: its bootstrap names them, */
    const char *sds_socket; /* and who serves there binds them */
    struct workload_peer discovery;
    struct workload_peer ca;
    const struct rig_doc *proxy_config; /* effective ProxyConfig, proto-JSON camelCase, whole */
    const struct rig_doc *metadata;     /* node.metadata, as Envoy gets it */
    const struct rig_doc *locality;     /* region, zone, sub_zone; absent keys omitted */
    const struct rig_doc *xds_headers;  /* map: lower-case name -> value, from XDS_HEADER_* */
};

struct workload_v1 {
    /* Complete and constant once pod's init has succeeded. Borrowed. */
    const struct workload *(*get)(void *self);
    /* Reads the token file now. RIG_E_ABSENT when there is none or it is empty (the caller goes
     * on without). The caller wipes `token`. */
    int (*token)(void *self, struct rig_secret *token, struct rig_fault *why);
};
