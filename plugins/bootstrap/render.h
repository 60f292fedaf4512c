/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/render.h: workload -> Envoy's bootstrap document -> file. */
#pragma once

#include <stdbool.h>

#include "core/arena.h"
#include "core/doc.h"
#include "core/fault.h"
#include "core/script.h"
#include "plugins/mesh/proxy_config.h"
#include "plugins/services/workload.h"

struct render_request {
    const struct workload *workload;
    const struct proxy_settings *settings; /* of workload->proxy_config */
    const struct rig_script_dirs *scripts;
    const char *envoy_version; /* "1.29" */
    bool is_delta;
};

/* True when every address of the pod is IPv6; a mixed pod talks to itself over IPv4. */
bool render_is_ipv6(const struct workload *workload);

/* DIR/NAME without "./", "//" and a leading "./", as Istio writes paths. */
char *render_path(struct rig_arena *arena, const char *dir, const char *name);

/* Calls templates/bootstrap.lua, or the site's. `document` lives in `arena`. */
int render_document(const struct render_request *request, struct rig_arena *arena,
                    struct rig_doc **document, struct rig_fault *why);

/* Writes the document as JSON, making missing directories (0700). */
int render_file(const struct rig_doc *document, const char *path, struct rig_fault *why);
