# SPDX-License-Identifier: Apache-2.0
"""The parts that the quickstart starts: programs in process groups of their own, with a log each,
and the directories that an injected pod would give them."""
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

DEADLINE_S = 20
PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """What went wrong, and the part whose log tells more."""

    def __init__(self, what, part=None):
        super().__init__(what)
        self.part = part


# ---- interruptions ----

class Interrupted(BaseException):
    def __init__(self, signum):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interruptions:
    """SIGINT, SIGTERM and SIGHUP become an exception, but never between a program's start and the
    moment it is on the list of what must be ended."""

    def __init__(self):
        self._is_held, self._pending = False, None
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum, _frame):
        if self._is_held:
            self._pending = signum
        else:
            raise Interrupted(signum)

    @contextlib.contextmanager
    def held(self):
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._pending is not None:
            signum, self._pending = self._pending, None
            raise Interrupted(signum)

    def ignore(self):
        """From here on nothing may stop the clean-up."""
        self._is_held = True


# ---- programs ----

def _in_child():
    # A quickstart that is killed takes its children along; the agent does so with its Envoy.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Part:
    """A program that runs: `name`, `pid` and its `log`."""

    def __init__(self, name, argv, log, cwd=None, env=None):
        self.name, self.log_path = name, log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, start_new_session=True,
                                            preexec_fn=_in_child)
        self.pid = self.process.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def check_alive(self):
        status = self.process.poll()
        if status is not None:
            how = f"status {status}" if status >= 0 else signal.Signals(-status).name
            raise Failure(f"{self.name} has ended with {how}", self)

    def wait_log(self, pattern):
        """The match of the pattern in the log, as soon as it is there."""
        regex = re.compile(pattern)
        return wait_for(lambda: regex.search(self.log()), f"{self.name} to say {pattern!r}", self)

    def group(self):
        """The ids of the living processes in its process group."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    fields = stat.read().rpartition(")")[2].split()
                if int(fields[2]) == self.pid and fields[0] != "Z":
                    found.append(int(entry))
        return found

    def signal_group(self, signum):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)


def end_all(parts, grace_s=3):
    """Ends every part and whatever it has started: asked first, then killed. The names of those
    that had to be killed."""
    for part in reversed(parts):
        with contextlib.suppress(ProcessLookupError):
            part.process.terminate()
    end = time.monotonic() + grace_s
    while time.monotonic() < end and any(part.process.poll() is None for part in parts):
        time.sleep(0.01)
    killed = [part.name for part in parts if part.process.poll() is None]
    for part in parts:
        part.signal_group(signal.SIGKILL)
        part.process.wait()
    while any(part.group() for part in parts):
        time.sleep(0.01)
    return killed


# ---- waiting, asking ----

def wait_for(predicate, what, part=None, on_wait=None):
    """The first true value of the predicate. A part that ends meanwhile ends the wait;
    `on_wait` is called every three seconds."""
    begin = time.monotonic()
    next_word = begin + 3
    while True:
        with contextlib.suppress(OSError):
            value = predicate()
            if value:
                return value
        if part is not None:
            part.check_alive()
        now = time.monotonic()
        if now - begin > DEADLINE_S:
            raise Failure(f"waited {DEADLINE_S} s for {what}", part)
        if now > next_word and on_wait is not None:
            next_word = now + 3
            on_wait()
        time.sleep(0.02)


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http_get(port, path="/", timeout_s=5):
    """(status, headers, text) from a port of this machine."""
    try:
        with _direct.open(f"http://127.0.0.1:{port}{path}", timeout=timeout_s) as answer:
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as err:
        with err:
            return err.code, err.headers, err.read().decode("utf-8", "replace")


def get_json(port, path):
    status, _, text = http_get(port, path)
    if status != 200:
        raise Failure(f"http://127.0.0.1:{port}{path} answered {status}: {text.strip()}")
    return json.loads(text)


# Programs that must be told their port get one below the range that outgoing connections use
# (net.ipv4.ip_local_port_range), so that none of those takes it before the program listens.
_ports = iter(range(12000 + os.getpid() % 1000 * 20, 32768))


def free_port():
    for port in _ports:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("0.0.0.0", port))
            return port
    raise Failure("no free port between 12000 and 32768")


def private_dirty_kb(pid):
    """Memory that nobody shares and that is gone only when the process is."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        return int(re.search(r"^Private_Dirty:\s+(\d+) kB", rollup.read(), re.M).group(1))


# ---- files ----

def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w",
              encoding="utf-8") as file:
        file.write(text)


# ---- a sidecar ----

class Sidecar:
    """An agent in a directory that looks as the file system of an injected pod does, and the
    Envoy it runs. `name` is also the service account."""

    NAMESPACE = "default"

    def __init__(self, name, directory, discovery, root_pem, token):
        self.name, self.directory = name, directory
        self.spiffe_id = f"spiffe://cluster.local/ns/{self.NAMESPACE}/sa/{name}"
        self.admin_port, self.status_port = free_port(), free_port()
        self.health_port, self.stats_port = free_port(), free_port()
        self.discovery = discovery
        self.agent = None
        self.is_ready, self.unready_reason = False, "nothing answers yet"
        write(f"{directory}/var/run/secrets/istio/root-cert.pem", root_pem)
        write(f"{directory}/var/run/secrets/tokens/istio-token", token, 0o600)
        write(f"{directory}/etc/istio/pod/labels", f'app="{name}"\n')
        write(f"{directory}/etc/istio/pod/annotations", "")

    def environment(self, envoy):
        proxy_config = {
            "discoveryAddress": self.discovery, "binaryPath": envoy, "concurrency": 1,
            "proxyAdminPort": self.admin_port, "statusPort": self.status_port, "tracing": {},
            "terminationDrainDuration": "0.1s",
            # Envoy would not count these otherwise; the last screen reads them.
            "proxyStatsMatcher": {"inclusionRegexps": [r"listener\..*\.ssl\..*"]},
        }
        return {
            "PROXY_CONFIG": json.dumps(proxy_config), "INSTANCE_IP": "127.0.0.1",
            "POD_NAME": f"{self.name}-0", "POD_NAMESPACE": self.NAMESPACE,
            "SERVICE_ACCOUNT": self.name, "TRUST_DOMAIN": "cluster.local",
            "ENVOY_STATUS_PORT": str(self.health_port),
            "ENVOY_PROMETHEUS_PORT": str(self.stats_port),
        }

    def status(self):
        return get_json(self.status_port, "/status")

    def stat(self, pattern):
        """The sum of Envoy's counters whose name matches the pattern."""
        _, _, text = http_get(self.admin_port, f"/stats?filter={pattern}")
        return sum(int(value) for value in re.findall(r": (\d+)$", text, re.M))

    def certificate(self):
        """The workload certificate, as Envoy says it holds it."""
        certificates = get_json(self.admin_port, "/certs")["certificates"]
        chains = [entry["cert_chain"][0] for entry in certificates if entry.get("cert_chain")]
        if not chains:
            raise Failure(f"the Envoy of {self.name} holds no certificate", self.agent)
        return {"serial": chains[0]["serial_number"], "notAfter": chains[0]["expiration_time"],
                "uri": chains[0]["subject_alt_names"][0]["uri"]}

    def envoy_pid(self):
        others = [pid for pid in self.agent.group() if pid != self.agent.pid]
        if len(others) != 1:
            raise Failure(f"{self.name}: one Envoy is due, {len(others)} are there", self.agent)
        return others[0]
