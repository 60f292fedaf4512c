/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/mesh/node.h: who a proxy says it is: node id, node.metadata, cluster name, locality,
 * and the downward API files that labels and annotations come from.
 *
 * Pure functions: the caller brings environment and files. The rules are Istio 1.21's. */
#pragma once

#include <stdint.h>

#include "core/arena.h"
#include "core/doc.h"
#include "core/fault.h"

/* Reads a downward API file, lines of key="value" with Go's quoting, into a map. Lines without
 * '=' are skipped; one bad quote refuses the whole file, as in Istio. `name` is the file's. */
int node_downward_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                       struct rig_doc **map, struct rig_fault *why);

/* TYPE~IP~POD.NAMESPACE~DOMAIN */
char *node_id(struct rig_arena *arena, const char *type, const char *ip, const char *pod,
              const char *namespace, const char *domain);

struct node_request {
    const char *const *environment;     /* NAME=value, NULL-terminated: ISTIO_META* are read */
    const struct rig_doc *proxy_config; /* effective */
    const struct rig_doc *labels;       /* of the downward file; NULL when there is none */
    const struct rig_doc *annotations;  /* the same */
    const char *const *ip_addresses;    /* NULL-terminated; repeats are dropped */
    const char *pod_name;               /* "" or NULL when unknown, as the next three */
    const char *pod_namespace;
    const char *service_account;
    const char *outlier_log_path;
    const char *istio_version;       /* unless ISTIO_META_ISTIO_VERSION says otherwise */
    const struct rig_doc *pilot_san; /* list of names the control plane may carry, or NULL */
    uint16_t envoy_status_port;
    uint16_t envoy_prometheus_port;
    uint32_t sts_port; /* 0: none */
};

struct node_description {
    struct rig_doc *metadata; /* node.metadata */
    struct rig_doc *locality; /* region, zone, sub_zone; absent ones omitted */
    struct rig_doc *warnings; /* list of sentences */
    const char *cluster;      /* node.cluster */
};

/* Everything in `node` lives in `arena`. Fails when a variable does not have the type that
 * the control plane expects of its key (ISTIO_META_DNS_CAPTURE=maybe). */
int node_describe(const struct node_request *request, struct rig_arena *arena,
                  struct node_description *node, struct rig_fault *why);

/* node.cluster by serviceCluster or tracingServiceName of `proxy_config`, and LABELS, NAMESPACE
 * and WORKLOAD_NAME of `metadata`. */
const char *node_cluster(const struct rig_doc *proxy_config, const struct rig_doc *metadata,
                         struct rig_arena *arena);
