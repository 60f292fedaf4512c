# SPDX-License-Identifier: Apache-2.0
"""Real Envoys that take their configuration straight from the embedded control plane, without an
agent in between; only their secrets come from a server of this file. What Envoy accepts and does
is the proof of the resources."""
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from concurrent import futures

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc

from harness.envoy import ENVOY, EnvoyAdmin, http_get
from harness.pki import cert_pem, key_pem
from harness.ports import free_port, free_ports
from harness.standalone import spiffe
from harness.wait import wait_for

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class Identity:
    """A key, and the chain the control plane gave for it."""

    def __init__(self, standalone, namespace, service_account):
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])) \
            .sign(key, hashes.SHA256())
        self.token = standalone.token(namespace, service_account)
        answer = standalone.create_certificate(cert_pem(csr).decode(), self.token)
        self.key_pem = key_pem(key)
        self.chain_pem = answer.cert_chain[0].encode()
        self.root_pem = answer.cert_chain[-1].encode()


class SecretServer(sds_pb2_grpc.SecretDiscoveryServiceServicer):
    def __init__(self, identity, path):
        self.identity = identity
        self.ended = threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(self, self.server)
        self.server.add_insecure_port("unix:" + path)
        self.server.start()

    def StreamSecrets(self, request_iterator, context):
        for request in request_iterator:
            if request.response_nonce:
                continue
            response = discovery_pb2.DiscoveryResponse(type_url=SECRET, nonce="1",
                                                       version_info="1")
            for name in request.resource_names:
                secret = secret_pb2.Secret(name=name)
                if name == "ROOTCA":
                    secret.validation_context.trusted_ca.inline_bytes = self.identity.root_pem
                else:
                    secret.tls_certificate.certificate_chain.inline_bytes = \
                        self.identity.chain_pem
                    secret.tls_certificate.private_key.inline_bytes = self.identity.key_pem
                response.resources.add().Pack(secret)
            yield response

    def close(self):
        self.server.stop(None).wait()


