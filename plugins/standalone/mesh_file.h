/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/mesh_file.h: the one YAML file that says which services there are, where they
 * run and who may call them. Read once, at start; everything in it is checked before it is used. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/fault.h"

#include "identity.h"

#define MESH_FILE_BYTES_MAX (1024 * 1024)

struct mesh_endpoint {
    const char *address; /* numeric, IPv4 or IPv6 */
    uint16_t port;       /* where its Envoy takes mutual TLS */
};

/* A list of identities that may also be absent: `is_given` false means everybody. */
struct mesh_identities {
    bool is_given;
    struct identity *items;
    size_t count;
};

struct mesh_service {
    const char *name;
    struct identity identity; /* of its workloads; the namespace is the service's */
    bool is_tcp;
    uint16_t port;          /* clients' Envoys listen here on 127.0.0.1 */
    uint16_t workload_port; /* the application, on 127.0.0.1 beside each endpoint */
    struct mesh_endpoint *endpoints;
    size_t endpoint_count;
    struct mesh_identities allow;   /* who may call */
    struct mesh_identities clients; /* who gets a listener for it */
    uint32_t line;
};

struct mesh {
    struct rig_arena arena; /* private: all of the above */
    const char *trust_domain;
    struct mesh_service *services;
    size_t service_count;
};

/* Reads and checks the text; `name` is what faults call it. RIG_E_SYNTAX, RIG_E_RANGE,
 * RIG_E_UNKNOWN, RIG_E_ABSENT, RIG_E_TOO_LARGE, with a sentence that starts with name:line.
 * Returns owned. */
int mesh_read(struct rig_slice text, const char *name, struct mesh **mesh, struct rig_fault *why);

/* The same of a file; also libuv's code when it cannot be read. */
int mesh_read_file(const char *path, struct mesh **mesh, struct rig_fault *why);

void mesh_free(struct mesh *mesh);

bool mesh_identities_has(const struct mesh_identities *list, const struct identity *identity);
