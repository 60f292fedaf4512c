/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/ads.c: streams of the discovery service: messages in, messages out. What to
 * answer is subscription.c's, what there is to tell snapshot.c's. */
#include "ads.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <mesh_proto/discovery.pb-c.h>
#include <utlist.h>

#include "core/alloc.h"
#include "core/log.h"

#include "caller.h"
#include "proto_memory.h"
#include "response.h"
#include "snapshot.h"
#include "subscription.h"

#define SCOPE "ads"

/* istiod's limit of a request. Envoy's first has 62 KB, nearly all of it its node. */
#define REQUEST_BYTES_MAX ((size_t)4 * 1024 * 1024)
#define REQUEST_ARENA_MAX ((size_t)64 * 1024 * 1024)

/* Responses waiting for a peer that does not read, beyond which it gets no more. */
#define QUEUE_BYTES_MAX ((size_t)16 * 1024 * 1024)

#define NODE_ID_BYTES 256
#define ADDRESS_BYTES 64

struct ads_stream {
    struct ads *ads;
    struct rig_grpc_call *call;
    struct ads_stream *prev, *next;
    bool is_delta;
    bool is_over; /* finished by us; what still comes is not looked at */
    struct identity identity;
    char node_id[NODE_ID_BYTES]; /* "" until the first request */
    struct snapshot *snapshot;
    struct subscription subscriptions[SNAPSHOT_TYPES];
    uint64_t nonce;
};

static void finish(struct ads_stream *stream, int code, const char *message)
{
    if (code != RIG_GRPC_OK)
        rig_log_warn(SCOPE, "%s/%s: stream ended: %s", stream->identity.namespace,
                     stream->identity.service_account, message);
    stream->is_over = true;
    rig_grpc_call_finish(stream->call, code, message);
}

/* The second part of "sidecar~IP~POD.NS~DOMAIN"; "" when the id has another form. */
static void node_address(const char *id, char address[ADDRESS_BYTES])
{
    const char *from = strchr(id, '~');
    const char *until = from != NULL ? strchr(from + 1, '~') : NULL;
    address[0] = '\0';
    if (until != NULL && until - from - 1 < ADDRESS_BYTES)
        snprintf(address, ADDRESS_BYTES, "%.*s", (int)(until - from - 1), from + 1);
}

/* The node stands in the first request of a stream. False: the stream has been ended. */
static bool learn_node(struct ads_stream *stream, const Mesh__Discovery__Node *node)
{
    char address[ADDRESS_BYTES];
    struct rig_fault why = {0};
    if (stream->snapshot != NULL)
        return true;
    if (node == NULL || node->id[0] == '\0') {
        finish(stream, RIG_GRPC_INVALID_ARGUMENT, "missing node information");
        return false;
    }
    snprintf(stream->node_id, sizeof(stream->node_id), "%s", node->id);
    node_address(node->id, address);
    struct snapshot_node whom = {.identity = stream->identity, .address = address};
    if (snapshot_make(stream->ads->mesh, stream->ads->scripts, &whom, &stream->snapshot, &why) <
        0) {
        finish(stream, RIG_GRPC_INTERNAL, why.text);
        return false;
    }
    rig_log_info(SCOPE, "%s is %s/%s (%s)", stream->node_id, stream->identity.namespace,
                 stream->identity.service_account, stream->is_delta ? "delta" : "SotW");
    return true;
}

static void log_event(const struct ads_stream *stream, const struct subscription *subscription,
                      enum subscription_event event)
{
    const char *type = snapshot_type_name(subscription->type);
    switch (event) {
    case SUBSCRIPTION_ACK:
        rig_log_debug(SCOPE, "%s accepted %s %s", stream->node_id, type, subscription->version);
        break;
    case SUBSCRIPTION_NACK:
        rig_log_warn(SCOPE, "%s refused %s %s: %s", stream->node_id, type, subscription->version,
                     subscription->last_nack);
        break;
    case SUBSCRIPTION_STALE:
        rig_log_debug(SCOPE, "%s: a stale request for %s", stream->node_id, type);
        break;
    case SUBSCRIPTION_ASKED:
        break;
    }
}

