# SPDX-License-Identifier: Apache-2.0
"""From the agent's start to its exit: Envoy's command line, its end, ours, and what is left."""
import os
import signal
import socket
import time

import pytest

from harness.agent import is_sanitized
from harness.envoy import http_get
from harness.fake_envoy import FakeEnvoy
from harness.wait import wait_for

# agent.md 4.1, for the injected command line; log format for --log_as_json.
LOG_FORMAT_JSON = ('{"level":"%l","time":"%Y-%m-%dT%T.%fZ","scope":"envoy %n","msg":"%j",'
                   '"caller":"%g:%#","thread":%t}')
LOG_FORMAT_TEXT = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"


def injected_arguments_of_envoy(log_format=LOG_FORMAT_JSON):
    return ["-c", "etc/istio/proxy/envoy-rev.json", "--drain-time-s", "45", "--drain-strategy",
            "immediate", "--local-address-ip-version", "v4", "--file-flush-interval-msec", "1000",
            "--disable-hot-restart", "--allow-unknown-static-fields", "--log-format", log_format,
            "-l", "warning", "--component-log-level", "misc:error", "--concurrency", "1"]


@pytest.fixture
def small(new_agent):
    """An agent of pod and bootstrap alone: what is tested here needs no other plugin."""
    def make(**options):
        agent = new_agent(root_pem="any", **options)
        agent.write("outrigger.yaml", "plugins: [pod, bootstrap]\n")
        agent.arguments = agent.arguments + ["--config", "outrigger.yaml"]
        return agent
    return make


AGENT_WORDS = ["agent", "--proxyLogLevel=warning", "--proxyComponentLogLevel=misc:error"]


# ---- the start ----

def test_envoy_gets_istios_arguments(small):
    agent = small()
    envoy = FakeEnvoy(agent)
    agent.start()
    assert agent.wait_exit() == 0
    assert envoy.arguments() == injected_arguments_of_envoy()


def test_text_logs_give_envoy_the_text_format(small):
    agent = small(arguments=AGENT_WORDS, program="outrigger")
    envoy = FakeEnvoy(agent)
    agent.start()
    assert agent.wait_exit() == 0
    assert envoy.arguments() == injected_arguments_of_envoy(LOG_FORMAT_TEXT)


def test_override_file_goes_to_envoy_as_json(small):
    agent = small(env={"ISTIO_BOOTSTRAP_OVERRIDE": "custom.yaml"})
    agent.write("custom.yaml", "admin:\n  ignore_global_conn_limit: true\n")
    envoy = FakeEnvoy(agent)
    agent.start()
    assert agent.wait_exit() == 0
    arguments = envoy.arguments()
    at = arguments.index("--config-yaml")
    assert arguments[at + 1] == '{"admin":{"ignore_global_conn_limit":true}}'
    assert arguments[at + 2] == "--concurrency"


def test_envoy_inherits_the_environment(small):
    agent = small(env={"SOMETHING_OF_THE_POD": "a b"})
    FakeEnvoy(agent, 'printf %s "$SOMETHING_OF_THE_POD" > seen')
    agent.start()
    assert agent.wait_exit() == 0
    with open(agent.path("seen"), encoding="utf-8") as seen:
        assert seen.read() == "a b"


def test_bootstrap_file_is_private_to_its_directory_and_removed(small):
    agent = small()
    agent.proxy_config["configPath"] = "./new/dir"
    envoy = FakeEnvoy(agent, "exec sleep 600")
    agent.start()
    envoy.wait_run()
    path = agent.path("new/dir/envoy-rev.json")
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert os.stat(agent.path("new/dir")).st_mode & 0o777 == 0o700
    assert os.listdir(agent.path("new/dir")) == ["envoy-rev.json"]
    agent.stop()
    assert not os.path.exists(path)


def test_disable_envoy_writes_the_file_only(small):
    agent = small(env={"DISABLE_ENVOY": "true"})
    envoy = FakeEnvoy(agent)
    agent.start()
    agent.wait_log("DISABLE_ENVOY is set")
    assert os.path.exists(agent.path("etc/istio/proxy/envoy-rev.json"))
    assert http_get(agent.status_port, "/healthz/ready")[0] == 503
    assert not envoy.has_run()
    agent.stop()
    assert not envoy.has_run()


