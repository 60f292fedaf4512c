# SPDX-License-Identifier: Apache-2.0
"""A program in the place of Envoy, for what no real Envoy can be made to do: it keeps its
arguments and its bootstrap file, then does what the test says."""
import json
import os

from .wait import wait_for

SCRIPT = """#!/bin/sh
{first}
cp "$2" {dir}/envoy-config.json
printf '%s\\n' "$@" | sed 's/^/a:/' > {dir}/envoy-argv.new
mv {dir}/envoy-argv.new {dir}/envoy-argv
{then}
"""


class FakeEnvoy:
    """Becomes the agent's binaryPath. `then` is shell: "exit 3", "exec sleep 60", ...; `first`
    is done before the test can see that it runs."""

    def __init__(self, agent, then="exit 0", first=""):
        self.agent = agent
        self.path = agent.path("fake-envoy")
        with open(self.path, "w", encoding="utf-8") as script:
            script.write(SCRIPT.format(dir=agent.dir, first=first, then=then))
        os.chmod(self.path, 0o755)
        agent.proxy_config["binaryPath"] = self.path

    def has_run(self):
        return os.path.exists(self.agent.path("envoy-argv"))

    def wait_run(self):
        wait_for(self.has_run, what="the fake Envoy's start")
        return self

    def arguments(self):
        """Without argv[0]. A line break inside an argument is kept."""
        with open(self.agent.path("envoy-argv"), encoding="utf-8") as file:
            return file.read()[len("a:"):].removesuffix("\n").split("\na:")

    def config(self):
        with open(self.agent.path("envoy-config.json"), encoding="utf-8") as file:
            return json.load(file)
