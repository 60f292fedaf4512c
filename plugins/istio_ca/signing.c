/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/istio_ca/signing.c: CreateCertificate, attempt by attempt. */
#include "signing.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/grpc.h"
#include "core/log.h"
#include "core/secret.h"
#include "core/tls.h"
#include "mesh_proto/ca.pb-c.h"

#define SCOPE        "citadelclient"
#define PATH         "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define ANSWER_MAX   (1u << 20)
#define ELEMENTS_MAX 64u
#define ARENA_MAX    ((size_t)2 * ANSWER_MAX) /* an empty element has 2 octets, and 40 in memory */
#define BEARER       "Bearer "

enum signing_state { SIGNING_WAITING, SIGNING_CONNECTING, SIGNING_CALLING, SIGNING_CLOSING };

struct ca_call {
    const struct signing_options *options;
    ca_signed_cb on_signed;
    void *ctx;
    enum signing_state state;
    bool is_cancelled;
    uint32_t attempt; /* 0: the first */
    uint64_t started_ms;
    uint64_t attempt_ends_ms;
    uv_timer_t timer;
    struct rig_tls *tls;
    struct rig_grpc_channel *channel;
    struct rig_grpc_call *call;
    struct rig_buf message; /* the request, packed */

    /* How the last attempt went. */
    int err;
    bool is_retryable;
    struct rig_fault why;
    Mesh__Ca__CertificateResponse *answer; /* in `arena` */
    struct rig_arena arena;
};

static const char *const code_texts[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *signing_code_text(int grpc_code)
{
    size_t count = sizeof(code_texts) / sizeof(code_texts[0]);
    return grpc_code >= 0 && (size_t)grpc_code < count ? code_texts[grpc_code] : "no known code";
}

bool signing_is_retryable(int grpc_code)
{
    switch (grpc_code) {
    case RIG_GRPC_CANCELLED:
    case RIG_GRPC_DEADLINE_EXCEEDED:
    case RIG_GRPC_RESOURCE_EXHAUSTED:
    case RIG_GRPC_ABORTED:
    case RIG_GRPC_INTERNAL:
    case RIG_GRPC_UNAVAILABLE:
        return true;
    default:
        return false;
    }
}

uint32_t signing_wait_ms(uint32_t attempt, uint32_t random)
{
    if (attempt == 0 || attempt >= SIGNING_ATTEMPTS)
        return 0;
    uint32_t wait_ms = 100u << (attempt - 1);
    uint32_t spread = wait_ms / 10;
    return wait_ms - spread + random % (2 * spread + 1);
}

static void attempt_start(struct ca_call *call);

/* ---- the end ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct ca_call *call = handle->data;
    const struct signing_options *options = call->options;
    rig_free(call);
    options->on_gone(options->ctx);
}

static void call_discard(struct ca_call *call)
{
    rig_buf_deinit(&call->message);
    uv_close((uv_handle_t *)&call->timer, on_timer_closed);
}

static void *arena_take(void *arena, size_t size)
{
    return rig_arena_alloc(arena, size);
}

static void arena_leave(void *arena, void *at)
{
    (void)arena, (void)at; /* all goes at once */
}

static void answer_read(struct ca_call *call, struct rig_slice message)
{
    ProtobufCAllocator memory = {
        .alloc = arena_take, .free = arena_leave, .allocator_data = &call->arena};
    rig_arena_init(&call->arena, ARENA_MAX);
    call->answer = mesh__ca__certificate_response__unpack(&memory, message.len, message.at);
}

static void answer_free(struct ca_call *call)
{
    rig_arena_deinit(&call->arena);
    call->answer = NULL;
}

static void call_deliver(struct ca_call *call)
{
    struct rig_slice chain[ELEMENTS_MAX];
    size_t count = call->answer != NULL ? call->answer->n_cert_chain : 0;
    for (size_t i = 0; i < count; i++)
        chain[i] = rig_slice_text(call->answer->cert_chain[i]);
    call->on_signed(call->ctx, call->err, &call->why, chain, count);
    answer_free(call);
    call_discard(call);
}

static void on_timer(uv_timer_t *timer)
{
    attempt_start(timer->data);
}

