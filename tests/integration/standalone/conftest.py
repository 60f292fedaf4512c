# SPDX-License-Identifier: Apache-2.0
"""Fixtures around the embedded control plane."""
import os

import pytest

from harness.agent import BUILD_DIR
from harness.standalone import SHOP, AdsClient, Standalone

# A tree without the plugin's folder has nothing to test here.
if not os.path.exists(os.path.join(BUILD_DIR, "lib/outrigger/plugins/standalone.so")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def new_standalone(closing):
    """Makes a control plane, not yet started."""
    def make(mesh=None, **options):
        closing.append(Standalone(mesh or SHOP, **options))
        return closing[-1]
    return make


@pytest.fixture
def shop(new_standalone):
    """A running control plane of SHOP."""
    return new_standalone().start()


@pytest.fixture
def new_client(closing):
    def make(standalone, namespace="shop", service_account="frontend", **options):
        token = options.pop("token", None) or standalone.token(namespace, service_account)
        closing.append(AdsClient(standalone, token, **options))
        return closing[-1]
    return make
