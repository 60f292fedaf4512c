# SPDX-License-Identifier: Apache-2.0
"""The bootstrap file against Istio 1.21's own: the agent is run with the inputs of each case and a
fake Envoy that keeps the file. Istio's test feeds fixed values into the renderer; what differs by
going through the real door is put into the expectation, rule by rule, in expected()."""
import copy
import json
import os
import subprocess

import pytest

from harness.envoy import ENVOY, SOURCE_DIR
from harness.fake_envoy import FakeEnvoy

GOLDEN = os.path.join(SOURCE_DIR, "../shared/istio-golden/bootstrap")

if not os.path.exists(os.path.join(GOLDEN, "cases.json")):
    pytest.skip(f"{GOLDEN} is not there", allow_module_level=True)

with open(os.path.join(GOLDEN, "cases.json"), encoding="utf-8") as _file:
    CASES = {case["name"]: case for case in json.load(_file)["suites"]["1.21.0"]}

NO_SERVICE = "envoyMetricsService and envoyAccessLogService are not rendered yet"
OUT_OF_SCOPE = {
    "all": NO_SERVICE,
    "metrics_no_statsd": NO_SERVICE,
    "stats_compression_gzip": NO_SERVICE,
    "stats_compression_brotli": NO_SERVICE,
    "stats_compression_zstd": NO_SERVICE,
    "stats_compression_unknown": NO_SERVICE,
    "tracing_lightstep": "only the zipkin tracer is rendered yet",
    "tracing_datadog": "only the zipkin tracer is rendered yet",
    "tracing_stackdriver": "removed upstream",
    "tracing_opencensusagent": "removed upstream",
    "tracing_tls": "tracing.tlsSettings is not rendered yet",
    "tracing_tls_custom_sni": "tracing.tlsSettings is not rendered yet",
    "lrs": "load statistics and COMPLIANCE_POLICY are not rendered yet",
}
IN_SCOPE = [name for name in CASES if name not in OUT_OF_SCOPE]

# agent.md 2.1: what ProxyConfig holds when nobody says otherwise.
DEFAULTS = {"controlPlaneAuthPolicy": "MUTUAL_TLS", "statNameLength": 189, "statusPort": 15020,
            "terminationDrainDuration": "5s", "tracing": {}}


def test_every_case_is_in_scope_or_named():
    assert set(OUT_OF_SCOPE) < set(CASES)
    assert {"xdsproxy", "default", "auth", "authsds", "running", "runningsds", "tracing_none",
            "tracing_zipkin", "stats_inclusion"} == set(IN_SCOPE)


def load(name):
    with open(os.path.join(GOLDEN, "1.21.0", name), encoding="utf-8") as file:
        return json.load(file)


def quoted_lines(annotations):
    return "".join(f"{key}={json.dumps(value)}\n" for key, value in annotations.items())


@pytest.fixture
def rendered(new_agent):
    """Runs a case; (agent, ProxyConfig that was given, document)."""
    def run(case):
        agent = new_agent(root_pem="any", arguments=[
            "proxy", "sidecar", "--outlierLogPath=/dev/stdout", "--config", "outrigger.yaml"])
        # Only what the case lists is in the environment.
        agent.env = {"PATH": os.environ["PATH"], "ISTIO_METAJSON_LABELS": "{}",
                     "ISTIO_META_ISTIO_VERSION": "binary-1.0",
                     **{k: v for k, v in agent.env.items() if k.endswith("SAN_OPTIONS")}}
        annotations = case.get("annotations", {})
        if annotations:
            agent.env["ISTIO_METAJSON_ANNOTATIONS"] = json.dumps(annotations)
            agent.write("etc/istio/pod/annotations", quoted_lines(annotations))
        agent.env.update(case.get("env", {}))
        os.unlink(agent.path("etc/istio/pod/labels"))
        # Neither a control plane nor certificates are part of this.
        agent.write("outrigger.yaml", "plugins: [pod, bootstrap]\n")
        given = load(case["proxy_config"] + ".json")
        given.setdefault("tracing", {})  # Istio's renderer gets no default tracer in these cases
        given["configPath"] = agent.path("bootstrap/" + case["name"])
        given["statusPort"] = agent.status_port
        agent.proxy_config = given
        envoy = FakeEnvoy(agent)
        agent.start()
        assert agent.wait_exit() == 0, agent.log()
        return agent, given, envoy.config()
    return run


