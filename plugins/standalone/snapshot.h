/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/snapshot.h: everything one workload's Envoy is told: its resources of the
 * four types, encoded, with a version for each and for each set. Versions are made from the
 * content, so they mean the same after a restart. Never changes once it is made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"
#include "core/fault.h"
#include "core/script.h"

#include "identity.h"
#include "mesh_file.h"

/* In the order in which Envoy must get them: what is pointed at before what points. */
enum snapshot_type {
    SNAPSHOT_CLUSTERS,
    SNAPSHOT_ENDPOINTS,
    SNAPSHOT_LISTENERS,
    SNAPSHOT_ROUTES,
    SNAPSHOT_TYPES,
};

#define SNAPSHOT_VERSION_BYTES 17 /* 64 bits in hexadecimal, and a NUL */

struct snapshot_resource {
    const char *name;
    char version[SNAPSHOT_VERSION_BYTES];
    struct rig_slice any; /* an encoded google.protobuf.Any */
};

struct snapshot_set {
    struct snapshot_resource *items; /* sorted by name */
    size_t count;
    char version[SNAPSHOT_VERSION_BYTES];
};

struct snapshot {
    struct rig_arena arena; /* private: all of it */
    struct snapshot_set sets[SNAPSHOT_TYPES];
};

/* Whom a snapshot is for. */
struct snapshot_node {
    struct identity identity;
    const char *address; /* the one it says it has; "" when it says none */
};

const char *snapshot_type_url(enum snapshot_type type);
const char *snapshot_type_name(enum snapshot_type type); /* "Cluster", ... */

/* False when the URL is none of ours. */
bool snapshot_type_find(struct rig_slice type_url, enum snapshot_type *type);

/* Renders templates/standalone.lua for this node and encodes what it answers. Returns owned. */
int snapshot_make(const struct mesh *mesh, const struct rig_script_dirs *dirs,
                  const struct snapshot_node *node, struct snapshot **snapshot,
                  struct rig_fault *why);
void snapshot_free(struct snapshot *snapshot);

/* NULL when there is none of this name. */
const struct snapshot_resource *snapshot_find(const struct snapshot_set *set, const char *name);
