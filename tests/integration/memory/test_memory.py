# SPDX-License-Identifier: Apache-2.0
"""Memory gates, on the release build: what an idle agent keeps, and what a large push to a slow
reader costs it. Private dirty pages of the agent's process group without Envoy."""
import os
import threading
import time

import pytest

from harness import resources as r
from harness.agent import memory_kb
from harness.control_plane import CDS, LDS
from harness.load import RELEASE_BINARY, Bench
from harness.ports import free_port

IDLE_KB_MAX = 3 * 1024
GROWTH_KB_MAX = 3 * 1024
IDLE_S = 30
PUSH_BYTES = 100_000_000


@pytest.fixture(autouse=True)
def release_build():
    assert os.path.exists(RELEASE_BINARY), "tests/run.sh builds build/release"


def test_idle_agent_keeps_at_most_3_mb(mesh, new_agent):
    """Envoy ready, ADS over TLS, a certificate delivered, all default plugins, 30 s later."""
    mesh.control_plane.set(CDS, [r.app_cluster("app", free_port())])
    mesh.control_plane.set(LDS, [r.inbound_listener(free_port(), "app")])
    agent = new_agent(mesh.address, mesh.root_pem, binary=RELEASE_BINARY).start().wait_ready()
    agent.admin.wait_certificate()
    at_once = agent.private_dirty_kb()
    time.sleep(IDLE_S)  # the gate is about an agent that has had nothing to do for so long
    idle = agent.private_dirty_kb()
    print(f"private dirty: {at_once} kB when ready, {idle} kB after {IDLE_S} s; "
          f"RSS {memory_kb(agent.pid, 'Rss')} kB")
    assert idle <= IDLE_KB_MAX
    agent.stop()


class Peak:
    """The most that a figure came to while the block ran."""

    def __init__(self, figure):
        self.figure, self.most = figure, figure()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self._is_over.wait(0.01):
            self.most = max(self.most, self.figure())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def bench(authority, closing):
    it = Bench(authority)
    closing.append(it)
    return it.start()


def files_below(directory):
    return sorted((root, name, os.path.getsize(os.path.join(root, name)))
                  for root, _, names in os.walk(directory) for name in names
                  if name != "log" and os.path.isfile(os.path.join(root, name)))


def test_large_push_to_a_slow_reader_grows_by_at_most_3_mb(bench):
    bench.load.push(1_000_000)
    files = files_below(bench.agent.dir)
    before = bench.agent.private_dirty_kb()
    bench.load.rate(40_000_000)
    with Peak(bench.agent.private_dirty_kb) as peak:
        sent, seconds = bench.load.push(PUSH_BYTES)
    assert sent > 0.99 * PUSH_BYTES and seconds > 1.5, "the reader was not slow"
    print(f"private dirty: {before} kB before, at most {peak.most} kB in {seconds:.1f} s")
    assert peak.most - before <= GROWTH_KB_MAX
    assert files_below(bench.agent.dir) == files, "a push was written to a file"
    # And nothing of it stays.
    bench.agent.wait_for(lambda: bench.agent.private_dirty_kb() - before <= 512,
                         what="the memory given back")


def test_requests_pass_while_a_response_is_blocked(bench):
    bench.load.rate(1)  # next to nothing: the windows fill and stay full
    bench.load.start(PUSH_BYTES)
    for _ in range(10):
        assert bench.load.request(100_000) >= 100_000
    before = bench.agent.private_dirty_kb()
    assert bench.load.taken() < 40_000_000
    for _ in range(50):
        bench.load.request(100_000)
    assert bench.agent.private_dirty_kb() - before <= GROWTH_KB_MAX
    bench.load.rate(0)
    assert bench.load.wait()[0] > 0.99 * PUSH_BYTES
