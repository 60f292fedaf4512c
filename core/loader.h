/* SPDX-License-Identifier: Apache-2.0 */
/* core/loader.h: from a name to a checked plugin, and from a set of plugins to an order.
 *
 * Private to core. Every refusal is one sentence that names the plugin and what to do. */
#pragma once

#include <stddef.h>

#include "fault.h"
#include "plugin.h"

struct loaded {
    struct rig_plugin plugin; /* a copy; members that the plugin did not know read as zero */
    void *handle;             /* of dlopen; NULL for a plugin that is linked in */
};

/* Opens DIR/NAME.so. RIG_E_ABSENT when there is no such file, RIG_E_PLUGIN otherwise. */
int loader_open(const char *dir, const char *name, struct loaded *loaded, struct rig_fault *why);

/* Checks a table that is linked in (tests do that), as loader_open does. */
int loader_adopt(const struct rig_plugin *plugin, const char *name, struct loaded *loaded,
                 struct rig_fault *why);

void loader_close(struct loaded *loaded);

/* Fills `order` with indices so that providers come before those who need them and the given
 * order is kept otherwise. RIG_E_PLUGIN: a need without a provider, more than one where one is
 * due, or a circle, each named. */
int loader_order(const struct loaded *loaded, size_t count, size_t *order, struct rig_fault *why);

/* The names of all plugin files in a directory, sorted; returns owned (each and the array). */
int loader_list(const char *dir, char ***names, size_t *count, struct rig_fault *why);
