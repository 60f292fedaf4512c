/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/mesh/node.c: node id, cluster name, locality, and the assembly of node.metadata.
 *
 * Metadata is made in Istio's order: raw keys from proxyMetadata and ISTIO_META_*, then members
 * of ISTIO_METAJSON_*; those that have a type are converted; the agent's own values replace
 * them; last come the raw keys that are not there yet. The control plane decodes the result
 * into a struct with the types of the table below, so a wrong type is refused here. */
#include "node.h"

#include <string.h>

#include "core/config.h"
#include "core/json.h"

#define META_PREFIX      "ISTIO_META_"
#define META_JSON_PREFIX "ISTIO_METAJSON_"
#define LOCALITY_LABEL   "istio-locality"
#define DEFAULT_CLUSTER  "istio-proxy"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum key_kind {
    TEXT,
    BOOL_TEXT, /* "true"; left out when false */
    COUNT,
    TEXT_MAP,
    POD_PORTS, /* a JSON list inside a string */
};

struct typed_key {
    const char *name;
    enum key_kind kind;
};

/* Keys of BootstrapNodeMetadata that may come from the environment; what is not named here
 * passes through as it is. */
static const struct typed_key typed_keys[] = {
    {"ANNOTATIONS", TEXT_MAP},
    {"APP_CONTAINERS", TEXT},
    {"AUTO_REGISTER_GROUP", TEXT},
    {"BASE", TEXT},
    {"CLOUDRUN_ADDR", TEXT},
    {"CLUSTER_ID", TEXT},
    {"DNS_AUTO_ALLOCATE", BOOL_TEXT},
    {"DNS_CAPTURE", BOOL_TEXT},
    {"ENABLE_HBONE", BOOL_TEXT},
    {"ENVOY_PROMETHEUS_PORT", COUNT},
    {"ENVOY_STATUS_PORT", COUNT},
    {"EXIT_ON_ZERO_ACTIVE_CONNECTIONS", BOOL_TEXT},
    {"GENERATOR", TEXT},
    {"HTTP10", TEXT},
    {"HTTP_PROXY_PORT", TEXT},
    {"IDLE_TIMEOUT", TEXT},
    {"INBOUND_LISTENER_EXACT_BALANCE", BOOL_TEXT},
    {"INSTANCE_IPS", TEXT},
    {"INTERCEPTION_MODE", TEXT},
    {"ISTIO_PROXY_SHA", TEXT},
    {"ISTIO_REVISION", TEXT},
    {"ISTIO_VERSION", TEXT},
    {"LABELS", TEXT_MAP},
    {"MESH_ID", TEXT},
    {"METADATA_DISCOVERY", BOOL_TEXT},
    {"NAME", TEXT},
    {"NAMESPACE", TEXT},
    {"NETWORK", TEXT},
    {"NODE_NAME", TEXT},
    {"OUTBOUND_LISTENER_EXACT_BALANCE", BOOL_TEXT},
    {"OUTLIER_LOG_PATH", TEXT},
    {"OWNER", TEXT},
    {"PLATFORM_METADATA", TEXT_MAP},
    {"POD_PORTS", POD_PORTS},
    {"REQUESTED_NETWORK_VIEW", TEXT},
    {"SERVICE_ACCOUNT", TEXT},
    {"STATIC_LABELS", TEXT_MAP},
    {"STS_PORT", TEXT},
    {"TLS_CLIENT_CERT_CHAIN", TEXT},
    {"TLS_CLIENT_KEY", TEXT},
    {"TLS_CLIENT_ROOT_CERT", TEXT},
    {"TLS_SERVER_CERT_CHAIN", TEXT},
    {"TLS_SERVER_KEY", TEXT},
    {"TLS_SERVER_ROOT_CERT", TEXT},
    {"UNPRIVILEGED_POD", TEXT},
    {"WORKLOAD_ENTRY", TEXT},
    {"WORKLOAD_NAME", TEXT},
};

