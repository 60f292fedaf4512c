/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/policy.h: which certificate to ask for and when to renew it: asked of
 * scripts/cert_policy.lua, kept within limits here.
 *
 * The option rows are the defaults. A script (or one function of it) that is absent leaves them;
 * a script that fails or answers nonsense is an error, not a default: a site that demands P-384
 * must not be given RSA because of a typing error. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/fault.h"

struct csr_key_type;
struct rig_script_dirs;
struct workload;

#define POLICY_TTL_MOST_S (INT64_C(10) * 365 * 86400)

/* Istio's variables, by the option rows of workload_certs.c. */
struct policy_options {
    uint64_t rsa_bits;
    const char *ecc_algorithm;
    const char *ecc_curve;
    uint64_t ttl_ms;
    double grace_ratio;
};

struct policy_request {
    const struct csr_key_type *key_type;
    uint64_t ttl_s;
};

/* The defaults, or RIG_E_RANGE with the option that is wrong. */
int policy_defaults(const struct policy_options *options, struct policy_request *request,
                    struct rig_fault *why);

struct policy_context {
    const struct rig_script_dirs *scripts;
    const struct workload *workload;
    const struct policy_options *options;
};

/* cert_policy.request. On failure `request` is unchanged. */
int policy_request(const struct policy_context *context, struct policy_request *request,
                   struct rig_fault *why);

/* cert_policy.grace_ratio. `ratio` is the option's when it fails. */
int policy_grace_ratio(const struct policy_context *context, double *ratio, struct rig_fault *why);
