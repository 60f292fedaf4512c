# SPDX-License-Identifier: Apache-2.0
"""A client of the secret socket that says what Envoy says, and what Envoy would never say."""
import queue
import threading

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.secret.v3 import sds_pb2_grpc

from .wait import DEADLINE_S

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def channel(path):
    """A connection of its own (grpcio would share one between channels of the same target)."""
    return grpc.insecure_channel("unix:" + path, options=[("grpc.use_local_subchannel_pool", 1)])


class StreamEnd(AssertionError):
    """The stream has ended where an answer was expected."""

    def __init__(self, code, details):
        super().__init__(f"{code}: {details}")
        self.code, self.details = code, details


class SecretStream:
    """One StreamSecrets call. Answers are taken with next(); nothing is acknowledged unasked."""

    def __init__(self, over, node_id="sidecar~127.0.0.1~app-0.default~default.svc.cluster.local"):
        self._channel = channel(over) if isinstance(over, str) else over
        self._owns_channel = isinstance(over, str)
        self.node_id = node_id
        self._outbox, self._inbox = queue.Queue(), queue.Queue()
        self._is_first = True
        self.last = None  # the newest answer that was taken
        self._call = sds_pb2_grpc.SecretDiscoveryServiceStub(self._channel).StreamSecrets(
            iter(self._outbox.get, None), wait_for_ready=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for response in self._call:
                self._inbox.put(response)
            self._inbox.put(StreamEnd(grpc.StatusCode.OK, ""))
        except grpc.RpcError as err:
            self._inbox.put(StreamEnd(err.code(), err.details()))

    def send(self, request):
        if self._is_first and self.node_id:
            request.node.id = self.node_id
        self._is_first = False
        self._outbox.put(request)

    def subscribe(self, *names, nonce="", type_url=SECRET_TYPE, node_padding=0):
        request = discovery_pb2.DiscoveryRequest(resource_names=names, type_url=type_url,
                                                 response_nonce=nonce)
        if node_padding:
            request.node.metadata["padding"] = "x" * node_padding
        self.send(request)
        return self

    def ack(self, *names):
        """Of the newest answer; `names`: what it subscribes to from now on."""
        self.send(discovery_pb2.DiscoveryRequest(
            version_info=self.last.version_info, response_nonce=self.last.nonce,
            resource_names=names, type_url=SECRET_TYPE))

    def nack(self, *names, message="not fit"):
        request = discovery_pb2.DiscoveryRequest(response_nonce=self.last.nonce,
                                                 resource_names=names, type_url=SECRET_TYPE)
        request.error_detail.code = 13
        request.error_detail.message = message
        self.send(request)

    def next(self, deadline_s=DEADLINE_S):
        """The next answer as {name: Secret}."""
        try:
            item = self._inbox.get(timeout=deadline_s)
        except queue.Empty:
            raise AssertionError(f"no answer within {deadline_s:g} s") from None
        if isinstance(item, StreamEnd):
            raise item
        self.last = item
        assert item.type_url == SECRET_TYPE
        found = {}
        for resource in item.resources:
            secret = secret_pb2.Secret()
            assert resource.Unpack(secret)
            found[secret.name] = secret
        return found

    def end(self, deadline_s=DEADLINE_S):
        """The StreamEnd that comes next."""
        try:
            answer = self.next(deadline_s)
        except StreamEnd as end:
            return end
        raise AssertionError(f"an answer instead of the end: {list(answer)}")

    def is_silent(self, for_s=0.3):
        """True when nothing comes for so long."""
        try:
            item = self._inbox.get(timeout=for_s)
        except queue.Empty:
            return True
        self._inbox.put(item)
        return False

    def half_close(self):
        self._outbox.put(None)

    def close(self):
        self._call.cancel()
        self._outbox.put(None)
        if self._owns_channel:
            self._channel.close()


def key_pair(secret):
    """(private key, certificates of the chain, chain text); key and leaf must fit."""
    chain_pem = secret.tls_certificate.certificate_chain.inline_bytes
    key = serialization.load_pem_private_key(secret.tls_certificate.private_key.inline_bytes, None)
    chain = x509.load_pem_x509_certificates(chain_pem)
    assert chain[0].public_key() == key.public_key()
    return key, chain, chain_pem


def roots_pem(secret):
    return secret.validation_context.trusted_ca.inline_bytes
