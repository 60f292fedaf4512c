# SPDX-License-Identifier: Apache-2.0
"""A control plane on grpcio and xds-protos: ADS in both variants, and the record of what Envoy
said to it.

It keeps the rules Envoy relies on: an answer for each new subscription, silence for ACKs, stale
nonces ignored, in delta only what changed. What it sends is the test's: `resources`."""
import itertools
import queue
import threading

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2

from .wait import DEADLINE_S, wait_for

PREFIX = "type.googleapis.com/"
CDS = PREFIX + "envoy.config.cluster.v3.Cluster"
EDS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LDS = PREFIX + "envoy.config.listener.v3.Listener"
RDS = PREFIX + "envoy.config.route.v3.RouteConfiguration"
_WILDCARD = (CDS, LDS)


def resource_name(message):
    return message.cluster_name if hasattr(message, "cluster_name") else message.name


class Stream:
    """One ADS stream as the server sees it. `requests` grows until the stream ends."""

    def __init__(self, kind, metadata):
        self.kind = kind          # "sotw" or "delta"
        self.metadata = metadata  # header name -> value, lower case
        self.node = None          # of the first request
        self.requests = []
        self.is_open = True
        self.types = {}           # type URL -> its subscription
        self.outbox = queue.Queue()

    def of(self, type_url):
        return [r for r in self.requests if r.type_url == type_url]

    def acks(self, type_url):
        return [r for r in self.of(type_url)
                if r.response_nonce and not r.HasField("error_detail")]

    def nacks(self, type_url=None):
        return [r for r in self.requests if r.HasField("error_detail")
                and type_url in (None, r.type_url)]


class _Subscription:
    def __init__(self):
        self.names = None     # set, or None for everything
        self.nonce = ""
        self.known = {}       # delta: name -> version the client has


class _Abort:
    def __init__(self, code, details):
        self.code, self.details = code, details


_END = object()


class ControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """token: what `authorization` must be ("Bearer <token>"), None accepts all.
    resources_for: if set, node id -> {type URL: [messages]} takes the place of `resources`."""

    def __init__(self, token=None):
        self.token = token
        self.streams = []
        self.refused = []           # metadata of calls that failed to authenticate
        self._resources = {}        # node id or None (all) -> type URL -> name -> (version, message)
        self._versions = itertools.count(1)
        self._nonces = itertools.count(1)
        self._lock = threading.RLock()
        self._flowing = threading.Event()
        self._flowing.set()

    def register(self, server):
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, server)

    # ---- what a test says ----

    def set(self, type_url, messages, node_id=None, push=True):
        """Replaces all resources of a type, for one node or for all that have none of their
        own; a resource whose content is unchanged keeps its version."""
        with self._lock:
            table = self._resources.setdefault(node_id, {})
            old, new = table.get(type_url, {}), {}
            version = str(next(self._versions))
            for message in messages:
                name = resource_name(message)
                kept = old.get(name)
                new[name] = kept if kept and kept[1] == message else (version, message)
            table[type_url] = new
            if push:
                self.push(type_url)

    def push(self, type_url):
        """Sends the present state to every stream that subscribed to the type."""
        with self._lock:
            for stream in self.open_streams():
                if type_url in stream.types:
                    self._answer(stream, type_url, is_push=True)
                # A changed cluster warms anew and waits for its endpoints, without a request that
                # could be told from an ACK. So istiod sends EDS behind CDS.
                if type_url == CDS and EDS in stream.types:
                    stream.types[EDS].known = {}
                    self._answer(stream, EDS, is_push=True)

    def send(self, response):
        """Sends this very message on every open stream of its kind, whatever it says."""
        kind = "delta" if isinstance(response, discovery_pb2.DeltaDiscoveryResponse) else "sotw"
        for stream in self.open_streams():
            if stream.kind == kind:
                stream.outbox.put(response)

    def pause(self):
        """Sends nothing more, keeps reading."""
        self._flowing.clear()

    def resume(self):
        self._flowing.set()

    def end_streams(self, code=grpc.StatusCode.UNAVAILABLE, details="test ends the stream"):
        for stream in self.open_streams():
            stream.outbox.put(_Abort(code, details))

    def abandon(self):
        """The server is being killed: let the handler threads go."""
        for stream in self.open_streams():
            stream.outbox.put(_END)

    def open_streams(self):
        with self._lock:
            return [s for s in self.streams if s.is_open]

    def wait_for_stream(self, predicate=lambda stream: True, deadline_s=DEADLINE_S, what=None):
        """The newest open stream that fits."""
        return wait_for(lambda: next((s for s in reversed(self.open_streams()) if predicate(s)),
                                     None), deadline_s, what or "an ADS stream")

    def wait_for_ack(self, type_url, deadline_s=DEADLINE_S):
        """The newest open stream whose last answer of this type has been acknowledged."""
        def acked(stream):
            sub = stream.types.get(type_url)
            return sub and sub.nonce and any(r.response_nonce == sub.nonce
                                             for r in stream.acks(type_url))
        return self.wait_for_stream(acked, deadline_s, f"ACK of {type_url}")

    # ---- the two methods ----

    def StreamAggregatedResources(self, request_iterator, context):
        yield from self._serve("sotw", request_iterator, context)

    def DeltaAggregatedResources(self, request_iterator, context):
        yield from self._serve("delta", request_iterator, context)

    def _serve(self, kind, request_iterator, context):
        metadata = dict(context.invocation_metadata())
        if self.token is not None and metadata.get("authorization") != "Bearer " + self.token:
            self.refused.append(metadata)
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "authentication failure")
        stream = Stream(kind, metadata)
        with self._lock:
            self.streams.append(stream)
        reader = threading.Thread(target=self._read, args=(stream, request_iterator), daemon=True)
        reader.start()
        try:
            while True:
                item = stream.outbox.get()
                if item is _END:
                    return
                if isinstance(item, _Abort):
                    context.abort(item.code, item.details)
                while not self._flowing.wait(0.1):
                    if not context.is_active():
                        return
                yield item
        finally:
            stream.is_open = False

    def _read(self, stream, request_iterator):
        handle = self._on_delta if stream.kind == "delta" else self._on_sotw
        try:
            for request in request_iterator:
                with self._lock:
                    if request.HasField("node") and request.node.id:
                        stream.node = request.node
                    stream.requests.append(request)
                    handle(stream, request)
        except grpc.RpcError:
            pass
        except Exception:  # the iterator raises a bare Exception when the call has ended
            if stream.is_open and not stream.outbox.empty():
                raise
        finally:
            stream.is_open = False
            stream.outbox.put(_END)

    def _table(self, stream, type_url):
        node_id = stream.node.id if stream.node is not None else None
        own = self._resources.get(node_id, {})
        return own[type_url] if type_url in own else self._resources.get(None, {}).get(type_url)

    def _on_sotw(self, stream, request):
        sub = stream.types.get(request.type_url)
        is_first = sub is None
        if is_first:
            sub = stream.types[request.type_url] = _Subscription()
        elif request.response_nonce != sub.nonce:
            return  # about an answer that a newer one has overtaken
        names = set(request.resource_names) or (None if request.type_url in _WILDCARD else set())
        changed = is_first or names != sub.names
        sub.names = names
        if changed and not request.HasField("error_detail"):
            self._answer(stream, request.type_url)

    def _on_delta(self, stream, request):
        sub = stream.types.get(request.type_url)
        is_first = sub is None
        if is_first:
            sub = stream.types[request.type_url] = _Subscription()
            sub.names = set()
            sub.known = dict(request.initial_resource_versions)
            if not request.resource_names_subscribe and request.type_url in _WILDCARD:
                sub.names = None
        if "*" in request.resource_names_subscribe:
            sub.names = None
        if sub.names is not None:
            sub.names |= set(request.resource_names_subscribe)
            sub.names -= set(request.resource_names_unsubscribe)
        for name in request.resource_names_unsubscribe:
            sub.known.pop(name, None)
        if is_first or request.resource_names_subscribe:
            for name in request.resource_names_subscribe:
                if not is_first:
                    sub.known.pop(name, None)  # asked again: answered again
            self._answer(stream, request.type_url)

    def _answer(self, stream, type_url, is_push=False):
        table = self._table(stream, type_url)
        if table is None:
            return  # nothing known of this type: as a control plane that is not ready
        sub = stream.types[type_url]
        wanted = {name: entry for name, entry in table.items()
                  if sub.names is None or name in sub.names}
        nonce = f"n{next(self._nonces)}"
        if stream.kind == "sotw":
            if not wanted and type_url not in _WILDCARD:
                return
            response = discovery_pb2.DiscoveryResponse(
                version_info=max((v for v, _ in wanted.values()), key=int, default="0"),
                type_url=type_url, nonce=nonce,
                resources=[_pack(message) for _, message in wanted.values()])
        else:
            changed = {n: e for n, e in wanted.items() if sub.known.get(n) != e[0]}
            removed = [n for n in sub.known if n not in table]
            if is_push and not changed and not removed:
                return
            response = discovery_pb2.DeltaDiscoveryResponse(
                type_url=type_url, nonce=nonce, removed_resources=removed,
                resources=[discovery_pb2.Resource(name=n, version=v, resource=_pack(m))
                           for n, (v, m) in changed.items()])
            sub.known.update({n: v for n, (v, _) in changed.items()})
            for name in removed:
                del sub.known[name]
        sub.nonce = nonce
        stream.outbox.put(response)


def _pack(message):
    if isinstance(message, any_pb2.Any):
        return message
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
