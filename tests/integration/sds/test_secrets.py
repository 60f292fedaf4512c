# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates from a real CA to a real gRPC client, and the rules of the streams."""
import os
import re
import socket

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc

from harness import pki
from harness.memory_scan import occurrences
from harness.secret_stream import SECRET_TYPE, key_pair, roots_pem
from harness.wait import wait_for


def test_key_chain_and_roots_are_what_the_ca_signed(ca, new_secrets_agent, new_stream):
    ca.start()
    agent = new_secrets_agent(rsa=True).start()
    default = new_stream(agent).subscribe("default")
    roots = new_stream(agent).subscribe("ROOTCA")
    key, chain, chain_pem = key_pair(default.next()["default"])
    signed, = ca.signed

    assert isinstance(key, rsa.RSAPrivateKey) and key.key_size == 2048
    assert chain[0] == signed.cert
    assert chain_pem.decode() == "".join(ca.authority.chain_list(signed.cert))
    assert roots_pem(roots.next()["ROOTCA"]) == ca.authority.root_pem.rstrip(b"\n")

    csr, uris = pki.csr_uris(signed.request.csr)
    assert uris == [agent.spiffe_id]
    assert csr.public_key() == key.public_key()
    assert list(csr.subject) == []
    assert [(e.oid, e.critical) for e in csr.extensions] == [
        (x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, True)]
    assert signed.request.validity_duration == 86400
    assert dict(signed.request.metadata) == {"CertSigner": ""}
    assert signed.metadata["authorization"] == "Bearer " + ca.token
    assert signed.metadata["clusterid"] == "Kubernetes"
    assert "x-retry-attempty" not in signed.metadata
    assert 5 < signed.time_remaining_s <= 10


def test_answers_look_like_istios(secrets_agent, new_stream):
    stream = new_stream(secrets_agent).subscribe("default")
    stream.next()
    first = stream.last
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/\d+", first.version_info)
    assert len(first.resources) == 1 and first.resources[0].type_url == SECRET_TYPE
    assert not first.HasField("control_plane")
    other = new_stream(secrets_agent).subscribe("ROOTCA")
    other.next()
    assert first.nonce and other.last.nonce not in ("", first.nonce)


@pytest.mark.parametrize("options, header", [
    ({"rsa": True}, b"-----BEGIN RSA PRIVATE KEY-----\n"),
    ({}, b"-----BEGIN EC PRIVATE KEY-----\n"),
    ({"env": {"PKCS8_KEY": "true"}}, b"-----BEGIN PRIVATE KEY-----\n")])
def test_key_text_is_of_the_kind_asked_for(ca, new_secrets_agent, new_stream, options, header):
    ca.start()
    agent = new_secrets_agent(**options).start()
    secret = new_stream(agent).subscribe("default").next()["default"]
    assert secret.tls_certificate.private_key.inline_bytes.startswith(header)
    key_pair(secret)


def test_fifty_streams_cost_one_request(secrets_agent, ca, new_stream):
    streams = [new_stream(secrets_agent).subscribe("default") for _ in range(50)]
    chains = {key_pair(stream.next()["default"])[2] for stream in streams}
    assert len(chains) == 1
    assert len(ca.signed) == 1


def test_certificate_is_made_before_anybody_asks(secrets_agent, ca, new_stream):
    secrets_agent.wait_for(lambda: ca.successes() == 1, what="the warm-up's certificate")
    new_stream(secrets_agent).subscribe("default").next()
    assert len(ca.signed) == 1


def test_site_policy_decides_key_and_lifetime(ca, new_secrets_agent, new_stream):
    ca.start()
    agent = new_secrets_agent(rsa=True, labels={"tier": "edge"})
    agent.write("site/cert_policy.lua", """
        return {
          request = function(ctx)
            assert(ctx.labels.tier == "edge" and ctx.options.key == "rsa-2048")
            return { key = "ecdsa-p384", ttl = "2h" }
          end
        }""")
    key, _, _ = key_pair(new_stream(agent.start()).subscribe("default").next()["default"])
    assert isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 384
    assert ca.signed[0].request.validity_duration == 7200


def test_broken_site_policy_is_said_and_mended_without_restart(ca, new_secrets_agent, new_stream):
    ca.start()
    agent = new_secrets_agent()
    agent.write("site/cert_policy.lua", "return { request = function() return { key = 'dsa' } end }")
    stream = new_stream(agent.start()).subscribe("default")
    agent.wait_log(r"cert_policy\.request: key is a string .*dsa")
    assert ca.signed == []
    agent.write("site/cert_policy.lua", "return {}")
    key_pair(stream.next()["default"])


