# SPDX-License-Identifier: Apache-2.0
"""A real Envoy behind the proxy: what it does with what the proxy does to it."""
import json

import pytest

from harness import resources as r
from harness.control_plane import CDS, EDS, LDS, RDS
from harness.envoy import http_get
from harness.ports import free_port
from harness.wait import wait_for


def plain_cluster(name):
    cluster = r.mtls_cluster(name, [])
    cluster.ClearField("transport_socket")
    return cluster


@pytest.fixture(params=["sotw", "delta"])
def with_envoy(request, mesh, idle_relay, new_cable, new_app):
    """A relay with a live Envoy that has all four types; its control plane is behind a cable."""
    app, port = new_app(), free_port()
    mesh.control_plane.set(CDS, [plain_cluster("app")])
    mesh.control_plane.set(EDS, [r.endpoints("app", app.port)])
    mesh.control_plane.set(LDS, [r.outbound_listener(port, "routes")])
    mesh.control_plane.set(RDS, [r.route_to("app", "routes")])
    cable = new_cable(mesh.server.port)
    relay = idle_relay(cable.address, env={
        "DISABLE_ENVOY": "false", "ISTIO_DELTA_XDS": str(request.param == "delta").lower()})
    relay.start()
    relay.admin.wait_ready()
    relay.cable, relay.port, relay.kind = cable, port, request.param
    relay.control_plane = mesh.control_plane
    wait_for(lambda: http_get(port, "/")[0] == 200, what="a request through Envoy")
    return relay


def test_envoy_is_configured_through_the_proxy(with_envoy):
    stream = with_envoy.control_plane.wait_for_ack(RDS)
    assert stream.kind == with_envoy.kind
    assert stream.node.id == with_envoy.node_id
    assert json.loads(http_get(with_envoy.port, "/hello")[1])["path"] == "/hello"
    types = {each["typeUrl"]: each for each in
             with_envoy.status()["plugins"]["xds_proxy"]["types"]}
    assert set(types) == {CDS, EDS, LDS, RDS}
    for each in types.values():
        assert each["acks"] >= 1 and each["nacks"] == 0 and each["resources"] == 1
    marks = [each["event"] for each in with_envoy.status()["timeline"]]
    assert marks.index("xds socket served") < marks.index("xds upstream connected") \
        < marks.index("first xds response")


def test_envoy_gets_everything_after_a_push_that_was_cut(with_envoy):
    """Envoy's answer to RST_STREAM in the middle of a message: it keeps what it has, comes again
    and takes the whole."""
    before = with_envoy.control_plane.wait_for_ack(RDS)
    with_envoy.cable.cut_after(5_000_000)
    bulk = [r.bulky_cluster(f"bulk-{i}", 200_000) for i in range(100)]
    with_envoy.control_plane.set(CDS, [plain_cluster("app"), *bulk])
    with_envoy.wait_log("in the middle of a response")
    assert http_get(with_envoy.port, "/")[0] == 200
    again = with_envoy.control_plane.wait_for_stream(
        lambda s: s is not before and s.acks(CDS), what="the push acknowledged on a new stream")
    assert not again.nacks() and not before.nacks()
    assert with_envoy.admin.stat("cluster_manager.active_clusters") >= 100
    assert http_get(with_envoy.port, "/")[0] == 200


def test_nack_of_envoys_is_logged_and_shown(with_envoy):
    bad = plain_cluster("bad")
    bad.connect_timeout.seconds = -5
    with_envoy.control_plane.set(CDS, [plain_cluster("app"), bad])
    wait_for(lambda: with_envoy.control_plane.open_streams()[0].nacks(CDS), what="NACK")
    with_envoy.wait_log("NACK from Envoy for " + CDS)
    cds = next(each for each in with_envoy.status()["plugins"]["xds_proxy"]["types"]
               if each["typeUrl"] == CDS)
    assert cds["nacks"] >= 1 and "positive duration" in cds["lastNack"]
