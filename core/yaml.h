/* SPDX-License-Identifier: Apache-2.0 */
/* core/yaml.h: YAML text -> document tree, by libyaml's events; YAML 1.2 core schema for plain
 * scalars (null, true/false, integers, floats), everything else a string: yes and 12:30 are
 * strings, 010 is ten. Numbers come out in JSON's spelling (0x1F as 31, .5 as 0.5). Every JSON
 * text is read too. Nodes carry their line.
 *
 * Refused with "file:line: what": anchors' aliases that expand over the arena's budget, tags other
 * than the core schema's, keys that are no scalar, a repeated key, the merge key "<<", .inf and
 * .nan (JSON has none), nesting over RIG_DOC_DEPTH_MAX, more than one document. RIG_E_SYNTAX,
 * RIG_E_RANGE for a number, RIG_E_TOO_LARGE for a limit. */
#pragma once

#include "doc.h"
#include "fault.h"

int rig_yaml_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                  struct rig_doc **doc, struct rig_fault *why);

/* Reads the file of at most `max_bytes`. An empty text or file gives a node of kind NULL. */
int rig_yaml_read_file(const char *path, size_t max_bytes, struct rig_arena *arena,
                       struct rig_doc **doc, struct rig_fault *why);
