/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/workload_certs.c: the secrets "default" and "ROOTCA" of this workload.
 *
 * Warm from the start, subscribers or not. A valid certificate is served until its successor has
 * been checked, or until it ends; Istio's agent forgets it when its timer fires, and so ends a
 * restarted proxy's streams for as long as the CA is away.
 *
 *     asking -> waiting (renewal planned) -> asking
 *     asking -> retrying (CA or policy failed) -> asking */
#include <inttypes.h>
#include <string.h>
#include <uv.h>

#include "core/alloc.h"
#include "core/backoff.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/plugin.h"
#include "plugins/services/ca.h"
#include "plugins/services/secret_source.h"
#include "plugins/services/workload.h"

#include "issue.h"
#include "policy.h"
#include "rotation.h"

#define SCOPE          "cache"
#define NAME_KEY_PAIR  "default"
#define NAME_ROOTS     "ROOTCA"
#define RETRY_FIRST_MS 500
#define RETRY_MOST_MS  60000

struct certs_config {
    struct policy_options policy;
    bool is_pkcs8;
};

enum certs_state { CERTS_ASKING, CERTS_WAITING, CERTS_RETRYING, CERTS_STOPPING };

struct certs {
    struct rig_host *host;
    const struct certs_config *config;
    const struct workload *workload;
    struct policy_context policy;
    struct rig_provider *cas;
    struct issue issue;
    enum certs_state state;
    uv_timer_t timer;
    struct rig_backoff backoff;
    struct rotation rotation;
    rig_stopped_cb stopped;

    /* The certificate in hand; no chain: none yet. */
    struct rig_secret key_pem;
    struct answer answer;
    const struct csr_key_type *key_type;
    uint64_t key_pair_generation;
    uint64_t roots_generation;
    bool is_end_logged;

    struct secret_watch *watches;
    struct secret_watch *next_watch; /* while telling: whom to tell next */
    const struct csr_key_type *asked_type;
    struct rig_fault last_failure; /* since the last success */
    uint64_t issued, failed;
};

static void certs_ask(struct certs *certs);

static bool has_certificate(const struct certs *certs)
{
    return certs->answer.chain_pem.len > 0;
}

static bool is_valid(const struct certs *certs)
{
    return has_certificate(certs) && rig_clock_wall_s() < certs->answer.not_after_s;
}

/* ---- the service ---- */

static int certs_current(void *self, struct rig_slice name, struct secret *out,
                         struct rig_fault *why)
{
    struct certs *certs = self;
    bool is_roots = rig_slice_is(name, NAME_ROOTS);
    if (!is_roots && !rig_slice_is(name, NAME_KEY_PAIR))
        return RIG_E_UNKNOWN;
    if (is_roots ? !has_certificate(certs) : !is_valid(certs))
        return rig_fault_set(why, RIG_E_PENDING, "%s",
                             certs->last_failure.text[0] != '\0' ? certs->last_failure.text
                                                                 : "the CA has not answered yet");
    if (is_roots) {
        *out = (struct secret){.kind = SECRET_ROOTS,
                               .trusted_ca = rig_buf_slice(&certs->answer.roots_pem),
                               .generation = certs->roots_generation};
        return 0;
    }
    *out = (struct secret){.kind = SECRET_KEY_PAIR,
                           .certificate_chain = rig_buf_slice(&certs->answer.chain_pem),
                           .private_key = &certs->key_pem,
                           .not_after_s = certs->answer.not_after_s,
                           .generation = certs->key_pair_generation};
    return 0;
}

static void certs_watch(void *self, struct secret_watch *watch)
{
    struct certs *certs = self;
    watch->next = certs->watches;
    certs->watches = watch;
}

static void certs_unwatch(void *self, struct secret_watch *watch)
{
    struct certs *certs = self;
    struct secret_watch **at = &certs->watches;
    while (*at != NULL && *at != watch)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    *at = watch->next;
    if (certs->next_watch == watch)
        certs->next_watch = watch->next;
}

static void certs_tell(struct certs *certs, const char *name, int err, const struct rig_fault *why)
{
    certs->next_watch = certs->watches;
    while (certs->next_watch != NULL) {
        struct secret_watch *watch = certs->next_watch;
        certs->next_watch = watch->next; /* the callee may unwatch anybody */
        if (strcmp(watch->name, name) == 0)
            watch->on_change(watch, err, why);
    }
}

/* ---- asking, waiting, trying again ---- */