static void send_answer(struct ads_stream *stream, struct subscription *subscription,
                        const struct subscription_answer *answer)
{
    struct rig_buf message = {0};
    struct response response = {
        .type_url = snapshot_type_url(subscription->type),
        .version = stream->snapshot->sets[subscription->type].version,
        .answer = answer,
    };
    if (rig_grpc_call_queued(stream->call) > QUEUE_BYTES_MAX) {
        finish(stream, RIG_GRPC_RESOURCE_EXHAUSTED, "responses are not being read");
        return;
    }
    snprintf(response.nonce, sizeof(response.nonce), "%" PRIu64, ++stream->nonce);
    if (stream->is_delta)
        response_write_delta(&response, &message);
    else
        response_write_sotw(&response, &message);
    rig_grpc_call_send(stream->call, rig_buf_slice(&message));
    rig_log_info(SCOPE, "%s gets %zu %s, version %s, %zu octets", stream->node_id,
                 answer->item_count, snapshot_type_name(subscription->type), response.version,
                 message.len);
    subscription_sent(subscription, &stream->snapshot->sets[subscription->type], answer,
                      stream->nonce);
    rig_buf_deinit(&message);
}

static void update(struct ads_stream *stream, struct subscription *subscription,
                   struct rig_arena *arena)
{
    const struct snapshot_set *set = &stream->snapshot->sets[subscription->type];
    struct subscription_answer answer;
    int err = stream->is_delta ? subscription_answer_delta(subscription, set, arena, &answer)
                               : subscription_answer_sotw(subscription, set, arena, &answer);
    if (err < 0)
        finish(stream, RIG_GRPC_RESOURCE_EXHAUSTED, "too many resources");
    else if (answer.is_due)
        send_answer(stream, subscription, &answer);
}

/* The subscription a request is about; NULL for a type that is not ours (Istio's agents also ask
 * for name tables and the like) and when the stream has been ended. */
static struct subscription *find_subscription(struct ads_stream *stream, const char *type_url)
{
    enum snapshot_type type;
    if (type_url[0] == '\0') {
        finish(stream, RIG_GRPC_INVALID_ARGUMENT, "type URL is required for ADS");
        return NULL;
    }
    if (!snapshot_type_find(rig_slice_text(type_url), &type)) {
        rig_log_debug(SCOPE, "%s asks for %s, which there is not", stream->node_id, type_url);
        return NULL;
    }
    return &stream->subscriptions[type];
}

static void take(struct ads_stream *stream, struct subscription *subscription, int err,
                 enum subscription_event event, struct rig_arena *arena)
{
    if (err < 0) {
        finish(stream, RIG_GRPC_RESOURCE_EXHAUSTED, "too many or too long resource names");
        return;
    }
    log_event(stream, subscription, event);
    update(stream, subscription, arena);
}

static void take_sotw(struct ads_stream *stream, const Mesh__Discovery__DiscoveryRequest *request,
                      struct rig_arena *arena)
{
    enum subscription_event event = SUBSCRIPTION_ASKED;
    if (!learn_node(stream, request->node))
        return;
    struct subscription *subscription = find_subscription(stream, request->type_url);
    if (subscription == NULL)
        return;
    int err = subscription_take_sotw(subscription, request, &event);
    take(stream, subscription, err, event, arena);
}

static void take_delta(struct ads_stream *stream,
                       const Mesh__Discovery__DeltaDiscoveryRequest *request,
                       struct rig_arena *arena)
{
    enum subscription_event event = SUBSCRIPTION_ASKED;
    if (!learn_node(stream, request->node))
        return;
    struct subscription *subscription = find_subscription(stream, request->type_url);
    if (subscription == NULL)
        return;
    int err = subscription_take_delta(subscription, request, &event);
    take(stream, subscription, err, event, arena);
}

static void on_message(void *ctx, struct rig_slice message)
{
    struct ads_stream *stream = ctx;
    struct rig_arena arena;
    if (stream->is_over)
        return;
    rig_arena_init(&arena, REQUEST_ARENA_MAX);
    ProtobufCAllocator memory = proto_memory(&arena);
    Mesh__Discovery__DeltaDiscoveryRequest *delta = NULL;
    Mesh__Discovery__DiscoveryRequest *sotw = NULL;
    if (stream->is_delta)
        delta = mesh__discovery__delta_discovery_request__unpack(&memory, message.len, message.at);
    else
        sotw = mesh__discovery__discovery_request__unpack(&memory, message.len, message.at);
    if (delta != NULL)
        take_delta(stream, delta, &arena);
    else if (sotw != NULL)
        take_sotw(stream, sotw, &arena);
    else
        finish(stream, RIG_GRPC_INVALID_ARGUMENT, "the message is no discovery request");
    rig_arena_deinit(&arena);
}

