# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 and gRPC by hand (RFC 9113), for what no real peer can be made to do: half a message, a
reset in the middle of one, a reader that stops. Client on a Unix socket, server on TLS.

Header blocks are written without compression and, where received, not read: a test that needs a
status or metadata has a grpcio peer for it."""
import select
import socket
import ssl
import struct
import threading
import time

from .wait import DEADLINE_S, wait_for

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = \
    0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 2, 8, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
SOTW, DELTA = ADS + "StreamAggregatedResources", ADS + "DeltaAggregatedResources"


def header_block(*headers):
    """Literals without indexing, RFC 7541 6.2.2."""
    block = b""
    for name, value in headers:
        for text in (name, value):
            assert len(text) < 127
        block += b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return block


def message(payload):
    return struct.pack(">BI", 0, len(payload)) + payload


class Stream:
    def __init__(self, window):
        self.window = window       # octets we may still send
        self.window_most = window  # and the most we ever might
        self.received = 0          # octets of DATA
        self.header_blocks = 0     # response headers and trailers
        self.is_ended = False      # END_STREAM from the peer
        self.reset_code = None     # RST_STREAM from the peer
        self.messages = []         # complete ones: their length, or bytes if kept
        self._prefix = b""
        self._left = None
        self._parts = []

    def open_octets(self):
        """Payload octets here of the message that is not complete."""
        return 0 if self._left is None else self._length - self._left

    def is_over(self):
        return self.is_ended or self.reset_code is not None

    def take(self, data, keeps):
        self.received += len(data)
        while data or self._left == 0:
            if self._left is None:
                need = 5 - len(self._prefix)
                self._prefix += data[:need]
                data = data[need:]
                if len(self._prefix) < 5:
                    return
                flag, self._length = struct.unpack(">BI", self._prefix)
                assert flag == 0
                self._left = self._length
            part = data[:self._left]
            data = data[len(part):]
            self._left -= len(part)
            if keeps:
                self._parts.append(part)
            if self._left == 0:
                self.messages.append(b"".join(self._parts) if keeps else self._length)
                self._prefix, self._left, self._parts = b"", None, []


class Connection:
    """One end of a connection; a thread reads. `keeps`: complete messages are kept as bytes.
    rate: octets a second that are read, None as they come; hold() stops reading, go() goes on."""

    def __init__(self, sock, is_client, window=16 << 20, keeps=False, rate=None, on_stream=None):
        self.sock, self.is_client, self.keeps, self.rate = sock, is_client, keeps, rate
        self.streams = {}
        self.is_lost = False
        self.goaways = []           # error codes
        self.pings_answered = True  # False: a peer that looks dead
        self.ping_times = []        # monotonic, of PINGs received
        self._on_stream = on_stream
        self._window = 65535        # of the connection, octets we may still send
        self._peer_initial = 65535
        self._max_frame = 16384
        self._next_id = 1
        self._lock = threading.RLock()
        self._io = threading.Lock()
        sock.setblocking(False)
        self._has_window = threading.Condition(self._lock)
        self._reading = threading.Event()
        self._reading.set()
        settings = struct.pack(">HIHI", 4, window, 2, 0) if is_client else \
            struct.pack(">HI", 4, window)
        self._send((PREFACE if is_client else b"") + self._frame(SETTINGS, 0, 0, settings) +
                   self._frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", window - 65535)))
        threading.Thread(target=self._run, daemon=True).start()

    # ---- out ----

    @staticmethod
    def _frame(kind, flags, stream_id, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + \
            struct.pack(">I", stream_id) + payload

    def _send(self, octets):
        """With _lock held. One SSL object is not for two threads at once: _io, never while
        waiting."""
        view = memoryview(octets)
        try:
            while len(view) > 0 and not self.is_lost:
                try:
                    with self._io:
                        view = view[self.sock.send(view):]
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    select.select([], [self.sock], [], 0.2)
        except (OSError, ValueError):
            self._lose()

    def send_frame(self, kind, flags, stream_id, payload=b""):
        with self._lock:
            self._send(self._frame(kind, flags, stream_id, payload))

    def request(self, path=SOTW):
        """Client: opens a stream; its id."""
        with self._lock:
            stream_id, self._next_id = self._next_id, self._next_id + 2
            self.streams[stream_id] = Stream(self._peer_initial)
            self.send_frame(HEADERS, END_HEADERS, stream_id, header_block(
                (":method", "POST"), (":scheme", "http"), (":authority", "xds-grpc"),
                (":path", path), ("te", "trailers"), ("content-type", "application/grpc")))
        return stream_id

    def respond(self, stream_id):
        """Server: response headers."""
        self.send_frame(HEADERS, END_HEADERS, stream_id, header_block(
            (":status", "200"), ("content-type", "application/grpc")))

    def trailers(self, stream_id, status, text=""):
        self.send_frame(HEADERS, END_HEADERS | END_STREAM, stream_id, header_block(
            ("grpc-status", str(status)), ("grpc-message", text)))

    def reset(self, stream_id, code):
        self.send_frame(RST_STREAM, 0, stream_id, struct.pack(">I", code))

    def goaway(self, last_id, code, debug=b""):
        self.send_frame(GOAWAY, 0, 0, struct.pack(">II", last_id, code) + debug)

    def write(self, stream_id, octets, deadline_s=DEADLINE_S, flags=0):
        """DATA, as the peer's windows allow; returns how much was sent by the deadline."""
        view, done = memoryview(octets), 0
        end = time.monotonic() + deadline_s
        while done < len(view):
            with self._lock:
                stream = self.streams[stream_id]
                while min(self._window, stream.window) <= 0:
                    left = end - time.monotonic()
                    if left <= 0 or self.is_lost or stream.is_over():
                        return done
                    self._has_window.wait(min(left, 0.2))
                size = min(self._window, stream.window, self._max_frame, len(view) - done)
                self._window -= size
                stream.window -= size
                self._send(self._frame(DATA, flags, stream_id, bytes(view[done:done + size])))
            if self.is_lost:
                return done
            done += size
        return done

    def close(self, with_reset=False):
        if with_reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._lose()
        self._reading.set()

    # ---- in ----

    def hold(self):
        self._reading.clear()

    def go(self):
        self._reading.set()

    def wait(self, predicate, what, deadline_s=DEADLINE_S):
        """predicate() true; a lost connection ends the wait."""
        return wait_for(lambda: predicate() or (self.is_lost and predicate()), deadline_s, what)

    def _lose(self):
        with self._lock:
            self.is_lost = True
            try:
                self.sock.close()
            except OSError:
                pass
            self._has_window.notify_all()

    def _recv(self, size):
        octets = bytearray()
        while len(octets) < size:
            self._reading.wait()
            try:
                with self._io:
                    part = self.sock.recv(min(size - len(octets), 65536))
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                select.select([self.sock], [], [], 0.2)
                continue
            if not part:
                raise OSError("end of stream")
            octets += part
        return bytes(octets)

    def _run(self):
        started, total = time.monotonic(), 0
        try:
            if not self.is_client:
                assert self._recv(len(PREFACE)) == PREFACE
            while True:
                head = self._recv(9)
                size = int.from_bytes(head[:3], "big")
                payload = self._recv(size)
                with self._lock:
                    self._on_frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                if self.rate and head[3] == DATA:
                    total += size
                    ahead = total / self.rate - (time.monotonic() - started)
                    if ahead > 0.005:
                        time.sleep(ahead)
        except (OSError, ValueError):
            self._lose()

    def _on_frame(self, kind, flags, stream_id, payload):
        if kind == DATA:
            if payload:
                update = struct.pack(">I", len(payload))
                self._send(self._frame(WINDOW_UPDATE, 0, 0, update) +
                           self._frame(WINDOW_UPDATE, 0, stream_id, update))
            stream = self.streams[stream_id]
            if flags & PADDED:
                payload = payload[1:len(payload) - payload[0]]
            stream.take(payload, self.keeps)
            stream.is_ended = stream.is_ended or bool(flags & END_STREAM)
        elif kind == HEADERS:
            is_new = stream_id not in self.streams
            if is_new:
                self.streams[stream_id] = Stream(self._peer_initial)
            stream = self.streams[stream_id]
            stream.header_blocks += 1
            stream.is_ended = stream.is_ended or bool(flags & END_STREAM)
            if is_new and self._on_stream is not None:
                threading.Thread(target=self._on_stream, args=(self, stream_id),
                                 daemon=True).start()
        elif kind == RST_STREAM:
            if stream_id in self.streams:
                self.streams[stream_id].reset_code = int.from_bytes(payload, "big")
            self._has_window.notify_all()
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                key, value = struct.unpack_from(">HI", payload, at)
                if key == 4:
                    for stream in self.streams.values():
                        stream.window += value - self._peer_initial
                        stream.window_most = max(stream.window_most, stream.window)
                    self._peer_initial = value
                elif key == 5:
                    self._max_frame = value
            self._send(self._frame(SETTINGS, ACK, 0))
            self._has_window.notify_all()
        elif kind == PING and not flags & ACK:
            self.ping_times.append(time.monotonic())
            if not self.pings_answered:
                return
            self._send(self._frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack_from(">I", payload, 4)[0])
        elif kind == WINDOW_UPDATE:
            size = int.from_bytes(payload, "big") & 0x7fffffff
            if stream_id == 0:
                self._window += size
            elif stream_id in self.streams:
                stream = self.streams[stream_id]
                stream.window += size
                stream.window_most = max(stream.window_most, stream.window)
            self._has_window.notify_all()


def connect(path, **options):
    """A client on a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE_S)
    sock.connect(path)
    return Connection(sock, True, **options)


class Server:
    """on_stream(connection, stream id) runs in a thread of its own for each request. tls: (key
    PEM, chain PEM); None: plain."""

    def __init__(self, on_stream, tls=None, window=65536, tmp_path=None):
        self.connections = []
        self._on_stream, self._window = on_stream, window
        self._context = None
        if tls is not None:
            pem = tmp_path / "raw-h2.pem"
            pem.write_bytes(tls[0] + tls[1])
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(pem)
            self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self._listener.close()
        for connection in self.connections:
            connection.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                if self._context is not None:
                    sock = self._context.wrap_socket(sock, server_side=True)
                self.connections.append(Connection(sock, False, window=self._window,
                                                   on_stream=self._on_stream))
            except OSError:
                sock.close()
