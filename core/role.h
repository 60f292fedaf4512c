/* SPDX-License-Identifier: Apache-2.0 */
/* core/role.h: a role is data: which plugins, which defaults, which names it answers to.
 *
 * Private to core. A role file (templates/roles/NAME.yaml) has the keys
 *   about         one sentence
 *   names         other names of the program that mean this role (argv[0])
 *   words         words that may follow the name and mean nothing more
 *   positional    section.key of the option that the first other word sets
 *   unknownFlags  "refuse" (default) or "ignore"
 *   plugins       list of plugin names, in order
 *   options       section -> key -> value
 *   named         NAME -> { options, failureStatus }: only when called by that name */
#pragma once

#include <stdbool.h>

#include "arena.h"
#include "doc.h"
#include "fault.h"
#include "options.h"

struct role {
    const char *name;
    const char *file;
    const char *about;
    const char *positional; /* NULL: none */
    bool ignores_unknown_flags;
    const struct rig_doc *words;   /* list of strings, or NULL */
    const struct rig_doc *plugins; /* list of strings */
    const struct rig_doc *options; /* map, or NULL */
    const struct rig_doc *named_options;
    int failure_status; /* of a program that did not come up; 1 unless the name says otherwise */
};

/* Looks for DIR/NAME.yaml in each directory, then for a role that lists NAME among its `names`.
 * RIG_E_ABSENT when there is none. */
int role_find(const char *const *dirs, const char *name, struct rig_arena *arena, struct role *role,
              struct rig_fault *why);

/* Prints name and about of every role there is. */
void role_list(const char *const *dirs);

/* Applies section -> key -> value. Every problem is appended to `problems` as a line
 * "file:line: section.key: ..."; RIG_E_RANGE when there was one. `origin` NULL: file:line. A
 * section that `is_known_section` accepts belongs to a plugin that is not loaded. */
int config_apply(struct options *const *tables, size_t count, const struct rig_doc *sections,
                 const char *file, const char *origin,
                 bool (*is_known_section)(void *ctx, const char *name), void *ctx,
                 struct rig_buf *problems);
