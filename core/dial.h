/* SPDX-License-Identifier: Apache-2.0 */
/* core/dial.h: from an address to a connected stream: resolve, connect, TLS, one deadline over
 * all of it. Tries a name's addresses in turn. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "fault.h"

struct rig_dial;
struct rig_stream;
struct rig_tls;

enum rig_dial_stage { RIG_DIAL_RESOLVE, RIG_DIAL_CONNECT, RIG_DIAL_TLS, RIG_DIAL_DONE };

struct rig_dial_options {
    const char *address;      /* "HOST:PORT" (name, IPv4, or [IPv6]) or "unix:PATH"; copied */
    struct rig_tls *tls;      /* NULL: plain; shared with the caller (rig_tls_free) */
    const char *server_name;  /* the name to verify and send as SNI; NULL: the host; copied */
    uint32_t timeout_ms;      /* over all stages; 0: 10,000 */
    uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT: unacknowledged sends die; 0: system's */
};

/* err 0: takes `stream`. Otherwise `stage` is where it failed and `why` the sentence (borrowed).
 * UV_ETIMEDOUT: the deadline; RIG_E_TLS: handshake or verification. */
typedef void (*rig_dial_cb)(void *ctx, int err, enum rig_dial_stage stage,
                            const struct rig_fault *why, struct rig_stream *stream);

/* Starts; the callback comes exactly once, never inside this call. Only an address that cannot
 * be parsed fails here (RIG_E_SYNTAX). */
int rig_dial_start(uv_loop_t *loop, const struct rig_dial_options *options, rig_dial_cb on_done,
                   void *ctx, struct rig_dial **dial, struct rig_fault *why);

/* Gives up: the callback will not come and nothing is left open. A resolver that hangs keeps
 * its pool thread, not its caller. */
void rig_dial_cancel(struct rig_dial *dial);

/* Host part of "HOST:PORT" into `host` (brackets dropped) and the port; RIG_E_SYNTAX. */
int rig_dial_split(const char *address, char *host, size_t host_bytes, uint16_t *port,
                   struct rig_fault *why);
