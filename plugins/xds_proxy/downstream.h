/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/downstream.h: Envoy's streams on the Unix socket. */
#pragma once

#include "core/fault.h"

struct xds_proxy;

/* Listens at `path`; each stream that comes becomes a relay. */
int downstream_listen(struct xds_proxy *proxy, const char *path, struct rig_fault *why);
