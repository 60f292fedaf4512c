# SPDX-License-Identifier: Apache-2.0
"""The embedded control plane as a process, its tokens, and a plain gRPC client of it."""
import base64
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from .agent import BINARY, sanitizer_env
from .ca import CertificateRequest, CertificateResponse
from .envoy import http_get
from .ports import free_port
from .wait import DEADLINE_S, wait_for

TOKEN_ISSUER = "outrigger-standalone"
TRUST_DOMAIN = "cluster.local"


def spiffe(namespace, service_account):
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}"


# frontend calls orders (HTTP), which lets only it in, and store (TCP), which lets nobody in.
SHOP = {
    "services": [
        {"name": "orders", "namespace": "shop", "port": 18080, "workloadPort": 19090,
         "endpoints": [{"address": "127.0.0.1", "port": 15106}],
         "allow": [spiffe("shop", "frontend")]},
        {"name": "store", "namespace": "shop", "protocol": "tcp", "port": 18081,
         "workloadPort": 19091,
         "endpoints": [{"address": "127.0.0.1", "port": 15107},
                       {"address": "127.0.0.2", "port": 15108}],
         "allow": []},
        {"name": "secret", "namespace": "ops", "port": 18082, "workloadPort": 19092,
         "endpoints": [{"address": "127.0.0.1", "port": 15109}],
         "clients": [spiffe("ops", "admin")]},
    ],
}


class Standalone:
    """mesh: the mesh file as a dict (JSON is YAML), or as text."""

    def __init__(self, mesh, arguments=()):
        self.dir = tempfile.mkdtemp(prefix="rig-")
        self.state_dir = self.path("state")
        self.status_port = free_port()
        self.arguments = list(arguments)
        self.process = None
        self.write_mesh(mesh)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write_mesh(self, mesh):
        with open(self.path("mesh.yaml"), "w", encoding="utf-8") as file:
            file.write(mesh if isinstance(mesh, str) else json.dumps(mesh, indent=1))

    def _env(self):
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), **sanitizer_env()}

    # ---- the process ----

    def start(self, address="127.0.0.1:0"):
        """Returns once it serves."""
        command = [BINARY, "standalone", "--file", "mesh.yaml", "--state-dir", "state",
                   "--address", address, "--address-file", "address",
                   "--status-address", f"127.0.0.1:{self.status_port}", *self.arguments]
        with open(self.path("log"), "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.dir, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=self._env(),
                                            start_new_session=True)
        self.wait_for(lambda: os.path.exists(self.path("address")), what="address file")
        return self

    def run_to_end(self, deadline_s=DEADLINE_S):
        """For starts that must fail: (exit status, what it said)."""
        done = subprocess.run([BINARY, "standalone", "--file", "mesh.yaml", "--state-dir", "state",
                               "--address", "127.0.0.1:0", *self.arguments], cwd=self.dir,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=deadline_s, env=self._env(), check=False)
        return done.returncode, done.stdout + done.stderr

    def stop(self, expect=0):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(DEADLINE_S)
        self.process = None
        assert status == expect, f"exit status {status}, not {expect}:\n{self.log()[-6000:]}"

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)

    def wait_for(self, predicate, what=None):
        def alive_and():
            value = predicate()
            if not value and self.process.poll() is not None:
                raise AssertionError(f"it exited with {self.process.returncode} while waiting for "
                                     f"{what}:\n{self.log()[-6000:]}")
            return value
        return wait_for(alive_and, what=what)

    def log(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    @property
    def address(self):
        with open(self.path("address"), encoding="ascii") as file:
            return file.read()

    @property
    def root_pem(self):
        with open(os.path.join(self.state_dir, "root-cert.pem"), "rb") as file:
            return file.read()

    def status(self):
        code, body = http_get(self.status_port, "/status")
        assert code == 200, f"/status: {code} {body}"
        return json.loads(body)["plugins"]["standalone"]

    # ---- tokens ----

    def token_command(self, *arguments):
        return subprocess.run([BINARY, "token", *arguments], cwd=self.dir, capture_output=True,
                              text=True, timeout=DEADLINE_S, env=self._env(), check=False)

    def token(self, namespace, service_account, **options):
        """By `outrigger token create`; options as flags, `_` for `-`."""
        arguments = ["create", "--state-dir", "state", "--namespace", namespace,
                     "--service-account", service_account]
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), value]
        done = self.token_command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def sign_token(self, claims, header=None, key=None):
        """A token of any claims, by the state directory's key or another."""
        return sign_token(claims, key or self.token_key(), header)

    def token_key(self):
        with open(os.path.join(self.state_dir, "token-key.pem"), "rb") as file:
            return serialization.load_pem_private_key(file.read(), None)

    # ---- clients ----

    def channel(self, root_pem=None, server_name=None):
        options = [("grpc.max_receive_message_length", -1)]
        if server_name:
            options.append(("grpc.ssl_target_name_override", server_name))
        credentials = grpc.ssl_channel_credentials(root_pem or self.root_pem)
        return grpc.secure_channel(self.address, credentials, options)

    def create_certificate(self, csr, token=None, validity=3600, metadata=None, channel=None):
        """The call's answer; grpc.RpcError as it comes."""
        channel = channel or self.channel()
        method = channel.unary_unary(
            "/istio.v1.auth.IstioCertificateService/CreateCertificate",
            request_serializer=CertificateRequest.SerializeToString,
            response_deserializer=CertificateResponse.FromString)
        request = CertificateRequest(csr=csr, validity_duration=validity)
        if metadata:
            request.metadata.update(metadata)
        try:
            return method(request, timeout=DEADLINE_S, metadata=bearer(token))
        finally:
            channel.close()


