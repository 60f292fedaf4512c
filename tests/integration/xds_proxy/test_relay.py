# SPDX-License-Identifier: Apache-2.0
"""What passes between Envoy and the control plane, in both variants, with real gRPC on both
sides: the very octets, in order, or nothing."""
import os
import re

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from harness.ads import big_response, field, request, response
from harness.control_plane import CDS, EDS, LDS, PREFIX, RDS
from harness.wait import wait_for

NAME_TABLE = PREFIX + "istio.networking.nds.v1.NameTable"
WORKLOAD = PREFIX + "istio.workload.Workload"
ECDS = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"
OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def relay(new_relay, control_plane):
    return new_relay(control_plane.address)


def test_octets_pass_unchanged_both_ways(kind, relay, control_plane, new_envoy):
    envoy = new_envoy(relay, kind, first=[request(kind, CDS, node_id=relay.node_id)])
    upstream = control_plane.ads.wait_stream()
    assert upstream.kind == kind
    sent = [request(kind, CDS, node_id=relay.node_id)]
    clusters = [cluster_pb2.Cluster(name=f"c{i}") for i in range(3)]
    answers = [response(kind, CDS, clusters), response(kind, CDS, nonce="empty"),
               response(kind, EDS, [(EDS, b"")]), big_response(kind, LDS, 1_000_000),
               response(kind, RDS, [(RDS, b"\xff not even protobuf")], nonce="last")]
    for number, answer in enumerate(answers):
        upstream.send(answer)
        envoy.wait_responses(number + 1)
        sent.append(request(kind, CDS, nonce=f"n{number}", names=["x" * number]))
        envoy.send(sent[-1])
    assert upstream.wait_requests(len(sent)) == sent
    assert envoy.responses == answers


def test_many_messages_keep_their_order(kind, relay, control_plane, new_envoy):
    envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
    upstream = control_plane.ads.wait_stream()
    answers = [response(kind, EDS, [(EDS, bytes(number % 700))], nonce=f"{number}")
               for number in range(3000)]
    asks = [request(kind, EDS, nonce=f"{number}") for number in range(3000)]
    for answer, ask in zip(answers, asks):
        upstream.send(answer)
        envoy.send(ask)
    envoy.wait_responses(len(answers))
    assert upstream.wait_requests(len(asks) + 1)[1:] == asks
    assert envoy.responses == answers


def test_empty_message_passes_as_a_request(relay, control_plane, new_envoy):
    new_envoy(relay, first=[b"", b"\x0a\x01v"])
    assert control_plane.ads.wait_stream().wait_requests(2) == [b"", b"\x0a\x01v"]


def test_control_plane_sees_token_cluster_and_headers(kind, new_relay, control_plane, new_envoy):
    relay = new_relay(control_plane.address, token="  the-token\n",
                      env={"XDS_HEADER_x-Tenant": "blue", "ISTIO_META_CLUSTER_ID": "cluster-7"})
    new_envoy(relay, kind, first=[request(kind, CDS)])
    metadata = control_plane.ads.wait_stream().metadata
    assert metadata["authorization"] == "Bearer the-token"
    assert metadata["clusterid"] == "cluster-7"
    assert metadata["x-tenant"] == "blue"
    assert "the-token" not in relay.log()


def test_token_is_read_for_each_stream(new_relay, control_plane, new_envoy):
    relay = new_relay(control_plane.address, token=None)
    first = new_envoy(relay, first=[request("sotw", CDS)])
    assert "authorization" not in control_plane.ads.wait_stream(1).metadata
    assert re.search(r"warn\S*\s.*token|\"warn\".*token", relay.log())
    relay.write("var/run/secrets/tokens/istio-token", "fresh")
    first.close()
    new_envoy(relay, first=[request("sotw", CDS)])
    assert control_plane.ads.wait_stream(2).metadata["authorization"] == "Bearer fresh"


def test_fifty_thousand_known_versions_pass(relay, control_plane, new_envoy):
    message = discovery_pb2.DeltaDiscoveryRequest(
        type_url=EDS, initial_resource_versions={f"outbound|80||service-{i}": f"{i}"
                                                 for i in range(50_000)})
    octets = message.SerializeToString()
    assert 1_000_000 < len(octets) < 4 << 20
    new_envoy(relay, "delta", first=[octets])
    assert control_plane.ads.wait_stream().wait_requests(1) == [octets]


