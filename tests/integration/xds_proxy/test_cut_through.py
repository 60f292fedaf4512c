# SPDX-License-Identifier: Apache-2.0
"""A response goes on while it comes in: seen frame by frame, with a control plane and an Envoy
that do what no real one can be made to do."""
import os
import struct
import threading

import grpc
import pytest

from harness import raw_h2
from harness.ads import big_response, field, request, response
from harness.agent import memory_kb
from harness.control_plane import CDS, LDS
from harness.wait import wait_for

MB = 1_000_000


def upstream_of(server, connection=-1):
    """(connection, stream id) at the control plane."""
    wait_for(lambda: server.connections and server.connections[connection].streams,
             what="the stream at the control plane")
    return server.connections[connection], max(server.connections[connection].streams)


def test_envoy_has_what_the_control_plane_has_sent(kind, new_relay, new_raw_control_plane,
                                                   new_raw_envoy):
    payload = raw_h2.message(big_response(kind, CDS, 55 * MB))
    part = payload[:50 * MB]

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, part)

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy, stream_id = new_raw_envoy(relay, kind, request(kind, CDS))
    stream = envoy.streams[stream_id]
    envoy.wait(lambda: stream.received >= 49 * MB, "49 MB of an open message")
    envoy.wait(lambda: stream.received == len(part), "all that was sent")
    assert not stream.is_over() and stream.messages == []
    assert stream.open_octets() == len(part) - 5

    upstream, upstream_id = upstream_of(server)
    upstream.write(upstream_id, payload[len(part):])
    envoy.wait(lambda: stream.messages, "the rest")
    assert stream.messages == [len(payload) - 5]


def reset(connection, stream_id):
    connection.reset(stream_id, raw_h2.INTERNAL_ERROR)


def cancel(connection, stream_id):
    connection.reset(stream_id, raw_h2.CANCEL)


def break_connection(connection, stream_id):
    connection.close(with_reset=True)


def end_connection(connection, stream_id):
    connection.close()


def end_stream(connection, stream_id):
    connection.trailers(stream_id, 0)


def goaway_and_end(connection, stream_id):
    connection.goaway(stream_id, raw_h2.NO_ERROR, b"max_age")
    connection.close()


@pytest.mark.parametrize("end", [reset, cancel, break_connection, end_connection, end_stream,
                                 goaway_and_end])
def test_end_in_mid_message_is_a_reset(end, new_relay, new_raw_control_plane, new_raw_envoy):
    answer = big_response("sotw", CDS, 3 * MB)
    payload = raw_h2.message(answer)
    small = response("sotw", LDS, nonce="whole")

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, raw_h2.message(small))
        if len(server.connections) > 1:
            connection.write(stream_id, payload)
            return
        connection.write(stream_id, payload[:2 * MB])
        wait_for(lambda: envoy.streams[envoy_id].received >= 2 * MB, what="2 MB at Envoy")
        end(connection, stream_id)

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy, envoy_id = new_raw_envoy(relay, keeps=True)
    stream = envoy.streams[envoy_id]
    envoy.wait(stream.is_over, "the end of Envoy's stream")
    assert stream.reset_code == raw_h2.INTERNAL_ERROR
    # No trailers: one header block, and no END_STREAM.
    assert stream.header_blocks == 1 and not stream.is_ended
    assert stream.messages == [small]
    assert "in the middle of a response" in relay.log()

    again, again_id = new_raw_envoy(relay, keeps=True)
    again.wait(lambda: len(again.streams[again_id].messages) == 2, "everything on the next stream")
    assert again.streams[again_id].messages == [small, answer]