static uint32_t random_word(void)
{
    uint32_t word = 0;
    uv_random(NULL, NULL, &word, sizeof(word), 0, NULL);
    return word;
}

/* The attempt is over and its connection closed: deliver, or wait for the next one. */
static void attempt_decide(struct ca_call *call)
{
    if (call->is_cancelled) {
        answer_free(call);
        call_discard(call);
        return;
    }
    uint32_t wait_ms =
        call->err < 0 && call->is_retryable ? signing_wait_ms(call->attempt + 1, random_word()) : 0;
    if (wait_ms == 0 || rig_clock_ms() + wait_ms >= call->started_ms + SIGNING_TOTAL_MS) {
        call_deliver(call);
        return;
    }
    call->attempt++;
    call->state = SIGNING_WAITING;
    rig_log_debug(SCOPE, "%s; attempt %u of %u in %u ms", call->why.text, call->attempt + 1,
                  SIGNING_ATTEMPTS, wait_ms);
    uv_timer_start(&call->timer, on_timer, wait_ms, 0);
}

/* ---- one attempt ---- */

static void outcome_set(struct ca_call *call, int err, bool is_retryable)
{
    call->err = err;
    call->is_retryable = is_retryable;
}

/* A dialling failure names stage and address itself; what comes after it does not. */
static void fail_by_channel(struct ca_call *call, const struct rig_grpc_status *status)
{
    if (status->stage == RIG_DIAL_DONE)
        rig_fault_set(&call->why, RIG_E_ABSENT, "connection to %s is of no use: %s",
                      call->options->workload->ca.address, status->message);
    else
        rig_fault_set(&call->why, RIG_E_ABSENT, "%s", status->message);
    outcome_set(call, RIG_E_ABSENT, signing_is_retryable(status->code));
}

static void fail_by_status(struct ca_call *call, const struct rig_grpc_status *status)
{
    int err = RIG_E_PROTOCOL;
    const char *hint = "";
    switch (status->code) {
    case RIG_GRPC_INVALID_ARGUMENT:
        hint = " (does the CA grant the lifetime asked for, SECRET_TTL?)";
        break;
    case RIG_GRPC_PERMISSION_DENIED:
    case RIG_GRPC_UNAUTHENTICATED:
        err = RIG_E_AUTH;
        break;
    case RIG_GRPC_DEADLINE_EXCEEDED:
        err = UV_ETIMEDOUT;
        break;
    case RIG_GRPC_UNAVAILABLE:
        err = RIG_E_ABSENT;
        break;
    default:
        break;
    }
    rig_fault_set(&call->why, err, "%s: status %d %s: %s%s", call->options->workload->ca.address,
                  status->code, signing_code_text(status->code),
                  status->message[0] != '\0' ? status->message : "no text", hint);
    outcome_set(call, err, signing_is_retryable(status->code));
}

static void fail_by_answer(struct ca_call *call, const char *what)
{
    answer_free(call);
    rig_fault_set(&call->why, RIG_E_PROTOCOL, "%s: %s", call->options->workload->ca.address, what);
    outcome_set(call, RIG_E_PROTOCOL, false);
}

static void on_message(void *ctx, struct rig_slice message)
{
    struct ca_call *call = ctx;
    if (call->answer != NULL || call->err < 0)
        return; /* a second message of a unary call; the first counts */
    answer_read(call, message);
    if (rig_arena_is_spent(&call->arena))
        fail_by_answer(call, "the answer has far too many elements");
    else if (call->answer == NULL)
        fail_by_answer(call, "the answer is no CertificateResponse");
    else if (call->answer->n_cert_chain > ELEMENTS_MAX)
        fail_by_answer(call, "the answer's chain has more than 64 elements");
}

static void on_call_close(void *ctx, const struct rig_grpc_status *status)
{
    struct ca_call *call = ctx;
    call->call = NULL;
    if (status->code != RIG_GRPC_OK) {
        answer_free(call);
        fail_by_status(call, status);
    } else if (call->answer == NULL && call->err == 0) {
        fail_by_answer(call, "the call succeeded without an answer");
    }
    if (call->state == SIGNING_CALLING) {
        call->state = SIGNING_CLOSING;
        rig_grpc_channel_close(call->channel);
    }
}

