# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a pod's life, and how the agent comes out of it."""
import datetime
import os
import re
import signal
import socket
import time

import grpc
import pytest

from harness import resources as r
from harness.ca import CertificateService
from harness.control_plane import CDS, LDS, ControlPlane
from harness.envoy import http_get
from harness.grpc_server import GrpcServer
from harness.ports import free_port
from harness.wait import wait_for


def serve_basics(control_plane):
    """Enough for an Envoy to become ready: no cluster, no listener, but told so."""
    control_plane.set(CDS, [])
    control_plane.set(LDS, [])


@pytest.fixture
def basic_mesh(mesh):
    serve_basics(mesh.control_plane)
    return mesh


@pytest.fixture
def agent_of(new_agent):
    def make(mesh, **options):
        return new_agent(options.pop("discovery", mesh.address),
                         options.pop("root_pem", mesh.root_pem), **options)
    return make


def test_control_plane_absent_at_start(authority, server_tls, new_agent, request):
    control_plane, ca = ControlPlane("test-token"), CertificateService(authority, "test-token")
    serve_basics(control_plane)
    server = GrpcServer([control_plane, ca], tls=server_tls)
    agent = new_agent(server.address, authority.root_pem).start()
    agent.wait_for(lambda: agent.envoy_pid(), what="Envoy started all the same")
    agent.wait_for(lambda: os.path.exists(agent.xds_socket), what="the XDS socket")
    assert http_get(agent.status_port, "/healthz/ready")[0] == 503
    agent.wait_log(r"NOT ready")
    server.start()
    request.addfinalizer(server.kill)
    agent.wait_ready()
    assert http_get(agent.status_port, "/healthz/ready")[0] == 200
    agent.stop()


@pytest.mark.parametrize("is_delta", [False, True], ids=["sotw", "delta"])
def test_control_plane_lost_in_mid_push(is_delta, basic_mesh, agent_of, new_cable):
    cable = new_cable(basic_mesh.server.port)
    agent = agent_of(basic_mesh, discovery=cable.address, ca_address=basic_mesh.address,
                     env={"ISTIO_DELTA_XDS": str(is_delta).lower()}).start().wait_ready()
    successes = agent.admin.stat("cluster_manager.cds.update_success")
    first = basic_mesh.control_plane.wait_for_ack(CDS)
    cable.cut_after(3_000_000)
    basic_mesh.control_plane.set(CDS, [r.bulky_cluster(f"bulk-{i}", 1_000_000)
                                       for i in range(20)])
    # The broken push changed nothing; the next stream brings all of it.
    again = basic_mesh.control_plane.wait_for_stream(lambda s: s is not first and s.of(CDS))
    agent.wait_for(lambda: agent.admin.stat("cluster_manager.cds.update_success") > successes,
                   what="the whole push taken")
    assert "bulk-19" in agent.admin.get("/clusters")
    assert cable.accepted >= 2
    assert not first.nacks() and not again.nacks()
    assert agent.admin.stat("cluster_manager.cds.update_rejected") == 0
    agent.stop()


def test_wrong_root_then_the_right_one(basic_mesh, agent_of, other_authority):
    agent = agent_of(basic_mesh, root_pem=other_authority.root_pem).start()
    agent.wait_log(r"(?i)certificate|unknown ca|verif")
    agent.wait_for(lambda: agent.envoy_pid(), what="Envoy")
    agent.wait_for(lambda: re.search(r"(?i)self.signed|unable to get|verify", agent.log()),
                   what="the reason in the log")
    # Neither stream nor token went to a peer that could not be verified.
    assert not basic_mesh.control_plane.streams and not basic_mesh.control_plane.refused
    assert not basic_mesh.ca.signed
    assert http_get(agent.status_port, "/healthz/ready")[0] == 503
    agent.write("var/run/secrets/istio/root-cert.pem", basic_mesh.root_pem)
    agent.wait_ready(60)
    agent.stop()