static void on_timer(uv_timer_t *timer)
{
    struct certs *certs = timer->data;
    uint64_t wait_ms = certs->state == CERTS_WAITING
                           ? rotation_wait_ms(&certs->rotation, rig_clock_ms(), rig_clock_wall_s())
                           : 0;
    if (wait_ms > 0)
        uv_timer_start(timer, on_timer, wait_ms, 0);
    else
        certs_ask(certs);
}

static void certs_wait(struct certs *certs, enum certs_state state, uint64_t wait_ms)
{
    certs->state = state;
    uv_update_time(certs->issue.loop); /* a key or a chain may have taken its time */
    uv_timer_start(&certs->timer, on_timer, wait_ms, 0);
}

static uint32_t random_word(void)
{
    uint32_t word = 0;
    uv_random(NULL, NULL, &word, sizeof(word), 0, NULL);
    return word;
}

/* The old certificate, if it is still valid, stays where it is. */
static void certs_failed(struct certs *certs, int err, bool was_signed, const struct rig_fault *why)
{
    uint64_t wait_ms = rig_backoff_next_ms(&certs->backoff, random_word());
    /* A CA that signs what we refuse (its clock is wrong) is not made to sign at full speed. */
    if (was_signed && wait_ms < ROTATION_LEAST_MS)
        wait_ms = ROTATION_LEAST_MS;
    certs->failed++;
    certs->last_failure = *why;
    rig_log_warn(SCOPE, "no workload certificate: %s; trying again in %" PRIu64 " ms", why->text,
                 wait_ms);
    certs_wait(certs, CERTS_RETRYING, wait_ms);
    if (is_valid(certs))
        return;
    if (has_certificate(certs) && !certs->is_end_logged) {
        certs->is_end_logged = true;
        rig_log_error(SCOPE,
                      "the workload certificate (serial %s) has ended and there is no "
                      "other: connections of this workload will be refused",
                      certs->answer.serial);
    }
    certs_tell(certs, NAME_KEY_PAIR, err, why);
    if (!has_certificate(certs))
        certs_tell(certs, NAME_ROOTS, err, why);
}

static void on_failed(void *ctx, int err, bool was_signed, const struct rig_fault *why)
{
    certs_failed(ctx, err, was_signed, why);
}

static void certs_plan(struct certs *certs)
{
    struct rig_fault why = {0};
    double ratio = 0;
    if (policy_grace_ratio(&certs->policy, &ratio, &why) < 0)
        rig_log_warn(SCOPE, "%s; renewing when %g of the lifetime is left", why.text, ratio);
    const struct rotation_certificate certificate = {
        .not_before_s = certs->answer.not_before_s,
        .not_after_s = certs->answer.not_after_s,
        .received_s = rig_clock_wall_s(),
        .received_ms = rig_clock_ms(),
        .request_started_ms = certs->issue.times.started_ms,
        .grace_ratio = ratio,
    };
    rotation_plan(&certs->rotation, &certificate);
}

static void certs_log(const struct certs *certs)
{
    char end[RIG_CLOCK_TEXT_BYTES];
    char renewal[RIG_CLOCK_TEXT_BYTES];
    rig_clock_text(certs->answer.not_after_s, end);
    rig_clock_text(certs->rotation.due_s, renewal);
    rig_log_info(SCOPE,
                 "workload certificate %s (%s) for %s until %s, renewal at %s; key %" PRIu64
                 " ms, CA %" PRIu64 " ms",
                 certs->answer.serial, certs->key_type->name, certs->workload->spiffe_id, end,
                 renewal, certs->issue.times.key_ms, certs->issue.times.ca_ms);
    if (certs->answer.remark.text[0] != '\0')
        rig_log_warn(SCOPE, "workload certificate %s is served although %s", certs->answer.serial,
                     certs->answer.remark.text);
}

