/* SPDX-License-Identifier: Apache-2.0 */
/* core/tls.c: OpenSSL contexts and the sentences of their refusals.
 *
 * No session cache and no tickets on either side: connections are few and long, memory is not.
 * Renegotiation is off, so a handshake happens once and settings need not outlive it. */
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <uv.h>

#include "alloc.h"
#include "clock.h"
#include "tls_session.h"

#define BUNDLE_MAX_BYTES  (4u << 20) /* a system's whole bundle is about 220 KiB */
#define READ_BUFFER_BYTES 65536      /* four records for one read(2) */
#define NAMES_BYTES       256

struct rig_tls {
    size_t refs; /* owner, listeners, dials and handshakes; they end in no fixed order */
    SSL_CTX *ctx;
    uint8_t alpn[256]; /* length-prefixed, as on the wire; alpn[0] 0: none */
};

/* ---- sentences ---- */

static void append(char *text, size_t size, const char *more, size_t more_len)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < more_len && len + 1 < size; i++, len++)
        text[len] = (more[i] >= 0x20 && more[i] < 0x7f) ? more[i] : '?';
    text[len] = '\0';
}

/* "a.example, 10.0.0.1": what the certificate is good for. */
static void san_text(X509 *cert, char *text, size_t size)
{
    text[0] = '\0';
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        char address[INET6_ADDRSTRLEN];
        const char *at = NULL;
        size_t len = 0;
        if (type == GEN_DNS || type == GEN_URI) {
            at = (const char *)ASN1_STRING_get0_data(value);
            len = (size_t)ASN1_STRING_length(value);
        } else if (type == GEN_IPADD) {
            int octets = ASN1_STRING_length(value);
            int family = octets == 4 ? AF_INET : octets == 16 ? AF_INET6 : AF_UNSPEC;
            at = inet_ntop(family, ASN1_STRING_get0_data(value), address, sizeof(address));
            len = at != NULL ? strlen(at) : 0;
        }
        if (len == 0)
            continue;
        if (text[0] != '\0')
            append(text, size, ", ", 2);
        append(text, size, at, len);
    }
    GENERAL_NAMES_free(names);
}

