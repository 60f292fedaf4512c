/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin as a whole: in a host, with a CA and a pod of this file, and the shipped policy. */
#include "tests/harness/test.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/host.h"
#include "core/log.h"
#include "plugins/services/ca.h"
#include "plugins/services/secret_source.h"
#include "plugins/services/workload.h"
#include "tests/harness/pki.h"

#define ID "spiffe://cluster.local/ns/shop/sa/cart"

extern const struct rig_plugin workload_certs_plugin;

enum behaviour { GOOD, DOWN, OTHER_KEY, ONE_ELEMENT, SILENT };

/* ---- the scene: what the CA does, what was seen, when it is over ---- */

struct ca_call {
    uv_timer_t timer;
    char *csr;
    ca_signed_cb on_signed;
    void *ctx;
};

static struct {
    struct rig_host *host;
    char dir[64]; /* a site's scripts */
    const char *dirs[3];
    const enum behaviour *behaviours; /* the last one is repeated */
    size_t behaviour_count;
    bool has_second_ca;
    int64_t ttl_s; /* of what is signed */
    struct pki_root root;

    size_t asked, cancelled;
    char *csrs[8];
    uint64_t asked_at_ms[8];
    uint64_t asked_ttl_s;
    char trace[256];
    char reason[RIG_FAULT_BYTES];
    const struct secret_source_v1 *source;
    void *source_self;
    struct secret_watch watches[2];
    void (*on_asked)(void);
    void (*on_told)(const char *name, int err);
} scene;

static void finish(void)
{
    rig_host_exit(scene.host, 0);
}

static void finish_on_good_key_pair(const char *name, int err)
{
    if (err == 0 && strcmp(name, "default") == 0)
        finish();
}

/* ---- pod ---- */

static const struct workload *pod_get(void *self)
{
    static const struct workload pod = {.pod_namespace = "shop",
                                        .service_account = "cart",
                                        .trust_domain = "cluster.local",
                                        .spiffe_id = ID,
                                        .cluster_id = ""};
    (void)self;
    return &pod;
}

static int pod_token(void *self, struct rig_secret *token, struct rig_fault *why)
{
    (void)self, (void)token, (void)why;
    return RIG_E_ABSENT;
}

static int bare_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    (void)config, (void)why;
    *self = host;
    return 0;
}

static int bare_start(void *self, struct rig_fault *why)
{
    (void)self, (void)why;
    return 0;
}

static void bare_stop(void *self, rig_stopped_cb stopped)
{
    stopped(self);
}

static void bare_free(void *self)
{
    (void)self;
}

static const struct workload_v1 pod_functions = {pod_get, pod_token};
static const struct rig_offer pod_offers[] = {{WORKLOAD_SERVICE, WORKLOAD_VERSION, &pod_functions},
                                              {0}};

/* ---- CA ---- */

static char *certificate_for(const char *csr_pem, EVP_PKEY *other_key)
{
    BIO *in = BIO_new_mem_buf(csr_pem, -1);
    X509_REQ *request = PEM_read_bio_X509_REQ(in, NULL, NULL, NULL);
    assert_non_null(request);
    X509 *cert = X509_new();
    int64_t now_s = rig_clock_wall_s();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 4711);
    ASN1_TIME_set(X509_getm_notBefore(cert), now_s - 120);
    ASN1_TIME_set(X509_getm_notAfter(cert), now_s + scene.ttl_s);
    X509_set_issuer_name(cert, X509_get_subject_name(scene.root.cert));
    X509_set_pubkey(cert, other_key != NULL ? other_key : X509_REQ_get0_pubkey(request));
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    for (int i = 0; i < sk_X509_EXTENSION_num(extensions); i++)
        X509_add_ext(cert, sk_X509_EXTENSION_value(extensions, i), -1);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    assert_true(X509_sign(cert, scene.root.key, EVP_sha256()) > 0);
    BIO *out = BIO_new(BIO_s_mem());
    char *data;
    PEM_write_bio_X509(out, cert);
    long len = BIO_get_mem_data(out, &data);
    char *text = strndup(data, (size_t)len);
    BIO_free(out);
    BIO_free(in);
    X509_free(cert);
    X509_REQ_free(request);
    return text;
}

