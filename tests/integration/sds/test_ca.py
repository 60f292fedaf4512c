# SPDX-License-Identifier: Apache-2.0
"""CAs that are away, refuse, answer nonsense or are not to be trusted; and what comes of it."""
import datetime
import re

import grpc
import pytest

from harness import pki
from harness.pki import Authority
from harness.secret_stream import key_pair, roots_pem

WAIT_1S = {"OUTRIGGER_SDS_WAIT": "1s"}


def test_ca_down_at_start_then_up(ca, new_secrets_agent, new_stream):
    agent = new_secrets_agent().start()
    stream = new_stream(agent).subscribe("default")
    agent.wait_log("no workload certificate: .*cannot connect")
    ca.start()
    key_pair(stream.next()["default"])
    assert ca.successes() == 1


def test_request_is_held_and_then_told_why(ca, new_secrets_agent, new_stream):
    agent = new_secrets_agent(env=WAIT_1S).start()
    stream = new_stream(agent).subscribe("default")
    assert stream.is_silent(0.5)
    end = stream.end()
    assert end.code == grpc.StatusCode.UNAVAILABLE
    assert end.details.startswith("failed to generate secret for default: ")
    ca.start()
    agent.wait_for(lambda: ca.successes() == 1, what="a certificate")
    key_pair(new_stream(agent).subscribe("default").next()["default"])


def test_unavailable_twice_means_three_attempts(ca, new_secrets_agent, new_stream):
    ca.fail_next(grpc.StatusCode.UNAVAILABLE, 2)
    ca.start()
    agent = new_secrets_agent().start()
    key_pair(new_stream(agent).subscribe("default").next()["default"])
    first, second, third = ca.signed
    assert first.request.csr == second.request.csr == third.request.csr
    assert [s.metadata.get("x-retry-attempty") for s in ca.signed] == [None, "1", "2"]
    assert second.at - first.at >= 0.09
    assert third.at - second.at >= 0.18


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED])
def test_other_passing_failures_are_retried(ca, new_secrets_agent, new_stream, code):
    ca.fail_next(code, 1)
    ca.start()
    agent = new_secrets_agent().start()
    key_pair(new_stream(agent).subscribe("default").next()["default"])
    assert len(ca.signed) == 2 and len({s.request.csr for s in ca.signed}) == 1


def test_five_attempts_and_then_a_new_key(ca, new_secrets_agent, new_stream):
    ca.fail_next(grpc.StatusCode.UNAVAILABLE, 6)
    ca.start()
    agent = new_secrets_agent().start()
    key_pair(new_stream(agent).subscribe("default").next()["default"])
    csrs = [s.request.csr for s in ca.signed]
    assert len(csrs) == 7
    assert len(set(csrs[:5])) == 1 and len(set(csrs[5:])) == 1 and csrs[0] != csrs[5]


@pytest.mark.parametrize("code, text", [
    (grpc.StatusCode.UNAUTHENTICATED, "status 16 UNAUTHENTICATED: test failure"),
    (grpc.StatusCode.PERMISSION_DENIED, "status 7 PERMISSION_DENIED: test failure"),
    (grpc.StatusCode.INVALID_ARGUMENT, "status 3 INVALID_ARGUMENT: test failure .*SECRET_TTL"),
    (grpc.StatusCode.UNKNOWN, "status 2 UNKNOWN: test failure")])
def test_final_failures_are_not_retried_with_the_same_key(ca, new_secrets_agent, new_stream, code,
                                                          text):
    ca.fail_next(code, 2)
    ca.start()
    agent = new_secrets_agent().start()
    stream = new_stream(agent).subscribe("default")
    agent.wait_log("no workload certificate: istio_ca: .*" + text)
    key_pair(stream.next()["default"])
    first, second, third = ca.signed
    assert len({first.request.csr, second.request.csr, third.request.csr}) == 3
    assert second.at - first.at >= 0.37  # 500 ms less a quarter
    assert third.at - second.at >= 0.74


def test_token_is_read_for_each_attempt(ca, new_secrets_agent, new_stream):
    ca.start()
    agent = new_secrets_agent(token="expired").start()
    stream = new_stream(agent).subscribe("default")
    agent.wait_log("status 16 UNAUTHENTICATED: request authenticate failure")
    agent.write("var/run/secrets/tokens/istio-token", ca.token + "\n")
    key_pair(stream.next()["default"])
    assert ca.signed[0].metadata["authorization"] == "Bearer expired"


def test_without_a_token_the_ca_decides(ca, new_secrets_agent, new_stream):
    ca.token = None
    ca.start()
    agent = new_secrets_agent(token=None).start()
    key_pair(new_stream(agent).subscribe("default").next()["default"])
    assert "authorization" not in ca.signed[0].metadata


def test_token_that_is_none_is_not_sent(ca, new_secrets_agent, new_stream):
    ca.start()
    agent = new_secrets_agent(token="two words\nx-evil: 1").start()
    stream = new_stream(agent).subscribe("default")
    agent.wait_log("no workload certificate: .*token")
    assert ca.signed == []
    assert "two words" not in agent.log()
    agent.write("var/run/secrets/tokens/istio-token", ca.token)
    key_pair(stream.next()["default"])


def test_cert_signer_is_passed_on(ca, new_secrets_agent, new_stream):
    ca.start()
    agent = new_secrets_agent(env={"ISTIO_META_CERT_SIGNER": "clusterissuers/mine"}).start()
    new_stream(agent).subscribe("default").next()
    assert dict(ca.signed[0].request.metadata) == {"CertSigner": "clusterissuers/mine"}


