# SPDX-License-Identifier: Apache-2.0
"""Envoy's admin port."""
import http.client
import json
import os

from .wait import DEADLINE_S, wait_for

SOURCE_DIR = os.path.abspath(os.environ.get("RIG_SOURCE_DIR") or
                             os.path.join(os.path.dirname(__file__), "../.."))
ENVOY = os.environ.get("RIG_ENVOY") or os.path.realpath(
    os.path.join(SOURCE_DIR, ".deps/envoy/envoy"))


def http_get(port, path, method="GET", timeout_s=10, host="127.0.0.1"):
    """(status, body text)"""
    conn = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        conn.request(method, path)
        answer = conn.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        conn.close()


class EnvoyAdmin:
    def __init__(self, port):
        self.port = port

    def get(self, path):
        status, body = http_get(self.port, path)
        assert status == 200, f"admin {path}: {status} {body}"
        return body

    def post(self, path):
        return http_get(self.port, path, method="POST")

    def is_ready(self):
        try:
            return http_get(self.port, "/ready")[0] == 200
        except OSError:
            return False

    def wait_ready(self, deadline_s=DEADLINE_S):
        wait_for(self.is_ready, deadline_s, f"Envoy with admin port {self.port} LIVE")

    def stats(self, pattern=""):
        """{name: number} of counters and gauges whose name matches the pattern."""
        body = self.get("/stats?filter=" + pattern)
        found = {}
        for line in body.splitlines():
            name, _, value = line.partition(": ")
            if value.isdigit():
                found[name] = int(value)
        return found

    def stat(self, name):
        return self.stats("^" + name.replace(".", r"\.") + "$").get(name, 0)

    def wait_stat(self, name, least, deadline_s=DEADLINE_S):
        return wait_for(lambda: self.stat(name) >= least, deadline_s, f"{name} >= {least}")

    def config_dump(self, resource=None):
        return json.loads(self.get("/config_dump" + (f"?resource={resource}" if resource else "")))

    def certs(self):
        return json.loads(self.get("/certs"))["certificates"]

    def wait_certificate(self, deadline_s=DEADLINE_S):
        """The first leaf certificate Envoy holds (from /certs)."""
        return wait_for(lambda: next((c["cert_chain"][0] for c in self.certs()
                                      if c.get("cert_chain")), None),
                        deadline_s, "a certificate in Envoy")