def test_start_is_on_the_timeline(small):
    agent = small()
    FakeEnvoy(agent, "exec sleep 600")
    agent.start()
    agent.wait_log("Envoy command")
    rows = wait_for(lambda: agent.status()["timeline"], what="timeline")
    events = [row["event"] for row in rows]
    assert events.index("bootstrap written") < events.index("envoy exec")
    assert all(row["ms"] >= 0 for row in rows)
    agent.stop()


# ---- the end ----

@pytest.mark.parametrize("program, arguments, then, expect", [
    ("pilot-agent", None, "exit 3", 0),
    ("pilot-agent", None, "kill -9 $$", 0),
    ("outrigger", AGENT_WORDS, "exit 3", 3),
    ("outrigger", AGENT_WORDS, "exit 0", 0),
    ("outrigger", AGENT_WORDS, "kill -9 $$", 128 + 9),
    ("outrigger", AGENT_WORDS, "kill -11 $$", 128 + 11),
])
def test_agent_exits_with_envoy(small, program, arguments, then, expect):
    agent = small(program=program, arguments=arguments or None)
    FakeEnvoy(agent, then)
    agent.start()
    assert agent.wait_exit() == expect
    assert not os.path.exists(agent.path("etc/istio/proxy/envoy-rev.json"))
    said = {"exit 3": "Envoy exited with error: exit status 3", "exit 0": "Envoy exited normally",
            "kill -9 $$": "Envoy exited with error: signal: killed",
            "kill -11 $$": "Envoy exited with error: signal: segmentation fault"}[then]
    assert said in agent.log()


@pytest.mark.parametrize("program, arguments, expect", [
    ("pilot-agent", None, 0), ("outrigger", AGENT_WORDS, 127)])
def test_missing_binary_ends_the_agent_at_once(small, program, arguments, expect):
    agent = small(program=program, arguments=arguments or None)
    agent.proxy_config["binaryPath"] = "/nowhere/envoy"
    agent.start()
    assert agent.wait_exit() == expect
    took = time.clock_gettime(time.CLOCK_MONOTONIC) - agent.started_at
    assert is_sanitized() or took < 0.5  # Istio: within 60 ms; this is a shared machine
    assert "Envoy cannot be started: /nowhere/envoy: No such file or directory" in agent.log()
    assert not os.path.exists(agent.path("etc/istio/proxy/envoy-rev.json"))


def test_sigterm_waits_for_the_drain_then_asks_envoy(small):
    agent = small()
    agent.proxy_config["terminationDrainDuration"] = "0.4s"
    # Nobody listens on the admin port: the drain that cannot be asked for gets its time anyway.
    envoy = FakeEnvoy(agent, "while :; do sleep 0.01; done",
                      first="trap 'date > asked; exit 0' TERM")
    agent.start()
    envoy.wait_run()
    began = time.monotonic()
    agent.stop(expect=0)
    assert time.monotonic() - began >= 0.4
    assert os.path.exists(agent.path("asked"))
    assert "Envoy was not told to drain" in agent.log()


def test_envoy_that_does_not_listen_is_killed(small):
    agent = small()
    agent.proxy_config["terminationDrainDuration"] = "0s"
    envoy = FakeEnvoy(agent, "while :; do sleep 0.01; done", first="trap '' TERM")
    agent.start()
    envoy.wait_run()
    began = time.monotonic()
    agent.stop(expect=0)
    assert time.monotonic() - began >= 0.5
    assert "killing it" in agent.log()
    assert agent.process is None


def test_second_sigterm_cuts_the_drain_short(small):
    agent = small()
    agent.proxy_config["terminationDrainDuration"] = "600s"
    envoy = FakeEnvoy(agent, "exec sleep 600")
    agent.start()
    envoy.wait_run()
    agent.signal(signal.SIGTERM)
    agent.wait_log("Graceful termination period is")
    code, body = http_get(agent.status_port, "/healthz/ready")
    assert (code, body) == (503, "server is not live, current state is: DRAINING\n")
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit(20) == 0


