/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/relay.h: a pair: one stream of Envoy's, one stream to the control plane.
 *
 * Responses are cut through: octets go on as they come, and the control plane gets window back
 * only for what Envoy has taken. Requests are passed on whole and are never held up by
 * responses. The newest pair is the only one; it ends the one before. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/buf.h"
#include "core/grpc.h"

#include "scanner.h"
#include "upstream.h"

struct xds_proxy;

/*   WAITING --> CONNECTING --> OPEN --> CLOSED
 *      |            |                     ^
 *      +------------+---------------------+       CLOSED: waits for its handles, then is freed */
enum relay_state { RELAY_WAITING, RELAY_CONNECTING, RELAY_OPEN, RELAY_CLOSED };

/* What happens to the response that is coming in. */
enum relay_mode {
    RELAY_PEEK, /* not known yet; kept */
    RELAY_HOLD, /* kept until its type URL is known */
    RELAY_PASS, /* goes on to Envoy */
    RELAY_DROP, /* does not */
};

struct relay {
    struct xds_proxy *proxy;
    struct relay *next;
    uint64_t id;
    bool is_delta;
    enum relay_state state;
    struct rig_grpc_call *down; /* NULL: over */
    struct rig_grpc_handler down_handler;
    struct upstream up;
    uv_timer_t timer; /* WAITING: until an attempt is due; OPEN: until we leave after GOAWAY */
    bool is_timer_open;

    /* requests */
    struct scan request;
    struct rig_buf early; /* length (4 octets, host order) and message, before OPEN */

    /* the response that is coming in */
    struct scan response;
    enum relay_mode mode;
    uint32_t length;
    bool is_incoming; /* begun, not ended */
    bool is_begun;    /* downstream has its prefix */
    bool is_passed;   /* and all its octets */
    struct rig_buf held;
    size_t held_unpaid; /* octets of `held` whose window has not been given back */
    size_t prepaid;     /* octets queued to Envoy whose window has been given back already */

    bool has_response;  /* the control plane has said something */
    bool is_told_to_go; /* a friendly GOAWAY has come */
    bool is_leaving;    /* ends with the response that is coming in */
};

/* Takes up Envoy's `call`; ends the pair before. */
void relay_open(struct xds_proxy *proxy, struct rig_grpc_call *call, bool is_delta);

/* Ends both sides: Envoy gets these trailers, or RST_STREAM in the middle of a response. */
void relay_close(struct relay *relay, int code, const char *message);

/* ---- from upstream.c ---- */

/* The stream to the control plane is open: up.call is there. */
void relay_upstream_ready(struct relay *relay);

/* It did not come up. `stage` is "DNS", "connect", "TLS" or "SETTINGS"; `message` is for Envoy. */
void relay_upstream_failed(struct relay *relay, const char *stage, const char *reason,
                           const char *message);

void relay_response_begin(struct relay *relay, uint32_t length);
void relay_response_bytes(struct relay *relay, struct rig_slice bytes);
void relay_response_end(struct relay *relay);

/* The control plane wants no new streams: a friendly GOAWAY comes some time before the end. */
void relay_upstream_goaway(struct relay *relay, uint32_t code, struct rig_slice debug);

/* The stream is over. */
void relay_upstream_ended(struct relay *relay, const struct rig_grpc_status *status);

/* The connection is gone; nothing more comes. */
void relay_upstream_gone(struct relay *relay);