char *node_id(struct rig_arena *arena, const char *type, const char *ip, const char *pod,
              const char *namespace, const char *domain)
{
    return rig_arena_printf(arena, "%s~%s~%s.%s~%s", type, ip, pod, namespace, domain);
}

/* ---- raw keys ---- */

/* The steps of one description share this. */
struct assembly {
    const struct node_request *request;
    struct rig_arena *arena;
    struct rig_doc *raw;
    struct rig_doc *static_labels; /* of ISTIO_METAJSON_LABELS; NULL when there are none */
    struct rig_doc *metadata;
    struct rig_doc *warnings;
};

static void warn(struct assembly *in, const char *sentence)
{
    rig_doc_push(in->arena, in->warnings, rig_doc_text(in->arena, sentence));
}

static void raw_from_proxy_metadata(struct assembly *in)
{
    const struct rig_doc *map = rig_doc_get(in->request->proxy_config, "proxyMetadata");
    for (size_t i = 0; map != NULL && i < map->count; i++) {
        const char *key = (const char *)map->members[i].key.at;
        if (strncmp(key, META_PREFIX, strlen(META_PREFIX)) == 0)
            rig_doc_set(in->arena, in->raw, key + strlen(META_PREFIX), map->members[i].value);
    }
}

/* Every member becomes a top-level key; the variable's own name counts for nothing, except that
 * of the labels. */
static void raw_from_json(struct assembly *in, const char *name, const char *text)
{
    struct rig_doc *doc = NULL;
    struct rig_fault why = {.text = ""};
    int err = rig_json_read(rig_slice_text(text), name, in->arena, &doc, &why);
    if (err < 0 || doc->kind != RIG_DOC_MAP) {
        warn(in, err < 0 ? rig_arena_printf(in->arena, "%s; the variable is ignored", why.text)
                         : rig_arena_printf(in->arena,
                                            "%s: must be a JSON object; the variable is ignored",
                                            name));
        return;
    }
    for (size_t i = 0; i < doc->count; i++)
        rig_doc_set_slice(in->arena, in->raw, doc->members[i].key, doc->members[i].value);
    if (strcmp(name, META_JSON_PREFIX "LABELS") == 0 && doc->count > 0)
        in->static_labels = rig_doc_copy(in->arena, doc);
}

static void raw_from_environment(struct assembly *in, const char *prefix)
{
    const char *const *at = in->request->environment;
    for (; at != NULL && *at != NULL; at++) {
        const char *value = strchr(*at, '=');
        if (value == NULL || strncmp(*at, prefix, strlen(prefix)) != 0)
            continue;
        char *name = rig_arena_copy(in->arena, *at, (size_t)(value - *at));
        if (name == NULL)
            return;
        if (strcmp(prefix, META_JSON_PREFIX) == 0)
            raw_from_json(in, name, value + 1);
        else
            rig_doc_set(in->arena, in->raw, name + strlen(prefix),
                        rig_doc_text(in->arena, value + 1));
    }
}

/* ---- types ---- */

static int text_map_check(const struct rig_doc *value, const char *name, struct rig_fault *why)
{
    if (value->kind != RIG_DOC_MAP)
        return rig_fault_set(why, RIG_E_SYNTAX, "node metadata %s must be a map, not %s", name,
                             rig_doc_kind_text(value->kind));
    for (size_t i = 0; i < value->count; i++) {
        if (value->members[i].value->kind != RIG_DOC_STRING)
            return rig_fault_set(why, RIG_E_SYNTAX, "node metadata %s.%s must be a string", name,
                                 (const char *)value->members[i].key.at);
    }
    return 0;
}

static int bool_convert(const struct rig_doc *value, const char *name, bool *is_true,
                        struct rig_fault *why)
{
    *is_true = value->is_true;
    if (value->kind == RIG_DOC_BOOL)
        return 0;
    if (value->kind == RIG_DOC_STRING && rig_bool_parse((const char *)value->text.at, is_true) == 0)
        return 0;
    return rig_fault_set(why, RIG_E_SYNTAX,
                         "%s%s must be true or false; this would reach the control plane as node "
                         "metadata",
                         META_PREFIX, name);
}

