# SPDX-License-Identifier: Apache-2.0
"""A grpcio server on loopback that can be killed and come back on its port."""
from concurrent import futures

import grpc

from .ports import free_port


class GrpcServer:
    """services: objects with register(server). tls: (key PEM, chain PEM), or None for plain."""

    def __init__(self, services, tls=None, port=None):
        self.services, self.tls = services, tls
        self.port = port or free_port()
        self._server = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        assert self._server is None
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=[
            ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
            ("grpc.so_reuseport", 0)])
        for service in self.services:
            service.register(server)
        if self.tls is None:
            bound = server.add_insecure_port(self.address)
        else:
            bound = server.add_secure_port(self.address,
                                           grpc.ssl_server_credentials([self.tls]))
        assert bound == self.port
        server.start()
        self._server = server
        return self

    def kill(self):
        """All connections and calls end now; the port refuses until start()."""
        server, self._server = self._server, None
        if server is not None:
            for service in self.services:
                getattr(service, "abandon", lambda: None)()
            server.stop(None).wait(10)

    def restart(self, tls=None):
        self.kill()
        self.tls = tls or self.tls
        return self.start()
