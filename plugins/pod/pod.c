/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/pod/pod.c: who this pod is: options, and the service `workload`.
 *
 * Everything is decided in init, from variables, flags and the kubelet's files; nothing is
 * looked up over the network. Afterwards only the token file is read, at each call, because the
 * kubelet replaces it. */
#include <string.h>
#include <uv.h>

#include "core/alloc.h"
#include "core/json.h"
#include "core/log.h"
#include "core/plugin.h"
#include "plugins/mesh/node.h"
#include "pod.h"

#define LABELS_FILE      "./etc/istio/pod/labels"
#define ANNOTATIONS_FILE "./etc/istio/pod/annotations"
#define TOKEN_BOUND      "./var/run/secrets/tokens/istio-token"
#define TOKEN_UNBOUND    "/var/run/secrets/kubernetes.io/serviceaccount/token"

#define DOWNWARD_BYTES_MAX (1u << 20) /* Kubernetes: 256 KiB of annotations, before quoting */
#define TOKEN_BYTES_MAX    (64u << 10)
#define ARENA_BYTES_MAX    (16u << 20)

/* The control plane reads features out of the version; this is the one we behave like. */
#define ISTIO_VERSION "1.21.0"

struct pod {
    const struct pod_config *config;
    struct rig_host *host;
    struct rig_arena arena; /* what `workload` points to */
    struct workload workload;
    const char *token_path; /* NULL: none by JWT_POLICY */
};

static int node_type_check(const char *type, struct rig_fault *why)
{
    static const char *const types[] = {"sidecar", "router", "waypoint", "ztunnel"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(type, types[i]) == 0)
            return 0;
    }
    return rig_fault_set(why, RIG_E_USAGE,
                         "\"%s\" is no proxy type: sidecar, router, waypoint or ztunnel", type);
}

/* NULL when the file is not there or is refused: a pod without labels works. */
static struct rig_doc *downward_file(const char *path, struct rig_arena *arena)
{
    struct rig_buf text = {0};
    struct rig_doc *map = NULL;
    struct rig_fault why = {.text = ""};
    int err = rig_buf_read_file(&text, path, DOWNWARD_BYTES_MAX);
    if (err == 0) {
        err = node_downward_read(rig_buf_slice(&text), path, arena, &map, &why);
        if (err < 0)
            rig_log_warn("default", "%s; the file is ignored", why.text);
    } else if (err != UV_ENOENT && err != UV_ENOTDIR) {
        rig_log_warn("default", "%s: %s; the file is ignored", path, rig_error_text(err));
    }
    rig_buf_deinit(&text);
    return map;
}

static void warnings_log(const struct rig_doc *warnings)
{
    for (size_t i = 0; warnings != NULL && i < warnings->count; i++)
        rig_log_warn("default", "%s", (const char *)warnings->items[i]->text.at);
}

static void effective_log(const struct proxy_config *effective)
{
    struct rig_buf text = {0};
    rig_json_write(effective->fields, RIG_JSON_COMPACT, &text);
    rig_log_info("default", "Effective config: %s", rig_buf_text(&text));
    rig_buf_deinit(&text);
    warnings_log(proxy_config_warnings(effective));
}

static const char *token_path(const char *policy)
{
    if (strcmp(policy, "third-party-jwt") == 0)
        return TOKEN_BOUND;
    if (strcmp(policy, "first-party-jwt") == 0)
        return TOKEN_UNBOUND;
    rig_log_warn("default", "JWT_POLICY \"%s\" is not known; no token will be sent", policy);
    return NULL;
}

/* PILOT_SAN: what istiod may call itself, for those who read it out of the metadata. */
static struct rig_doc *pilot_san(const struct proxy_settings *settings, struct rig_arena *arena)
{
    const char *name = NULL;
    struct rig_doc *list = rig_doc_list(arena);
    if (!settings->is_plaintext &&
        peers_server_name(settings->discovery_address, arena, &name, NULL) == 0)
        rig_doc_push(arena, list, rig_doc_text(arena, name));
    return list;
}

