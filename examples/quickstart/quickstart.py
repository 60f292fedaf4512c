#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The quickstart's story: a control plane, two sidecars, one request; then who is refused.

Called by run.sh, which has seen to the program and to Envoy. Everything that is started here is
ended here, whatever happens; everything that is shown was asked of the running parts."""
import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import screen
from parts import (Failure, Interrupted, Interruptions, Part, Sidecar, end_all, free_port,
                   get_json, http_get, private_dirty_kb, read, wait_for, write)

HERE = os.path.dirname(os.path.abspath(__file__))


def refusal_of(context, port, leaf):
    """How a TLS server turns us away, in its own words; None when it does not. `leaf` is told
    who the server is, when the handshake gets that far."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock, \
                context.wrap_socket(sock) as tls:
            leaf["uris"] = [value for kind, value in tls.getpeercert()["subjectAltName"]
                            if kind == "URI"]
            # With TLS 1.3 the refusal comes behind the handshake (RFC 8446 section 4.4.2.4). A
            # server that has nothing against us waits for our first word.
            tls.settimeout(2)
            with contextlib.suppress(TimeoutError):
                return None if tls.recv(1) else "the connection was closed"
            return None
    except ssl.SSLError as err:
        words = (err.reason or str(err)).lower().replace("_", " ")
        return re.sub(r"^(tlsv1\d?|sslv3) alert ", "", words)
    except OSError as err:
        return str(err)