@pytest.mark.parametrize("kind", ["RSA", "ECDSA"])
def test_key_lies_in_memory_once(ca, new_secrets_agent, new_stream, kind):
    """What carried it to the proxy has been wiped, and so has what OpenSSL made it in."""
    ca.start()
    agent = new_secrets_agent(rsa=kind == "RSA").start()
    for _ in range(3):
        secret = new_stream(agent).subscribe("default").next()["default"]
    key, _, _ = key_pair(secret)
    line = secret.tls_certificate.private_key.inline_bytes.splitlines()[2]
    wait_for(lambda: len(occurrences(agent.pid, line)) == 1, what="one copy of the key's text")
    numbers = key.private_numbers()
    number = (numbers.p.to_bytes(128, "little") if kind == "RSA"
              else numbers.private_value.to_bytes(32, "little"))
    assert occurrences(agent.pid, number) == []
    assert occurrences(agent.pid, number[::-1]) == []


# ---- the rules of a stream ----

def test_name_added_is_answered_alone_and_acks_are_not(secrets_agent, new_stream):
    stream = new_stream(secrets_agent).subscribe("default")
    assert list(stream.next()) == ["default"]
    stream.ack("default")
    stream.ack("default", "ROOTCA")
    assert list(stream.next()) == ["ROOTCA"]
    stream.ack("default", "ROOTCA")
    assert stream.is_silent()
    stream.ack("ROOTCA")  # one name less
    stream.ack()          # unsubscribed
    assert stream.is_silent()
    stream.ack("default")
    assert list(stream.next()) == ["default"]


def test_two_names_come_in_one_answer(secrets_agent, new_stream):
    stream = new_stream(secrets_agent).subscribe("default", "ROOTCA", nonce="of-another-stream")
    assert sorted(stream.next()) == ["ROOTCA", "default"]
    stream.subscribe("ROOTCA")
    assert list(stream.next()) == ["ROOTCA"]


def test_stale_nonce_is_ignored(secrets_agent, new_stream):
    stream = new_stream(secrets_agent).subscribe("default")
    stream.next()
    stream.subscribe("default", "ROOTCA", nonce="long-gone")
    assert stream.is_silent()


def test_nack_is_logged_and_not_answered(secrets_agent, new_stream):
    stream = new_stream(secrets_agent).subscribe("default")
    stream.next()
    stream.nack("default", "ROOTCA", message="Failed to load \u201ckey\u201d\nsecond line")
    assert stream.is_silent()
    secrets_agent.wait_log("Failed to load")
    record, = [r for r in secrets_agent.records("sds", "warn") if "refused secret" in r["msg"]]
    assert "default" in record["msg"] and "code 13" in record["msg"]
    stream.ack("default", "ROOTCA")
    assert list(stream.next()) == ["ROOTCA"]


def test_unknown_names_end_the_stream_and_no_other(secrets_agent, ca, new_channel, new_stream):
    channel = new_channel(secrets_agent)
    living = new_stream(channel).subscribe("default")
    living.next()
    for name in ("nobody", "file-cert:a", "file-cert:a~b~c", "file-root:", "default ", "\0default",
                 "spiffe://cluster.local/ns/a/sa/" + "x" * 5000):
        end = new_stream(channel).subscribe(name).end()
        assert end.code == grpc.StatusCode.INVALID_ARGUMENT
        assert end.details.startswith('unknown secret name "')
        assert len(end.details) < 300
    end = new_stream(channel).subscribe("default", "nobody").end()
    assert (end.code, end.details) == (grpc.StatusCode.INVALID_ARGUMENT,
                                       'unknown secret name "nobody"')
    living.ack("default", "ROOTCA")
    assert list(living.next()) == ["ROOTCA"]
    assert len(ca.signed) == 1


def test_node_is_needed_once(secrets_agent, new_stream):
    end = new_stream(secrets_agent, node_id="").subscribe("default").end()
    assert (end.code, end.details) == (grpc.StatusCode.INVALID_ARGUMENT, "missing node information")
    stream = new_stream(secrets_agent, node_id="x").subscribe("default", node_padding=62_000)
    stream.next()
    stream.subscribe("default")  # without node
    assert list(stream.next()) == ["default"]


