/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/authority.c: keys, roots and certificates by OpenSSL. Names go into
 * certificates as structures, never through OpenSSL's configuration texts, in which a comma
 * would begin a second name. */
#include "authority.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define SERIAL_BITS 127 /* positive in DER without a 17th octet */

int authority_key_new(EVP_PKEY **key, struct rig_fault *why)
{
    *key = EVP_EC_gen("P-256");
    return *key != NULL ? 0 : rig_fault_openssl(why, RIG_E_CRYPTO, "making a key");
}

static BIO *bio_of(struct rig_slice text)
{
    return text.len <= INT32_MAX ? BIO_new_mem_buf(text.at, (int)text.len) : NULL;
}

int authority_key_write(EVP_PKEY *key, struct rig_secret *pem, struct rig_fault *why)
{
    int err = RIG_E_CRYPTO;
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_secmem());
    if (bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        long len = BIO_get_mem_data(bio, &text);
        rig_secret_set(pem, rig_slice(text, (size_t)len));
        err = 0;
    }
    BIO_free(bio); /* a secmem BIO wipes what it held */
    return err < 0 ? rig_fault_openssl(why, err, "writing a key") : 0;
}

/* An encrypted key has no passphrase here; without this OpenSSL would ask the terminal. */
static int no_passphrase(char *at, int len, int is_writing, void *ctx)
{
    (void)at, (void)len, (void)is_writing, (void)ctx;
    return -1;
}

int authority_key_read(struct rig_slice pem, EVP_PKEY **key, struct rig_fault *why)
{
    char group[32] = "";
    BIO *bio = bio_of(pem);
    EVP_PKEY *read = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    if (read == NULL)
        return rig_fault_openssl(why, RIG_E_CRYPTO, "no private key in PEM");
    if (EVP_PKEY_get_group_name(read, group, sizeof(group), NULL) != 1 ||
        OBJ_txt2nid(group) != NID_X9_62_prime256v1) {
        EVP_PKEY_free(read);
        ERR_clear_error();
        return rig_fault_set(why, RIG_E_CRYPTO, "the key is not on the curve P-256");
    }
    *key = read;
    return 0;
}

static int add_text_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    int ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok ? 0 : RIG_E_CRYPTO;
}

static int set_serial(X509 *cert)
{
    BIGNUM *serial = BN_new();
    int ok = serial != NULL && BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
             BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) != NULL;
    BN_free(serial);
    return ok ? 0 : RIG_E_CRYPTO;
}

static int set_validity(X509 *cert, int64_t from_s, int64_t until_s)
{
    return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from_s) != NULL &&
                   ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)until_s) != NULL
               ? 0
               : RIG_E_CRYPTO;
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    int days = 0, seconds = 0;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    if (epoch == NULL || ASN1_TIME_diff(&days, &seconds, epoch, time) != 1)
        days = seconds = 0;
    ASN1_TIME_free(epoch);
    return (int64_t)days * 86400 + seconds;
}

static int64_t not_after_s(const X509 *cert)
{
    return seconds_of(X509_get0_notAfter(cert));
}

static int write_cert(X509 *cert, struct rig_buf *pem)
{
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    int ok = bio != NULL && PEM_write_bio_X509(bio, cert) == 1;
    if (ok) {
        long len = BIO_get_mem_data(bio, &text);
        rig_buf_append(pem, text, (size_t)len);
    }
    BIO_free(bio);
    return ok ? 0 : RIG_E_CRYPTO;
}

static void serial_text(const X509 *cert, char *hex, size_t bytes)
{
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *text = serial != NULL ? BN_bn2hex(serial) : NULL;
    snprintf(hex, bytes, "%s", text != NULL ? text : "");
    OPENSSL_free(text);
    BN_free(serial);
}

/* Every root has a name of its own, so that a peer with the root of another control plane says
 * "unknown issuer" rather than "bad signature". */
static int set_root_name(X509 *cert)
{
    char serial[AUTHORITY_SERIAL_BYTES], common_name[64];
    serial_text(cert, serial, sizeof(serial));
    snprintf(common_name, sizeof(common_name), "standalone root %.8s", serial);
    X509_NAME *name = X509_get_subject_name(cert);
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *)"Outrigger", -1,
                                      -1, 0) == 1 &&
                   X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                              (const uint8_t *)common_name, -1, -1, 0) == 1 &&
                   X509_set_issuer_name(cert, name) == 1
               ? 0
               : RIG_E_CRYPTO;
}

