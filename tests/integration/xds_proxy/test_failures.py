# SPDX-License-Identifier: Apache-2.0
"""What Envoy is told when the control plane cannot be had, and how it comes back."""
import os
import re
import socket
import ssl
import threading
import time
from datetime import timedelta

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from harness import raw_h2
from harness.ads import big_response, request, response
from harness.agent import memory_kb
from harness.control_plane import CDS
from harness.pki import Authority, now
from harness.wait import Timeout, wait_for

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
ASK = [request("sotw", CDS)]


def status(relay):
    return relay.status()["plugins"]["xds_proxy"]


def next_stream_works(relay, control_plane, new_envoy):
    """As Envoy does, tries until it has a response."""
    def try_once():
        known = len(control_plane.ads.streams)
        envoy = new_envoy(relay, first=ASK)
        wait_for(lambda: len(control_plane.ads.streams) > known or envoy.call.done(),
                 what="a stream or its end")
        if envoy.call.done():
            return False
        control_plane.ads.streams[-1].send(response("sotw", CDS))
        envoy.wait_responses(1)
        return True
    wait_for(try_once, what="a stream that works", every_s=0.2)


def test_control_plane_absent_then_present(new_relay, new_control_plane, new_envoy):
    control_plane = new_control_plane(start=False)
    relay = new_relay(control_plane.address)
    for _ in range(3):
        code, details = new_envoy(relay, first=ASK).wait_end()
        assert code == UNAVAILABLE
        assert details.startswith('connection error: desc = "transport: Error while dialing: ')
        assert "refused" in details
    assert status(relay)["connected"] is False
    assert status(relay)["lastFailure"].startswith("connect: " + control_plane.address)
    control_plane.start()
    next_stream_works(relay, control_plane, new_envoy)
    assert status(relay)["connected"] is True
    assert status(relay)["lastFailure"] == ""


def test_name_that_does_not_resolve(new_relay, new_envoy):
    relay = new_relay("no-such-host.invalid:15012")
    code, details = new_envoy(relay, first=ASK).wait_end()
    assert code == UNAVAILABLE and "no-such-host.invalid" in details
    assert status(relay)["lastFailure"].startswith("DNS: ")


def test_control_plane_killed_and_back(new_relay, control_plane, new_envoy):
    relay = new_relay(control_plane.address)
    next_stream_works(relay, control_plane, new_envoy)
    envoy = new_envoy(relay, first=ASK)
    control_plane.ads.wait_stream(2)
    started = time.monotonic()
    control_plane.kill()
    assert envoy.wait_end()[0] == UNAVAILABLE
    assert time.monotonic() - started < 5
    assert new_envoy(relay, first=ASK).wait_end()[0] == UNAVAILABLE
    control_plane.start()
    next_stream_works(relay, control_plane, new_envoy)


def test_killed_in_mid_push(kind, new_relay, control_plane, new_envoy, new_cable):
    cable = new_cable(control_plane.port)
    relay = new_relay(cable.address)
    ask = [request(kind, CDS)]
    push = big_response(kind, CDS, 40_000_000)
    envoy = new_envoy(relay, kind, first=ask)
    upstream = control_plane.ads.wait_stream(1)
    cable.cut_after(20_000_000)
    upstream.send(push)
    code, _ = envoy.wait_end()
    assert code != grpc.StatusCode.OK
    assert envoy.responses == []
    assert cable.to_near >= 20_000_000

    again = new_envoy(relay, kind, first=ask)
    control_plane.ads.wait_stream(2).send(push)
    again.wait_responses(1)
    assert again.responses == [push]


