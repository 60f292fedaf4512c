# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports for programs that must be told theirs beforehand (Envoy's listeners).

Taken below the range the kernel gives to outgoing connections, so that none of these takes the
port between our look and the listener's bind. Whoever can bind port 0 should do that instead."""
import random
import socket

_given = set()


def free_port():
    for _ in range(1000):
        port = random.randint(12000, 32000)
        if port in _given:
            continue
        try:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                with socket.socket(family, socket.SOCK_STREAM) as sock:
                    if family == socket.AF_INET6:
                        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    sock.bind((host, port))
        except OSError:
            continue
        _given.add(port)
        return port
    raise RuntimeError("no free port found")


def free_ports(count):
    return [free_port() for _ in range(count)]
