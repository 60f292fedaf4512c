/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/request.h: what a DiscoveryRequest on the secret socket says.
 *
 * Reads the protobuf in place and allocates nothing: the first request of each of Envoy's secret
 * streams carries a node of some 62 KB, of which only "has it an id?" is of interest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/* All slices borrow the message. */
struct sds_request {
    struct rig_slice message;
    struct rig_slice version_info;
    struct rig_slice type_url;
    struct rig_slice response_nonce;
    size_t name_count;
    bool has_node_id;
    bool is_nack; /* error_detail is set */
    int32_t error_code;
    struct rig_slice error_message;
};

/* RIG_E_PROTOCOL when the octets are no such message. */
int sds_request_read(struct rig_slice message, struct sds_request *request);

/* The next resource name; `*cursor` starts at 0. */
bool sds_request_name(const struct sds_request *request, size_t *cursor, struct rig_slice *name);
