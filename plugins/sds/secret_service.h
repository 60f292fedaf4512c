/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/secret_service.h: envoy.service.secret.v3.SecretDiscoveryService on one socket.
 *
 * Each stream's answers and pushes come from the `secret_source` providers; a request for a
 * secret that is still being made waits. Knows no CA and no file. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/doc.h"
#include "core/fault.h"
#include "core/service.h"

struct secret_service;

struct secret_service_options {
    uv_loop_t *loop;
    const char *address; /* as rig_listener_options.address */
    unsigned socket_mode;
    uint32_t wait_ms; /* how long a request waits for a secret that is being made */
    const struct rig_provider *sources;
    size_t source_count;
    void (*on_first_delivery)(void *ctx); /* the first secret has gone out; once */
    void *ctx;
};

/* Serves; keeps `options`. Returns owned. */
int secret_service_open(const struct secret_service_options *options,
                        struct secret_service **service, struct rig_fault *why);

/* Ends all streams; gone when on_closed has been called. */
void secret_service_close(struct secret_service *service, void (*on_closed)(void *ctx), void *ctx);

void secret_service_status(const struct secret_service *service, struct rig_arena *arena,
                           struct rig_doc *out);