def test_envoy_dies_with_a_killed_agent(small):
    agent = small()
    envoy = FakeEnvoy(agent, "exec sleep 600")
    agent.start()
    envoy.wait_run()
    pid = agent.status()["plugins"]["bootstrap"]["envoyPid"]
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait_exit()

    def is_gone():
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True
    wait_for(is_gone, what="the end of Envoy")


# ---- refusals ----

@pytest.mark.parametrize("program, arguments, expect", [
    ("pilot-agent", None, 255), ("outrigger", AGENT_WORDS, 1)])
@pytest.mark.parametrize("config, sentence", [
    ("drainDuration: [", "plugin pod: PROXY_CONFIG:"),
    ("drainDuration: 0s", "PROXY_CONFIG:1: drainDuration must be whole seconds"),
    ("a: 1\nstatusPort: many", "PROXY_CONFIG:2: statusPort must be a whole number"),
    ("[]", "PROXY_CONFIG: must be a map"),
])
def test_bad_proxy_config_is_named(small, program, arguments, expect, config, sentence):
    agent = small(program=program, arguments=arguments or None, env={"PROXY_CONFIG": config})
    agent.start()
    assert agent.wait_exit() == expect
    assert sentence in agent.log()


@pytest.mark.parametrize("env, sentence", [
    ({"ISTIO_META_DNS_CAPTURE": "maybe"}, "ISTIO_META_DNS_CAPTURE must be true or false"),
    ({"XDS_ROOT_CA": "/nowhere.pem"}, "root CA file for XDS does not exist: /nowhere.pem"),
    ({"ISTIO_BOOTSTRAP_OVERRIDE": "/nowhere.yaml"}, "ISTIO_BOOTSTRAP_OVERRIDE: /nowhere.yaml"),
    ({"XDS_HEADER_TE": "x"}, "XDS_HEADER_TE: no name of an HTTP/2 header"),
    *[({"OUTRIGGER_BOOTSTRAP_ENVOY_VERSION": text},
       f'envoyVersion: \\"{text}\\" is not MAJOR.MINOR')
      for text in ("new", "", "1", "1.", ".40", "1.40.0", "1.40-dev", "-1.40", "1.12345")],
])
def test_bad_variables_are_named(small, env, sentence):
    agent = small(env=env)
    envoy = FakeEnvoy(agent)
    agent.start()
    assert agent.wait_exit() == 255
    assert sentence in agent.log()
    assert not envoy.has_run()
    assert not os.path.exists(agent.path("etc/istio/proxy/envoy-rev.json"))


def test_unknown_proxy_type_is_refused(small):
    agent = small(arguments=["proxy", "gateway"])
    agent.start()
    assert agent.wait_exit() == 255
    assert "is no proxy type: sidecar, router, waypoint or ztunnel" in agent.log()


def test_status_port_in_use_is_fatal(small):
    agent = small()
    envoy = FakeEnvoy(agent)
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", agent.status_port))
        taken.listen()
        agent.start()
        assert agent.wait_exit() == 255
    assert "statusPort: " in agent.log()
    assert not envoy.has_run()


def test_a_site_may_overlay_the_bootstrap(small):
    agent = small()
    agent.write("site/bootstrap.lua", 'local shipped = require "shipped.bootstrap"\n'
                "return { render = function(ctx)\n"
                "  local out = shipped.render(ctx)\n"
                '  out.admin.profile_path = "/tmp/" .. ctx.node.cluster\n'
                "  return out\nend }\n")
    agent.arguments += ["--script-dir", "site"]
    envoy = FakeEnvoy(agent)
    agent.start()
    assert agent.wait_exit() == 0
    assert envoy.config()["admin"]["profile_path"] == "/tmp/app.default"


@pytest.mark.parametrize("script, sentence", [
    ('return { render = function() error("no") end }', "bootstrap.lua:1: no"),
    ('return { render = function() return nil, "not here" end }', "not here"),
    ("return { render = function() return 1 end }", "bootstrap.render must return a map"),
    ("return {", "bootstrap.lua:1"),
])
def test_a_broken_overlay_is_fatal_and_named(small, script, sentence):
    agent = small()
    agent.write("site/bootstrap.lua", script)
    agent.arguments += ["--script-dir", "site"]
    envoy = FakeEnvoy(agent)
    agent.start()
    assert agent.wait_exit() == 255
    assert sentence in agent.log()
    assert not envoy.has_run()
