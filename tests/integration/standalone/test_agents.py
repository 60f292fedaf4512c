# SPDX-License-Identifier: Apache-2.0
"""The whole product: two agents with their Envoys take certificates and configuration from the
embedded control plane, by tokens of `outrigger token create`."""
import json

import pytest

from harness.envoy import http_get
from harness.ports import free_ports
from harness.standalone import good_claims, spiffe
from harness.wait import wait_for


@pytest.fixture(params=["false", "true"], ids=["sotw", "delta"])
def shop(request, new_standalone, new_app, new_agent):
    """frontend may call orders; thief sees it and may not."""
    app = new_app("orders")
    port, inbound = free_ports(2)
    standalone = new_standalone({"services": [
        {"name": "orders", "namespace": "shop", "port": port, "workloadPort": app.port,
         "endpoints": [{"address": "127.0.0.1", "port": inbound}],
         "allow": [spiffe("shop", "frontend")],
         "clients": [spiffe("shop", "frontend"), spiffe("shop", "thief")]}]}).start()
    standalone.port, standalone.inbound, standalone.app = port, inbound, app
    standalone.variant = "delta" if request.param == "true" else "SotW"

    def agent(name):
        # Istio's bootstrap leaves a listener's figures out unless they are asked for.
        figures = {"proxyStatsMatcher": {"inclusionPrefixes": ["listener."]}}
        return new_agent(standalone.address, standalone.root_pem,
                         token=standalone.token("shop", name), name=name, namespace="shop",
                         proxy_config=figures, env={"ISTIO_DELTA_XDS": request.param}).start()

    standalone.agent = agent
    return standalone


def test_two_agents_talk_mutual_tls(shop):
    orders, frontend = shop.agent("orders"), shop.agent("frontend")
    orders.wait_ready()
    frontend.wait_ready()
    status, body = http_get(shop.port, "/hello")
    assert status == 200, body
    headers = json.loads(body)["headers"]
    assert f"URI={spiffe('shop', 'frontend')}" in headers["x-forwarded-client-cert"]
    assert orders.admin.stat(f"listener.127.0.0.1_{shop.inbound}.ssl.handshake") >= 1
    certificate = orders.admin.wait_certificate()
    assert certificate["subject_alt_names"] == [{"uri": spiffe("shop", "orders")}]
    assert shop.status()["certificates"] == {"issued": 2, "refused": 0}

    def all_accepted():
        streams = {stream["identity"]: stream["types"] for stream in shop.status()["streams"]}
        return len(streams) == 2 and all(
            kind["sent"] == kind["accepted"] and kind["nacks"] == 0
            for types in streams.values() for kind in types.values()) and streams
    streams = wait_for(all_accepted, what="everything accepted")
    assert {stream["variant"] for stream in shop.status()["streams"]} == {shop.variant}
    assert set(streams[spiffe("shop", "frontend")]) == {
        "Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"}
    orders.stop()
    frontend.stop()
    wait_for(lambda: shop.status()["streams"] == [])
    shop.stop()


def test_an_identity_that_is_not_allowed_gets_403(shop):
    orders, thief = shop.agent("orders"), shop.agent("thief")
    orders.wait_ready()
    thief.wait_ready()
    status, body = http_get(shop.port, "/hello")
    assert (status, body) == (403, "RBAC: access denied")
    assert shop.app.seen == []


def test_a_token_that_has_expired_is_no_way_in(shop):
    token = shop.sign_token(good_claims("shop", "orders", exp=1600000000))
    agent = shop.agent("orders")
    agent.kill()
    agent.write("var/run/secrets/tokens/istio-token", token)
    agent.start()
    agent.wait_log("authentication failure|request authenticate failure")
    assert not agent.is_ready()
    agent.write("var/run/secrets/tokens/istio-token", shop.token("shop", "orders"))
    agent.wait_ready()  # without a restart
