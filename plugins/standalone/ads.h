/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/ads.h: the aggregated discovery service, SotW and delta. Each stream is one
 * workload's: who it is comes from its token, so nobody is told another's configuration. */
#pragma once

#include <stdint.h>

#include "core/doc.h"
#include "core/grpc.h"
#include "core/script.h"

#include "mesh_file.h"
#include "state.h"

#define ADS_SOTW_PATH                                                                              \
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
#define ADS_DELTA_PATH                                                                             \
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

struct ads_stream;

struct ads {
    const struct mesh *mesh;
    const struct state *state;
    const struct rig_script_dirs *scripts;
    struct ads_stream *streams; /* private */
    uint64_t refused;           /* calls without a good token */
};

/* rig_grpc_method.on_call of the two paths. */
void ads_call_sotw(struct ads *ads, struct rig_grpc_call *call);
void ads_call_delta(struct ads *ads, struct rig_grpc_call *call);

/* One map for each open stream: node, identity, and for each type what was sent, accepted and
 * refused. */
struct rig_doc *ads_status(const struct ads *ads, struct rig_arena *arena);
