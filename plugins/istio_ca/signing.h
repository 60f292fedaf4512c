/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/istio_ca/signing.h: one certificate request on its way to the CA.
 *
 *     waiting -> connecting -> calling -> closing -> done, or waiting for the next attempt
 *
 * Every attempt has a connection of its own with the root file and the token read anew, so that
 * rotated ones are taken up, and nothing stays open between two certificates. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/buf.h"
#include "core/fault.h"
#include "plugins/services/ca.h"
#include "plugins/services/workload.h"

#define SIGNING_ATTEMPT_MS                                                                         \
    10000u /* Istio's agent sets no limit; a silent CA blocks it for good                          \
            */
#define SIGNING_TOTAL_MS 30000u
#define SIGNING_ATTEMPTS 5u

struct signing_options {
    uv_loop_t *loop;
    const struct workload *workload;
    const struct workload_v1 *workload_functions;
    void *workload_self;
    const char *cert_signer;
    /* The call is gone, and with it all its handles. */
    void (*on_gone)(void *ctx);
    void *ctx;
};

/* As ca_v1.sign. Keeps `options`. */
struct ca_call *signing_open(const struct signing_options *options, struct rig_slice csr_pem,
                             uint64_t ttl_s, ca_signed_cb on_signed, void *ctx);

/* As ca_v1.cancel. */
void signing_cancel(struct ca_call *call);

/* Milliseconds to wait before attempt `attempt` (1: the first one after a failure), spread by a
 * tenth either way; 0 when there is to be none. */
uint32_t signing_wait_ms(uint32_t attempt, uint32_t random);

/* gRPC codes after which the same request may succeed (as Istio's client retries). */
bool signing_is_retryable(int grpc_code);

/* "UNAVAILABLE", ...; never NULL. */
const char *signing_code_text(int grpc_code);