/* The injector writes the list over several lines; Istio sends it re-encoded. */
static int pod_ports_convert(struct rig_arena *arena, const struct rig_doc *value,
                             struct rig_doc **out, struct rig_fault *why)
{
    struct rig_doc *list = NULL;
    int err = value->kind != RIG_DOC_STRING
                  ? RIG_E_SYNTAX
                  : rig_json_read(value->text, META_PREFIX "POD_PORTS", arena, &list, why);
    if (err < 0 || list->kind != RIG_DOC_LIST)
        return rig_fault_set(why, RIG_E_SYNTAX,
                             META_PREFIX "POD_PORTS must be a JSON list of ports in a string");
    if (list->count == 0)
        return 0;
    struct rig_buf text = {0};
    rig_json_write(list, RIG_JSON_COMPACT, &text);
    *out = rig_doc_string(arena, rig_buf_slice(&text));
    rig_buf_deinit(&text);
    return 0;
}

/* `out` stays NULL when the value is empty: such a key counts as not typed. */
static int typed_convert(struct rig_arena *arena, const struct typed_key *key,
                         struct rig_doc *value, struct rig_doc **out, struct rig_fault *why)
{
    bool is_true = false;
    int64_t number = 0;
    int err = 0;
    if (value->kind == RIG_DOC_NULL)
        return 0;
    switch (key->kind) {
    case TEXT:
        if (value->kind != RIG_DOC_STRING)
            return rig_fault_set(why, RIG_E_SYNTAX, "node metadata %s must be a string, not %s",
                                 key->name, rig_doc_kind_text(value->kind));
        *out = value->text.len > 0 ? value : NULL;
        return 0;
    case BOOL_TEXT:
        err = bool_convert(value, key->name, &is_true, why);
        if (err == 0 && is_true)
            *out = rig_doc_text(arena, "true");
        return err;
    case COUNT:
        if (rig_doc_int64(value, &number) < 0)
            return rig_fault_set(why, RIG_E_SYNTAX, "node metadata %s must be a whole number",
                                 key->name);
        *out = number != 0 ? value : NULL;
        return 0;
    case TEXT_MAP:
        err = text_map_check(value, key->name, why);
        if (err == 0 && value->count > 0)
            *out = value;
        return err;
    case POD_PORTS:
        return pod_ports_convert(arena, value, out, why);
    }
    return 0;
}

static int typed_from_raw(struct assembly *in, struct rig_fault *why)
{
    for (size_t i = 0; i < COUNT_OF(typed_keys); i++) {
        struct rig_doc *value = rig_doc_get(in->raw, typed_keys[i].name);
        struct rig_doc *typed = NULL;
        if (value == NULL)
            continue;
        int err = typed_convert(in->arena, &typed_keys[i], value, &typed, why);
        if (err < 0)
            return err;
        if (typed != NULL)
            rig_doc_set(in->arena, in->metadata, typed_keys[i].name, typed);
    }
    return 0;
}

/* ---- the agent's own values ---- */

static void set_text(struct assembly *in, const char *key, const char *text)
{
    if (text != NULL && text[0] != '\0')
        rig_doc_set(in->arena, in->metadata, key, rig_doc_text(in->arena, text));
}

static void set_count(struct assembly *in, const char *key, uint32_t count)
{
    if (count > 0)
        rig_doc_set(in->arena, in->metadata, key, rig_doc_int(in->arena, count));
}

static void set_ip_addresses(struct assembly *in)
{
    struct rig_buf text = {0};
    const char *const *all = in->request->ip_addresses;
    for (size_t i = 0; all != NULL && all[i] != NULL; i++) {
        size_t first = 0;
        while (strcmp(all[first], all[i]) != 0)
            first++;
        if (first == i)
            rig_buf_printf(&text, "%s%s", text.len > 0 ? "," : "", all[i]);
    }
    set_text(in, "INSTANCE_IPS", rig_buf_text(&text));
    rig_buf_deinit(&text);
}

