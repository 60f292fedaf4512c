/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/types.h: which responses go to Envoy, by their type URL. */
#pragma once

#include "core/buf.h"

enum type_fate {
    TYPE_RELAY,   /* goes to Envoy as it comes */
    TYPE_HOLD,    /* not decided: keep it until the response's own type URL is known */
    TYPE_OWN,     /* meant for the agent, never for Envoy */
    TYPE_FOREIGN, /* nothing that Envoy may see */
};

/* By the type of a resource in it: RELAY only for types that are known never to be wrapped in
 * a response of another type. */
enum type_fate type_fate_of_resource(struct rig_slice type_url);

/* By the response's own type URL: never HOLD. */
enum type_fate type_fate_of_response(struct rig_slice type_url);
