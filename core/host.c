/* SPDX-License-Identifier: Apache-2.0 */
/* core/host.c: the life cycle. Plugins are stopped one after the other, each reports when its
 * last handle is closed; only then the next, so a plugin's needs outlive it. The steps run from
 * an async handle, never inside a plugin's own callback. */
#include "host.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "alloc.h"
#include "clock.h"
#include "host_private.h"
#include "log.h"

#define CONFIG_BYTES_MAX (4u << 20)

const char *host_phase_text(enum host_phase phase)
{
    static const char *const texts[] = {"loading",  "init",     "starting", "running",
                                        "draining", "stopping", "ended"};
    return texts[phase];
}

static void phase_set(struct rig_host *host, enum host_phase phase)
{
    rig_log_debug("default", "%s -> %s", host_phase_text(host->phase), host_phase_text(phase));
    host->phase = phase;
}

/* ---- what plugins call ---- */

uv_loop_t *rig_host_loop(struct rig_host *host)
{
    return &host->loop;
}

const struct rig_script_dirs *rig_host_scripts(const struct rig_host *host)
{
    return &host->scripts;
}

void rig_host_hold(struct rig_host *host)
{
    host->is_held = true;
}

void rig_host_exit(struct rig_host *host, int exit_status)
{
    if (host->has_exit_status)
        return;
    host->has_exit_status = true;
    host->exit_status = exit_status;
    host->is_held = false;
    uv_async_send(&host->wake);
}

void rig_host_mark(struct rig_host *host, const char *event)
{
    for (size_t i = 0; i < host->mark_count; i++) {
        if (strncmp(host->marks[i].event, event, sizeof(host->marks[i].event) - 1) == 0)
            return;
    }
    if (host->mark_count == HOST_MARKS_MAX)
        return;
    size_t at = host->mark_count++;
    snprintf(host->marks[at].event, sizeof(host->marks[at].event), "%s", event);
    host->marks[at].at_us = rig_clock_us();
}

int rig_service_provider(const struct rig_host *host, const char *service, size_t index,
                         struct rig_provider *provider)
{
    for (size_t i = 0; i < host->count; i++) {
        const struct host_plugin *p = &host->plugins[i];
        if (!p->is_inited)
            continue;
        for (const struct rig_offer *o = p->loaded.plugin.offers; o != NULL && o->service != NULL;
             o++) {
            if (strcmp(o->service, service) != 0 || index-- > 0)
                continue;
            *provider = (struct rig_provider){
                .plugin = p->loaded.plugin.name, .functions = o->functions, .self = p->self};
            return 0;
        }
    }
    return RIG_E_ABSENT;
}

/* ---- the end, step by step ---- */

static void stopped_cb(struct rig_host *host)
{
    rig_require(host->is_waiting);
    host->is_waiting = false;
    host->stopping--;
    uv_async_send(&host->wake);
}

/* The last handles of all. What is left is a request on the pool that nobody waits for, a resolver
 * that hangs: it may not keep the program. */
static void on_handle_closed(uv_handle_t *handle)
{
    struct rig_host *host = handle->data;
    if (--host->own_handles == 0)
        uv_stop(&host->loop);
}

static void on_admin_closed(struct rig_host *host)
{
    for (size_t i = host->count; i-- > 0;) {
        struct host_plugin *p = &host->plugins[i];
        if (p->is_inited)
            p->loaded.plugin.free(p->self);
        p->is_inited = false;
        p->self = NULL;
    }
    host->own_handles = 3;
    for (size_t i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&host->signals[i], on_handle_closed);
    uv_close((uv_handle_t *)&host->wake, on_handle_closed);
    phase_set(host, HOST_ENDED);
}

/* Stops the next plugin, or, after the last, closes what is core's. */
static void stop_step(struct rig_host *host)
{
    while (!host->is_waiting && host->stopping > 0) {
        struct host_plugin *p = &host->plugins[host->stopping - 1];
        if (!p->is_started) {
            host->stopping--;
            continue;
        }
        p->is_started = false;
        host->is_waiting = true;
        rig_log_debug("default", "stopping %s", p->loaded.plugin.name);
        p->loaded.plugin.stop(p->self, stopped_cb);
    }
    if (!host->is_waiting && host->phase == HOST_STOPPING) {
        host->is_waiting = true; /* nothing may run this step twice */
        admin_close(host, on_admin_closed);
    }
}

