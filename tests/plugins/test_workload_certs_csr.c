/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and requests: read back by OpenSSL's library here, and by its program as a second opinion.
 */
#include "tests/harness/test.h"

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

#include "plugins/workload_certs/csr.h"

#define ID "spiffe://cluster.local/ns/shop/sa/cart"

struct key_case {
    const char *name;
    int id, bits;
    const char *group;          /* NULL: RSA */
    int signature;              /* of the request */
    const char *signature_text; /* as `openssl req -text` says it */
    const char *header;         /* of the key's PEM */
};

static const struct key_case cases[] = {
    {"rsa-2048", EVP_PKEY_RSA, 2048, NULL, NID_sha256WithRSAEncryption, "sha256WithRSAEncryption",
     "-----BEGIN RSA PRIVATE KEY-----\n"},
    {"rsa-3072", EVP_PKEY_RSA, 3072, NULL, NID_sha256WithRSAEncryption, "sha256WithRSAEncryption",
     "-----BEGIN RSA PRIVATE KEY-----\n"},
    {"rsa-4096", EVP_PKEY_RSA, 4096, NULL, NID_sha256WithRSAEncryption, "sha256WithRSAEncryption",
     "-----BEGIN RSA PRIVATE KEY-----\n"},
    {"ecdsa-p256", EVP_PKEY_EC, 256, "prime256v1", NID_ecdsa_with_SHA256, "ecdsa-with-SHA256",
     "-----BEGIN EC PRIVATE KEY-----\n"},
    {"ecdsa-p384", EVP_PKEY_EC, 384, "secp384r1", NID_ecdsa_with_SHA384, "ecdsa-with-SHA384",
     "-----BEGIN EC PRIVATE KEY-----\n"},
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

static void make(const char *key_type, const char *id, bool is_pkcs8, struct csr *csr)
{
    struct rig_fault why = {0};
    const struct csr_request request = {.key_type = csr_key_type_find(rig_slice_text(key_type)),
                                        .spiffe_id = id,
                                        .is_pkcs8 = is_pkcs8};
    assert_non_null(request.key_type);
    assert_int_equal(csr_make(&request, csr, &why), 0);
    assert_string_equal(why.text, "");
}

static X509_REQ *request_of(const struct csr *csr)
{
    BIO *bio = BIO_new_mem_buf(csr->request_pem.at, (int)csr->request_pem.len);
    X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(request);
    return request;
}

static EVP_PKEY *key_of(const struct csr *csr)
{
    BIO *bio = BIO_new_mem_buf(csr->key_pem.at, (int)csr->key_pem.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(key);
    return key;
}

static void key_is_of_the_type_asked_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct csr csr = {0};
        char group[64] = "";
        size_t len = 0;
        make(cases[i].name, ID, false, &csr);
        EVP_PKEY *key = key_of(&csr);
        assert_int_equal(EVP_PKEY_get_base_id(key), cases[i].id);
        assert_int_equal(EVP_PKEY_get_bits(key), cases[i].bits);
        if (cases[i].group != NULL) {
            assert_int_equal(EVP_PKEY_get_group_name(key, group, sizeof(group), &len), 1);
            assert_string_equal(group, cases[i].group);
        }
        EVP_PKEY_free(key);
        csr_deinit(&csr);
    }
}

static void request_is_signed_by_its_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct csr csr = {0};
        make(cases[i].name, ID, false, &csr);
        EVP_PKEY *key = key_of(&csr);
        X509_REQ *request = request_of(&csr);
        assert_int_equal(X509_REQ_verify(request, key), 1);
        assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(request), key), 1);
        assert_int_equal(X509_REQ_get_signature_nid(request), cases[i].signature);
        assert_int_equal(X509_REQ_get_version(request), 0);
        const unsigned char *at = csr.public_der.at;
        EVP_PKEY *public_key = d2i_PUBKEY(NULL, &at, (long)csr.public_der.len);
        assert_int_equal(EVP_PKEY_eq(public_key, key), 1);
        EVP_PKEY_free(public_key);
        X509_REQ_free(request);
        EVP_PKEY_free(key);
        csr_deinit(&csr);
    }
}

static void request_names_the_identity_and_nothing_else(void **state)
{
    (void)state;
    struct csr csr = {0};
    make("ecdsa-p256", ID, false, &csr);
    X509_REQ *request = request_of(&csr);
    assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(request)), 0);
    assert_int_equal(X509_REQ_get_attr_count(request), 1);
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    assert_int_equal(sk_X509_EXTENSION_num(extensions), 1);
    X509_EXTENSION *extension = sk_X509_EXTENSION_value(extensions, 0);
    assert_int_equal(OBJ_obj2nid(X509_EXTENSION_get_object(extension)), NID_subject_alt_name);
    assert_int_equal(X509_EXTENSION_get_critical(extension), 1);
    GENERAL_NAMES *names = X509V3_EXT_d2i(extension);
    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, 0);
    assert_int_equal(name->type, GEN_URI);
    assert_int_equal(ASN1_STRING_length(name->d.uniformResourceIdentifier), strlen(ID));
    assert_memory_equal(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier), ID, strlen(ID));
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);
    csr_deinit(&csr);
}

