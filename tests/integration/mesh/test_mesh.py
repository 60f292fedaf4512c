# SPDX-License-Identifier: Apache-2.0
"""Two agents, two real Envoys, a control plane and a CA that are not ours: a request goes from an
app to an app over mTLS, and what must not pass does not. In both variants of ADS."""
import json
import socket
import ssl

import pytest

from harness import resources as r
from harness.agent import Agent
from harness.apps import EchoApp
from harness.control_plane import CDS, EDS, LDS, RDS
from harness.envoy import http_get
from harness.ports import free_ports
from harness.wait import wait_for

# The stats that Istio's bootstrap keeps leave out listeners; a ProxyConfig asks for them.
KEEP_LISTENER_STATS = {"proxyStatsMatcher": {"inclusionPrefixes": ["listener.", "http.inbound"]}}


class Pair:
    """A client and a server workload, both served by `mesh`."""

    def __init__(self, mesh, is_delta):
        self.mesh, self.is_delta = mesh, is_delta
        self.app = EchoApp("server-app")
        self.inbound_port, self.outbound_port = free_ports(2)
        options = {"discovery": mesh.address, "root_pem": mesh.root_pem,
                   "proxy_config": KEEP_LISTENER_STATS,
                   "env": {"ISTIO_DELTA_XDS": "true" if is_delta else "false"}}
        self.server = Agent(name="server", namespace="prod", **options)
        self.client = Agent(name="client", namespace="shop", **options)
        self.agents = [self.server, self.client]
        self.allow(self.client.spiffe_id)
        control_plane = mesh.control_plane
        node = self.server.node_id
        control_plane.set(CDS, [r.app_cluster("inbound|app", self.app.port)], node)
        node = self.client.node_id
        control_plane.set(CDS, [r.mtls_cluster("outbound|server", [self.server.spiffe_id])], node)
        control_plane.set(EDS, [r.endpoints("outbound|server", self.inbound_port)], node)
        control_plane.set(LDS, [r.outbound_listener(self.outbound_port, "http")], node)
        control_plane.set(RDS, [r.route_to("outbound|server", "http")], node)

    def allow(self, *spiffe_ids):
        self.mesh.control_plane.set(
            LDS, [r.inbound_listener(self.inbound_port, "inbound|app", spiffe_ids)],
            self.server.node_id)

    def start(self):
        for agent in self.agents:
            agent.start()
        for agent in self.agents:
            agent.wait_ready()
        return self

    def get(self, path="/"):
        """As the client's app: plain HTTP to its own Envoy."""
        return http_get(self.outbound_port, path)

    def listener_stats(self):
        prefix = f"listener.127.0.0.1_{self.inbound_port}.ssl."
        stats = self.server.admin.stats(prefix.replace(".", r"\."))
        return {name.removeprefix(prefix): value for name, value in stats.items()}

    def close(self):
        for agent in self.agents:
            agent.discard()
        self.app.close()


@pytest.fixture(scope="module", params=["sotw", "delta"])
def pair(request, new_mesh):
    pair = Pair(new_mesh(), request.param == "delta")
    request.addfinalizer(pair.close)
    try:
        return pair.start()
    except AssertionError:
        for agent in pair.agents:
            print(f"---- log of {agent.name}\n{agent.log()[-8000:]}")
        raise


def xfcc(headers):
    """x-forwarded-client-cert as {key: value} (one element)."""
    pairs = (part.partition("=") for part in headers["x-forwarded-client-cert"].split(";"))
    return {key: value.strip('"') for key, _, value in pairs}


def test_request_crosses_over_mtls(pair):
    status, body = pair.get("/hello")
    assert status == 200, body
    seen = json.loads(body)
    assert (seen["server"], seen["path"]) == ("server-app", "/hello")
    # What the server's Envoy says of who came.
    cert = xfcc(seen["headers"])
    assert cert["URI"] == pair.client.spiffe_id
    assert cert["By"] == pair.server.spiffe_id
    after = pair.listener_stats()
    assert after["handshake"] >= 1


def test_variant_and_token_reached_the_control_plane(pair):
    streams = {s.node.id: s for s in pair.mesh.control_plane.open_streams() if s.node}
    for agent in pair.agents:
        stream = streams[agent.node_id]
        assert stream.kind == ("delta" if pair.is_delta else "sotw")
        assert stream.metadata["authorization"] == "Bearer test-token"
        assert stream.metadata["clusterid"] == "Kubernetes"
        assert not stream.nacks()
        assert {CDS, LDS} <= {each.type_url for each in stream.requests}
        metadata = stream.node.metadata
        assert metadata["NAMESPACE"] == agent.namespace
        assert metadata["PROXY_CONFIG"]["discoveryAddress"] == pair.mesh.address
    assert streams[pair.client.node_id].acks(RDS) and streams[pair.client.node_id].acks(EDS)


