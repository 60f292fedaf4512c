/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/names.h: the names that streams have subscribed to, each with the source that knows
 * it. A name is watched once, however many streams want it, and for as long as one does. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/fault.h"
#include "core/service.h"
#include "plugins/services/secret_source.h"

struct names;

struct served_name {
    struct served_name *next;
    struct names *names;
    const struct rig_provider *source;
    struct secret_watch watch;
    char name[]; /* NUL-terminated */
};

struct names {
    /* Set once by the owner. */
    const struct rig_provider *sources;
    size_t source_count;
    bool (*is_wanted)(void *ctx, const char *name); /* does a stream want it still? */
    void (*on_change)(void *ctx, const struct served_name *name, uint64_t generation);
    void *ctx;

    struct served_name *first;
};

/* NULL when nobody has subscribed to it. */
struct served_name *names_find(const struct names *names, struct rig_slice name);

/* Finds or adds it; NULL when no source knows the name. */
struct served_name *names_add(struct names *names, struct rig_slice name);

/* As secret_source_v1.current. */
int names_current(const struct served_name *name, struct secret *secret, struct rig_fault *why);

/* Lets go of names that no stream wants any more. */
void names_sweep(struct names *names);
