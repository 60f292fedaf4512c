# SPDX-License-Identifier: Apache-2.0
"""The quickstart: that what it prints is so, and that nothing of it remains."""
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from harness import agent as agent_module
from harness.agent import memory_kb
from harness.envoy import ENVOY, SOURCE_DIR, EnvoyAdmin, http_get
from harness.wait import wait_for

RUN = os.path.join(SOURCE_DIR, "examples/quickstart/run.sh")
SETUP = os.path.join(SOURCE_DIR, "tests/harness/setup.sh")
IDENTITY = "spiffe://cluster.local/ns/default/sa/"
SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer|runtime error:")

# Whatever asks for the network gets no answer.
DEAD_END = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1",
            "HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1",
            "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}


class Quickstart:
    """run.sh of this build, in a temporary directory of its own and without a network."""

    def __init__(self, *arguments, envoy=ENVOY, env=None):
        self.tmp = tempfile.mkdtemp(prefix="rig-quickstart-")
        command = [RUN, "--build-dir", agent_module.BUILD_DIR]
        if envoy is not None:
            command += ["--envoy", envoy]
        self.process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, **DEAD_END, **agent_module.sanitizer_env(), "TMPDIR": self.tmp,
                 **(env or {})})
        self.progress = ""

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.tmp, ignore_errors=True)

    def read_until(self, stream, pattern):
        """Reads lines until one fits; what it read."""
        text = ""
        while not re.search(pattern, text, re.M):
            line = stream.readline()
            assert line, f"ended without {pattern!r}:\n{text}\n{self.process.stderr.read()}"
            text += line
        return text

    def report(self):
        """The JSON document on its output."""
        return json.loads(self.read_until(self.process.stdout, r"^\}$"))

    def end(self):
        """(exit status, output, errors) once it has ended by itself."""
        out, err = self.process.communicate(timeout=90)
        return self.process.returncode, out, err

    def processes(self):
        """Everything that runs with this TMPDIR in its environment."""
        marker = b"TMPDIR=" + self.tmp.encode()
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/environ", "rb") as environ:
                    if marker in environ.read().split(b"\0"):
                        found.append(int(entry))
            except OSError:
                continue
        return found

    def assert_nothing_left(self):
        assert self.processes() == []
        assert os.listdir(self.tmp) == []


@pytest.fixture
def quickstart(closing):
    def start(*arguments, **options):
        closing.append(Quickstart(*arguments, **options))
        return closing[-1]
    return start


def port_of(url):
    return urllib.parse.urlsplit(url).port


def admin_of(sidecar):
    return EnvoyAdmin(port_of(sidecar["urls"]["envoyAdmin"]))


@pytest.fixture(scope="module")
def staying():
    """One run with --stay, and its report; ended by Ctrl-C behind the last test that uses it."""
    run = Quickstart("--stay", "-o", "json")
    try:
        yield run, run.report()
    finally:
        run.close()


@pytest.fixture
def report(staying):
    return staying[1]


@pytest.fixture
def sidecars(report):
    return {sidecar["name"]: sidecar for sidecar in report["sidecars"]}


def inbound_port(sidecars):
    """Where greeter's Envoy takes mutual TLS, from its own configuration."""
    dump = json.dumps(admin_of(sidecars["frontend"]).get("/clusters?format=json"))
    found = re.search(r"greeter.*?port_value\D+(\d+)", dump)
    return int(found.group(1))


def leaf_of(port):
    """The certificate that the server on this port presents."""
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", port), 10) as sock, \
            context.wrap_socket(sock) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))


# ---- what it prints is so ----

def test_caller_is_the_frontend_in_the_words_of_the_server(report, sidecars):
    request = report["request"]
    assert report["outcome"] == "ok"
    assert request["status"] == 200
    fields = dict(part.split("=", 1) for part in request["xForwardedClientCert"].split(";"))
    assert fields["URI"] == request["caller"] == IDENTITY + "frontend"
    assert fields["By"] == request["callee"] == IDENTITY + "greeter"
    assert re.fullmatch(r"[0-9a-f]{64}", fields["Hash"])
    assert request["sslHandshakesBefore"] == 0
    assert request["sslHandshakes"] >= 1
    live = admin_of(sidecars["greeter"]).stats(r"listener\..*\.ssl\.handshake$")
    # The request's, and the intruder's.
    assert sum(live.values()) >= request["sslHandshakes"] + 1


def test_request_goes_through_again(report):
    status, body = http_get(port_of(report["urls"]["frontendApp"]), "/")
    answer = json.loads(body)
    assert (status, answer["status"]) == (200, 200)
    assert "URI=" + IDENTITY + "frontend" in answer["answer"]["headers"]["x-forwarded-client-cert"]


def test_applications_speak_plain_http_on_loopback(report):
    answer = json.loads(http_get(port_of(report["urls"]["frontendApp"]), "/")[1])
    assert answer["asked"].startswith("http://127.0.0.1:")


