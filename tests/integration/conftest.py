# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all stories; what a failing test leaves is shown, what any test leaves is removed."""
import datetime
import os

import pytest

from harness import agent as agent_module
from harness.agent import Agent
from harness.apps import EchoApp
from harness.ca import CertificateService
from harness.cable import Cable
from harness.control_plane import ControlPlane
from harness.grpc_server import GrpcServer
from harness.pki import Authority

SERVER_NAMES = ["istiod.istio-system.svc", "localhost", "127.0.0.1"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for agent in getattr(item, "rig_agents", []):
            log = "".join(line for line in agent.log().splitlines(True)
                          if '"envoy envoy_bug"' not in line)  # stack traces of a new Envoy
            report.sections.append((f"log of agent {agent.name}", log[-8000:]))


@pytest.fixture(scope="session", autouse=True)
def built():
    if not os.path.exists(agent_module.BINARY):
        pytest.exit(f"{agent_module.BINARY} is not there: run tests/run.sh", returncode=3)


@pytest.fixture
def closing():
    """A list; each object's close() is called at the end, last first."""
    objects = []
    yield objects
    for each in reversed(objects):
        each.close()


@pytest.fixture
def new_agent(request):
    """Makes an Agent (not yet started) that is killed and removed at the end."""
    agents = request.node.rig_agents = []

    def make(*args, **options):
        agents.append(Agent(*args, **options))
        return agents[-1]

    yield make
    for agent in agents:
        agent.kill()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    for agent in getattr(item, "rig_agents", []):
        agent.discard()


@pytest.fixture(scope="session")
def authority():
    """Whom control plane and workloads are signed by."""
    return Authority("mesh root", intermediate=True)


@pytest.fixture(scope="session")
def server_tls(authority):
    return authority.issue(SERVER_NAMES)


class Mesh:
    """A control plane with its CA behind one port, as istiod has it."""

    def __init__(self, authority, tls, token="test-token"):
        self.authority = authority
        self.control_plane = ControlPlane(token=token)
        self.ca = CertificateService(authority, token=token, ttl=datetime.timedelta(hours=24))
        self.server = GrpcServer([self.control_plane, self.ca], tls=tls)

    @property
    def address(self):
        return self.server.address

    @property
    def root_pem(self):
        return self.authority.root_pem

    def close(self):
        self.server.kill()


@pytest.fixture(scope="session")
def other_authority():
    """Whom nobody here has reason to trust."""
    return Authority("somebody else's root")


@pytest.fixture
def mesh(authority, server_tls, closing):
    """A running Mesh without resources."""
    it = Mesh(authority, server_tls)
    it.server.start()
    closing.append(it)
    return it


@pytest.fixture(scope="module")
def new_mesh(authority, server_tls):
    """As `mesh`, for fixtures that outlive one test."""
    made = []

    def make():
        made.append(Mesh(authority, server_tls))
        made[-1].server.start()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def serving(closing):
    """serving(service, ...): a started GrpcServer that is killed at the end."""
    def start(*services, tls=None):
        server = GrpcServer(services, tls=tls).start()
        server.close = server.kill
        closing.append(server)
        return server
    return start


@pytest.fixture
def new_app(closing):
    def make(name="app"):
        closing.append(EchoApp(name))
        return closing[-1]
    return make


@pytest.fixture
def new_cable(closing):
    def make(port):
        closing.append(Cable(port))
        return closing[-1]
    return make
