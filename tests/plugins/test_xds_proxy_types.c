/* SPDX-License-Identifier: Apache-2.0 */
/* The decision table: what a type URL means, in a resource and on the response. */
#include "plugins/xds_proxy/types.h"
#include "tests/harness/test.h"

#define GOOGLE "type.googleapis.com/"

struct row {
    const char *type_url;
    enum type_fate of_resource;
    enum type_fate of_response;
};

static const struct row rows[] = {
    {GOOGLE "envoy.config.cluster.v3.Cluster", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.config.endpoint.v3.ClusterLoadAssignment", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.config.listener.v3.Listener", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.config.route.v3.RouteConfiguration", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.config.route.v3.ScopedRouteConfiguration", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.config.route.v3.VirtualHost", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.extensions.transport_sockets.tls.v3.Secret", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.service.runtime.v3.Runtime", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "envoy.config.core.v3.TypedExtensionConfig", TYPE_RELAY, TYPE_RELAY},
    {GOOGLE "istio.workload.Workload", TYPE_RELAY, TYPE_RELAY},
    /* Resources of these occur inside responses of other types. */
    {GOOGLE "envoy.service.status.v3.ClientConfig", TYPE_HOLD, TYPE_RELAY},
    {GOOGLE "envoy.service.discovery.v3.Resource", TYPE_HOLD, TYPE_RELAY},
    {GOOGLE "envoy.something.new.v4.Thing", TYPE_HOLD, TYPE_RELAY},
    {GOOGLE "istio.networking.nds.v1.NameTable", TYPE_OWN, TYPE_OWN},
    {GOOGLE "istio.mesh.v1alpha1.ProxyConfig", TYPE_OWN, TYPE_OWN},
    {"istio.io/debug", TYPE_HOLD, TYPE_FOREIGN},
    {"istio.io/debug/syncz", TYPE_HOLD, TYPE_FOREIGN},
    {"networking.istio.io/v1alpha3/ServiceEntry", TYPE_HOLD, TYPE_FOREIGN},
    {GOOGLE "istio.mcp.v1alpha1.Resource", TYPE_HOLD, TYPE_FOREIGN},
    {GOOGLE "istio.workload.WorkloadX", TYPE_HOLD, TYPE_FOREIGN},
    {GOOGLE "istio.workload.Worklo", TYPE_HOLD, TYPE_FOREIGN},
    {GOOGLE "envoy", TYPE_HOLD, TYPE_FOREIGN},
    {"envoy.config.cluster.v3.Cluster", TYPE_HOLD, TYPE_FOREIGN},
    {GOOGLE "envoy.config.cluster.v3.ClusterX", TYPE_HOLD, TYPE_RELAY},
    {"", TYPE_HOLD, TYPE_FOREIGN},
};

static void fate_follows_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rig_slice type_url = rig_slice_text(rows[i].type_url);
        if (type_fate_of_resource(type_url) != rows[i].of_resource)
            fail_msg("resource of type '%s'", rows[i].type_url);
        if (type_fate_of_response(type_url) != rows[i].of_response)
            fail_msg("response of type '%s'", rows[i].type_url);
    }
}

RIG_TEST_MAIN(cmocka_unit_test(fate_follows_the_table))
