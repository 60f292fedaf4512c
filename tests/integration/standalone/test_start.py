# SPDX-License-Identifier: Apache-2.0
"""Starts that go well and starts that cannot."""
import os
import shutil
import subprocess

import pytest

from harness.envoy import SOURCE_DIR



def test_unknown_key_is_told_with_file_and_line(new_standalone):
    standalone = new_standalone("services:\n"
                                "  - name: orders\n"
                                "    port: 8080\n"
                                "    workloadPort: 9090\n"
                                "    endpoints: [{address: 127.0.0.1, port: 15006}]\n"
                                "    alow: []\n")
    status, said = standalone.run_to_end()
    assert status != 0
    assert "mesh.yaml:6: services[0].alow: unknown key; known here: name, namespace, " in said
    assert not os.path.exists(standalone.state_dir)


def test_absent_mesh_file(new_standalone):
    standalone = new_standalone()
    os.unlink(standalone.path("mesh.yaml"))
    status, said = standalone.run_to_end()
    assert status != 0
    assert "mesh.yaml: no such file or directory" in said


def test_open_key_file_is_refused(new_standalone):
    standalone = new_standalone().start()
    standalone.stop()
    os.chmod(os.path.join(standalone.state_dir, "root-key.pem"), 0o644)
    status, said = standalone.run_to_end()
    assert status != 0
    assert "root-key.pem: its mode 0644 lets others read it: chmod 600 it" in said


def test_taken_address_is_told(shop, new_standalone):
    second = new_standalone(arguments=["--address", shop.address])
    status, said = second.run_to_end()
    assert status != 0
    assert shop.address in said


def test_address_file_goes_with_the_program(shop):
    assert shop.address == shop.status()["address"]
    shop.stop()
    assert not os.path.exists(shop.path("address"))


def test_a_sites_template_is_tried_at_start(new_standalone):
    standalone = new_standalone()
    os.mkdir(standalone.path("site"))
    with open(standalone.path("site/standalone.lua"), "w", encoding="utf-8") as file:
        file.write("local M = {}\n"
                   "function M.resources()\n"
                   "  return { clusters = list { { name = 'a', nmae = 1 } }, endpoints = list {},\n"
                   "    listeners = list {}, routes = list {} }\n"
                   "end\n"
                   "return M\n")
    standalone.arguments += ["--script-dir", "site"]
    status, said = standalone.run_to_end()
    assert status != 0
    assert "clusters[0].nmae: no such field of envoy.config.cluster.v3.Cluster" in said


def test_status_needs_no_secret(shop):
    said = str(shop.status())
    assert "PRIVATE KEY" not in said and "PRIVATE KEY" not in shop.log()


# ---- our .proto files against Envoy's ----

def test_protos_have_envoys_names_numbers_and_types(tmp_path):
    from google.protobuf import descriptor_pb2, descriptor_pool
    import envoy.config.cluster.v3.cluster_pb2  # noqa: F401, these fill the pool
    import envoy.config.listener.v3.listener_pb2  # noqa: F401
    import envoy.config.route.v3.route_pb2  # noqa: F401
    import envoy.extensions.filters.http.rbac.v3.rbac_pb2  # noqa: F401
    import envoy.extensions.filters.http.router.v3.router_pb2  # noqa: F401
    import envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2  # noqa: F401,E501
    import envoy.extensions.filters.network.rbac.v3.rbac_pb2  # noqa: F401
    import envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2  # noqa: F401
    import envoy.extensions.transport_sockets.tls.v3.tls_pb2  # noqa: F401
    import envoy.extensions.upstreams.http.v3.http_protocol_options_pb2  # noqa: F401

    directory = os.path.join(SOURCE_DIR, "plugins/standalone/proto")
    files = sorted(name for name in os.listdir(directory) if name.endswith(".proto"))
    compiler = shutil.which("protoc-c")
    subprocess.run([compiler, f"--proto_path={directory}",
                    f"--descriptor_set_out={tmp_path}/set", *files], cwd=directory, check=True)
    ours = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "set").read_bytes())
    theirs = descriptor_pool.Default()
    compared = 0

    def compare(message, full_name):
        nonlocal compared
        real = descriptor_pb2.DescriptorProto()
        theirs.FindMessageTypeByName(full_name).CopyToProto(real)
        fields = {field.name: field for field in real.field}
        for field in message.field:
            other = fields[field.name]
            assert (field.number, field.type, field.label, field.type_name) == \
                (other.number, other.type, other.label, other.type_name), field.name
            assert field.HasField("oneof_index") == other.HasField("oneof_index"), field.name
            compared += 1
        values = {enum.name: {v.name: v.number for v in enum.value} for enum in real.enum_type}
        for enum in message.enum_type:
            assert {v.name: v.number for v in enum.value}.items() <= values[enum.name].items()
        for nested in message.nested_type:
            compare(nested, f"{full_name}.{nested.name}")

    for file in ours.file:
        for message in file.message_type:
            compare(message, f"{file.package}.{message.name}")
        for enum in file.enum_type:
            real = theirs.FindEnumTypeByName(f"{file.package}.{enum.name}")
            for value in enum.value:
                assert real.values_by_name[value.name].number == value.number
    assert compared > 120


@pytest.mark.parametrize("arguments, sentence", [
    (["--address", "localhost"], "standalone.address"),
    (["--server-names", ",".join("abcdefghijklmnopqrstuvwxyzabcdefghij")],
     "standalone.serverNames: over 28 names"),
])
def test_wrong_options_are_told(new_standalone, arguments, sentence):
    status, said = new_standalone(arguments=arguments).run_to_end()
    assert status != 0
    assert sentence in said