static int node_fill(struct pod *pod, const struct proxy_settings *settings,
                     struct node_request *request, struct rig_arena *scratch, struct rig_fault *why)
{
    const struct pod_config *config = pod->config;
    struct workload *out = &pod->workload;
    struct rig_arena *arena = &pod->arena;
    struct node_description node;

    request->environment = (const char *const *)environ;
    request->ip_addresses = out->ip_addresses;
    request->pod_name = config->pod_name;
    request->pod_namespace = config->pod_namespace;
    request->service_account = config->service_account;
    request->outlier_log_path = config->outlier_log_path;
    request->istio_version = ISTIO_VERSION;
    request->pilot_san = pilot_san(settings, scratch);
    request->envoy_status_port = (uint16_t)config->envoy_status_port;
    request->envoy_prometheus_port = (uint16_t)config->envoy_prometheus_port;
    request->sts_port = (uint32_t)config->sts_port;
    int err = node_describe(request, scratch, &node, why);
    if (err < 0)
        return err;
    warnings_log(node.warnings);

    const char *domain = config->domain;
    if (domain[0] == '\0')
        domain = rig_arena_printf(scratch, "%s.svc.cluster.local", config->pod_namespace);
    out->node_type = config->node_type;
    out->node_id = node_id(arena, config->node_type, out->ip_addresses[0], config->pod_name,
                           config->pod_namespace, domain != NULL ? domain : "");
    out->cluster = rig_arena_text(arena, node.cluster);
    out->metadata = rig_doc_copy(arena, node.metadata);
    out->locality = rig_doc_copy(arena, node.locality);
    out->proxy_config = rig_doc_get(out->metadata, "PROXY_CONFIG");
    return 0;
}

static int workload_fill(struct pod *pod, struct rig_arena *scratch, struct rig_fault *why)
{
    const struct pod_config *config = pod->config;
    struct workload *out = &pod->workload;
    struct rig_doc *headers = NULL;
    struct proxy_config effective;
    struct proxy_settings settings;
    struct node_request request = {.labels = downward_file(LABELS_FILE, scratch),
                                   .annotations = downward_file(ANNOTATIONS_FILE, scratch)};

    int err = effective_read(config, request.annotations, scratch, &effective, &settings, why);
    if (err < 0)
        return err;
    effective_log(&effective);
    request.proxy_config = effective.fields;
    out->ip_addresses = addresses_list(config->instance_ip, &pod->arena);
    err = node_fill(pod, &settings, &request, scratch, why);
    if (err == 0) /* again from the copy: what `workload` points to outlives the scratch */
        err = proxy_settings_read(out->proxy_config, NULL, &settings, why);
    if (err == 0)
        err = peers_discovery(config, &settings, &pod->arena, &out->discovery, why);
    if (err == 0)
        err = peers_ca(config, &settings, &pod->arena, &out->ca, why);
    if (err == 0)
        err = peers_headers((const char *const *)environ, &pod->arena, &headers, why);
    if (err < 0)
        return err;

    out->xds_headers = headers;
    out->xds_socket = config->xds_socket[0] != '\0'
                          ? config->xds_socket
                          : rig_arena_printf(&pod->arena, "%s/XDS", settings.config_path);
    out->sds_socket = config->sds_socket;
    out->pod_name = config->pod_name;
    out->pod_namespace = config->pod_namespace;
    out->service_account = config->service_account;
    out->trust_domain = config->trust_domain;
    out->cluster_id = config->cluster_id;
    out->spiffe_id = rig_arena_printf(&pod->arena, "spiffe://%s/ns/%s/sa/%s", config->trust_domain,
                                      config->pod_namespace, config->service_account);
    return rig_arena_is_spent(&pod->arena)
               ? rig_fault_set(why, RIG_E_TOO_LARGE, "ProxyConfig and node metadata are too large")
               : 0;
}

