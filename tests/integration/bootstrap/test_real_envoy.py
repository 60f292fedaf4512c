# SPDX-License-Identifier: Apache-2.0
"""The whole role with a real Envoy: the injected command line, logs in Istio's shape, readiness,
drain, and the end of either process."""
import json
import os
import re
import signal
import socket
import time

from envoy.config.core.v3 import base_pb2 as core
from harness import resources
from harness.agent import INJECTED_ARGUMENTS, is_sanitized
from harness.control_plane import CDS, LDS
from harness.envoy import http_get
from harness.ports import free_port
from harness.wait import wait_for

TEXT_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z\t"
    r"(debug|info|warn|error|fatal|warning|critical)\t\S.*")


def lines(agent):
    return [line for line in agent.log().splitlines() if line]


def healthz(agent):
    return http_get(agent.status_port, "/healthz/ready")


def wait_envoy(agent):
    """Envoy runs and answers on its admin port, whatever its state."""
    def answers():
        return http_get(agent.admin_port, "/server_info")[0] == 200
    agent.wait_for(answers, what="Envoy's admin port")


def test_injected_command_line_logs_json_and_ends_well(new_agent, authority):
    agent = new_agent(root_pem=authority.root_pem)
    # As in the injection template, the variable already replaced by the kubelet.
    assert agent.arguments == [a.format(namespace="default") for a in INJECTED_ARGUMENTS]
    agent.start()
    wait_envoy(agent)
    assert healthz(agent)[0] == 503
    assert os.path.exists(agent.xds_socket)
    agent.stop(expect=0)

    records = [json.loads(line) for line in lines(agent)]
    assert records
    for record in records:
        assert {"level", "time", "msg"} <= set(record), record
    said = [record["msg"] for record in records]
    assert 'FLAG: --domain="default.svc.cluster.local"' in said
    assert 'FLAG: --proxyLogLevel="warning"' in said
    assert any(text.startswith("Effective config: {") for text in said)
    assert not any("was not told to drain" in text for text in said)
    for path in (agent.xds_socket, agent.sds_socket, agent.path("etc/istio/proxy/envoy-rev.json")):
        assert not os.path.exists(path), path


def test_text_logs_have_istios_columns(new_agent, authority):
    agent = new_agent(root_pem=authority.root_pem,
                      arguments=[a for a in INJECTED_ARGUMENTS if a != "--log_as_json"])
    # At info Envoy has something to say, too.
    agent.arguments = [a.replace("proxyLogLevel=warning", "proxyLogLevel=info")
                       for a in agent.arguments]
    agent.start()
    wait_envoy(agent)
    agent.stop(expect=0)
    is_envoys = False
    for line in lines(agent):
        if TEXT_LINE.fullmatch(line):
            is_envoys = "\tenvoy " in line
        else:
            assert is_envoys, line  # only Envoy's messages have lines of their own
    assert any("\tenvoy main " in line and line.rpartition("\t")[2].startswith("thread=")
               for line in lines(agent))


def test_ready_when_envoy_has_its_configuration(new_agent, mesh):
    agent = new_agent(discovery=mesh.address, root_pem=mesh.root_pem)
    agent.start()
    wait_envoy(agent)
    # The control plane knows nothing yet: the answer says what is missing.
    code, body = healthz(agent)
    assert code == 503
    assert body.startswith("config not received from XDS server (is Istiod running?)"), body
    assert not agent.is_ready()

    mesh.control_plane.set(CDS, [])
    mesh.control_plane.set(LDS, [])
    agent.wait_ready()
    assert healthz(agent) == (200, "")
    agent.wait_log("Envoy proxy is ready")
    assert "envoy ready" in [row["event"] for row in agent.status()["timeline"]]

    # Once yes, always yes, without another question to Envoy.
    envoy = agent.envoy_pid()
    os.kill(envoy, signal.SIGSTOP)
    for _ in range(3):
        assert healthz(agent) == (200, "")
    os.kill(envoy, signal.SIGCONT)
    agent.stop(expect=0)


