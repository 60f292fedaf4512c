/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/bootstrap.c: writes Envoy's bootstrap file, runs Envoy, ends with it.
 *
 * Started last: the sockets that the file names are served by then. When Envoy is gone, for
 * whatever reason, the program ends: restarting is Kubernetes' part. */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "core/alloc.h"
#include "core/json.h"
#include "core/log.h"
#include "core/plugin.h"
#include "core/yaml.h"
#include "envoy.h"
#include "plugins/mesh/proxy_config.h"
#include "plugins/services/secret_source.h"
#include "plugins/services/workload.h"
#include "plugins/services/xds_status.h"
#include "readiness.h"
#include "render.h"

#define RENDER_BYTES_MAX   (32u << 20)
#define OVERRIDE_BYTES_MAX (1u << 20)
#define CONFIG_FILE        "envoy-rev.json"

struct bootstrap_config {
    const char *log_level;
    const char *component_log_level;
    const char *override_file;
    const char *envoy_version;
    bool is_delta;
    bool is_envoy_disabled;
    bool propagates_exit_status;
};

struct bootstrap {
    struct rig_host *host;
    const struct bootstrap_config *config;
    const struct workload *workload;
    struct proxy_settings settings;
    struct rig_arena arena; /* paths and addresses that live as long as the plugin */
    const char *config_file;
    const char *admin_address;
    struct readiness *readiness;
    struct envoy *envoy; /* NULL before it runs and after it is gone */
    rig_stopped_cb stopped;
};

static bool is_sidecar(const struct bootstrap *bootstrap)
{
    return strcmp(bootstrap->workload->node_type, "sidecar") == 0;
}

/* ---- the end of Envoy ---- */

/* Go's words for it, which people have learnt to search for: "signal: killed". */
static void exit_log(int64_t exit_status, int signal)
{
    if (signal == 0) {
        if (exit_status == 0)
            rig_log_info("default", "Envoy exited normally");
        else
            rig_log_error("default", "Envoy exited with error: exit status %d", (int)exit_status);
        return;
    }
    char name[64];
    snprintf(name, sizeof(name), "%s", strsignal(signal));
    name[0] = (char)tolower((unsigned char)name[0]);
    rig_log_error("default", "Envoy exited with error: signal: %s", name);
    if (signal == SIGKILL)
        rig_log_warn("default", "Envoy may have been killed for want of memory: compare its use "
                                "with the container's limit");
}

static int exit_status_of(const struct bootstrap *bootstrap, int64_t exit_status, int signal)
{
    if (!bootstrap->config->propagates_exit_status)
        return 0;
    return signal != 0 ? 128 + signal : (int)exit_status;
}

static void config_file_remove(const struct bootstrap *bootstrap)
{
    if (unlink(bootstrap->config_file) < 0 && errno != ENOENT)
        rig_log_warn("default", "cannot remove %s: %s", bootstrap->config_file, strerror(errno));
}

static void on_envoy_gone(void *ctx, bool was_asked, int64_t exit_status, int signal)
{
    struct bootstrap *bootstrap = ctx;
    bootstrap->envoy = NULL;
    if (was_asked)
        rig_log_info("default", "Envoy has ended");
    else
        exit_log(exit_status, signal);
    readiness_end(bootstrap->readiness, "Envoy has ended");
    config_file_remove(bootstrap);
    rig_host_exit(bootstrap->host, was_asked ? 0 : exit_status_of(bootstrap, exit_status, signal));
    if (bootstrap->stopped != NULL)
        bootstrap->stopped(bootstrap->host);
}

/* ---- the start of Envoy ---- */

static int override_read(const struct bootstrap *bootstrap, struct rig_arena *arena,
                         const char **json, struct rig_fault *why)
{
    const char *path = bootstrap->config->override_file;
    struct rig_doc *doc = NULL;
    *json = NULL;
    if (path[0] == '\0')
        return 0;
    int err = rig_yaml_read_file(path, OVERRIDE_BYTES_MAX, arena, &doc, why);
    if (err < 0)
        return rig_fault_prefix(why, err, "ISTIO_BOOTSTRAP_OVERRIDE");
    struct rig_buf text = {0};
    rig_json_write(doc, RIG_JSON_COMPACT, &text);
    *json = rig_arena_copy(arena, text.at, text.len);
    rig_buf_deinit(&text);
    return *json != NULL ? 0 : rig_fault_set(why, RIG_E_TOO_LARGE, "%s: too large", path);
}

