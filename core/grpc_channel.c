/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc_channel.c: a client's connection and the calls that are started on it.
 *
 *   dialling -- on_dialled --> waiting for SETTINGS -- on_ready --> ready
 *       any of them -- failure, close --> gone (on_closed) */
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "alloc.h"
#include "grpc.h"
#include "grpc_call.h"
#include "grpc_status.h"

#define TIMEOUT_MS 10000

struct rig_grpc_channel {
    uv_loop_t *loop;
    uv_idle_t closing; /* used for its close callback: the loop's promise to come back */
    struct rig_dial *dial;
    struct rig_h2 *h2;
    struct rig_h2_options h2_options;
    uint64_t deadline_ms; /* of dialling and SETTINGS together */
    bool is_ready;
    bool is_closing; /* by its owner */
    const struct rig_grpc_channel_events *events;
    void *ctx;
};

static void channel_gone(struct rig_grpc_channel *channel, int code, const char *text,
                         enum rig_dial_stage stage)
{
    struct rig_grpc_status status = {.code = code, .message = text, .stage = stage};
    channel->events->on_closed(channel->ctx, &status);
    rig_free(channel);
}

/* ---- the connection ---- */

static void on_ready(void *ctx)
{
    struct rig_grpc_channel *channel = ctx;
    channel->is_ready = true;
    if (channel->events->on_ready != NULL)
        channel->events->on_ready(channel->ctx);
}

static void on_goaway(void *ctx, uint32_t code, struct rig_slice debug)
{
    struct rig_grpc_channel *channel = ctx;
    if (channel->events->on_goaway != NULL)
        channel->events->on_goaway(channel->ctx, code, debug);
}

static void on_connection_closed(void *ctx, int err, const struct rig_fault *why)
{
    struct rig_grpc_channel *channel = ctx;
    bool is_ours = channel->is_closing && err == 0;
    channel_gone(channel, is_ours ? RIG_GRPC_OK : RIG_GRPC_UNAVAILABLE, is_ours ? "" : why->text,
                 RIG_DIAL_DONE);
}

static const struct rig_h2_events connection_events = {
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_closed = on_connection_closed,
};

static void on_dialled(void *ctx, int err, enum rig_dial_stage stage, const struct rig_fault *why,
                       struct rig_stream *stream)
{
    struct rig_grpc_channel *channel = ctx;
    channel->dial = NULL;
    if (err < 0) {
        channel_gone(channel, RIG_GRPC_UNAVAILABLE, why->text, stage);
        return;
    }
    uint64_t now = uv_now(channel->loop);
    channel->h2_options.settings_timeout_ms =
        channel->deadline_ms > now ? (uint32_t)(channel->deadline_ms - now) : 1;
    channel->h2 =
        rig_h2_open(channel->loop, stream, &channel->h2_options, &connection_events, channel);
}

int rig_grpc_channel_open(uv_loop_t *loop, const struct rig_grpc_channel_options *options,
                          const struct rig_grpc_channel_events *events, void *ctx,
                          struct rig_grpc_channel **out, struct rig_fault *why)
{
    struct rig_grpc_channel *channel = rig_new(struct rig_grpc_channel);
    struct rig_dial_options dial = options->dial;
    if (dial.timeout_ms == 0)
        dial.timeout_ms = TIMEOUT_MS;
    channel->loop = loop;
    channel->h2_options = options->h2;
    channel->h2_options.is_server = false;
    channel->deadline_ms = uv_now(loop) + dial.timeout_ms;
    channel->events = events;
    channel->ctx = ctx;
    int err = rig_dial_start(loop, &dial, on_dialled, channel, &channel->dial, why);
    if (err < 0) {
        rig_free(channel);
        return err;
    }
    *out = channel;
    return 0;
}

static void on_closing(uv_handle_t *handle)
{
    channel_gone(handle->data, RIG_GRPC_OK, "", RIG_DIAL_DONE);
}

