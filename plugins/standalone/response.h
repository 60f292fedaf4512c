/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/response.h: DiscoveryResponse and DeltaDiscoveryResponse, written out. */
#pragma once

#include "core/buf.h"

#include "subscription.h"

struct response {
    const char *type_url;
    const char *version; /* of the set */
    char nonce[24];
    const struct subscription_answer *answer;
};

void response_write_sotw(const struct response *response, struct rig_buf *message);
void response_write_delta(const struct response *response, struct rig_buf *message);
