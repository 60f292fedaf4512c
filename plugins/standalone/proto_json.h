/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/proto_json.h: a document in protobuf's JSON form -> protobuf octets.
 *
 * The form is the one of Envoy's documentation: field names as in the .proto files, durations
 * as "1.5s", wrappers as their value, an Any as a map with "@type". Only what proto/ names is
 * taken; anything else is an error, so no misspelt field is lost. Equal documents give equal
 * octets: fields in ascending order, map entries sorted by key, defaults left out. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "core/buf.h"
#include "core/doc.h"
#include "core/fault.h"

#define PROTO_URL_PREFIX "type.googleapis.com/"

/* Appends the message. `name` is what a fault calls the document: RIG_E_UNKNOWN, RIG_E_SYNTAX or
 * RIG_E_RANGE and "listeners[0].filter_chains[0].nmae: no such field of …FilterChain". */
int proto_json_encode(const struct rig_doc *doc, const ProtobufCMessageDescriptor *type,
                      const char *name, struct rig_buf *out, struct rig_fault *why);

/* The message of a type URL among those an Any may hold here; NULL when there is none. */
const ProtobufCMessageDescriptor *proto_type_find(struct rig_slice type_url);
