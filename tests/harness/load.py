# SPDX-License-Identifier: Apache-2.0
"""The fast peers: xds_load, both ends of a relay (see peers/xds_load.c), and what a load test needs
beside it: the release build, a CA, and an Envoy that only waits."""
import os
import queue
import subprocess
import threading

from .agent import Agent
from .ca import CertificateService
from .envoy import SOURCE_DIR
from .grpc_server import GrpcServer
from .ports import free_port

RELEASE_DIR = os.path.abspath(os.environ.get("RIG_RELEASE_DIR") or
                              os.path.join(SOURCE_DIR, "build/release"))
RELEASE_BINARY = os.path.join(RELEASE_DIR, "bin/outrigger")


def peer(name):
    return os.path.join(RELEASE_DIR, "bin", name)


class XdsLoad:
    """A started xds_load. Each command returns the words of its answer."""

    def __init__(self, authority, directory):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        key, chain = authority.issue(["127.0.0.1", "localhost"])
        paths = {"key": os.path.join(directory, "load-key.pem"),
                 "chain": os.path.join(directory, "load-chain.pem")}
        for name, pem in (("key", key), ("chain", chain)):
            with open(paths[name], "wb") as file:
                file.write(pem)
        self._process = subprocess.Popen(
            [peer("xds_load"), "--listen", self.address, "--chain", paths["chain"], "--key",
             paths["key"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._answers = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.expect("listening")

    @property
    def pid(self):
        return self._process.pid

    def _read(self):
        for line in self._process.stdout:
            self._answers.put(line.split())
        self._answers.put(["ended"])

    def say(self, *words):
        self._process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self._process.stdin.flush()

    def expect(self, word, deadline_s=60):
        try:
            answer = self._answers.get(timeout=deadline_s)
        except queue.Empty:
            raise AssertionError(f"xds_load did not say {word!r} within {deadline_s} s") from None
        assert answer[0] == word, f"xds_load said {answer}, not {word!r}"
        return answer[1:]

    def connect(self, agent):
        self.connect_to(agent.xds_socket)

    def connect_to(self, path):
        self.say("connect", path)
        self.expect("connected")

    def disconnect(self):
        self.say("disconnect")
        self.expect_closed()

    def push(self, octets, deadline_s=120):
        """(octets that were sent, seconds)"""
        self.say("push", octets)
        sent, micros = self.expect("pushed", deadline_s)
        return int(sent), int(micros) / 1e6

    def start(self, octets):
        self.say("start", octets)
        return int(self.expect("started")[0])

    def half(self, octets, sent):
        """Announces a message and sends a part of it; how long it was said to be."""
        self.say("half", octets, sent)
        return int(self.expect("started")[0])

    def reset(self):
        """RST_STREAM upstream; (gRPC code, "reset" or "trailers", "open" or "whole") below."""
        self.say("reset")
        return self.expect_closed()

    def expect_closed(self, deadline_s=60):
        code, how, where = self.expect("closed", deadline_s)[:3]
        return int(code), how, where

    def wait(self, deadline_s=120):
        self.say("wait")
        sent, micros = self.expect("pushed", deadline_s)
        return int(sent), int(micros) / 1e6

    def rate(self, octets_a_second):
        self.say("rate", octets_a_second)
        self.expect("rate")

    def exchange(self, count, octets, deadline_s=120):
        """Seconds for so many small pushes and their ACKs, one after the other."""
        self.say("exchange", count, octets)
        return int(self.expect("exchanged", deadline_s)[1]) / 1e6

    def request(self, octets):
        self.say("request", octets)
        return int(self.expect("requested")[0])

    def taken(self):
        self.say("taken")
        return int(self.expect("taken")[0])

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Bench:
    """An agent of the release build between the two ends of an XdsLoad; its Envoy only waits."""

    def __init__(self, authority, binary=RELEASE_BINARY):
        self.ca = CertificateService(authority)
        self.server = GrpcServer([self.ca], tls=authority.issue(["127.0.0.1"])).start()
        self.agent = Agent(root_pem=authority.root_pem, ca_address=self.server.address,
                           binary=binary,
                           proxy_config={"binaryPath": peer("startup")})
        self.agent.env["RIG_STAMP_FILE"] = self.agent.path("envoy-stamp")
        self.load = XdsLoad(authority, self.agent.dir)
        self.agent.proxy_config["discoveryAddress"] = self.load.address

    def start(self):
        self.agent.start()
        self.agent.wait_for(lambda: os.path.exists(self.agent.xds_socket), what="the XDS socket")
        self.ca.wait_for_signed()
        self.load.connect(self.agent)
        return self

    def close(self):
        self.load.close()
        self.agent.discard()
        self.server.kill()
