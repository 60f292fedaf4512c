/* SPDX-License-Identifier: Apache-2.0 */
/* What the certificate authority signs, and what it refuses; read back and verified by OpenSSL. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "core/clock.h"

#include "plugins/standalone/authority.h"

#define ID "spiffe://cluster.local/ns/shop/sa/orders"

static struct authority authority;
static int64_t now_s;

static int make_authority(void **state)
{
    (void)state;
    EVP_PKEY *key;
    struct rig_buf pem = {0};
    now_s = rig_clock_wall_s();
    int err = authority_key_new(&key, NULL);
    if (err == 0)
        err = authority_root_make(key, now_s, &pem, NULL);
    if (err == 0)
        err = authority_init(&authority, key, rig_buf_slice(&pem), now_s, NULL);
    rig_buf_deinit(&pem);
    return err;
}

static int free_authority(void **state)
{
    (void)state;
    authority_deinit(&authority);
    return 0;
}

/* A request for `key` that asks for these extensions (OpenSSL's texts), signed by `signer`. */
static void make_csr(EVP_PKEY *key, EVP_PKEY *signer, const char *const *extensions,
                     struct rig_buf *pem)
{
    X509_REQ *csr = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, NULL, NULL, csr, NULL, 0);
    for (; *extensions != NULL; extensions += 2) {
        X509_EXTENSION *extension =
            X509V3_EXT_conf_nid(NULL, &ctx, OBJ_txt2nid(extensions[0]), extensions[1]);
        assert_non_null(extension);
        sk_X509_EXTENSION_push(list, extension);
    }
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(csr), "CN", MBSTRING_ASC,
                               (const uint8_t *)"admin.example", -1, -1, 0);
    assert_int_equal(X509_REQ_add_extensions(csr, list), 1);
    assert_int_equal(X509_REQ_set_pubkey(csr, key), 1);
    /* Ed25519 takes no digest. */
    const EVP_MD *md = EVP_PKEY_is_a(signer, "ED25519") ? NULL : EVP_sha256();
    assert_true(X509_REQ_sign(csr, signer, md) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    PEM_write_bio_X509_REQ(bio, csr);
    long len = BIO_get_mem_data(bio, &text);
    rig_buf_append(pem, text, (size_t)len);
    BIO_free(bio);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_REQ_free(csr);
}

static const char *const honest[] = {"subjectAltName", "critical,URI:" ID, NULL};

static X509 *read_cert(struct rig_buf *pem)
{
    BIO *bio = BIO_new_mem_buf(pem->at, (int)pem->len);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(cert);
    return cert;
}

static int sign(struct rig_buf *csr, int64_t ttl_s, X509 **cert, struct rig_fault *why)
{
    struct rig_buf pem = {0};
    struct authority_issued issued;
    struct authority_request request = {rig_buf_slice(csr), ID, ttl_s, now_s};
    int err = authority_sign(&authority, &request, &pem, &issued, why);
    if (err == 0) {
        *cert = read_cert(&pem);
        BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(*cert), NULL);
        char *text = BN_bn2hex(serial);
        assert_string_equal(issued.serial, text);
        OPENSSL_free(text);
        BN_free(serial);
    }
    rig_buf_deinit(&pem);
    return err;
}

static void assert_verifies(X509 *cert, int purpose)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, authority.root);
    X509_STORE_CTX_init(ctx, store, cert, NULL);
    X509_STORE_CTX_set_purpose(ctx, purpose);
    X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_X509_STRICT);
    int ok = X509_verify_cert(ctx);
    assert_string_equal(X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)), "ok");
    assert_int_equal(ok, 1);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
}

/* The certificate has one name, the given URI, in a critical SAN, and an empty subject. */
static void assert_names(X509 *cert, const char *uri)
{
    int is_critical = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &is_critical, NULL);
    assert_int_equal(is_critical, 1);
    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, 0);
    assert_int_equal(name->type, GEN_URI);
    assert_string_equal((const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
                        uri);
    assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(cert)), 0);
    GENERAL_NAMES_free(names);
}

static int64_t seconds_from_now(const ASN1_TIME *time)
{
    int days = 0, seconds = 0;
    ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)now_s);
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, now, time), 1);
    ASN1_TIME_free(now);
    return (int64_t)days * 86400 + seconds;
}