static int config_file_write(struct bootstrap *bootstrap, struct rig_arena *arena,
                             struct rig_fault *why)
{
    struct rig_doc *document = NULL;
    struct render_request request = {.workload = bootstrap->workload,
                                     .settings = &bootstrap->settings,
                                     .scripts = rig_host_scripts(bootstrap->host),
                                     .envoy_version = bootstrap->config->envoy_version,
                                     .is_delta = bootstrap->config->is_delta};
    int err = render_document(&request, arena, &document, why);
    return err < 0 ? err : render_file(document, bootstrap->config_file, why);
}

static void arguments_log(const char *const *argv, const struct rig_doc *warnings)
{
    struct rig_buf text = {0};
    for (size_t i = 0; i < warnings->count; i++)
        rig_log_warn("default", "%s", (const char *)warnings->items[i]->text.at);
    for (; *argv != NULL; argv++)
        rig_buf_printf(&text, "%s%s", text.len > 0 ? " " : "", *argv);
    rig_log_info("default", "Envoy command: [%s]", rig_buf_text(&text));
    rig_buf_deinit(&text);
}

static int envoy_run(struct bootstrap *bootstrap, struct rig_arena *arena, struct rig_fault *why)
{
    struct rig_doc *warnings = rig_doc_list(arena);
    struct arguments_request request = {.binary = bootstrap->settings.binary_path,
                                        .config_file = bootstrap->config_file,
                                        .log_level = bootstrap->config->log_level,
                                        .component_log_level =
                                            bootstrap->config->component_log_level,
                                        .drain_s = bootstrap->settings.drain_s,
                                        .concurrency = bootstrap->settings.concurrency,
                                        .is_ipv6 = render_is_ipv6(bootstrap->workload),
                                        .is_log_json = rig_log_is_json()};
    int err = override_read(bootstrap, arena, &request.override_json, why);
    if (err < 0)
        return err;
    const char *const *argv = arguments_build(&request, arena, warnings);
    if (argv == NULL)
        return rig_fault_set(why, RIG_E_TOO_LARGE, "Envoy's arguments are too large");
    arguments_log(argv, warnings);

    struct envoy_options options = {
        .argv = argv,
        .admin_address = bootstrap->admin_address,
        .drain_target = is_sidecar(bootstrap) ? "/drain_listeners?inboundonly&graceful"
                                              : "/drain_listeners?graceful",
        .termination_drain_ms = bootstrap->settings.termination_drain_ms,
        .on_gone = on_envoy_gone,
        .ctx = bootstrap};
    struct rig_fault reason = {.text = ""};
    err = envoy_open(rig_host_loop(bootstrap->host), &options, &bootstrap->envoy, &reason);
    if (err == 0) {
        rig_host_mark(bootstrap->host, "envoy exec");
        return 0;
    }
    /* Not a failed start: Istio's agent counts it as an Envoy that has exited. */
    rig_log_error("default", "Envoy cannot be started: %s", reason.text);
    readiness_end(bootstrap->readiness, "Envoy cannot be started");
    config_file_remove(bootstrap);
    rig_host_exit(bootstrap->host, exit_status_of(bootstrap, 127, 0));
    return 0;
}

/* All families where the host has IPv6, as Istio does. */
static int status_serve(struct bootstrap *bootstrap, struct rig_fault *why)
{
    char address[32];
    unsigned port = bootstrap->settings.status_port;
    snprintf(address, sizeof(address), "[::]:%u", port);
    int err = rig_host_serve(bootstrap->host, address, why);
    if (err == UV_EAFNOSUPPORT || err == UV_EADDRNOTAVAIL) {
        snprintf(address, sizeof(address), "0.0.0.0:%u", port);
        err = rig_host_serve(bootstrap->host, address, why);
    }
    return err < 0 ? rig_fault_prefix(why, err, "statusPort") : 0;
}

