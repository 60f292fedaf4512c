/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/jws.h: signed texts in the compact form (RFC 7515), by ES256 and nothing
 * else: no other algorithm can be asked for, so none can be confused with it. */
#pragma once

#include <openssl/evp.h>

#include "core/buf.h"
#include "core/fault.h"
#include "core/secret.h"

/* Kubernetes' own tokens are some 1,200 octets long. */
#define JWS_BYTES_MAX 8192

/* "header.payload.signature" over this payload; `key` is a private key on P-256. */
int jws_sign(EVP_PKEY *key, struct rig_slice payload, struct rig_secret *token,
             struct rig_fault *why);

/* Appends the payload when the signature is by `key`. RIG_E_TOO_LARGE, RIG_E_SYNTAX, or
 * RIG_E_AUTH: well-formed, but not to be trusted. Faults quote nothing of the text. */
int jws_verify(EVP_PKEY *key, struct rig_slice token, struct rig_buf *payload,
               struct rig_fault *why);

/* base64url without padding (RFC 7515 section 2). Decoding accepts one form of each octet string
 * only: no other alphabet, padding, or stray bits; RIG_E_SYNTAX. */
void jws_base64url_encode(struct rig_slice octets, struct rig_buf *text);
int jws_base64url_decode(struct rig_slice text, struct rig_buf *octets);
