/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/render.c: computes what the template needs to know, has it make the document
 * and writes that to a file. What the document looks like is decided in bootstrap.lua. */
#include "render.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#include "core/dial.h"
#include "core/json.h"
#include "core/log.h"

#define BUCKETS_ANNOTATION "sidecar.istio.io/statsHistogramBuckets"

bool render_is_ipv6(const struct workload *workload)
{
    for (const char *const *ip = workload->ip_addresses; *ip != NULL; ip++) {
        if (strchr(*ip, ':') == NULL)
            return false;
    }
    return workload->ip_addresses[0] != NULL;
}

char *render_path(struct rig_arena *arena, const char *dir, const char *name)
{
    struct rig_buf path = {0};
    const char *text = rig_arena_printf(arena, "%s/%s", dir, name);
    if (text != NULL && text[0] == '/')
        rig_buf_append_text(&path, "/");
    while (text != NULL && *text != '\0') {
        size_t len = strcspn(text, "/");
        if (len > 0 && !(len == 1 && text[0] == '.')) {
            if (path.len > 0 && path.at[path.len - 1] != '/')
                rig_buf_append_text(&path, "/");
            rig_buf_append(&path, text, len);
        }
        text += len;
        text += strspn(text, "/");
    }
    char *copy = rig_arena_copy(arena, path.at, path.len);
    rig_buf_deinit(&path);
    return copy;
}

/* ---- the template's argument ---- */

/* "HOST:PORT" -> socket address. A tracer is not worth a pod: what cannot be used is left out. */
static struct rig_doc *socket_address(struct rig_arena *arena, const char *field, const char *text)
{
    char host[256];
    uint16_t port = 0;
    struct rig_fault why = {.text = ""};
    if (rig_dial_split(text, host, sizeof(host), &port, &why) < 0) {
        rig_log_warn("default", "%s is left out: %s", field, why.text);
        return NULL;
    }
    struct rig_doc *address = rig_doc_map(arena);
    rig_doc_set(arena, address, "address", rig_doc_text(arena, host));
    rig_doc_set(arena, address, "port_value", rig_doc_int(arena, port));
    return address;
}

static void set_statsd(struct rig_arena *arena, struct rig_doc *ctx, const char *text)
{
    uint8_t octets[16];
    struct rig_doc *address =
        text[0] != '\0' ? socket_address(arena, "statsdUdpAddress", text) : NULL;
    const char *host = rig_doc_get_text(address, "address", "");
    if (address == NULL)
        return;
    if (uv_inet_pton(AF_INET, host, octets) < 0 && uv_inet_pton(AF_INET6, host, octets) < 0) {
        rig_log_warn("default",
                     "statsdUdpAddress is left out: \"%s\" is a name, and Envoy takes "
                     "an IP address only",
                     host);
        return;
    }
    rig_doc_set(arena, ctx, "statsd", address);
}

static void set_zipkin(struct rig_arena *arena, struct rig_doc *ctx,
                       const struct rig_doc *proxy_config)
{
    const struct rig_doc *zipkin = rig_doc_get(rig_doc_get(proxy_config, "tracing"), "zipkin");
    const char *text = rig_doc_get_text(zipkin, "address", "");
    struct rig_doc *address =
        text[0] != '\0' ? socket_address(arena, "tracing.zipkin.address", text) : NULL;
    if (address != NULL)
        rig_doc_set(arena, ctx, "zipkin", address);
}

static bool are_buckets(const struct rig_doc *doc)
{
    if (doc == NULL || doc->kind != RIG_DOC_MAP)
        return false;
    for (size_t i = 0; i < doc->count; i++) {
        const struct rig_doc *list = doc->members[i].value;
        if (list->kind != RIG_DOC_LIST)
            return false;
        for (size_t k = 0; k < list->count; k++) {
            if (list->items[k]->kind != RIG_DOC_NUMBER)
                return false;
        }
    }
    return true;
}

static void set_histogram_buckets(struct rig_arena *arena, struct rig_doc *ctx,
                                  const struct rig_doc *metadata)
{
    struct rig_doc *buckets = NULL;
    const char *text =
        rig_doc_get_text(rig_doc_get(metadata, "ANNOTATIONS"), BUCKETS_ANNOTATION, NULL);
    if (text == NULL)
        return;
    if (rig_json_read(rig_slice_text(text), BUCKETS_ANNOTATION, arena, &buckets, NULL) < 0 ||
        !are_buckets(buckets)) {
        rig_log_warn("default",
                     "annotation %s is left out: a JSON object of prefix -> list of "
                     "numbers is due",
                     BUCKETS_ANNOTATION);
        return;
    }
    rig_doc_set(arena, ctx, "histogram_buckets", buckets);
}

static struct rig_doc *node_doc(struct rig_arena *arena, const struct workload *workload)
{
    struct rig_doc *node = rig_doc_map(arena);
    rig_doc_set(arena, node, "id", rig_doc_text(arena, workload->node_id));
    rig_doc_set(arena, node, "cluster", rig_doc_text(arena, workload->cluster));
    rig_doc_set(arena, node, "locality", rig_doc_copy(arena, workload->locality));
    rig_doc_set(arena, node, "metadata", rig_doc_copy(arena, workload->metadata));
    return node;
}

/* Up to four digits; NULL when there is none. Returns what follows them. */
static const char *version_part(const char *text, int64_t *value)
{
    const char *at = text;
    *value = 0;
    for (; at < text + 4 && *at >= '0' && *at <= '9'; at++)
        *value = *value * 10 + (*at - '0');
    return at > text ? at : NULL;
}