def test_client_without_certificate_is_refused(report, sidecars):
    assert report["noCertificate"]["refusal"] == "certificate required"
    assert report["noCertificate"]["failVerifyNoCert"] == 1
    stat = r"listener\..*\.ssl\.fail_verify_no_cert$"
    before = sum(admin_of(sidecars["greeter"]).stats(stat).values())
    assert before >= 1
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{inbound_port(sidecars)}",
         "-ign_eof"], input="GET / HTTP/1.1\r\nhost: greeter\r\n\r\n", text=True,
        capture_output=True, timeout=30, check=False)
    assert "alert certificate required" in done.stderr
    assert "HTTP/1.1" not in done.stdout
    wait_for(lambda: sum(admin_of(sidecars["greeter"]).stats(stat).values()) == before + 1,
             what="the second refusal counted")


def test_identity_that_is_not_allowed_is_refused(report, sidecars):
    refused = report["notAllowed"]
    assert refused["identity"] == IDENTITY + "intruder"
    assert (refused["status"], refused["rbacDenied"]) == (403, 1)
    assert "RBAC" in refused["body"]
    # It is a workload of the mesh: what it lacks is the permission, not a certificate.
    assert sidecars["intruder"]["certificate"]["uri"] == refused["identity"]
    before = sum(admin_of(sidecars["greeter"]).stats(r"rbac\.denied$").values())
    assert http_get(port_of(report["urls"]["intruderListener"]), "/")[0] == 403
    assert sum(admin_of(sidecars["greeter"]).stats(r"rbac\.denied$").values()) == before + 1


def test_certificates_are_those_that_envoys_hold(sidecars):
    for name, sidecar in sidecars.items():
        told, held = sidecar["certificate"], admin_of(sidecar).wait_certificate()
        assert told["serial"] == held["serial_number"]
        assert told["notAfter"] == held["expiration_time"]
        assert [told["uri"]] == [san["uri"] for san in held["subject_alt_names"]]
        assert told["uri"] == IDENTITY + name
    assert len({sidecar["certificate"]["serial"] for sidecar in sidecars.values()}) == 3


def test_certificate_on_the_wire_is_the_one_shown(sidecars):
    told, leaf = sidecars["greeter"]["certificate"], leaf_of(inbound_port(sidecars))
    assert int(told["serial"], 16) == leaf.serial_number
    assert told["notAfter"] == leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    # What examples/quickstart/scripts/cert_policy.lua asks for; the shipped policy says RSA.
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert isinstance(leaf.public_key().curve, ec.SECP256R1)
    assert told["keyType"] == "ecdsa-p256"


def test_xds_versions_are_those_that_envoys_accepted(sidecars):
    dumps = {"ClustersConfigDump": "envoy.config.cluster.v3.Cluster",
             "ListenersConfigDump": "envoy.config.listener.v3.Listener"}
    for sidecar in sidecars.values():
        told = {row["typeUrl"].rpartition("/")[2]: row for row in sidecar["xds"]}
        held = {config["@type"].rpartition(".")[2]: config.get("version_info", "")
                for config in admin_of(sidecar).config_dump()["configs"]}
        for dump, type_name in dumps.items():
            # Envoy shows no version for a type of which it has nothing.
            if told[type_name]["resources"] > 0:
                assert told[type_name]["version"] == held[dump] != ""
            assert told[type_name]["nacks"] == 0
            assert told[type_name]["pushes"] >= 1
    for name in ("frontend", "greeter"):
        assert all(row["resources"] >= 1 for row in sidecars[name]["xds"])


def test_timeline_goes_from_socket_to_ready(sidecars):
    for sidecar in sidecars.values():
        at = {mark["event"]: mark["ms"] for mark in sidecar["timeline"]}
        assert all(ms >= 0 for ms in at.values())
        assert at["xds socket served"] < at["first xds response"]
        assert at["sds socket served"] < at["certificate received"]


def test_memory_is_that_of_the_processes(sidecars):
    for sidecar in sidecars.values():
        told = sidecar["privateDirtyKb"]
        for kind, pid, program in (("agent", sidecar["agentPid"], agent_module.BINARY),
                                   ("envoy", sidecar["envoyPid"], ENVOY)):
            assert os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(program)
            assert told[kind] == pytest.approx(memory_kb(pid), rel=0.5)


def test_urls_that_are_printed_answer(report, sidecars):
    urls = [*report["urls"].values(),
            *(url for sidecar in sidecars.values() for url in sidecar["urls"].values())]
    for url in urls:
        split = urllib.parse.urlsplit(url)
        expected = 403 if url == report["urls"]["intruderListener"] else 200
        assert http_get(split.port, split.path)[0] == expected, url