static int bootstrap_start(void *self, struct rig_fault *why)
{
    struct bootstrap *bootstrap = self;
    struct rig_arena arena;
    int err = bootstrap->settings.status_port != 0 ? status_serve(bootstrap, why) : 0;
    if (err < 0)
        return err;
    rig_arena_init(&arena, RENDER_BYTES_MAX);
    err = config_file_write(bootstrap, &arena, why);
    if (err == 0) {
        rig_host_mark(bootstrap->host, "bootstrap written");
        if (bootstrap->config->is_envoy_disabled)
            rig_log_info("default", "DISABLE_ENVOY is set: %s is written, Envoy is not started",
                         bootstrap->config_file);
        else
            err = envoy_run(bootstrap, &arena, why);
        if (err < 0)
            config_file_remove(bootstrap);
    }
    rig_arena_deinit(&arena);
    return err;
}

/* ---- life cycle ---- */

static void on_ready(void *ctx)
{
    rig_host_mark(((struct bootstrap *)ctx)->host, "envoy ready");
}

static void readiness_make(struct bootstrap *bootstrap)
{
    struct rig_provider xds = {0};
    struct readiness_options options = {
        .admin_address = bootstrap->admin_address, .on_ready = on_ready, .ctx = bootstrap};
    if (rig_service_provider(bootstrap->host, XDS_STATUS_SERVICE, 0, &xds) == 0) {
        options.xds = xds.functions;
        options.xds_self = xds.self;
    }
    bootstrap->readiness = readiness_new(rig_host_loop(bootstrap->host), &options);
    if (bootstrap->config->is_envoy_disabled)
        readiness_end(bootstrap->readiness, "Envoy is disabled");
}

static int bootstrap_init(struct rig_host *host, const void *config, void **self,
                          struct rig_fault *why)
{
    struct rig_provider pod = {0};
    struct proxy_settings settings;
    int err = rig_service_provider(host, WORKLOAD_SERVICE, 0, &pod);
    if (err < 0)
        return rig_fault_set(why, err, "no plugin offers the service \"workload\"");
    const struct workload_v1 *functions = pod.functions;
    const struct workload *workload = functions->get(pod.self);
    err = proxy_settings_read(workload->proxy_config, NULL, &settings, why);
    if (err < 0)
        return err;

    struct bootstrap *bootstrap = rig_new(struct bootstrap);
    bootstrap->host = host;
    bootstrap->config = config;
    bootstrap->workload = workload;
    bootstrap->settings = settings;
    rig_arena_init(&bootstrap->arena, 1u << 20);
    bootstrap->config_file = render_path(&bootstrap->arena, settings.config_path, CONFIG_FILE);
    bootstrap->admin_address =
        rig_arena_printf(&bootstrap->arena, render_is_ipv6(workload) ? "[::1]:%u" : "127.0.0.1:%u",
                         settings.admin_port);
    if (rig_arena_is_spent(&bootstrap->arena)) {
        rig_arena_deinit(&bootstrap->arena);
        rig_free(bootstrap);
        return rig_fault_set(why, RIG_E_TOO_LARGE, "configPath is too long");
    }
    readiness_make(bootstrap);
    *self = bootstrap;
    return 0;
}

static void bootstrap_drain(void *self)
{
    struct bootstrap *bootstrap = self;
    readiness_end(bootstrap->readiness, "server is not live, current state is: DRAINING");
    if (bootstrap->envoy == NULL)
        return;
    rig_host_hold(bootstrap->host);
    envoy_drain(bootstrap->envoy);
}

static void bootstrap_stop(void *self, rig_stopped_cb stopped)
{
    struct bootstrap *bootstrap = self;
    readiness_end(bootstrap->readiness, "the agent is ending");
    if (bootstrap->envoy != NULL) {
        bootstrap->stopped = stopped;
        envoy_end(bootstrap->envoy);
        return;
    }
    config_file_remove(bootstrap);
    stopped(bootstrap->host);
}

