/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/request.c: a reader of protobuf's wire format, and the fields of a request.
 *
 * Unknown fields are skipped; of a repeated single field the last one counts (protobuf's
 * encoding guide). Groups, which no message of this API ever had, are refused. */
#include "request.h"

#include "core/fault.h"

#define NODE_ID               1u
#define STATUS_CODE           1u
#define STATUS_MESSAGE        2u
#define REQUEST_VERSION_INFO  1u
#define REQUEST_NODE          2u
#define REQUEST_RESOURCE_NAME 3u
#define REQUEST_TYPE_URL      4u
#define REQUEST_NONCE         5u
#define REQUEST_ERROR_DETAIL  6u

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;         /* VARINT */
    struct rig_slice bytes; /* BYTES */
};

static int varint_read(struct rig_slice from, size_t *at, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*at >= from.len)
            return RIG_E_PROTOCOL;
        uint8_t octet = from.at[(*at)++];
        *value |= (uint64_t)(octet & 0x7f) << shift;
        if ((octet & 0x80) == 0)
            return 0;
    }
    return RIG_E_PROTOCOL;
}

static int skip(struct rig_slice from, size_t *at, uint64_t len)
{
    if (len > from.len - *at)
        return RIG_E_PROTOCOL;
    *at += (size_t)len;
    return 0;
}

/* 1 and the field at `*at`, 0 at the end, or RIG_E_PROTOCOL. */
static int field_read(struct rig_slice from, size_t *at, struct field *field)
{
    uint64_t tag;
    if (*at >= from.len)
        return 0;
    if (varint_read(from, at, &tag) < 0 || tag >> 3 == 0 || tag > UINT32_MAX)
        return RIG_E_PROTOCOL;
    *field = (struct field){.number = (uint32_t)(tag >> 3), .type = (enum wire_type)(tag & 7)};
    switch (field->type) {
    case WIRE_VARINT:
        return varint_read(from, at, &field->value) < 0 ? RIG_E_PROTOCOL : 1;
    case WIRE_FIXED64:
        return skip(from, at, 8) < 0 ? RIG_E_PROTOCOL : 1;
    case WIRE_FIXED32:
        return skip(from, at, 4) < 0 ? RIG_E_PROTOCOL : 1;
    case WIRE_BYTES:
        break;
    default:
        return RIG_E_PROTOCOL;
    }
    if (varint_read(from, at, &field->value) < 0)
        return RIG_E_PROTOCOL;
    size_t start = *at;
    if (skip(from, at, field->value) < 0)
        return RIG_E_PROTOCOL;
    field->bytes = rig_slice(from.at + start, (size_t)field->value);
    return 1;
}

/* A node's other fields are not looked into; the id comes first, so the reading ends there. */
static int node_read(struct rig_slice node, struct sds_request *request)
{
    size_t at = 0;
    struct field field;
    int more;
    while ((more = field_read(node, &at, &field)) > 0) {
        if (field.number != NODE_ID || field.type != WIRE_BYTES)
            continue;
        request->has_node_id = field.bytes.len > 0;
        return 0;
    }
    return more;
}

static int status_read(struct rig_slice status, struct sds_request *request)
{
    size_t at = 0;
    struct field field;
    int more;
    request->is_nack = true;
    while ((more = field_read(status, &at, &field)) > 0) {
        if (field.number == STATUS_CODE && field.type == WIRE_VARINT)
            request->error_code = (int32_t)field.value;
        else if (field.number == STATUS_MESSAGE && field.type == WIRE_BYTES)
            request->error_message = field.bytes;
    }
    return more;
}

static int request_take(const struct field *field, struct sds_request *request)
{
    if (field->type != WIRE_BYTES)
        return 0;
    switch (field->number) {
    case REQUEST_VERSION_INFO:
        request->version_info = field->bytes;
        return 0;
    case REQUEST_NODE:
        return node_read(field->bytes, request);
    case REQUEST_RESOURCE_NAME:
        request->name_count++;
        return 0;
    case REQUEST_TYPE_URL:
        request->type_url = field->bytes;
        return 0;
    case REQUEST_NONCE:
        request->response_nonce = field->bytes;
        return 0;
    case REQUEST_ERROR_DETAIL:
        return status_read(field->bytes, request);
    default:
        return 0;
    }
}

int sds_request_read(struct rig_slice message, struct sds_request *request)
{
    size_t at = 0;
    struct field field;
    int more;
    *request = (struct sds_request){.message = message};
    while ((more = field_read(message, &at, &field)) > 0) {
        if (request_take(&field, request) < 0)
            return RIG_E_PROTOCOL;
    }
    return more;
}

bool sds_request_name(const struct sds_request *request, size_t *cursor, struct rig_slice *name)
{
    struct field field;
    while (field_read(request->message, cursor, &field) > 0) {
        if (field.number == REQUEST_RESOURCE_NAME && field.type == WIRE_BYTES) {
            *name = field.bytes;
            return true;
        }
    }
    return false;
}
