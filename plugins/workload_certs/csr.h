/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/csr.h: a fresh private key and the request (PKCS#10) over it.
 *
 * Touches no state of the plugin, so it runs on a thread of the pool. The key exists as an
 * OpenSSL object only inside csr_make; what remains is its PEM text in a rig_secret. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "core/buf.h"
#include "core/fault.h"
#include "core/secret.h"

struct csr_key_type {
    const char *name;  /* as scripts/cert_policy.lua says it */
    unsigned rsa_bits; /* 0: elliptic curve */
    const char *curve;
    const char *digest; /* of the request's signature */
};

/* NULL when the name is none of "rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384". */
const struct csr_key_type *csr_key_type_find(struct rig_slice name);

struct csr_request {
    const struct csr_key_type *key_type;
    const char *spiffe_id;          /* the only SAN */
    bool is_pkcs8;                  /* key as "PRIVATE KEY" instead of "RSA/EC PRIVATE KEY" */
    const atomic_bool *is_given_up; /* set by another thread: an RSA key is not finished; or NULL */
};

struct csr {
    struct rig_secret key_pem;
    struct rig_buf request_pem;
    struct rig_buf public_der; /* SubjectPublicKeyInfo, to tell the answer's certificate by */
};

/* Fills a zeroed `csr`; on failure it is empty again. */
int csr_make(const struct csr_request *request, struct csr *csr, struct rig_fault *why);
void csr_deinit(struct csr *csr);