def test_request_over_four_mib_is_refused(relay, control_plane, new_envoy):
    envoy = new_envoy(relay, first=[request("sotw", CDS)])
    upstream = control_plane.ads.wait_stream()
    envoy.send(field(3, bytes((4 << 20) + 1)))
    assert envoy.wait_end()[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    wait_for(lambda: not upstream.is_open, what="upstream stream ended too")
    assert len(upstream.requests) == 1
    assert relay.log().count("requestMaxBytes") == 1


def test_status_of_the_control_plane_is_passed(kind, relay, control_plane, new_envoy):
    for number, (code, details) in enumerate([
            (grpc.StatusCode.INVALID_ARGUMENT, "missing node information"),
            (grpc.StatusCode.PERMISSION_DENIED, "percent % and ümlaut\nline"),
            (grpc.StatusCode.UNAVAILABLE, ""), (OK, "")]):
        envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
        upstream = control_plane.ads.wait_stream(number + 1)
        upstream.send(response(kind, CDS))
        envoy.wait_responses(1)
        upstream.end(code, details)
        assert envoy.wait_end() == (code, details)


def test_newer_stream_ends_the_older_with_ok(kind, relay, control_plane, new_envoy):
    first = new_envoy(relay, "sotw", first=[request("sotw", CDS)])
    control_plane.ads.wait_stream(1)
    second = new_envoy(relay, kind, first=[request(kind, CDS)])
    assert first.wait_end() == (OK, "")
    upstream = control_plane.ads.wait_stream(2)
    wait_for(lambda: control_plane.ads.open_streams() == [upstream], what="one upstream stream")
    upstream.send(response(kind, CDS))
    second.wait_responses(1)
    assert relay.log().count("registered overlapping stream; closing previous") == 1


def test_second_stream_on_one_connection(relay, control_plane, new_envoy):
    first = new_envoy(relay, first=[request("sotw", CDS)])
    control_plane.ads.wait_stream(1)
    second = new_envoy(relay, first=[request("sotw", CDS)], channel=first.channel)
    assert first.wait_end()[0] == OK
    control_plane.ads.wait_stream(2).send(response("sotw", CDS))
    second.wait_responses(1)


def test_end_of_envoys_stream_ends_upstream(kind, relay, control_plane, new_envoy):
    def half_close(envoy):
        envoy.half_close()
        assert envoy.wait_end()[0] == OK

    def cancel(envoy):
        envoy.call.cancel()

    def lose(envoy):
        envoy.channel.close()

    for number, end in enumerate([half_close, cancel, lose, half_close, lose, cancel]):
        envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
        upstream = control_plane.ads.wait_stream(number + 1)
        upstream.send(response(kind, CDS))
        envoy.wait_responses(1)
        end(envoy)
        wait_for(lambda: not upstream.is_open, what=f"upstream stream ended after {end.__name__}")


@pytest.mark.parametrize("type_url", [
    "istio.io/debug/syncz", "networking.istio.io/v1alpha3/ServiceEntry", NAME_TABLE,
    PREFIX + "istio.mesh.v1alpha1.ProxyConfig", ""])
def test_what_is_not_for_envoy_is_dropped(kind, type_url, relay, control_plane, new_envoy):
    envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
    upstream = control_plane.ads.wait_stream()
    status = PREFIX + "envoy.service.status.v3.ClientConfig"
    dropped = [response(kind, type_url, [(type_url or "x", b"body")]),
               response(kind, type_url, [(status, bytes(100_000))]), response(kind, type_url)]
    good = response(kind, CDS, nonce="after")
    for octets in dropped + [good]:
        upstream.send(octets)
    envoy.wait_responses(1)
    assert envoy.responses == [good]
    is_own = type_url.startswith(PREFIX)
    errors = [line for line in relay.log().splitlines() if "not a valid type for Envoy" in line]
    assert len(errors) == (0 if is_own else 1), errors


def test_what_takes_time_to_tell_passes(kind, relay, control_plane, new_envoy):
    """Held until the end: wrapped resources, types of no list, an empty Any."""
    envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
    upstream = control_plane.ads.wait_stream()
    wrapper = PREFIX + "envoy.service.discovery.v3.Resource"
    new_type = PREFIX + "envoy.config.something.v9.Thing"
    answers = [response(kind, CDS, [(wrapper, bytes(50_000))]),
               response(kind, new_type, [(new_type, bytes(2_000_000))]),
               response(kind, CDS, [("", b"")]),
               response(kind, WORKLOAD, [(WORKLOAD, b"w")]),
               response(kind, ECDS, [(ECDS, b"e")]),
               field(4, CDS) + response(kind, CDS, [(CDS, b"type first")])]
    for octets in answers:
        upstream.send(octets)
    assert envoy.wait_responses(len(answers)) == answers


def test_response_that_hides_its_type_is_bounded(new_relay, control_plane, new_envoy):
    relay = new_relay(control_plane.address)
    envoy = new_envoy(relay, first=[request("sotw", CDS)])
    control_plane.ads.wait_stream().send(field(15, bytes(17 << 20)) + response("sotw", CDS))
    assert envoy.wait_end()[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert envoy.responses == []
    assert "holdMaxBytes" in relay.log()


@pytest.mark.parametrize("octets", [b"\x0b\x0c", field(1, "v") + b"\x12\x7f\x0a",
                                    b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"])
def test_what_is_no_message_ends_the_stream(octets, relay, control_plane, new_envoy):
    envoy = new_envoy(relay, first=[request("sotw", CDS)])
    control_plane.ads.wait_stream().send(octets)
    assert envoy.wait_end()[0] == grpc.StatusCode.INTERNAL
    assert envoy.responses == []


def test_small_response_of_two_types_is_not_passed(kind, relay, control_plane, new_envoy):
    envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
    control_plane.ads.wait_stream().send(response(kind, LDS, [(CDS, b"body")]))
    assert envoy.wait_end()[0] == grpc.StatusCode.INTERNAL
    assert envoy.responses == []


def test_nacks_are_told_once_and_counted(kind, relay, control_plane, new_envoy):
    envoy = new_envoy(relay, kind, first=[request(kind, CDS)])
    upstream = control_plane.ads.wait_stream()
    answer = response(kind, CDS, [(CDS, b"1"), (CDS, b"22")], nonce="n-17", version="v-3")
    upstream.send(answer)
    upstream.send(response(kind, LDS, nonce="n-1"))
    envoy.wait_responses(2)
    for _ in range(50):
        envoy.send(request(kind, CDS, nonce="n-17", error="no such filter\nat all"))
    envoy.send(request(kind, CDS, nonce="n-17", error="another reason"))
    envoy.send(request(kind, LDS, nonce="n-1"))
    envoy.send(request(kind, LDS))
    envoy.send(request(kind, EDS, nonce="of nothing that was sent"))
    upstream.wait_requests(55)
    nacks = [line for line in relay.log().splitlines() if "NACK" in line]
    assert len(nacks) == 2, nacks
    assert "no such filter" in nacks[0] and CDS in nacks[0] and "another reason" in nacks[1]

    status = relay.status()["plugins"]["xds_proxy"]
    assert status["connected"] is True
    assert status["address"] == control_plane.address
    types = {each["typeUrl"]: each for each in status["types"]}
    cds = types[CDS]
    assert (cds["version"], cds["nonce"], cds["bytes"]) == ("v-3", "n-17", len(answer))
    assert (cds["resources"], cds["pushes"], cds["acks"], cds["nacks"]) == (2, 1, 0, 51)
    assert cds["lastNack"] == "another reason"
    assert 0 <= cds["ageMs"] < 120_000
    assert (types[LDS]["acks"], types[LDS]["nacks"], types[LDS]["pushes"]) == (1, 0, 1)
    assert set(types) == {CDS, LDS}


def test_nothing_stays_behind_when_envoy_comes_and_goes(relay, control_plane, new_envoy):
    def descriptors():
        return len(os.listdir(f"/proc/{relay.pid}/fd"))

    before = descriptors()
    for number in range(300):
        envoy = new_envoy(relay, first=[request("sotw", CDS)])
        if number % 3 == 0:
            wait_for(control_plane.ads.open_streams, what="an upstream stream")
        envoy.close()
    wait_for(lambda: not control_plane.ads.open_streams(), what="all upstream streams ended")
    wait_for(lambda: descriptors() <= before, what=f"{before} descriptors again")
    relay.stop()
