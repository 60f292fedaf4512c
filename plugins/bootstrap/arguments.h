/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/arguments.h: Envoy's command line, as Istio 1.21 writes it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/doc.h"

struct arguments_request {
    const char *binary;
    const char *config_file;
    const char *log_level;           /* "warning,misc:error" */
    const char *component_log_level; /* used when log_level names no component; may be "" */
    const char *override_json;       /* merged over the config file by Envoy; NULL for none */
    uint32_t drain_s;
    uint32_t concurrency; /* 0: Envoy decides */
    bool is_ipv6;
    bool is_log_json;
};

/* NULL-terminated, in `arena`, argv[0] first; NULL when the arena is spent. Items of the log
 * level that are dropped are named in `warnings`, a list. */
const char *const *arguments_build(const struct arguments_request *request, struct rig_arena *arena,
                                   struct rig_doc *warnings);

/* "misc:warn,info" -> level "info", components "misc:warn" (both may be ""). The last item
 * without ':' is the level. */
void arguments_split_level(const char *text, struct rig_arena *arena, const char **level,
                           const char **components, struct rig_doc *warnings);