def bearer(token):
    return [("authorization", "Bearer " + token)] if token is not None else []


def _b64(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def sign_token(claims, key, header=None):
    head = header or {"alg": "ES256", "typ": "JWT"}
    text = _b64(json.dumps(head).encode()) + b"." + _b64(json.dumps(claims).encode())
    r, s = utils.decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    return (text + b"." + _b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def claims_of(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def good_claims(namespace="shop", service_account="orders", **changes):
    now = int(time.time())
    claims = {"iss": TOKEN_ISSUER, "sub": f"system:serviceaccount:{namespace}:{service_account}",
              "aud": ["istio-ca"], "iat": now, "exp": now + 600, **changes}
    return {name: value for name, value in claims.items() if value is not None}


class AdsClient:
    """One ADS stream. request(...) sends, response() waits for the next answer."""

    def __init__(self, standalone, token, node_id="sidecar~127.0.0.1~a.b~c", delta=False,
                 channel=None):
        self.delta = delta
        self.node = base_pb2.Node(id=node_id) if node_id is not None else None
        self.error = None
        self._channel = channel or standalone.channel()
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        self._requests = queue.Queue()
        self._responses = queue.Queue()
        method = stub.DeltaAggregatedResources if delta else stub.StreamAggregatedResources
        self.call = method(iter(self._requests.get, None), metadata=bearer(token))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for response in self.call:
                self._responses.put(response)
            self.error = (grpc.StatusCode.OK, "")
        except grpc.RpcError as err:
            self.error = (err.code(), err.details())
        self._responses.put(None)

    def request(self, type_url, nonce="", error=None, **fields):
        kind = discovery_pb2.DeltaDiscoveryRequest if self.delta else discovery_pb2.DiscoveryRequest
        request = kind(type_url=type_url, response_nonce=nonce, **fields)
        if error is not None:
            request.error_detail.code = 13
            request.error_detail.message = error
        if self.node is not None:
            request.node.CopyFrom(self.node)
            self.node = None
        self._requests.put(request)

    def response(self, deadline_s=DEADLINE_S):
        try:
            response = self._responses.get(timeout=deadline_s)
        except queue.Empty:
            raise AssertionError(f"no response within {deadline_s:g} s") from None
        assert response is not None, f"the stream ended: {self.error}"
        return response

    def ask(self, type_url, **fields):
        self.request(type_url, **fields)
        response = self.response()
        assert response.type_url == type_url
        return response

    def end(self, deadline_s=DEADLINE_S):
        """Waits for the stream's end: (code, details)."""
        while self.error is None or not self._responses.empty():
            if self._responses.get(timeout=deadline_s) is None:
                break
        return self.error

    def close(self):
        self._requests.put(None)
        self.call.cancel()
        self._channel.close()