def expected(case, agent, given, document):
    want = load(case["golden"])
    env = case.get("env", {})
    metadata, theirs = want["node"]["metadata"], document["node"]["metadata"]

    # Inputs that Istio's test fixes and ours come by as in a pod.
    name, namespace = env.get("POD_NAME", ""), env.get("POD_NAMESPACE", "")
    addresses = theirs["INSTANCE_IPS"].split(",")
    assert env.get("INSTANCE_IP", addresses[0]) == addresses[0]
    want["node"]["id"] = (f"sidecar~{addresses[0]}~{name}.{namespace}"
                          f"~{namespace}.svc.cluster.local")
    metadata["INSTANCE_IPS"] = theirs["INSTANCE_IPS"]
    metadata["PILOT_SAN"] = [given["discoveryAddress"].rpartition(":")[0]]

    # The file that the template of Istio's test is, and the defaults that its test leaves out.
    config = metadata["PROXY_CONFIG"]
    del config["customConfigFile"]
    config.update({key: value for key, value in DEFAULTS.items() if key not in config})
    config.update({key: given[key] for key in ("configPath", "binaryPath", "statusPort")})

    for cluster in want["static_resources"]["clusters"]:
        address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"][
            "address"]
        if cluster["name"] == "xds-grpc":
            address["pipe"]["path"] = given["configPath"] + "/XDS"
        if cluster["name"] == "agent":
            address["socket_address"]["port_value"] = agent.status_port
    return want, addresses


def patterns(document):
    """The matcher's lists by kind; taken out of the document, for goldens may hold stale ones."""
    found = {"prefix": [], "suffix": [], "regex": []}
    for pattern in document["stats_config"].pop("stats_matcher")["inclusion_list"]["patterns"]:
        kind = "regex" if "safe_regex" in pattern else next(iter(pattern))
        found[kind].append(pattern["safe_regex"]["regex"] if kind == "regex" else pattern[kind])
    return found


def expected_patterns(case, addresses):
    def chosen(name):
        text = case.get("annotations", {}).get("sidecar.istio.io/statsInclusion" + name)
        parts = []
        for part in text.split(",") if text else []:
            parts += ([part.replace("{pod_ip}", ip) for ip in addresses] if "{pod_ip}" in part
                      else [part])
        return parts
    return {
        "prefix": ["reporter=", *chosen("Prefixes"), "cluster_manager", "listener_manager",
                   "server", "cluster.xds-grpc", "wasm", "component", "istio"],
        "suffix": [*chosen("Suffixes"), "rbac.allowed", "rbac.denied", "shadow_allowed",
                   "shadow_denied"],
        "regex": [*chosen("Regexps"), r"vhost\.*\.route\.*"],
    }


@pytest.mark.parametrize("name", IN_SCOPE)
def test_document_is_istios(rendered, name):
    case = CASES[name]
    agent, given, document = rendered(case)
    got = copy.deepcopy(document)
    want, addresses = expected(case, agent, given, document)
    assert patterns(got) == expected_patterns(case, addresses)
    patterns(want)
    if not case.get("check_locality"):
        for each in (got, want):
            each["node"]["locality"] = {}
    assert got == want


def validate(agent, document, *more):
    path = agent.write("validate.json", json.dumps(document))
    return subprocess.run([ENVOY, "--mode", "validate", "-c", path, "-l", "warning",
                           "--log-format", "%l %v", *more],
                          capture_output=True, text=True, timeout=60, check=False, cwd=agent.dir)


@pytest.mark.parametrize("name", ["default", "running", "stats_inclusion"])
def test_a_real_envoy_takes_the_document(rendered, name):
    agent, _, document = rendered(CASES[name])
    result = validate(agent, document)
    assert result.returncode == 0, result.stderr


def test_a_new_envoy_has_nothing_to_complain_about(new_agent):
    """With envoyVersion of the Envoy at hand no flag is left that it does not know."""
    agent = new_agent(root_pem="any")
    agent.env["OUTRIGGER_BOOTSTRAP_ENVOY_VERSION"] = "1.40"
    agent.write("outrigger.yaml", "plugins: [pod, bootstrap]\n")
    agent.arguments += ["--config", "outrigger.yaml"]
    envoy = FakeEnvoy(agent)
    agent.start()
    assert agent.wait_exit() == 0
    # At the levels the agent starts it with: misc tells of fields that Istio still uses.
    result = validate(agent, envoy.config(), "--component-log-level", "misc:error")
    assert result.returncode == 0, result.stderr
    complaints = [line for line in result.stderr.splitlines()
                  if line.startswith(("warning", "error", "critical"))]
    assert complaints == [], result.stderr