static void set_own_values(struct assembly *in)
{
    const struct node_request *request = in->request;
    if (rig_doc_get(in->metadata, "ISTIO_VERSION") == NULL)
        set_text(in, "ISTIO_VERSION", request->istio_version);
    set_ip_addresses(in);
    set_text(in, "NAME", request->pod_name);
    set_text(in, "NAMESPACE", request->pod_namespace);
    set_text(in, "SERVICE_ACCOUNT", request->service_account);
    set_text(in, "OUTLIER_LOG_PATH", request->outlier_log_path);
    set_count(in, "ENVOY_STATUS_PORT", request->envoy_status_port);
    set_count(in, "ENVOY_PROMETHEUS_PORT", request->envoy_prometheus_port);
    if (request->sts_port > 0)
        set_text(in, "STS_PORT", rig_arena_printf(in->arena, "%u", request->sts_port));
    if (request->proxy_config != NULL)
        rig_doc_set(in->arena, in->metadata, "PROXY_CONFIG",
                    rig_doc_copy(in->arena, request->proxy_config));
    if (request->pilot_san != NULL && request->pilot_san->count > 0)
        rig_doc_set(in->arena, in->metadata, "PILOT_SAN",
                    rig_doc_copy(in->arena, request->pilot_san));
}

static void overlay(struct rig_arena *arena, struct rig_doc *map, const struct rig_doc *over)
{
    for (size_t i = 0; over != NULL && i < over->count; i++)
        rig_doc_set_slice(arena, map, over->members[i].key, over->members[i].value);
}

static void set_labels(struct assembly *in)
{
    if (in->static_labels != NULL) {
        rig_doc_set(in->arena, in->metadata, "STATIC_LABELS", in->static_labels);
        rig_doc_set(in->arena, in->metadata, "LABELS", in->static_labels);
    }
    if (in->request->labels != NULL) {
        struct rig_doc *labels = rig_doc_map(in->arena);
        overlay(in->arena, labels, rig_doc_get(in->metadata, "STATIC_LABELS"));
        overlay(in->arena, labels, in->request->labels);
        /* Different in every rollout, so it would defeat every cache and join. */
        rig_doc_remove(labels, "pod-template-hash");
        rig_doc_set(in->arena, in->metadata, "LABELS", labels);
        if (labels != NULL && labels->count == 0)
            rig_doc_remove(in->metadata, "LABELS");
    }
    if (in->request->annotations == NULL || in->request->annotations->count == 0)
        return;
    struct rig_doc *annotations = rig_doc_map(in->arena);
    overlay(in->arena, annotations, rig_doc_get(in->metadata, "ANNOTATIONS"));
    overlay(in->arena, annotations, in->request->annotations);
    rig_doc_set(in->arena, in->metadata, "ANNOTATIONS", annotations);
}

/* ---- locality ---- */

/* "region/zone/sub_zone"; a label value cannot hold '/', so there it is written with '.'. */
static struct rig_doc *locality_split(struct rig_arena *arena, const char *text)
{
    static const char *const parts[] = {"region", "zone", "sub_zone"};
    struct rig_doc *locality = rig_doc_map(arena);
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        size_t len = strcspn(text, "/");
        if (len > 0)
            rig_doc_set(arena, locality, parts[i], rig_doc_string(arena, rig_slice(text, len)));
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    return locality;
}

static struct rig_doc *set_locality(struct assembly *in)
{
    struct rig_doc *labels = rig_doc_get(in->metadata, "LABELS");
    const char *label = rig_doc_get_text(labels, LOCALITY_LABEL, "");
    char *text = rig_arena_text(in->arena, label);
    if (text == NULL || text[0] == '\0')
        return rig_doc_map(in->arena);
    if (strchr(text, '/') == NULL) {
        for (char *dot = strchr(text, '.'); dot != NULL; dot = strchr(dot, '.'))
            *dot = '/';
    }
    rig_doc_set(in->arena, labels, LOCALITY_LABEL, rig_doc_text(in->arena, text));
    return locality_split(in->arena, text);
}