def test_wrong_root_is_named_and_the_right_one_taken_up(ca, new_secrets_agent, new_stream):
    ca.start()
    agent = new_secrets_agent(root_pem=Authority("stranger").root_pem).start()
    stream = new_stream(agent).subscribe("default")
    agent.wait_log("no workload certificate: .*TLS handshake")
    assert ca.signed == []
    agent.write("var/run/secrets/istio/root-cert.pem", ca.authority.root_pem)
    key_pair(stream.next()["default"])


def test_server_of_another_name_is_refused(ca, new_secrets_agent, authority):
    ca.server.tls = authority.issue(["somebody.else"])
    ca.start()
    agent = new_secrets_agent().start()
    agent.wait_log("no workload certificate: .*TLS handshake")
    assert ca.signed == []


def _leaf_of_another_key(authority):
    key = pki.ec.generate_private_key(pki.ec.SECP256R1())
    names = ["spiffe://cluster.local/ns/default/sa/app"]
    return pki.cert_pem(authority.sign(key.public_key(), names)).decode()


def _expired_leaf(authority, csr):
    names = ["spiffe://cluster.local/ns/default/sa/app"]
    return pki.cert_pem(authority.sign(csr.public_key(), names,
                                       not_before=pki.now() - 2 * pki.DAY,
                                       not_after=pki.now() - pki.DAY)).decode()


BAD_ANSWERS = {
    "one": (lambda authority, chain, csr: chain[:1], "1 elements"),
    "no PEM": (lambda authority, chain, csr: ["no PEM", *chain[1:]], "element 1 of 3"),
    "empty root": (lambda authority, chain, csr: [*chain[:-1], ""], "element 3 of 3"),
    "other key": (lambda authority, chain, csr: [_leaf_of_another_key(authority), *chain[1:]],
                  "another key"),
    "expired": (lambda authority, chain, csr: [_expired_leaf(authority, csr), *chain[1:]],
                "ended at"),
    "too many": (lambda authority, chain, csr: chain + [chain[-1]] * 62, "more than 64"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_answer_is_not_served(ca, new_secrets_agent, new_stream, name):
    change, reason = BAD_ANSWERS[name]
    ca.change = lambda chain, csr: change(ca.authority, chain, csr)
    ca.start()
    agent = new_secrets_agent(env={"OUTRIGGER_SDS_WAIT": "200ms"}).start()
    agent.wait_log("no workload certificate: .*" + reason)
    end = new_stream(agent).subscribe("default").end()
    assert end.code == grpc.StatusCode.UNAVAILABLE
    assert reason in end.details


def test_answer_of_nothing_but_elements_costs_no_memory(ca, new_secrets_agent):
    """Half a million empty elements are a megabyte on the wire, and were twenty in memory."""
    ca.change = lambda chain, csr: [""] * 500000
    agent = new_secrets_agent().start()
    agent.wait_log("no workload certificate: .*cannot connect")

    def peak_kib():
        with open(f"/proc/{agent.process.pid}/status", encoding="utf-8") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1))
    before = peak_kib()
    ca.start()
    agent.wait_log("no workload certificate: .*far too many elements")
    assert peak_kib() - before < 12 * 1024


def test_odd_line_ends_and_two_roots_are_served(ca, new_secrets_agent, new_stream):
    stranger = Authority("second root").root_pem.decode()

    def change(chain, csr):
        return [chain[0].replace("\n", "\r\n").rstrip(), *chain[1:-1], stranger + chain[-1]]

    ca.change = change
    ca.start()
    agent = new_secrets_agent().start()
    secrets = new_stream(agent).subscribe("default", "ROOTCA").next()
    _, chain, chain_pem = key_pair(secrets["default"])
    assert len(chain) == 4 and b"\r" not in chain_pem
    both = stranger + ca.authority.root_pem.decode()
    assert roots_pem(secrets["ROOTCA"]) == both.rstrip("\n").encode()


def test_foreign_identity_is_warned_of(ca, new_secrets_agent, new_stream):
    def change(chain, csr):
        leaf = ca.authority.sign(csr.public_key(), ["spiffe://cluster.local/ns/other/sa/other"],
                                 not_after=pki.now() + datetime.timedelta(hours=1))
        return [pki.cert_pem(leaf).decode(), *chain[1:]]

    ca.change = change
    ca.start()
    agent = new_secrets_agent().start()
    key_pair(new_stream(agent).subscribe("default").next()["default"])
    warning, = agent.records("cache", "warn")
    assert "not for the identity that was asked for" in warning["msg"]
    assert agent.spiffe_id in warning["msg"]


@pytest.mark.parametrize("env, text", [
    ({"WORKLOAD_RSA_KEY_SIZE": "3000"}, "WORKLOAD_RSA_KEY_SIZE"),
    ({"ECC_SIGNATURE_ALGORITHM": "foo"}, "ECC_SIGNATURE_ALGORITHM")])
def test_wrong_variables_end_the_start(new_secrets_agent, env, text):
    agent = new_secrets_agent(rsa=True, env=env)
    assert agent.start().wait_exit() == 1
    assert "plugin workload_certs" in agent.log() and text in agent.log()


def test_end_while_the_ca_is_silent(ca, new_secrets_agent, new_cable):
    ca.start()
    cable = new_cable(ca.server.port)
    cable.freeze()
    agent = new_secrets_agent(ca_address=cable.address).start()
    agent.wait_for(lambda: cable.to_far > 0, what="a connection to the CA")
    agent.stop(deadline_s=10)