static void on_issued(void *ctx, struct rig_secret *key_pem, struct answer *answer)
{
    struct certs *certs = ctx;
    bool is_new_root = !rig_slice_equal(rig_buf_slice(&certs->answer.roots_pem),
                                        rig_buf_slice(&answer->roots_pem));
    struct answer old_answer = certs->answer;
    struct rig_secret old_key = certs->key_pem;
    certs->answer = *answer;
    certs->key_pem = *key_pem;
    *answer = old_answer; /* released by the caller */
    *key_pem = old_key;

    certs->key_type = certs->asked_type;
    certs->key_pair_generation++;
    certs->roots_generation += is_new_root;
    certs->issued++;
    certs->is_end_logged = false;
    certs->last_failure.text[0] = '\0';
    rig_backoff_reset(&certs->backoff);
    certs_plan(certs);
    certs_log(certs);
    rig_host_mark(certs->host, "certificate received");
    certs_wait(certs, CERTS_WAITING,
               rotation_wait_ms(&certs->rotation, rig_clock_ms(), rig_clock_wall_s()));
    /* New roots first: peers may show certificates of the new root at any moment. */
    if (is_new_root)
        certs_tell(certs, NAME_ROOTS, 0, NULL);
    certs_tell(certs, NAME_KEY_PAIR, 0, NULL);
}

static const struct issue_events issue_events = {on_issued, on_failed};

static void certs_ask(struct certs *certs)
{
    struct policy_request wanted;
    struct rig_fault why = {0};
    int err = policy_request(&certs->policy, &wanted, &why);
    if (err < 0) {
        certs_failed(certs, err, false, &why);
        return;
    }
    const struct csr_request request = {.key_type = wanted.key_type,
                                        .spiffe_id = certs->workload->spiffe_id,
                                        .is_pkcs8 = certs->config->is_pkcs8};
    certs->state = CERTS_ASKING;
    certs->asked_type = wanted.key_type;
    issue_start(&certs->issue, &request, wanted.ttl_s);
}

/* ---- the plugin ---- */

static int find_providers(struct certs *certs, struct rig_fault *why)
{
    struct rig_provider provider;
    int err = rig_service_provider(certs->host, WORKLOAD_SERVICE, 0, &provider);
    if (err < 0)
        return rig_fault_set(why, err, "no plugin offers \"%s\"", WORKLOAD_SERVICE);
    certs->workload = ((const struct workload_v1 *)provider.functions)->get(provider.self);
    size_t count = 0;
    while (rig_service_provider(certs->host, CA_SERVICE, count, &provider) == 0) {
        certs->cas = rig_realloc(certs->cas, (count + 1) * sizeof(provider));
        certs->cas[count++] = provider;
    }
    certs->issue.cas = certs->cas;
    certs->issue.ca_count = count;
    if (count == 0)
        return rig_fault_set(why, RIG_E_ABSENT,
                             "no plugin offers \"%s\": name one in the role, as istio_ca",
                             CA_SERVICE);
    return 0;
}

static void certs_free(void *self)
{
    struct certs *certs = self;
    rig_secret_deinit(&certs->key_pem);
    answer_deinit(&certs->answer);
    rig_free(certs->cas);
    rig_free(certs);
}

static int certs_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    struct policy_request defaults;
    struct certs *certs = rig_new(struct certs);
    certs->host = host;
    certs->config = config;
    int err = policy_defaults(&certs->config->policy, &defaults, why);
    if (err == 0)
        err = find_providers(certs, why);
    if (err < 0) {
        certs_free(certs);
        return err;
    }
    certs->policy = (struct policy_context){.scripts = rig_host_scripts(host),
                                            .workload = certs->workload,
                                            .options = &certs->config->policy};
    certs->issue.loop = rig_host_loop(host);
    certs->issue.events = &issue_events;
    certs->issue.ctx = certs;
    rig_backoff_init(&certs->backoff, RETRY_FIRST_MS, RETRY_MOST_MS);
    *self = certs;
    return 0;
}

static int certs_start(void *self, struct rig_fault *why)
{
    struct certs *certs = self;
    (void)why;
    if (certs->workload->pod_namespace[0] == '\0' || certs->workload->service_account[0] == '\0')
        rig_log_warn(SCOPE, "identity %s is incomplete: set POD_NAMESPACE and SERVICE_ACCOUNT",
                     certs->workload->spiffe_id);
    uv_timer_init(certs->issue.loop, &certs->timer);
    certs->timer.data = certs;
    /* From the loop: an RSA key takes a core for a while, which the sockets and the proxy's start,
     * still to come, have more use for. */
    certs_wait(certs, CERTS_RETRYING, 0);
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct certs *certs = handle->data;
    certs->stopped(certs->host);
}

static void on_idle(void *ctx)
{
    struct certs *certs = ctx;
    uv_close((uv_handle_t *)&certs->timer, on_timer_closed);
}

static void certs_stop(void *self, rig_stopped_cb stopped)
{
    struct certs *certs = self;
    certs->state = CERTS_STOPPING;
    certs->stopped = stopped;
    uv_timer_stop(&certs->timer);
    issue_stop(&certs->issue, on_idle);
}