/* ---- cluster name ---- */

static const char *cluster_or_default(const char *name, const struct rig_doc *metadata,
                                      struct rig_arena *arena)
{
    if (name[0] != '\0' && strcmp(name, DEFAULT_CLUSTER) != 0)
        return name;
    const char *namespace = rig_doc_get_text(metadata, "NAMESPACE", "");
    const char *first = rig_doc_get_text(rig_doc_get(metadata, "LABELS"), "app", NULL);
    if (first == NULL)
        first = rig_doc_get_text(metadata, "WORKLOAD_NAME", NULL);
    if (first == NULL)
        first = DEFAULT_CLUSTER;
    return namespace[0] != '\0' ? rig_arena_printf(arena, "%s.%s", first, namespace) : first;
}

static const char *canonical_name(const struct rig_doc *metadata)
{
    static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name",
                                        "app"};
    const struct rig_doc *labels = rig_doc_get(metadata, "LABELS");
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *name = rig_doc_get_text(labels, names[i], NULL);
        if (name != NULL)
            return name;
    }
    return rig_doc_get_text(metadata, "WORKLOAD_NAME", DEFAULT_CLUSTER);
}

const char *node_cluster(const struct rig_doc *proxy_config, const struct rig_doc *metadata,
                         struct rig_arena *arena)
{
    const struct rig_doc *rule = rig_doc_get(proxy_config, "tracingServiceName");
    if (rule == NULL)
        return cluster_or_default(rig_doc_get_text(proxy_config, "serviceCluster", ""), metadata,
                                  arena);
    const char *namespace = rig_doc_get_text(metadata, "NAMESPACE", "");
    if (rig_slice_is(rule->text, "CANONICAL_NAME_ONLY") || rig_slice_is(rule->text, "1"))
        return cluster_or_default(canonical_name(metadata), metadata, arena);
    if ((rig_slice_is(rule->text, "CANONICAL_NAME_AND_NAMESPACE") ||
         rig_slice_is(rule->text, "2")) &&
        namespace[0] != '\0')
        return rig_arena_printf(arena, "%s.%s", canonical_name(metadata), namespace);
    return cluster_or_default(DEFAULT_CLUSTER, metadata, arena);
}

int node_describe(const struct node_request *request, struct rig_arena *arena,
                  struct node_description *node, struct rig_fault *why)
{
    struct assembly in = {.request = request,
                          .arena = arena,
                          .raw = rig_doc_map(arena),
                          .metadata = rig_doc_map(arena),
                          .warnings = rig_doc_list(arena)};
    raw_from_proxy_metadata(&in);
    raw_from_environment(&in, META_PREFIX);
    raw_from_environment(&in, META_JSON_PREFIX);
    int err = typed_from_raw(&in, why);
    if (err < 0)
        return err;
    set_own_values(&in);
    set_labels(&in);
    struct rig_doc *locality = set_locality(&in);
    for (size_t i = 0; in.raw != NULL && i < in.raw->count; i++) {
        if (rig_doc_get_slice(in.metadata, in.raw->members[i].key) == NULL)
            rig_doc_set_slice(arena, in.metadata, in.raw->members[i].key, in.raw->members[i].value);
    }
    *node = (struct node_description){.metadata = in.metadata,
                                      .locality = locality,
                                      .warnings = in.warnings,
                                      .cluster =
                                          node_cluster(request->proxy_config, in.metadata, arena)};
    if (rig_arena_is_spent(arena) || node->cluster == NULL)
        return rig_fault_set(why, RIG_E_TOO_LARGE, "node metadata is too large");
    return 0;
}