static const struct rig_grpc_handler call_handler = {
    .on_message = on_message,
    .message_max_bytes = ANSWER_MAX,
    .on_close = on_call_close,
};

/* "Bearer <token>" in `value`. No token is no error: the CA may know us otherwise. */
static int token_read(struct ca_call *call, struct rig_secret *value, struct rig_fault *why)
{
    const struct signing_options *options = call->options;
    struct rig_secret token = {0};
    int err = options->workload_functions->token(options->workload_self, &token, why);
    if (err == RIG_E_ABSENT)
        return 0;
    if (err < 0)
        return err;
    struct rig_slice text = rig_secret_slice(&token);
    for (size_t i = 0; i < text.len && err == 0; i++) {
        if (text.at[i] <= ' ' || text.at[i] >= 0x7f)
            err = rig_fault_set(why, RIG_E_SYNTAX,
                                "the token file holds a character that is in no token");
    }
    if (err == 0) {
        struct rig_buf bearer = {.is_secret = true};
        rig_buf_append_text(&bearer, BEARER);
        rig_buf_append_slice(&bearer, text);
        rig_secret_set(value, rig_buf_slice(&bearer));
        rig_buf_deinit(&bearer);
    }
    rig_secret_deinit(&token);
    return err;
}

static struct rig_grpc_call *call_begin(struct ca_call *call, const struct rig_secret *bearer)
{
    const struct workload *workload = call->options->workload;
    const struct workload_peer *peer = &workload->ca;
    char attempt[16];
    snprintf(attempt, sizeof(attempt), "%u", call->attempt);
    struct rig_h2_header metadata[3] = {
        {.name = RIG_SLICE("clusterid"), .value = rig_slice_text(workload->cluster_id)},
    };
    size_t count = 1;
    if (bearer->len > 0)
        metadata[count++] = (struct rig_h2_header){.name = RIG_SLICE("authorization"),
                                                   .value = rig_secret_slice(bearer),
                                                   .is_secret = true};
    if (call->attempt > 0) /* the name is Istio's, misspelling and all */
        metadata[count++] = (struct rig_h2_header){.name = RIG_SLICE("x-retry-attempty"),
                                                   .value = rig_slice_text(attempt)};
    uint64_t now_ms = rig_clock_ms();
    const struct rig_grpc_request request = {
        .path = PATH,
        .authority = peer->is_plaintext ? peer->address : peer->server_name,
        .is_tls = !peer->is_plaintext,
        .metadata = metadata,
        .metadata_count = count,
        .timeout_ms =
            call->attempt_ends_ms > now_ms ? (uint32_t)(call->attempt_ends_ms - now_ms) : 1,
    };
    return rig_grpc_call_start(call->channel, &request, &call_handler, call);
}

static void on_channel_ready(void *ctx)
{
    struct ca_call *call = ctx;
    struct rig_secret bearer = {0};
    if (call->is_cancelled)
        return;
    int err = token_read(call, &bearer, &call->why);
    if (err == 0)
        call->call = call_begin(call, &bearer);
    rig_secret_deinit(&bearer);
    if (call->call == NULL) {
        if (err == 0)
            err = rig_fault_set(&call->why, RIG_E_CLOSED, "%s: the connection takes no call",
                                call->options->workload->ca.address);
        outcome_set(call, err, err == RIG_E_CLOSED);
        call->state = SIGNING_CLOSING;
        rig_grpc_channel_close(call->channel);
        return;
    }
    call->state = SIGNING_CALLING;
    rig_grpc_call_send(call->call, rig_buf_slice(&call->message));
    rig_grpc_call_half_close(call->call);
}

static void on_channel_closed(void *ctx, const struct rig_grpc_status *status)
{
    struct ca_call *call = ctx;
    call->channel = NULL;
    rig_tls_free(call->tls);
    call->tls = NULL;
    if (call->state == SIGNING_CONNECTING)
        fail_by_channel(call, status);
    attempt_decide(call);
}

static const struct rig_grpc_channel_events channel_events = {
    .on_ready = on_channel_ready,
    .on_closed = on_channel_closed,
};

