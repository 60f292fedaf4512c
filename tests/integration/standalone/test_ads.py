# SPDX-License-Identifier: Apache-2.0
"""The discovery service, by a real gRPC client; what it sends is decoded by xds-protos, whose
messages know every field by its real number."""
import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import \
    http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from harness.control_plane import CDS, EDS, LDS, PREFIX, RDS
from harness.standalone import SHOP, good_claims, spiffe
from harness.wait import wait_for


assert router_pb2  # json_format needs it in the pool

TYPES = {CDS: cluster_pb2.Cluster, EDS: endpoint_pb2.ClusterLoadAssignment,
         LDS: listener_pb2.Listener, RDS: route_pb2.RouteConfiguration}


def assert_all_known(message):
    """No octet is left over: every field that was sent is one of Envoy's."""
    assert json_format.ParseDict(
        json_format.MessageToDict(message, preserving_proto_field_name=True),
        type(message)()) == message
    assert message.SerializeToString(deterministic=True) == \
        discard_unknown(message).SerializeToString(deterministic=True)


def discard_unknown(message):
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return copy


def unpack(response, delta=False):
    """name -> message"""
    found = {}
    for resource in response.resources:
        packed = resource.resource if delta else resource
        assert packed.type_url == response.type_url
        message = TYPES[response.type_url]()
        assert packed.Unpack(message)
        assert_all_known(message)
        name = message.cluster_name if response.type_url == EDS else message.name
        if delta:
            assert resource.name == name and resource.version
        found[name] = message
    assert len(found) == len(response.resources)
    return found


def typed(packed, kind):
    message = kind()
    assert packed.Unpack(message)
    assert_all_known(message)
    return message


ORDERS, STORE = "outbound|18080||orders.shop", "outbound|18081||store.shop"
ORDERS_IN = "inbound|15106||orders.shop"


# ---- what is in the resources ----

def fetch(client, node_names=None):
    clusters = unpack(client.ask(CDS))
    listeners = unpack(client.ask(LDS))
    outbound = [name for name in clusters if name.startswith("outbound")]
    endpoints = unpack(client.ask(EDS, resource_names=outbound)) if outbound else {}
    routes = unpack(client.ask(RDS, resource_names=list(listeners))) if listeners else {}
    return clusters, endpoints, listeners, routes


