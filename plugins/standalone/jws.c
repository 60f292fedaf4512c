/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/jws.c: RFC 7515 compact serialization with ES256 (RFC 7518 section 3.4). */
#include "jws.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>

#include "core/arena.h"
#include "core/doc.h"
#include "core/json.h"

#define P256_BYTES          32
#define SIGNATURE_BYTES     (2 * P256_BYTES) /* R || S, RFC 7518 section 3.4 */
#define DER_SIGNATURE_BYTES 80               /* the same as DER: at most 72 */
#define HEADER_ARENA_BYTES  ((size_t)1024 * 1024)

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void jws_base64url_encode(struct rig_slice octets, struct rig_buf *text)
{
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < octets.len; i++) {
        bits = bits << 8 | octets.at[i];
        for (held += 8; held >= 6; held -= 6)
            rig_buf_append(text, &alphabet[bits >> (held - 6) & 63], 1);
    }
    if (held > 0)
        rig_buf_append(text, &alphabet[bits << (6 - held) & 63], 1);
}

static int digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : RIG_E_SYNTAX;
}

int jws_base64url_decode(struct rig_slice text, struct rig_buf *octets)
{
    uint32_t bits = 0;
    unsigned held = 0;
    if (text.len % 4 == 1)
        return RIG_E_SYNTAX;
    for (size_t i = 0; i < text.len; i++) {
        int value = digit(text.at[i]);
        if (value < 0)
            return RIG_E_SYNTAX;
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            uint8_t octet = (uint8_t)(bits >> held);
            rig_buf_append(octets, &octet, 1);
        }
    }
    return (bits & ((1u << held) - 1)) == 0 ? 0 : RIG_E_SYNTAX;
}

/* DER, as OpenSSL makes it -> R || S. */
static int raw_signature(const uint8_t *der, size_t len, uint8_t raw[SIGNATURE_BYTES])
{
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)len);
    if (signature == NULL)
        return RIG_E_CRYPTO;
    int r_len = BN_bn2binpad(ECDSA_SIG_get0_r(signature), raw, P256_BYTES);
    int s_len = BN_bn2binpad(ECDSA_SIG_get0_s(signature), raw + P256_BYTES, P256_BYTES);
    ECDSA_SIG_free(signature);
    return r_len == P256_BYTES && s_len == P256_BYTES ? 0 : RIG_E_CRYPTO;
}

/* R || S -> DER; the length, or a negative code. */
static int der_signature(const uint8_t *raw, uint8_t der[DER_SIGNATURE_BYTES])
{
    int len = RIG_E_CRYPTO;
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, P256_BYTES, NULL);
    BIGNUM *s = BN_bin2bn(raw + P256_BYTES, P256_BYTES, NULL);
    if (signature == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(signature, r, s) != 1)
        goto out;
    r = s = NULL;
    uint8_t *at = der;
    if (i2d_ECDSA_SIG(signature, NULL) <= DER_SIGNATURE_BYTES)
        len = i2d_ECDSA_SIG(signature, &at);
out:
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(signature);
    return len > 0 ? len : RIG_E_CRYPTO;
}

int jws_sign(EVP_PKEY *key, struct rig_slice payload, struct rig_secret *token,
             struct rig_fault *why)
{
    struct rig_buf text = {0};
    uint8_t der[DER_SIGNATURE_BYTES], raw[SIGNATURE_BYTES];
    size_t der_len = sizeof(der);
    int err = RIG_E_CRYPTO;
    jws_base64url_encode(RIG_SLICE("{\"alg\":\"ES256\",\"typ\":\"JWT\"}"), &text);
    rig_buf_append_text(&text, ".");
    jws_base64url_encode(payload, &text);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (md == NULL || EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) != 1 ||
        EVP_DigestSign(md, der, &der_len, text.at, text.len) != 1 ||
        raw_signature(der, der_len, raw) < 0)
        goto out;
    rig_buf_append_text(&text, ".");
    jws_base64url_encode(rig_slice(raw, sizeof(raw)), &text);
    rig_secret_set(token, rig_buf_slice(&text));
    err = 0;
out:
    if (err < 0)
        rig_fault_openssl(why, err, "signing a token");
    EVP_MD_CTX_free(md);
    rig_wipe(text.at, text.len);
    rig_buf_deinit(&text);
    return err;
}

/* The text up to the next '.', dropped from `rest` together with it; all of it at the end. */
static struct rig_slice next_part(struct rig_slice *rest)
{
    size_t len = 0;
    while (len < rest->len && rest->at[len] != '.')
        len++;
    struct rig_slice part = rig_slice(rest->at, len);
    size_t skipped = len < rest->len ? len + 1 : len;
    *rest = rig_slice(rest->at + skipped, rest->len - skipped);
    return part;
}

static int check_header(struct rig_slice encoded, struct rig_fault *why)
{
    struct rig_buf text = {0};
    struct rig_arena arena;
    struct rig_doc *header = NULL;
    rig_arena_init(&arena, HEADER_ARENA_BYTES);
    int err = jws_base64url_decode(encoded, &text);
    if (err == 0)
        err = rig_json_read(rig_buf_slice(&text), "header", &arena, &header, NULL);
    if (err < 0 || header == NULL || header->kind != RIG_DOC_MAP)
        err = rig_fault_set(why, RIG_E_SYNTAX, "the token's header is not JSON in base64url");
    else if (strcmp(rig_doc_get_text(header, "alg", ""), "ES256") != 0)
        err = rig_fault_set(why, RIG_E_AUTH, "the token is not signed by ES256");
    else if (rig_doc_get(header, "crit") != NULL) /* RFC 7515 section 4.1.11 */
        err = rig_fault_set(why, RIG_E_AUTH, "the token's header asks for an extension");
    rig_arena_deinit(&arena);
    rig_buf_deinit(&text);
    return err;
}

static int check_signature(EVP_PKEY *key, struct rig_slice input, struct rig_slice encoded,
                           struct rig_fault *why)
{
    struct rig_buf raw = {0};
    uint8_t der[DER_SIGNATURE_BYTES];
    int err = RIG_E_AUTH;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (jws_base64url_decode(encoded, &raw) < 0 || raw.len != SIGNATURE_BYTES)
        goto out;
    int der_len = der_signature(raw.at, der);
    if (der_len > 0 && md != NULL && EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
        EVP_DigestVerify(md, der, (size_t)der_len, input.at, input.len) == 1)
        err = 0;
out:
    if (err < 0)
        rig_fault_openssl(why, err, "the token's signature is not by this key");
    EVP_MD_CTX_free(md);
    rig_buf_deinit(&raw);
    return err;
}

int jws_verify(EVP_PKEY *key, struct rig_slice token, struct rig_buf *payload,
               struct rig_fault *why)
{
    if (token.len > JWS_BYTES_MAX)
        return rig_fault_set(why, RIG_E_TOO_LARGE, "the token is longer than %d octets",
                             JWS_BYTES_MAX);
    struct rig_slice rest = token;
    struct rig_slice header = next_part(&rest);
    struct rig_slice body = next_part(&rest);
    if (header.len == 0 || body.len == 0 || rest.len == 0)
        return rig_fault_set(why, RIG_E_SYNTAX, "the token has no three parts");
    int err = check_header(header, why);
    if (err == 0)
        err = check_signature(key, rig_slice(token.at, header.len + 1 + body.len), rest, why);
    if (err == 0 && jws_base64url_decode(body, payload) < 0)
        err = rig_fault_set(why, RIG_E_SYNTAX, "the token's payload is not base64url");
    return err;
}