static int pod_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    struct pod *pod = rig_new(struct pod);
    struct rig_arena scratch;
    pod->config = config;
    pod->host = host;
    rig_arena_init(&pod->arena, ARENA_BYTES_MAX);
    rig_arena_init(&scratch, ARENA_BYTES_MAX);

    int err = node_type_check(pod->config->node_type, why);
    if (err == 0)
        err = workload_fill(pod, &scratch, why);
    rig_arena_deinit(&scratch);
    if (err < 0) {
        rig_arena_deinit(&pod->arena);
        rig_free(pod);
        return err;
    }
    pod->token_path = token_path(pod->config->jwt_policy);
    *self = pod;
    return 0;
}

static void pod_stop(void *self, rig_stopped_cb stopped)
{
    stopped(((struct pod *)self)->host);
}

static void pod_free(void *self)
{
    struct pod *pod = self;
    rig_arena_deinit(&pod->arena);
    rig_free(pod);
}

static void pod_status(void *self, struct rig_arena *arena, struct rig_doc *out)
{
    const struct workload *workload = &((struct pod *)self)->workload;
    rig_doc_set(arena, out, "nodeId", rig_doc_text(arena, workload->node_id));
    rig_doc_set(arena, out, "cluster", rig_doc_text(arena, workload->cluster));
    rig_doc_set(arena, out, "spiffeId", rig_doc_text(arena, workload->spiffe_id));
    rig_doc_set(arena, out, "discoveryAddress", rig_doc_text(arena, workload->discovery.address));
    rig_doc_set(arena, out, "caAddress", rig_doc_text(arena, workload->ca.address));
}

/* ---- the service ---- */

static const struct workload *pod_get(void *self)
{
    return &((struct pod *)self)->workload;
}

static int pod_token(void *self, struct rig_secret *token, struct rig_fault *why)
{
    const struct pod *pod = self;
    if (pod->token_path == NULL)
        return rig_fault_set(why, RIG_E_ABSENT, "JWT_POLICY \"%s\" means no token",
                             pod->config->jwt_policy);
    int err = rig_secret_read_file(token, pod->token_path, TOKEN_BYTES_MAX, why);
    return err == UV_ENOENT || err == UV_ENOTDIR ? RIG_E_ABSENT : err;
}

static const struct workload_v1 workload_functions = {.get = pod_get, .token = pod_token};

static const struct rig_offer offers[] = {
    {WORKLOAD_SERVICE, WORKLOAD_VERSION, &workload_functions},
    {0},
};

#define ROW(kind, member, key, fallback, variables, flag, about)                                   \
    RIG_OPT(kind, struct pod_config, member, key, fallback, variables, flag, about)
#define ROW_IN(kind, member, key, fallback, least, most, variables, flag, about)                   \
    RIG_OPT_IN(kind, struct pod_config, member, key, fallback, least, most, variables, flag, about)