class Envoy:
    def __init__(self, standalone, namespace, name, delta, address="127.0.0.1"):
        self.dir = tempfile.mkdtemp(prefix="rig-")
        self.name = name
        self.node_id = f"sidecar~{address}~{name}-0.{namespace}~{namespace}.svc.cluster.local"
        self.identity = Identity(standalone, namespace, name)
        self.secrets = SecretServer(self.identity, self.path("sds"))
        self.admin = EnvoyAdmin(free_port())
        with open(self.path("envoy.json"), "w", encoding="utf-8") as file:
            json.dump(self.bootstrap(standalone, delta), file)
        with open(self.path("log"), "wb") as log:
            self.process = subprocess.Popen(
                [ENVOY, "-c", self.path("envoy.json"), "--use-dynamic-base-id", "--concurrency",
                 "1", "-l", "warning"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def path(self, name):
        return os.path.join(self.dir, name)

    def bootstrap(self, standalone, delta):
        host, port = standalone.address.rsplit(":", 1)
        h2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}

        def cluster(name, address, transport=None):
            return {"name": name, "type": "STATIC", "connect_timeout": "1s",
                    "typed_extension_protocol_options": h2,
                    **({"transport_socket": transport} if transport else {}),
                    "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": address}}]}]}}

        tls = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": "type.googleapis.com/"
                     "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "istiod.istio-system.svc",
            "common_tls_context": {"alpn_protocols": ["h2"], "validation_context": {
                "trusted_ca": {"inline_string": standalone.root_pem.decode()},
                "match_typed_subject_alt_names": [
                    {"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}]}}}}
        source = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
        return {
            "node": {"id": self.node_id, "cluster": self.name},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1",
                                                     "port_value": self.admin.port}}},
            "dynamic_resources": {
                "lds_config": source, "cds_config": source,
                "ads_config": {
                    "api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"},
                                       "initial_metadata": [
                                           {"key": "authorization",
                                            "value": "Bearer " + self.identity.token}]}]}},
            "static_resources": {"clusters": [
                cluster("control-plane", {"socket_address": {"address": host,
                                                             "port_value": int(port)}}, tls),
                cluster("sds-grpc", {"pipe": {"path": self.path("sds")}})]}}

    def log(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def wait_ready(self):
        wait_for(self.admin.is_ready, what=f"Envoy {self.name} ready")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.secrets.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Shop:
    """frontend may call orders (HTTP) and store (TCP); thief sees them and may call neither."""

    def __init__(self, standalone, app, envoys):
        self.standalone, self.app, self.envoys = standalone, app, envoys
        self.ports, self.inbound = standalone.ports, standalone.inbound

    def envoy(self, name):
        return next(each for each in self.envoys if each.name == name)


@pytest.fixture(params=[False, True], ids=["sotw", "delta"])
def live(request, new_standalone, new_app, closing):
    app = new_app("orders")
    ports, inbound = free_ports(2), free_ports(2)
    callers = [spiffe("shop", "frontend"), spiffe("shop", "thief")]
    services = [{"name": name, "namespace": "shop", "protocol": protocol, "port": ports[i],
                 "workloadPort": app.port, "clients": callers, "allow": callers[:1],
                 "endpoints": [{"address": "127.0.0.1", "port": inbound[i]}]}
                for i, (name, protocol) in enumerate((("orders", "http"), ("store", "tcp")))]
    standalone = new_standalone({"services": services}).start()
    standalone.ports, standalone.inbound = ports, inbound
    envoys = []
    for name in request.node.get_closest_marker("envoys").args:
        closing.append(Envoy(standalone, "shop", name, request.param))
        envoys.append(closing[-1])
    for envoy in envoys:
        envoy.wait_ready()
    return Shop(standalone, app, envoys)


def assert_all_accepted(shop):
    """Each type that was sent was accepted in its last version, and nothing was refused."""
    def is_settled():
        streams = shop.standalone.status()["streams"]
        return all(kind["sent"] == kind["accepted"] for stream in streams
                   for kind in stream["types"].values()) and streams
    wait_for(is_settled, what="ACKs of everything")
    for stream in shop.standalone.status()["streams"]:
        assert {kind: told["nacks"] for kind, told in stream["types"].items() if told["nacks"]} \
            == {}, shop.standalone.log()
    for envoy in shop.envoys:
        assert "deprecated" not in envoy.log().lower()


@pytest.mark.envoys("orders", "frontend")
def test_a_request_goes_through_mutual_tls(live):
    status, body = http_get(live.ports[0], "/hello")
    assert status == 200, body
    headers = json.loads(body)["headers"]
    assert f"URI={spiffe('shop', 'frontend')}" in headers["x-forwarded-client-cert"]
    server = live.envoy("orders").admin
    prefix = f"listener.127.0.0.1_{live.inbound[0]}"
    assert server.stat(f"{prefix}.ssl.handshake") >= 1
    assert server.stat(f"{prefix}.ssl.no_certificate") == 0
    # HTTP/2 between the Envoys, HTTP/1.1 to the application.
    assert server.stats("downstream_cx_http2_total")
    assert_all_accepted(live)
    types = {kind for stream in live.standalone.status()["streams"] for kind in stream["types"]}
    assert types == {"Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"}


@pytest.mark.envoys("orders", "frontend")
def test_an_application_cannot_forge_its_callers_certificate(live):
    conn = http.client.HTTPConnection("127.0.0.1", live.ports[0], timeout=10)
    conn.request("GET", "/", headers={"x-forwarded-client-cert": "URI=" + spiffe("shop", "admin")})
    headers = json.loads(conn.getresponse().read())["headers"]
    conn.close()
    assert "admin" not in headers["x-forwarded-client-cert"]


@pytest.mark.envoys("orders", "thief")
def test_who_is_not_allowed_gets_403(live):
    status, body = http_get(live.ports[0], "/hello")
    assert status == 403
    assert "RBAC: access denied" in body
    assert live.app.seen == []
    assert live.envoy("orders").admin.stats("rbac.denied") != {}
    assert_all_accepted(live)


@pytest.mark.envoys("store", "frontend")
def test_tcp_goes_through_mutual_tls(live):
    status, body = http_get(live.ports[1], "/hello")  # HTTP, which nobody on the way knows
    assert status == 200
    assert "x-forwarded-client-cert" not in json.loads(body)["headers"]
    assert live.envoy("store").admin.stat(f"listener.127.0.0.1_{live.inbound[1]}.ssl.handshake") >= 1
    assert_all_accepted(live)


@pytest.mark.envoys("store", "thief")
def test_tcp_of_who_is_not_allowed_is_closed(live):
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        http_get(live.ports[1], "/hello")
    assert live.app.seen == []


def tls_get(port, context):
    """A request straight to a server's Envoy; the status line."""
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        with context.wrap_socket(plain) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return stream.makefile("rb").readline().decode()


def client_context(identity, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        file = tmp_path / "client.pem"
        file.write_bytes(identity.key_pem + identity.chain_pem)
        context.load_cert_chain(file)
    return context


@pytest.mark.envoys("orders")
def test_who_shows_no_certificate_of_the_mesh_is_cut_off(live, authority, tmp_path):
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        assert tls_get(live.inbound[0], client_context(None, tmp_path)) == ""
        raise ConnectionResetError  # TLS 1.3: the server's alert may come as an orderly end
    foreign = Identity.__new__(Identity)
    foreign.key_pem, foreign.chain_pem = authority.issue([spiffe("shop", "frontend")])
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        assert tls_get(live.inbound[0], client_context(foreign, tmp_path)) == ""
        raise ConnectionResetError
    assert live.app.seen == []
    friend = Identity(live.standalone, "shop", "frontend")
    assert "200 OK" in tls_get(live.inbound[0], client_context(friend, tmp_path))


@pytest.mark.envoys("frontend")
def test_a_server_of_another_identity_is_not_talked_to(live, closing):
    """Whoever took the endpoint's port must be orders; a thief with a mesh certificate is not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    thief = Identity(live.standalone, "shop", "thief")
    file = os.path.join(live.standalone.dir, "thief.pem")
    with open(file, "wb") as out:
        out.write(thief.key_pem + thief.chain_pem)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", live.inbound[0]))

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(plain, server_side=True).recv(1)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    status, _ = http_get(live.ports[0], "/hello")
    listener.close()
    assert status == 503
    refused = live.envoy("frontend").admin.stats("ssl.fail_verify_san")
    assert sum(refused.values()) >= 1, refused


@pytest.mark.envoys("orders", "frontend")
def test_a_restarted_control_plane_goes_unnoticed(live):
    assert http_get(live.ports[0], "/")[0] == 200
    address = live.standalone.address
    live.standalone.stop()
    assert http_get(live.ports[0], "/")[0] == 200
    live.standalone.start(address)
    wait_for(lambda: len(live.standalone.status()["streams"]) == 2, what="both Envoys back")
    assert_all_accepted(live)
    assert http_get(live.ports[0], "/")[0] == 200