static void stop_begin(struct rig_host *host)
{
    if (host->phase >= HOST_STOPPING)
        return;
    phase_set(host, HOST_STOPPING);
    host->stopping = host->count;
    uv_async_send(&host->wake);
}

static void on_wake(uv_async_t *wake)
{
    struct rig_host *host = wake->data;
    if (host->has_exit_status && host->phase >= HOST_RUNNING)
        stop_begin(host);
    if (host->phase == HOST_STOPPING)
        stop_step(host);
}

void host_terminate(struct rig_host *host)
{
    if (host->phase < HOST_RUNNING)
        return; /* start is synchronous; the signal is seen when the loop runs */
    if (host->phase == HOST_DRAINING)
        rig_log_info("default", "second signal: the drain is cut short");
    if (host->phase != HOST_RUNNING) {
        stop_begin(host);
        return;
    }
    phase_set(host, HOST_DRAINING);
    for (size_t i = host->count; i-- > 0;) {
        struct host_plugin *p = &host->plugins[i];
        if (p->is_started && p->loaded.plugin.drain != NULL)
            p->loaded.plugin.drain(p->self);
    }
    if (!host->is_held)
        stop_begin(host);
}

static void on_signal(uv_signal_t *signal, int number)
{
    rig_log_info("default", "received signal %s, terminating",
                 number == SIGTERM ? "SIGTERM" : "SIGINT");
    host_terminate(signal->data);
}

/* ---- the beginning ---- */

static int plugins_init(struct rig_host *host, struct rig_fault *why)
{
    phase_set(host, HOST_INIT);
    for (size_t i = 0; i < host->count; i++) {
        struct host_plugin *p = &host->plugins[i];
        int err = p->loaded.plugin.init(host, p->options.config, &p->self, why);
        if (err < 0)
            return rig_fault_prefix(why, err, "plugin %s", p->loaded.plugin.name);
        p->is_inited = true;
    }
    return 0;
}

static int plugins_start(struct rig_host *host, struct rig_fault *why)
{
    phase_set(host, HOST_STARTING);
    for (size_t i = 0; i < host->count; i++) {
        struct host_plugin *p = &host->plugins[i];
        int err = p->loaded.plugin.start != NULL ? p->loaded.plugin.start(p->self, why) : 0;
        if (err < 0)
            return rig_fault_prefix(why, err, "plugin %s", p->loaded.plugin.name);
        p->is_started = true;
    }
    rig_host_mark(host, "plugins started");
    return 0;
}

static void handles_open(struct rig_host *host)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    rig_require(uv_async_init(&host->loop, &host->wake, on_wake) == 0);
    host->wake.data = host;
    for (size_t i = 0; i < 2; i++) {
        rig_require(uv_signal_init(&host->loop, &host->signals[i]) == 0);
        host->signals[i].data = host;
        uv_signal_start(&host->signals[i], on_signal, numbers[i]);
    }
    sigset_t all;
    sigemptyset(&all);
    for (size_t i = 0; i < 2; i++)
        sigaddset(&all, numbers[i]);
    /* main blocked them before anything else: as process 1 of a container we would lose one. */
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
}

int host_run(struct rig_host *host)
{
    struct rig_fault why = {0};
    handles_open(host);
    int err = plugins_init(host, &why);
    if (err == 0)
        err = plugins_start(host, &why);
    if (err < 0) {
        rig_log_error("default", "%s", why.text[0] != '\0' ? why.text : rig_error_text(err));
        rig_host_exit(host, host->failure_status);
        stop_begin(host);
    } else {
        phase_set(host, HOST_RUNNING);
        if (host->has_exit_status)
            uv_async_send(&host->wake);
    }
    uv_run(&host->loop, UV_RUN_DEFAULT);
    rig_require(host->phase == HOST_ENDED);
    return host->exit_status;
}

