/* SPDX-License-Identifier: Apache-2.0 */
/* core/json.h: JSON text <-> document tree (RFC 8259, strict; numbers kept as text). */
#pragma once

#include "doc.h"
#include "fault.h"

/* `name` is what a fault calls the text ("PROXY_CONFIG", a file name); it says
 * "name:line:column: what". A repeated key: the last one wins, in the place of the first. Not
 * UTF-8, nesting over RIG_DOC_DEPTH_MAX, or anything after the document fails. RIG_E_SYNTAX, or
 * RIG_E_TOO_LARGE when nested too deeply or the arena is too small. Nodes carry their line. */
int rig_json_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                  struct rig_doc **doc, struct rig_fault *why);

/* The same, but a repeated key is RIG_E_SYNTAX. */
int rig_json_read_unique(struct rig_slice text, const char *name, struct rig_arena *arena,
                         struct rig_doc **doc, struct rig_fault *why);

enum rig_json_style { RIG_JSON_COMPACT, RIG_JSON_PRETTY };

/* Appends the document, without a line end. Strings are escaped as RFC 8259 asks, no more; octets
 * that are not UTF-8 come out as U+FFFD. NULL is written as null. */
void rig_json_write(const struct rig_doc *doc, enum rig_json_style style, struct rig_buf *out);
