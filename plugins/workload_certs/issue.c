/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/issue.c: key on the pool, then the CAs in their configured order. */
#include "issue.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "plugins/services/ca.h"

static void ask_next(struct issue *issue, int err, const struct rig_fault *why);

static void issue_reset(struct issue *issue)
{
    csr_deinit(&issue->csr);
    issue->call = NULL;
    issue->state = ISSUE_IDLE;
}

static void issue_fail(struct issue *issue, int err, bool was_signed)
{
    issue_reset(issue);
    issue->events->on_failed(issue->ctx, err, was_signed, &issue->why);
}

static const char *ca_name(const struct issue *issue)
{
    return issue->cas[issue->ca_index].plugin;
}

static void issue_check(struct issue *issue, const struct rig_slice *chain, size_t count)
{
    struct answer answer = {0};
    const struct answer_expectation expected = {
        .public_der = rig_buf_slice(&issue->csr.public_der),
        .spiffe_id = issue->request.spiffe_id,
        .now_s = rig_clock_wall_s(),
    };
    int err = answer_read(chain, count, &expected, &answer, &issue->why);
    if (err < 0) {
        rig_fault_prefix(&issue->why, err, "answer of %s is of no use", ca_name(issue));
        issue_fail(issue, err, true);
        return;
    }
    struct rig_secret key_pem = issue->csr.key_pem;
    issue->csr.key_pem = (struct rig_secret){0};
    issue_reset(issue);
    issue->events->on_issued(issue->ctx, &key_pem, &answer);
    rig_secret_deinit(&key_pem);
    answer_deinit(&answer);
}

static void on_signed(void *ctx, int err, const struct rig_fault *why,
                      const struct rig_slice *chain, size_t count)
{
    struct issue *issue = ctx;
    issue->call = NULL;
    if (err < 0) {
        ask_next(issue, err, why);
        return;
    }
    issue->times.ca_ms = rig_clock_ms() - issue->times.started_ms - issue->times.key_ms;
    issue_check(issue, chain, count);
}

static void ask(struct issue *issue)
{
    const struct rig_provider *provider = &issue->cas[issue->ca_index];
    const struct ca_v1 *ca = provider->functions;
    issue->state = ISSUE_ASKING;
    issue->call = ca->sign(provider->self, rig_buf_slice(&issue->csr.request_pem), issue->ttl_s,
                           on_signed, issue);
}

/* This CA did not sign: the next one, with the same key; after the last the reason goes up. */
static void ask_next(struct issue *issue, int err, const struct rig_fault *why)
{
    rig_fault_set(&issue->why, err, "%s: %s", ca_name(issue), why->text);
    if (issue->ca_index + 1 >= issue->ca_count) {
        issue_fail(issue, err, false);
        return;
    }
    issue->ca_index++;
    ask(issue);
}

/* On a thread of the pool: touches the request, the csr and the fault alone. */
static void key_work(uv_work_t *work)
{
    struct issue *issue = rig_container(work, struct issue, work);
    issue->key_err = csr_make(&issue->request, &issue->csr, &issue->why);
}

static void key_done(uv_work_t *work, int status)
{
    struct issue *issue = rig_container(work, struct issue, work);
    if (issue->on_idle != NULL) {
        issue_reset(issue);
        issue->on_idle(issue->ctx);
        return;
    }
    rig_require(status == 0); /* UV_ECANCELED: issue_stop alone cancels */
    issue->times.key_ms = rig_clock_ms() - issue->times.started_ms;
    if (issue->key_err < 0) {
        issue_fail(issue, issue->key_err, false);
        return;
    }
    issue->ca_index = 0;
    ask(issue);
}

void issue_start(struct issue *issue, const struct csr_request *request, uint64_t ttl_s)
{
    rig_require(issue->state == ISSUE_IDLE && issue->ca_count > 0);
    issue->request = *request;
    issue->request.is_given_up = &issue->is_given_up;
    atomic_store(&issue->is_given_up, false);
    issue->ttl_s = ttl_s;
    issue->why.text[0] = '\0';
    issue->times = (struct issue_times){.started_ms = rig_clock_ms()};
    issue->state = ISSUE_KEY;
    int err = uv_queue_work(issue->loop, &issue->work, key_work, key_done);
    rig_require(err == 0); /* fails only without a work function */
}

void issue_stop(struct issue *issue, void (*on_idle)(void *ctx))
{
    if (issue->state == ISSUE_KEY) {
        issue->on_idle = on_idle;
        atomic_store(&issue->is_given_up, true);
        uv_cancel((uv_req_t *)&issue->work); /* or the thread lets go at its next step */
        return;
    }
    if (issue->call != NULL) {
        const struct rig_provider *provider = &issue->cas[issue->ca_index];
        const struct ca_v1 *ca = provider->functions;
        ca->cancel(provider->self, issue->call);
    }
    issue_reset(issue);
    on_idle(issue->ctx);
}