/* ---- building ---- */

struct rig_host *host_new(void)
{
    struct rig_host *host = rig_new(struct rig_host);
    host->began_us = rig_clock_us();
    host->failure_status = 1;
    rig_require(uv_loop_init(&host->loop) == 0);
    rig_arena_init(&host->arena, CONFIG_BYTES_MAX);
    return host;
}

void host_name(struct rig_host *host, const char *role)
{
    snprintf(host->role, sizeof(host->role), "%s", role);
}

void host_failure_status(struct rig_host *host, int status)
{
    host->failure_status = status;
}

void host_scripts(struct rig_host *host, const char *const *dirs, size_t site_count)
{
    host->script_dirs = dirs;
    host->scripts = (struct rig_script_dirs){.dirs = dirs, .site_count = site_count};
}

void host_add(struct rig_host *host, struct loaded *loaded)
{
    host->plugins = rig_realloc(host->plugins, (host->count + 1) * sizeof(*host->plugins));
    host->plugins[host->count++] = (struct host_plugin){.loaded = *loaded};
    *loaded = (struct loaded){0};
}

static void plugins_permute(struct rig_host *host, const size_t *order)
{
    struct host_plugin *sorted = rig_alloc((host->count + 1) * sizeof(*sorted));
    for (size_t i = 0; i < host->count; i++)
        sorted[i] = host->plugins[order[i]];
    rig_free(host->plugins);
    host->plugins = sorted;
}

int host_configure(struct rig_host *host, struct rig_fault *why)
{
    struct loaded *all = rig_alloc((host->count + 1) * sizeof(*all));
    size_t *order = rig_alloc((host->count + 1) * sizeof(*order));
    for (size_t i = 0; i < host->count; i++)
        all[i] = host->plugins[i].loaded;
    int err = loader_order(all, host->count, order, why);
    if (err == 0)
        plugins_permute(host, order);
    for (size_t i = 0; i < host->count && err == 0; i++) {
        const struct rig_plugin *plugin = &host->plugins[i].loaded.plugin;
        err = options_init(&host->plugins[i].options, plugin->name, plugin->options,
                           plugin->config_size, &host->arena, why);
    }
    rig_free(all);
    rig_free(order);
    return err;
}

struct options *host_options_at(struct rig_host *host, size_t index)
{
    return index < host->count ? &host->plugins[index].options : NULL;
}

struct options *host_options(struct rig_host *host, const char *plugin)
{
    for (size_t i = 0; i < host->count; i++) {
        if (strcmp(host->plugins[i].loaded.plugin.name, plugin) == 0)
            return &host->plugins[i].options;
    }
    return NULL;
}

int host_set(struct rig_host *host, const char *plugin, const char *key, const char *text,
             struct rig_fault *why)
{
    struct options *options = host_options(host, plugin);
    const struct rig_option *row =
        options != NULL ? options_row(options, rig_slice_text(key)) : NULL;
    if (row == NULL)
        return rig_fault_set(why, RIG_E_UNKNOWN, "%s.%s: no such option", plugin, key);
    return options_set(options, row, text, "test", why);
}

static void on_walk(uv_handle_t *handle, void *ctx)
{
    (void)handle;
    *(bool *)ctx = true;
}

bool host_free(struct rig_host *host)
{
    if (host == NULL)
        return true;
    uv_run(&host->loop, UV_RUN_NOWAIT);
    int err = uv_loop_close(&host->loop);
    bool has_handles = false;
    if (err != 0)
        uv_walk(&host->loop, on_walk, &has_handles);
    if (err != 0 && !has_handles)
        return false; /* a thread of the pool will still write to the loop */
    /* Handles that a plugin forgot would keep the loop open: our own mistake, said loudly. */
    if (err != 0)
        uv_print_all_handles(&host->loop, stderr);
    rig_require(err == 0);
    for (size_t i = host->count; i-- > 0;)
        loader_close(&host->plugins[i].loaded);
    rig_free(host->plugins);
    rig_arena_deinit(&host->arena);
    rig_free(host);
    return true;
}