static void key_text_is_traditional_or_pkcs8(void **state)
{
    (void)state;
    static const char pkcs8[] = "-----BEGIN PRIVATE KEY-----\n";
    for (size_t i = 0; i < CASES; i++) {
        struct csr csr = {0};
        make(cases[i].name, ID, false, &csr);
        assert_memory_equal(csr.key_pem.at, cases[i].header, strlen(cases[i].header));
        assert_int_equal(csr.key_pem.at[csr.key_pem.len - 1], '\n');
        csr_deinit(&csr);
        make(cases[i].name, ID, true, &csr);
        assert_memory_equal(csr.key_pem.at, pkcs8, strlen(pkcs8));
        csr_deinit(&csr);
        assert_null(csr.key_pem.at);
    }
}

static void each_request_has_a_key_of_its_own(void **state)
{
    (void)state;
    struct csr one = {0};
    struct csr other = {0};
    make("ecdsa-p256", ID, false, &one);
    make("ecdsa-p256", ID, false, &other);
    assert_false(rig_slice_equal(rig_buf_slice(&one.public_der), rig_buf_slice(&other.public_der)));
    csr_deinit(&one);
    csr_deinit(&other);
}

static void identity_that_is_no_uri_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "spiffe://td/ns/a b/sa/x", "spiffe://td/ns/a\n/sa/x",
                                      "spiffe://t\xc3\xa4/ns/a/sa/b", "spiffe://td/ns/\x7f/sa/b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct csr csr = {0};
        struct rig_fault why = {0};
        const struct csr_request request = {.key_type = csr_key_type_find(RIG_SLICE("ecdsa-p256")),
                                            .spiffe_id = bad[i]};
        assert_int_equal(csr_make(&request, &csr, &why), RIG_E_RANGE);
        assert_non_null(strstr(why.text, "no URI"));
        assert_null(csr.key_pem.at);
        assert_int_equal(csr.request_pem.len, 0);
    }
}

static void unknown_key_types_are_not_found(void **state)
{
    (void)state;
    static const char *const bad[] = {"",           "rsa",     "rsa-1024",  "RSA-2048",
                                      "ecdsa-p521", "ed25519", "rsa-2048 ", "rsa-20480"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(csr_key_type_find(rig_slice_text(bad[i])));
}

/* `openssl req -verify -text` of the request: all it printed. */
static char *openssl_says(const struct csr *csr)
{
    char path[] = "/tmp/rig-csr-XXXXXX";
    char command[160];
    char *text = calloc(1, 65536);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, csr->request_pem.at, csr->request_pem.len), csr->request_pem.len);
    close(fd);
    snprintf(command, sizeof(command), "openssl req -in %s -noout -verify -text 2>&1", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t len = fread(text, 1, 65535, pipe);
    assert_true(len > 0);
    assert_int_equal(pclose(pipe), 0);
    unlink(path);
    return text;
}

static void the_openssl_program_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct csr csr = {0};
        char bits[32];
        make(cases[i].name, ID, false, &csr);
        char *text = openssl_says(&csr);
        snprintf(bits, sizeof(bits), "(%d bit)", cases[i].bits);
        assert_non_null(strstr(text, "verify OK"));
        assert_non_null(strstr(text, bits));
        assert_non_null(strstr(text, cases[i].signature_text));
        assert_non_null(strstr(text, "X509v3 Subject Alternative Name: critical"));
        assert_non_null(strstr(text, "URI:" ID "\n"));
        assert_non_null(strstr(text, "Subject: \n"));
        free(text);
        csr_deinit(&csr);
    }
}

static void rsa_key_that_is_given_up_is_not_finished(void **state)
{
    (void)state;
    atomic_bool is_given_up = true;
    struct csr csr = {0};
    struct rig_fault why = {0};
    const struct csr_request request = {.key_type = csr_key_type_find(RIG_SLICE("rsa-4096")),
                                        .spiffe_id = ID,
                                        .is_given_up = &is_given_up};
    /* A hundred keys of this size would take minutes. */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(csr_make(&request, &csr, &why), RIG_E_CRYPTO);
        assert_int_equal(csr.key_pem.len, 0);
    }
    is_given_up = false;
    const struct csr_request wanted = {.key_type = csr_key_type_find(RIG_SLICE("rsa-2048")),
                                       .spiffe_id = ID,
                                       .is_given_up = &is_given_up};
    assert_int_equal(csr_make(&wanted, &csr, &why), 0);
    csr_deinit(&csr);
}

RIG_TEST_MAIN(cmocka_unit_test(key_is_of_the_type_asked_for),
              cmocka_unit_test(request_is_signed_by_its_key),
              cmocka_unit_test(request_names_the_identity_and_nothing_else),
              cmocka_unit_test(key_text_is_traditional_or_pkcs8),
              cmocka_unit_test(each_request_has_a_key_of_its_own),
              cmocka_unit_test(rsa_key_that_is_given_up_is_not_finished),
              cmocka_unit_test(identity_that_is_no_uri_is_refused),
              cmocka_unit_test(unknown_key_types_are_not_found),
              cmocka_unit_test(the_openssl_program_agrees))