static int set_envoy_version(struct rig_arena *arena, struct rig_doc *ctx, const char *text,
                             struct rig_fault *why)
{
    int64_t major = 0, minor = 0;
    const char *rest = version_part(text, &major);
    if (rest != NULL)
        rest = *rest == '.' ? version_part(rest + 1, &minor) : NULL;
    if (rest == NULL || *rest != '\0')
        return rig_fault_set(why, RIG_E_SYNTAX, "envoyVersion: \"%s\" is not MAJOR.MINOR", text);
    struct rig_doc *version = rig_doc_map(arena);
    rig_doc_set(arena, version, "major", rig_doc_int(arena, major));
    rig_doc_set(arena, version, "minor", rig_doc_int(arena, minor));
    rig_doc_set(arena, ctx, "envoy", version);
    return 0;
}

static void set_text(struct rig_arena *arena, struct rig_doc *ctx, const char *key,
                     const char *text)
{
    rig_doc_set(arena, ctx, key, rig_doc_text(arena, text));
}

static void set_family(struct rig_arena *arena, struct rig_doc *ctx,
                       const struct workload *workload)
{
    bool is_ipv6 = render_is_ipv6(workload);
    set_text(arena, ctx, "localhost", is_ipv6 ? "::1" : "127.0.0.1");
    set_text(arena, ctx, "wildcard", is_ipv6 ? "::" : "0.0.0.0");
    set_text(arena, ctx, "dns_lookup_family", is_ipv6 ? "V6_ONLY" : "V4_ONLY");
    struct rig_doc *list = rig_doc_list(arena);
    for (const char *const *ip = workload->ip_addresses; *ip != NULL; ip++)
        rig_doc_push(arena, list, rig_doc_text(arena, *ip));
    rig_doc_set(arena, ctx, "ip_addresses", list);
}

static void set_ports(struct rig_arena *arena, struct rig_doc *ctx,
                      const struct render_request *request)
{
    /* The listeners' ports have one source: what the control plane is told of them. */
    const struct rig_doc *metadata = request->workload->metadata;
    rig_doc_set(arena, ctx, "admin_port", rig_doc_int(arena, request->settings->admin_port));
    rig_doc_set(arena, ctx, "status_port", rig_doc_int(arena, request->settings->status_port));
    rig_doc_set(arena, ctx, "envoy_status_port",
                rig_doc_copy(arena, rig_doc_get(metadata, "ENVOY_STATUS_PORT")));
    rig_doc_set(arena, ctx, "envoy_prometheus_port",
                rig_doc_copy(arena, rig_doc_get(metadata, "ENVOY_PROMETHEUS_PORT")));
}

static int ctx_make(const struct render_request *request, struct rig_arena *arena,
                    struct rig_doc **out, struct rig_fault *why)
{
    const struct workload *workload = request->workload;
    struct rig_doc *ctx = rig_doc_map(arena);
    int err = set_envoy_version(arena, ctx, request->envoy_version, why);
    if (err < 0)
        return err;
    rig_doc_set(arena, ctx, "node", node_doc(arena, workload));
    set_text(arena, ctx, "xds_type", request->is_delta ? "DELTA_GRPC" : "GRPC");
    set_text(arena, ctx, "sds_socket", workload->sds_socket);
    set_text(arena, ctx, "xds_socket", workload->xds_socket);
    set_family(arena, ctx, workload);
    set_ports(arena, ctx, request);
    set_zipkin(arena, ctx, workload->proxy_config);
    set_statsd(arena, ctx, request->settings->statsd_udp_address);
    set_histogram_buckets(arena, ctx, workload->metadata);
    const char *outliers = rig_doc_get_text(workload->metadata, "OUTLIER_LOG_PATH", NULL);
    if (outliers != NULL)
        set_text(arena, ctx, "outlier_log_path", outliers);
    if (rig_arena_is_spent(arena))
        return rig_fault_set(why, RIG_E_TOO_LARGE, "node metadata is too large for the bootstrap");
    *out = ctx;
    return 0;
}

int render_document(const struct render_request *request, struct rig_arena *arena,
                    struct rig_doc **document, struct rig_fault *why)
{
    struct rig_doc *ctx = NULL;
    int err = ctx_make(request, arena, &ctx, why);
    if (err < 0)
        return err;
    err = rig_script_call(request->scripts, "bootstrap", "render", ctx, NULL, arena, document, why);
    if (err == 0 && (*document)->kind != RIG_DOC_MAP)
        return rig_fault_set(why, RIG_E_SCRIPT, "bootstrap.render must return a map, not %s",
                             rig_doc_kind_text((*document)->kind));
    return err;
}

/* ---- the file ---- */

/* mkdir -p of everything before the last '/'. */
static int directories_make(char *path, struct rig_fault *why)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int err = mkdir(path, 0700) < 0 ? uv_translate_sys_error(errno) : 0;
        if (err < 0 && err != UV_EEXIST)
            return rig_fault_set(why, err, "cannot make directory %s: %s", path,
                                 rig_error_text(err));
        *slash = '/';
    }
    return 0;
}

int render_file(const struct rig_doc *document, const char *path, struct rig_fault *why)
{
    struct rig_buf text = {0};
    struct rig_buf dir = {0};
    rig_buf_append(&dir, path, strlen(path) + 1);
    int err = directories_make((char *)dir.at, why);
    if (err == 0) {
        rig_json_write(document, RIG_JSON_PRETTY, &text);
        rig_buf_append_text(&text, "\n");
        err = rig_file_replace(path, rig_buf_slice(&text), 0644);
        if (err < 0)
            rig_fault_set(why, err, "cannot write %s: %s", path, rig_error_text(err));
    }
    rig_buf_deinit(&dir);
    rig_buf_deinit(&text);
    return err;
}