@pytest.mark.parametrize("names, says", [
    (["other.example.com"], r"(?i)name|host|IP address mismatch"),
    ("expired", r"(?i)expired"),
], ids=["another-name", "expired"])
def test_server_certificate_that_is_wrong(names, says, authority, new_agent, serving):
    control_plane, ca = ControlPlane(), CertificateService(authority)
    tls = authority.issue_expired(["127.0.0.1"]) if names == "expired" else authority.issue(names)
    server = serving(control_plane, ca, tls=tls)
    agent = new_agent(server.address, authority.root_pem).start()
    agent.wait_log(says)
    assert not control_plane.streams and not ca.signed
    agent.stop()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED,
                                  grpc.StatusCode.INTERNAL], ids=lambda code: code.name)
def test_ca_error_then_success(code, basic_mesh, agent_of):
    basic_mesh.ca.fail_next(code, count=3, details="the CA is not itself today")
    agent = agent_of(basic_mesh).start().wait_ready()
    entry = basic_mesh.ca.wait_for_signed(deadline_s=60)[0]
    assert [each.code for each in basic_mesh.ca.signed[:3]] == [code] * 3
    if code == grpc.StatusCode.UNAUTHENTICATED:  # the others are tried again before a word is lost
        agent.wait_log("the CA is not itself today")
    # Envoy asks for secrets only when a cluster or listener does.
    port = free_port()
    basic_mesh.control_plane.set(CDS, [r.app_cluster("app", free_port())])
    basic_mesh.control_plane.set(LDS, [r.inbound_listener(port, "app")])
    cert = agent.admin.wait_certificate()
    assert int(cert["serial_number"], 16) == entry.cert.serial_number
    agent.stop()


def test_wrong_token_then_the_right_one(basic_mesh, agent_of):
    agent = agent_of(basic_mesh, token="stale").start()
    wait_for(lambda: basic_mesh.control_plane.refused, what="the refusal")
    agent.wait_log(r"authentication failure")
    assert "stale" not in agent.log()
    agent.write("var/run/secrets/tokens/istio-token", "test-token")
    agent.wait_ready(60)
    agent.stop()


def test_no_token_sends_no_header(authority, server_tls, new_agent, serving):
    control_plane, ca = ControlPlane(), CertificateService(authority)
    serve_basics(control_plane)
    server = serving(control_plane, ca, tls=server_tls)
    agent = new_agent(server.address, authority.root_pem, token=None).start().wait_ready()
    assert "authorization" not in control_plane.open_streams()[0].metadata
    ca.wait_for_signed()
    assert "authorization" not in ca.signed[0].metadata
    agent.stop()


def test_envoy_killed(basic_mesh, agent_of):
    agent = agent_of(basic_mesh).start().wait_ready()
    killed_at = time.monotonic()
    os.kill(agent.envoy_pid(), signal.SIGKILL)
    assert agent.wait_exit(10) == 0
    assert time.monotonic() - killed_at < 5
    assert re.search(r"(?i)envoy.*(signal|killed)", agent.log())
    for left in (agent.xds_socket, agent.sds_socket, agent.path("etc/istio/proxy/envoy-rev.json")):
        assert not os.path.lexists(left), f"{left} stayed"
    agent.start().wait_ready()
    agent.stop()


def test_envoy_binary_missing(basic_mesh, agent_of):
    agent = agent_of(basic_mesh, proxy_config={"binaryPath": "/nonexistent/envoy"}).start()
    agent.wait_exit(10)
    assert "/nonexistent/envoy" in agent.log()
    assert not os.path.lexists(agent.xds_socket)


def test_agent_killed_and_started_again(basic_mesh, agent_of):
    agent = agent_of(basic_mesh).start().wait_ready()
    envoy = agent.envoy_pid()
    agent.signal(signal.SIGKILL)
    agent.wait_exit()
    # Envoy goes with its agent; the socket files of the dead stay and are in nobody's way.
    wait_for(lambda: not os.path.exists(f"/proc/{envoy}/exe"), what="Envoy gone with the agent")
    assert os.path.lexists(agent.xds_socket) and os.path.lexists(agent.sds_socket)
    agent.start().wait_ready()
    agent.stop()


