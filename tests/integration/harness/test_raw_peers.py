# SPDX-License-Identifier: Apache-2.0
"""The peers that speak octets, each against real gRPC, before anything of ours is between them."""
from concurrent import futures

import grpc
import pytest

from harness import raw_h2
from harness.ads import AdsClient, AdsServer, big_response, request, response
from harness.control_plane import CDS
from harness.grpc_server import GrpcServer
from harness.wait import wait_for

CHANNEL = [("grpc.max_receive_message_length", -1)]


@pytest.fixture
def ads(closing):
    it = AdsServer()
    it.server = GrpcServer([it]).start()
    it.close = it.server.kill
    closing.append(it)
    return it


@pytest.mark.parametrize("kind", ["sotw", "delta"])
def test_octets_pass_between_grpcio_ends(kind, ads, closing):
    with grpc.insecure_channel(ads.server.address, options=CHANNEL) as channel:
        client = AdsClient(None, kind, first=[request(kind, CDS)], channel=channel)
        closing.append(client)
        stream = ads.wait_stream()
        assert stream.kind == kind
        answers = [response(kind, CDS), big_response(kind, CDS, 300_000)]
        for answer in answers:
            stream.send(answer)
        assert client.wait_responses(2) == answers
        assert stream.wait_requests(1) == [request(kind, CDS)]
        stream.end(grpc.StatusCode.NOT_FOUND, "no more")
        assert client.wait_end() == (grpc.StatusCode.NOT_FOUND, "no more")


def test_raw_server_speaks_to_grpcio(server_tls, authority, tmp_path, closing):
    answer = big_response("sotw", CDS, 2_000_000)

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, raw_h2.message(answer))
        wait_for(lambda: connection.streams[stream_id].messages, what="a request")
        connection.trailers(stream_id, 9, "enough")

    server = raw_h2.Server(serve, tls=server_tls, tmp_path=tmp_path)
    closing.append(server)
    credentials = grpc.ssl_channel_credentials(authority.root_pem)
    with grpc.secure_channel(server.address, credentials, options=CHANNEL) as channel:
        client = AdsClient(None, first=[request("sotw", CDS)], channel=channel)
        closing.append(client)
        assert client.wait_end() == (grpc.StatusCode.FAILED_PRECONDITION, "enough")
        assert client.responses == [answer]


def test_raw_client_speaks_to_grpcio(tmp_path, closing):
    ads = AdsServer()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    ads.register(server)
    path = str(tmp_path / "socket")
    assert server.add_insecure_port("unix:" + path)
    server.start()
    client = raw_h2.connect(path, keeps=True)
    closing.append(client)
    stream_id = client.request(raw_h2.SOTW)
    client.write(stream_id, raw_h2.message(request("sotw", CDS)))
    upstream = ads.wait_stream()
    upstream.wait_requests(1)
    client.hold()
    answers = [big_response("sotw", CDS, 40_000_000), response("sotw", CDS)]
    for answer in answers:
        upstream.send(answer)
    assert client.streams[stream_id].messages == []   # the first is larger than any buffer
    client.go()
    stream = client.streams[stream_id]
    client.wait(lambda: len(stream.messages) == 2, "both messages")
    assert stream.messages == answers
    upstream.end(grpc.StatusCode.ABORTED, "x")
    client.wait(lambda: stream.is_ended, "trailers")
    assert stream.header_blocks == 2 and stream.open_octets() == 0
    server.stop(None)
