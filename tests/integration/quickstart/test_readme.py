# SPDX-License-Identifier: Apache-2.0
"""What the README files point at is there."""
import os
import re

import pytest

from harness.envoy import SOURCE_DIR


def readmes():
    for folder, folders, files in os.walk(SOURCE_DIR):
        folders[:] = [name for name in folders if name not in (".git", ".deps", "build")]
        if "README.md" in files:
            yield os.path.relpath(os.path.join(folder, "README.md"), SOURCE_DIR)


@pytest.mark.parametrize("readme", sorted(readmes()))
def test_links_lead_somewhere(readme):
    with open(os.path.join(SOURCE_DIR, readme), encoding="utf-8") as file:
        text = file.read()
    folder = os.path.dirname(os.path.join(SOURCE_DIR, readme))
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert os.path.exists(os.path.join(folder, target)), target


def test_first_commands_can_be_run():
    with open(os.path.join(SOURCE_DIR, "README.md"), encoding="utf-8") as file:
        commands = re.findall(r"^    ((?:examples|tests)/\S+\.sh)", file.read(), re.M)
    assert commands[:2] == ["examples/quickstart/run.sh", "tests/run.sh"]
    for command in commands:
        assert os.access(os.path.join(SOURCE_DIR, command), os.X_OK), command