class Story:
    def __init__(self, args, interruptions):
        self.args, self.interruptions = args, interruptions
        self.directory = self.logs = None
        self.parts = []
        self.report = {"outcome": "failed", "processes": []}

    def say(self, text):
        elapsed_s = time.time() - self.args.began_us / 1e6
        print(f"[{elapsed_s:5.1f} s] {text}", file=self.args.progress, flush=True)

    def make_directory(self):
        with self.interruptions.held():
            self.directory = tempfile.mkdtemp(prefix="outrigger-quickstart.")
        self.report["directory"] = self.directory
        self.logs = os.path.join(self.directory, "logs")
        os.mkdir(self.logs)
        self.say("files and logs of this run are in " + self.directory)

    def start(self, name, argv, cwd=None, env=None):
        log = os.path.join(self.logs, name.replace(" ", "-") + ".log")
        # What a program needs of us, and nothing else: no proxy, no stray ISTIO_ variable.
        kept = ("PATH", "LANG", "TMPDIR", "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS")
        whole = {key: os.environ[key] for key in kept if key in os.environ} | (env or {})
        with self.interruptions.held():
            part = Part(name, argv, log, cwd or self.directory, whole)
            self.parts.append(part)
            self.report["processes"].append({"name": name, "pid": part.pid})
        return part

    # ---- the parts ----

    def start_app(self, name, *arguments):
        return self.start(f"{name} app", [sys.executable, "-B", os.path.join(HERE, "app.py"), name,
                                          *arguments])

    def app_port_of(self, part):
        port = int(part.wait_log(r"listens on 127\.0\.0\.1:(\d+)")[1])
        self.say(f"{part.name} listens on 127.0.0.1:{port}")
        return port

    def start_control_plane(self, ports):
        self.mesh = os.path.join(self.directory, "mesh.yaml")
        self.state = os.path.join(self.directory, "state")
        text = read(os.path.join(HERE, "mesh.yaml.in"))
        write(self.mesh, re.sub(r"@(\w+)@", lambda match: str(ports[match[1]]), text))
        address_file = os.path.join(self.directory, "address")
        part = self.start("control plane", [self.args.program, "standalone", "--file", self.mesh,
                                            "--state-dir", self.state, "--address", "127.0.0.1:0",
                                            "--address-file", address_file])
        self.discovery = wait_for(lambda: read(address_file), "the control plane to serve", part)
        self.say(f"control plane serves on {self.discovery}, with a CA of its own")
        self.root_pem = read(os.path.join(self.state, "root-cert.pem"))
        self.report["controlPlane"] = {"pid": part.pid, "address": self.discovery}

    def make_token(self, account):
        """What the kubelet mounts into a pod: by it the control plane knows the workload."""
        done = subprocess.run(
            [self.args.program, "token", "create", "--state-dir", self.state, "--namespace",
             Sidecar.NAMESPACE, "--service-account", account, "--audience", "istio-ca", "--ttl",
             "12h"], capture_output=True, text=True, check=False, timeout=20)
        if done.returncode != 0:
            raise Failure(f"no token for {account}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start_sidecar(self, name, scripts, env=None):
        sidecar = Sidecar(name, os.path.join(self.directory, name), self.discovery, self.root_pem,
                          self.make_token(name))
        sidecar.agent = self.start(
            f"{name} agent", [self.args.program, "agent", "--config",
                              os.path.join(HERE, "agent.yaml"), "--script-dir",
                              os.path.join(HERE, scripts)],
            cwd=sidecar.directory, env=sidecar.environment(self.args.envoy) | (env or {}))
        return sidecar

    def ask_ready(self, sidecar):
        """Asks what the kubelet asks: Envoy's health port, behind which the agent answers."""
        sidecar.agent.check_alive()
        try:
            status, _, text = http_get(sidecar.health_port, "/healthz/ready")
        except OSError:
            return
        sidecar.unready_reason = text.strip()
        if status == 200:
            sidecar.is_ready = True
            self.say(f"{sidecar.name} is ready: agent and Envoy, certificate, configuration")

    def wait_ready(self, *wanted):
        """All sidecars are asked, so that each one's time is its own."""
        def are_ready():
            for sidecar in self.sidecars:
                if not sidecar.is_ready:
                    self.ask_ready(sidecar)
            return all(sidecar.is_ready for sidecar in wanted)

        def say_why():
            for sidecar in wanted:
                if not sidecar.is_ready:
                    self.say(f"still waiting for {sidecar.name}: {sidecar.unready_reason}")

        try:
            wait_for(are_ready, "the sidecars to be ready", on_wait=say_why)
        except Failure as err:
            late = next((each for each in wanted if not each.is_ready), None)
            if err.part is not None or late is None:
                raise
            raise Failure(f"{late.name} does not become ready: {late.unready_reason}",
                          late.agent) from err

    def start_all(self):
        self.greeter_port, self.endpoint_port, self.intruder_port = (free_port() for _ in range(3))
        greeter_app = self.start_app("greeter")
        frontend_app = self.start_app("frontend", f"http://127.0.0.1:{self.greeter_port}/")
        greeter_app_port = self.app_port_of(greeter_app)
        self.app_port = self.app_port_of(frontend_app)
        self.start_control_plane({"PORT": self.greeter_port, "ENDPOINT_PORT": self.endpoint_port,
                                  "WORKLOAD_PORT": greeter_app_port})
        self.frontend = self.start_sidecar("frontend", "scripts")
        self.greeter = self.start_sidecar("greeter", "scripts")
        self.say("agents run: frontend, greeter; each starts its Envoy")
        self.intruder = self.start_sidecar("intruder", "intruder", {
            "ISTIO_META_INTRUDER_PORT": str(self.intruder_port),
            "ISTIO_META_GREETER_PORT": str(self.endpoint_port),
            "ECC_SIGNATURE_ALGORITHM": "ECDSA"})
        self.sidecars = (self.frontend, self.greeter, self.intruder)
        self.wait_ready(self.frontend, self.greeter)

    # ---- the story ----

    def show_request(self):
        handshakes = self.greeter.stat(r"listener\..*\.ssl\.handshake$")
        answer = get_json(self.app_port, "/")
        if answer.get("status") != 200:
            raise Failure(f"the frontend app got {answer['status']} for its request: "
                          f"{answer['answer']}", self.greeter.agent)
        headers = answer["answer"]["headers"]
        xfcc = headers.get("x-forwarded-client-cert", "")
        caller = re.search(r"URI=([^;,]+)", xfcc)
        if caller is None or caller[1] != self.frontend.spiffe_id:
            raise Failure(f"greeter's Envoy names another caller: {xfcc!r}", self.greeter.agent)
        self.report["request"] = {
            "status": answer["status"], "greeting": answer["answer"]["greeting"],
            "xForwardedClientCert": xfcc, "caller": caller[1], "callee": self.greeter.spiffe_id,
            "sslHandshakesBefore": handshakes,
            "sslHandshakes": self.greeter.stat(r"listener\..*\.ssl\.handshake$"),
        }
        if self.report["request"]["sslHandshakes"] <= handshakes:
            raise Failure("greeter's Envoy has counted no TLS handshake", self.greeter.agent)
        self.say("the request went through: frontend app, Envoy, mutual TLS, Envoy, greeter app")

    def show_no_certificate(self):
        """A client that trusts the mesh's root, but shows no certificate."""
        pattern = r"listener\..*\.ssl\.fail_verify_no_cert$"
        before = self.greeter.stat(pattern)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.root_pem)
        context.check_hostname = False  # a workload's name is its SPIFFE id; compared below
        leaf = {}
        refusal = refusal_of(context, self.endpoint_port, leaf)
        if refusal is None:
            raise Failure("a client without a certificate was let in", self.greeter.agent)
        if leaf and leaf["uris"] != [self.greeter.spiffe_id]:
            raise Failure(f"the server is {leaf['uris']}, not {self.greeter.spiffe_id}")
        counted = wait_for(lambda: self.greeter.stat(pattern) - before,
                           "greeter's Envoy to count the refusal", self.greeter.agent)
        self.report["noCertificate"] = {"refusal": refusal, "failVerifyNoCert": counted}
        self.say("a client without a certificate was refused")

    def show_not_allowed(self):
        """A workload with a certificate of the same CA that has found its way by itself."""
        self.wait_ready(self.intruder)
        before = self.greeter.stat(r"rbac\.denied$")
        status, headers, text = http_get(self.intruder_port)
        denied = self.greeter.stat(r"rbac\.denied$") - before
        self.report["notAllowed"] = {"identity": self.intruder.spiffe_id, "status": status,
                                     "body": text.strip(), "rbacDenied": denied}
        if status != 403 or denied != 1:
            raise Failure(f"the intruder got {status}, and greeter's Envoy counted {denied} "
                          f"refusals: {text.strip()}", self.greeter.agent)
        self.say("an identity that is not allowed was refused")

    # ---- what the parts say ----

    def collect(self, sidecar):
        status = sidecar.status()
        envoy_pid = sidecar.envoy_pid()
        types = [{key: row.get(key) for key in ("typeUrl", "version", "pushes", "resources",
                                                "bytes", "acks", "nacks")}
                 for row in status["plugins"]["xds_proxy"]["types"]]
        return {
            "name": sidecar.name, "identity": sidecar.spiffe_id,
            "agentPid": sidecar.agent.pid, "envoyPid": envoy_pid,
            "certificate": sidecar.certificate() | {
                "keyType": status["plugins"]["workload_certs"]["keyType"]},
            "xds": types, "timeline": status["timeline"],
            "privateDirtyKb": {"agent": private_dirty_kb(sidecar.agent.pid),
                               "envoy": private_dirty_kb(envoy_pid)},
            "urls": {"envoyAdmin": f"http://127.0.0.1:{sidecar.admin_port}/",
                     "agentStatus": f"http://127.0.0.1:{sidecar.status_port}/status",
                     "ready": f"http://127.0.0.1:{sidecar.health_port}/healthz/ready",
                     "metrics": f"http://127.0.0.1:{sidecar.stats_port}/stats/prometheus"},
        }

    def tell(self):
        self.make_directory()
        self.start_all()
        self.show_request()
        self.show_no_certificate()
        self.show_not_allowed()
        self.report["sidecars"] = [self.collect(sidecar) for sidecar in self.sidecars]
        self.report["processes"] += [{"name": f"{sidecar['name']} Envoy",
                                      "pid": sidecar["envoyPid"]}
                                     for sidecar in self.report["sidecars"]]
        self.report["urls"] = {"frontendApp": f"http://127.0.0.1:{self.app_port}/",
                               "intruderListener": f"http://127.0.0.1:{self.intruder_port}/"}
        self.report["seconds"] = round(time.time() - self.args.began_us / 1e6, 3)
        self.report["outcome"] = "ok"

    def show(self):
        if self.args.output == "json":
            print(json.dumps(self.report, indent=2), flush=True)
        else:
            print(screen.story(self.report, self.args.stay), flush=True)

    def stay(self):
        """Until a signal comes, or one of the parts ends by itself."""
        while True:
            for part in self.parts:
                part.check_alive()
            time.sleep(0.2)

    def clean_up(self):
        self.interruptions.ignore()
        killed = end_all(self.parts)
        if self.directory is None:
            return
        if self.args.keep_logs:
            # Keys and tokens do not stay behind.
            for entry in os.scandir(self.directory):
                if entry.name != "logs":
                    shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
            self.say(f"the logs are in {self.logs}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        for name in killed:
            self.say(f"{name} did not end when it was asked to, and had to be killed")


def run(args, interruptions):
    story = Story(args, interruptions)
    try:
        story.tell()
        story.show()
        if args.stay:
            story.stay()
        return 0
    except Interrupted as err:
        interruptions.ignore()
        story.say(f"{err}: ending everything that was started")
        return 128 + err.signum
    except BrokenPipeError:
        # Whoever read our words has gone (`run.sh | head`): nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), args.progress.fileno())
        return 128 + signal.SIGPIPE
    except (Failure, OSError, KeyError, ValueError, subprocess.SubprocessError) as err:
        print(screen.failure(err), file=sys.stderr, flush=True)
        if args.output == "json" and story.report["outcome"] != "ok":
            story.report["reason"] = str(err)
            story.show()
        return 1
    finally:
        story.clean_up()


def arguments():
    parser = argparse.ArgumentParser(description="Called by run.sh; see there.")
    parser.add_argument("--program", required=True)
    parser.add_argument("--envoy", required=True)
    parser.add_argument("--began-us", type=int, default=time.time_ns() // 1000)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--keep-logs", action="store_true")
    args = parser.parse_args()
    args.program, args.envoy = os.path.abspath(args.program), os.path.realpath(args.envoy)
    args.progress = sys.stdout if args.output == "text" else sys.stderr
    for path, flag in ((args.program, "--build-dir"), (args.envoy, "--envoy")):
        if not os.access(path, os.X_OK):
            parser.exit(2, f"quickstart: {path} is no program ({flag} names another)\n")
    return args


if __name__ == "__main__":
    sys.exit(run(arguments(), Interruptions()))