def test_attempts_are_paced(new_relay, control_plane, new_envoy, new_cable):
    """A client that asks again at once: 100, 200, 400, ... ms between attempts."""
    cable = new_cable(control_plane.port)
    cable.unplug()
    relay = new_relay(cable.address)
    end = time.monotonic() + 2
    asked = 0
    while time.monotonic() < end:
        new_envoy(relay, first=ASK).wait_end()
        asked += 1
    # At least 75 + 150 + 300 + 600 + 1200 ms lie between the first six.
    assert 3 <= cable.accepted <= 6
    assert asked <= cable.accepted + 1

    # A stream that waits gives way to a newer one at once, and is not an attempt.
    accepted = cable.accepted
    older = new_envoy(relay, first=ASK)
    relay.wait_for(lambda: older.call.is_active())
    newer = new_envoy(relay, first=ASK)
    assert older.wait_end()[0] in (grpc.StatusCode.OK, UNAVAILABLE)
    assert cable.accepted <= accepted + 1
    newer.close()
    cable.plug()
    next_stream_works(relay, control_plane, new_envoy)

    # What was healthy is tried again without a wait.
    for count in range(5):
        cable.cut()
        known, started = len(control_plane.ads.streams), time.monotonic()
        envoy = new_envoy(relay, first=ASK)
        wait_for(lambda: len(control_plane.ads.streams) > known, 5, what="the next stream")
        assert time.monotonic() - started < 1
        control_plane.ads.streams[-1].send(response("sotw", CDS))
        envoy.wait_responses(1)


class SilentServer:
    """Accepts, does the TLS handshake if it has a `context`, then says nothing."""

    def __init__(self, context=None):
        self.context, self.accepted, self.ended = context, 0, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def _read(self, sock):
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
            while sock.recv(4096):
                pass
        except OSError:
            pass
        self.ended.append(time.monotonic())
        sock.close()


@pytest.fixture
def silent_server(closing):
    def make(context=None):
        closing.append(SilentServer(context))
        return closing[-1]
    return make


@pytest.mark.parametrize("fault, reason", [
    ("root", "unable to get local issuer certificate|self-signed certificate"),
    ("name", "valid for istiod.elsewhere.svc, not for 127.0.0.1"), ("expired", "expired"),
    ("future", "not yet valid"), ("usage", "purpose"),
    ("subject", "valid for 127.0.0.2, not for 127.0.0.1")])
def test_certificate_that_is_wrong(fault, reason, new_relay, new_control_plane, new_envoy,
                                   authority):
    names = ["istiod.istio-system.svc", "127.0.0.1"]
    tls = {
        "root": lambda: Authority("another root").issue(names),
        "name": lambda: authority.issue(["istiod.elsewhere.svc"]),
        "expired": lambda: authority.issue_expired(names),
        "future": lambda: authority.issue(names, not_before=now() + timedelta(hours=1),
                                          not_after=now() + timedelta(days=1)),
        "usage": lambda: authority.issue(names, usages=[ExtendedKeyUsageOID.CLIENT_AUTH]),
        "subject": lambda: authority.issue(["127.0.0.2"]),
    }[fault]()
    control_plane = new_control_plane(tls=tls)
    relay = new_relay(control_plane.address)
    code, details = new_envoy(relay, first=ASK).wait_end()
    assert code == UNAVAILABLE
    assert details.startswith(
        'connection error: desc = "transport: authentication handshake failed: '), details
    assert re.search(reason, details), details
    assert control_plane.ads.streams == [], "headers were sent to an unknown server"
    assert status(relay)["lastFailure"].startswith("TLS: ")


def test_root_file_that_is_put_right(new_relay, control_plane, new_envoy, authority):
    relay = new_relay(control_plane.address, root_pem=Authority("old root").root_pem)
    assert new_envoy(relay, first=ASK).wait_end()[0] == UNAVAILABLE
    relay.write("var/run/secrets/istio/root-cert.pem", authority.root_pem)
    next_stream_works(relay, control_plane, new_envoy)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_root_file_that_is_spoilt_leaves_the_old_trust(content, new_relay, control_plane,
                                                       new_envoy):
    relay = new_relay(control_plane.address)
    next_stream_works(relay, control_plane, new_envoy)
    relay.write("var/run/secrets/istio/root-cert.pem", content)
    next_stream_works(relay, control_plane, new_envoy)
    assert "going on with the root certificates read before" in relay.log()


