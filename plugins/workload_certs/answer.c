/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/answer.c: the checks between the CA's answer and its publication. */
#include "answer.h"

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "core/clock.h"

#define ELEMENTS_MAX 64         /* leaf, intermediates, root bundle */
#define ANSWER_MAX   (1u << 20) /* octets in all */

static void append_lines(struct rig_slice text, struct rig_buf *out)
{
    const uint8_t *at = text.at;
    const uint8_t *end = text.at + text.len;
    while (at < end) {
        const uint8_t *cr = memchr(at, '\r', (size_t)(end - at));
        const uint8_t *stop = cr != NULL ? cr : end;
        rig_buf_append(out, at, (size_t)(stop - at));
        at = cr != NULL ? cr + 1 : end;
    }
}

void answer_join(const struct rig_slice *elements, size_t count, struct rig_buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (elements[i].len == 0)
            continue;
        if (out->len > 0 && out->at[out->len - 1] != '\n')
            rig_buf_append_text(out, "\n");
        append_lines(elements[i], out);
    }
}

static struct rig_slice trim(struct rig_slice text)
{
    while (text.len > 0 && strchr(" \t\r\n", text.at[0]) != NULL && text.at[0] != '\0') {
        text.at++;
        text.len--;
    }
    while (text.len > 0 && strchr(" \t\r\n", text.at[text.len - 1]) != NULL &&
           text.at[text.len - 1] != '\0')
        text.len--;
    return text;
}

/* An encrypted block has no passphrase here; without this OpenSSL would ask the terminal. */
static int no_passphrase(char *at, int len, int is_writing, void *ctx)
{
    (void)at, (void)len, (void)is_writing, (void)ctx;
    return -1;
}

/* Appends all certificates of a PEM text to `into`: their number, or RIG_E_SYNTAX. */
static int certificates_read(struct rig_slice pem, STACK_OF(X509) * into)
{
    int count = 0;
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    if (bio == NULL)
        return RIG_E_CRYPTO;
    for (;;) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (certificate == NULL)
            break;
        if (sk_X509_push(into, certificate) == 0) {
            X509_free(certificate);
            break;
        }
        count++;
    }
    unsigned long reason = ERR_peek_last_error();
    BIO_free(bio);
    /* Running out of PEM blocks is how the list ends. */
    if (count > 0 && ERR_GET_LIB(reason) == ERR_LIB_PEM &&
        ERR_GET_REASON(reason) == PEM_R_NO_START_LINE) {
        ERR_clear_error();
        return count;
    }
    return RIG_E_SYNTAX;
}

static int64_t time_of(const ASN1_TIME *from)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(from, &parts) != 1)
        return 0; /* reads as long expired */
    return (int64_t)timegm(&parts);
}

static void serial_of(X509 *certificate, char text[ANSWER_SERIAL_BYTES])
{
    text[0] = '\0';
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *hex = number != NULL ? BN_bn2hex(number) : NULL;
    if (hex != NULL)
        snprintf(text, ANSWER_SERIAL_BYTES, "%s", hex);
    OPENSSL_free(hex);
    BN_free(number);
}

static bool is_key_of(struct rig_slice public_der, X509 *leaf)
{
    const unsigned char *at = public_der.at;
    EVP_PKEY *ours = d2i_PUBKEY(NULL, &at, (long)public_der.len);
    EVP_PKEY *theirs = X509_get0_pubkey(leaf);
    bool is_same = ours != NULL && theirs != NULL && EVP_PKEY_eq(ours, theirs) == 1;
    EVP_PKEY_free(ours);
    ERR_clear_error();
    return is_same;
}

static bool has_uri_san(X509 *leaf, const char *uri)
{
    bool is_found = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !is_found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const ASN1_IA5STRING *text = name->d.uniformResourceIdentifier;
        is_found = rig_slice_is(
            rig_slice(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text)), uri);
    }
    GENERAL_NAMES_free(names);
    return is_found;
}

/* Does the leaf lead to one of the roots? Its times were looked at already, and with our clock a
 * CA's NotBefore may lie ahead. NULL when it does, else the reason. */
