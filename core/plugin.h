/* SPDX-License-Identifier: Apache-2.0 */
/* core/plugin.h: the plugin interface; everything a plugin may ask of core starts here.
 *
 * The file `sds.so` exports `const struct rig_plugin sds_plugin`. Order: init and start follow
 * needs, drain, stop and free run in reverse. A failed init or start unwinds what came before
 * and ends the program with one sentence that names the plugin. The .so stays mapped until the
 * loop is closed, so no late callback runs into unmapped code. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "config.h"
#include "doc.h"
#include "fault.h"
#include "script.h"
#include "service.h"

#define RIG_PLUGIN_ABI 1u

/* On the definition of the plugin struct: the one symbol a plugin shows. */
#define RIG_EXPORT __attribute__((visibility("default")))

struct rig_host;
struct rig_http1_exchange;
struct rig_http1_request;

/* Called once by `stop` when the last handle is closed. */
typedef void (*rig_stopped_cb)(struct rig_host *host);

struct rig_route {
    const char *method;    /* "GET"; NULL: any */
    const char *path;      /* exact */
    bool is_loopback_only; /* others get 403 */
    /* Leads to one rig_http1_respond, now or later. */
    void (*handle)(void *self, struct rig_http1_exchange *exchange,
                   const struct rig_http1_request *request);
    const char *about;
};

struct rig_command {
    const char *name;     /* `outrigger <name> ...` */
    const char *usage;    /* after the name: "create --namespace NS ..." */
    const char *about;    /* one sentence */
    const char *examples; /* for --help; lines */
    size_t config_size;
    const struct rig_option *options; /* its flags */
    /* `words` are the arguments that are no flags. Returns the exit status. Runs without a loop
     * and without any plugin's init. Prints its own errors to stderr. */
    int (*run)(const void *config, int word_count, char *const *words);
};

struct rig_plugin {
    uint32_t abi;                     /* stays first for ever: read before any other field */
    uint32_t size;                    /* sizeof this struct when the plugin was compiled */
    const char *name;                 /* .so name, config section: one word */
    const char *about;                /* one sentence for `outrigger plugins` */
    const char *version;
    size_t config_size;               /* core allocates and fills it from the option table */
    const struct rig_option *options; /* all tables end with { 0 }; NULL for none */
    const struct rig_offer *offers;   /* bound after init */
    const struct rig_need *needs;
    const struct rig_command *commands;
    const struct rig_route *routes;

    /* Check the config, allocate, find services. May not touch the loop, nor leave anything
     * behind on failure. `config` lives as long as the plugin. */
    int (*init)(struct rig_host *host, const void *config, void **self, struct rig_fault *why);
    /* Open listeners, timers, children. May not block. On failure nothing is left open, or
     * `stop` would have to be called: it is not. */
    int (*start)(void *self, struct rig_fault *why);
    /* Refuse new work, finish the old; called at most once, optional. */
    void (*drain)(void *self);
    /* Close all handles, then call `stopped(host)` exactly once, not inside this call unless no
     * handle was open. */
    void (*stop)(void *self, rig_stopped_cb stopped);
    void (*free)(void *self);
    /* Adds members to `out`, a map in `arena`; optional. */
    void (*status)(void *self, struct rig_arena *arena, struct rig_doc *out);
};

/* ---- what core gives a plugin ---- */

uv_loop_t *rig_host_loop(struct rig_host *host);

/* Ends the program in an orderly way: drain is skipped, stop and free run, then `exit_status`.
 * The first caller decides. */
void rig_host_exit(struct rig_host *host, int exit_status);

/* Delays the end that a signal began: the program goes on (drained) until rig_host_exit, or
 * until a second signal. Call from `drain`. */
void rig_host_hold(struct rig_host *host);

/* One row of the start-up timeline ("xds socket served"), in ms since the program began; shown by
 * /status. The first of each name counts. `event` is copied. */
void rig_host_mark(struct rig_host *host, const char *event);

/* Where scripts are looked up: the site's directories, then the shipped ones. */
const struct rig_script_dirs *rig_host_scripts(const struct rig_host *host);

/* Serves the routes of all plugins, and core's own GET /status, on this address ("[::]:15020"). */
int rig_host_serve(struct rig_host *host, const char *address, struct rig_fault *why);

/* Every option that has a flag is logged by core at start-up, given or not, as one line
 * FLAG: --name="value"; secrets are not, and a plugin need not. */
