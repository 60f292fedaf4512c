/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/csr.c: key and certificate request by OpenSSL.
 *
 * The subject is empty and the SAN critical, as RFC 5280 4.2.1.6 asks in that case. Istio's agent
 * sends one O attribute with an empty value instead; CAs look at the SAN alone. */
#include "csr.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static const struct csr_key_type key_types[] = {
    {"rsa-2048", 2048, NULL, "SHA256"},   {"rsa-3072", 3072, NULL, "SHA256"},
    {"rsa-4096", 4096, NULL, "SHA256"},   {"ecdsa-p256", 0, "P-256", "SHA256"},
    {"ecdsa-p384", 0, "P-384", "SHA384"},
};

const struct csr_key_type *csr_key_type_find(struct rig_slice name)
{
    for (size_t i = 0; i < sizeof(key_types) / sizeof(key_types[0]); i++) {
        if (rig_slice_is(name, key_types[i].name))
            return &key_types[i];
    }
    return NULL;
}

/* Called at every candidate for a prime; 0 ends the search. */
static int on_progress(EVP_PKEY_CTX *ctx)
{
    const atomic_bool *is_given_up = EVP_PKEY_CTX_get_app_data(ctx);
    return is_given_up == NULL || !atomic_load(is_given_up);
}

/* Primes may take a second on a busy machine; the program's end must not wait for them. */
static EVP_PKEY *rsa_generate(unsigned bits, const atomic_bool *is_given_up)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    if (ctx == NULL)
        return NULL;
    if (EVP_PKEY_keygen_init(ctx) > 0 && EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits) > 0) {
        EVP_PKEY_CTX_set_app_data(ctx, (void *)(uintptr_t)is_given_up);
        EVP_PKEY_CTX_set_cb(ctx, on_progress);
        if (EVP_PKEY_generate(ctx, &key) <= 0)
            key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static EVP_PKEY *key_generate(const struct csr_request *request)
{
    const struct csr_key_type *type = request->key_type;
    if (type->rsa_bits != 0)
        return rsa_generate(type->rsa_bits, request->is_given_up);
    return EVP_EC_gen(type->curve);
}

/* A memory BIO clears what it held when it is freed, so no copy of the key stays behind. */
static int key_to_pem(EVP_PKEY *key, bool is_pkcs8, struct rig_secret *pem)
{
    int err = RIG_E_CRYPTO;
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL)
        return err;
    int done = is_pkcs8 ? PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)
                        : PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL);
    long len = done == 1 ? BIO_get_mem_data(bio, &text) : 0;
    if (len > 0) {
        rig_secret_set(pem, rig_slice(text, (size_t)len));
        err = 0;
    }
    BIO_free(bio);
    return err;
}

/* SubjectAltName: one uniformResourceIdentifier. */
static GENERAL_NAMES *san_of_uri(const char *uri)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    if (names == NULL || name == NULL || text == NULL || ASN1_STRING_set(text, uri, -1) != 1 ||
        sk_GENERAL_NAME_push(names, name) == 0) {
        sk_GENERAL_NAME_free(names);
        GENERAL_NAME_free(name);
        ASN1_IA5STRING_free(text);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, GEN_URI, text);
    return names;
}

static int request_add_san(X509_REQ *request, const char *uri)
{
    int err = RIG_E_CRYPTO;
    GENERAL_NAMES *names = san_of_uri(uri);
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    if (names != NULL &&
        X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 1, X509V3_ADD_APPEND) == 1 &&
        X509_REQ_add_extensions(request, extensions) == 1)
        err = 0;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return err;
}

static int request_to_pem(X509_REQ *request, struct rig_buf *pem)
{
    int err = RIG_E_CRYPTO;
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL)
        return err;
    long len = PEM_write_bio_X509_REQ(bio, request) == 1 ? BIO_get_mem_data(bio, &text) : 0;
    if (len > 0) {
        rig_buf_append(pem, text, (size_t)len);
        err = 0;
    }
    BIO_free(bio);
    return err;
}

/* X509_REQ_set_pubkey encodes the key and decodes it again; for a curve that would be half of all
 * the time that a request takes, so its SubjectPublicKeyInfo (RFC 5480) is put together here. */
static int request_set_key(X509_REQ *request, EVP_PKEY *key, const struct csr_key_type *type)
{
    if (type->rsa_bits != 0)
        return X509_REQ_set_pubkey(request, key) == 1 ? 0 : RIG_E_CRYPTO;
    unsigned char *point = NULL;
    size_t len = EVP_PKEY_get1_encoded_public_key(key, &point);
    ASN1_OBJECT *curve = OBJ_nid2obj(EC_curve_nist2nid(type->curve));
    if (len == 0 || curve == NULL ||
        X509_PUBKEY_set0_param(X509_REQ_get_X509_PUBKEY(request),
                               OBJ_nid2obj(NID_X9_62_id_ecPublicKey), V_ASN1_OBJECT, curve, point,
                               (int)len) != 1) {
        OPENSSL_free(point);
        return RIG_E_CRYPTO;
    }
    return 0;
}

static int request_to_public_der(X509_REQ *request, struct rig_buf *der)
{
    unsigned char *octets = NULL;
    int len = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request), &octets);
    if (len <= 0)
        return RIG_E_CRYPTO;
    rig_buf_append(der, octets, (size_t)len);
    OPENSSL_free(octets);
    return 0;
}

static int request_build(const struct csr_request *from, EVP_PKEY *key, struct csr *csr)
{
    int err = RIG_E_CRYPTO;
    const EVP_MD *digest = EVP_get_digestbyname(from->key_type->digest);
    X509_REQ *request = X509_REQ_new();
    if (request == NULL || digest == NULL || request_add_san(request, from->spiffe_id) < 0 ||
        request_set_key(request, key, from->key_type) < 0)
        goto out;
    if (X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_sign(request, key, digest) <= 0 ||
        request_to_public_der(request, &csr->public_der) < 0)
        goto out;
    err = request_to_pem(request, &csr->request_pem);
out:
    X509_REQ_free(request);
    return err;
}

/* An IA5String of printable characters; a space or a control character is in no SPIFFE id. */
static bool is_uri(const char *text)
{
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text >= 0x7f)
            return false;
    }
    return true;
}

int csr_make(const struct csr_request *request, struct csr *csr, struct rig_fault *why)
{
    if (!is_uri(request->spiffe_id))
        return rig_fault_set(why, RIG_E_RANGE,
                             "identity \"%s\" holds a character that no URI may hold",
                             request->spiffe_id);
    EVP_PKEY *key = key_generate(request);
    int err = RIG_E_CRYPTO;
    if (key != NULL && key_to_pem(key, request->is_pkcs8, &csr->key_pem) == 0)
        err = request_build(request, key, csr);
    if (err < 0) {
        rig_fault_openssl(why, err, "cannot make a key and request of type %s",
                          request->key_type->name);
        csr_deinit(csr);
    }
    EVP_PKEY_free(key); /* clears the private numbers */
    return err;
}

void csr_deinit(struct csr *csr)
{
    rig_secret_deinit(&csr->key_pem);
    rig_buf_deinit(&csr->request_pem);
    rig_buf_deinit(&csr->public_der);
}
