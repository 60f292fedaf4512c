# SPDX-License-Identifier: Apache-2.0
"""The agent under test: the program of this build, in the working directory and with the
variables of an injected pod."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from .envoy import ENVOY, SOURCE_DIR, EnvoyAdmin, http_get
from .ports import free_port
from .wait import DEADLINE_S, wait_for

BUILD_DIR = os.path.abspath(os.environ.get("RIG_BUILD_DIR") or
                            os.path.join(SOURCE_DIR, "build/test"))
BINARY = os.path.join(BUILD_DIR, "bin/outrigger")

# What Istio's injection template puts behind the program's name.
INJECTED_ARGUMENTS = ["proxy", "sidecar", "--domain", "{namespace}.svc.cluster.local",
                      "--proxyLogLevel=warning", "--proxyComponentLogLevel=misc:error",
                      "--log_output_level=all:info", "--log_as_json"]

SANITIZER_EXIT_STATUS = 99


def build_option(name):
    """A cached CMake variable of the build under test, or ""."""
    with open(os.path.join(BUILD_DIR, "CMakeCache.txt"), encoding="utf-8") as cache:
        found = re.search(rf"^{name}(?::[A-Z]+)?=(.*)$", cache.read(), re.M)
    return found.group(1) if found else ""


def is_sanitized():
    return bool(build_option("RIG_SANITIZE"))


def sanitizer_env():
    """A leak or an undefined operation ends the program with SANITIZER_EXIT_STATUS."""
    return {"ASAN_OPTIONS": f"detect_leaks=1:exitcode={SANITIZER_EXIT_STATUS}",
            "LSAN_OPTIONS": f"exitcode={SANITIZER_EXIT_STATUS}",
            "UBSAN_OPTIONS": f"print_stacktrace=1:halt_on_error=1:"
                             f"exitcode={SANITIZER_EXIT_STATUS}"}


def memory_kb(pid, key="Private_Dirty"):
    """One figure of /proc/<pid>/smaps_rollup ("Rss", "Private_Dirty", ...)."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        return int(re.search(rf"^{key}:\s+(\d+) kB", rollup.read(), re.M).group(1))