def test_other_types_are_refused(secrets_agent, new_stream):
    for type_url in ("type.googleapis.com/envoy.config.cluster.v3.Cluster", ""):
        end = new_stream(secrets_agent).subscribe("default", type_url=type_url).end()
        assert end.code == grpc.StatusCode.INVALID_ARGUMENT
        assert f'"{type_url}"' in end.details


def test_half_closed_stream_ends_well(secrets_agent, new_stream):
    stream = new_stream(secrets_agent).subscribe("default")
    stream.next()
    stream.half_close()
    assert stream.end().code == grpc.StatusCode.OK


def test_delta_and_fetch_are_answered_as_istio_does(secrets_agent, new_channel):
    stub = sds_pb2_grpc.SecretDiscoveryServiceStub(new_channel(secrets_agent))
    with pytest.raises(grpc.RpcError) as fetch:
        stub.FetchSecrets(discovery_pb2.DiscoveryRequest(), wait_for_ready=True)
    assert fetch.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert fetch.value.details() == "FetchSecrets not implemented"
    with pytest.raises(grpc.RpcError) as delta:
        list(stub.DeltaSecrets(iter([discovery_pb2.DeltaDiscoveryRequest()])))
    assert delta.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert delta.value.details() == "DeltaSecrets not implemented"


def test_garbage_ends_its_stream(secrets_agent, new_channel, new_stream):
    channel = new_channel(secrets_agent)
    call = channel.stream_stream("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets")
    with pytest.raises(grpc.RpcError) as err:
        list(call(iter([b"\x1a\xff\xff\xff\xff\x0f"]), wait_for_ready=True))
    assert err.value.code() == grpc.StatusCode.INTERNAL
    assert list(new_stream(channel).subscribe("ROOTCA").next()) == ["ROOTCA"]


def test_stream_that_dies_before_its_answer_leaves_nothing(ca, new_secrets_agent, new_stream):
    agent = new_secrets_agent().start()
    agent.wait_log("serving secrets")
    for _ in range(20):
        stream = new_stream(agent).subscribe("default", "ROOTCA")
        assert stream.is_silent(0.01)
        stream.close()
    ca.start()
    key_pair(new_stream(agent).subscribe("default").next()["default"])


def test_connections_of_others_are_counted(secrets_agent, new_stream):
    """Whoever may open the socket cannot take all descriptors of the agent."""
    def descriptors():
        return len(os.listdir(f"/proc/{secrets_agent.process.pid}/fd"))
    assert "default" in new_stream(secrets_agent).subscribe("default").next()
    before = descriptors()
    others = [socket.socket(socket.AF_UNIX) for _ in range(150)]
    for other in others:
        other.connect(secrets_agent.sds_socket)
        other.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    wait_for(lambda: descriptors() == before + 63, what="as many as there may be")
    for other in others:
        other.close()
    assert "default" in new_stream(secrets_agent).subscribe("default").next()
    assert descriptors() < before + 63


# ---- the socket ----

@pytest.mark.parametrize("leftover", ["socket", "file", "directory"])
def test_leftover_at_the_path_is_replaced(ca, new_secrets_agent, new_stream, leftover):
    ca.start()
    agent = new_secrets_agent()
    if leftover == "socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(agent.sds_socket)
    elif leftover == "file":
        agent.write("var/run/secrets/workload-spiffe-uds/socket", "")
    else:
        os.mkdir(agent.sds_socket)
    agent.start()
    key_pair(new_stream(agent).subscribe("default").next()["default"])
    assert os.stat(agent.sds_socket).st_mode & 0o777 == 0o666
    agent.stop()
    assert not os.path.exists(agent.sds_socket)


def test_living_server_keeps_its_socket(ca, new_secrets_agent):
    ca.start()
    agent = new_secrets_agent()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(agent.sds_socket)
        other.listen()
        assert agent.start().wait_exit() == 1
        assert os.path.exists(agent.sds_socket)
    assert "plugin sds" in agent.log() and "another server answers on" in agent.log()
    assert "workload-spiffe-uds/socket" in agent.log()


def test_socket_path_that_is_too_long_is_named(new_secrets_agent):
    agent = new_secrets_agent(env={"OUTRIGGER_POD_SDS_SOCKET": "/tmp/" + "x" * 103})
    assert agent.start().wait_exit() == 1
    assert "108 octets" in agent.log() and "x" * 103 in agent.log()
