/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/caller.h: who makes a call, by the token it shows. */
#pragma once

#include <openssl/evp.h>

#include "core/fault.h"
#include "core/grpc.h"

#include "identity.h"

/* Reads "authorization: Bearer TOKEN". RIG_E_ABSENT without one, else as token_check; the
 * sentence is for our log, the peer learns nothing from it. */
int caller_identify(const struct rig_grpc_call *call, EVP_PKEY *token_key,
                    struct identity *identity, struct rig_fault *why);
