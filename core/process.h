/* SPDX-License-Identifier: Apache-2.0 */
/* core/process.h: a child process: spawned with our standard streams, signalled, reaped. It dies
 * with us (PR_SET_PDEATHSIG) and may dump core even though we do not. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "fault.h"

struct rig_process;

struct rig_process_options {
    const char *const *argv;   /* argv[0] is the file to run; NULL-terminated */
    const char *const *envp;   /* NULL: ours */
    /* The child is gone; exactly once. `signal` is 0 when it exited by itself. The process is
     * gone when this returns. */
    void (*on_exit)(void *ctx, int64_t exit_status, int signal);
    void *ctx;
};

/* libuv's code (UV_ENOENT, ...) when it cannot be started; then on_exit does not come. */
int rig_process_open(uv_loop_t *loop, const struct rig_process_options *options,
                     struct rig_process **process, struct rig_fault *why);

pid_t rig_process_pid(const struct rig_process *process);
int rig_process_signal(struct rig_process *process, int signal);
