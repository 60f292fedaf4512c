/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/caller.c: see caller.h. */
#include "caller.h"

#include "core/clock.h"

#include "token.h"

#define BEARER "Bearer "

int caller_identify(const struct rig_grpc_call *call, EVP_PKEY *token_key,
                    struct identity *identity, struct rig_fault *why)
{
    struct rig_slice value = rig_grpc_call_metadata(call, "authorization");
    size_t skipped = sizeof(BEARER) - 1;
    if (!rig_slice_starts(value, BEARER))
        return rig_fault_set(why, RIG_E_ABSENT, "no bearer token was shown");
    return token_check(token_key, rig_slice(value.at + skipped, value.len - skipped),
                       TOKEN_AUDIENCE, rig_clock_wall_s(), identity, why);
}
