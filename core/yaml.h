/* SPDX-License-Identifier: Apache-2.0 */
/* core/yaml.h: YAML text -> document tree, by libyaml's events; YAML 1.2 core schema for plain
 * scalars (null, true/false, integers, floats), everything else a string. Every JSON text is
 * read too. Nodes carry their line.
 *
 * Refused with file:line: anchors' aliases that expand over the arena's budget, tags other than
 * the core schema's, keys that are no scalar, a repeated key, nesting over RIG_DOC_DEPTH_MAX,
 * more than one document. */
#pragma once

#include "doc.h"
#include "fault.h"

int rig_yaml_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                  struct rig_doc **doc, struct rig_fault *why);

/* Reads the file of at most `max_bytes`; an empty file gives a NULL node. */
int rig_yaml_read_file(const char *path, size_t max_bytes, struct rig_arena *arena,
                       struct rig_doc **doc, struct rig_fault *why);
