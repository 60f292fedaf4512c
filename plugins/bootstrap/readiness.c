/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/readiness.c: reads readiness out of Envoy's statistics, with the sentences
 * that operators of Istio search for. */
#include "readiness.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/http1.h"
#include "core/log.h"

/* As many as the status server has connections. */
#define WAITING_MAX 64

/* Istio asks twice, for configuration and for life; one answer has both. */
#define STATS_TARGET                                                                               \
    "/stats?usedonly&filter=%5E(cluster_manager%5C.cds%7Clistener_manager%5C.lds)"                 \
    "%5C.(update_success%7Cupdate_rejected)$%7C%5E(server%5C.state%7C"                             \
    "listener_manager%5C.workers_started)"
#define STATS_TIMEOUT_MS 1000

struct readiness {
    uv_loop_t *loop;
    struct readiness_options options;
    struct rig_http1_call *call; /* NULL when none is under way */
    struct rig_http1_exchange *waiting[WAITING_MAX];
    size_t waiting_count;
    const char *ended_by; /* NULL while it may become ready */
    bool is_ready;
};

struct readiness *readiness_new(uv_loop_t *loop, const struct readiness_options *options)
{
    struct readiness *readiness = rig_new(struct readiness);
    readiness->loop = loop;
    readiness->options = *options;
    return readiness;
}

/* ---- the verdict ---- */

/* The value of a line "name: number"; 0 when it is not there, as Istio counts. */
static uint64_t stat_read(struct rig_slice stats, const char *name, bool *is_there)
{
    size_t name_len = strlen(name);
    while (stats.len > 0) {
        const uint8_t *end = memchr(stats.at, '\n', stats.len);
        size_t len = end != NULL ? (size_t)(end - stats.at) : stats.len;
        if (len > name_len + 2 && memcmp(stats.at, name, name_len) == 0 &&
            memcmp(stats.at + name_len, ": ", 2) == 0) {
            char digits[24] = {0};
            size_t digits_len = len - name_len - 2;
            memcpy(digits, stats.at + name_len + 2,
                   digits_len < sizeof(digits) ? digits_len : sizeof(digits) - 1);
            *is_there = true;
            return strtoull(digits, NULL, 10);
        }
        size_t taken = end != NULL ? len + 1 : len;
        stats = rig_slice(stats.at + taken, stats.len - taken);
    }
    *is_there = false;
    return 0;
}

static int judge_config(struct rig_slice stats, struct rig_fault *why)
{
    bool is_there;
    uint64_t cds = stat_read(stats, "cluster_manager.cds.update_success", &is_there);
    uint64_t lds = stat_read(stats, "listener_manager.lds.update_success", &is_there);
    uint64_t cds_bad = stat_read(stats, "cluster_manager.cds.update_rejected", &is_there);
    uint64_t lds_bad = stat_read(stats, "listener_manager.lds.update_rejected", &is_there);
    const char *stage = "config not fully received from XDS server";
    if (cds > 0 && lds > 0)
        return 0;
    if (cds + lds + cds_bad + lds_bad == 0)
        stage = "config not received from XDS server (is Istiod running?)";
    else if (cds_bad + lds_bad > 0)
        stage = "config received from XDS server, but was rejected";
    return rig_fault_set(why, RIG_E_PENDING,
                         "%s: cds updates: %" PRIu64 " successful, %" PRIu64
                         " rejected; lds updates: %" PRIu64 " successful, %" PRIu64 " rejected",
                         stage, cds, cds_bad, lds, lds_bad);
}

static int judge_life(struct rig_slice stats, struct rig_fault *why)
{
    static const char *const states[] = {"LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING"};
    bool has_state, has_workers;
    uint64_t state = stat_read(stats, "server.state", &has_state);
    uint64_t workers = stat_read(stats, "listener_manager.workers_started", &has_workers);
    if (!has_state)
        return rig_fault_set(why, RIG_E_PENDING, "server is not live, its state is not known yet");
    if (state != 0)
        return rig_fault_set(why, RIG_E_PENDING, "server is not live, current state is: %s",
                             state < sizeof(states) / sizeof(states[0]) ? states[state] : "?");
    if (!has_workers || workers != 1)
        return rig_fault_set(why, RIG_E_PENDING, "workers have not yet started");
    return 0;
}

