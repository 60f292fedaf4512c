/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/authority.h: the certificate authority: one self-signed root on P-256 that
 * signs workload certificates and the control plane's own. Knows no file and no request message. */
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/fault.h"
#include "core/secret.h"

#define AUTHORITY_ROOT_DAYS     3650
#define AUTHORITY_TTL_DEFAULT_S ((int64_t)24 * 3600)      /* istiod: DEFAULT_WORKLOAD_CERT_TTL */
#define AUTHORITY_TTL_MAX_S     ((int64_t)90 * 24 * 3600) /* istiod: MAX_WORKLOAD_CERT_TTL */
#define AUTHORITY_BACKDATE_S    120                       /* istiod: clock skew of workloads */
#define AUTHORITY_RSA_BITS_MIN  2048
#define AUTHORITY_RSA_BITS_MAX  4096

struct authority {
    EVP_PKEY *key;
    X509 *root;
    struct rig_buf root_pem;
};

/* A new private key on P-256. Returns owned. */
int authority_key_new(EVP_PKEY **key, struct rig_fault *why);

/* A key as PEM (PKCS#8), and back; a key that is no P-256 key is RIG_E_CRYPTO. */
int authority_key_write(EVP_PKEY *key, struct rig_secret *pem, struct rig_fault *why);
int authority_key_read(struct rig_slice pem, EVP_PKEY **key, struct rig_fault *why);

/* A self-signed root certificate for the key, valid from `now_s`, appended as PEM. */
int authority_root_make(EVP_PKEY *key, int64_t now_s, struct rig_buf *pem, struct rig_fault *why);

/* Takes `key` (also on failure). RIG_E_CRYPTO when it does not fit the certificate, or that
 * certificate is no CA's or not valid at `now_s`. */
int authority_init(struct authority *authority, EVP_PKEY *key, struct rig_slice root_pem,
                   int64_t now_s, struct rig_fault *why);
void authority_deinit(struct authority *authority);

struct authority_request {
    struct rig_slice csr_pem;
    const char *spiffe_id; /* goes into the certificate, whatever the CSR asks for */
    int64_t ttl_s;         /* 0 or less: AUTHORITY_TTL_DEFAULT_S */
    int64_t now_s;
};

#define AUTHORITY_SERIAL_BYTES 33 /* 128 bits in hexadecimal, and a NUL */

struct authority_issued {
    char serial[AUTHORITY_SERIAL_BYTES];
    int64_t not_after_s;
};

/* Appends the certificate as PEM. RIG_E_SYNTAX: no request, or not signed by its own key;
 * RIG_E_RANGE: key or lifetime is not acceptable; RIG_E_CRYPTO: ours. */
int authority_sign(const struct authority *authority, const struct authority_request *request,
                   struct rig_buf *leaf_pem, struct authority_issued *issued,
                   struct rig_fault *why);

/* A certificate for a server under these DNS names and IP addresses, made with a new key, valid
 * as long as the root. Appends leaf and root to `chain_pem`. */
int authority_serve(const struct authority *authority, const char *const *names,
                    struct rig_buf *chain_pem, struct rig_secret *key_pem, struct rig_fault *why);
