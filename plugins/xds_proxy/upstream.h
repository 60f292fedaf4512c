/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/upstream.h: one pair's connection to the control plane.
 *
 * Each pair has its own, never used again: the next stream may reach another control plane, and
 * nothing of the old one may leak into it. Credentials are read for each attempt. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/fault.h"

struct relay;
struct rig_grpc_call;
struct rig_grpc_channel;

struct upstream {
    struct rig_grpc_channel *channel; /* NULL: not opened, or gone */
    struct rig_grpc_call *call;       /* NULL: not started, or over */
    bool is_closing;                  /* by us: what still comes is of no interest */
};

/* Starts to connect for `relay`, which hears relay_upstream_* from then on, never inside this
 * call. Fails for an unusable root file or address; then nothing was started. */
int upstream_open(struct relay *relay, struct rig_fault *why);

/* Ends it; relay_upstream_gone follows if there was a channel. */
void upstream_close(struct relay *relay);
