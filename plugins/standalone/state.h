/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/state.h: the state directory: what must survive a restart. It holds
 * root-key.pem, root-cert.pem and token-key.pem, made by whoever comes first: the control plane
 * or `outrigger token create`. */
#pragma once

#include <openssl/evp.h>
#include <stdbool.h>

#include "core/fault.h"

#include "authority.h"

struct state {
    struct authority authority;
    EVP_PKEY *token_key;
    bool is_new; /* it was made by this call */
};

/* Reads the directory's content, making the directory and the content when they are not there.
 * Two processes may do this at once. Refuses key files that others may read. */
int state_init(struct state *state, const char *dir, struct rig_fault *why);
void state_deinit(struct state *state);
