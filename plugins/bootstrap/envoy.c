/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/envoy.c: one Envoy process from start to end.
 *
 * Istio kills Envoy with SIGKILL after the drain, which loses the access logs of the last
 * moments; here it is asked first. It is started once: Kubernetes restarts, and spaces out the
 * attempts, better than an agent could. */
#include "envoy.h"

#include <signal.h>

#include "core/alloc.h"
#include "core/http1.h"
#include "core/log.h"
#include "core/process.h"

/* What an Envoy that was asked to exit may still take for its logs. */
#define TERMINATE_MS          500
#define DRAIN_CALL_TIMEOUT_MS 2000

/*   RUNNING -> ASKING -> DRAINING -> TERMINATING -> KILLING -> GONE
 *      \______________________________^  (envoy_end)
 * From any of them to GONE when the process exits. */
enum envoy_state {
    ENVOY_RUNNING,
    ENVOY_ASKING,      /* the call to /drain_listeners is under way */
    ENVOY_DRAINING,    /* the timer runs to the end of the drain */
    ENVOY_TERMINATING, /* SIGTERM sent */
    ENVOY_KILLING,     /* SIGKILL sent */
    ENVOY_GONE,
};

struct envoy {
    uv_loop_t *loop;
    struct envoy_options options;
    struct rig_process *process;
    struct rig_http1_call *call;
    uv_timer_t timer;
    enum envoy_state state;
    bool was_asked;
    int64_t exit_status;
    int signal;
};

static const char *state_text(enum envoy_state state)
{
    static const char *const texts[] = {"running",     "asking to drain", "draining",
                                        "terminating", "killing",         "gone"};
    return texts[state];
}

const char *envoy_state_text(const struct envoy *envoy)
{
    return state_text(envoy->state);
}

pid_t envoy_pid(const struct envoy *envoy)
{
    return envoy->process != NULL ? rig_process_pid(envoy->process) : 0;
}

static void state_set(struct envoy *envoy, enum envoy_state state)
{
    rig_log_debug("default", "Envoy: %s -> %s", state_text(envoy->state), state_text(state));
    envoy->state = state;
}

static void call_cancel(struct envoy *envoy)
{
    if (envoy->call != NULL)
        rig_http1_call_cancel(envoy->call);
    envoy->call = NULL;
}

static void on_closed(uv_handle_t *handle)
{
    struct envoy *envoy = handle->data;
    envoy->options.on_gone(envoy->options.ctx, envoy->was_asked, envoy->exit_status, envoy->signal);
    rig_free(envoy);
}

static void on_exit_status(void *ctx, int64_t exit_status, int signal)
{
    struct envoy *envoy = ctx;
    envoy->process = NULL;
    envoy->exit_status = exit_status;
    envoy->signal = signal;
    state_set(envoy, ENVOY_GONE);
    call_cancel(envoy);
    uv_close((uv_handle_t *)&envoy->timer, on_closed);
}

static void signal_send(struct envoy *envoy, int signal)
{
    int err = rig_process_signal(envoy->process, signal);
    if (err < 0 && err != UV_ESRCH) /* ESRCH: it is gone and on_exit_status will say so */
        rig_log_error("default", "cannot signal Envoy: %s", rig_error_text(err));
}

static void on_timer(uv_timer_t *timer)
{
    struct envoy *envoy = timer->data;
    if (envoy->state == ENVOY_DRAINING) {
        rig_log_info("default", "Graceful termination period is over, terminating Envoy");
        envoy_end(envoy);
        return;
    }
    rig_log_warn("default", "Envoy did not exit within %d ms of SIGTERM, killing it", TERMINATE_MS);
    state_set(envoy, ENVOY_KILLING);
    signal_send(envoy, SIGKILL);
}

/* However the call ended: what cannot be drained gets its time all the same, as with Istio. */
static void drain_wait(struct envoy *envoy)
{
    state_set(envoy, ENVOY_DRAINING);
    rig_log_info("default", "Graceful termination period is %llu ms, starting...",
                 (unsigned long long)envoy->options.termination_drain_ms);
    uv_timer_start(&envoy->timer, on_timer, envoy->options.termination_drain_ms, 0);
}

static void on_drain_answer(void *ctx, int err, int status, struct rig_slice body,
                            const struct rig_fault *why)
{
    struct envoy *envoy = ctx;
    (void)body;
    envoy->call = NULL;
    if (err < 0)
        rig_log_warn("default", "Envoy was not told to drain: %s",
                     why != NULL && why->text[0] != '\0' ? why->text : rig_error_text(err));
    else if (status != 200)
        rig_log_warn("default", "Envoy answered %s with %d", envoy->options.drain_target, status);
    drain_wait(envoy);
}

void envoy_drain(struct envoy *envoy)
{
    if (envoy->state != ENVOY_RUNNING)
        return;
    struct rig_fault why = {.text = ""};
    struct rig_http1_call_options options = {.address = envoy->options.admin_address,
                                             .method = "POST",
                                             .target = envoy->options.drain_target,
                                             .timeout_ms = DRAIN_CALL_TIMEOUT_MS};
    envoy->was_asked = true;
    state_set(envoy, ENVOY_ASKING);
    rig_log_info("default", "Agent draining Proxy for termination");
    int err =
        rig_http1_call_start(envoy->loop, &options, on_drain_answer, envoy, &envoy->call, &why);
    if (err < 0) {
        rig_log_warn("default", "Envoy was not told to drain: %s", why.text);
        drain_wait(envoy);
    }
}

void envoy_end(struct envoy *envoy)
{
    if (envoy->state >= ENVOY_TERMINATING)
        return;
    call_cancel(envoy);
    envoy->was_asked = true;
    state_set(envoy, ENVOY_TERMINATING);
    signal_send(envoy, SIGTERM);
    uv_timer_start(&envoy->timer, on_timer, TERMINATE_MS, 0);
}

int envoy_open(uv_loop_t *loop, const struct envoy_options *options, struct envoy **out,
               struct rig_fault *why)
{
    struct envoy *envoy = rig_new(struct envoy);
    envoy->loop = loop;
    envoy->options = *options;
    struct rig_process_options process = {
        .argv = options->argv, .on_exit = on_exit_status, .ctx = envoy};
    int err = rig_process_open(loop, &process, &envoy->process, why);
    if (err < 0) {
        rig_free(envoy);
        return err;
    }
    rig_require(uv_timer_init(loop, &envoy->timer) == 0);
    envoy->timer.data = envoy;
    *out = envoy;
    return 0;
}
