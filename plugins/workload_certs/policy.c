/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/policy.c: the question to cert_policy.lua and the check of its answer. */
#include "policy.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/config.h"
#include "core/doc.h"
#include "core/script.h"
#include "plugins/services/workload.h"

#include "csr.h"

#define SCRIPT        "cert_policy"
#define ARENA_BYTES   (256u << 10)
#define SECONDS_BYTES 32

/* A decision about one certificate; a script that needs more is lost in a loop. */
static const struct rig_script_limits limits = {.max_instructions = 1000000, .max_bytes = 4u << 20};

int policy_defaults(const struct policy_options *options, struct policy_request *request,
                    struct rig_fault *why)
{
    char name[24];
    if (options->ecc_algorithm[0] == '\0') {
        snprintf(name, sizeof(name), "rsa-%" PRIu64, options->rsa_bits);
    } else if (strcmp(options->ecc_algorithm, "ECDSA") == 0) {
        /* As Istio: whatever is not P384 means P256. */
        snprintf(name, sizeof(name), "ecdsa-%s",
                 strcmp(options->ecc_curve, "P384") == 0 ? "p384" : "p256");
    } else {
        return rig_fault_set(
            why, RIG_E_RANGE,
            "eccSignatureAlgorithm (ECC_SIGNATURE_ALGORITHM): \"%s\" is not known; "
            "leave it empty for RSA, or say ECDSA",
            options->ecc_algorithm);
    }
    request->key_type = csr_key_type_find(rig_slice_text(name));
    request->ttl_s = options->ttl_ms / 1000;
    if (request->key_type == NULL)
        return rig_fault_set(why, RIG_E_RANGE,
                             "rsaKeySize (WORKLOAD_RSA_KEY_SIZE): %" PRIu64
                             " is none of 2048, 3072, 4096",
                             options->rsa_bits);
    return 0;
}

static struct rig_doc *seconds_doc(struct rig_arena *arena, uint64_t seconds)
{
    char text[SECONDS_BYTES];
    snprintf(text, sizeof(text), "%" PRIu64 "s", seconds);
    return rig_doc_text(arena, text);
}

static struct rig_doc *ratio_doc(struct rig_arena *arena, double ratio)
{
    char text[SECONDS_BYTES];
    snprintf(text, sizeof(text), "%.17g", ratio);
    return rig_doc_number(arena, rig_slice_text(text));
}

/* What the script is told: copies of plain facts, no key and no token. */
static struct rig_doc *context_doc(const struct policy_context *context, struct rig_arena *arena,
                                   struct rig_fault *why)
{
    struct policy_request defaults;
    if (policy_defaults(context->options, &defaults, why) < 0)
        return NULL;
    const struct workload *workload = context->workload;
    struct rig_doc *options = rig_doc_map(arena);
    rig_doc_set(arena, options, "key", rig_doc_text(arena, defaults.key_type->name));
    rig_doc_set(arena, options, "ttl", seconds_doc(arena, defaults.ttl_s));
    rig_doc_set(arena, options, "grace_ratio", ratio_doc(arena, context->options->grace_ratio));

    struct rig_doc *ctx = rig_doc_map(arena);
    struct rig_doc *labels = rig_doc_copy(arena, rig_doc_get(workload->metadata, "LABELS"));
    rig_doc_set(arena, ctx, "namespace", rig_doc_text(arena, workload->pod_namespace));
    rig_doc_set(arena, ctx, "service_account", rig_doc_text(arena, workload->service_account));
    rig_doc_set(arena, ctx, "trust_domain", rig_doc_text(arena, workload->trust_domain));
    rig_doc_set(arena, ctx, "spiffe_id", rig_doc_text(arena, workload->spiffe_id));
    rig_doc_set(arena, ctx, "labels", labels != NULL ? labels : rig_doc_map(arena));
    rig_doc_set(arena, ctx, "options", options);
    if (rig_arena_is_spent(arena)) {
        rig_fault_set(why, RIG_E_BUDGET, "%s: the workload's labels are too large", SCRIPT);
        return NULL;
    }
    return ctx;
}