static void time_text(const ASN1_TIME *time, char text[RIG_CLOCK_TEXT_BYTES])
{
    struct tm parts;
    if (time == NULL || ASN1_TIME_to_tm(time, &parts) != 1 ||
        strftime(text, RIG_CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(text, RIG_CLOCK_TEXT_BYTES, "an unreadable time");
}

static void refusal_text(int error, X509 *cert, const char *peer, struct rig_fault *why)
{
    const char *reason = X509_verify_cert_error_string(error);
    char names[NAMES_BYTES] = "", when[RIG_CLOCK_TEXT_BYTES];
    switch (error) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        rig_fault_set(why, 0, "certificate signed by unknown authority (%s)", reason);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        if (cert != NULL)
            san_text(cert, names, sizeof(names));
        rig_fault_set(why, 0, "certificate is valid for %s, not for %s (%s)",
                      names[0] != '\0' ? names : "no name", peer, reason);
        break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        time_text(X509_get0_notAfter(cert), when);
        rig_fault_set(why, 0, "%s: it ended %s", reason, when);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        time_text(X509_get0_notBefore(cert), when);
        rig_fault_set(why, 0, "%s: it begins %s", reason, when);
        break;
    default:
        rig_fault_set(why, 0, "certificate was refused: %s", reason);
        break;
    }
}

/* Runs while OpenSSL walks the chain; the only moment at which the refused certificate is seen. */
static int on_verify(int is_ok, X509_STORE_CTX *store)
{
    if (is_ok)
        return 1;
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct rig_fault *refusal = SSL_get_app_data(ssl);
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    char *address = X509_VERIFY_PARAM_get1_ip_asc(param);
    const char *name = address != NULL ? address : X509_VERIFY_PARAM_get0_host(param, 0);
    if (refusal != NULL)
        refusal_text(X509_STORE_CTX_get_error(store), X509_STORE_CTX_get_current_cert(store),
                     name != NULL ? name : "this peer", refusal);
    OPENSSL_free(address);
    return 0;
}

int tls_session_error(int ssl_error, const char *during, struct rig_fault *why)
{
    unsigned long queued = ERR_peek_error();
    if (ssl_error == SSL_ERROR_SYSCALL && queued == 0) {
        int err = errno != 0 ? -errno : UV_EOF;
        if (why != NULL && why->text[0] == '\0')
            rig_fault_set(why, err, "%s %s", rig_error_text(err), during);
        return err;
    }
    if (ERR_GET_LIB(queued) == ERR_LIB_SSL &&
        ERR_GET_REASON(queued) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        ERR_clear_error();
        if (why != NULL && why->text[0] == '\0')
            rig_fault_set(why, UV_EOF, "peer closed the connection %s", during);
        return UV_EOF;
    }
    bool is_plain = ERR_GET_LIB(queued) == ERR_LIB_SSL &&
                    (ERR_GET_REASON(queued) == SSL_R_WRONG_VERSION_NUMBER ||
                     ERR_GET_REASON(queued) == SSL_R_HTTP_REQUEST);
    if (why != NULL && why->text[0] != '\0')
        ERR_clear_error();
    else if (is_plain)
        rig_fault_openssl(why, RIG_E_TLS, "what the peer sent %s is not TLS", during);
    else
        rig_fault_openssl(why, RIG_E_TLS, "TLS error %s", during);
    return RIG_E_TLS;
}

/* ---- settings ---- */

/* A key that is encrypted is no use to us, and OpenSSL's own callback would ask the terminal. */
static int no_passphrase(char *text, int size, int is_writing, void *ctx)
{
    (void)text, (void)size, (void)is_writing, (void)ctx;
    return 0;
}

static int alpn_set(struct rig_tls *tls, const char *alpn, struct rig_fault *why)
{
    size_t len = alpn != NULL ? strlen(alpn) : 0;
    if (len > 255)
        return rig_fault_set(why, RIG_E_RANGE, "ALPN protocol of %zu octets: at most 255", len);
    tls->alpn[0] = (uint8_t)len;
    if (len > 0)
        memcpy(tls->alpn + 1, alpn, len);
    return 0;
}

static int on_alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                          const unsigned char *in, unsigned int in_len, void *ctx)
{
    const struct rig_tls *tls = ctx;
    (void)ssl;
    for (unsigned int i = 0; i < in_len; i += 1u + in[i]) {
        if (in[i] == tls->alpn[0] && i + 1 + in[i] <= in_len &&
            memcmp(in + i, tls->alpn, 1u + in[i]) == 0) {
            *out = in + i + 1;
            *out_len = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int settings_new(const SSL_METHOD *method, const char *alpn, struct rig_tls **out,
                        struct rig_fault *why)
{
    struct rig_tls *tls = rig_new(struct rig_tls);
    tls->refs = 1;
    tls->ctx = SSL_CTX_new(method);
    /* TLS 1.2 is limited to what HTTP/2 allows (RFC 9113 9.2.2). AES-128 goes first: half the
     * time of a relayed octet is its cipher. */
    if (tls->ctx == NULL || SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(tls->ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                           "TLS_CHACHA20_POLY1305_SHA256") != 1 ||
        SSL_CTX_set_cipher_list(tls->ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) {
        rig_tls_free(tls);
        return rig_fault_openssl(why, RIG_E_TLS, "cannot set up TLS");
    }
    SSL_CTX_set_options(tls->ctx,
                        SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_num_tickets(tls->ctx, 0);
    SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls->ctx, 1);
    SSL_CTX_set_default_read_buffer_len(tls->ctx, READ_BUFFER_BYTES);
    int err = alpn_set(tls, alpn, why);
    if (err < 0) {
        rig_tls_free(tls);
        return err;
    }
    *out = tls;
    return 0;
}

void rig_tls_free(struct rig_tls *tls)
{
    if (tls == NULL || --tls->refs > 0)
        return;
    SSL_CTX_free(tls->ctx);
    rig_free(tls);
}

struct rig_tls *tls_ref(struct rig_tls *tls)
{
    if (tls != NULL)
        tls->refs++;
    return tls;
}

/* Adds every certificate that parses; how many. A damaged block does not spoil its neighbours. */
static int anchors_add(X509_STORE *store, struct rig_slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    int count = 0;
    while (bio != NULL && BIO_pending(bio) > 0) {
        char *name = NULL, *header = NULL;
        unsigned char *der = NULL;
        long der_len = 0;
        int before = BIO_pending(bio);
        if (PEM_read_bio(bio, &name, &header, &der, &der_len) == 1) {
            const unsigned char *at = der;
            X509 *cert = strcmp(name, PEM_STRING_X509) == 0 ? d2i_X509(NULL, &at, der_len) : NULL;
            if (cert != NULL && X509_STORE_add_cert(store, cert) == 1)
                count++;
            X509_free(cert);
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
        if (BIO_pending(bio) >= before)
            break;
    }
    BIO_free(bio);
    ERR_clear_error();
    return count;
}

static int anchors_load(SSL_CTX *ctx, const struct rig_tls_client_options *options,
                        struct rig_fault *why)
{
    if (options->root_path == NULL && options->root_pem.len == 0) {
        if (SSL_CTX_set_default_verify_paths(ctx) != 1)
            return rig_fault_openssl(why, RIG_E_TLS, "cannot load the system's root certificates");
        return 0;
    }
    struct rig_buf file = {0};
    struct rig_slice pem = options->root_pem;
    const char *origin = "given root certificates";
    int err = 0;
    if (options->root_path != NULL) {
        origin = options->root_path;
        err = rig_buf_read_file(&file, options->root_path, BUNDLE_MAX_BYTES);
        pem = rig_buf_slice(&file);
    } else if (pem.len > BUNDLE_MAX_BYTES) {
        err = RIG_E_TOO_LARGE;
    }
    if (err < 0)
        rig_fault_set(why, err, "cannot read root certificates from %s: %s", origin,
                      rig_error_text(err));
    else if (anchors_add(SSL_CTX_get_cert_store(ctx), pem) == 0)
        err = rig_fault_set(why, RIG_E_TLS, "%s: no usable PEM certificate in it", origin);
    rig_buf_deinit(&file);
    return err;
}

int rig_tls_client_new(const struct rig_tls_client_options *options, struct rig_tls **out,
                       struct rig_fault *why)
{
    struct rig_tls *tls;
    int err = settings_new(TLS_client_method(), options->alpn, &tls, why);
    if (err < 0)
        return err;
    err = anchors_load(tls->ctx, options, why);
    if (err < 0) {
        rig_tls_free(tls);
        return err;
    }
    /* As in Go, any given certificate is an anchor, an intermediate one too. */
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(tls->ctx);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, on_verify);
    *out = tls;
    return 0;
}

static int identity_load(SSL_CTX *ctx, const struct rig_tls_server_options *options,
                         struct rig_fault *why)
{
    int err = RIG_E_TLS;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    BIO *chain = BIO_new_mem_buf(options->chain_pem.at, (int)options->chain_pem.len);
    BIO *secret = BIO_new_mem_buf(options->key_pem->at, (int)options->key_pem->len);
    if (chain == NULL || secret == NULL ||
        (cert = PEM_read_bio_X509(chain, NULL, no_passphrase, NULL)) == NULL ||
        SSL_CTX_use_certificate(ctx, cert) != 1) {
        rig_fault_openssl(why, err, "server certificate is not usable");
        goto out;
    }
    X509 *between;
    while ((between = PEM_read_bio_X509(chain, NULL, no_passphrase, NULL)) != NULL) {
        if (SSL_CTX_add0_chain_cert(ctx, between) != 1) {
            X509_free(between);
            rig_fault_openssl(why, err, "server certificate chain is not usable");
            goto out;
        }
    }
    ERR_clear_error(); /* the loop ends with "no start line" */
    key = PEM_read_bio_PrivateKey(secret, NULL, no_passphrase, NULL);
    if (key == NULL || SSL_CTX_use_PrivateKey(ctx, key) != 1) {
        rig_fault_openssl(why, err, "server key is not usable, or not of this certificate");
        goto out;
    }
    err = 0;
out:
    X509_free(cert);
    EVP_PKEY_free(key);
    BIO_free(chain);
    BIO_free(secret);
    return err;
}

int rig_tls_server_new(const struct rig_tls_server_options *options, struct rig_tls **out,
                       struct rig_fault *why)
{
    if (options->chain_pem.len == 0 || options->chain_pem.len > BUNDLE_MAX_BYTES ||
        options->key_pem == NULL || options->key_pem->len == 0)
        return rig_fault_set(why, RIG_E_TLS, "a TLS server needs a certificate and its key");
    struct rig_tls *tls;
    int err = settings_new(TLS_server_method(), options->alpn, &tls, why);
    if (err < 0)
        return err;
    err = identity_load(tls->ctx, options, why);
    if (err < 0) {
        rig_tls_free(tls);
        return err;
    }
    if (tls->alpn[0] > 0)
        SSL_CTX_set_alpn_select_cb(tls->ctx, on_alpn_select, tls);
    *out = tls;
    return 0;
}

/* ---- sessions ---- */

static int expect_name(SSL *ssl, const char *server_name)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_time(param, (time_t)rig_clock_wall_s());
    unsigned char address[16];
    if (inet_pton(AF_INET, server_name, address) == 1 ||
        inet_pton(AF_INET6, server_name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, server_name) == 1 ? 0 : RIG_E_TLS;
    /* "host." is the same host, but neither SNI (RFC 6066 3) nor a SAN has the dot. */
    size_t len = strlen(server_name);
    if (len > 0 && server_name[len - 1] == '.')
        len--;
    char name[256];
    if (len == 0 || len >= sizeof(name))
        return RIG_E_TLS;
    memcpy(name, server_name, len);
    name[len] = '\0';
    if (X509_VERIFY_PARAM_set1_host(param, name, len) != 1 ||
        SSL_set_tlsext_host_name(ssl, name) != 1)
        return RIG_E_TLS;
    return 0;
}

int tls_session_new(struct rig_tls *tls, int fd, const char *server_name, SSL **out,
                    struct rig_fault *refusal)
{
    SSL *ssl = SSL_new(tls->ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
        goto fail;
    SSL_set_app_data(ssl, refusal);
    if (SSL_is_server(ssl)) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        /* Without a name to check, any certificate of the authority would do: refuse. */
        if (server_name == NULL || expect_name(ssl, server_name) < 0) {
            SSL_free(ssl);
            return rig_fault_set(refusal, RIG_E_TLS, "\"%s\" is not a name that TLS can verify",
                                 server_name != NULL ? server_name : "");
        }
        if (tls->alpn[0] > 0 && SSL_set_alpn_protos(ssl, tls->alpn, 1u + tls->alpn[0]) != 0)
            goto fail;
    }
    *out = ssl;
    return 0;
fail:
    SSL_free(ssl);
    return rig_fault_openssl(refusal, RIG_E_TLS, "cannot set up a TLS connection");
}

int tls_session_settle(const struct rig_tls *tls, SSL *ssl, struct rig_fault *why)
{
    SSL_set_app_data(ssl, NULL);
    if (tls->alpn[0] == 0)
        return 0;
    const unsigned char *chosen;
    unsigned int len;
    SSL_get0_alpn_selected(ssl, &chosen, &len);
    if (len == tls->alpn[0] && memcmp(chosen, tls->alpn + 1, len) == 0)
        return 0;
    return rig_fault_set(why, RIG_E_TLS, "peer did not agree on the protocol %.*s (ALPN)",
                         tls->alpn[0], (const char *)tls->alpn + 1);
}