static void on_half_close(void *ctx)
{
    struct ads_stream *stream = ctx;
    if (!stream->is_over)
        finish(stream, RIG_GRPC_OK, NULL);
}

static void on_close(void *ctx, const struct rig_grpc_status *status)
{
    struct ads_stream *stream = ctx;
    rig_log_info(SCOPE, "%s: stream closed (%d %s)",
                 stream->node_id[0] != '\0' ? stream->node_id : "no node", status->code,
                 status->message);
    DL_DELETE(stream->ads->streams, stream);
    for (int i = 0; i < SNAPSHOT_TYPES; i++)
        subscription_deinit(&stream->subscriptions[i]);
    snapshot_free(stream->snapshot);
    rig_free(stream);
}

static const struct rig_grpc_handler handler = {
    .on_message = on_message,
    .message_max_bytes = REQUEST_BYTES_MAX,
    .on_half_close = on_half_close,
    .on_close = on_close,
};

static void open_stream(struct ads *ads, struct rig_grpc_call *call, bool is_delta)
{
    struct identity identity;
    struct rig_fault why = {0};
    if (caller_identify(call, ads->state->token_key, &identity, &why) < 0) {
        ads->refused++;
        rig_log_warn(SCOPE, "stream refused: %s", why.text);
        rig_grpc_call_finish(call, RIG_GRPC_UNAUTHENTICATED, "authentication failure");
        return;
    }
    struct ads_stream *stream = rig_new(struct ads_stream);
    stream->ads = ads;
    stream->call = call;
    stream->is_delta = is_delta;
    stream->identity = identity;
    for (int i = 0; i < SNAPSHOT_TYPES; i++)
        stream->subscriptions[i].type = (enum snapshot_type)i;
    DL_APPEND(ads->streams, stream);
    rig_grpc_call_accept(call, &handler, stream);
}

void ads_call_sotw(struct ads *ads, struct rig_grpc_call *call)
{
    open_stream(ads, call, false);
}

void ads_call_delta(struct ads *ads, struct rig_grpc_call *call)
{
    open_stream(ads, call, true);
}

/* ---- status ---- */

static struct rig_doc *type_status(const struct subscription *subscription, struct rig_arena *arena)
{
    struct rig_doc *doc = rig_doc_map(arena);
    struct rig_doc *refused = rig_doc_list(arena);
    const struct subscription_entry *entry;
    for (entry = subscription->entries; entry != NULL; entry = entry->hh.next)
        if (entry->is_refused)
            rig_doc_push(arena, refused, rig_doc_text(arena, entry->name));
    rig_doc_set(arena, doc, "sent", rig_doc_text(arena, subscription->version));
    rig_doc_set(arena, doc, "accepted", rig_doc_text(arena, subscription->accepted));
    rig_doc_set(arena, doc, "acks", rig_doc_int(arena, (int64_t)subscription->acks));
    rig_doc_set(arena, doc, "nacks", rig_doc_int(arena, (int64_t)subscription->nacks));
    rig_doc_set(arena, doc, "refused", refused);
    if (subscription->nacks > 0)
        rig_doc_set(arena, doc, "lastNack", rig_doc_text(arena, subscription->last_nack));
    return doc;
}

static struct rig_doc *stream_status(const struct ads_stream *stream, struct rig_arena *arena)
{
    char id[IDENTITY_ID_MAX + 1];
    struct rig_doc *doc = rig_doc_map(arena);
    struct rig_doc *types = rig_doc_map(arena);
    identity_spiffe_id(&stream->identity, stream->ads->mesh->trust_domain, id);
    rig_doc_set(arena, doc, "node", rig_doc_text(arena, stream->node_id));
    rig_doc_set(arena, doc, "identity", rig_doc_text(arena, id));
    rig_doc_set(arena, doc, "variant", rig_doc_text(arena, stream->is_delta ? "delta" : "SotW"));
    for (int i = 0; i < SNAPSHOT_TYPES; i++)
        if (stream->subscriptions[i].is_active)
            rig_doc_set(arena, types, snapshot_type_name((enum snapshot_type)i),
                        type_status(&stream->subscriptions[i], arena));
    rig_doc_set(arena, doc, "types", types);
    return doc;
}

struct rig_doc *ads_status(const struct ads *ads, struct rig_arena *arena)
{
    struct rig_doc *list = rig_doc_list(arena);
    const struct ads_stream *stream;
    DL_FOREACH(ads->streams, stream)
    rig_doc_push(arena, list, stream_status(stream, arena));
    return list;
}
