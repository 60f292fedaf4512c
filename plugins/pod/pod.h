/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/pod/pod.h: what the files of this plugin share; private to them. */
#pragma once

#include <stdint.h>

#include "core/arena.h"
#include "core/doc.h"
#include "core/fault.h"
#include "plugins/mesh/proxy_config.h"
#include "plugins/services/workload.h"

/* Filled by core from the option table in pod.c. Strings are "" when unset. */
struct pod_config {
    const char *node_type;
    const char *domain;
    const char *mesh_file;
    const char *service_cluster;
    const char *proxy_config;
    const char *outlier_log_path;
    const char *pod_name;
    const char *pod_namespace;
    const char *service_account;
    const char *instance_ip;
    const char *cluster_id;
    const char *ca_address;
    const char *ca_root;
    const char *xds_root;
    const char *cert_provider;
    const char *istiod_san;
    const char *jwt_policy;
    const char *trust_domain;
    const char *xds_socket;
    const char *sds_socket;
    uint64_t concurrency;
    uint64_t cpu_limit;
    uint64_t sts_port;
    uint64_t envoy_status_port;
    uint64_t envoy_prometheus_port;
};

/* ---- effective.c: ProxyConfig from its sources ---- */

/* Defaults, the mesh file's defaultConfig, PROXY_CONFIG, annotations (may be NULL), flags; read
 * and checked. */
int effective_read(const struct pod_config *config, const struct rig_doc *annotations,
                   struct rig_arena *arena, struct proxy_config *effective,
                   struct proxy_settings *settings, struct rig_fault *why);

/* ---- peers.c: whom this pod talks to, and how they are verified ---- */

/* The name that the certificate of `address` must carry, before ISTIOD_SAN. */
int peers_server_name(const char *address, struct rig_arena *arena, const char **name,
                      struct rig_fault *why);
int peers_discovery(const struct pod_config *config, const struct proxy_settings *settings,
                    struct rig_arena *arena, struct workload_peer *peer, struct rig_fault *why);
int peers_ca(const struct pod_config *config, const struct proxy_settings *settings,
             struct rig_arena *arena, struct workload_peer *peer, struct rig_fault *why);

/* XDS_HEADER_<name>=<value> of the environment -> map of lower-case names. */
int peers_headers(const char *const *environment, struct rig_arena *arena, struct rig_doc **headers,
                  struct rig_fault *why);

/* ---- addresses.c ---- */

/* INSTANCE_IP (if it is an address), then those of the interfaces; never empty. */
const char *const *addresses_list(const char *instance_ip, struct rig_arena *arena);
