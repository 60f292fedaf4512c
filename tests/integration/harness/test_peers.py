# SPDX-License-Identifier: Apache-2.0
"""The peers themselves, before anything of ours stands between them: a real Envoy takes its
configuration from the grpcio control plane in both variants, and the CA signs what a plain gRPC
client asks. A fault found here is the harness's."""
import json
import os
import signal
import subprocess

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from harness import ca, pki, resources as r
from harness.control_plane import CDS, EDS, LDS, RDS, ControlPlane
from harness.envoy import ENVOY, EnvoyAdmin, http_get
from harness.grpc_server import GrpcServer
from harness.ports import free_ports
from harness.wait import wait_for


def bootstrap(admin_port, xds_port, api_type):
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1",
                                                            "port_value": xds_port}}}}
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {"id": "peer-test", "cluster": "peer-test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1",
                                                 "port_value": admin_port}}},
        "dynamic_resources": {
            "cds_config": ads, "lds_config": ads,
            "ads_config": {"api_type": api_type, "transport_api_version": "V3",
                           "set_node_on_first_message_only": True,
                           "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}},
        "static_resources": {"clusters": [{
            "name": "xds", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3"
                             ".HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}},
            "load_assignment": {"cluster_name": "xds",
                                "endpoints": [{"lb_endpoints": [endpoint]}]}}]},
    }


@pytest.fixture
def control_plane(closing):
    it = ControlPlane()
    server = GrpcServer([it]).start()
    it.address, it.port, it.server = server.address, server.port, server
    it.close = server.kill
    closing.append(it)
    return it


@pytest.mark.parametrize("api_type", ["GRPC", "DELTA_GRPC"])
def test_envoy_takes_all_four_types(api_type, control_plane, new_app, tmp_path, closing):
    admin_port, out_port = free_ports(2)
    app = new_app("direct")
    control_plane.set(CDS, [eds_cluster("app")])
    control_plane.set(EDS, [r.endpoints("app", app.port)])
    control_plane.set(LDS, [r.outbound_listener(out_port, "routes")])
    control_plane.set(RDS, [r.route_to("app", "routes")])
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(bootstrap(admin_port, control_plane.port, api_type)))
    with open(tmp_path / "log", "wb") as log:
        envoy = subprocess.Popen([ENVOY, "-c", str(config), "--disable-hot-restart",
                                  "--concurrency", "1", "-l", "warning"],
                                 stdout=log, stderr=log)
    try:
        admin = EnvoyAdmin(admin_port)
        admin.wait_ready()
        assert json.loads(http_get(out_port, "/hello")[1])["path"] == "/hello"

        stream = control_plane.wait_for_ack(RDS)
        assert stream.kind == ("delta" if api_type == "DELTA_GRPC" else "sotw")
        assert not stream.nacks()

        # What changes is pushed; what Envoy refuses is told.
        other = new_app("moved")
        control_plane.set(EDS, [r.endpoints("app", other.port)])
        wait_for(lambda: json.loads(http_get(out_port, "/")[1])["server"] == "moved",
                 what="the pushed endpoint in use")
        bad = eds_cluster("bad")
        bad.connect_timeout.seconds = -5
        control_plane.set(CDS, [eds_cluster("app"), bad])
        wait_for(lambda: stream.nacks(CDS), what="NACK")
        assert "positive duration" in stream.nacks(CDS)[0].error_detail.message

        # Killed and back: Envoy subscribes again, to all it had.
        control_plane.server.restart()
        again = control_plane.wait_for_stream(lambda s: s is not stream and s.of(RDS))
        assert again.of(CDS)
    finally:
        envoy.send_signal(signal.SIGKILL)
        envoy.wait()


def eds_cluster(name):
    cluster = r.mtls_cluster(name, [])
    cluster.ClearField("transport_socket")
    return cluster


def test_control_plane_demands_its_token(closing):
    control_plane = ControlPlane(token="right")
    server = GrpcServer([control_plane]).start()
    closing.append(type("Server", (), {"close": lambda self: server.kill()})())
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources")(
                iter([]), metadata=[("authorization", "Bearer wrong")])
        with pytest.raises(grpc.RpcError) as failure:
            next(call)
    assert failure.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_ca_signs_fails_and_checks(mesh):
    key = ec.generate_private_key(ec.SECP256R1())
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://td/ns/a/sa/b")])
    csr = (x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
           .add_extension(san, critical=True).sign(key, hashes.SHA256()))
    request = ca.CertificateRequest(csr=pki.cert_pem(csr).decode(), validity_duration=3600)
    credentials = grpc.ssl_channel_credentials(mesh.root_pem)
    with grpc.secure_channel(mesh.address, credentials) as channel:
        create = channel.unary_unary(
            "/istio.v1.auth.IstioCertificateService/CreateCertificate",
            request_serializer=ca.CertificateRequest.SerializeToString,
            response_deserializer=ca.CertificateResponse.FromString)
        with pytest.raises(grpc.RpcError) as failure:
            create(request)
        assert failure.value.code() == grpc.StatusCode.UNAUTHENTICATED
        token = [("authorization", "Bearer test-token")]
        mesh.ca.fail_next(grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(grpc.RpcError) as failure:
            create(request, metadata=token)
        assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
        chain = create(request, metadata=token).cert_chain
    certs = [x509.load_pem_x509_certificate(each.encode()) for each in chain]
    assert len(certs) == 3
    for cert, issuer in zip(certs, certs[1:] + certs[-1:]):
        cert.verify_directly_issued_by(issuer)
    assert certs[-1] == mesh.authority.root
    assert mesh.ca.successes() == 1


def test_cable_counts_freezes_and_cuts(control_plane, new_cable):
    cable = new_cable(control_plane.port)
    control_plane.set(CDS, [r.bulky_cluster("bulk", 4_000_000)])
    with grpc.insecure_channel(cable.address, options=[
            ("grpc.max_receive_message_length", -1)]) as channel:
        from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        ask = [discovery_pb2.DiscoveryRequest(type_url=CDS)]
        cable.cut_after(1_000_000)
        with pytest.raises(grpc.RpcError) as failure:
            next(stub.StreamAggregatedResources(iter(ask), timeout=20))
        assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
        assert 1_000_000 <= cable.to_near < 2_000_000


def test_environment_names_a_real_envoy():
    assert os.access(ENVOY, os.X_OK)
    assert b"ELF" == open(ENVOY, "rb").read(4)[1:]