static const struct rig_option options[] = {
    ROW(STRING, node_type, "type", "sidecar", NULL, NULL,
        "Proxy type: sidecar, router, waypoint or ztunnel"),
    ROW(STRING, domain, "domain", "", NULL, "domain",
        "DNS suffix of the node id; empty: NAMESPACE.svc.cluster.local"),
    ROW(STRING, mesh_file, "meshConfig", "./etc/istio/config/mesh", NULL, "meshConfig",
        "Mesh configuration whose defaultConfig is used; may be missing"),
    ROW(STRING, service_cluster, "serviceCluster", "istio-proxy", NULL, "serviceCluster",
        "Service cluster when ProxyConfig gives an empty one"),
    ROW(STRING, proxy_config, "proxyConfig", "", "PROXY_CONFIG", NULL,
        "ProxyConfig as YAML or JSON, laid over the mesh's"),
    ROW_IN(UINT, concurrency, "concurrency", "0", 0, 65535, NULL, "concurrency",
           "Worker threads of the proxy; 0: as ProxyConfig says"),
    ROW_IN(UINT, cpu_limit, "cpuLimit", "0", 0, 65535, "ISTIO_CPU_LIMIT", NULL,
           "CPU limit; worker threads when nothing else says how many"),
    ROW_IN(UINT, sts_port, "stsPort", "0", 0, 65535, NULL, "stsPort",
           "Told to the control plane as STS_PORT; nothing listens"),
    ROW(STRING, outlier_log_path, "outlierLogPath", "", NULL, "outlierLogPath",
        "Event log of outlier detection"),
    ROW(STRING, pod_name, "podName", "", "POD_NAME", NULL, "Name of this pod"),
    ROW(STRING, pod_namespace, "podNamespace", "", "POD_NAMESPACE", NULL, "Namespace of this pod"),
    ROW(STRING, service_account, "serviceAccount", "", "SERVICE_ACCOUNT", NULL,
        "Service account; part of the SPIFFE id"),
    ROW(STRING, instance_ip, "instanceIp", "", "INSTANCE_IP", NULL,
        "Address of this pod, told before those of its interfaces"),
    ROW(STRING, cluster_id, "clusterId", "", "ISTIO_META_CLUSTER_ID", NULL,
        "Kubernetes cluster, told to the control plane and the CA"),
    ROW(STRING, ca_address, "caAddress", "", "CA_ADDR", NULL,
        "CA as HOST:PORT; empty: the discovery address; port 15010 is without TLS"),
    ROW(STRING, ca_root, "caRoot", "", "CA_ROOT_CA", NULL,
        "Roots that verify the CA: a PEM file or SYSTEM"),
    ROW(STRING, xds_root, "xdsRoot", "", "XDS_ROOT_CA", NULL,
        "Roots that verify the control plane: a PEM file or SYSTEM"),
    ROW(STRING, cert_provider, "certProvider", "istiod", "PILOT_CERT_PROVIDER", NULL,
        "Who signed the control plane's certificate: istiod, custom or none"),
    ROW(STRING, istiod_san, "istiodSan", "", "ISTIOD_SAN", NULL,
        "Name the control plane's certificate must carry; empty: its host name"),
    ROW(STRING, jwt_policy, "jwtPolicy", "third-party-jwt", "JWT_POLICY", NULL,
        "Which token is sent: third-party-jwt or first-party-jwt"),
    ROW(STRING, trust_domain, "trustDomain", "cluster.local", "TRUST_DOMAIN", NULL,
        "Trust domain of the SPIFFE id"),
    ROW(STRING, xds_socket, "xdsSocket", "", NULL, NULL,
        "Unix socket where the proxy asks for configuration; empty: XDS in configPath"),
    ROW(STRING, sds_socket, "sdsSocket", "./var/run/secrets/workload-spiffe-uds/socket", NULL, NULL,
        "Unix socket where the proxy asks for its certificate"),
    ROW_IN(UINT, envoy_status_port, "envoyStatusPort", "15021", 1, 65535, "ENVOY_STATUS_PORT", NULL,
           "Port of Envoy's health listener"),
    ROW_IN(UINT, envoy_prometheus_port, "envoyPrometheusPort", "15090", 1, 65535,
           "ENVOY_PROMETHEUS_PORT", NULL, "Port of Envoy's metrics listener"),
    {0},
};

RIG_EXPORT extern const struct rig_plugin pod_plugin;
const struct rig_plugin pod_plugin = {
    .abi = RIG_PLUGIN_ABI,
    .size = sizeof(struct rig_plugin),
    .name = "pod",
    .about = "Who this pod is: ProxyConfig, node metadata, identity, token",
    .version = RIG_VERSION,
    .config_size = sizeof(struct pod_config),
    .options = options,
    .offers = offers,
    .init = pod_init,
    .stop = pod_stop,
    .free = pod_free,
    .status = pod_status,
};