static void request_gets_its_certificate(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct rig_buf csr = {0};
    struct rig_fault why = {0};
    X509 *cert = NULL;
    make_csr(key, key, honest, &csr);
    assert_int_equal(sign(&csr, 3600, &cert, &why), 0);
    assert_verifies(cert, X509_PURPOSE_SSL_CLIENT);
    assert_verifies(cert, X509_PURPOSE_SSL_SERVER);
    assert_names(cert, ID);
    assert_int_equal(X509_check_private_key(cert, key), 1);
    assert_int_equal(X509_check_ca(cert), 0);
    assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_SERVER | XKU_SSL_CLIENT);
    assert_int_equal(seconds_from_now(X509_get0_notBefore(cert)), -120);
    assert_int_equal(seconds_from_now(X509_get0_notAfter(cert)), 3600);
    X509_free(cert);
    rig_buf_deinit(&csr);
    EVP_PKEY_free(key);
}

static void request_for_other_names_gets_its_own(void **state)
{
    (void)state;
    static const char *const greedy[] = {"subjectAltName",
                                         "URI:spiffe://cluster.local/ns/kube-system/sa/admin,"
                                         "DNS:istiod.istio-system.svc,IP:127.0.0.1",
                                         "basicConstraints",
                                         "critical,CA:TRUE",
                                         "keyUsage",
                                         "keyCertSign",
                                         "extendedKeyUsage",
                                         "codeSigning",
                                         NULL};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct rig_buf csr = {0};
    struct rig_fault why = {0};
    X509 *cert = NULL;
    make_csr(key, key, greedy, &csr);
    assert_int_equal(sign(&csr, 3600, &cert, &why), 0);
    assert_names(cert, ID);
    assert_int_equal(X509_check_ca(cert), 0);
    assert_int_equal(X509_get_key_usage(cert), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_SERVER | XKU_SSL_CLIENT);
    X509_free(cert);
    rig_buf_deinit(&csr);
    EVP_PKEY_free(key);
}

static void keys_that_are_taken_and_refused(void **state)
{
    (void)state;
    struct {
        EVP_PKEY *key;
        const char *sentence; /* NULL: taken */
    } cases[] = {
        {EVP_EC_gen("P-256"), NULL},
        {EVP_EC_gen("P-384"), NULL},
        {EVP_RSA_gen(2048), NULL},
        {EVP_RSA_gen(1024), "an RSA key of 1024 bits: from 2048 to 4096 are taken"},
        {EVP_EC_gen("P-224"), "the key is neither RSA nor EC on P-256 or P-384"},
        {EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
         "the key is neither RSA nor EC on P-256 or P-384"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig_buf csr = {0};
        struct rig_fault why = {0};
        X509 *cert = NULL;
        make_csr(cases[i].key, cases[i].key, honest, &csr);
        int err = sign(&csr, 60, &cert, &why);
        assert_string_equal(why.text, cases[i].sentence != NULL ? cases[i].sentence : "");
        assert_int_equal(err, cases[i].sentence != NULL ? RIG_E_RANGE : 0);
        if (cert != NULL) {
            assert_verifies(cert, X509_PURPOSE_SSL_CLIENT);
            assert_int_equal(X509_check_private_key(cert, cases[i].key), 1);
        }
        X509_free(cert);
        rig_buf_deinit(&csr);
        EVP_PKEY_free(cases[i].key);
    }
}

/* The asker must hold the private key: else a certificate could be had for somebody's key. */
static void request_of_another_signer_is_refused(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
    struct rig_buf csr = {0};
    struct rig_fault why = {0};
    X509 *cert = NULL;
    make_csr(key, other, honest, &csr);
    assert_int_equal(sign(&csr, 60, &cert, &why), RIG_E_SYNTAX);
    assert_memory_equal(why.text, "the request is not signed by its own key", 40);
    rig_buf_deinit(&csr);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

/* Must not make OpenSSL ask for a passphrase. */
#define ENCRYPTED_REQUEST                                                                          \
    "-----BEGIN CERTIFICATE REQUEST-----\nProc-Type: 4,ENCRYPTED\n"                                \
    "DEK-Info: AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n"                             \
    "-----END CERTIFICATE REQUEST-----\n"

static void texts_that_are_no_request_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "hello",
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\nMIIB",
        ENCRYPTED_REQUEST,
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct rig_buf csr = {0};
        struct rig_fault why = {0};
        X509 *cert = NULL;
        rig_buf_append_text(&csr, texts[i]);
        assert_int_equal(sign(&csr, 60, &cert, &why), RIG_E_SYNTAX);
        assert_memory_equal(why.text, "no certificate request in PEM", 29);
        rig_buf_deinit(&csr);
    }
}