def test_staying_ends_on_ctrl_c(staying):
    run, report = staying
    assert set(process["pid"] for process in report["processes"]) <= set(run.processes())
    run.process.send_signal(signal.SIGINT)
    status, _, err = run.end()
    assert status == 130
    assert "had to be killed" not in err
    run.assert_nothing_left()


# ---- how it ends ----

def test_it_ends_by_itself_and_leaves_nothing(quickstart):
    run = quickstart()
    status, out, err = run.end()
    assert status == 0, out + err
    for promised in (f"URI={IDENTITY}frontend", "ssl.handshake", "certificate required",
                     "403", IDENTITY + "intruder", "ssl.fail_verify_no_cert", "rbac.denied",
                     "serial", "expires", "listeners (LDS)", "clusters (CDS)",
                     "xds socket served", "Private_Dirty"):
        assert promised in out, promised
    assert re.search(r"^\[ *\d+\.\d s\] ", out, re.M)
    assert err == ""
    run.assert_nothing_left()


@pytest.mark.parametrize("moment, signum", [
    ("app listens", signal.SIGINT), ("control plane serves", signal.SIGINT),
    ("agents run", signal.SIGINT), ("the request went through", signal.SIGINT),
    ("agents run", signal.SIGTERM), ("agents run", signal.SIGHUP)])
def test_it_takes_everything_along_when_interrupted(quickstart, moment, signum):
    run = quickstart()
    run.read_until(run.process.stdout, moment)
    run.process.send_signal(signum)
    status, out, err = run.end()
    assert status == 128 + signum
    assert "Who talked" not in out
    assert "Traceback" not in err
    run.assert_nothing_left()


def test_it_takes_everything_along_when_envoy_does_not_start(quickstart):
    run = quickstart("-o", "json", envoy="/bin/false")
    status, out, err = run.end()
    assert status == 1
    assert json.loads(out)["outcome"] == "failed"
    assert "agent has ended" in json.loads(out)["reason"]
    assert "Envoy exited with error: exit status 1" in err
    assert "name another one with --envoy FILE" in err
    run.assert_nothing_left()


def test_it_takes_everything_along_when_a_part_dies(quickstart):
    run = quickstart("--stay", "-o", "json")
    report = run.report()
    os.kill(report["controlPlane"]["pid"], signal.SIGKILL)
    status, _, err = run.end()
    assert status == 1
    assert "control plane has ended with SIGKILL" in err
    run.assert_nothing_left()


def test_it_takes_everything_along_when_its_reader_goes(quickstart):
    run = quickstart()
    run.read_until(run.process.stdout, "app listens")
    run.process.stdout.close()
    assert run.process.wait(timeout=90) == 128 + signal.SIGPIPE
    assert run.process.stderr.read() == ""
    run.assert_nothing_left()


def test_its_processes_do_not_outlive_it(quickstart):
    run = quickstart("--stay", "-o", "json")
    run.report()
    run.process.kill()
    run.process.wait()
    wait_for(lambda: not run.processes(), what="the end of every process")


def test_kept_logs_hold_no_key_and_no_fault(quickstart):
    run = quickstart("--keep-logs")
    status, out, err = run.end()
    assert status == 0, out + err
    assert run.processes() == []
    (kept,) = os.listdir(run.tmp)
    assert os.listdir(os.path.join(run.tmp, kept)) == ["logs"]
    logs = os.path.join(run.tmp, kept, "logs")
    assert f"the logs are in {logs}" in out
    for name in os.listdir(logs):
        with open(os.path.join(logs, name), encoding="utf-8") as log:
            text = log.read()
        assert "PRIVATE KEY" not in text
        assert not re.search(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", text), f"{name}: a token"
        assert not SANITIZER_REPORT.search(text), text[-6000:]


@pytest.mark.parametrize("arguments, word", [
    (["--sta"], "--sta"), (["-o", "xml"], "xml"), (["--envoy"], "--envoy")])
def test_wrong_flags_are_named(arguments, word):
    done = subprocess.run([RUN, *arguments], capture_output=True, text=True, timeout=30,
                          check=False)
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stdout == ""


def test_help_needs_nothing():
    done = subprocess.run([RUN, "--help"], capture_output=True, text=True, timeout=30,
                          check=True, env={"PATH": "/usr/bin:/bin"})
    assert "--stay" in done.stdout


# ---- the second time ----

@pytest.fixture
def no_installers(tmp_path):
    """A PATH on which whatever would install something fails."""
    for name in ("apt-get", "apt", "sudo", "pip", "pip3", "curl", "wget"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho {name} was called >&2\nexit 99\n")
        path.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_second_run_installs_nothing_and_asks_no_network(quickstart, no_installers):
    done = subprocess.run([SETUP, "--build", "--envoy"], capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, **DEAD_END, **no_installers})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run = quickstart("-o", "json", envoy=None, env=no_installers)
    status, out, err = run.end()
    assert status == 0, out + err
    assert json.loads(out)["seconds"] < 60
    run.assert_nothing_left()