static void bootstrap_free(void *self)
{
    struct bootstrap *bootstrap = self;
    readiness_free(bootstrap->readiness);
    rig_arena_deinit(&bootstrap->arena);
    rig_free(bootstrap);
}

static void bootstrap_status(void *self, struct rig_arena *arena, struct rig_doc *out)
{
    const struct bootstrap *bootstrap = self;
    rig_doc_set(arena, out, "configFile", rig_doc_text(arena, bootstrap->config_file));
    rig_doc_set(arena, out, "adminAddress", rig_doc_text(arena, bootstrap->admin_address));
    rig_doc_set(arena, out, "isReady",
                rig_doc_bool(arena, readiness_is_ready(bootstrap->readiness)));
    if (bootstrap->envoy != NULL) {
        rig_doc_set(arena, out, "envoyPid", rig_doc_int(arena, envoy_pid(bootstrap->envoy)));
        rig_doc_set(arena, out, "envoyState",
                    rig_doc_text(arena, envoy_state_text(bootstrap->envoy)));
    }
}

static void ready_handle(void *self, struct rig_http1_exchange *exchange,
                         const struct rig_http1_request *request)
{
    (void)request;
    readiness_answer(((struct bootstrap *)self)->readiness, exchange);
}

static const struct rig_route routes[] = {
    {.path = "/healthz/ready",
     .handle = ready_handle,
     .about = "200 when Envoy has its configuration and is live, else 503 and the reason"},
    {0},
};

static const struct rig_need needs[] = {
    {WORKLOAD_SERVICE, WORKLOAD_VERSION, RIG_NEED_ONE},
    {XDS_STATUS_SERVICE, XDS_STATUS_VERSION, RIG_NEED_OPTIONAL},
    /* Only for the order: Envoy asks for its certificate as soon as it runs. */
    {SECRET_SOURCE_SERVICE, SECRET_SOURCE_VERSION, RIG_NEED_EACH},
    {0},
};

#define ROW(kind, member, key, fallback, variables, flag, about)                                   \
    RIG_OPT(kind, struct bootstrap_config, member, key, fallback, variables, flag, about)

static const struct rig_option options[] = {
    ROW(STRING, log_level, "proxyLogLevel", "warning,misc:error", NULL, "proxyLogLevel",
        "Envoy's log level; may hold COMPONENT:LEVEL items"),
    ROW(STRING, component_log_level, "proxyComponentLogLevel", "", NULL, "proxyComponentLogLevel",
        "Levels of components when proxyLogLevel names none"),
    ROW(STRING, override_file, "override", "", "ISTIO_BOOTSTRAP_OVERRIDE", NULL,
        "YAML or JSON file that Envoy merges over its bootstrap"),
    ROW(STRING, envoy_version, "envoyVersion", "1.29", NULL, NULL,
        "MAJOR.MINOR of the Envoy: flags it no longer knows are left out"),
    ROW(BOOL, is_delta, "delta", "false", "ISTIO_DELTA_XDS", NULL,
        "Envoy speaks the delta variant of xDS"),
    ROW(BOOL, is_envoy_disabled, "disableEnvoy", "false", "DISABLE_ENVOY", NULL,
        "Do everything but start Envoy"),
    ROW(BOOL, propagates_exit_status, "propagateExitStatus", "true", NULL, NULL,
        "Exit as Envoy did (128 + signal); false: always 0, as Istio"),
    {0},
};

RIG_EXPORT extern const struct rig_plugin bootstrap_plugin;
const struct rig_plugin bootstrap_plugin = {
    .abi = RIG_PLUGIN_ABI,
    .size = sizeof(struct rig_plugin),
    .name = "bootstrap",
    .about = "Writes Envoy's bootstrap file, runs Envoy, answers for its readiness",
    .version = RIG_VERSION,
    .config_size = sizeof(struct bootstrap_config),
    .options = options,
    .needs = needs,
    .routes = routes,
    .init = bootstrap_init,
    .start = bootstrap_start,
    .drain = bootstrap_drain,
    .stop = bootstrap_stop,
    .free = bootstrap_free,
    .status = bootstrap_status,
};