int readiness_judge(struct rig_slice stats, struct rig_fault *why)
{
    int err = judge_config(stats, why);
    return err < 0 ? err : judge_life(stats, why);
}

/* ---- asking ---- */

static void answer(struct rig_http1_exchange *exchange, int status, const char *text)
{
    rig_http1_respond(exchange, status, "text/plain; charset=utf-8", rig_slice_text(text));
}

static void answer_waiting(struct readiness *readiness, int status, const char *text)
{
    size_t count = readiness->waiting_count;
    readiness->waiting_count = 0;
    for (size_t i = 0; i < count; i++)
        answer(readiness->waiting[i], status, text);
}

/* Says no, with the stage: behind "config not received" there is a reason of the connection. */
static void refuse(struct readiness *readiness, const char *reason)
{
    const struct readiness_options *options = &readiness->options;
    struct rig_buf text = {0};
    const char *failure = "";
    if (options->xds != NULL && !options->xds->is_connected(options->xds_self))
        failure = options->xds->last_failure(options->xds_self);
    rig_buf_append_text(&text, reason);
    if (failure[0] != '\0')
        rig_buf_printf(&text, "; control plane: %s", failure);
    rig_log_warn("default", "Envoy proxy is NOT ready: %s", rig_buf_text(&text));
    rig_buf_append_text(&text, "\n");
    answer_waiting(readiness, 503, rig_buf_text(&text));
    rig_buf_deinit(&text);
}

static void on_stats(void *ctx, int err, int status, struct rig_slice body,
                     const struct rig_fault *why)
{
    struct readiness *readiness = ctx;
    struct rig_fault reason = {.text = ""};
    readiness->call = NULL;
    if (err < 0)
        rig_fault_set(&reason, err, "Envoy's admin port %s: %s", readiness->options.admin_address,
                      why != NULL && why->text[0] != '\0' ? why->text : rig_error_text(err));
    else if (status != 200)
        err = rig_fault_set(&reason, RIG_E_PROTOCOL, "Envoy's admin port answered /stats with %d",
                            status);
    else
        err = readiness_judge(body, &reason);
    if (err < 0) {
        refuse(readiness, reason.text);
        return;
    }
    readiness->is_ready = true;
    rig_log_info("default", "Envoy proxy is ready");
    readiness->options.on_ready(readiness->options.ctx);
    answer_waiting(readiness, 200, "");
}

void readiness_answer(struct readiness *readiness, struct rig_http1_exchange *exchange)
{
    struct rig_fault why = {.text = ""};
    if (readiness->ended_by == NULL && readiness->is_ready) {
        answer(exchange, 200, "");
        return;
    }
    if (readiness->waiting_count == WAITING_MAX) {
        answer(exchange, 503, "too many probes are waiting\n");
        return;
    }
    readiness->waiting[readiness->waiting_count++] = exchange;
    if (readiness->ended_by != NULL) {
        refuse(readiness, readiness->ended_by);
        return;
    }
    if (readiness->call != NULL)
        return;
    struct rig_http1_call_options options = {.address = readiness->options.admin_address,
                                             .method = "GET",
                                             .target = STATS_TARGET,
                                             .timeout_ms = STATS_TIMEOUT_MS};
    if (rig_http1_call_start(readiness->loop, &options, on_stats, readiness, &readiness->call,
                             &why) < 0)
        refuse(readiness, why.text);
}

void readiness_end(struct readiness *readiness, const char *reason)
{
    readiness->ended_by = reason;
    if (readiness->call != NULL)
        rig_http1_call_cancel(readiness->call);
    readiness->call = NULL;
    if (readiness->waiting_count > 0)
        refuse(readiness, reason);
}

bool readiness_is_ready(const struct readiness *readiness)
{
    return readiness->is_ready && readiness->ended_by == NULL;
}

void readiness_free(struct readiness *readiness)
{
    if (readiness == NULL)
        return;
    readiness_end(readiness, "the agent is going away");
    rig_free(readiness);
}
