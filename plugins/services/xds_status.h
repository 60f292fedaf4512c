/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/services/xds_status.h: how it stands with the control plane; offered by `xds_proxy`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"

#define XDS_STATUS_SERVICE "xds_status"
#define XDS_STATUS_VERSION 1u

struct xds_type_status {
    const char *type_url;
    const char *version;      /* version_info of the last whole push; "" when none (delta) */
    const char *nonce;
    uint64_t pushes;          /* whole messages relayed */
    uint64_t bytes;           /* of the last one */
    uint64_t resources;       /* in the last one */
    uint64_t received_ms;     /* clock time of its end */
    uint64_t acks, nacks;     /* requests with a nonce, without and with error_detail */
    const char *last_nack;    /* its message; "" when none */
};

struct xds_status_v1 {
    /* True while a stream to the control plane is open. */
    bool (*is_connected)(void *self);
    /* Why it is not, in one sentence with the failing stage; "" when nothing has failed. */
    const char *(*last_failure)(void *self);
    /* The type at `index`, in order of first sight; false when there is none. Borrowed until
     * the loop goes on. */
    bool (*type)(void *self, size_t index, struct xds_type_status *out);
};
