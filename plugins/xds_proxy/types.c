/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/types.c: which responses go to Envoy, by their type URL.
 *
 * A response is cut through as soon as its first resource shows one of a short list of types.
 * The prefix alone would not do: istio.io/debug/syncz answers with resources of an envoy.* type
 * that are not for Envoy at all. */
#include "types.h"

#include <stddef.h>

/* istiod's waypoint and sidecar types that Istio's own agent lets pass beside envoy.*. */
#define WORKLOAD_TYPE "type.googleapis.com/istio.workload.Workload"
#define ENVOY_PREFIX  "type.googleapis.com/envoy."

static const char *const relayed_types[] = {
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
    "type.googleapis.com/envoy.config.route.v3.VirtualHost",
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "type.googleapis.com/envoy.service.runtime.v3.Runtime",
    WORKLOAD_TYPE,
    NULL,
};

static const char *const own_types[] = {
    "type.googleapis.com/istio.networking.nds.v1.NameTable",
    "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig",
    NULL,
};

static bool is_one_of(struct rig_slice type_url, const char *const *types)
{
    for (; *types != NULL; types++) {
        if (rig_slice_is(type_url, *types))
            return true;
    }
    return false;
}

enum type_fate type_fate_of_resource(struct rig_slice type_url)
{
    if (is_one_of(type_url, relayed_types))
        return TYPE_RELAY;
    return is_one_of(type_url, own_types) ? TYPE_OWN : TYPE_HOLD;
}

enum type_fate type_fate_of_response(struct rig_slice type_url)
{
    if (rig_slice_starts(type_url, ENVOY_PREFIX) || rig_slice_is(type_url, WORKLOAD_TYPE))
        return TYPE_RELAY;
    return is_one_of(type_url, own_types) ? TYPE_OWN : TYPE_FOREIGN;
}