def cpu_seconds(pid):
    """utime + stime so far, at the scheduler's own resolution."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as stat:
        main = int(stat.read().split()[0])
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as stat:
                total += int(stat.read().split()[0])
        except OSError:
            continue
    return max(main, total) / 1e9


class Agent:
    """start() runs it; everything before that may be changed by the test.

    env: the variables (a dict; None removes one). proxy_config: PROXY_CONFIG as a dict.
    root_pem and token: the injected files, None leaves one out."""

    def __init__(self, discovery=None, root_pem=None, token="test-token", name="app",
                 namespace="default", service_account=None, ca_address=None, binary=None,
                 arguments=None, program="pilot-agent", proxy_config=None, env=None, labels=None):
        self.dir = tempfile.mkdtemp(prefix="rig-")
        self.namespace, self.name = namespace, name
        self.binary = binary or BINARY
        self.program = program
        self.arguments = [a.format(namespace=namespace)
                          for a in (arguments if arguments is not None else INJECTED_ARGUMENTS)]
        self.admin_port, self.status_port = free_port(), free_port()
        self.health_port, self.stats_port = free_port(), free_port()
        self.admin = EnvoyAdmin(self.admin_port)
        self.proxy_config = {"discoveryAddress": discovery or "127.0.0.1:1",
                             "proxyAdminPort": self.admin_port, "statusPort": self.status_port,
                             "binaryPath": ENVOY, "concurrency": 1, "tracing": {},
                             "terminationDrainDuration": "1s"}
        self.proxy_config.update(proxy_config or {})
        service_account = service_account or name
        self.spiffe_id = f"spiffe://cluster.local/ns/{namespace}/sa/{service_account}"
        self.node_id = f"sidecar~127.0.0.1~{name}-0.{namespace}~{namespace}.svc.cluster.local"
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "JWT_POLICY": "third-party-jwt", "PILOT_CERT_PROVIDER": "istiod",
            "CA_ADDR": ca_address or discovery or "127.0.0.1:1",
            "POD_NAME": name + "-0", "POD_NAMESPACE": namespace,
            "INSTANCE_IP": "127.0.0.1", "SERVICE_ACCOUNT": service_account,
            "HOST_IP": "127.0.0.1", "ISTIO_CPU_LIMIT": "1", "TRUST_DOMAIN": "cluster.local",
            "ISTIO_META_POD_PORTS": "[]", "ISTIO_META_APP_CONTAINERS": name,
            "ISTIO_META_CLUSTER_ID": "Kubernetes", "ISTIO_META_NODE_NAME": "node-1",
            "ISTIO_META_INTERCEPTION_MODE": "REDIRECT", "ISTIO_META_WORKLOAD_NAME": name,
            "ISTIO_META_OWNER":
                f"kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{name}",
            "ISTIO_META_MESH_ID": "cluster.local",
            # Of the Envoy that setup.sh installs: it is not told of flags it has dropped.
            "OUTRIGGER_BOOTSTRAP_ENVOY_VERSION": "1.40",
            "ENVOY_STATUS_PORT": str(self.health_port),
            "ENVOY_PROMETHEUS_PORT": str(self.stats_port),
            **sanitizer_env(), **(env or {})}
        self.process = None
        self.exit_status = None
        self.started_at = None   # time.clock_gettime(CLOCK_MONOTONIC) just before exec
        self._make_files(root_pem, token, {"app": name, **(labels or {})})

    # ---- files ----

    def path(self, relative):
        return os.path.join(self.dir, relative)

    def write(self, relative, content):
        """By rename, as the kubelet does."""
        path = self.path(relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.replace(path + ".new", path)
        return path

    def _make_files(self, root_pem, token, labels):
        for directory in ("etc/istio/proxy", "etc/istio/pod", "var/run/secrets/tokens",
                          "var/run/secrets/istio", "var/run/secrets/workload-spiffe-uds",
                          "var/lib/istio/data"):
            os.makedirs(self.path(directory))
        if root_pem is not None:
            self.write("var/run/secrets/istio/root-cert.pem", root_pem)
        if token is not None:
            self.write("var/run/secrets/tokens/istio-token", token)
        self.write("etc/istio/pod/labels", "".join(
            f'{key}={json.dumps(value)}\n' for key, value in labels.items()))
        self.write("etc/istio/pod/annotations", "")

    @property
    def xds_socket(self):
        return self.path("etc/istio/proxy/XDS")

    @property
    def sds_socket(self):
        return self.path("var/run/secrets/workload-spiffe-uds/socket")

    # ---- the process ----

    def start(self):
        assert self.process is None
        program = self.path(self.program)
        if not os.path.lexists(program):
            os.symlink(self.binary, program)
        env = {"PROXY_CONFIG": json.dumps(self.proxy_config), **self.env}
        with open(self.path("log"), "ab") as log:
            self.started_at = time.clock_gettime(time.CLOCK_MONOTONIC)
            self.process = subprocess.Popen(
                [program, *self.arguments], cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
                env={name: value for name, value in env.items() if value is not None})
        self.exit_status = None
        return self

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait_exit(self, deadline_s=DEADLINE_S):
        """The exit status (negative: the signal)."""
        try:
            self.exit_status = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent did not exit within {deadline_s:g} s") from None
        self.process = None
        return self.exit_status

    def stop(self, expect=0, deadline_s=DEADLINE_S):
        """SIGTERM; the status must be `expect` (a sanitizer's report is another)."""
        self.signal(signal.SIGTERM)
        status = self.wait_exit(deadline_s)
        assert status == expect, f"exit status {status}, not {expect}:\n{self.log()[-6000:]}"

    def restart(self, expect=0):
        self.stop(expect)
        return self.start()

    def kill(self):
        """Takes the agent and whatever it started with it; for the end of a test."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None

    def discard(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def pid(self):
        return self.process.pid

    def group(self):
        """{pid: executable} of the process group that is led by the agent."""
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                    fields = stat.read().rpartition(")")[2].split()
                if int(fields[2]) == self.pid and fields[0] != "Z":
                    found[int(entry)] = os.path.realpath(f"/proc/{entry}/exe")
            except (OSError, IndexError):
                continue
        return found

    def _envoy_exe(self):
        return os.path.realpath(self.proxy_config["binaryPath"])

    def envoy_pid(self):
        return next((pid for pid, exe in self.group().items() if exe == self._envoy_exe()), None)

    def private_dirty_kb(self):
        """Of the whole process group without Envoy."""
        return sum(memory_kb(pid) for pid, exe in self.group().items()
                   if exe != self._envoy_exe())

    def cpu_seconds(self):
        return cpu_seconds(self.pid)

    # ---- what it says ----

    def log(self):
        try:
            with open(self.path("log"), encoding="utf-8", errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def records(self, scope=None, level=None):
        """Log lines that are JSON objects, as dicts."""
        found = []
        for line in self.log().splitlines():
            if line.startswith("{"):
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if scope in (None, record.get("scope")) and level in (None, record.get("level")):
                    found.append(record)
        return found

    def wait_log(self, pattern, deadline_s=DEADLINE_S, after=0):
        """The first match in the log from character `after` on."""
        regex = re.compile(pattern)
        return self.wait_for(lambda: regex.search(self.log(), after), deadline_s,
                             f"log line {pattern!r}")

    def wait_for(self, predicate, deadline_s=DEADLINE_S, what=None):
        """As wait_for(), but a dead agent ends the wait."""
        def alive_and():
            value = predicate()
            if not value and self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the agent exited with {self.process.returncode} while "
                                     f"waiting for {what}:\n{self.log()[-6000:]}")
            return value
        return wait_for(alive_and, deadline_s, what)

    def status(self):
        code, body = http_get(self.status_port, "/status")
        assert code == 200, f"/status: {code} {body}"
        return json.loads(body)

    def is_ready(self):
        """What the kubelet asks: Envoy's health listener, which asks the agent."""
        try:
            return http_get(self.health_port, "/healthz/ready", timeout_s=5)[0] == 200
        except OSError:
            return False

    def wait_ready(self, deadline_s=DEADLINE_S):
        self.wait_for(self.is_ready, deadline_s, f"{self.name} ready")
        return self
