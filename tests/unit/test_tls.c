/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/test_tls.c: whom a client trusts, what a server shows, and the sentence of each
 * refusal, all by real handshakes on loopback. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/dial.h"
#include "core/fault.h"
#include "core/stream.h"
#include "core/tls.h"
#include "tests/harness/loop.h"
#include "tests/harness/pki.h"

struct outcome {
    struct test_loop loop;
    bool is_done, is_accepted, is_closed;
    int err;
    enum rig_dial_stage stage;
    struct rig_fault why;
    struct rig_stream *client, *server;
};

static void on_accept(void *ctx, struct rig_stream *stream)
{
    struct outcome *outcome = ctx;
    outcome->is_accepted = true;
    outcome->server = stream;
}

static void on_done(void *ctx, int err, enum rig_dial_stage stage, const struct rig_fault *why,
                    struct rig_stream *stream)
{
    struct outcome *outcome = ctx;
    outcome->is_done = true;
    outcome->err = err;
    outcome->stage = stage;
    outcome->why = *why;
    outcome->client = stream;
}

static void on_closed(void *ctx)
{
    ((struct outcome *)ctx)->is_closed = true;
}

/* One handshake; `name` NULL: the dialled host, 127.0.0.1. */
static struct outcome handshake(struct rig_tls *server, struct rig_tls *client, const char *name)
{
    struct outcome outcome = {0};
    struct rig_listener *listener;
    struct rig_dial *dial;
    loop_init(&outcome.loop);
    struct rig_listener_options listen = {
        .address = "127.0.0.1:0", .tls = server, .on_accept = on_accept, .ctx = &outcome};
    assert_int_equal(rig_listener_open(&outcome.loop.uv, &listen, &listener, NULL), 0);
    struct rig_dial_options options = {
        .address = rig_listener_address(listener), .tls = client, .server_name = name};
    assert_int_equal(rig_dial_start(&outcome.loop.uv, &options, on_done, &outcome, &dial, NULL), 0);
    loop_until(&outcome.loop, outcome.is_done);
    if (outcome.err == 0)
        loop_until(&outcome.loop, outcome.is_accepted);
    if (outcome.client != NULL)
        rig_stream_close(outcome.client, NULL, NULL);
    if (outcome.server != NULL)
        rig_stream_close(outcome.server, NULL, NULL);
    rig_listener_close(listener, on_closed, &outcome);
    loop_until(&outcome.loop, outcome.is_closed);
    loop_deinit(&outcome.loop);
    return outcome;
}