static int channel_open(struct ca_call *call, struct rig_fault *why)
{
    const struct workload_peer *peer = &call->options->workload->ca;
    if (!peer->is_plaintext) {
        const struct rig_tls_client_options tls = {.root_path = peer->root_path, .alpn = "h2"};
        int err = rig_tls_client_new(&tls, &call->tls, why);
        if (err < 0)
            return err;
    }
    uint64_t now_ms = rig_clock_ms();
    uint64_t end_ms = call->started_ms + SIGNING_TOTAL_MS;
    uint64_t left_ms = end_ms > now_ms ? end_ms - now_ms : 1; /* a timer may be late */
    uint32_t timeout_ms = left_ms < SIGNING_ATTEMPT_MS ? (uint32_t)left_ms : SIGNING_ATTEMPT_MS;
    call->attempt_ends_ms = now_ms + timeout_ms;
    const struct rig_grpc_channel_options channel = {
        .dial = {.address = peer->address,
                 .tls = call->tls,
                 .server_name = peer->server_name,
                 .timeout_ms = timeout_ms,
                 .user_timeout_ms = SIGNING_ATTEMPT_MS},
        .h2 = {.is_secret = true}, /* the token */
    };
    return rig_grpc_channel_open(call->options->loop, &channel, &channel_events, call,
                                 &call->channel, why);
}

static void attempt_start(struct ca_call *call)
{
    outcome_set(call, 0, false);
    call->why.text[0] = '\0';
    call->state = SIGNING_CONNECTING;
    int err = channel_open(call, &call->why);
    if (err == 0)
        return;
    /* A root file or an address that is wrong now is wrong in 100 ms. */
    rig_tls_free(call->tls);
    call->tls = NULL;
    call->channel = NULL;
    outcome_set(call, err, false);
    attempt_decide(call);
}

/* ---- from outside ---- */

static void request_pack(struct ca_call *call, struct rig_slice csr_pem, uint64_t ttl_s)
{
    char *csr = rig_alloc(csr_pem.len + 1);
    memcpy(csr, csr_pem.at, csr_pem.len);
    Mesh__Ca__Value signer = MESH__CA__VALUE__INIT;
    signer.kind_case = MESH__CA__VALUE__KIND_STRING_VALUE;
    signer.string_value = (char *)call->options->cert_signer;
    Mesh__Ca__StructEntry entry = MESH__CA__STRUCT_ENTRY__INIT;
    entry.key = "CertSigner"; /* present even when empty, as Istio's agent has it */
    entry.value = &signer;
    Mesh__Ca__StructEntry *entries[] = {&entry};
    Mesh__Ca__Struct metadata = MESH__CA__STRUCT__INIT;
    metadata.n_fields = 1;
    metadata.fields = entries;
    Mesh__Ca__CertificateRequest request = MESH__CA__CERTIFICATE_REQUEST__INIT;
    request.csr = csr;
    request.validity_duration = (int64_t)ttl_s;
    request.metadata = &metadata;
    size_t len = mesh__ca__certificate_request__get_packed_size(&request);
    mesh__ca__certificate_request__pack(&request, rig_buf_reserve(&call->message, len));
    rig_buf_commit(&call->message, len);
    rig_free(csr);
}

struct ca_call *signing_open(const struct signing_options *options, struct rig_slice csr_pem,
                             uint64_t ttl_s, ca_signed_cb on_signed, void *ctx)
{
    struct ca_call *call = rig_new(struct ca_call);
    call->options = options;
    call->on_signed = on_signed;
    call->ctx = ctx;
    call->started_ms = rig_clock_ms();
    request_pack(call, csr_pem, ttl_s);
    uv_timer_init(options->loop, &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, on_timer, 0, 0);
    return call;
}

void signing_cancel(struct ca_call *call)
{
    call->is_cancelled = true;
    switch (call->state) {
    case SIGNING_WAITING:
        call_discard(call);
        break;
    case SIGNING_CONNECTING:
    case SIGNING_CALLING:
        call->state = SIGNING_CLOSING;
        rig_grpc_channel_close(call->channel);
        break;
    case SIGNING_CLOSING:
        break;
    }
}
