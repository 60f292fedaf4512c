/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/token.h: the tokens workloads show: JWTs (RFC 7519) with the claims of a
 * Kubernetes service account token, signed by a key of our own. */
#pragma once

#include <openssl/evp.h>
#include <stdint.h>

#include "core/fault.h"
#include "core/secret.h"

#include "identity.h"

#define TOKEN_ISSUER   "outrigger-standalone"
#define TOKEN_AUDIENCE "istio-ca" /* of the tokens that Istio's agents are given */

/* How far a peer's clock may be ahead of ours: `nbf` and `iat`. Expiry gets no such grace. */
#define TOKEN_SKEW_S 60

struct token_grant {
    const struct identity *identity;
    const char *audience;
    int64_t issued_s;
    int64_t expires_s;
};

int token_make(EVP_PKEY *key, const struct token_grant *grant, struct rig_secret *token,
               struct rig_fault *why);

/* Whose token this is, when `key` signed it for this audience and it is valid at `now_s`. Else
 * RIG_E_AUTH, RIG_E_SYNTAX or RIG_E_TOO_LARGE and a sentence for our own log. */
int token_check(EVP_PKEY *key, struct rig_slice token, const char *audience, int64_t now_s,
                struct identity *identity, struct rig_fault *why);