def test_a_caller_is_told_whom_it_may_see(shop, new_client):
    clusters, endpoints, listeners, routes = fetch(new_client(shop))
    assert set(clusters) == set(endpoints) == set(listeners) == {ORDERS, STORE}
    assert set(routes) == {ORDERS}  # TCP needs none

    cluster = clusters[ORDERS]
    assert cluster.type == cluster_pb2.Cluster.EDS
    assert cluster.eds_cluster_config.eds_config.HasField("ads")
    options = typed(cluster.typed_extension_protocol_options[
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"],
        http_protocol_options_pb2.HttpProtocolOptions)
    assert options.explicit_http_config.HasField("http2_protocol_options")
    tls = typed(cluster.transport_socket.typed_config, tls_pb2.UpstreamTlsContext)
    assert tls.sni == "orders.shop"
    common = tls.common_tls_context
    assert list(common.alpn_protocols) == ["h2"]
    assert_secrets(common)
    matcher, = common.combined_validation_context.default_validation_context \
        .match_typed_subject_alt_names
    assert matcher.san_type == 3 and matcher.matcher.exact == spiffe("shop", "orders")

    listener = listeners[ORDERS]
    assert listener.address.socket_address.address == "127.0.0.1"
    assert listener.address.socket_address.port_value == 18080
    manager = typed(listener.filter_chains[0].filters[0].typed_config,
                    hcm_pb2.HttpConnectionManager)
    assert manager.rds.route_config_name == ORDERS
    assert manager.forward_client_cert_details == hcm_pb2.HttpConnectionManager.SANITIZE
    route, = routes[ORDERS].virtual_hosts[0].routes
    assert route.route.cluster == ORDERS
    assert route.route.HasField("timeout") and route.route.timeout.ToSeconds() == 0

    proxy = typed(listeners[STORE].filter_chains[0].filters[0].typed_config,
                  tcp_proxy_pb2.TcpProxy)
    assert proxy.cluster == STORE
    addresses = [(e.endpoint.address.socket_address.address,
                  e.endpoint.address.socket_address.port_value)
                 for e in endpoints[STORE].endpoints[0].lb_endpoints]
    assert addresses == [("127.0.0.1", 15107), ("127.0.0.2", 15108)]


def assert_secrets(common):
    chain, = common.tls_certificate_sds_secret_configs
    roots = common.combined_validation_context.validation_context_sds_secret_config
    assert (chain.name, roots.name) == ("default", "ROOTCA")
    for secret in (chain, roots):
        source = secret.sds_config.api_config_source
        assert source.grpc_services[0].envoy_grpc.cluster_name == "sds-grpc"
        assert source.set_node_on_first_message_only
        assert secret.sds_config.HasField("initial_fetch_timeout")


def test_a_workload_is_told_who_may_call(shop, new_client):
    clusters, _, listeners, routes = fetch(new_client(shop, "shop", "orders"))
    assert set(clusters) == set(listeners) == {ORDERS_IN, STORE}
    assert set(routes) == {ORDERS_IN}
    target = clusters[ORDERS_IN].load_assignment.endpoints[0].lb_endpoints[0].endpoint
    assert target.address.socket_address.address == "127.0.0.1"
    assert target.address.socket_address.port_value == 19090

    listener = listeners[ORDERS_IN]
    assert listener.address.socket_address.port_value == 15106
    chain, = listener.filter_chains
    tls = typed(chain.transport_socket.typed_config, tls_pb2.DownstreamTlsContext)
    assert tls.require_client_certificate.value
    assert_secrets(tls.common_tls_context)
    matcher, = tls.common_tls_context.combined_validation_context.default_validation_context \
        .match_typed_subject_alt_names
    assert matcher.matcher.prefix == "spiffe://cluster.local/"
    manager = typed(chain.filters[0].typed_config, hcm_pb2.HttpConnectionManager)
    assert manager.forward_client_cert_details == hcm_pb2.HttpConnectionManager.SANITIZE_SET
    assert manager.set_current_client_cert_details.uri
    rules = typed(manager.http_filters[0].typed_config, http_rbac_pb2.RBAC).rules
    policy, = rules.policies.values()
    assert [p.authenticated.principal_name.exact for p in policy.principals] == \
        [spiffe("shop", "frontend")]
    assert [f.name for f in manager.http_filters] == ["envoy.filters.http.rbac",
                                                      "envoy.filters.http.router"]


def test_an_empty_list_lets_nobody_in(shop, new_client):
    client = new_client(shop, "shop", "store", node_id="sidecar~127.0.0.2~store-1.shop~x")
    listener = unpack(client.ask(LDS))["inbound|15108||store.shop"]
    assert listener.address.socket_address.address == "127.0.0.2"
    rbac, proxy = listener.filter_chains[0].filters
    message = typed(rbac.typed_config, network_rbac_pb2.RBAC)
    assert message.HasField("rules") and not message.rules.policies
    assert typed(proxy.typed_config, tcp_proxy_pb2.TcpProxy).cluster == "inbound|15108||store.shop"


def test_without_a_list_everybody_of_the_mesh_may_call(shop, new_client):
    listener = unpack(new_client(shop, "ops", "secret").ask(LDS))["inbound|15109||secret.ops"]
    manager = typed(listener.filter_chains[0].filters[0].typed_config,
                    hcm_pb2.HttpConnectionManager)
    assert [f.name for f in manager.http_filters] == ["envoy.filters.http.router"]
    tls = typed(listener.filter_chains[0].transport_socket.typed_config,
                tls_pb2.DownstreamTlsContext)
    assert tls.require_client_certificate.value


def test_clients_limit_who_sees_a_service(shop, new_client):
    name = "outbound|18082||secret.ops"
    assert name in unpack(new_client(shop, "ops", "admin").ask(CDS))
    assert name not in unpack(new_client(shop, "shop", "frontend").ask(CDS))


def test_a_workload_at_no_endpoint_serves_nothing(shop, new_client):
    client = new_client(shop, "shop", "store", node_id="sidecar~10.9.9.9~store-2.shop~x")
    assert set(unpack(client.ask(LDS))) == {ORDERS}


# ---- who is let in ----

@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("changes", [{"exp": 1600000000}, {"aud": ["vault"]}, {"iss": "joe"}])
def test_bad_tokens_end_the_stream(shop, new_client, delta, changes):
    client = new_client(shop, token=shop.sign_token(good_claims(**changes)), delta=delta)
    client.request(CDS)
    assert client.end() == (grpc.StatusCode.UNAUTHENTICATED, "authentication failure")
    assert shop.status()["streamsRefused"] == 1


@pytest.mark.parametrize("delta", [False, True])
def test_a_request_without_node_ends_the_stream(shop, new_client, delta):
    client = new_client(shop, node_id=None, delta=delta)
    client.request(CDS)
    assert client.end() == (grpc.StatusCode.INVALID_ARGUMENT, "missing node information")


@pytest.mark.parametrize("delta", [False, True])
def test_a_request_without_type_ends_the_stream(shop, new_client, delta):
    client = new_client(shop, delta=delta)
    client.request("")
    assert client.end() == (grpc.StatusCode.INVALID_ARGUMENT, "type URL is required for ADS")


def test_a_message_that_is_none_ends_the_stream(shop):
    call = shop.channel().stream_stream(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff\xff\xff\xff"]),
                  metadata=[("authorization", "Bearer " + shop.token("shop", "orders"))]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


# ---- SotW ----

def test_sotw_flow(shop, new_client):
    client = new_client(shop)
    clusters = client.ask(CDS)
    assert clusters.version_info and clusters.nonce and clusters.control_plane.identifier
    client.request(EDS, resource_names=[ORDERS])
    endpoints = client.response()
    assert set(unpack(endpoints)) == {ORDERS}
    client.request(CDS, nonce=clusters.nonce, version_info=clusters.version_info)
    client.request(EDS, nonce=endpoints.nonce, version_info=endpoints.version_info,
                   resource_names=[ORDERS, STORE])
    more = client.response()  # nothing came for the ACK of CDS; for EDS only the new name
    assert more.type_url == EDS and set(unpack(more)) == {STORE}
    assert more.nonce != endpoints.nonce
    assert client.ask(LDS).type_url == LDS
    types = shop.status()["streams"][0]["types"]
    assert types["Cluster"]["accepted"] == types["Cluster"]["sent"] == clusters.version_info
    assert types["Cluster"]["acks"] == 1


def test_sotw_versions_mean_the_same_after_a_restart(shop, new_client):
    before = {kind: new_client(shop).ask(kind).version_info for kind in (CDS, LDS)}
    shop.stop()
    shop.start()
    assert {kind: new_client(shop).ask(kind).version_info for kind in (CDS, LDS)} == before
    mesh = {"services": SHOP["services"][:1]}
    shop.stop()
    shop.write_mesh(mesh)
    shop.start()
    assert new_client(shop).ask(CDS).version_info != before[CDS]


def test_sotw_refused_set_is_shown_and_not_sent_again(shop, new_client):
    client = new_client(shop, node_id="sidecar~127.0.0.1~web-0.shop~x")
    first = client.ask(CDS)
    client.request(CDS, nonce=first.nonce, error="Error adding cluster: no such\nthing")
    client.request(CDS)  # asks anew, as if it had had nothing
    assert client.ask(LDS).type_url == LDS  # and nothing came in between
    stream, = shop.status()["streams"]
    assert stream["node"] == "sidecar~127.0.0.1~web-0.shop~x"
    assert stream["identity"] == spiffe("shop", "frontend")
    told = stream["types"]["Cluster"]
    assert told["nacks"] == 1 and told["acks"] == 0 and told["accepted"] == ""
    assert set(told["refused"]) == {ORDERS, STORE}
    assert told["lastNack"] == "Error adding cluster: no such\nthing"
    assert "refused Cluster" in shop.log()
    assert client.ask(RDS, resource_names=[ORDERS]).resources  # other types are not touched
    again = new_client(shop)  # a new stream, perhaps a new Envoy, gets it
    assert again.ask(CDS).version_info == first.version_info


def test_sotw_refused_resource_is_not_sent_again(shop, new_client):
    client = new_client(shop)
    first = client.ask(EDS, resource_names=[ORDERS])
    client.request(EDS, nonce=first.nonce, resource_names=[ORDERS, STORE], error="bad")
    second = client.response()
    assert set(unpack(second)) == {STORE}
    client.request(EDS, resource_names=[ORDERS, STORE])
    assert set(unpack(client.response())) == {STORE}


# ---- delta ----

def test_delta_flow(shop, new_client):
    client = new_client(shop, delta=True)
    clusters = client.ask(CDS)
    assert set(unpack(clusters, delta=True)) == {ORDERS, STORE}
    assert clusters.system_version_info and clusters.control_plane.identifier
    client.request(CDS, nonce=clusters.nonce)
    endpoints = client.ask(EDS, resource_names_subscribe=[ORDERS, STORE, "nobody"])
    assert set(unpack(endpoints, delta=True)) == {ORDERS, STORE}
    assert list(endpoints.removed_resources) == ["nobody"]
    client.request(EDS, nonce=endpoints.nonce, resource_names_unsubscribe=["nobody"])
    listeners = unpack(client.ask(LDS, resource_names_subscribe=["*"]), delta=True)
    assert set(listeners) == {ORDERS, STORE}
    routes = client.ask(RDS, resource_names_subscribe=[ORDERS])
    assert set(unpack(routes, delta=True)) == {ORDERS}
    wait_for(lambda: shop.status()["streams"][0]["types"]["ClusterLoadAssignment"]["acks"] == 1)


def test_delta_reconnect_gets_only_what_is_new(shop, new_client):
    first = new_client(shop, delta=True)
    known = {r.name: r.version for r in first.ask(CDS).resources}
    first.close()
    second = new_client(shop, delta=True)
    answer = second.ask(CDS, initial_resource_versions={
        ORDERS: known[ORDERS], STORE: "another", "gone": "1"})
    assert set(unpack(answer, delta=True)) == {STORE}
    assert list(answer.removed_resources) == ["gone"]


def test_delta_refused_resource_is_shown_and_not_sent_again(shop, new_client):
    client = new_client(shop, delta=True)
    first = client.ask(EDS, resource_names_subscribe=[ORDERS])
    client.request(EDS, nonce=first.nonce, error="bad endpoints")
    answer = client.ask(EDS, resource_names_subscribe=[ORDERS, STORE])
    assert set(unpack(answer, delta=True)) == {STORE}
    told = shop.status()["streams"][0]["types"]["ClusterLoadAssignment"]
    assert told["refused"] == [ORDERS] and told["lastNack"] == "bad endpoints"


# ---- the rest of life ----

@pytest.mark.parametrize("delta", [False, True])
def test_types_of_istio_get_no_answer(shop, new_client, delta):
    client = new_client(shop, delta=delta)
    for name in ("istio.networking.nds.v1.NameTable", "istio.mesh.v1alpha1.ProxyConfig",
                 "istio.v1.HealthInformation"):
        client.request(PREFIX + name)
    assert client.ask(CDS).type_url == CDS


def test_half_close_ends_the_stream_well(shop, new_client):
    client = new_client(shop)
    client.ask(CDS)
    client._requests.put(None)
    assert client.end() == (grpc.StatusCode.OK, "")
    wait_for(lambda: shop.status()["streams"] == [])


def test_many_streams_come_and_go(shop, new_client):
    clients = [new_client(shop, delta=i % 2 == 1) for i in range(20)]
    for client in clients:
        client.request(CDS)
    for client in clients:
        assert client.response().type_url == CDS
    assert len(shop.status()["streams"]) == 20
    for client in clients:
        client.close()
    wait_for(lambda: shop.status()["streams"] == [])
    shop.stop()


def test_stop_ends_open_streams(shop, new_client):
    client = new_client(shop)
    client.ask(CDS)
    shop.stop()
    assert client.end()[0] == grpc.StatusCode.UNAVAILABLE


def test_too_many_names_end_the_stream(shop, new_client):
    client = new_client(shop)
    client.request(EDS, resource_names=[f"n{i}" for i in range(60000)])
    assert client.end()[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_client_that_does_not_read_is_ended(new_standalone, new_client):
    services = [{"name": f"s{i}", "namespace": "shop", "port": 20000 + i, "workloadPort": 1,
                 "endpoints": [{"address": "127.0.0.1", "port": 30000 + i}]} for i in range(1500)]
    standalone = new_standalone({"services": services}).start()
    call = standalone.channel().stream_stream(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        request_serializer=bytes, response_deserializer=bytes)
    token = standalone.token("shop", "frontend")
    request = discovery_pb2.DiscoveryRequest(type_url=LDS, node={"id": "x"}).SerializeToString()
    stream = call(iter([request] * 60), metadata=[("authorization", "Bearer " + token)])
    wait_for(lambda: "responses are not being read" in standalone.log())
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
