/* SPDX-License-Identifier: Apache-2.0 */
/* core/host.h: the running program: its plugins, their life cycle, the loop.
 *
 * Private to core and to tests, which may build a host of linked-in plugins:
 *     host_new, host_add (each), host_configure, [host_set], host_run, host_free. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "arena.h"
#include "fault.h"
#include "loader.h"
#include "options.h"
#include "plugin.h"

enum host_phase {
    /*  LOADING -> INIT -> STARTING -> RUNNING -> DRAINING -> STOPPING -> ENDED
     *                        \______________________________/ (failed start) */
    HOST_LOADING,
    HOST_INIT,
    HOST_STARTING,
    HOST_RUNNING,
    HOST_DRAINING,
    HOST_STOPPING,
    HOST_ENDED,
};

/* Returns owned. The loop exists from here on. */
struct rig_host *host_new(void);

/* Names for the log and /status; copied. */
void host_name(struct rig_host *host, const char *role);

/* Takes what was loaded; in configured order. */
void host_add(struct rig_host *host, struct loaded *loaded);

/* Orders the plugins and allocates their options with defaults. */
int host_configure(struct rig_host *host, struct rig_fault *why);

/* The options of a plugin; NULL when it is not loaded. */
struct options *host_options(struct rig_host *host, const char *plugin);

/* The options of the `index`-th plugin in starting order; NULL past the last. */
struct options *host_options_at(struct rig_host *host, size_t index);

/* Sets one option as if a flag had; for tests. */
int host_set(struct rig_host *host, const char *plugin, const char *key, const char *text,
             struct rig_fault *why);

/* Keeps; where scripts are looked up, NULL-terminated; the first `site_count` are the site's. */
void host_scripts(struct rig_host *host, const char *const *dirs, size_t site_count);

/* What host_run returns when init or start failed; 1 unless said. */
void host_failure_status(struct rig_host *host, int status);

/* init, start, loop, stop, free. Returns the exit status: what rig_host_exit said, 0 after a
 * signal, the failure status after a failed init or start (logged with the plugin's name). */
int host_run(struct rig_host *host);

/* As an incoming SIGTERM. */
void host_terminate(struct rig_host *host);

/* False: the pool is still at work for nobody (a resolver that hangs), so nothing was freed, and
 * exit(3) would wait for it as well: leave by _exit. */
bool host_free(struct rig_host *host);
