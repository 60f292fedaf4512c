# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: the agent, its peers and the certificates between them."""
