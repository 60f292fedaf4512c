# SPDX-License-Identifier: Apache-2.0
"""A message goes through while it comes in: what stands in Envoy's side before its end, and what
Envoy's side sees when that end never comes. The peers are xds_load's, TLS above, a socket below."""
import pytest

from harness.agent import BINARY
from harness.load import RELEASE_BINARY, Bench
from harness.wait import wait_for

MB = 1_000_000


@pytest.fixture(params=[BINARY, RELEASE_BINARY], ids=["sanitized", "release"])
def bench(request, authority, closing):
    it = Bench(authority, request.param)
    closing.append(it)
    return it.start()


def test_49_of_50_mb_are_there_while_the_message_is_open(bench):
    announced = bench.load.half(51 * MB, 50 * MB)
    assert announced > 50.9 * MB
    wait_for(lambda: bench.load.taken() >= 49 * MB, 60, "49 MB on Envoy's side")
    assert bench.load.taken() < announced


def test_reset_in_mid_message_is_a_reset_and_the_next_stream_gets_everything(bench):
    bench.load.half(20 * MB, 10 * MB)
    wait_for(lambda: bench.load.taken() >= 9 * MB, 60, "9 MB on Envoy's side")
    _, how, where = bench.load.reset()
    assert (how, where) == ("reset", "open"), "a truncated message must never look complete"
    bench.load.connect(bench.agent)
    assert bench.load.push(20 * MB)[0] > 19.9 * MB


def test_reset_between_messages_is_unavailable_with_trailers(bench):
    bench.load.push(1 * MB)
    code, how, where = bench.load.reset()
    assert (how, where) == ("trailers", "whole") and code in (13, 14)
    bench.load.connect(bench.agent)
    bench.load.push(1 * MB)


def test_every_length_and_split_arrives_whole(bench):
    """Around the sizes of frames, windows and TLS records."""
    for octets in (4200, 16384, 16385, 65535, 65536, 262143, 262144, 262145, 524288, 1 * MB):
        for extra in range(0, 12000, 4100):
            bench.load.push(octets + extra)
    assert bench.load.exchange(200, 1) > 0