def test_token_refused_then_renewed(new_relay, control_plane, new_envoy):
    control_plane.ads.refuses = (grpc.StatusCode.UNAUTHENTICATED, "authentication failure")
    relay = new_relay(control_plane.address, token="expired")
    assert new_envoy(relay, first=ASK).wait_end() == (grpc.StatusCode.UNAUTHENTICATED,
                                                      "authentication failure")
    assert control_plane.ads.streams[0].metadata["authorization"] == "Bearer expired"
    assert status(relay)["lastFailure"] == "stream: 16, authentication failure"
    relay.write("var/run/secrets/tokens/istio-token", "renewed")
    control_plane.ads.refuses = None
    next_stream_works(relay, control_plane, new_envoy)
    assert control_plane.ads.streams[-1].metadata["authorization"] == "Bearer renewed"


@pytest.mark.parametrize("stage", ["TLS", "SETTINGS"])
def test_silent_server_meets_the_deadline(stage, new_relay, new_envoy, server_tls, silent_server,
                                          tmp_path):
    context = None
    if stage == "SETTINGS":
        pem = tmp_path / "pem"
        pem.write_bytes(server_tls[0] + server_tls[1])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        context.set_alpn_protocols(["h2"])
    server = silent_server(context)
    relay = new_relay(server.address, env={"OUTRIGGER_XDS_PROXY_CONNECT_TIMEOUT": "1s"})
    started = time.monotonic()
    code, details = new_envoy(relay, first=ASK).wait_end()
    took = time.monotonic() - started
    assert code == UNAVAILABLE, details
    assert 0.9 <= took < 5
    assert status(relay)["lastFailure"].startswith(stage + ": ")
    wait_for(lambda: server.ended, what="the end of the connection")


def test_attempt_ends_with_envoys_stream(new_relay, new_envoy, silent_server):
    server = silent_server()
    relay = new_relay(server.address)
    envoy = new_envoy(relay, first=ASK)
    wait_for(lambda: server.accepted, what="an attempt")
    left = time.monotonic()
    envoy.close()
    wait_for(lambda: server.ended, what="the end of the attempt")
    assert server.ended[0] - left < 2

    older = new_envoy(relay, first=ASK)
    wait_for(lambda: server.accepted == 2, what="another attempt")
    newer = new_envoy(relay, first=ASK)
    assert older.wait_end()[0] == grpc.StatusCode.OK
    wait_for(lambda: server.accepted == 3, what="the newer one's attempt")
    wait_for(lambda: len(server.ended) == 2, what="the end of the older one's attempt")
    assert not newer.call.done()


KEEPALIVE = {"GRPC_KEEPALIVE_INTERVAL": "1s", "GRPC_KEEPALIVE_TIMEOUT": "500ms"}


def test_control_plane_that_falls_silent_is_given_up(new_relay, new_raw_control_plane, new_envoy):
    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, raw_h2.message(response("sotw", CDS)))
        connection.pings_answered = False

    relay = new_relay(new_raw_control_plane(serve).address, env=KEEPALIVE)
    envoy = new_envoy(relay, first=ASK)
    envoy.wait_responses(1)
    started = time.monotonic()
    code, details = envoy.wait_end()
    assert code == UNAVAILABLE and "PING" in details
    assert 1 < time.monotonic() - started < 10


def test_control_plane_that_objects_to_pings_gets_fewer(new_relay, new_raw_control_plane,
                                                        new_envoy):
    """The rule of gRPC's keepalive: without it each connection would end like the first."""
    silences = []

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, raw_h2.message(response("sotw", CDS)))
        since = time.monotonic()
        wait_for(lambda: connection.ping_times, what="a PING")
        silences.append(connection.ping_times[0] - since)
        connection.goaway(stream_id, 11, b"too_many_pings")
        connection.close()

    relay = new_relay(new_raw_control_plane(serve).address, env=KEEPALIVE)
    for _ in range(2):
        envoy = new_envoy(relay, first=ASK)
        envoy.wait_responses(1)
        assert envoy.wait_end()[0] == UNAVAILABLE
    assert silences[0] < 2 - 0.1 <= silences[1]


