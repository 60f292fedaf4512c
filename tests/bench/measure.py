# SPDX-License-Identifier: Apache-2.0
"""The figures of one run on the release build, beside those of the original, gates and goals.

Memory is that of the agent's process group without Envoy; CPU is the agent's own run time in
/proc/<pid>/task/*/schedstat; start-up is seen from outside (peers/startup.c). Load comes from
peers/xds_load.c over TLS on loopback and goes to a Unix socket."""
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from harness import resources as r
from harness.agent import Agent, cpu_seconds, memory_kb
from harness.ca import CertificateService
from harness.control_plane import CDS, LDS, ControlPlane
from harness.envoy import ENVOY, SOURCE_DIR, http_get
from harness.grpc_server import GrpcServer
from harness.load import RELEASE_BINARY, Bench, XdsLoad, peer
from harness.pki import Authority
from harness.ports import free_port
from harness.wait import wait_for

RESULTS = os.path.join(SOURCE_DIR, "tests/bench/RESULTS.md")
MB = 1_000_000
STARTS = 21


class Figure:
    """One row. is_more: larger is better. The original was measured with the same work."""

    def __init__(self, name, unit, original, gate, goal, is_more=False, digits=1):
        self.name, self.unit = name, unit
        self.original, self.gate, self.goal = original, gate, goal
        self.is_more, self.digits = is_more, digits
        self.value = None

    def meets(self, limit):
        return self.value >= limit if self.is_more else self.value <= limit

    def row(self):
        def text(number):
            return "–" if number is None else f"{number:,.{self.digits}f}".rstrip("0").rstrip(".") \
                if isinstance(number, float) else f"{number:,}"
        ratio = "–"
        if self.original is not None:
            factor = self.value / self.original if self.is_more else self.original / self.value
            ratio = f"{factor:.1f} times {'as much' if self.is_more else 'less'}"
        sign = "≥" if self.is_more else "≤"
        limit = [f"{sign} {text(each)}" if each is not None else "–"
                 for each in (self.gate, self.goal)]
        verdict = "–" if self.gate is None else "PASS" if self.meets(self.gate) else "MISS"
        if self.goal is not None and self.meets(self.goal):
            verdict += ", goal too"
        return [f"{self.name} ({self.unit})", text(round(float(self.value), self.digits)),
                text(self.original), ratio, *limit, verdict]


idle = Figure("idle, private dirty", "MB", 16, 3, 2, digits=2)
idle_rss = Figure("idle, RSS", "MB", 60, None, None)
growth = Figure("growth during a 100 MB push to a slow reader", "MB", 315, 3, 1, digits=2)
relayed = Figure("relayed per CPU-second", "MB", 285, 600, 900, is_more=True, digits=0)
exchange = Figure("CPU for a small exchange (push and ACK)", "µs", 61, 40, 25)
to_socket = Figure("exec → XDS and SDS sockets answer", "ms", 44, 10, 4, digits=2)
to_envoy = Figure("exec → Envoy's exec", "ms", 50, 20, 8, digits=2)
key_and_csr = Figure("ECDSA P-256 key and CSR", "ms", None, 1, None, digits=3)
FIGURES = [idle, idle_rss, growth, relayed, exchange, to_socket, to_envoy, key_and_csr]
notes = []


def say(text):
    print(text, flush=True)


def measure_idle(authority):
    say("idle: an agent, its Envoy, 30 s ...")
    control_plane, ca = ControlPlane(), CertificateService(authority)
    control_plane.set(CDS, [r.app_cluster("app", free_port())])
    control_plane.set(LDS, [r.inbound_listener(free_port(), "app")])
    server = GrpcServer([control_plane, ca], tls=authority.issue(["127.0.0.1"])).start()
    agent = Agent(server.address, authority.root_pem, binary=RELEASE_BINARY)
    try:
        agent.start().wait_ready()
        agent.admin.wait_certificate()
        time.sleep(30)
        idle.value = agent.private_dirty_kb() / 1024
        idle_rss.value = memory_kb(agent.pid, "Rss") / 1024
        envoy = agent.envoy_pid()
        notes.append(f"Envoy beside the idle agent: {memory_kb(envoy) / 1024:.1f} MB private "
                     f"dirty, {memory_kb(envoy, 'Rss') / 1024:.1f} MB RSS.")
        agent.stop()
    finally:
        agent.discard()
        server.kill()


