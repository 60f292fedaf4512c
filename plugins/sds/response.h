/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/response.h: the DiscoveryResponse that carries secrets. */
#pragma once

#include <stddef.h>

#include "core/buf.h"
#include "plugins/services/secret_source.h"

#define SDS_TYPE_URL "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

struct sds_resource {
    const char *name;
    struct secret secret;
};

/* Appends to `out`, which the caller has made secret: no copy of a key is left behind elsewhere. */
void sds_response_pack(const struct sds_resource *resources, size_t count, const char *version,
                       const char *nonce, struct rig_buf *out);
