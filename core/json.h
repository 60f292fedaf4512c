/* SPDX-License-Identifier: Apache-2.0 */
/* core/json.h: JSON text <-> document tree (RFC 8259, strict; numbers kept as text). */
#pragma once

#include "doc.h"
#include "fault.h"

/* `name` is what a fault calls the text ("PROXY_CONFIG", a file name). A repeated key: the last
 * one wins. Not UTF-8, nesting over RIG_DOC_DEPTH_MAX, or anything after the document fails. */
int rig_json_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                  struct rig_doc **doc, struct rig_fault *why);

enum rig_json_style { RIG_JSON_COMPACT, RIG_JSON_PRETTY };

/* Appends the document. Strings are escaped as RFC 8259 asks, no more. */
void rig_json_write(const struct rig_doc *doc, enum rig_json_style style, struct rig_buf *out);