static void on_call_closed(uv_handle_t *handle)
{
    struct ca_call *call = handle->data;
    free(call->csr);
    free(call);
}

static void answer_certificate(struct ca_call *call, enum behaviour behaviour)
{
    EVP_PKEY *other = behaviour == OTHER_KEY ? EVP_EC_gen("P-256") : NULL;
    char *leaf = certificate_for(call->csr, other);
    const struct rig_slice chain[] = {rig_slice_text(leaf), rig_buf_slice(&scene.root.pem)};
    struct rig_fault why = {0};
    call->on_signed(call->ctx, 0, &why, chain, behaviour == ONE_ELEMENT ? 1 : 2);
    free(leaf);
    EVP_PKEY_free(other);
}

static void on_call_timer(uv_timer_t *timer)
{
    struct ca_call *call = timer->data;
    size_t at = scene.asked - 1;
    if (at >= scene.behaviour_count)
        at = scene.behaviour_count - 1;
    struct rig_fault why = {0};
    switch (scene.behaviours[at]) {
    case SILENT:
        return;
    case DOWN:
        rig_fault_set(&why, 0, "the CA is on holiday");
        call->on_signed(call->ctx, RIG_E_ABSENT, &why, NULL, 0);
        break;
    default:
        answer_certificate(call, scene.behaviours[at]);
        break;
    }
    uv_close((uv_handle_t *)timer, on_call_closed);
}

static struct ca_call *ca_sign(void *self, struct rig_slice csr_pem, uint64_t ttl_s,
                               ca_signed_cb on_signed, void *ctx)
{
    struct ca_call *call = calloc(1, sizeof(*call));
    call->csr = strndup((const char *)csr_pem.at, csr_pem.len);
    call->on_signed = on_signed;
    call->ctx = ctx;
    if (scene.asked < 8) {
        scene.csrs[scene.asked] = strdup(call->csr);
        scene.asked_at_ms[scene.asked] = rig_clock_ms();
    }
    scene.asked++;
    scene.asked_ttl_s = ttl_s;
    uv_timer_init(rig_host_loop(self), &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, on_call_timer, 0, 0);
    if (scene.on_asked != NULL)
        scene.on_asked();
    return call;
}

static void ca_cancel(void *self, struct ca_call *call)
{
    (void)self;
    scene.cancelled++;
    uv_close((uv_handle_t *)&call->timer, on_call_closed);
}

static const struct ca_v1 ca_functions = {ca_sign, ca_cancel};
static const struct rig_offer ca_offers[] = {{CA_SERVICE, CA_VERSION, &ca_functions}, {0}};

/* ---- somebody who watches ---- */

static void on_change(struct secret_watch *watch, int err, const struct rig_fault *why)
{
    snprintf(scene.trace + strlen(scene.trace), sizeof(scene.trace) - strlen(scene.trace), "%s%s%s",
             scene.trace[0] != '\0' ? ", " : "", watch->name, err < 0 ? " failed" : "");
    if (err < 0)
        snprintf(scene.reason, sizeof(scene.reason), "%s", why->text);
    if (scene.on_told != NULL)
        scene.on_told(watch->name, err);
}

static int watcher_start(void *self, struct rig_fault *why)
{
    static const char *const names[] = {"default", "ROOTCA"};
    struct rig_provider provider;
    (void)why;
    assert_int_equal(rig_service_provider(self, SECRET_SOURCE_SERVICE, 0, &provider), 0);
    scene.source = provider.functions;
    scene.source_self = provider.self;
    for (size_t i = 0; i < 2; i++) {
        scene.watches[i] = (struct secret_watch){.name = names[i], .on_change = on_change};
        scene.source->watch(provider.self, &scene.watches[i]);
    }
    return 0;
}

