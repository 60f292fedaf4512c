/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/proto_types.c: the messages that an Any may hold: what Envoy's extension
 * points take. A template that needs another one needs its .proto here. */
#include "proto_json.h"

#include <string.h>

#include <standalone_proto/http_connection_manager.pb-c.h>
#include <standalone_proto/http_protocol_options.pb-c.h>
#include <standalone_proto/http_rbac.pb-c.h>
#include <standalone_proto/network_rbac.pb-c.h>
#include <standalone_proto/router.pb-c.h>
#include <standalone_proto/tcp_proxy.pb-c.h>
#include <standalone_proto/tls.pb-c.h>

static const ProtobufCMessageDescriptor *const types[] = {
    &envoy__extensions__filters__http__rbac__v3__rbac__descriptor,
    &envoy__extensions__filters__http__router__v3__router__descriptor,
    &envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__descriptor,
    &envoy__extensions__filters__network__rbac__v3__rbac__descriptor,
    &envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy__descriptor,
    &envoy__extensions__transport_sockets__tls__v3__downstream_tls_context__descriptor,
    &envoy__extensions__transport_sockets__tls__v3__upstream_tls_context__descriptor,
    &envoy__extensions__upstreams__http__v3__http_protocol_options__descriptor,
};

const ProtobufCMessageDescriptor *proto_type_find(struct rig_slice type_url)
{
    size_t prefix = sizeof(PROTO_URL_PREFIX) - 1;
    if (!rig_slice_starts(type_url, PROTO_URL_PREFIX))
        return NULL;
    struct rig_slice name = rig_slice(type_url.at + prefix, type_url.len - prefix);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (rig_slice_is(name, types[i]->name))
            return types[i];
    return NULL;
}