def test_envoy_that_falls_silent_is_given_up(new_relay, control_plane, new_raw_envoy):
    relay = new_relay(control_plane.address, env=KEEPALIVE)
    envoy, _ = new_raw_envoy(relay)
    envoy.pings_answered = False
    upstream = control_plane.ads.wait_stream()
    wait_for(lambda: envoy.is_lost, what="the end of Envoy's connection")
    wait_for(lambda: not upstream.is_open, what="the end of the upstream stream")


def test_silence_alone_is_no_failure(new_relay, control_plane, new_envoy):
    """With PINGs answered an idle pair outlives several intervals."""
    relay = new_relay(control_plane.address, env=KEEPALIVE)
    envoy = new_envoy(relay, first=ASK)
    upstream = control_plane.ads.wait_stream()
    with pytest.raises(Timeout):
        wait_for(envoy.call.done, 4)
    upstream.send(response("sotw", CDS))
    envoy.wait_responses(1)


def test_control_plane_without_tls(kind, new_relay, new_control_plane, new_envoy):
    control_plane = new_control_plane(tls=None)
    relay = new_relay(control_plane.address, proxy_config={"controlPlaneAuthPolicy": "NONE"})
    envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
    control_plane.ads.wait_stream().send(response(kind, CDS))
    envoy.wait_responses(1)


def test_sigterm_ends_in_order(kind, new_relay, control_plane, new_envoy):
    relay = new_relay(control_plane.address)
    envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
    upstream = control_plane.ads.wait_stream()
    upstream.send(response(kind, CDS))
    envoy.wait_responses(1)
    relay.stop()
    assert envoy.wait_end()[0] == UNAVAILABLE
    wait_for(lambda: not upstream.is_open, what="the upstream stream ended")
    assert not os.path.exists(relay.xds_socket)


@pytest.mark.parametrize("leftover", ["socket", "file", "directory", "nothing"])
def test_leftover_at_the_socket_path(leftover, idle_relay, control_plane, new_envoy):
    relay = idle_relay(control_plane.address)
    if leftover == "socket":
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(relay.xds_socket)
        dead.close()
    elif leftover == "file":
        relay.write("etc/istio/proxy/XDS", "something")
    elif leftover == "directory":
        os.mkdir(relay.xds_socket)
    relay.start()
    relay.wait_log("Initializing with upstream address")
    next_stream_works(relay, control_plane, new_envoy)
    assert os.stat(relay.xds_socket).st_mode & 0o777 == 0o666


@pytest.mark.parametrize("leftover", ["full directory", "long path"])
def test_socket_path_that_cannot_be(leftover, idle_relay):
    relay = idle_relay("127.0.0.1:1")
    if leftover == "full directory":
        relay.write("etc/istio/proxy/XDS/file", "in the way")
        named = "etc/istio/proxy/XDS"
    else:
        named = "x" * 104
        relay.proxy_config["configPath"] = "./" + named
    relay.start()
    assert relay.wait_exit() != 0
    assert "xds_proxy" in relay.log() and named in relay.log()


def test_push_that_is_cut_leaves_no_memory(release_binary, new_relay, control_plane, new_envoy,
                                           new_cable):
    cable = new_cable(control_plane.port)
    relay = new_relay(cable.address, binary=release_binary)
    next_stream_works(relay, control_plane, new_envoy)
    before = memory_kb(relay.pid)
    push = big_response("sotw", CDS, 30_000_000)
    for count in range(3):
        known = len(control_plane.ads.streams)
        envoy = new_envoy(relay, first=ASK)
        wait_for(lambda: len(control_plane.ads.streams) > known, what="the next stream")
        control_plane.ads.streams[-1].send(response("sotw", CDS))
        envoy.wait_responses(1)
        cable.cut_after(15_000_000)
        control_plane.ads.streams[-1].send(push)
        envoy.wait_end()
    assert memory_kb(relay.pid) - before <= 3 * 1024
