/* SPDX-License-Identifier: Apache-2.0 */
/* core/tls.h: what a TLS peer must show, and what we show; OpenSSL behind it.
 *
 * TLS 1.2 at least, ALPN "h2" unless said otherwise. Trust comes from the given PEM text or file
 * alone, or from the system's store. Names are matched against SANs only (never the CN); an IP
 * address matches IP SANs and sends no SNI. */
#pragma once

#include <stdbool.h>

#include "buf.h"
#include "fault.h"
#include "secret.h"

struct rig_tls; /* one side's settings; many connections share it */

struct rig_tls_client_options {
    const char *root_path;      /* PEM file of trust anchors, read now; NULL: see root_pem */
    struct rig_slice root_pem;  /* or the anchors themselves; empty and no path: system store */
    const char *alpn;           /* one protocol, required of the server; NULL: none asked */
};

/* RIG_E_TLS with a sentence naming the file when no usable certificate is found. Blocks of a
 * bundle that do not parse are skipped. Returns owned. */
int rig_tls_client_new(const struct rig_tls_client_options *options, struct rig_tls **tls,
                       struct rig_fault *why);

struct rig_tls_server_options {
    struct rig_slice chain_pem;
    const struct rig_secret *key_pem; /* borrows */
    const char *alpn;                 /* one protocol, required of the client; NULL: none */
};

int rig_tls_server_new(const struct rig_tls_server_options *options, struct rig_tls **tls,
                       struct rig_fault *why);

/* Listeners, dials and connections that were given it live on with it. */
void rig_tls_free(struct rig_tls *tls);
