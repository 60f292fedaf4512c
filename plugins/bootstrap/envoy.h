/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/envoy.h: the Envoy process: started once, drained, ended, reported. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "core/fault.h"

struct envoy;

struct envoy_options {
    const char *const *argv;
    const char *admin_address;     /* "127.0.0.1:15000"; keeps */
    const char *drain_target;      /* "/drain_listeners?inboundonly&graceful"; keeps */
    uint64_t termination_drain_ms; /* from the drain to SIGTERM */
    /* The process is gone and nothing of `envoy` is left. Exactly once, never inside a call.
     * `was_asked`: envoy_drain or envoy_end came before. `signal` is 0 when it exited itself. */
    void (*on_gone)(void *ctx, bool was_asked, int64_t exit_status, int signal);
    void *ctx;
};

/* libuv's code (UV_ENOENT, UV_EACCES, ...) when it cannot be started; then nothing is left. */
int envoy_open(uv_loop_t *loop, const struct envoy_options *options, struct envoy **envoy,
               struct rig_fault *why);

/* Has the listeners drained, waits termination_drain_ms or until Envoy exits by itself, then
 * ends it. */
void envoy_drain(struct envoy *envoy);

/* SIGTERM now; SIGKILL when that does not help. Cuts a drain short. */
void envoy_end(struct envoy *envoy);

pid_t envoy_pid(const struct envoy *envoy);
const char *envoy_state_text(const struct envoy *envoy);
