/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/mesh/proxy_config.h: a ProxyConfig document, its defaults and the overlays on it.
 *
 * The document stays proto-JSON from end to end: the whole of it is told to the control plane,
 * so a field that we do not know must come out as it went in. What the agent itself acts upon
 * is read out of it into struct proxy_settings. Pure functions; no file, no environment. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/doc.h"
#include "core/fault.h"

struct proxy_config {
    struct rig_arena *arena;
    struct rig_doc *fields;  /* effective; proto-JSON names (camelCase) */
    struct rig_doc *origins; /* field -> where its value came from: "PROXY_CONFIG:3" */
};

/* Istio 1.21's built-in values. Keeps `arena`. */
void proxy_config_init(struct proxy_config *config, struct rig_arena *arena);

/* Puts `overlay` (NULL or a null node: nothing) over what is there. A field replaces the whole
 * field; null leaves it; proxyMetadata is united; five members of proxyHeaders are kept.
 * snake_case names become camelCase. `source` names the text in faults. */
int proxy_config_overlay(struct proxy_config *config, const struct rig_doc *overlay,
                         const char *source, struct rig_fault *why);

/* Sets one field, as a flag or an annotation does. */
void proxy_config_set(struct proxy_config *config, const char *field, struct rig_doc *value,
                      const char *source);

/* A list of sentences: fields that nobody knows, and known ones that this agent does not act
 * upon (they still reach the control plane). */
struct rig_doc *proxy_config_warnings(const struct proxy_config *config);

struct proxy_settings {
    const char *config_path;
    const char *binary_path;
    const char *discovery_address;
    const char *service_cluster;    /* "" when it is to be derived */
    const char *statsd_udp_address; /* "" for none */
    uint32_t drain_s;
    uint64_t termination_drain_ms;
    uint16_t admin_port;
    uint16_t status_port; /* 0: no status server */
    bool has_concurrency;
    uint32_t concurrency;
    bool is_plaintext; /* controlPlaneAuthPolicy NONE */
};

/* Reads and checks what the agent acts upon. Strings are borrowed from `fields`. A fault names
 * the origin of the value and its field; `origins` may be NULL. */
int proxy_settings_read(const struct rig_doc *fields, const struct rig_doc *origins,
                        struct proxy_settings *settings, struct rig_fault *why);

/* "45s", "0.500s" (proto-JSON: seconds, at most nine decimals) -> milliseconds, rounded up;
 * RIG_E_SYNTAX. */
int proxy_duration_parse(struct rig_slice text, uint64_t *ms);