static const char *chain_refusal(X509 *leaf, STACK_OF(X509) * between, STACK_OF(X509) * roots)
{
    const char *reason = "out of memory";
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    if (store == NULL || context == NULL)
        goto out;
    for (int i = 0; i < sk_X509_num(roots); i++)
        X509_STORE_add_cert(store, sk_X509_value(roots, i));
    X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN);
    if (X509_STORE_CTX_init(context, store, leaf, between) != 1)
        goto out;
    reason = NULL;
    if (X509_verify_cert(context) != 1)
        reason = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
out:
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    ERR_clear_error();
    return reason;
}

static int leaf_check(X509 *leaf, const struct answer_expectation *expected, struct answer *answer,
                      struct rig_fault *why)
{
    serial_of(leaf, answer->serial);
    answer->not_before_s = time_of(X509_get0_notBefore(leaf));
    answer->not_after_s = time_of(X509_get0_notAfter(leaf));
    if (!is_key_of(expected->public_der, leaf))
        return rig_fault_set(why, RIG_E_PROTOCOL,
                             "the certificate (serial %s) is for another key than ours",
                             answer->serial);
    if (answer->not_after_s <= expected->now_s) {
        char then[RIG_CLOCK_TEXT_BYTES];
        char now[RIG_CLOCK_TEXT_BYTES];
        rig_clock_text(answer->not_after_s, then);
        rig_clock_text(expected->now_s, now);
        return rig_fault_set(why, RIG_E_PROTOCOL,
                             "the certificate (serial %s) ended at %s and by our clock it is %s; "
                             "is one of the clocks wrong?",
                             answer->serial, then, now);
    }
    return 0;
}

static int elements_read(const struct rig_slice *elements, size_t count, STACK_OF(X509) * between,
                         STACK_OF(X509) * roots, struct rig_fault *why)
{
    for (size_t i = 0; i < count; i++) {
        if (certificates_read(elements[i], i + 1 < count ? between : roots) < 0)
            return rig_fault_openssl(why, RIG_E_SYNTAX,
                                     "element %zu of %zu holds no readable PEM certificate", i + 1,
                                     count);
    }
    return 0;
}

static int size_check(const struct rig_slice *elements, size_t count, struct rig_fault *why)
{
    size_t octets = 0;
    if (count < 2)
        return rig_fault_set(why, RIG_E_PROTOCOL,
                             "the chain has %zu elements, and a certificate and a root are needed",
                             count);
    if (count > ELEMENTS_MAX)
        return rig_fault_set(why, RIG_E_TOO_LARGE, "the chain has %zu elements, over the limit %d",
                             count, ELEMENTS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (elements[i].len > ANSWER_MAX - octets)
            return rig_fault_set(why, RIG_E_TOO_LARGE, "the chain is larger than %u octets",
                                 ANSWER_MAX);
        octets += elements[i].len;
    }
    return 0;
}

int answer_read(const struct rig_slice *elements, size_t count,
                const struct answer_expectation *expected, struct answer *answer,
                struct rig_fault *why)
{
    int err = size_check(elements, count, why);
    if (err < 0)
        return err;
    STACK_OF(X509) *between = sk_X509_new_null(); /* the leaf first, then intermediates */
    STACK_OF(X509) *roots = sk_X509_new_null();
    err = between != NULL && roots != NULL ? 0 : RIG_E_CRYPTO;
    if (err == 0)
        err = elements_read(elements, count, between, roots, why);
    if (err < 0)
        goto out;
    X509 *leaf = sk_X509_value(between, 0);
    err = leaf_check(leaf, expected, answer, why);
    if (err < 0)
        goto out;
    const char *refusal = chain_refusal(leaf, between, roots);
    if (refusal != NULL)
        rig_fault_set(&answer->remark, 0, "its chain does not lead to its root (%s)", refusal);
    else if (!has_uri_san(leaf, expected->spiffe_id))
        rig_fault_set(&answer->remark, 0, "it is not for the identity that was asked for, %s",
                      expected->spiffe_id);
    struct rig_slice root = trim(elements[count - 1]);
    answer_join(elements, count, &answer->chain_pem);
    answer_join(&root, 1, &answer->roots_pem);
out:
    sk_X509_pop_free(between, X509_free);
    sk_X509_pop_free(roots, X509_free);
    if (err < 0)
        answer_deinit(answer);
    return err;
}

void answer_deinit(struct answer *answer)
{
    rig_buf_deinit(&answer->chain_pem);
    rig_buf_deinit(&answer->roots_pem);
}