def test_envoy_holds_the_certificate_the_ca_signed(pair):
    signed = {f"{s.cert.serial_number:x}": s for s in pair.mesh.ca.signed if s.cert}
    for agent in pair.agents:
        cert = agent.admin.wait_certificate()
        entry = signed[cert["serial_number"].lstrip("0").lower()]
        assert {"uri": agent.spiffe_id} in cert["subject_alt_names"]
        # 24 hours asked for, with the pod's token; the key never left the process.
        assert entry.request.validity_duration == 86400
        assert entry.metadata["authorization"] == "Bearer test-token"
        assert b"PRIVATE" not in entry.request.SerializeToString()


def handshake(port, key_and_chain, root_pem, tmp_path):
    """TLS to the server's inbound listener, with our certificate or none; the first octets of
    the answer to a request. Raises what the handshake, or TLS 1.3's late alert, says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=root_pem.decode())
    context.set_alpn_protocols(["istio"])
    if key_and_chain:
        path = tmp_path / "client.pem"
        path.write_bytes(key_and_chain[0] + key_and_chain[1])
        context.load_cert_chain(path)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname="server") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
            answer = b""
            while chunk := sock.recv(4096):
                answer += chunk
            return answer


def test_no_client_certificate_is_refused(pair, tmp_path):
    before = pair.listener_stats()
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        handshake(pair.inbound_port, None, pair.mesh.root_pem, tmp_path)
    after = wait_for(lambda: (s := pair.listener_stats())["fail_verify_no_cert"]
                     > before["fail_verify_no_cert"] and s, what="the refusal in Envoy's stats")
    assert after["handshake"] == before["handshake"]


def test_certificate_of_another_mesh_is_refused(pair, tmp_path, other_authority):
    before = pair.listener_stats()
    foreign = other_authority.issue([pair.client.spiffe_id])
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        handshake(pair.inbound_port, foreign, pair.mesh.root_pem, tmp_path)
    wait_for(lambda: pair.listener_stats()["fail_verify_error"] > before["fail_verify_error"],
             what="the refusal in Envoy's stats")


def test_identity_that_is_not_allowed_is_refused(pair, tmp_path):
    stranger = pair.mesh.authority.issue(["spiffe://cluster.local/ns/shop/sa/stranger"])
    answer = handshake(pair.inbound_port, stranger, pair.mesh.root_pem, tmp_path)
    assert answer.startswith(b"HTTP/1.1 403 "), answer
    known = pair.mesh.authority.issue([pair.client.spiffe_id])
    answer = handshake(pair.inbound_port, known, pair.mesh.root_pem, tmp_path)
    assert answer.startswith(b"HTTP/1.1 200 "), answer


def test_pushed_policy_takes_effect(pair):
    assert pair.get()[0] == 200
    pair.allow("spiffe://cluster.local/ns/shop/sa/somebody-else")
    wait_for(lambda: pair.get()[0] == 403, what="the pushed refusal")
    pair.allow(pair.client.spiffe_id)
    wait_for(lambda: pair.get()[0] == 200, what="the pushed permission")


def test_client_refuses_a_server_of_another_name(pair):
    cluster = r.mtls_cluster("outbound|server", ["spiffe://cluster.local/ns/prod/sa/imposter"])
    node = pair.client.node_id
    pair.mesh.control_plane.set(CDS, [cluster], node)
    wait_for(lambda: pair.get()[0] == 503, what="the client's refusal")
    pair.mesh.control_plane.set(
        CDS, [r.mtls_cluster("outbound|server", [pair.server.spiffe_id])], node)
    wait_for(lambda: pair.get()[0] == 200, what="the way open again")


def test_status_tells_what_came(pair):
    status = pair.client.status()
    text = json.dumps(status)
    assert CDS in text and RDS in text
    cert = pair.client.admin.wait_certificate()
    assert cert["serial_number"].lstrip("0").lower() in text.lower()


def test_both_end_in_order(pair):
    """Last of this module's variant: exit 0, and nothing stays behind."""
    for agent in pair.agents:
        envoy = agent.envoy_pid()
        agent.stop()
        wait_for(lambda: not is_running(envoy), what="Envoy gone")
        for relative in ("etc/istio/proxy/XDS", "etc/istio/proxy/envoy-rev.json",
                         "var/run/secrets/workload-spiffe-uds/socket"):
            assert not agent_file(agent, relative), f"{relative} stayed"


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def agent_file(agent, relative):
    try:
        with open(agent.path(relative), "rb"):
            return True
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a socket