void rig_grpc_channel_close(struct rig_grpc_channel *channel)
{
    if (channel->is_closing)
        return;
    channel->is_closing = true;
    if (channel->h2 != NULL) {
        rig_h2_close(channel->h2);
        return;
    }
    rig_dial_cancel(channel->dial);
    channel->dial = NULL;
    uv_idle_init(channel->loop, &channel->closing);
    channel->closing.data = channel;
    uv_close((uv_handle_t *)&channel->closing, on_closing);
}

/* ---- calls ---- */

/* A token with a line end in it, say, would be a malformed request (RFC 9113 8.2.1). */
static const struct rig_h2_header *metadata_wrong(const struct rig_grpc_request *request)
{
    for (size_t i = 0; i < request->metadata_count; i++) {
        const struct rig_h2_header *header = &request->metadata[i];
        if (!nghttp2_check_header_name(header->name.at, header->name.len) ||
            !nghttp2_check_header_value_rfc9113(header->value.at, header->value.len))
            return header;
    }
    return NULL;
}

static struct rig_h2_header *request_headers(const struct rig_grpc_request *request,
                                             const char *timeout, size_t *count)
{
    const struct rig_h2_header fixed[] = {
        {RIG_SLICE(":method"), RIG_SLICE("POST"), false},
        {RIG_SLICE(":scheme"), rig_slice_text(request->is_tls ? "https" : "http"), false},
        {RIG_SLICE(":path"), rig_slice_text(request->path), false},
        {RIG_SLICE(":authority"), rig_slice_text(request->authority), false},
        {RIG_SLICE("content-type"), RIG_SLICE("application/grpc"), false},
        {RIG_SLICE("user-agent"), RIG_SLICE("outrigger/" RIG_VERSION), false},
        {RIG_SLICE("te"), RIG_SLICE("trailers"), false},
        {RIG_SLICE("grpc-timeout"), rig_slice_text(timeout), false},
    };
    size_t fixed_count = sizeof(fixed) / sizeof(fixed[0]) - (request->timeout_ms == 0);
    *count = fixed_count + request->metadata_count;
    struct rig_h2_header *headers = rig_alloc(*count * sizeof(*headers));
    memcpy(headers, fixed, fixed_count * sizeof(*headers));
    if (request->metadata_count > 0)
        memcpy(headers + fixed_count, request->metadata,
               request->metadata_count * sizeof(*headers));
    return headers;
}

struct rig_grpc_call *rig_grpc_call_start(struct rig_grpc_channel *channel,
                                          const struct rig_grpc_request *request,
                                          const struct rig_grpc_handler *handler, void *ctx)
{
    if (!channel->is_ready || channel->is_closing)
        return NULL;
    struct rig_grpc_request sent = *request;
    const struct rig_h2_header *wrong = metadata_wrong(request);
    if (wrong != NULL)
        sent.metadata_count = 0;
    char timeout[GRPC_TIMEOUT_BYTES];
    grpc_timeout_text(request->timeout_ms, timeout);
    size_t count;
    struct rig_h2_header *headers = request_headers(&sent, timeout, &count);
    struct rig_grpc_call *call = grpc_call_new(channel->h2, false);
    rig_grpc_call_accept(call, handler, ctx);
    call->stream = rig_h2_request(channel->h2, headers, count, &grpc_call_events, call);
    rig_free(headers);
    if (call->stream == NULL) {
        rig_free(call);
        return NULL;
    }
    if (wrong != NULL) { /* nothing has left yet, and nothing will */
        struct rig_fault why;
        rig_fault_set(&why, RIG_E_SYNTAX, "metadata \"%.*s\" has an octet that HTTP does not allow",
                      RIG_SLICE_ARG(wrong->name));
        grpc_call_fail(call, RIG_GRPC_INTERNAL, why.text);
    } else if (request->timeout_ms > 0) {
        grpc_call_limit(call, channel->loop, request->timeout_ms);
    }
    return call;
}
