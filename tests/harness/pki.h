/* SPDX-License-Identifier: Apache-2.0 */
/* tests/harness/pki.h: a root and the leaves it signs, right and wrong ones, made by OpenSSL. */
#pragma once

#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "core/buf.h"
#include "core/secret.h"
#include "core/tls.h"
#include "test.h"

struct pki_root {
    EVP_PKEY *key;
    X509 *cert;
    struct rig_buf pem;
};

struct pki_leaf {
    struct rig_buf chain_pem;
    struct rig_secret key_pem;
};

static inline void pki_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static inline X509 *pki_cert(const char *name, EVP_PKEY *key, long begin_s, long end_s)
{
    static long serial = 1000;
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), begin_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), end_s);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_pubkey(cert, key);
    return cert;
}

static inline void pki_pem(X509 *cert, struct rig_buf *pem)
{
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    char *at;
    long len = BIO_get_mem_data(bio, &at);
    rig_buf_append(pem, at, (size_t)len);
    BIO_free(bio);
}

static inline void pki_root_init(struct pki_root *root, const char *name)
{
    *root = (struct pki_root){.key = EVP_EC_gen("P-256")};
    root->cert = pki_cert(name, root->key, -3600, 86400);
    X509_set_issuer_name(root->cert, X509_get_subject_name(root->cert));
    pki_extend(root->cert, root->cert, NID_basic_constraints, "critical,CA:TRUE");
    pki_extend(root->cert, root->cert, NID_key_usage, "critical,keyCertSign");
    X509_sign(root->cert, root->key, EVP_sha256());
    pki_pem(root->cert, &root->pem);
}

static inline void pki_root_deinit(struct pki_root *root)
{
    EVP_PKEY_free(root->key);
    X509_free(root->cert);
    rig_buf_deinit(&root->pem);
}

struct pki_want {
    const char *san;     /* "DNS:a.example,IP:127.0.0.1" */
    const char *name;    /* CN */
    const char *usage;   /* extended key usage; NULL: serverAuth */
    long begin_s, end_s; /* from now; both 0: an hour ago to tomorrow */
};

static inline void pki_leaf_init(struct pki_leaf *leaf, const struct pki_root *root,
                                 struct pki_want want)
{
    *leaf = (struct pki_leaf){0};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    bool is_default = want.begin_s == 0 && want.end_s == 0;
    X509 *cert = pki_cert(want.name != NULL ? want.name : "leaf", key,
                          is_default ? -3600 : want.begin_s, is_default ? 86400 : want.end_s);
    X509_set_issuer_name(cert, X509_get_subject_name(root->cert));
    if (want.san != NULL)
        pki_extend(cert, root->cert, NID_subject_alt_name, want.san);
    pki_extend(cert, root->cert, NID_ext_key_usage, want.usage != NULL ? want.usage : "serverAuth");
    X509_sign(cert, root->key, EVP_sha256());
    pki_pem(cert, &leaf->chain_pem);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    char *at;
    long len = BIO_get_mem_data(bio, &at);
    rig_secret_set(&leaf->key_pem, rig_slice(at, (size_t)len));
    BIO_free(bio);
    EVP_PKEY_free(key);
    X509_free(cert);
}

static inline void pki_leaf_deinit(struct pki_leaf *leaf)
{
    rig_buf_deinit(&leaf->chain_pem);
    rig_secret_deinit(&leaf->key_pem);
}

/* A server of this leaf and a client that trusts this root, both asking for `alpn`. */
static inline struct rig_tls *pki_server(const struct pki_leaf *leaf, const char *alpn)
{
    struct rig_tls_server_options options = {
        .chain_pem = rig_buf_slice(&leaf->chain_pem), .key_pem = &leaf->key_pem, .alpn = alpn};
    struct rig_tls *tls = NULL;
    struct rig_fault why = {0};
    int err = rig_tls_server_new(&options, &tls, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    return tls;
}

static inline struct rig_tls *pki_client(const struct pki_root *root, const char *alpn)
{
    struct rig_tls_client_options options = {.root_pem = rig_buf_slice(&root->pem), .alpn = alpn};
    struct rig_tls *tls = NULL;
    struct rig_fault why = {0};
    int err = rig_tls_client_new(&options, &tls, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    return tls;
}