def measure_growth(bench):
    say("growth: 100 MB to a reader of 40 MB/s ...")
    bench.load.push(MB)
    before = most = bench.agent.private_dirty_kb()
    is_over = threading.Event()

    def watch():
        nonlocal most
        while not is_over.wait(0.01):
            most = max(most, bench.agent.private_dirty_kb())

    watcher = threading.Thread(target=watch)
    bench.load.rate(40 * MB)
    watcher.start()
    bench.load.push(100 * MB)
    is_over.set()
    watcher.join()
    bench.load.rate(0)
    growth.value = (most - before) / 1024


def measure_relay(bench):
    say("relay: 20 pushes of 100 MB ...")
    bench.load.push(100 * MB)
    cpu, began, octets = bench.agent.cpu_seconds(), time.monotonic(), 0
    for _ in range(20):
        octets += bench.load.push(100 * MB)[0]
    took, used = time.monotonic() - began, bench.agent.cpu_seconds() - cpu
    relayed.value = octets / MB / used
    notes.append(f"While relaying: {octets / MB / took:,.0f} MB/s, the agent at "
                 f"{100 * used / took:.0f} % of one CPU.")


def envoy_proxy(load, directory, authority):
    """Envoy's configuration as a plain HTTP/2 proxy between the same two ends."""
    def typed(name, **fields):
        return {"@type": "type.googleapis.com/envoy." + name, **fields}

    def write(name, content):
        path = os.path.join(directory, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    socket = os.path.join(directory, "proxy")
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="relay", codec_type="HTTP2",
        http_filters=[{"name": "router", "typed_config": typed(
            "extensions.filters.http.router.v3.Router")}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "load", "timeout": "0s"}}]}]})
    tls = typed("extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context={
        "alpn_protocols": ["h2"], "validation_context": {
            "trusted_ca": {"filename": write("proxy-root.pem", authority.root_pem)}}})
    http2 = typed("extensions.upstreams.http.v3.HttpProtocolOptions",
                  explicit_http_config={"http2_protocol_options": {}})
    cluster = {
        "name": "load", "connect_timeout": "5s",
        "transport_socket": {"name": "tls", "typed_config": tls},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": "load", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {
                "address": "127.0.0.1", "port_value": load.port}}}}]}]}}
    config = {"static_resources": {
        "listeners": [{"address": {"pipe": {"path": socket}}, "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]}]}],
        "clusters": [cluster]}}
    return socket, write("proxy.json", json.dumps(config).encode())


def measure_peer(authority):
    """What another program makes of the same work, in the same run."""
    say("relay by Envoy: 10 pushes of 100 MB ...")
    said = subprocess.check_output([ENVOY, "--version"], text=True)
    version = re.search(r"/(\d+\.\d+\.\d+)/", said).group(1)
    with tempfile.TemporaryDirectory(prefix="rig-") as directory:
        load = XdsLoad(authority, directory)
        socket, config = envoy_proxy(load, directory, authority)
        with open(os.path.join(directory, "log"), "wb") as log:
            envoy = subprocess.Popen([ENVOY, "-c", config, "--disable-hot-restart",
                                      "--concurrency", "1", "-l", "warning"],
                                     stdout=log, stderr=log)
        try:
            wait_for(lambda: os.path.exists(socket), what="Envoy's socket")
            load.connect_to(socket)
            load.push(100 * MB)
            cpu, octets = cpu_seconds(envoy.pid), 0
            for _ in range(10):
                octets += load.push(100 * MB)[0]
            rate = octets / MB / (cpu_seconds(envoy.pid) - cpu)
        finally:
            load.close()
            envoy.kill()
            envoy.wait()
    notes.append(f"Envoy {version} as a plain HTTP/2 proxy between the same two ends, in the same "
                 f"run: {rate:,.0f} MB relayed per CPU-second, ours is "
                 f"{relayed.value / rate:.1f} times that.")


def measure_exchange(bench):
    say("exchange: 20,000 pushes of 1 KB and their ACKs ...")
    bench.load.exchange(1000, 1000)
    cpu = bench.agent.cpu_seconds()
    took = bench.load.exchange(20_000, 1000)
    exchange.value = (bench.agent.cpu_seconds() - cpu) / 20_000 * 1e6
    notes.append(f"A small exchange takes {took / 20_000 * 1e6:.0f} µs there and back, with the "
                 "peers' own work.")


def measure_startup(authority):
    say(f"start-up: {STARTS} starts ...")
    ca = CertificateService(authority)
    server = GrpcServer([ca], tls=authority.issue(["127.0.0.1"])).start()
    seen = []
    timeline = None
    try:
        for _ in range(STARTS):
            agent = Agent(server.address, authority.root_pem, binary=RELEASE_BINARY,
                          proxy_config={"binaryPath": peer("startup")})
            stamp = agent.path("stamp")
            # Agent.start() would stand between us and the exec.
            agent.arguments = [agent.xds_socket, agent.sds_socket, stamp, "--", RELEASE_BINARY,
                               "agent", "--log_output_level=all:info"]
            agent.binary, agent.program = peer("startup"), "startup"
            agent.start()
            assert agent.wait_exit() == 0, agent.log()[-3000:]
            words = re.search(r"xds_us (\d+) sds_us (\d+) envoy_us (\d+)", agent.log()).groups()
            seen.append([int(word) / 1000 for word in words])
            agent.discard()
        agent = Agent(server.address, authority.root_pem, binary=RELEASE_BINARY,
                      proxy_config={"binaryPath": peer("startup")})
        agent.env["RIG_STAMP_FILE"] = agent.path("stamp")
        agent.start()
        agent.wait_for(lambda: os.path.exists(agent.path("stamp")), what="Envoy's start")
        ca.wait_for_signed()
        agent.wait_for(lambda: http_get(agent.status_port, "/status")[0] == 200)
        timeline = agent.status().get("timeline")
        agent.discard()
    finally:
        server.kill()
    to_socket.value = statistics.median(max(xds, sds) for xds, sds, _ in seen)
    to_envoy.value = statistics.median(envoy for _, _, envoy in seen)
    slowest = max(max(xds, sds) for xds, sds, _ in seen), max(envoy for _, _, envoy in seen)
    notes.append(f"Start-up: median of {STARTS}; the slowest {slowest[0]:.1f} ms to the sockets, "
                 f"{slowest[1]:.1f} ms to Envoy's exec.")
    if timeline:
        notes.append("The agent's own time line of one start: " + ", ".join(
            f"{row['event']} {row['ms']} ms" for row in timeline) + ".")


def measure_key():
    program = peer("keygen")
    if not os.path.exists(program):
        notes.append("Key and CSR were not measured: the plugin workload_certs is not built.")
        return
    say("key and CSR: 200 of them ...")
    key_and_csr.value = float(subprocess.check_output([program, "200"], text=True)) / 1000


def commit():
    def git(*words):
        return subprocess.run(["git", "-C", SOURCE_DIR, *words], text=True, check=False,
                              stdout=subprocess.PIPE).stdout.strip()
    changed = [line for line in git("status", "--porcelain").splitlines()
               if not line.endswith("RESULTS.md")]
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + \
        (" with changes that are not committed" if changed else "")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = re.search(r"model name\s*: (.*)", info.read())
    return f"{os.cpu_count()} × {model.group(1) if model else platform.machine()}, " \
           f"Linux {platform.release()}"


def report():
    rows = [["figure", "ours", "the original", "ratio", "gate", "goal", ""]]
    rows += [figure.row() for figure in FIGURES if figure.value is not None]
    table = "\n".join("| " + " | ".join(row) + " |" for row in
                      [rows[0], ["---"] * len(rows[0]), *rows[1:]])
    return f"""# Figures

Commit {commit()}, {datetime.date.today().isoformat()}; {machine()}; one run of `tests/bench/run.sh`.

{table}

The original is pilot-agent 1.21 under the same work (of its 61–87 µs for a small exchange the
lower). MB of memory are MiB, MB of traffic 10^6 octets. Idle: Envoy ready, ADS over TLS, a
certificate delivered, all default plugins, 30 s later; the agent's process group without Envoy.
Memory and growth gates are tests as well (tests/integration/memory); times fail nothing.

""" + "\n".join(f"* {note}" for note in notes) + "\n"


def main(arguments):
    authority = Authority("bench root")
    measure_startup(authority)
    measure_idle(authority)
    bench = Bench(authority)
    try:
        bench.start()
        measure_growth(bench)
        measure_relay(bench)
        measure_exchange(bench)
    finally:
        bench.close()
    measure_peer(authority)
    measure_key()
    text = report()
    print("\n" + text)
    if "--print" not in arguments:
        with open(RESULTS, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
