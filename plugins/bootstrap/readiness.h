/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/readiness.h: is Envoy ready? Asked by the kubelet's probe by way of Envoy's
 * own health listener, so that "ready" proves that Envoy serves.
 *
 * Envoy's admin port is asked once for all probes that wait, and never again once the answer
 * has been yes. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "core/buf.h"
#include "core/fault.h"
#include "plugins/services/xds_status.h"

struct rig_http1_exchange;
struct readiness;

struct readiness_options {
    const char *admin_address;       /* "127.0.0.1:15000"; keeps */
    const struct xds_status_v1 *xds; /* NULL when there is none: enriches the reason */
    void *xds_self;
    void (*on_ready)(void *ctx); /* the first time */
    void *ctx;
};

/* Returns owned. Opens no handle before the first question. */
struct readiness *readiness_new(uv_loop_t *loop, const struct readiness_options *options);

/* Answers the exchange with 200, or 503 and the reason, now or later. */
void readiness_answer(struct readiness *readiness, struct rig_http1_exchange *exchange);

/* From now on the answer is no, at once: draining, or without Envoy. `reason` is kept. */
void readiness_end(struct readiness *readiness, const char *reason);

bool readiness_is_ready(const struct readiness *readiness);

/* Gives up a question that is under way and answers those who wait. */
void readiness_free(struct readiness *readiness);

/* The verdict on the text of Envoy's /stats; for tests. 0 when Envoy is configured and live. */
int readiness_judge(struct rig_slice stats, struct rig_fault *why);