def test_newer_stream_in_mid_message_resets_the_older(new_relay, new_raw_control_plane,
                                                      new_raw_envoy):
    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, raw_h2.message(big_response("sotw", CDS, MB))[:MB // 2])

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy, envoy_id = new_raw_envoy(relay)
    envoy.wait(lambda: envoy.streams[envoy_id].received == MB // 2, "half a message")
    new_raw_envoy(relay)
    envoy.wait(envoy.streams[envoy_id].is_over, "the end of the older stream")
    assert envoy.streams[envoy_id].reset_code == raw_h2.CANCEL
    assert not envoy.streams[envoy_id].is_ended


def test_type_that_turns_out_wrong_is_never_complete(kind, new_relay, new_raw_control_plane,
                                                     new_raw_envoy):
    body = field(1, CDS) + field(2, os.urandom(MB))
    body = field(2, field(2, body) if kind == "delta" else body)
    answer = body + field(4, CDS) + field(5, "n") + field(4, LDS)

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, raw_h2.message(answer))

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy, envoy_id = new_raw_envoy(relay, kind)
    stream = envoy.streams[envoy_id]
    envoy.wait(stream.is_over, "the end of Envoy's stream")
    assert stream.reset_code == raw_h2.INTERNAL_ERROR and stream.messages == []
    assert "resources of type" in relay.log()


def test_reader_that_stops_stops_its_control_plane(new_relay, new_raw_control_plane,
                                                   new_raw_envoy):
    """And its own requests go on, as do other things on the connection."""
    answer = big_response("sotw", CDS, 20 * MB)
    done = threading.Event()

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, raw_h2.message(answer), deadline_s=100)
        done.set()

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy, envoy_id = new_raw_envoy(relay, keeps=True)
    upstream, upstream_id = upstream_of(server)
    envoy.hold()
    # Blocked: the stream's window at the control plane is used up and stays so.
    wait_for(lambda: upstream.streams[upstream_id].window <= 0, what="a closed window")
    for number in range(200):
        envoy.write(envoy_id, raw_h2.message(request("sotw", LDS, nonce=f"{number}")))
    wait_for(lambda: len(upstream.streams[upstream_id].messages) == 201,
             what="Envoy's requests at the control plane")
    assert not done.is_set()
    assert upstream.streams[upstream_id].window <= 0
    envoy.go()
    envoy.wait(lambda: envoy.streams[envoy_id].messages, "the whole message")
    assert envoy.streams[envoy_id].messages == [answer]
    assert done.wait(10)


def test_any_framing_gives_the_same_octets(kind, new_relay, new_raw_control_plane, new_raw_envoy):
    answers = [response(kind, CDS, [(CDS, bytes(number))], nonce=str(number)) for number in
               (0, 1, 100, 3000)]
    stream_of_answers = b"".join(map(raw_h2.message, answers))

    def serve(connection, stream_id):
        connection.respond(stream_id)
        for at in range(0, len(stream_of_answers), 1):    # one octet a frame
            connection.write(stream_id, stream_of_answers[at:at + 1])
        connection.write(stream_id, stream_of_answers)    # all in one
        for at in range(0, len(stream_of_answers), 100):  # padded, by hand
            part = stream_of_answers[at:at + 100]
            connection.send_frame(raw_h2.DATA, raw_h2.PADDED, stream_id,
                                  bytes([9]) + part + bytes(9))
        connection.send_frame(raw_h2.DATA, 0, stream_id)  # empty
        connection.write(stream_id, stream_of_answers)

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy, envoy_id = new_raw_envoy(relay, kind, keeps=True)
    envoy.wait(lambda: len(envoy.streams[envoy_id].messages) == 16, "all messages")
    assert envoy.streams[envoy_id].messages == answers * 4


def test_window_is_given_back_once(kind, new_relay, new_raw_control_plane, new_raw_envoy):
    """Passed, held and dropped messages, larger than the window and smaller: what the control
    plane may send never grows over what was announced, and is all there again at the end."""
    wrapper = "type.googleapis.com/envoy.service.discovery.v3.Resource"
    passed = [response(kind, CDS, [(CDS, bytes(size))]) for size in (10, 600_000)]
    held = [response(kind, CDS, [(wrapper, bytes(size))]) for size in (10, 200_000, 600_000)]
    dropped = [response(kind, "x", [("x", bytes(size))]) for size in (10, 600_000)]
    done = threading.Event()

    def serve(connection, stream_id):
        connection.respond(stream_id)
        for _ in range(3):
            for answer in passed + held + dropped + held + passed:
                connection.write(stream_id, raw_h2.message(answer))
        done.set()

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy, envoy_id = new_raw_envoy(relay, kind, keeps=True, rate=10 * MB)
    assert done.wait(60)
    envoy.wait(lambda: len(envoy.streams[envoy_id].messages) == 30, "what is for Envoy")
    assert envoy.streams[envoy_id].messages == (passed + held + held + passed) * 3
    upstream, upstream_id = upstream_of(server)
    stream = upstream.streams[upstream_id]
    wait_for(lambda: stream.window > 262144 // 2, what="the window")
    assert stream.window_most <= 262144


@pytest.mark.parametrize("prefix", [struct.pack(">BI", 1, 10) + bytes(10),
                                    struct.pack(">BI", 7, 10) + bytes(10)])
def test_bad_message_prefix_is_internal(prefix, new_relay, new_raw_control_plane, new_envoy):
    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, prefix)

    relay = new_relay(new_raw_control_plane(serve).address)
    envoy = new_envoy(relay, first=[request("sotw", CDS)])
    assert envoy.wait_end()[0] == grpc.StatusCode.INTERNAL


