/* SPDX-License-Identifier: Apache-2.0 */
/* core/options.h: one section's option rows and their values, layer by layer.
 *
 * Private to core. A table is filled from its defaults first; each later layer overwrites, and
 * the origin of the value that stands is kept beside it. */
#pragma once

#include <stdbool.h>

#include "arena.h"
#include "buf.h"
#include "config.h"
#include "fault.h"

struct options_value {
    const char *text;   /* as it was written; NULL when nothing was */
    const char *origin; /* "default", "role agent", "file.yaml:3", "$NAME", "--flag" */
};

struct options {
    const char *section;
    const struct rig_option *rows; /* may be NULL */
    size_t count;
    void *config;                 /* the section's struct, in the arena */
    struct options_value *values; /* one for each row */
    struct rig_arena *arena;      /* keeps */
};

/* Allocates the struct and fills in the defaults. A default that does not parse is our own
 * mistake, and the sentence says so. */
int options_init(struct options *options, const char *section, const struct rig_option *rows,
                 size_t config_size, struct rig_arena *arena, struct rig_fault *why);

/* NULL when the section has no such key. */
const struct rig_option *options_row(const struct options *options, struct rig_slice key);

/* Parses and stores; RIG_E_RANGE with `section.key: "text" is not ...` (no origin in front). */
int options_set(struct options *options, const struct rig_option *row, const char *text,
                const char *origin, struct rig_fault *why);

/* The row's own variables (one that does not parse is warned about and passed over, the field's
 * habit), then OUTRIGGER_<SECTION>_<KEY> (one that does not parse is an error). */
int options_environment(struct options *options, struct rig_fault *why);

/* The key of `options` that is nearest to a misspelt one; NULL when none is near. */
const char *options_nearest(const struct options *options, struct rig_slice key);
