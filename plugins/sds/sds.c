/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/sds.c: the secret discovery socket: options, lifecycle, plugin table. */
#include <uv.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/plugin.h"
#include "core/stream.h"
#include "plugins/services/secret_source.h"
#include "plugins/services/workload.h"

#include "secret_service.h"

#define SCOPE       "sds"
#define SOCKET_MODE 0666u /* as Istio: the proxy may run as another user */

struct sds_config {
    uint64_t wait_ms;
};

struct sds {
    struct rig_host *host;
    char *address;
    struct rig_provider *sources;
    struct secret_service_options options;
    struct secret_service *service;
    rig_stopped_cb stopped;
};

static void sds_free(void *self)
{
    struct sds *sds = self;
    rig_free(sds->sources);
    rig_free(sds->address);
    rig_free(sds);
}

static void on_first_delivery(void *ctx)
{
    struct sds *sds = ctx;
    rig_host_mark(sds->host, "first secret delivered");
}

static int sds_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    const struct sds_config *options = config;
    struct rig_provider provider;
    struct sds *sds = rig_new(struct sds);
    size_t count = 0;
    sds->host = host;
    while (rig_service_provider(host, SECRET_SOURCE_SERVICE, count, &provider) == 0) {
        sds->sources = rig_realloc(sds->sources, (count + 1) * sizeof(provider));
        sds->sources[count++] = provider;
    }
    if (count == 0) {
        sds_free(sds);
        return rig_fault_set(why, RIG_E_ABSENT,
                             "no plugin offers \"%s\": name one in the role, as workload_certs",
                             SECRET_SOURCE_SERVICE);
    }
    rig_require(rig_service_provider(host, WORKLOAD_SERVICE, 0, &provider) == 0);
    const char *path =
        ((const struct workload_v1 *)provider.functions)->get(provider.self)->sds_socket;
    size_t len = sizeof("unix:") + strlen(path);
    sds->address = rig_alloc(len);
    snprintf(sds->address, len, "unix:%s", path);
    sds->options = (struct secret_service_options){
        .loop = rig_host_loop(host),
        .address = sds->address,
        .socket_mode = SOCKET_MODE,
        .wait_ms = (uint32_t)options->wait_ms,
        .sources = sds->sources,
        .source_count = count,
        .on_first_delivery = on_first_delivery,
        .ctx = sds,
    };
    *self = sds;
    return 0;
}

/* Somebody else's socket (a SPIRE agent's, say) is not taken away from it. */
static int sds_start(void *self, struct rig_fault *why)
{
    struct sds *sds = self;
    if (rig_listener_is_served(sds->address))
        return rig_fault_set(why, UV_EADDRINUSE,
                             "another server answers on %s: stop it, or leave the plugin sds out "
                             "of the role to let the proxy use that one",
                             sds->address);
    int err = secret_service_open(&sds->options, &sds->service, why);
    if (err < 0)
        return err;
    rig_log_info(SCOPE, "serving secrets on %s", sds->address);
    rig_host_mark(sds->host, "sds socket served");
    return 0;
}

static void on_service_closed(void *ctx)
{
    struct sds *sds = ctx;
    sds->service = NULL;
    sds->stopped(sds->host);
}

static void sds_stop(void *self, rig_stopped_cb stopped)
{
    struct sds *sds = self;
    sds->stopped = stopped;
    secret_service_close(sds->service, on_service_closed, sds);
}

static void sds_status(void *self, struct rig_arena *arena, struct rig_doc *out)
{
    const struct sds *sds = self;
    if (sds->service != NULL)
        secret_service_status(sds->service, arena, out);
}

static const struct rig_option options[] = {
    RIG_OPT_IN(DURATION_MS, struct sds_config, wait_ms, "wait", "10s", 0, 600000, NULL, NULL,
               "How long a request waits for a secret that is being made"),
    {0},
};

static const struct rig_need needs[] = {
    {WORKLOAD_SERVICE, WORKLOAD_VERSION, RIG_NEED_ONE},
    {SECRET_SOURCE_SERVICE, SECRET_SOURCE_VERSION, RIG_NEED_EACH},
    {0},
};

extern const struct rig_plugin sds_plugin;
RIG_EXPORT const struct rig_plugin sds_plugin = {
    .abi = RIG_PLUGIN_ABI,
    .size = sizeof(struct rig_plugin),
    .name = "sds",
    .about = "Serves keys, certificates and roots to the proxy (secret discovery service)",
    .version = RIG_VERSION,
    .config_size = sizeof(struct sds_config),
    .options = options,
    .needs = needs,
    .init = sds_init,
    .start = sds_start,
    .stop = sds_stop,
    .free = sds_free,
    .status = sds_status,
};
