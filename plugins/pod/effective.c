/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/pod/effective.c: the effective ProxyConfig. Later wins: defaults, the mesh file, the
 * PROXY_CONFIG variable, the pod's annotations, flags. */
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "core/log.h"
#include "core/yaml.h"
#include "pod.h"

#define MESH_FILE_BYTES_MAX (1u << 20)

#define CONFIG_ANNOTATION    "proxy.istio.io/config"
#define DISCOVERY_ANNOTATION "sidecar.istio.io/discoveryAddress"
#define STATUS_ANNOTATION    "status.sidecar.istio.io/port"

static int overlay_mesh_file(const char *path, struct proxy_config *effective,
                             struct rig_fault *why)
{
    struct rig_doc *mesh = NULL;
    int err = rig_yaml_read_file(path, MESH_FILE_BYTES_MAX, effective->arena, &mesh, why);
    if (err == UV_ENOENT || err == UV_ENOTDIR)
        return 0; /* Istio's default path exists only where an operator mounted it */
    if (err < 0)
        return err;
    return proxy_config_overlay(effective, rig_doc_get(mesh, "defaultConfig"), path, why);
}

static int overlay_text(const char *text, const char *source, struct proxy_config *effective,
                        struct rig_fault *why)
{
    struct rig_doc *doc = NULL;
    if (text[0] == '\0')
        return 0;
    int err = rig_yaml_read(rig_slice_text(text), source, effective->arena, &doc, why);
    return err < 0 ? err : proxy_config_overlay(effective, doc, source, why);
}

/* Istio turns a port it cannot read into 0, after which the pod never becomes ready. */
static void set_status_port(struct proxy_config *effective, const char *text)
{
    char *end = NULL;
    unsigned long port = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || port > 65535) {
        rig_log_error("default", "annotation %s: \"%s\" is no port; it is ignored",
                      STATUS_ANNOTATION, text);
        return;
    }
    proxy_config_set(effective, "statusPort", rig_doc_int(effective->arena, (int64_t)port),
                     "annotation " STATUS_ANNOTATION);
}

static void set_from_annotations(struct proxy_config *effective, const struct rig_doc *annotations)
{
    const char *address = rig_doc_get_text(annotations, DISCOVERY_ANNOTATION, NULL);
    if (address != NULL)
        proxy_config_set(effective, "discoveryAddress", rig_doc_text(effective->arena, address),
                         "annotation " DISCOVERY_ANNOTATION);
    const char *port = rig_doc_get_text(annotations, STATUS_ANNOTATION, NULL);
    if (port != NULL)
        set_status_port(effective, port);
}

static void set_from_flags(struct proxy_config *effective, const struct pod_config *config)
{
    struct rig_arena *arena = effective->arena;
    if (config->concurrency != 0)
        proxy_config_set(effective, "concurrency", rig_doc_int(arena, (int64_t)config->concurrency),
                         "--concurrency");
    else if (rig_doc_get(effective->fields, "concurrency") == NULL && config->cpu_limit != 0)
        proxy_config_set(effective, "concurrency", rig_doc_int(arena, (int64_t)config->cpu_limit),
                         "ISTIO_CPU_LIMIT");
    if (rig_doc_get(effective->fields, "tracingServiceName") == NULL &&
        rig_doc_get_text(effective->fields, "serviceCluster", "")[0] == '\0')
        proxy_config_set(effective, "serviceCluster", rig_doc_text(arena, config->service_cluster),
                         "--serviceCluster");
}

int effective_read(const struct pod_config *config, const struct rig_doc *annotations,
                   struct rig_arena *arena, struct proxy_config *effective,
                   struct proxy_settings *settings, struct rig_fault *why)
{
    proxy_config_init(effective, arena);
    int err = overlay_mesh_file(config->mesh_file, effective, why);
    if (err == 0)
        err = overlay_text(config->proxy_config, "PROXY_CONFIG", effective, why);
    if (err == 0)
        err = overlay_text(rig_doc_get_text(annotations, CONFIG_ANNOTATION, ""),
                           "annotation " CONFIG_ANNOTATION, effective, why);
    if (err < 0)
        return err;
    set_from_flags(effective, config);
    set_from_annotations(effective, annotations);
    if (rig_arena_is_spent(arena))
        return rig_fault_set(why, RIG_E_TOO_LARGE, "ProxyConfig is too large");
    return proxy_settings_read(effective->fields, effective->origins, settings, why);
}
