/* SPDX-License-Identifier: Apache-2.0 */
/* core/tls_session.h: one TLS connection over a socket; private to tls.c, stream.c, listener.c,
 * dial.c. */
#pragma once

#include <openssl/ssl.h>

#include "fault.h"

struct rig_tls;

/* Another owner, until its rig_tls_free. NULL stays NULL. */
struct rig_tls *tls_ref(struct rig_tls *tls);

/* An SSL on `fd` that has not begun its handshake. `server_name` (client only) is verified, and
 * sent as SNI unless it is an IP address. `refusal` is kept until tls_session_settle: it gets
 * the sentence when the peer's certificate is refused. Returns owned (SSL_free). */
int tls_session_new(struct rig_tls *tls, int fd, const char *server_name, SSL **ssl,
                    struct rig_fault *refusal);

/* The handshake is complete: is the promised protocol there? RIG_E_TLS. Forgets `refusal`. */
int tls_session_settle(const struct rig_tls *tls, SSL *ssl, struct rig_fault *why);

/* The code of a failed SSL call that gave `result` and `ssl_error` (SSL_get_error), and its
 * sentence unless `why` holds one already. `during` reads "during the TLS handshake". */
int tls_session_error(int ssl_error, const char *during, struct rig_fault *why);