def test_announced_length_costs_nothing(new_relay, new_raw_control_plane, new_raw_envoy):
    head = struct.pack(">BI", 0, (1 << 32) - 1) + field(1, "v") + b"\x12\xf0\xff\xff\xff\x0f" + \
        field(1, CDS) + b"\x12\x80\xff\xff\xff\x0f"

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, head + bytes(100))

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    before = memory_kb(relay.pid, "Rss")
    envoy, envoy_id = new_raw_envoy(relay)
    stream = envoy.streams[envoy_id]
    envoy.wait(lambda: stream.received == len(head) + 100, "the head of a 4 GB message")
    assert memory_kb(relay.pid, "Rss") - before < 20_000   # also under a sanitizer
    server.connections[0].close()
    envoy.wait(stream.is_over, "the end of Envoy's stream")
    assert stream.reset_code == raw_h2.INTERNAL_ERROR


def test_friendly_goaway_ends_after_the_message(new_relay, new_raw_control_plane, new_envoy):
    answer = big_response("sotw", CDS, MB)
    payload = raw_h2.message(answer)
    rest = threading.Event()

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, payload[:MB // 2])
        connection.goaway(0x7fffffff, raw_h2.NO_ERROR, b"max_age")
        rest.wait(60)
        connection.write(stream_id, payload[MB // 2:])

    server = new_raw_control_plane(serve)
    relay = new_relay(server.address)
    envoy = new_envoy(relay, first=[request("sotw", CDS)])
    wait_ms = int(relay.wait_log(r"GOAWAY \(max_age\), leaving in (\d+) ms").group(1))
    assert 0 <= wait_ms <= 5000
    timer = threading.Timer(wait_ms / 1000 + 0.5, rest.set)
    timer.start()
    code, details = envoy.wait_end()
    timer.cancel()
    assert envoy.responses == [answer]
    assert rest.is_set(), "ended before the message was complete"
    assert code == grpc.StatusCode.UNAVAILABLE and "goaway" in details


def test_requests_wait_up_to_a_limit(new_relay, new_raw_control_plane, new_envoy):
    server = new_raw_control_plane(lambda connection, stream_id: connection.hold())
    relay = new_relay(server.address)
    envoy = new_envoy(relay, first=[request("sotw", CDS)])
    upstream_of(server)
    for _ in range(100):
        envoy.send(field(3, bytes(MB)))
    code, details = envoy.wait_end()
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED, details
    assert "requestQueueMaxBytes" in relay.log()


def files_of(directory):
    found = {}
    for root, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(root, name)
            info = os.lstat(path)
            found[os.path.relpath(path, directory)] = (info.st_size, info.st_mtime_ns, info.st_ino)
    found.pop("log", None)
    return found


def regular_files(pid):
    found = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        if target.startswith("/") and not target.startswith("/dev/"):
            found.append(os.path.basename(target))
    return sorted(found)


def test_large_push_to_a_slow_reader_needs_no_memory_and_no_file(
        kind, release_binary, new_relay, new_raw_control_plane, new_raw_envoy):
    payload = raw_h2.message(big_response(kind, CDS, 100 * MB))
    small = raw_h2.message(response(kind, CDS))
    pushed = threading.Event()

    def serve(connection, stream_id):
        connection.respond(stream_id)
        connection.write(stream_id, small)
        pushed.wait(60)
        connection.write(stream_id, payload, deadline_s=100)

    relay = new_relay(new_raw_control_plane(serve).address, binary=release_binary)
    envoy, envoy_id = new_raw_envoy(relay, kind, request(kind, CDS), rate=25 * MB)
    stream = envoy.streams[envoy_id]
    envoy.wait(lambda: len(stream.messages) == 1, "a small response")
    before, files, opened = memory_kb(relay.pid), files_of(relay.dir), regular_files(relay.pid)
    envoy.hold()
    pushed.set()
    most = 0

    def look(done):
        nonlocal most
        most = max(most, memory_kb(relay.pid))
        return done()

    # Blocked: nothing has come through for a while, whatever could be filled is full.
    wait_for(lambda: look(lambda: stalled(relay.pid)), what="a push that stands")
    envoy.go()
    envoy.wait(lambda: look(lambda: len(stream.messages) == 2), "the push", deadline_s=60)
    growth = most - before
    print(f"private memory {before} kB, grew by at most {growth} kB")
    assert stream.messages[1] == len(payload) - 5
    assert growth <= 3 * 1024
    assert files_of(relay.dir) == files
    assert regular_files(relay.pid) == opened == ["log", "log"]


def stalled(pid, _seen={}):
    """The process has used no processor time between two looks, 20 times in a row."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    used = int(fields[11]) + int(fields[12])
    last, count = _seen.get(pid, (None, 0))
    _seen[pid] = (used, count + 1 if used == last else 0)
    return _seen[pid][1] >= 20
