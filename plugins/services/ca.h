/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/services/ca.h: somebody who signs certificate requests; offered by `istio_ca`. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/fault.h"

#define CA_SERVICE "ca"
#define CA_VERSION 1u

/* err 0: `chain` has `count` PEM texts as the CA sent them, leaf first, root last (borrowed).
 * Otherwise `why` says what the CA or the way to it said. Exactly once, never inside sign(). */
typedef void (*ca_signed_cb)(void *ctx, int err, const struct rig_fault *why,
                             const struct rig_slice *chain, size_t count);

struct ca_call;

struct ca_v1 {
    /* Asks for a certificate over this PKCS#10 text (PEM, copied) of `ttl_s` seconds. Retries
     * what is worth it by its own schedule before it answers. Returns the call, for cancel. */
    struct ca_call *(*sign)(void *self, struct rig_slice csr_pem, uint64_t ttl_s,
                            ca_signed_cb on_signed, void *ctx);
    /* The callback will not come. */
    void (*cancel)(void *self, struct ca_call *call);
};
