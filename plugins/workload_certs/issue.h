/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/issue.h: one certificate, from a fresh key to a checked answer.
 *
 *     idle -> key (pool thread) -> asking (each `ca` in order) -> idle
 *
 * One at a time. When to start, to try again and what to do with the result is the caller's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/fault.h"
#include "core/secret.h"
#include "core/service.h"

#include "answer.h"
#include "csr.h"

struct ca_call;

enum issue_state { ISSUE_IDLE, ISSUE_KEY, ISSUE_ASKING };

/* What a certificate took, in milliseconds. */
struct issue_times {
    uint64_t started_ms; /* monotonic */
    uint64_t key_ms;
    uint64_t ca_ms;
};

struct issue_events {
    /* Takes nothing: `key_pem` and `answer` are moved out by the callee or released after it. */
    void (*on_issued)(void *ctx, struct rig_secret *key_pem, struct answer *answer);
    /* `was_signed`: a CA did answer with a certificate, and it was refused. */
    void (*on_failed)(void *ctx, int err, bool was_signed, const struct rig_fault *why);
};

struct issue {
    /* Set once by the owner. */
    uv_loop_t *loop;
    const struct rig_provider *cas;
    size_t ca_count;
    const struct issue_events *events;
    void *ctx;

    enum issue_state state;
    struct issue_times times;
    uint64_t ttl_s;

    /* Private. */
    uv_work_t work;
    struct csr_request request;
    struct csr csr;
    atomic_bool is_given_up; /* read by the pool thread */
    int key_err;             /* written by the pool thread, as `csr` and `why` are */
    struct rig_fault why;
    struct ca_call *call;
    size_t ca_index;
    void (*on_idle)(void *ctx);
};

/* Begins; the issue must be idle. Leads to one callback, never inside this call. */
void issue_start(struct issue *issue, const struct csr_request *request, uint64_t ttl_s);

/* Gives up: no callback but `on_idle`, at once or when the pool thread lets go of the key. */
void issue_stop(struct issue *issue, void (*on_idle)(void *ctx));
