/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/proto_json.c: walks document and descriptor side by side. No generated
 * struct is filled: the descriptors alone tell names, numbers and types. */
#include "proto_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/config.h"

#include <standalone_proto/wellknown.pb-c.h>

#include "wire.h"

/* One step of the way from the top of the document, for the sentences. */
struct step {
    const struct step *up;
    struct rig_fault *why;
    const char *name; /* NULL: an item */
    size_t index;
    bool is_in_any; /* the map here also holds "@type" */
};

static struct step step_to(const struct step *up, const char *name)
{
    return (struct step){.up = up, .why = up->why, .name = name};
}

static struct step step_to_item(const struct step *up, size_t index)
{
    return (struct step){.up = up, .why = up->why, .index = index};
}

static size_t write_path(const struct step *step, char *text, size_t bytes)
{
    size_t len = step->up != NULL ? write_path(step->up, text, bytes) : 0;
    if (len >= bytes)
        return len;
    if (step->name == NULL)
        len += (size_t)snprintf(text + len, bytes - len, "[%zu]", step->index);
    else
        len += (size_t)snprintf(text + len, bytes - len, "%s%s", len > 0 ? "." : "", step->name);
    return len;
}

static int refuse(const struct step *step, int code, const char *reason)
{
    char path[512] = "";
    write_path(step, path, sizeof(path));
    return rig_fault_set(step->why, code, "%s: %s", path, reason);
}

static int refuse_kind(const struct step *step, const struct rig_doc *doc, const char *wanted)
{
    char reason[128];
    snprintf(reason, sizeof(reason), "%s, not %s", rig_doc_kind_text(doc->kind), wanted);
    return refuse(step, RIG_E_SYNTAX, reason);
}

static int encode_message(const struct rig_doc *doc, const ProtobufCMessageDescriptor *type,
                          const struct step *step, struct rig_buf *out);

/* ---- scalars ---- */

static int read_integer(const struct rig_doc *doc, ProtobufCType type, const struct step *step,
                        int64_t *value)
{
    int64_t least = type == PROTOBUF_C_TYPE_UINT32  ? 0
                    : type == PROTOBUF_C_TYPE_INT32 ? INT32_MIN
                                                    : INT64_MIN;
    int64_t most = type == PROTOBUF_C_TYPE_UINT32  ? UINT32_MAX
                   : type == PROTOBUF_C_TYPE_INT32 ? INT32_MAX
                                                   : INT64_MAX;
    if (doc->kind != RIG_DOC_NUMBER)
        return refuse_kind(step, doc, "a number");
    if (rig_doc_int64(doc, value) < 0 || *value < least || *value > most)
        return refuse(step, RIG_E_RANGE, "the number does not fit");
    return 0;
}

static int read_enum(const struct rig_doc *doc, const ProtobufCFieldDescriptor *field,
                     const struct step *step, int64_t *value)
{
    const ProtobufCEnumDescriptor *names = field->descriptor;
    if (doc->kind != RIG_DOC_STRING)
        return refuse_kind(step, doc, "a name");
    const ProtobufCEnumValue *found =
        protobuf_c_enum_descriptor_get_value_by_name(names, (const char *)doc->text.at);
    if (found == NULL)
        return refuse(step, RIG_E_UNKNOWN, "no such value");
    *value = found->value;
    return 0;
}

static int read_varint(const struct rig_doc *doc, const ProtobufCFieldDescriptor *field,
                       const struct step *step, int64_t *value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (doc->kind != RIG_DOC_BOOL)
            return refuse_kind(step, doc, "true or false");
        *value = doc->is_true;
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(doc, field, step, value);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT32:
        return read_integer(doc, field->type, step, value);
    default:
        return refuse(step, RIG_E_UNKNOWN, "a field of a type that is not written here");
    }
}