static void lifetimes_have_limits(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct rig_buf csr = {0};
    struct rig_fault why = {0};
    X509 *cert = NULL;
    make_csr(key, key, honest, &csr);
    static const int64_t defaulted[] = {0, -1, INT64_MIN};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(sign(&csr, defaulted[i], &cert, &why), 0);
        assert_int_equal(seconds_from_now(X509_get0_notAfter(cert)), 86400);
        X509_free(cert);
    }
    assert_int_equal(sign(&csr, 90 * 86400, &cert, &why), 0);
    assert_int_equal(seconds_from_now(X509_get0_notAfter(cert)), 90 * 86400);
    X509_free(cert);
    assert_int_equal(sign(&csr, 90 * 86400 + 1, &cert, &why), RIG_E_RANGE);
    assert_string_equal(why.text,
                        "requested TTL 7776001s is greater than the max allowed TTL 7776000s");
    assert_int_equal(sign(&csr, INT64_MAX, &cert, &why), RIG_E_RANGE);

    /* Nothing outlives the root: 30 days before its end. */
    int64_t root_end_s = (int64_t)3650 * 86400;
    now_s += root_end_s - 30 * 86400;
    assert_int_equal(sign(&csr, 90 * 86400, &cert, &why), 0);
    assert_int_equal(seconds_from_now(X509_get0_notAfter(cert)), 30 * 86400);
    X509_free(cert);
    rig_buf_deinit(&csr);
    EVP_PKEY_free(key);
}

static void serials_are_random(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct rig_buf csr = {0};
    X509 *certs[2] = {NULL, NULL};
    make_csr(key, key, honest, &csr);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sign(&csr, 60, &certs[i], NULL), 0);
        const ASN1_INTEGER *serial = X509_get0_serialNumber(certs[i]);
        assert_int_equal(serial->type, V_ASN1_INTEGER); /* positive */
        assert_true(ASN1_STRING_length(serial) <= 16);
        assert_true(ASN1_STRING_length(serial) >= 8);
    }
    assert_int_not_equal(
        ASN1_INTEGER_cmp(X509_get0_serialNumber(certs[0]), X509_get0_serialNumber(certs[1])), 0);
    X509_free(certs[0]);
    X509_free(certs[1]);
    rig_buf_deinit(&csr);
    EVP_PKEY_free(key);
}

static void root_is_a_root(void **state)
{
    (void)state;
    assert_int_equal(X509_check_ca(authority.root), 1);
    assert_int_equal(X509_get_pathlen(authority.root), 0);
    assert_int_equal(X509_get_key_usage(authority.root), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_self_signed(authority.root, 1), 1);
    assert_int_equal(seconds_from_now(X509_get0_notAfter(authority.root)), (int64_t)3650 * 86400);
}

