# SPDX-License-Identifier: Apache-2.0
"""xDS resources as istiod shapes them, for workloads without traffic capture: an inbound listener
that demands mTLS, and an outbound one that speaks it."""
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.rbac.v3 import rbac_pb2 as rules_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import \
    http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.matcher.v3 import string_pb2
from google.protobuf import any_pb2, duration_pb2, wrappers_pb2


def pack(message):
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def address(port, host="127.0.0.1"):
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=host,
                                                                        port_value=port))


def ads():
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        initial_fetch_timeout=duration_pb2.Duration(), resource_api_version=2)


def sds(name):
    """By gRPC from the static cluster sds-grpc, as istiod's TLS contexts say."""
    service = config_source_pb2.ApiConfigSource(
        api_type=config_source_pb2.ApiConfigSource.GRPC, transport_api_version=2,
        set_node_on_first_message_only=True)
    service.grpc_services.add().envoy_grpc.cluster_name = "sds-grpc"
    return secret_pb2.SdsSecretConfig(name=name, sds_config=config_source_pb2.ConfigSource(
        api_config_source=service, resource_api_version=2,
        initial_fetch_timeout=duration_pb2.Duration()))


def common_tls(spiffe_prefix=None, spiffe_ids=(), alpn=("istio",)):
    """Our certificate is `default`; the peer's is checked against ROOTCA and, if given, its
    SAN."""
    validation = common_pb2.CertificateValidationContext()
    for text, kind in [(spiffe_prefix, "prefix")] + [(each, "exact") for each in spiffe_ids]:
        if text:
            validation.match_typed_subject_alt_names.add(
                san_type=common_pb2.SubjectAltNameMatcher.URI,
                matcher=string_pb2.StringMatcher(**{kind: text}))
    return tls_pb2.CommonTlsContext(
        alpn_protocols=list(alpn), tls_certificate_sds_secret_configs=[sds("default")],
        combined_validation_context=tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=validation,
            validation_context_sds_secret_config=sds("ROOTCA")))


def transport_socket(context):
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def router_filter():
    return hcm_pb2.HttpFilter(name="envoy.filters.http.router", typed_config=pack(
        router_pb2.Router()))


def allow_only(spiffe_ids):
    """istiod's AuthorizationPolicy ALLOW: who has none of these names gets 403."""
    principals = [rules_pb2.Principal(authenticated=rules_pb2.Principal.Authenticated(
        principal_name=string_pb2.StringMatcher(exact=each))) for each in spiffe_ids]
    policy = rules_pb2.Policy(permissions=[rules_pb2.Permission(any=True)], principals=principals)
    return hcm_pb2.HttpFilter(name="envoy.filters.http.rbac", typed_config=pack(rbac_pb2.RBAC(
        rules=rules_pb2.RBAC(action=rules_pb2.RBAC.ALLOW, policies={"allowed": policy}))))


def route_to(cluster, name, domains=("*",)):
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[
        route_components_pb2.VirtualHost(name=name, domains=list(domains), routes=[
            route_components_pb2.Route(
                match=route_components_pb2.RouteMatch(prefix="/"),
                route=route_components_pb2.RouteAction(cluster=cluster))])])


def _listener(name, port, manager, transport=None):
    chain = listener_components_pb2.FilterChain(filters=[listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))])
    if transport is not None:
        chain.transport_socket.CopyFrom(transport_socket(transport))
    return listener_pb2.Listener(name=name, address=address(port), filter_chains=[chain])


def inbound_listener(port, cluster, allowed_ids=None, name="virtualInbound"):
    """mTLS only: STRICT. Whom it let in stands in x-forwarded-client-cert."""
    filters = ([allow_only(allowed_ids)] if allowed_ids is not None else []) + [router_filter()]
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix="inbound", route_config=route_to(cluster, "inbound"), http_filters=filters,
        forward_client_cert_details=hcm_pb2.HttpConnectionManager.APPEND_FORWARD,
        set_current_client_cert_details=hcm_pb2.HttpConnectionManager.SetCurrentClientCertDetails(
            subject=wrappers_pb2.BoolValue(value=True), uri=True, dns=True))
    context = tls_pb2.DownstreamTlsContext(
        common_tls_context=common_tls("spiffe://cluster.local/", alpn=("istio", "http/1.1")),
        require_client_certificate=wrappers_pb2.BoolValue(value=True))
    return _listener(name, port, manager, context)


def outbound_listener(port, route_name, name="virtualOutbound"):
    """Plain from the app; its routes come by RDS."""
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix="outbound", http_filters=[router_filter()],
        rds=hcm_pb2.Rds(route_config_name=route_name, config_source=ads()))
    return _listener(name, port, manager)


def _http_options():
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http_protocol_options.SetInParent()
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(options)}


def mtls_cluster(name, server_ids, sni="server.default.svc"):
    """Endpoints by EDS; only a server with one of these names is spoken to."""
    context = tls_pb2.UpstreamTlsContext(common_tls_context=common_tls(spiffe_ids=server_ids),
                                         sni=sni)
    return cluster_pb2.Cluster(
        name=name, type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=ads(),
                                                                service_name=name),
        connect_timeout=duration_pb2.Duration(seconds=5),
        typed_extension_protocol_options=_http_options(),
        transport_socket=transport_socket(context))


def endpoints(cluster, *ports):
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster, endpoints=[
        endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[
            endpoint_components_pb2.LbEndpoint(endpoint=endpoint_components_pb2.Endpoint(
                address=address(port))) for port in ports])])


def app_cluster(name, port):
    """The application itself, plain, beside us."""
    return cluster_pb2.Cluster(
        name=name, type=cluster_pb2.Cluster.STATIC,
        connect_timeout=duration_pb2.Duration(seconds=5),
        load_assignment=endpoints(name, port))


def bulky_cluster(name, octets):
    """A valid cluster of about this many octets (in its metadata), for large pushes."""
    cluster = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC,
                                  connect_timeout=duration_pb2.Duration(seconds=5),
                                  load_assignment=endpoint_pb2.ClusterLoadAssignment(
                                      cluster_name=name))
    cluster.metadata.filter_metadata["test.ballast"]["fill"] = "x" * octets
    return cluster