static void watcher_stop(void *self, rig_stopped_cb stopped)
{
    scene.source->unwatch(scene.source_self, &scene.watches[0]);
    scene.source->unwatch(scene.source_self, &scene.watches[1]);
    stopped(self);
}

static const struct rig_need watcher_needs[] = {
    {SECRET_SOURCE_SERVICE, SECRET_SOURCE_VERSION, RIG_NEED_EACH}, {0}};

/* ---- running ---- */

static struct rig_plugin bare_plugin(const char *name, const struct rig_offer *offers)
{
    return (struct rig_plugin){.abi = RIG_PLUGIN_ABI,
                               .size = sizeof(struct rig_plugin),
                               .name = name,
                               .offers = offers,
                               .init = bare_init,
                               .start = bare_start,
                               .stop = bare_stop,
                               .free = bare_free};
}

static void scene_add(const struct rig_plugin *plugin)
{
    struct loaded loaded = {0};
    struct rig_fault why = {0};
    assert_int_equal(loader_adopt(plugin, plugin->name, &loaded, &why), 0);
    host_add(scene.host, &loaded);
}

/* Runs until finish(); `options`: key, value, ..., NULL. */
static int run(const char *const *options)
{
    struct rig_fault why = {0};
    struct rig_plugin pod = bare_plugin("pod", pod_offers);
    struct rig_plugin ca = bare_plugin("ca", ca_offers);
    struct rig_plugin second = bare_plugin("second_ca", ca_offers);
    struct rig_plugin watcher = bare_plugin("watcher", NULL);
    watcher.needs = watcher_needs;
    watcher.start = watcher_start;
    watcher.stop = watcher_stop;
    scene.host = host_new();
    scene_add(&pod);
    scene_add(&ca);
    if (scene.has_second_ca)
        scene_add(&second);
    scene_add(&workload_certs_plugin);
    scene_add(&watcher);
    assert_int_equal(host_configure(scene.host, &why), 0);
    host_scripts(scene.host, scene.dirs, 1);
    for (; options != NULL && options[0] != NULL; options += 2)
        assert_int_equal(host_set(scene.host, "workload_certs", options[0], options[1], &why), 0);
    int status = host_run(scene.host);
    host_free(scene.host);
    return status;
}

static int set_up(void **state)
{
    static const enum behaviour good[] = {GOOD};
    (void)state;
    setenv("UV_THREADPOOL_SIZE", "2", 1); /* as the program does; counts before the first work */
    memset(&scene, 0, sizeof(scene));
    snprintf(scene.dir, sizeof(scene.dir), "/tmp/rig-certs-XXXXXX");
    assert_non_null(mkdtemp(scene.dir));
    scene.dirs[0] = scene.dir;
    scene.dirs[1] = "scripts";
    scene.behaviours = good;
    scene.behaviour_count = 1;
    scene.ttl_s = 86400;
    scene.on_told = finish_on_good_key_pair;
    pki_root_init(&scene.root, "root");
    return 0;
}

static int tear_down(void **state)
{
    char path[96];
    (void)state;
    for (size_t i = 0; i < 8; i++)
        free(scene.csrs[i]);
    pki_root_deinit(&scene.root);
    snprintf(path, sizeof(path), "%s/cert_policy.lua", scene.dir);
    unlink(path);
    rmdir(scene.dir);
    rig_clock_wall_shift(0);
    return 0;
}

static void behave(const enum behaviour *behaviours, size_t count)
{
    scene.behaviours = behaviours;
    scene.behaviour_count = count;
}