def test_unready_reason_names_the_stage_of_the_connection(new_agent, authority):
    agent = new_agent(root_pem=authority.root_pem)  # nobody listens on 127.0.0.1:1
    agent.start()
    wait_envoy(agent)
    body = wait_for(lambda: (lambda code, text: "control plane: " in text and text)(
        *healthz(agent)), what="a reason with the stage")
    assert "127.0.0.1:1" in body
    agent.stop(expect=0)


def test_killed_envoy_takes_the_agent_along(new_agent, authority):
    agent = new_agent(root_pem=authority.root_pem)
    agent.start()
    wait_envoy(agent)
    began = time.monotonic()
    os.kill(agent.envoy_pid(), signal.SIGKILL)
    assert agent.wait_exit() == 0
    took = time.monotonic() - began
    assert took < (3 if is_sanitized() else 0.1), took
    assert "Envoy exited with error: signal: killed" in agent.log()
    for path in (agent.xds_socket, agent.sds_socket, agent.path("etc/istio/proxy/envoy-rev.json")):
        assert not os.path.exists(path), path
    # Kubernetes restarts the container in the same directories.
    agent.start()
    wait_envoy(agent)
    agent.stop(expect=0)


def test_sockets_are_served_before_envoy_starts(new_agent, authority):
    agent = new_agent(root_pem=authority.root_pem)
    agent.start()
    wait_envoy(agent)
    events = [row["event"] for row in agent.status()["timeline"]]
    at = events.index("envoy exec")
    served = [event for event in events[:at] if "socket" in event]
    assert len(served) == 2, events
    agent.stop(expect=0)


def test_long_socket_path_is_refused_by_name(new_agent, authority):
    agent = new_agent(root_pem=authority.root_pem)
    agent.proxy_config["configPath"] = "./" + "d" * 110
    agent.start()
    assert agent.wait_exit() == 255
    assert re.search(r"d{110}/XDS", agent.log())
    assert "107" in agent.log()


def test_moved_sockets_are_found_by_envoy(new_agent, mesh):
    """One option moves a socket for its server and for Envoy's bootstrap: Envoy gets all types and
    its certificate there."""
    mesh.control_plane.set(CDS, [resources.app_cluster("app", free_port())])
    mesh.control_plane.set(LDS, [resources.inbound_listener(free_port(), "app")])
    agent = new_agent(mesh.address, mesh.root_pem, env={"OUTRIGGER_POD_XDS_SOCKET": "./run/xds",
                                                        "OUTRIGGER_POD_SDS_SOCKET": "./run/sds"})
    agent.start().wait_ready()
    agent.admin.wait_certificate()
    assert not os.path.exists(agent.xds_socket) and not os.path.exists(agent.sds_socket)
    agent.stop(expect=0)


def test_drain_closes_inbound_listeners_only(new_agent, mesh):
    ports = {core.INBOUND: free_port(), core.OUTBOUND: free_port()}
    listeners = []
    for direction, port in ports.items():
        listeners.append(resources.inbound_listener(port, "app", name=f"listener-{port}"))
        listeners[-1].traffic_direction = direction
    mesh.control_plane.set(CDS, [resources.app_cluster("app", free_port())])
    mesh.control_plane.set(LDS, listeners)
    agent = new_agent(discovery=mesh.address, root_pem=mesh.root_pem,
                      proxy_config={"terminationDrainDuration": "600s", "drainDuration": "1s"})
    agent.start().wait_ready()

    def is_open(direction):
        try:
            socket.create_connection(("127.0.0.1", ports[direction]), 5).close()
            return True
        except ConnectionRefusedError:
            return False

    assert is_open(core.INBOUND) and is_open(core.OUTBOUND)
    agent.signal(signal.SIGTERM)
    agent.wait_log("Graceful termination period is 600000 ms")
    assert healthz(agent) == (503, "server is not live, current state is: DRAINING\n")
    agent.wait_for(lambda: not is_open(core.INBOUND), what="the inbound listener's end")
    assert is_open(core.OUTBOUND)
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
