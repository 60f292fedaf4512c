/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/relay.c: pairs one stream of Envoy's with one to the control plane.
 *
 * Window accounting, the heart of it: each octet from upstream gives its window back exactly
 * once. Passed on, when it left Envoy's queue (on_sent). Dropped, at once. Held, as soon as
 * Envoy's queue is empty: a message may be larger than the window, but a reader that has
 * stopped must stop its control plane. So memory is one window and one held message at most. */
#include "relay.h"

#include <stdarg.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/grpc.h"
#include "core/log.h"

#include "types.h"
#include "xds_proxy.h"

/* istiod ends its connections each half hour and cuts them 10 s after saying so. */
#define LEAVE_MAX_MS 5000

#define LEAVE_TEXT "closing transport due to: received prior goaway: code: NO_ERROR"

#define H2_INTERNAL_ERROR    2 /* RFC 9113, 7 */
#define H2_CANCEL            8
#define H2_ENHANCE_YOUR_CALM 11

static uint32_t random_32(void)
{
    uint32_t value = 0;
    uv_random(NULL, NULL, &value, sizeof(value), 0, NULL);
    return value;
}

static const char *kind(const struct relay *relay)
{
    return relay->is_delta ? "delta upstream" : "upstream";
}

/* ---- its end ---- */

static void check_gone(struct relay *relay)
{
    struct xds_proxy *proxy = relay->proxy;
    if (relay->state != RELAY_CLOSED || relay->down != NULL || relay->up.channel != NULL ||
        relay->is_timer_open)
        return;
    struct relay **at = &proxy->relays;
    while (*at != relay)
        at = &(*at)->next;
    *at = relay->next;
    scan_deinit(&relay->request);
    scan_deinit(&relay->response);
    rig_buf_deinit(&relay->early);
    rig_buf_deinit(&relay->held);
    rig_free(relay);
    xds_proxy_check_stopped(proxy);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct relay *relay = handle->data;
    relay->is_timer_open = false;
    check_gone(relay);
}

static bool is_mid_response(const struct relay *relay)
{
    return relay->is_begun && !relay->is_passed;
}

void relay_close(struct relay *relay, int code, const char *message)
{
    if (relay->state == RELAY_CLOSED)
        return;
    relay->state = RELAY_CLOSED;
    if (relay->proxy->current == relay)
        relay->proxy->current = NULL;
    if (relay->down != NULL) {
        /* Trailers would make half a message of it; a reset says that nothing was complete. */
        if (is_mid_response(relay))
            rig_grpc_call_reset(relay->down, code == RIG_GRPC_OK ? H2_CANCEL : H2_INTERNAL_ERROR);
        else
            rig_grpc_call_finish(relay->down, code, message);
    }
    upstream_close(relay);
    rig_buf_deinit(&relay->early);
    rig_buf_deinit(&relay->held);
    uv_close((uv_handle_t *)&relay->timer, on_timer_closed);
}

