# SPDX-License-Identifier: Apache-2.0
"""The proxy alone: an agent with the plugins pod and xds_proxy, between two scripted ends."""
import os

import pytest

from harness import raw_h2
from harness.ads import AdsClient, AdsServer
from harness.envoy import SOURCE_DIR
from harness.grpc_server import GrpcServer
from harness.load import RELEASE_BINARY

ROLE_DIR = os.path.join(SOURCE_DIR, "tests/data/roles")
KINDS = ["sotw", "delta"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def idle_relay(new_agent, authority):
    """An agent that is not started yet. options: as Agent's."""
    def make(discovery, env=None, **options):
        options.setdefault("root_pem", authority.root_pem)
        return new_agent(discovery, arguments=["relay"], program="outrigger",
                         env={"OUTRIGGER_ROLE_DIR": ROLE_DIR, **(env or {})}, **options)
    return make


@pytest.fixture
def new_relay(idle_relay):
    """A started agent whose socket is served."""
    def make(discovery, **options):
        agent = idle_relay(discovery, **options).start()
        agent.wait_log("Initializing with upstream address")
        return agent
    return make


@pytest.fixture
def release_binary():
    assert os.path.exists(RELEASE_BINARY), f"{RELEASE_BINARY} is not there: run tests/run.sh"
    return RELEASE_BINARY


@pytest.fixture
def new_control_plane(server_tls, closing):
    """A started GrpcServer with one AdsServer, `ads`."""
    def make(tls=server_tls, start=True):
        ads = AdsServer()
        server = GrpcServer([ads], tls=tls)
        server.ads, server.close = ads, server.kill
        closing.append(server)
        return server.start() if start else server
    return make


@pytest.fixture
def control_plane(new_control_plane):
    return new_control_plane()


@pytest.fixture
def new_raw_control_plane(server_tls, closing, tmp_path):
    """on_stream(connection, stream id) is the control plane's part of each stream."""
    def make(on_stream, **options):
        closing.append(raw_h2.Server(on_stream, tls=server_tls, tmp_path=tmp_path, **options))
        return closing[-1]
    return make


@pytest.fixture
def new_envoy(closing):
    """A grpcio client on the agent's socket."""
    def make(agent, kind="sotw", **options):
        closing.append(AdsClient(agent.xds_socket, kind, **options))
        return closing[-1]
    return make


@pytest.fixture
def new_raw_envoy(closing):
    """(connection, stream id) of a client that shows every frame; its request is sent."""
    def make(agent, kind="sotw", request=b"", **options):
        connection = raw_h2.connect(agent.xds_socket, **options)
        closing.append(connection)
        stream_id = connection.request(raw_h2.SOTW if kind == "sotw" else raw_h2.DELTA)
        connection.write(stream_id, raw_h2.message(request))
        return connection, stream_id
    return make