int authority_root_make(EVP_PKEY *key, int64_t now_s, struct rig_buf *pem, struct rig_fault *why)
{
    int err = RIG_E_CRYPTO;
    X509V3_CTX ctx;
    X509 *cert = X509_new();
    if (cert == NULL || X509_set_version(cert, X509_VERSION_3) != 1 || set_serial(cert) < 0)
        goto out;
    int64_t until_s = now_s + (int64_t)AUTHORITY_ROOT_DAYS * 86400;
    if (set_root_name(cert) < 0 || X509_set_pubkey(cert, key) != 1 ||
        set_validity(cert, now_s - AUTHORITY_BACKDATE_S, until_s) < 0)
        goto out;
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    if (add_text_extension(cert, &ctx, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") < 0 ||
        add_text_extension(cert, &ctx, NID_key_usage, "critical,keyCertSign,cRLSign") < 0 ||
        add_text_extension(cert, &ctx, NID_subject_key_identifier, "hash") < 0)
        goto out;
    if (X509_sign(cert, key, EVP_sha256()) > 0)
        err = write_cert(cert, pem);
out:
    if (err < 0)
        rig_fault_openssl(why, err, "making a root certificate");
    X509_free(cert);
    return err;
}

static int check_root(const struct authority *authority, int64_t now_s, struct rig_fault *why)
{
    if (X509_check_private_key(authority->root, authority->key) != 1)
        return rig_fault_openssl(why, RIG_E_CRYPTO, "root key and root certificate do not fit");
    if (X509_check_ca(authority->root) != 1)
        return rig_fault_set(why, RIG_E_CRYPTO, "the root certificate is no CA's");
    if (not_after_s(authority->root) <= now_s)
        return rig_fault_set(why, RIG_E_CRYPTO, "the root certificate has expired");
    return 0;
}

int authority_init(struct authority *authority, EVP_PKEY *key, struct rig_slice root_pem,
                   int64_t now_s, struct rig_fault *why)
{
    *authority = (struct authority){.key = key};
    BIO *bio = bio_of(root_pem);
    if (bio != NULL)
        authority->root = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    int err = authority->root != NULL
                  ? check_root(authority, now_s, why)
                  : rig_fault_openssl(why, RIG_E_CRYPTO, "no certificate in PEM");
    /* As we would write it: text around the certificate does not go to the workloads. */
    if (err == 0 && write_cert(authority->root, &authority->root_pem) < 0)
        err = rig_fault_openssl(why, RIG_E_CRYPTO, "writing the root certificate");
    if (err < 0)
        authority_deinit(authority);
    return err;
}

void authority_deinit(struct authority *authority)
{
    EVP_PKEY_free(authority->key);
    X509_free(authority->root);
    rig_buf_deinit(&authority->root_pem);
    *authority = (struct authority){0};
}

/* A general name of this type with a text or octets in it; NULL without memory. */
static GENERAL_NAME *general_name(int type, struct rig_slice value)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *text =
        ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    if (name == NULL || text == NULL || ASN1_STRING_set(text, value.at, (int)value.len) != 1) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(text);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, type, text);
    return name;
}

/* Takes `name`, also on failure. */
static int push_name(GENERAL_NAMES *names, GENERAL_NAME *name)
{
    if (name != NULL && names != NULL && sk_GENERAL_NAME_push(names, name) > 0)
        return 0;
    GENERAL_NAME_free(name);
    return RIG_E_CRYPTO;
}

struct leaf {
    EVP_PKEY *key; /* the subject's */
    GENERAL_NAMES *names;
    int64_t from_s, until_s;
    const char *extended_usage;
};

/* A certificate with an empty subject: the names are in the SAN, which therefore is critical
 * (RFC 5280 section 4.1.2.6). */
