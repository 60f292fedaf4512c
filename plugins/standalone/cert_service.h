/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/cert_service.h: istio.v1.auth.IstioCertificateService/CreateCertificate: a
 * caller gets a certificate for the identity of its token, whatever the request asks for. */
#pragma once

#include <stdint.h>

#include "core/grpc.h"

#include "state.h"

#define CERT_SERVICE_PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"

struct cert_service {
    const struct state *state;
    const char *trust_domain;
    uint64_t issued;
    uint64_t refused;
};

/* rig_grpc_method.on_call of CERT_SERVICE_PATH. */
void cert_service_call(struct cert_service *service, struct rig_grpc_call *call);
