# SPDX-License-Identifier: Apache-2.0
"""ADS on grpcio with messages as octets, on both ends, so that a test can demand that what comes
out is what went in, octet by octet; and the messages, built with xds-protos or by hand."""
import os
import queue
import threading

import grpc
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from .raw_h2 import ADS
from .wait import DEADLINE_S, wait_for

METHODS = {"sotw": ADS + "StreamAggregatedResources", "delta": ADS + "DeltaAggregatedResources"}
_END = object()


class ServerStream:
    def __init__(self, kind, context):
        self.kind, self._context = kind, context
        self.metadata = dict(context.invocation_metadata())
        self.requests = []      # octets
        self.is_open = True
        self.has_half_closed = False
        self._outbox = queue.Queue()

    def send(self, octets):
        self._outbox.put(octets)

    def end(self, code=grpc.StatusCode.OK, details=""):
        self._outbox.put((code, details))

    def wait_requests(self, count, deadline_s=DEADLINE_S):
        wait_for(lambda: len(self.requests) >= count, deadline_s,
                 f"request {count} at the control plane")
        return self.requests


class AdsServer:
    """For GrpcServer. refuses: (code, details), every call ends so."""

    def __init__(self, refuses=None):
        self.streams = []
        self.refuses = refuses

    def register(self, server):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
            ADS.strip("/"), {
                path.rpartition("/")[2]: grpc.stream_stream_rpc_method_handler(
                    lambda requests, context, kind=kind: self._serve(kind, requests, context))
                for kind, path in METHODS.items()}),))

    def open_streams(self):
        return [stream for stream in self.streams if stream.is_open]

    def wait_stream(self, count=1, deadline_s=DEADLINE_S):
        """The count-th stream that ever came."""
        wait_for(lambda: len(self.streams) >= count, deadline_s, f"upstream stream {count}")
        return self.streams[count - 1]

    def _serve(self, kind, requests, context):
        stream = ServerStream(kind, context)
        self.streams.append(stream)
        if self.refuses is not None:
            stream.is_open = False
            context.abort(*self.refuses)
        if not context.add_callback(lambda: self._over(stream)):
            stream.is_open = False   # over before it began
            return
        threading.Thread(target=self._read, args=(stream, requests), daemon=True).start()
        while True:
            item = stream._outbox.get()
            if item is _END:
                return
            if isinstance(item, tuple):
                code, details = item
                if code == grpc.StatusCode.OK:
                    return
                context.abort(code, details)
            yield item

    @staticmethod
    def _over(stream):
        stream.is_open = False
        stream._outbox.put(_END)

    @staticmethod
    def _read(stream, requests):
        try:
            for request in requests:
                stream.requests.append(request)
            stream.has_half_closed = True
        except Exception:  # grpcio raises a bare Exception when the call has ended
            pass


class AdsClient:
    """Envoy's side: one stream on its own connection, as Envoy's xds-grpc cluster makes it."""

    def __init__(self, path, kind="sotw", first=(), channel=None):
        self.kind = kind
        self.responses = []     # octets
        self._outbox = queue.Queue()
        self._owned = channel is None
        self.channel = channel or grpc.insecure_channel(f"unix:{path}", options=[
            ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1)])
        for octets in first:
            self.send(octets)
        self.call = self.channel.stream_stream(METHODS[kind])(iter(self._outbox.get, _END))
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, octets):
        self._outbox.put(octets)

    def half_close(self):
        self._outbox.put(_END)

    def _read(self):
        try:
            for response in self.call:
                self.responses.append(response)
        except grpc.RpcError:
            pass

    def wait_responses(self, count, deadline_s=DEADLINE_S):
        wait_for(lambda: len(self.responses) >= count or self.call.done(), deadline_s,
                 f"response {count} at Envoy")
        assert len(self.responses) >= count, f"stream ended: {self.status()}"
        return self.responses

    def wait_end(self, deadline_s=DEADLINE_S):
        wait_for(self.call.done, deadline_s, "end of Envoy's stream")
        return self.status()

    def status(self):
        return self.call.code(), self.call.details()

    def close(self):
        self.half_close()
        self.call.cancel()
        if self._owned:
            self.channel.close()


# ---- messages ----

def _varint(value):
    octets = b""
    while value >= 0x80:
        octets += bytes([value & 0x7f | 0x80])
        value >>= 7
    return octets + bytes([value])


def field(number, octets):
    if isinstance(octets, str):
        octets = octets.encode()
    return _varint(number << 3 | 2) + _varint(len(octets)) + octets


def big_response(kind, type_url, octets, nonce="big", version="v-big"):
    """A response of one resource of `type_url` with a body of so many random octets."""
    body = field(1, type_url) + field(2, os.urandom(octets))
    if kind == "delta":
        body = field(1, version) + field(2, body) + field(3, "bulk")
    return field(1, version) + field(2, body) + field(4, type_url) + field(5, nonce)


def response(kind, type_url, messages=(), nonce="n1", version="v1", removed=()):
    """As istiod marshals it; messages are protobuf messages or (type URL, octets)."""
    packed = []
    for message in messages:
        if isinstance(message, tuple):
            packed.append(any_pb2.Any(type_url=message[0], value=message[1]))
        else:
            packed.append(any_pb2.Any())
            packed[-1].Pack(message)
    if kind == "sotw":
        return discovery_pb2.DiscoveryResponse(
            version_info=version, resources=packed, type_url=type_url,
            nonce=nonce).SerializeToString()
    return discovery_pb2.DeltaDiscoveryResponse(
        system_version_info=version, type_url=type_url, nonce=nonce, removed_resources=removed,
        resources=[discovery_pb2.Resource(name=f"r{i}", version=version, resource=each)
                   for i, each in enumerate(packed)]).SerializeToString()


def request(kind, type_url, nonce="", version="", node_id=None, names=(), error=None):
    if kind == "sotw":
        message = discovery_pb2.DiscoveryRequest(type_url=type_url, response_nonce=nonce,
                                                 version_info=version, resource_names=names)
    else:
        message = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce,
                                                      resource_names_subscribe=names)
    if node_id is not None:
        message.node.id = node_id
    if error is not None:
        message.error_detail.code, message.error_detail.message = 13, error
    return message.SerializeToString()