static X509 *leaf_make(const struct authority *authority, const struct leaf *leaf)
{
    X509V3_CTX ctx;
    bool is_rsa = EVP_PKEY_is_a(leaf->key, "RSA") == 1;
    X509 *cert = X509_new();
    if (cert == NULL || X509_set_version(cert, X509_VERSION_3) != 1 || set_serial(cert) < 0 ||
        X509_set_issuer_name(cert, X509_get_subject_name(authority->root)) != 1 ||
        X509_set_pubkey(cert, leaf->key) != 1 ||
        set_validity(cert, leaf->from_s, leaf->until_s) < 0)
        goto fail;
    X509V3_set_ctx(&ctx, authority->root, cert, NULL, NULL, 0);
    if (add_text_extension(cert, &ctx, NID_key_usage,
                           is_rsa ? "critical,digitalSignature,keyEncipherment"
                                  : "critical,digitalSignature") < 0 ||
        add_text_extension(cert, &ctx, NID_ext_key_usage, leaf->extended_usage) < 0 ||
        add_text_extension(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE") < 0 ||
        add_text_extension(cert, &ctx, NID_authority_key_identifier, "keyid") < 0 ||
        X509_add1_ext_i2d(cert, NID_subject_alt_name, leaf->names, 1, X509V3_ADD_DEFAULT) != 1)
        goto fail;
    if (X509_sign(cert, authority->key, EVP_sha256()) > 0)
        return cert;
fail:
    X509_free(cert);
    return NULL;
}

static int check_key(EVP_PKEY *key, struct rig_fault *why)
{
    int bits = EVP_PKEY_get_bits(key);
    if (EVP_PKEY_is_a(key, "RSA") == 1) {
        if (bits >= AUTHORITY_RSA_BITS_MIN && bits <= AUTHORITY_RSA_BITS_MAX)
            return 0;
        return rig_fault_set(why, RIG_E_RANGE, "an RSA key of %d bits: from %d to %d are taken",
                             bits, AUTHORITY_RSA_BITS_MIN, AUTHORITY_RSA_BITS_MAX);
    }
    char group[32] = "";
    if (EVP_PKEY_is_a(key, "EC") == 1)
        EVP_PKEY_get_group_name(key, group, sizeof(group), NULL);
    int nid = OBJ_txt2nid(group);
    ERR_clear_error();
    if (nid == NID_X9_62_prime256v1 || nid == NID_secp384r1)
        return 0;
    return rig_fault_set(why, RIG_E_RANGE, "the key is neither RSA nor EC on P-256 or P-384");
}

/* The request's public key, once it has been shown that the asker holds the private one. */
static int read_request(struct rig_slice pem, X509_REQ **csr, struct rig_fault *why)
{
    BIO *bio = bio_of(pem);
    X509_REQ *read = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    EVP_PKEY *key = read != NULL ? X509_REQ_get0_pubkey(read) : NULL;
    int err = 0;
    if (key == NULL)
        err = rig_fault_openssl(why, RIG_E_SYNTAX, "no certificate request in PEM");
    else
        err = check_key(key, why);
    if (err == 0 && X509_REQ_verify(read, key) != 1)
        err = rig_fault_openssl(why, RIG_E_SYNTAX, "the request is not signed by its own key");
    if (err < 0)
        X509_REQ_free(read);
    else
        *csr = read;
    return err;
}

int authority_sign(const struct authority *authority, const struct authority_request *request,
                   struct rig_buf *leaf_pem, struct authority_issued *issued, struct rig_fault *why)
{
    int64_t ttl_s = request->ttl_s > 0 ? request->ttl_s : AUTHORITY_TTL_DEFAULT_S;
    if (ttl_s > AUTHORITY_TTL_MAX_S)
        return rig_fault_set(why, RIG_E_RANGE,
                             "requested TTL %llds is greater than the max allowed TTL %llds",
                             (long long)ttl_s, (long long)AUTHORITY_TTL_MAX_S);
    X509_REQ *csr = NULL;
    int err = read_request(request->csr_pem, &csr, why);
    if (err < 0)
        return err;
    int64_t root_until_s = not_after_s(authority->root);
    struct leaf leaf = {
        .key = X509_REQ_get0_pubkey(csr),
        .names = sk_GENERAL_NAME_new_null(),
        .from_s = request->now_s - AUTHORITY_BACKDATE_S,
        .until_s = request->now_s + ttl_s,
        .extended_usage = "serverAuth,clientAuth",
    };
    if (leaf.until_s > root_until_s)
        leaf.until_s = root_until_s;
    X509 *cert = NULL;
    if (push_name(leaf.names, general_name(GEN_URI, rig_slice_text(request->spiffe_id))) == 0)
        cert = leaf_make(authority, &leaf);
    err = cert != NULL ? write_cert(cert, leaf_pem) : RIG_E_CRYPTO;
    if (err < 0)
        rig_fault_openssl(why, err, "signing a certificate");
    else
        issued->not_after_s = not_after_s(cert);
    if (err == 0)
        serial_text(cert, issued->serial, sizeof(issued->serial));
    X509_free(cert);
    GENERAL_NAMES_free(leaf.names);
    X509_REQ_free(csr);
    return err;
}

static int push_server_name(GENERAL_NAMES *names, const char *text)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(text);
    ERR_clear_error();
    if (address == NULL)
        return push_name(names, general_name(GEN_DNS, rig_slice_text(text)));
    struct rig_slice octets =
        rig_slice(ASN1_STRING_get0_data(address), (size_t)ASN1_STRING_length(address));
    int err = push_name(names, general_name(GEN_IPADD, octets));
    ASN1_OCTET_STRING_free(address);
    return err;
}

int authority_serve(const struct authority *authority, const char *const *names,
                    struct rig_buf *chain_pem, struct rig_secret *key_pem, struct rig_fault *why)
{
    struct leaf leaf = {
        .names = sk_GENERAL_NAME_new_null(),
        .from_s = seconds_of(X509_get0_notBefore(authority->root)),
        .until_s = not_after_s(authority->root),
        .extended_usage = "serverAuth",
    };
    X509 *cert = NULL;
    int err = authority_key_new(&leaf.key, why);
    for (size_t i = 0; err == 0 && names[i] != NULL; i++)
        err = push_server_name(leaf.names, names[i]);
    if (err == 0 && (cert = leaf_make(authority, &leaf)) == NULL)
        err = RIG_E_CRYPTO;
    if (err == 0)
        err = write_cert(cert, chain_pem);
    if (err == 0)
        err = authority_key_write(leaf.key, key_pem, why);
    if (err == 0)
        rig_buf_append_slice(chain_pem, rig_buf_slice(&authority->root_pem));
    else
        rig_fault_openssl(why, err, "making the server's certificate");
    X509_free(cert);
    GENERAL_NAMES_free(leaf.names);
    EVP_PKEY_free(leaf.key);
    return err;
}