static void site_policy(const char *text)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/cert_policy.lua", scene.dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Type and size of the key of the n-th request: "RSA 2048". */
static const char *key_of_request(size_t n)
{
    static char text[64];
    BIO *bio = BIO_new_mem_buf(scene.csrs[n], -1);
    X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    EVP_PKEY *key = X509_REQ_get0_pubkey(request);
    snprintf(text, sizeof(text), "%s %d", EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
    X509_REQ_free(request);
    BIO_free(bio);
    return text;
}

/* ---- tests ---- */

static void warm_up_asks_once_and_tells_roots_first(void **state)
{
    (void)state;
    assert_int_equal(run(NULL), 0);
    assert_int_equal(scene.asked, 1);
    assert_string_equal(scene.trace, "ROOTCA, default");
    assert_string_equal(key_of_request(0), "RSA 2048");
    assert_int_equal(scene.asked_ttl_s, 86400);
}

static void check_current(const char *name, int err)
{
    struct secret secret;
    struct rig_fault why = {0};
    if (err < 0 || strcmp(name, "default") != 0)
        return;
    assert_int_equal(scene.source->current(scene.source_self, RIG_SLICE("default"), &secret, &why),
                     0);
    assert_int_equal(secret.kind, SECRET_KEY_PAIR);
    BIO *bio = BIO_new_mem_buf(secret.private_key->at, (int)secret.private_key->len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO *chain = BIO_new_mem_buf(secret.certificate_chain.at, (int)secret.certificate_chain.len);
    X509 *leaf = PEM_read_bio_X509(chain, NULL, NULL, NULL);
    assert_int_equal(X509_check_private_key(leaf, key), 1);
    X509_free(leaf);
    EVP_PKEY_free(key);
    BIO_free(bio);
    BIO_free(chain);
    assert_int_equal(scene.source->current(scene.source_self, RIG_SLICE("ROOTCA"), &secret, &why),
                     0);
    assert_int_equal(secret.kind, SECRET_ROOTS);
    assert_int_equal(secret.trusted_ca.len, scene.root.pem.len - 1);
    assert_memory_equal(secret.trusted_ca.at, scene.root.pem.at, secret.trusted_ca.len);
    assert_int_equal(scene.source->current(scene.source_self, RIG_SLICE("other"), &secret, &why),
                     RIG_E_UNKNOWN);
    /* The certificate runs out: no key pair any more, the roots stay. */
    rig_clock_wall_shift(86401);
    assert_int_equal(scene.source->current(scene.source_self, RIG_SLICE("default"), &secret, &why),
                     RIG_E_PENDING);
    assert_int_equal(scene.source->current(scene.source_self, RIG_SLICE("ROOTCA"), &secret, &why),
                     0);
    rig_clock_wall_shift(0);
    finish();
}

static void what_is_served_fits_together(void **state)
{
    (void)state;
    scene.on_told = check_current;
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_string_equal(scene.trace, "ROOTCA, default");
    assert_string_equal(key_of_request(0), "EC 256");
}

static void ca_that_is_down_is_asked_again_with_a_new_key(void **state)
{
    static const enum behaviour behaviours[] = {DOWN, DOWN, GOOD};
    (void)state;
    behave(behaviours, 3);
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_string_equal(scene.trace, "default failed, ROOTCA failed, default failed, "
                                     "ROOTCA failed, ROOTCA, default");
    assert_non_null(strstr(scene.reason, "the CA is on holiday"));
    assert_int_equal(scene.asked, 3);
    assert_string_not_equal(scene.csrs[0], scene.csrs[1]);
    /* 500 ms, then 1 s, each by up to a quarter either way. */
    uint64_t first_ms = scene.asked_at_ms[1] - scene.asked_at_ms[0];
    uint64_t second_ms = scene.asked_at_ms[2] - scene.asked_at_ms[1];
    assert_true(first_ms >= 375 && first_ms <= 1500);
    assert_true(second_ms >= 750 && second_ms <= 3000);
}

static void second_ca_is_asked_with_the_same_request(void **state)
{
    static const enum behaviour behaviours[] = {DOWN, GOOD};
    (void)state;
    behave(behaviours, 2);
    scene.has_second_ca = true;
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_string_equal(scene.trace, "ROOTCA, default");
    assert_int_equal(scene.asked, 2);
    assert_string_equal(scene.csrs[0], scene.csrs[1]);
}

static void finish_when_told(const char *name, int err)
{
    (void)name, (void)err;
    finish();
}

static void refused_answer_is_not_served(void **state)
{
    static const enum behaviour other_key[] = {OTHER_KEY};
    static const enum behaviour one_element[] = {ONE_ELEMENT};
    (void)state;
    scene.on_told = finish_when_told;
    behave(other_key, 1);
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_string_equal(scene.trace, "default failed, ROOTCA failed");
    assert_non_null(strstr(scene.reason, "another key"));
    assert_non_null(strstr(scene.reason, "ca"));
    scene.trace[0] = '\0';
    behave(one_element, 1);
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_string_equal(scene.trace, "default failed, ROOTCA failed");
    assert_non_null(strstr(scene.reason, "1 elements"));
}

static void stop_while_the_ca_is_silent_cancels(void **state)
{
    static const enum behaviour silent[] = {SILENT};
    (void)state;
    behave(silent, 1);
    scene.on_asked = finish;
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_int_equal(scene.cancelled, 1);
    assert_string_equal(scene.trace, "");
}

static int finishing_start(void *self, struct rig_fault *why)
{
    (void)why;
    rig_host_exit(self, 3);
    return 0;
}

static void stop_while_the_key_is_made_waits_for_it(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    struct rig_plugin pod = bare_plugin("pod", pod_offers);
    struct rig_plugin ca = bare_plugin("ca", ca_offers);
    struct rig_plugin last = bare_plugin("last", NULL);
    last.start = finishing_start;
    scene.host = host_new();
    scene_add(&pod);
    scene_add(&ca);
    scene_add(&workload_certs_plugin);
    scene_add(&last);
    assert_int_equal(host_configure(scene.host, &why), 0);
    host_scripts(scene.host, scene.dirs, 1);
    assert_int_equal(host_run(scene.host), 3);
    host_free(scene.host);
    assert_int_equal(scene.asked, 0);
}

static void site_policy_decides(void **state)
{
    (void)state;
    site_policy("return { request = function(ctx)\n"
                "  assert(ctx.namespace == 'shop' and ctx.service_account == 'cart')\n"
                "  assert(ctx.trust_domain == 'cluster.local' and ctx.options.key == 'rsa-2048')\n"
                "  assert(ctx.options.ttl == '86400s' and ctx.options.grace_ratio == 0.5)\n"
                "  assert(next(ctx.labels) == nil)\n"
                "  return { key = 'ecdsa-p384', ttl = '90m' } end }\n");
    assert_int_equal(run(NULL), 0);
    assert_string_equal(key_of_request(0), "EC 384");
    assert_int_equal(scene.asked_ttl_s, 5400);
}

static void policy_without_an_answer_means_the_options(void **state)
{
    (void)state;
    site_policy("return { request = function() return {} end }\n");
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", "eccCurve", "P384",
                                               "ttl", "1h", NULL}),
                     0);
    assert_string_equal(key_of_request(0), "EC 384");
    assert_int_equal(scene.asked_ttl_s, 3600);
}

