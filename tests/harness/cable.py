# SPDX-License-Identifier: Apache-2.0
"""A TCP relay to put between two peers, so that a test can count, stop and cut what flows.

It moves octets and knows no protocol: TLS goes through it untouched."""
import select
import socket
import struct
import threading

from .wait import DEADLINE_S, wait_for


class _Link:
    def __init__(self, near, far):
        self.near, self.far = near, far
        self.lock = threading.Lock()
        self.is_open = True

    def close(self, with_reset):
        with self.lock:
            if not self.is_open:
                return
            self.is_open = False
            for sock in (self.near, self.far):
                if with_reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()


class Cable:
    """to_near: octets delivered to who connected here; to_far: the other way."""

    def __init__(self, target_port, target_host="127.0.0.1"):
        self.target = (target_host, target_port)
        self.to_near = self.to_far = 0
        self.accepted = 0
        self.is_plugged = True      # False: new connections are reset
        self._links = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._cut_at = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def links(self):
        return [link for link in self._links if link.is_open]

    def cut(self, with_reset=True):
        """All connections end now, as when the peer is killed (reset) or exits (FIN)."""
        for link in list(self._links):
            link.close(with_reset)

    def cut_after(self, octets):
        """Cuts as soon as this many more octets have been delivered to the near side."""
        self._cut_at = self.to_near + octets

    def unplug(self):
        self.is_plugged = False
        self.cut()

    def plug(self):
        self.is_plugged = True

    def freeze(self):
        """Nothing flows towards the near side until thaw()."""
        self._flowing.clear()

    def thaw(self):
        self._flowing.set()

    def wait_for_octets(self, octets, deadline_s=DEADLINE_S):
        """Until this many octets in all have been delivered to the near side."""
        wait_for(lambda: self.to_near >= octets, deadline_s, f"{octets} octets through the cable")

    def close(self):
        self._listener.close()
        self.thaw()
        self.cut()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection(self.target, timeout=5)
            except OSError:
                far = None
            if far is None or not self.is_plugged:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                near.close()
                if far is not None:
                    far.close()
                continue
            far.settimeout(None)
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(near, far)
            self._links.append(link)
            threading.Thread(target=self._pump, args=(link, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(link, False), daemon=True).start()

    def _pump(self, link, is_to_near):
        source, sink = (link.far, link.near) if is_to_near else (link.near, link.far)
        try:
            while link.is_open:
                if not select.select([source], [], [], 0.2)[0]:
                    continue
                while is_to_near and link.is_open and not self._flowing.wait(0.2):
                    pass
                data = source.recv(65536)
                if not data:
                    break
                sink.sendall(data)
                if is_to_near:
                    self.to_near += len(data)
                    if self._cut_at is not None and self.to_near >= self._cut_at:
                        self._cut_at = None
                        self.cut()
                else:
                    self.to_far += len(data)
        except (OSError, ValueError):
            pass
        link.close(with_reset=False)