/* 0 and the answer in `arena`; RIG_E_ABSENT leaves the defaults. */
static int policy_call(const struct policy_context *context, const char *function,
                       struct rig_arena *arena, struct rig_doc **result, struct rig_fault *why)
{
    struct rig_doc *ctx = context_doc(context, arena, why);
    if (ctx == NULL)
        return RIG_E_BUDGET;
    return rig_script_call(context->scripts, SCRIPT, function, ctx, &limits, arena, result, why);
}

static int key_read(const struct rig_doc *answer, struct policy_request *request,
                    struct rig_fault *why)
{
    const struct rig_doc *key = rig_doc_get(answer, "key");
    if (key == NULL)
        return 0;
    const struct csr_key_type *type =
        key->kind == RIG_DOC_STRING ? csr_key_type_find(key->text) : NULL;
    if (type == NULL)
        return rig_fault_set(why, RIG_E_SCRIPT,
                             "%s.request: key is %s \"%.*s\", and must be \"rsa-2048\", "
                             "\"rsa-3072\", \"rsa-4096\", \"ecdsa-p256\" or \"ecdsa-p384\"",
                             SCRIPT, rig_doc_kind_text(key->kind),
                             (int)(key->text.len < 64 ? key->text.len : 64),
                             key->text.at != NULL ? (const char *)key->text.at : "");
    request->key_type = type;
    return 0;
}

static int ttl_read(const struct rig_doc *answer, struct policy_request *request,
                    struct rig_fault *why)
{
    const struct rig_doc *ttl = rig_doc_get(answer, "ttl");
    uint64_t ms = 0;
    if (ttl == NULL)
        return 0;
    if (ttl->kind != RIG_DOC_STRING || rig_duration_parse((const char *)ttl->text.at, &ms) < 0 ||
        ms < 1000 || ms / 1000 > (uint64_t)POLICY_TTL_MOST_S)
        return rig_fault_set(why, RIG_E_SCRIPT,
                             "%s.request: ttl must be a duration from \"1s\" to ten years, "
                             "as \"24h\"",
                             SCRIPT);
    request->ttl_s = ms / 1000;
    return 0;
}

int policy_request(const struct policy_context *context, struct policy_request *request,
                   struct rig_fault *why)
{
    struct policy_request made;
    struct rig_doc *answer = NULL;
    struct rig_arena arena;
    int err = policy_defaults(context->options, &made, why);
    if (err < 0)
        return err;
    rig_arena_init(&arena, ARENA_BYTES);
    err = policy_call(context, "request", &arena, &answer, why);
    if (err == RIG_E_ABSENT) {
        err = 0;
    } else if (err == 0 && (answer == NULL || answer->kind != RIG_DOC_MAP)) {
        err = rig_fault_set(why, RIG_E_SCRIPT, "%s.request: answers %s instead of a table", SCRIPT,
                            answer != NULL ? rig_doc_kind_text(answer->kind) : "nothing");
    } else if (err == 0) {
        err = key_read(answer, &made, why);
        if (err == 0)
            err = ttl_read(answer, &made, why);
    }
    rig_arena_deinit(&arena);
    if (err == 0)
        *request = made;
    return err;
}

int policy_grace_ratio(const struct policy_context *context, double *ratio, struct rig_fault *why)
{
    struct rig_doc *answer = NULL;
    struct rig_arena arena;
    *ratio = context->options->grace_ratio;
    rig_arena_init(&arena, ARENA_BYTES);
    int err = policy_call(context, "grace_ratio", &arena, &answer, why);
    if (err == RIG_E_ABSENT) {
        err = 0;
    } else if (err == 0) {
        bool is_number = answer != NULL && answer->kind == RIG_DOC_NUMBER;
        double value = is_number ? strtod((const char *)answer->text.at, NULL) : NAN;
        if (value >= 0.0 && value <= 1.0)
            *ratio = value;
        else
            err = rig_fault_set(why, RIG_E_SCRIPT,
                                "%s.grace_ratio: the answer must be a number from 0 to 1", SCRIPT);
    }
    rig_arena_deinit(&arena);
    return err;
}