static void bad_policy_asks_for_nothing(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"return { request = function() return { key = 'rsa-1024' } end }", "rsa-1024"},
        {"return { request = function() return { key = 2048 } end }", "a number"},
        {"return { request = function() return { ttl = 'soon' } end }", "ttl"},
        {"return { request = function() return { ttl = '500ms' } end }", "ttl"},
        {"return { request = function() return { ttl = '100000h' } end }", "ttl"},
        {"return { request = function() return 'rsa-2048' end }", "table"},
        {"return { request = function() return nil, 'not on Sundays' end }", "not on Sundays"},
        {"return { request = function() while true do end end }", "cert_policy"},
        {"return {", "cert_policy"},
    };
    (void)state;
    scene.on_told = finish_when_told;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        site_policy(cases[i].text);
        scene.reason[0] = '\0';
        scene.trace[0] = '\0';
        /* The first failure comes before anybody watches; the second is told. */
        assert_int_equal(run(NULL), 0);
        assert_int_equal(scene.asked, 0);
        assert_string_equal(scene.trace, "default failed, ROOTCA failed");
        if (strstr(scene.reason, cases[i].reason) == NULL)
            fail_msg("%s: %s", cases[i].text, scene.reason);
    }
}

static void bad_grace_ratio_does_not_lose_the_certificate(void **state)
{
    (void)state;
    site_policy("return { grace_ratio = function() return 7 end }\n");
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_string_equal(scene.trace, "ROOTCA, default");
}