/* We give up on this pair, and it is the control plane's doing. */
static void fail(struct relay *relay, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fail(struct relay *relay, int code, const char *format, ...)
{
    struct rig_fault why;
    va_list args;
    va_start(args, format);
    vsnprintf(why.text, sizeof(why.text), format, args);
    va_end(args);
    rig_log_error(XDS_LOG, "%s [%llu]: %s", kind(relay), (unsigned long long)relay->id, why.text);
    status_fail(&relay->proxy->status, "stream: %s", why.text);
    relay_close(relay, code, why.text);
}

/* ---- responses ---- */

void relay_response_begin(struct relay *relay, uint32_t length)
{
    relay->mode = RELAY_PEEK;
    relay->length = length;
    relay->is_incoming = true;
    relay->is_begun = relay->is_passed = false;
    scan_begin(&relay->response, length);
}

static enum relay_mode mode_of(enum type_fate fate)
{
    switch (fate) {
    case TYPE_RELAY:
        return RELAY_PASS;
    case TYPE_HOLD:
        return RELAY_HOLD;
    default:
        return RELAY_DROP;
    }
}

static enum relay_mode mode_by_peek(const struct scan *scan)
{
    switch (scan->peek) {
    case SCAN_PEEK_TYPE:
        return mode_of(type_fate_of_response(scan_type(&scan->peeked)));
    case SCAN_PEEK_RESOURCE:
        return mode_of(type_fate_of_resource(scan_type(&scan->peeked)));
    case SCAN_PEEK_BLIND:
        return RELAY_HOLD;
    default:
        return RELAY_PEEK;
    }
}

/* Says as much as can be said now about the response that is coming in. RIG_E_PROTOCOL: it was
 * passed by what was peeked and ends with another type; Envoy must not get the rest of it. */
static int decide(struct relay *relay)
{
    const struct scan *scan = &relay->response;
    if (relay->mode == RELAY_PEEK)
        relay->mode = mode_by_peek(scan);
    if (!scan_is_whole(scan))
        return 0;
    struct rig_slice type_url = scan_type(&scan->type_url);
    if (relay->mode == RELAY_PEEK || relay->mode == RELAY_HOLD)
        relay->mode = mode_of(type_fate_of_response(type_url));
    else if (relay->mode == RELAY_PASS && !rig_slice_equal(type_url, scan_type(&scan->peeked)))
        return RIG_E_PROTOCOL;
    return 0;
}

/* Held octets may give their window back once Envoy has taken all that was before them. */
static void pay_held(struct relay *relay)
{
    if (relay->held_unpaid == 0 || relay->up.call == NULL || rig_grpc_call_queued(relay->down) > 0)
        return;
    size_t len = relay->held_unpaid;
    relay->held_unpaid = 0;
    rig_grpc_call_consume(relay->up.call, len);
}

static void hold(struct relay *relay, struct rig_slice bytes)
{
    if (rig_buf_append_capped(&relay->held, bytes.at, bytes.len,
                              (size_t)relay->proxy->config->hold_max_bytes) < 0) {
        fail(relay, RIG_GRPC_RESOURCE_EXHAUSTED,
             "a response of %u octets does not show its type within %llu (holdMaxBytes)",
             relay->length, (unsigned long long)relay->proxy->config->hold_max_bytes);
        return;
    }
    relay->held_unpaid += bytes.len;
    pay_held(relay);
}

static void pass(struct relay *relay, struct rig_slice bytes)
{
    if (!relay->is_begun) {
        relay->is_begun = true;
        rig_grpc_call_send_begin(relay->down, relay->length);
        if (relay->held.len > 0) {
            relay->prepaid += relay->held.len - relay->held_unpaid;
            relay->held_unpaid = 0;
            rig_grpc_call_send_bytes(relay->down, rig_buf_slice(&relay->held));
            rig_buf_deinit(&relay->held);
        }
    }
    relay->is_passed = scan_is_whole(&relay->response);
    if (bytes.len > 0)
        rig_grpc_call_send_bytes(relay->down, bytes);
}

static void drop(struct relay *relay, struct rig_slice bytes)
{
    size_t len = bytes.len + relay->held_unpaid;
    relay->held_unpaid = 0;
    rig_buf_deinit(&relay->held);
    if (len > 0)
        rig_grpc_call_consume(relay->up.call, len);
}

static void take(struct relay *relay, struct rig_slice bytes)
{
    if (scan_feed(&relay->response, bytes) < 0) {
        fail(relay, RIG_GRPC_INTERNAL, "a response is no discovery message");
        return;
    }
    if (decide(relay) < 0) {
        fail(relay, RIG_GRPC_INTERNAL, "a response of type %.*s has resources of type %.*s",
             RIG_SLICE_ARG(scan_type(&relay->response.type_url)),
             RIG_SLICE_ARG(scan_type(&relay->response.peeked)));
        return;
    }
    switch (relay->mode) {
    case RELAY_PEEK:
    case RELAY_HOLD:
        hold(relay, bytes);
        break;
    case RELAY_PASS:
        pass(relay, bytes);
        break;
    case RELAY_DROP:
        drop(relay, bytes);
        break;
    }
}

void relay_response_bytes(struct relay *relay, struct rig_slice bytes)
{
    if (relay->state != RELAY_CLOSED)
        take(relay, bytes);
}

static void tell_dropped(struct relay *relay)
{
    struct rig_slice type_url = scan_type(&relay->response.type_url);
    if (type_fate_of_response(type_url) == TYPE_OWN)
        rig_log_debug(XDS_LOG, "unasked response of type %.*s dropped", RIG_SLICE_ARG(type_url));
    else if (status_say(&relay->proxy->status, RIG_SLICE("dropped"), type_url))
        rig_log_error(XDS_LOG,
                      "response of type \"%.*s\" dropped: not a valid type for Envoy (said once)",
                      RIG_SLICE_ARG(type_url));
}

static void tell_passed(struct relay *relay)
{
    struct xds_proxy *proxy = relay->proxy;
    const struct scan *scan = &relay->response;
    status_push(&proxy->status, scan, relay->length);
    rig_host_mark(proxy->host, "first xds response");
    rig_log_debug(XDS_LOG, "response of type %.*s: %u octets, %llu resources, nonce %.*s",
                  RIG_SLICE_ARG(scan_type(&scan->type_url)), relay->length,
                  (unsigned long long)scan->resources, RIG_SLICE_ARG(scan_slice(&scan->nonce)));
}

void relay_response_end(struct relay *relay)
{
    if (relay->state == RELAY_CLOSED)
        return;
    if (relay->length == 0)
        take(relay, rig_slice(NULL, 0));
    if (!relay->has_response) {
        relay->has_response = true;
        rig_backoff_reset(&relay->proxy->backoff);
        status_recover(&relay->proxy->status);
    }
    if (relay->mode == RELAY_PASS)
        tell_passed(relay);
    else
        tell_dropped(relay);
    relay->is_incoming = relay->is_begun = false;
    if (relay->is_leaving)
        relay_close(relay, RIG_GRPC_UNAVAILABLE, LEAVE_TEXT);
}

/* ---- requests ---- */

static void tell_nack(struct relay *relay)
{
    const struct scan *scan = &relay->request;
    struct rig_slice type_url = scan_type(&scan->type_url);
    if (status_say(&relay->proxy->status, type_url, scan_slice(&scan->error)))
        rig_log_warn(XDS_LOG, "NACK from Envoy for %.*s, nonce %.*s: %.*s", RIG_SLICE_ARG(type_url),
                     RIG_SLICE_ARG(scan_slice(&scan->nonce)),
                     RIG_SLICE_ARG(scan_slice(&scan->error)));
}

static void on_request(void *ctx, struct rig_slice message)
{
    struct relay *relay = ctx;
    if (relay->state == RELAY_CLOSED)
        return;
    /* What is no message is the control plane's to refuse; it gets every octet as it is. */
    scan_begin(&relay->request, (uint32_t)message.len);
    if (scan_feed(&relay->request, message) == 0) {
        status_reply(&relay->proxy->status, &relay->request);
        if (relay->request.has_error)
            tell_nack(relay);
    }
    size_t queued =
        relay->up.call != NULL ? rig_grpc_call_queued(relay->up.call) : relay->early.len;
    if (queued + message.len > relay->proxy->config->request_queue_max_bytes) {
        rig_log_error(XDS_LOG,
                      "downstream [%llu]: the control plane does not take requests, %zu "
                      "octets wait (requestQueueMaxBytes)",
                      (unsigned long long)relay->id, queued);
        relay_close(relay, RIG_GRPC_RESOURCE_EXHAUSTED,
                    "too many requests wait for the control plane");
        return;
    }
    if (relay->up.call != NULL) {
        rig_grpc_call_send(relay->up.call, message);
        return;
    }
    uint32_t length = (uint32_t)message.len;
    rig_buf_append(&relay->early, &length, sizeof(length));
    rig_buf_append_slice(&relay->early, message);
}

static void send_early(struct relay *relay)
{
    struct rig_slice rest = rig_buf_slice(&relay->early);
    while (rest.len > 0) {
        uint32_t length;
        memcpy(&length, rest.at, sizeof(length));
        rest.at += sizeof(length);
        rig_grpc_call_send(relay->up.call, rig_slice(rest.at, length));
        rest.at += length;
        rest.len -= sizeof(length) + length;
    }
    rig_buf_deinit(&relay->early);
}

/* ---- Envoy's side ---- */

static void on_sent(void *ctx, size_t len)
{
    struct relay *relay = ctx;
    if (relay->state == RELAY_CLOSED || relay->up.call == NULL)
        return;
    size_t paid = len < relay->prepaid ? len : relay->prepaid;
    relay->prepaid -= paid;
    if (len > paid)
        rig_grpc_call_consume(relay->up.call, len - paid);
    pay_held(relay);
}

static void on_half_close(void *ctx)
{
    struct relay *relay = ctx;
    if (relay->state == RELAY_CLOSED)
        return;
    rig_log_debug(XDS_LOG, "downstream [%llu] ended its stream", (unsigned long long)relay->id);
    relay_close(relay, RIG_GRPC_OK, NULL);
}

static void on_down_close(void *ctx, const struct rig_grpc_status *status)
{
    struct relay *relay = ctx;
    relay->down = NULL;
    if (relay->state != RELAY_CLOSED) {
        if (status->code == RIG_GRPC_RESOURCE_EXHAUSTED)
            rig_log_error(XDS_LOG, "downstream [%llu]: %s (requestMaxBytes)",
                          (unsigned long long)relay->id, status->message);
        else
            rig_log_info(XDS_LOG, "downstream [%llu] disconnected: %d, %s",
                         (unsigned long long)relay->id, status->code, status->message);
        relay_close(relay, RIG_GRPC_OK, NULL);
    }
    check_gone(relay);
}

/* ---- the control plane's side ---- */

void relay_upstream_ready(struct relay *relay)
{
    struct xds_proxy *proxy = relay->proxy;
    relay->state = RELAY_OPEN;
    rig_host_mark(proxy->host, "xds upstream connected");
    rig_log_info(XDS_LOG, "connected to %s XDS server: %s", kind(relay),
                 proxy->workload->discovery.address);
    send_early(relay);
}

/* The next attempt is not made before its time, whoever asks for it. */
static void put_off(struct relay *relay)
{
    struct xds_proxy *proxy = relay->proxy;
    proxy->retry_ms = rig_clock_ms() + rig_backoff_next_ms(&proxy->backoff, random_32());
}

void relay_upstream_failed(struct relay *relay, const char *stage, const char *reason,
                           const char *message)
{
    const char *address = relay->proxy->workload->discovery.address;
    rig_log_warn(XDS_LOG, "no connection to %s XDS server %s: %s: %s", kind(relay), address, stage,
                 reason);
    status_fail(&relay->proxy->status, "%s: %s: %s", stage, address, reason);
    put_off(relay);
    relay_close(relay, RIG_GRPC_UNAVAILABLE, message);
}

static void on_leave(uv_timer_t *timer)
{
    struct relay *relay = timer->data;
    relay->is_leaving = true;
    if (!relay->is_incoming)
        relay_close(relay, RIG_GRPC_UNAVAILABLE, LEAVE_TEXT);
}

/* gRPC's keepalive rule (gRFC A8): else the next connection ends in the same way. */
static void ping_less(struct xds_proxy *proxy)
{
    if (proxy->keepalive_ms <= KEEPALIVE_MOST_MS / 2)
        proxy->keepalive_ms *= 2;
    rig_log_info(XDS_LOG, "PING after %llu ms of silence from now on",
                 (unsigned long long)proxy->keepalive_ms);
}

void relay_upstream_goaway(struct relay *relay, uint32_t code, struct rig_slice debug)
{
    if (relay->state != RELAY_OPEN || uv_is_active((uv_handle_t *)&relay->timer))
        return;
    if (code != 0) {
        rig_log_warn(XDS_LOG, "%s [%llu]: GOAWAY with code %u: %.*s", kind(relay),
                     (unsigned long long)relay->id, code, RIG_SLICE_ARG(debug));
        if (code == H2_ENHANCE_YOUR_CALM && rig_slice_is(debug, "too_many_pings"))
            ping_less(relay->proxy);
        return;
    }
    /* Every proxy is told at the same age: they must not all come back at once. */
    uint32_t wait_ms = random_32() % (LEAVE_MAX_MS + 1);
    rig_log_info(XDS_LOG, "%s [%llu]: GOAWAY (%.*s), leaving in %u ms", kind(relay),
                 (unsigned long long)relay->id, RIG_SLICE_ARG(debug), wait_ms);
    relay->is_told_to_go = true;
    uv_timer_start(&relay->timer, on_leave, wait_ms, 0);
}

void relay_upstream_ended(struct relay *relay, const struct rig_grpc_status *status)
{
    bool is_expected = status->code == RIG_GRPC_OK || relay->is_told_to_go;
    rig_log(is_expected ? RIG_LOG_INFO : RIG_LOG_WARN, XDS_LOG, "%s [%llu] disconnected%s: %d, %s",
            kind(relay), (unsigned long long)relay->id,
            is_mid_response(relay) ? " in the middle of a response" : "", status->code,
            status->message);
    status_fail(&relay->proxy->status, "stream: %d, %s", status->code, status->message);
    if (!relay->has_response)
        put_off(relay);
    relay_close(relay, status->code, status->message);
}

void relay_upstream_gone(struct relay *relay)
{
    check_gone(relay);
}

/* ---- its beginning ---- */

static void connect_now(struct relay *relay)
{
    struct rig_fault why = {0};
    relay->state = RELAY_CONNECTING;
    int err = upstream_open(relay, &why);
    if (err == 0)
        return;
    struct rig_buf message = {0};
    rig_buf_printf(&message, "connection error: desc = \"%s\"", why.text);
    relay_upstream_failed(relay, err == RIG_E_SYNTAX ? "DNS" : "TLS", why.text,
                          rig_buf_text(&message));
    rig_buf_deinit(&message);
}

static void on_due(uv_timer_t *timer)
{
    connect_now(timer->data);
}

void relay_open(struct xds_proxy *proxy, struct rig_grpc_call *call, bool is_delta)
{
    struct relay *relay = rig_new(struct relay);
    relay->proxy = proxy;
    relay->next = proxy->relays;
    proxy->relays = relay;
    relay->id = ++proxy->relay_count;
    relay->is_delta = is_delta;
    relay->down = call;
    relay->down_handler = (struct rig_grpc_handler){
        .on_message = on_request,
        .message_max_bytes = (size_t)proxy->config->request_max_bytes,
        .on_half_close = on_half_close,
        .on_sent = on_sent,
        .on_close = on_down_close,
    };
    scan_init(&relay->request, is_delta ? SCAN_DELTA_REQUEST : SCAN_REQUEST);
    scan_init(&relay->response, is_delta ? SCAN_DELTA_RESPONSE : SCAN_RESPONSE);
    uv_timer_init(proxy->loop, &relay->timer);
    relay->timer.data = relay;
    relay->is_timer_open = true;
    rig_grpc_call_accept(call, &relay->down_handler, relay);

    if (proxy->current != NULL) {
        rig_log_warn(XDS_LOG, "registered overlapping stream; closing previous [%llu]",
                     (unsigned long long)proxy->current->id);
        relay_close(proxy->current, RIG_GRPC_OK, NULL);
    }
    proxy->current = relay;
    uint64_t now_ms = rig_clock_ms();
    if (proxy->retry_ms <= now_ms) {
        connect_now(relay);
        return;
    }
    relay->state = RELAY_WAITING;
    rig_log_debug(XDS_LOG, "next attempt in %llu ms",
                  (unsigned long long)(proxy->retry_ms - now_ms));
    uv_timer_start(&relay->timer, on_due, proxy->retry_ms - now_ms, 0);
}