static void refused(const struct outcome *outcome, const char *reason)
{
    assert_int_equal(outcome->err, RIG_E_TLS);
    assert_int_equal(outcome->stage, RIG_DIAL_TLS);
    if (strstr(outcome->why.text, reason) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", outcome->why.text, reason);
}

/* A leaf that is `want` shown to a client that trusts its root and expects `name`. */
static struct outcome shown(struct pki_want want, const char *name)
{
    struct pki_root root;
    struct pki_leaf leaf;
    pki_root_init(&root, "root");
    pki_leaf_init(&leaf, &root, want);
    struct rig_tls *server = pki_server(&leaf, "h2"), *client = pki_client(&root, "h2");
    struct outcome outcome = handshake(server, client, name);
    rig_tls_free(server);
    rig_tls_free(client);
    pki_leaf_deinit(&leaf);
    pki_root_deinit(&root);
    return outcome;
}

static void right_certificate_is_taken(void **state)
{
    (void)state;
    struct outcome outcome = shown((struct pki_want){.san = "DNS:cp.example"}, "cp.example");
    assert_string_equal(outcome.why.text, "");
    assert_int_equal(outcome.err, 0);
    assert_int_equal(outcome.stage, RIG_DIAL_DONE);
    outcome = shown((struct pki_want){.san = "IP:127.0.0.1"}, NULL);
    assert_int_equal(outcome.err, 0);
    outcome = shown((struct pki_want){.san = "DNS:*.mesh.example"}, "cp.mesh.example");
    assert_int_equal(outcome.err, 0);
    outcome = shown((struct pki_want){.san = "DNS:cp.example"}, "cp.example.");
    assert_int_equal(outcome.err, 0);
}

static void other_name_is_refused(void **state)
{
    (void)state;
    struct outcome outcome = shown(
        (struct pki_want){.san = "DNS:other.example,IP:10.0.0.1,URI:spiffe://td/x"}, "cp.example");
    refused(&outcome, "certificate is valid for other.example, 10.0.0.1, spiffe://td/x, not for "
                      "cp.example");
    refused(&outcome, "TLS handshake with 127.0.0.1:");
    outcome = shown((struct pki_want){.san = "DNS:127.0.0.1"}, NULL); /* a name is no address */
    refused(&outcome, "not for 127.0.0.1");
    outcome = shown((struct pki_want){.san = "DNS:*.mesh.example"}, "a.cp.mesh.example");
    refused(&outcome, "not for a.cp.mesh.example");
    outcome = shown((struct pki_want){.san = "DNS:c*.mesh.example"}, "cp.mesh.example");
    refused(&outcome, "not for cp.mesh.example");
}

static void common_name_is_not_looked_at(void **state)
{
    (void)state;
    struct outcome outcome = shown((struct pki_want){.name = "cp.example"}, "cp.example");
    refused(&outcome, "certificate is valid for no name, not for cp.example");
}

static void unknown_authority_is_refused(void **state)
{
    (void)state;
    struct pki_root ours, theirs;
    struct pki_leaf leaf;
    pki_root_init(&ours, "root");
    pki_root_init(&theirs, "root"); /* of the same name */
    pki_leaf_init(&leaf, &theirs, (struct pki_want){.san = "IP:127.0.0.1"});
    struct rig_tls *server = pki_server(&leaf, NULL), *client = pki_client(&ours, NULL);
    struct outcome outcome = handshake(server, client, NULL);
    assert_int_equal(outcome.err, RIG_E_TLS);
    rig_tls_free(server);
    pki_root_deinit(&theirs);
    pki_leaf_deinit(&leaf);
    pki_root_init(&theirs, "another root");
    pki_leaf_init(&leaf, &theirs, (struct pki_want){.san = "IP:127.0.0.1"});
    server = pki_server(&leaf, NULL);
    outcome = handshake(server, client, NULL);
    refused(&outcome, "certificate signed by unknown authority");
    rig_tls_free(server);
    rig_tls_free(client);
    pki_leaf_deinit(&leaf);
    pki_root_deinit(&ours);
    pki_root_deinit(&theirs);
}

static void time_is_looked_at(void **state)
{
    (void)state;
    struct outcome outcome =
        shown((struct pki_want){.san = "IP:127.0.0.1", .begin_s = -7200, .end_s = -3600}, NULL);
    refused(&outcome, "certificate has expired: it ended 20");
    outcome = shown((struct pki_want){.san = "IP:127.0.0.1", .begin_s = 3600, .end_s = 7200}, NULL);
    refused(&outcome, "certificate is not yet valid: it begins 20");
    rig_clock_wall_shift(5400); /* our clock decides, which tests move */
    outcome = shown((struct pki_want){.san = "IP:127.0.0.1", .begin_s = 3600, .end_s = 7200}, NULL);
    rig_clock_wall_shift(0);
    assert_int_equal(outcome.err, 0);
}

static void purpose_is_looked_at(void **state)
{
    (void)state;
    struct outcome outcome =
        shown((struct pki_want){.san = "IP:127.0.0.1", .usage = "clientAuth"}, NULL);
    refused(&outcome, "certificate was refused: unsuitable certificate purpose");
}

/* As Go has it: what is in the file is trusted, be it an intermediate. */
static void intermediate_can_be_the_anchor(void **state)
{
    (void)state;
    struct pki_root root, between;
    struct pki_leaf leaf;
    pki_root_init(&root, "root");
    between = (struct pki_root){.key = EVP_EC_gen("P-256")};
    between.cert = pki_cert("between", between.key, -3600, 86400);
    X509_set_issuer_name(between.cert, X509_get_subject_name(root.cert));
    pki_extend(between.cert, root.cert, NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(between.cert, root.key, EVP_sha256());
    pki_pem(between.cert, &between.pem);
    pki_leaf_init(&leaf, &between, (struct pki_want){.san = "IP:127.0.0.1"});
    struct rig_tls *client = pki_client(&between, NULL), *server = pki_server(&leaf, NULL);
    struct outcome outcome = handshake(server, client, NULL);
    assert_int_equal(outcome.err, 0);
    rig_tls_free(client);
    rig_tls_free(server);
    /* And a server shows its whole chain, so that the root suffices. */
    rig_buf_append_slice(&leaf.chain_pem, rig_buf_slice(&between.pem));
    client = pki_client(&root, NULL);
    server = pki_server(&leaf, NULL);
    outcome = handshake(server, client, NULL);
    assert_int_equal(outcome.err, 0);
    rig_tls_free(client);
    rig_tls_free(server);
    pki_leaf_deinit(&leaf);
    pki_root_deinit(&between);
    pki_root_deinit(&root);
}

static void protocol_must_be_agreed(void **state)
{
    (void)state;
    static const struct {
        const char *server, *client;
        bool is_fine;
    } cases[] = {{"h2", "h2", true},  {NULL, NULL, true},        {"h2", NULL, false},
                 {NULL, "h2", false}, {"h2", "http/1.1", false}, {"http/1.1", "h2", false}};
    struct pki_root root;
    struct pki_leaf leaf;
    pki_root_init(&root, "root");
    pki_leaf_init(&leaf, &root, (struct pki_want){.san = "IP:127.0.0.1"});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig_tls *server = pki_server(&leaf, cases[i].server);
        struct rig_tls *client = pki_client(&root, cases[i].client);
        struct outcome outcome = {0};
        if (cases[i].server != NULL && cases[i].client == NULL) {
            /* The client is content; it is the server that drops it. */
            struct test_loop loop;
            loop_init(&loop);
            struct rig_listener *listener;
            struct rig_dial *dial;
            struct rig_listener_options listen = {
                .address = "127.0.0.1:0", .tls = server, .on_accept = on_accept, .ctx = &outcome};
            assert_int_equal(rig_listener_open(&loop.uv, &listen, &listener, NULL), 0);
            struct rig_dial_options options = {.address = rig_listener_address(listener),
                                               .tls = client};
            assert_int_equal(rig_dial_start(&loop.uv, &options, on_done, &outcome, &dial, NULL), 0);
            loop_until(&loop, outcome.is_done);
            uint8_t octet;
            if (outcome.client != NULL) {
                ssize_t got = UV_EAGAIN;
                loop_for(&loop, 20);
                got = rig_stream_read(outcome.client, &octet, 1);
                assert_true(got <= 0 && got != UV_EAGAIN);
                rig_stream_close(outcome.client, NULL, NULL);
            }
            rig_listener_close(listener, NULL, NULL);
            loop_deinit(&loop);
            assert_false(outcome.is_accepted);
        } else {
            outcome = handshake(server, client, NULL);
            assert_int_equal(outcome.err, cases[i].is_fine ? 0 : RIG_E_TLS);
        }
        if (cases[i].server == NULL && cases[i].client != NULL)
            refused(&outcome, "peer did not agree on the protocol h2 (ALPN)");
        rig_tls_free(server);
        rig_tls_free(client);
    }
    pki_leaf_deinit(&leaf);
    pki_root_deinit(&root);
}

/* ---- settings ---- */

static int client_of(struct rig_slice pem, const char *path, struct rig_fault *why)
{
    struct rig_tls_client_options options = {.root_pem = pem, .root_path = path};
    struct rig_tls *tls = NULL;
    *why = (struct rig_fault){0};
    int err = rig_tls_client_new(&options, &tls, why);
    rig_tls_free(tls);
    return err;
}

static void damaged_blocks_of_a_bundle_are_skipped(void **state)
{
    (void)state;
    struct pki_root root;
    struct rig_buf bundle = {0};
    struct rig_fault why;
    pki_root_init(&root, "root");
    rig_buf_append_text(&bundle, "some text first\n-----BEGIN CERTIFICATE-----\nAAAA\n"
                                 "-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n"
                                 "not base64 !!\n-----END CERTIFICATE-----\n");
    assert_int_equal(client_of(rig_buf_slice(&bundle), NULL, &why), RIG_E_TLS);
    assert_string_equal(why.text, "given root certificates: no usable PEM certificate in it");
    rig_buf_append_slice(&bundle, rig_buf_slice(&root.pem));
    rig_buf_append_text(&bundle, "-----BEGIN CERTIFICATE-----\nMIIB");
    assert_int_equal(client_of(rig_buf_slice(&bundle), NULL, &why), 0);
    rig_buf_deinit(&bundle);
    pki_root_deinit(&root);
}

static void faults_name_the_root_file(void **state)
{
    (void)state;
    struct rig_fault why;
    char path[] = "/tmp/rig-root-XXXXXX";
    int fd = mkstemp(path);
    close(fd);
    assert_int_equal(client_of(rig_slice(NULL, 0), path, &why), RIG_E_TLS);
    assert_non_null(strstr(why.text, path));
    unlink(path);
    assert_int_equal(client_of(rig_slice(NULL, 0), path, &why), UV_ENOENT);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(client_of(rig_slice(NULL, 0), NULL, &why), 0); /* the system's */
}

static void server_needs_a_fitting_pair(void **state)
{
    (void)state;
    struct pki_root root;
    struct pki_leaf one, two;
    pki_root_init(&root, "root");
    pki_leaf_init(&one, &root, (struct pki_want){.san = "IP:127.0.0.1"});
    pki_leaf_init(&two, &root, (struct pki_want){.san = "IP:127.0.0.1"});
    struct rig_secret garbage = {0}, encrypted = {0};
    rig_secret_set(&garbage, RIG_SLICE("-----BEGIN PRIVATE KEY-----\nAAAA"));
    rig_secret_set(&encrypted, RIG_SLICE("-----BEGIN RSA PRIVATE KEY-----\n"
                                         "Proc-Type: 4,ENCRYPTED\n"
                                         "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF"
                                         "\n\nAAAAAAAAAAAAAAAAAAAAAA==\n"
                                         "-----END RSA PRIVATE KEY-----\n"));
    const struct {
        struct rig_slice chain;
        const struct rig_secret *key;
    } cases[] = {
        {rig_buf_slice(&one.chain_pem), &two.key_pem}, {rig_slice(NULL, 0), &one.key_pem},
        {RIG_SLICE("no PEM"), &one.key_pem},           {rig_buf_slice(&one.chain_pem), &garbage},
        {rig_buf_slice(&one.chain_pem), NULL},         {rig_buf_slice(&one.chain_pem), &encrypted},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig_tls_server_options options = {.chain_pem = cases[i].chain,
                                                 .key_pem = cases[i].key};
        struct rig_tls *tls = NULL;
        struct rig_fault why = {0};
        assert_int_equal(rig_tls_server_new(&options, &tls, &why), RIG_E_TLS);
        assert_true(why.text[0] != '\0');
        assert_null(tls);
    }
    rig_secret_deinit(&garbage);
    rig_secret_deinit(&encrypted);
    pki_leaf_deinit(&one);
    pki_leaf_deinit(&two);
    pki_root_deinit(&root);
}

RIG_TEST_MAIN(cmocka_unit_test(right_certificate_is_taken), cmocka_unit_test(other_name_is_refused),
              cmocka_unit_test(common_name_is_not_looked_at),
              cmocka_unit_test(unknown_authority_is_refused), cmocka_unit_test(time_is_looked_at),
              cmocka_unit_test(purpose_is_looked_at),
              cmocka_unit_test(intermediate_can_be_the_anchor),
              cmocka_unit_test(protocol_must_be_agreed),
              cmocka_unit_test(damaged_blocks_of_a_bundle_are_skipped),
              cmocka_unit_test(faults_name_the_root_file),
              cmocka_unit_test(server_needs_a_fitting_pair))