/* A value of one field, whatever it is. Proto3 leaves defaults out, but in lists and oneofs. */
static int encode_value(const struct rig_doc *doc, const ProtobufCFieldDescriptor *field,
                        const struct step *step, struct rig_buf *out)
{
    bool is_plain = field->label != PROTOBUF_C_LABEL_REPEATED &&
                    (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        struct rig_buf inner = {0};
        int err = encode_message(doc, field->descriptor, step, &inner);
        if (err == 0)
            wire_bytes(out, field->id, rig_buf_slice(&inner));
        rig_buf_deinit(&inner);
        return err;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        if (doc->kind != RIG_DOC_STRING)
            return refuse_kind(step, doc, "a string");
        if (doc->text.len > 0 || !is_plain)
            wire_bytes(out, field->id, doc->text);
        return 0;
    }
    int64_t value = 0;
    int err = read_varint(doc, field, step, &value);
    if (err == 0 && (value != 0 || !is_plain)) {
        wire_tag(out, field->id, WIRE_VARINT);
        wire_varint(out, (uint64_t)value);
    }
    return err;
}

/* ---- lists and maps ---- */

/* protoc turns a map into a list of messages named …Entry with the fields key and value. */
static bool is_map_entry(const ProtobufCFieldDescriptor *field)
{
    if (field->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *type = field->descriptor;
    size_t len = strlen(type->short_name);
    return len > 5 && strcmp(type->short_name + len - 5, "Entry") == 0 && type->n_fields == 2 &&
           strcmp(type->fields[0].name, "key") == 0;
}

static int compare_members(const void *a, const void *b)
{
    const struct rig_doc_member *left = a, *right = b;
    return strcmp((const char *)left->key.at, (const char *)right->key.at);
}

static int encode_entry(const struct rig_doc_member *member, const ProtobufCFieldDescriptor *field,
                        const struct step *step, struct rig_buf *out)
{
    const ProtobufCMessageDescriptor *type = field->descriptor;
    struct step inner_step = step_to(step, (const char *)member->key.at);
    struct rig_buf entry = {0};
    wire_bytes(&entry, type->fields[0].id, member->key);
    int err = encode_value(member->value, &type->fields[1], &inner_step, &entry);
    if (err == 0)
        wire_bytes(out, field->id, rig_buf_slice(&entry));
    rig_buf_deinit(&entry);
    return err;
}

static int encode_map(const struct rig_doc *doc, const ProtobufCFieldDescriptor *field,
                      const struct step *step, struct rig_buf *out)
{
    if (doc->kind != RIG_DOC_MAP)
        return refuse_kind(step, doc, "a map");
    struct rig_doc_member *sorted = rig_alloc((doc->count + 1) * sizeof(*sorted));
    for (size_t i = 0; i < doc->count; i++)
        sorted[i] = doc->members[i];
    qsort(sorted, doc->count, sizeof(*sorted), compare_members);
    int err = 0;
    for (size_t i = 0; err == 0 && i < doc->count; i++)
        err = encode_entry(&sorted[i], field, step, out);
    rig_free(sorted);
    return err;
}

static int encode_list(const struct rig_doc *doc, const ProtobufCFieldDescriptor *field,
                       const struct step *step, struct rig_buf *out)
{
    /* To Lua an empty table is a map (core/script.h). */
    if (doc->kind == RIG_DOC_MAP && doc->count == 0)
        return 0;
    if (doc->kind != RIG_DOC_LIST)
        return refuse_kind(step, doc, "a list");
    int err = 0;
    for (size_t i = 0; err == 0 && i < doc->count; i++) {
        struct step item_step = step_to_item(step, i);
        err = encode_value(doc->items[i], field, &item_step, out);
    }
    return err;
}

static int encode_field(const struct rig_doc *doc, const ProtobufCFieldDescriptor *field,
                        const struct step *step, struct rig_buf *out)
{
    if (field->label != PROTOBUF_C_LABEL_REPEATED)
        return encode_value(doc, field, step, out);
    if (is_map_entry(field))
        return encode_map(doc, field, step, out);
    return encode_list(doc, field, step, out);
}

/* ---- messages ---- */

/* The first key that is no field; "@type" belongs to the Any around the message. */
static const char *unknown_key(const struct rig_doc *doc, const ProtobufCMessageDescriptor *type,
                               bool is_in_any)
{
    for (size_t i = 0; i < doc->count; i++) {
        const char *key = (const char *)doc->members[i].key.at;
        if (is_in_any && strcmp(key, "@type") == 0)
            continue;
        if (protobuf_c_message_descriptor_get_field_by_name(type, key) == NULL)
            return key;
    }
    return NULL;
}

static int encode_fields(const struct rig_doc *doc, const ProtobufCMessageDescriptor *type,
                         const struct step *step, struct rig_buf *out)
{
    unsigned chosen = 0; /* the oneof that has its member; protobuf-c numbers them by an offset */
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        const struct rig_doc *value = rig_doc_get(doc, field->name);
        if (value == NULL || value->kind == RIG_DOC_NULL)
            continue;
        struct step field_step = step_to(step, field->name);
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            if (chosen == field->quantifier_offset)
                return refuse(&field_step, RIG_E_SYNTAX, "excludes another field that is given");
            chosen = field->quantifier_offset;
        }
        int err = encode_field(value, field, &field_step, out);
        if (err < 0)
            return err;
    }
    return 0;
}

