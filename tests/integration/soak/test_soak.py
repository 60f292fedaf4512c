# SPDX-License-Identifier: Apache-2.0
"""Pushes, lost streams, lost connections and renewed certificates, over and over: memory and open
descriptors stay where they were. RIG_SOAK_S seconds, 30 if unset."""
import datetime
import os
import random
import time

import pytest

from harness import resources as r
from harness.ca import CertificateService
from harness.cable import Cable
from harness.control_plane import CDS, LDS, ControlPlane
from harness.load import RELEASE_BINARY
from harness.ports import free_port

SOAK_S = float(os.environ.get("RIG_SOAK_S", "30"))
# The C library keeps up to its trim threshold (256 KB) and what lies below a block in use.
SLACK_KB = 512
MOST_KB = 3 * 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.timeout(SOAK_S * 1.5 + 120)
@pytest.mark.parametrize("is_delta", [False, True], ids=["sotw", "delta"])
def test_nothing_grows(is_delta, authority, server_tls, serving, new_agent, closing):
    control_plane = ControlPlane()
    ca = CertificateService(authority, ttl=datetime.timedelta(seconds=4))
    server = serving(control_plane, ca, tls=server_tls)
    cable = Cable(server.port)
    closing.append(cable)
    control_plane.set(CDS, [r.app_cluster("app", free_port())])
    control_plane.set(LDS, [r.inbound_listener(free_port(), "app")])
    agent = new_agent(cable.address, authority.root_pem, ca_address=server.address,
                      binary=RELEASE_BINARY,
                      env={"ISTIO_DELTA_XDS": str(is_delta).lower()}).start().wait_ready()
    agent.admin.wait_certificate()
    chance = random.Random(1)

    def disturb():
        """One push, and sometimes the loss of what carries it."""
        name = f"bulk-{chance.randrange(1000)}"
        taken = agent.admin.stat("cluster_manager.cds.update_success")
        what = chance.choice(["push", "push", "push", "end", "cut", "cut-in-push"])
        if what == "end":
            control_plane.end_streams()
        elif what == "cut":
            cable.cut()
        elif what == "cut-in-push":
            cable.cut_after(chance.randrange(1, 1_500_000))
        control_plane.set(CDS, [r.app_cluster("app", 1),
                                r.bulky_cluster(name, chance.randrange(2_000_000))])
        agent.wait_for(lambda: agent.admin.stat("cluster_manager.cds.update_success") > taken and
                       name in agent.admin.get("/clusters"), what=f"{what}: {name} in Envoy")

    end = time.monotonic() + SOAK_S / 2
    for _ in range(20):
        disturb()
    memory, open_now = [agent.private_dirty_kb()], descriptors(agent.pid)
    rounds = 0
    while time.monotonic() < end:
        disturb()
        rounds += 1
        memory.append(agent.private_dirty_kb())
    quarter = max(1, len(memory) // 4)
    first, last = min(memory[:quarter]), min(memory[-quarter:])
    print(f"{rounds} rounds, {ca.successes()} certificates, {cable.accepted} connections; "
          f"private dirty {first} kB at first, {last} kB at last")
    assert rounds >= 3 and ca.successes() >= 2
    assert last - first <= SLACK_KB and last <= MOST_KB
    agent.wait_for(lambda: descriptors(agent.pid) <= open_now + 4,
                   what="no more descriptors than before")
    agent.stop()
