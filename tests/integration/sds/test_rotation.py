# SPDX-License-Identifier: Apache-2.0
"""Certificates of a few seconds: renewed in time, pushed to open streams, never dropped early."""
import datetime
import time

import grpc

from harness.pki import Authority
from harness.secret_stream import key_pair, roots_pem

TEN_SECONDS = {"SECRET_TTL": "10s"}


def _short_lived(ca, seconds):
    ca.ttl = datetime.timedelta(seconds=seconds)


def test_renewal_is_pushed_each_five_seconds(ca, new_secrets_agent, new_stream):
    _short_lived(ca, 10)
    ca.start()
    agent = new_secrets_agent(env=TEN_SECONDS).start()
    streams = [new_stream(agent).subscribe("default") for _ in range(3)]
    roots = new_stream(agent).subscribe("ROOTCA")
    roots.next()
    seen = [[key_pair(stream.next()["default"])[1][0]] for stream in streams]
    for _ in range(2):
        for stream, certs in zip(streams, seen):
            stream.ack("default")
            certs.append(key_pair(stream.next()["default"])[1][0])
    assert seen[0] == seen[1] == seen[2]
    assert len({cert.serial_number for cert in seen[0]}) == 3
    assert len({cert.public_key().public_numbers() for cert in seen[0]}) == 3
    first, second, third = ca.signed[:3]
    for earlier, later in ((first, second), (second, third)):
        assert 4.5 <= later.at - earlier.at <= 9
    assert [s.request.validity_duration for s in ca.signed[:3]] == [10, 10, 10]
    assert roots.is_silent(0.1)  # the root has not changed


def test_certificate_is_renewed_without_subscribers(ca, new_secrets_agent):
    _short_lived(ca, 10)
    ca.start()
    agent = new_secrets_agent(env=TEN_SECONDS).start()
    agent.wait_for(lambda: ca.successes() >= 2, what="the second certificate")


def test_old_certificate_is_served_while_the_ca_is_down(ca, new_secrets_agent, new_stream):
    _short_lived(ca, 20)
    ca.start()
    agent = new_secrets_agent(env={"SECRET_TTL": "20s", "SECRET_GRACE_PERIOD_RATIO": "0.75"})
    agent.start()
    first = new_stream(agent).subscribe("default")
    _, chain, _ = key_pair(first.next()["default"])
    ca.kill()
    agent.wait_log("no workload certificate")  # renewal was due, and failed
    again = new_stream(agent).subscribe("default")
    assert key_pair(again.next()["default"])[1] == chain
    assert first.is_silent(0.1)
    ca.start()
    renewed = key_pair(first.next()["default"])[1]
    assert renewed[0].serial_number != chain[0].serial_number
    assert key_pair(again.next()["default"])[1] == renewed


def test_ended_certificate_is_not_served(ca, new_secrets_agent, new_stream):
    _short_lived(ca, 6)
    ca.start()
    agent = new_secrets_agent(env={"SECRET_TTL": "6s", "OUTRIGGER_SDS_WAIT": "500ms"}).start()
    stream = new_stream(agent).subscribe("default", "ROOTCA")
    stream.next()
    ca.kill()
    agent.wait_log("has ended and there is no other")
    end = new_stream(agent).subscribe("default").end()
    assert end.code == grpc.StatusCode.UNAVAILABLE and "cannot connect" in end.details
    assert list(new_stream(agent).subscribe("ROOTCA").next()) == ["ROOTCA"]
    ca.start()
    assert list(stream.next()) == ["default"]


def _sent_as(stream):
    """The count in the version: the order in which the agent sent its answers."""
    return int(stream.last.version_info.partition("/")[2])


def test_new_root_is_pushed_before_the_certificate(ca, new_secrets_agent, new_channel, new_stream):
    _short_lived(ca, 10)
    ca.start()
    agent = new_secrets_agent(env=TEN_SECONDS).start()
    channel = new_channel(agent)
    default = new_stream(channel).subscribe("default")
    roots = new_stream(channel).subscribe("ROOTCA")
    both = new_stream(channel).subscribe("default", "ROOTCA")
    default.next(), roots.next(), both.next()
    # The CA's server keeps its certificate; what it signs with is new.
    ca.authority = Authority("new mesh root")
    chain = key_pair(default.next()["default"])[1]
    assert roots_pem(roots.next()["ROOTCA"]) == ca.authority.root_pem.rstrip(b"\n")
    assert chain[-1] == ca.authority.root
    assert _sent_as(roots) < _sent_as(default)
    assert [list(both.next()), list(both.next())] == [["ROOTCA"], ["default"]]


def test_policy_that_renews_at_once_makes_no_loop(ca, new_secrets_agent):
    ca.start()
    agent = new_secrets_agent(env={"SECRET_GRACE_PERIOD_RATIO": "1"}).start()
    agent.wait_for(lambda: ca.successes() >= 2, what="the second certificate")
    first, second = ca.signed[:2]
    assert second.at - first.at >= 4.9
    time.sleep(1)  # for showing that nothing follows
    assert len(ca.signed) == 2
