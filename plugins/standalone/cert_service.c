/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/cert_service.c: one unary call: token, request, certificate. Codes and texts
 * are istiod's (istio security/pkg/server/ca/server.go): agents tell by them what is worth a
 * retry. */
#include "cert_service.h"

#include <string.h>

#include <mesh_proto/ca.pb-c.h>

#include "core/alloc.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/log.h"

#include "caller.h"
#include "proto_memory.h"
#include "wire.h"

#define SCOPE             "ca"
#define REQUEST_BYTES_MAX 65536 /* a request for an RSA-4096 key has some 2,300 octets */
#define ARENA_BYTES_MAX   ((size_t)1024 * 1024)

struct cert_call {
    struct cert_service *service;
    struct rig_grpc_call *call;
    struct identity identity;
    bool is_answered;
};

static void answer(struct cert_call *self, int code, const char *message)
{
    self->is_answered = true;
    if (code != RIG_GRPC_OK)
        self->service->refused++;
    rig_grpc_call_finish(self->call, code, message);
}

static void refuse(struct cert_call *self, int code, const char *message)
{
    rig_log_warn(SCOPE, "%s/%s: request refused: %s", self->identity.namespace,
                 self->identity.service_account, message);
    answer(self, code, message);
}

/* Only node proxies may ask in somebody else's name; there are none here. */
static bool is_impersonating(const Mesh__Ca__CertificateRequest *request)
{
    for (size_t i = 0; request->metadata != NULL && i < request->metadata->n_fields; i++)
        if (strcmp(request->metadata->fields[i]->key, "ImpersonatedIdentity") == 0)
            return true;
    return false;
}

static void send_chain(struct cert_call *self, struct rig_slice leaf_pem)
{
    struct rig_buf response = {0};
    wire_bytes(&response, 1, leaf_pem);
    wire_bytes(&response, 1, rig_buf_slice(&self->service->state->authority.root_pem));
    rig_grpc_call_send(self->call, rig_buf_slice(&response));
    rig_buf_deinit(&response);
    answer(self, RIG_GRPC_OK, NULL);
}

static void sign(struct cert_call *self, const Mesh__Ca__CertificateRequest *request)
{
    char id[IDENTITY_ID_MAX + 1], until[RIG_CLOCK_TEXT_BYTES];
    struct rig_buf leaf_pem = {0};
    struct authority_issued issued;
    struct rig_fault why = {0};
    identity_spiffe_id(&self->identity, self->service->trust_domain, id);
    struct authority_request asked = {
        .csr_pem = rig_slice_text(request->csr),
        .spiffe_id = id,
        .ttl_s = request->validity_duration,
        .now_s = rig_clock_wall_s(),
    };
    int err = authority_sign(&self->service->state->authority, &asked, &leaf_pem, &issued, &why);
    if (err == 0) {
        rig_clock_text(issued.not_after_s, until);
        rig_log_info(SCOPE, "certificate %s for %s, valid until %s", issued.serial, id, until);
        self->service->issued++;
        send_chain(self, rig_buf_slice(&leaf_pem));
    } else {
        bool is_request_bad = err == RIG_E_SYNTAX || err == RIG_E_RANGE;
        rig_fault_set(&why, err, "CSR signing error (%s)", why.text);
        refuse(self, is_request_bad ? RIG_GRPC_INVALID_ARGUMENT : RIG_GRPC_INTERNAL, why.text);
    }
    rig_buf_deinit(&leaf_pem);
}

static void on_message(void *ctx, struct rig_slice message)
{
    struct cert_call *self = ctx;
    struct rig_arena arena;
    if (self->is_answered)
        return;
    rig_arena_init(&arena, ARENA_BYTES_MAX);
    ProtobufCAllocator memory = proto_memory(&arena);
    Mesh__Ca__CertificateRequest *request =
        mesh__ca__certificate_request__unpack(&memory, message.len, message.at);
    if (request == NULL)
        refuse(self, RIG_GRPC_INVALID_ARGUMENT, "the message is no certificate request");
    else if (is_impersonating(request))
        refuse(self, RIG_GRPC_UNAUTHENTICATED, "request impersonation authentication failure");
    else
        sign(self, request);
    rig_arena_deinit(&arena);
}

static void on_half_close(void *ctx)
{
    struct cert_call *self = ctx;
    if (!self->is_answered)
        refuse(self, RIG_GRPC_INTERNAL, "no request was sent");
}

static void on_close(void *ctx, const struct rig_grpc_status *status)
{
    (void)status;
    rig_free(ctx);
}

static const struct rig_grpc_handler handler = {
    .on_message = on_message,
    .message_max_bytes = REQUEST_BYTES_MAX,
    .on_half_close = on_half_close,
    .on_close = on_close,
};

void cert_service_call(struct cert_service *service, struct rig_grpc_call *call)
{
    struct identity identity;
    struct rig_fault why = {0};
    if (caller_identify(call, service->state->token_key, &identity, &why) < 0) {
        rig_log_warn(SCOPE, "request refused: %s", why.text);
        service->refused++;
        rig_grpc_call_finish(call, RIG_GRPC_UNAUTHENTICATED, "request authenticate failure");
        return;
    }
    struct cert_call *self = rig_new(struct cert_call);
    *self = (struct cert_call){.service = service, .call = call, .identity = identity};
    rig_grpc_call_accept(call, &handler, self);
}