static void status_time(struct rig_arena *arena, struct rig_doc *out, const char *key,
                        int64_t wall_s)
{
    char text[RIG_CLOCK_TEXT_BYTES];
    rig_clock_text(wall_s, text);
    rig_doc_set(arena, out, key, rig_doc_text(arena, text));
}

static void certs_status(void *self, struct rig_arena *arena, struct rig_doc *out)
{
    static const char *const state_texts[] = {"asking", "waiting", "retrying", "stopping"};
    struct certs *certs = self;
    rig_doc_set(arena, out, "state", rig_doc_text(arena, state_texts[certs->state]));
    rig_doc_set(arena, out, "identity", rig_doc_text(arena, certs->workload->spiffe_id));
    rig_doc_set(arena, out, "issued", rig_doc_int(arena, (int64_t)certs->issued));
    rig_doc_set(arena, out, "failed", rig_doc_int(arena, (int64_t)certs->failed));
    if (certs->last_failure.text[0] != '\0')
        rig_doc_set(arena, out, "lastFailure", rig_doc_text(arena, certs->last_failure.text));
    if (!has_certificate(certs))
        return;
    rig_doc_set(arena, out, "serial", rig_doc_text(arena, certs->answer.serial));
    rig_doc_set(arena, out, "keyType", rig_doc_text(arena, certs->key_type->name));
    rig_doc_set(arena, out, "isValid", rig_doc_bool(arena, is_valid(certs)));
    status_time(arena, out, "notAfter", certs->answer.not_after_s);
    status_time(arena, out, "renewsAt", certs->rotation.due_s);
    rig_doc_set(arena, out, "rootGeneration", rig_doc_int(arena, (int64_t)certs->roots_generation));
}

static const struct rig_option options[] = {
    RIG_OPT(UINT, struct certs_config, policy.rsa_bits, "rsaKeySize", "2048",
            "WORKLOAD_RSA_KEY_SIZE", NULL, "Bits of an RSA key: 2048, 3072 or 4096"),
    RIG_OPT(STRING, struct certs_config, policy.ecc_algorithm, "eccSignatureAlgorithm", "",
            "ECC_SIGNATURE_ALGORITHM", NULL, "ECDSA for an elliptic-curve key; empty for RSA"),
    RIG_OPT(STRING, struct certs_config, policy.ecc_curve, "eccCurve", "P256", "ECC_CURVE", NULL,
            "Curve of an ECDSA key: P256 or P384"),
    RIG_OPT_IN(DURATION_MS, struct certs_config, policy.ttl_ms, "ttl", "24h", 1000,
               (double)POLICY_TTL_MOST_S * 1000, "SECRET_TTL", NULL,
               "Lifetime to ask for, in whole seconds"),
    RIG_OPT_IN(RATIO, struct certs_config, policy.grace_ratio, "gracePeriodRatio", "0.5", 0, 1,
               "SECRET_GRACE_PERIOD_RATIO", NULL,
               "Share of a certificate's lifetime that is left when it is renewed"),
    RIG_OPT(BOOL, struct certs_config, is_pkcs8, "pkcs8Key", "false", "PKCS8_KEY", NULL,
            "Key as PKCS#8 (PRIVATE KEY) instead of RSA or EC PRIVATE KEY"),
    {0},
};

static const struct secret_source_v1 secret_source = {certs_current, certs_watch, certs_unwatch};

static const struct rig_offer offers[] = {
    {SECRET_SOURCE_SERVICE, SECRET_SOURCE_VERSION, &secret_source},
    {0},
};

static const struct rig_need needs[] = {
    {WORKLOAD_SERVICE, WORKLOAD_VERSION, RIG_NEED_ONE},
    {CA_SERVICE, CA_VERSION, RIG_NEED_EACH},
    {0},
};

extern const struct rig_plugin workload_certs_plugin;
RIG_EXPORT const struct rig_plugin workload_certs_plugin = {
    .abi = RIG_PLUGIN_ABI,
    .size = sizeof(struct rig_plugin),
    .name = "workload_certs",
    .about = "Makes the workload's key, has it certified and renews it in time",
    .version = RIG_VERSION,
    .config_size = sizeof(struct certs_config),
    .options = options,
    .offers = offers,
    .needs = needs,
    .init = certs_init,
    .start = certs_start,
    .stop = certs_stop,
    .free = certs_free,
    .status = certs_status,
};
