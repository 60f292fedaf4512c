# SPDX-License-Identifier: Apache-2.0
"""An agent that does nothing but get and serve certificates, and the CA behind it."""
import datetime

import pytest

from harness.ca import CertificateService
from harness.grpc_server import GrpcServer
from harness.secret_stream import SecretStream, channel

TOKEN = "the-token-of-this-pod"

ROLE = """\
about: Certificates alone
positional: pod.type
plugins: [pod, sds, workload_certs, istio_ca]
"""


@pytest.fixture
def ca(authority, server_tls, closing):
    """A CertificateService (not yet served) with .server, .address, .start() and .kill()."""
    service = CertificateService(authority, token=TOKEN, ttl=datetime.timedelta(hours=24))
    service.server = GrpcServer([service], tls=server_tls)
    service.address = service.server.address
    service.start = service.server.start
    service.close = service.kill = service.server.kill
    closing.append(service)
    return service


@pytest.fixture
def new_secrets_agent(new_agent, ca):
    """Makes an agent (not yet started) that talks to `ca`; ECDSA keys unless `rsa`, for speed."""
    agents = []

    def make(rsa=False, env=None, **options):
        env = {**({} if rsa else {"ECC_SIGNATURE_ALGORITHM": "ECDSA"}), **(env or {})}
        options = {"token": TOKEN, "root_pem": ca.authority.root_pem, "ca_address": ca.address,
                   **options}
        agent = new_agent(program="outrigger", env=env, arguments=[
            "secrets", "sidecar", "--role-dir=roles", "--script-dir=site",
            "--log_output_level=all:debug", "--log_as_json"], **options)
        agent.write("roles/secrets.yaml", ROLE)
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        if agent.process is not None and agent.process.poll() is None:
            agent.stop()
        log = agent.log()
        assert "PRIVATE KEY" not in log and "-----BEGIN" not in log
        assert TOKEN not in log


@pytest.fixture
def secrets_agent(new_secrets_agent, ca):
    """The plain case: the CA is up, the agent started."""
    ca.start()
    return new_secrets_agent().start()


@pytest.fixture
def new_stream(closing):
    """Opens a SecretStream on an agent's socket or on a channel()."""
    def make(over, **options):
        over = over.sds_socket if hasattr(over, "sds_socket") else over
        closing.append(SecretStream(over, **options))
        return closing[-1]
    return make


@pytest.fixture
def new_channel(closing):
    """A connection to an agent's socket that several streams share, as Envoy has it."""
    def make(agent):
        closing.append(channel(agent.sds_socket))
        return closing[-1]
    return make