/* Takes the C library's place: a resolver that does not answer. */
static uv_sem_t resolver_hangs, resolver_may_go;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    (void)node, (void)service, (void)hints, (void)result;
    uv_sem_post(&resolver_hangs);
    uv_sem_wait(&resolver_may_go);
    return EAI_AGAIN;
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *result)
{
    (void)request, (void)result;
    assert_int_equal(status, UV_EAI_AGAIN);
}

static void key_is_made_while_resolvers_hang(void **state)
{
    (void)state;
    uv_loop_t loop;
    uv_getaddrinfo_t requests[3];
    uv_sem_init(&resolver_hangs, 0);
    uv_sem_init(&resolver_may_go, 0);
    uv_loop_init(&loop);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(uv_getaddrinfo(&loop, &requests[i], on_resolved, "hang.test", NULL, NULL),
                         0);
    uv_sem_wait(&resolver_hangs);
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "ECDSA", NULL}), 0);
    assert_string_equal(scene.trace, "ROOTCA, default");
    for (size_t i = 0; i < 3; i++)
        uv_sem_post(&resolver_may_go);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    uv_sem_destroy(&resolver_hangs);
    uv_sem_destroy(&resolver_may_go);
}

static void wrong_options_stop_the_start(void **state)
{
    (void)state;
    assert_int_equal(run((const char *const[]){"eccSignatureAlgorithm", "DSA", NULL}), 1);
    assert_int_equal(run((const char *const[]){"rsaKeySize", "2500", NULL}), 1);
    assert_int_equal(scene.asked, 0);
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(warm_up_asks_once_and_tells_roots_first, set_up, tear_down),
    cmocka_unit_test_setup_teardown(what_is_served_fits_together, set_up, tear_down),
    cmocka_unit_test_setup_teardown(ca_that_is_down_is_asked_again_with_a_new_key, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(second_ca_is_asked_with_the_same_request, set_up, tear_down),
    cmocka_unit_test_setup_teardown(refused_answer_is_not_served, set_up, tear_down),
    cmocka_unit_test_setup_teardown(stop_while_the_ca_is_silent_cancels, set_up, tear_down),
    cmocka_unit_test_setup_teardown(stop_while_the_key_is_made_waits_for_it, set_up, tear_down),
    cmocka_unit_test_setup_teardown(site_policy_decides, set_up, tear_down),
    cmocka_unit_test_setup_teardown(policy_without_an_answer_means_the_options, set_up, tear_down),
    cmocka_unit_test_setup_teardown(bad_policy_asks_for_nothing, set_up, tear_down),
    cmocka_unit_test_setup_teardown(bad_grace_ratio_does_not_lose_the_certificate, set_up,
                                    tear_down),
    cmocka_unit_test_setup_teardown(key_is_made_while_resolvers_hang, set_up, tear_down),
    cmocka_unit_test_setup_teardown(wrong_options_stop_the_start, set_up, tear_down))