static void server_certificate_has_its_names(void **state)
{
    (void)state;
    static const char *const names[] = {"istiod.istio-system.svc", "127.0.0.1", "::1", NULL};
    struct rig_buf chain = {0};
    struct rig_secret key_pem = {0};
    struct rig_fault why = {0};
    EVP_PKEY *key = NULL;
    assert_int_equal(authority_serve(&authority, names, &chain, &key_pem, &why), 0);
    X509 *cert = read_cert(&chain);
    assert_verifies(cert, X509_PURPOSE_SSL_SERVER);
    assert_int_equal(X509_check_host(cert, "istiod.istio-system.svc", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(cert, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(cert, "::1", 0), 1);
    assert_int_equal(X509_check_host(cert, "127.0.0.1", 0, 0, NULL), 0);
    assert_int_equal(X509_check_host(cert, "other.svc", 0, 0, NULL), 0);
    assert_int_equal(X509_get_extended_key_usage(cert), XKU_SSL_SERVER);
    assert_int_equal(authority_key_read(rig_secret_slice(&key_pem), &key, &why), 0);
    assert_int_equal(X509_check_private_key(cert, key), 1);
    assert_non_null(strstr(rig_buf_text(&chain), rig_buf_text(&authority.root_pem)));
    X509_free(cert);
    EVP_PKEY_free(key);
    rig_secret_deinit(&key_pem);
    rig_buf_deinit(&chain);
}

static void roots_that_are_refused(void **state)
{
    (void)state;
    EVP_PKEY *key = NULL;
    struct authority other;
    struct rig_buf pem = {0};
    struct rig_fault why = {0};
    rig_buf_append_slice(&pem, rig_buf_slice(&authority.root_pem));

    assert_int_equal(authority_key_new(&key, &why), 0);
    assert_int_equal(authority_init(&other, key, rig_buf_slice(&pem), now_s, &why), RIG_E_CRYPTO);
    assert_memory_equal(why.text, "root key and root certificate do not fit", 40);

    EVP_PKEY_up_ref(authority.key);
    assert_int_equal(authority_init(&other, authority.key, rig_buf_slice(&pem),
                                    now_s + (int64_t)3650 * 86400, &why),
                     RIG_E_CRYPTO);
    assert_string_equal(why.text, "the root certificate has expired");

    EVP_PKEY_up_ref(authority.key);
    assert_int_equal(authority_init(&other, authority.key, RIG_SLICE("x"), now_s, &why),
                     RIG_E_CRYPTO);
    assert_memory_equal(why.text, "no certificate in PEM", 21);

    /* A leaf of ours is no root. */
    static const char *const names[] = {"localhost", NULL};
    struct rig_secret key_pem = {0};
    rig_buf_clear(&pem);
    assert_int_equal(authority_serve(&authority, names, &pem, &key_pem, &why), 0);
    assert_int_equal(authority_key_read(rig_secret_slice(&key_pem), &key, &why), 0);
    assert_int_equal(authority_init(&other, key, rig_buf_slice(&pem), now_s, &why), RIG_E_CRYPTO);
    assert_string_equal(why.text, "the root certificate is no CA's");
    rig_secret_deinit(&key_pem);
    rig_buf_deinit(&pem);
}

static void keys_that_are_no_p256_are_refused(void **state)
{
    (void)state;
    EVP_PKEY *p384 = EVP_EC_gen("P-384"), *rsa = EVP_RSA_gen(2048), *key = NULL;
    EVP_PKEY *keys[] = {p384, rsa};
    struct rig_fault why = {0};
    for (size_t i = 0; i < 2; i++) {
        struct rig_secret pem = {0};
        assert_int_equal(authority_key_write(keys[i], &pem, &why), 0);
        assert_int_equal(authority_key_read(rig_secret_slice(&pem), &key, &why), RIG_E_CRYPTO);
        assert_string_equal(why.text, "the key is not on the curve P-256");
        rig_secret_deinit(&pem);
    }
    assert_int_equal(authority_key_read(RIG_SLICE(""), &key, &why), RIG_E_CRYPTO);
    assert_null(key);
    EVP_PKEY_free(p384);
    EVP_PKEY_free(rsa);
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(request_gets_its_certificate, make_authority, free_authority),
    cmocka_unit_test_setup_teardown(request_for_other_names_gets_its_own, make_authority,
                                    free_authority),
    cmocka_unit_test_setup_teardown(keys_that_are_taken_and_refused, make_authority,
                                    free_authority),
    cmocka_unit_test_setup_teardown(request_of_another_signer_is_refused, make_authority,
                                    free_authority),
    cmocka_unit_test_setup_teardown(texts_that_are_no_request_are_refused, make_authority,
                                    free_authority),
    cmocka_unit_test_setup_teardown(lifetimes_have_limits, make_authority, free_authority),
    cmocka_unit_test_setup_teardown(serials_are_random, make_authority, free_authority),
    cmocka_unit_test_setup_teardown(root_is_a_root, make_authority, free_authority),
    cmocka_unit_test_setup_teardown(server_certificate_has_its_names, make_authority,
                                    free_authority),
    cmocka_unit_test_setup_teardown(roots_that_are_refused, make_authority, free_authority),
    cmocka_unit_test(keys_that_are_no_p256_are_refused))