@pytest.mark.parametrize("kind", ["dead-socket", "file", "empty-directory"])
def test_leftovers_at_the_socket_paths(kind, basic_mesh, agent_of):
    agent = agent_of(basic_mesh)
    here = os.getcwd()
    for path in (agent.xds_socket, agent.sds_socket):
        if kind == "dead-socket":
            os.chdir(os.path.dirname(path))
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(os.path.basename(path))
            os.chdir(here)
        elif kind == "file":
            agent.write(os.path.relpath(path, agent.dir), "left over")
        else:
            os.mkdir(path)
    agent.start().wait_ready()
    for path in (agent.xds_socket, agent.sds_socket):
        assert os.stat(path).st_mode & 0o170777 == 0o140666
    agent.stop()


def test_socket_path_that_is_too_long_is_refused_by_name(basic_mesh, agent_of):
    long = "./etc/" + "d" * 110
    agent = agent_of(basic_mesh, proxy_config={"configPath": long}).start()
    assert agent.wait_exit() == 255
    assert "d" * 110 + "/XDS" in agent.log()
    assert "107" in agent.log()
    assert "Traceback" not in agent.log() and "AddressSanitizer" not in agent.log()


@pytest.mark.parametrize("change, says", [
    ({"root_pem": None}, r"root-cert\.pem"),
    ({"env": {"PROXY_CONFIG": "{"}}, r"PROXY_CONFIG"),
    ({"env": {"ISTIO_META_DNS_CAPTURE": "maybe"}}, r"DNS_CAPTURE"),
    ({"proxy_config": {"drainDuration": "0s"}}, r"drainDuration"),
], ids=["no-root", "broken-proxy-config", "metadata-not-bool", "drain-duration-zero"])
def test_refused_at_start_with_a_sentence(change, says, basic_mesh, agent_of):
    agent = agent_of(basic_mesh, **change).start()
    assert agent.wait_exit(10) == 255
    assert re.search(says, agent.log()), agent.log()
    assert not os.path.lexists(agent.xds_socket)
    assert not os.path.lexists(agent.path("etc/istio/proxy/envoy-rev.json"))


def test_term_drains_and_a_second_one_ends_it(basic_mesh, agent_of):
    agent = agent_of(basic_mesh, proxy_config={"terminationDrainDuration": "60s"})
    agent.start().wait_ready()
    agent.signal(signal.SIGTERM)
    agent.wait_for(lambda: http_get(agent.status_port, "/healthz/ready")[0] == 503,
                   what="not ready while draining")
    assert agent.envoy_pid()
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit(15) == 0


def test_control_plane_away_and_back(basic_mesh, agent_of):
    agent = agent_of(basic_mesh).start().wait_ready()
    basic_mesh.server.kill()
    agent.wait_for(lambda: not basic_mesh.control_plane.open_streams(), what="the stream gone")
    assert agent.is_ready(), "readiness stays while the control plane is away"
    basic_mesh.server.start()
    basic_mesh.control_plane.wait_for_stream(lambda s: s.of(CDS), 60)
    agent.stop()


def test_certificate_is_renewed_and_pushed(authority, server_tls, new_agent, serving):
    control_plane = ControlPlane()
    ca = CertificateService(authority, ttl=datetime.timedelta(seconds=6))
    server = serving(control_plane, ca, tls=server_tls)
    port = free_port()
    control_plane.set(CDS, [r.app_cluster("app", free_port())])
    control_plane.set(LDS, [r.inbound_listener(port, "app")])
    agent = new_agent(server.address, authority.root_pem).start().wait_ready()
    first = agent.admin.wait_certificate()["serial_number"]
    agent.wait_for(lambda: agent.admin.wait_certificate()["serial_number"] != first,
                   what="another certificate in Envoy")
    ca.wait_for_signed(3)
    agent.stop()