static int encode_plain(const struct rig_doc *doc, const ProtobufCMessageDescriptor *type,
                        const struct step *step, struct rig_buf *out)
{
    if (doc->kind != RIG_DOC_MAP)
        return refuse_kind(step, doc, "a map");
    const char *unknown = unknown_key(doc, type, step->is_in_any);
    if (unknown != NULL) {
        char reason[256];
        snprintf(reason, sizeof(reason), "no such field of %s", type->name);
        struct step field_step = step_to(step, unknown);
        return refuse(&field_step, RIG_E_UNKNOWN, reason);
    }
    return encode_fields(doc, type, step, out);
}

static int encode_any(const struct rig_doc *doc, const struct step *step, struct rig_buf *out)
{
    if (doc->kind != RIG_DOC_MAP)
        return refuse_kind(step, doc, "a map");
    struct step type_step = step_to(step, "@type");
    const char *url = rig_doc_get_text(doc, "@type", NULL);
    if (url == NULL)
        return refuse(&type_step, RIG_E_ABSENT, "is missing");
    const ProtobufCMessageDescriptor *type = proto_type_find(rig_slice_text(url));
    if (type == NULL)
        return refuse(&type_step, RIG_E_UNKNOWN, "this type is not written here");
    struct rig_buf inner = {0};
    struct step inside = *step;
    inside.is_in_any = true;
    int err = encode_plain(doc, type, &inside, &inner);
    if (err == 0) {
        wire_text(out, 1, url);
        if (inner.len > 0)
            wire_bytes(out, 2, rig_buf_slice(&inner));
    }
    rig_buf_deinit(&inner);
    return err;
}

static int encode_duration(const struct rig_doc *doc, const struct step *step, struct rig_buf *out)
{
    uint64_t ms;
    if (doc->kind != RIG_DOC_STRING)
        return refuse_kind(step, doc, "a duration like \"1.5s\"");
    if (rig_duration_parse((const char *)doc->text.at, &ms) < 0)
        return refuse(step, RIG_E_SYNTAX, "not a duration like \"1.5s\"");
    if (ms >= 1000) {
        wire_tag(out, 1, WIRE_VARINT);
        wire_varint(out, ms / 1000);
    }
    if (ms % 1000 != 0) {
        wire_tag(out, 2, WIRE_VARINT);
        wire_varint(out, ms % 1000 * 1000000);
    }
    return 0;
}

static int encode_message(const struct rig_doc *doc, const ProtobufCMessageDescriptor *type,
                          const struct step *step, struct rig_buf *out)
{
    if (type == &google__protobuf__any__descriptor)
        return encode_any(doc, step, out);
    if (type == &google__protobuf__duration__descriptor)
        return encode_duration(doc, step, out);
    if (type == &google__protobuf__bool_value__descriptor ||
        type == &google__protobuf__uint32_value__descriptor)
        return encode_value(doc, &type->fields[0], step, out);
    return encode_plain(doc, type, step, out);
}

int proto_json_encode(const struct rig_doc *doc, const ProtobufCMessageDescriptor *type,
                      const char *name, struct rig_buf *out, struct rig_fault *why)
{
    struct step top = {.why = why, .name = name};
    size_t before = out->len;
    int err = encode_message(doc, type, &top, out);
    if (err < 0)
        out->len = before;
    return err;
}
