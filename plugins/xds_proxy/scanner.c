/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/scanner.c: protobuf read as it is pushed in, three levels at most.
 *
 * One octet or one run of octets is a step; all state between steps is in struct scan, so any
 * split gives the same result. Lengths are checked against the message around them when they
 * are read, and nothing is allocated by them. */
#include "scanner.h"

#include "core/alloc.h"
#include "core/fault.h"

enum scan_shape {
    SHAPE_RESPONSE = SCAN_RESPONSE,
    SHAPE_DELTA_RESPONSE = SCAN_DELTA_RESPONSE,
    SHAPE_REQUEST = SCAN_REQUEST,
    SHAPE_DELTA_REQUEST = SCAN_DELTA_REQUEST,
    SHAPE_ANY,
    SHAPE_RESOURCE,
    SHAPE_STATUS,
    SHAPE_COUNT,
};

enum scan_role {
    ROLE_SKIP,
    ROLE_TEXT,     /* keep the string */
    ROLE_TYPE,     /* keep it: the message's own type URL */
    ROLE_ANY_TYPE, /* keep it: what a resource is */
    ROLE_ENTER,    /* read the message inside */
    ROLE_RESOURCE, /* count; read inside only until the type is known */
    ROLE_REMOVED,  /* count */
    ROLE_ERROR,    /* read the status inside */
    ROLE_CODE,     /* keep the number */
};

enum scan_step { STEP_TAG, STEP_VALUE, STEP_LENGTH, STEP_BODY, STEP_BROKEN };

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct scan_field {
    uint8_t role;
    uint8_t wire;  /* another wire type makes it an unknown field, as in every decoder */
    uint8_t shape; /* of what is inside */
    size_t target; /* offset of the text */
};

#define FIELDS_MAX 8
#define TEXT(role, member)                                                                         \
    {                                                                                              \
        role, WIRE_BYTES, 0, offsetof(struct scan, member)                                         \
    }
#define INSIDE(role, shape)                                                                        \
    {                                                                                              \
        role, WIRE_BYTES, shape, 0                                                                 \
    }

/* Field numbers of envoy.service.discovery.v3, google.protobuf.Any and google.rpc.Status. */
static const struct scan_field fields[SHAPE_COUNT][FIELDS_MAX] = {
    [SHAPE_RESPONSE] = {[1] = TEXT(ROLE_TEXT, version),
                        [2] = INSIDE(ROLE_RESOURCE, SHAPE_ANY),
                        [4] = TEXT(ROLE_TYPE, type_url),
                        [5] = TEXT(ROLE_TEXT, nonce)},
    [SHAPE_DELTA_RESPONSE] = {[1] = TEXT(ROLE_TEXT, version),
                              [2] = INSIDE(ROLE_RESOURCE, SHAPE_RESOURCE),
                              [4] = TEXT(ROLE_TYPE, type_url),
                              [5] = TEXT(ROLE_TEXT, nonce),
                              [6] = INSIDE(ROLE_REMOVED, 0)},
    [SHAPE_REQUEST] = {[1] = TEXT(ROLE_TEXT, version),
                       [4] = TEXT(ROLE_TYPE, type_url),
                       [5] = TEXT(ROLE_TEXT, nonce),
                       [6] = INSIDE(ROLE_ERROR, SHAPE_STATUS)},
    [SHAPE_DELTA_REQUEST] = {[2] = TEXT(ROLE_TYPE, type_url),
                             [6] = TEXT(ROLE_TEXT, nonce),
                             [7] = INSIDE(ROLE_ERROR, SHAPE_STATUS)},
    [SHAPE_ANY] = {[1] = TEXT(ROLE_ANY_TYPE, peeked)},
    [SHAPE_RESOURCE] = {[2] = INSIDE(ROLE_ENTER, SHAPE_ANY)},
    [SHAPE_STATUS] = {[1] = {ROLE_CODE, WIRE_VARINT, 0, 0}, [2] = TEXT(ROLE_TEXT, error)},
};

static const struct scan_field unknown_field = {.role = ROLE_SKIP};

static void text_clear(struct scan_text *text)
{
    rig_buf_clear(&text->buf);
    text->is_cut = false;
}

static void text_append(struct scan_text *text, const uint8_t *at, size_t len)
{
    size_t room = SCAN_TEXT_MAX - text->buf.len;
    if (len > room) {
        text->is_cut = true;
        len = room;
    }
    rig_buf_append(&text->buf, at, len);
}

static struct scan_text *field_text(struct scan *scan)
{
    switch (scan->field->role) {
    case ROLE_TEXT:
    case ROLE_TYPE:
    case ROLE_ANY_TYPE:
        return (struct scan_text *)(void *)((char *)scan + scan->field->target);
    default:
        return NULL;
    }
}

static int broken(struct scan *scan)
{
    scan->step = STEP_BROKEN;
    return RIG_E_PROTOCOL;
}

static struct scan_frame *top(struct scan *scan)
{
    return &scan->frames[scan->depth];
}

static void next_tag(struct scan *scan)
{
    scan->step = STEP_TAG;
    scan->value = 0;
    scan->shift = 0;
}

/* The body of the field is complete. */
static void body_done(struct scan *scan)
{
    uint8_t role = scan->field->role;
    bool is_response = scan->kind == SCAN_RESPONSE || scan->kind == SCAN_DELTA_RESPONSE;
    if (role == ROLE_ANY_TYPE && scan->peeked.buf.len > 0) {
        scan->peek = SCAN_PEEK_RESOURCE;
    } else if (role == ROLE_TYPE && is_response && scan->peek == SCAN_PEEK_NONE &&
               scan->type_url.buf.len > 0) {
        text_clear(&scan->peeked);
        rig_buf_append_slice(&scan->peeked.buf, rig_buf_slice(&scan->type_url.buf));
        scan->peeked.is_cut = scan->type_url.is_cut;
        scan->peek = SCAN_PEEK_TYPE;
    }
    next_tag(scan);
}

static void enter(struct scan *scan, uint8_t shape, uint64_t length)
{
    top(scan)->left -= length;
    scan->depth++;
    *top(scan) = (struct scan_frame){.left = length, .shape = shape};
    next_tag(scan);
}

/* Leaves the messages that are complete. */
static void leave(struct scan *scan)
{
    while (scan->depth > 0 && scan->step == STEP_TAG && top(scan)->left == 0) {
        if (top(scan)->shape == SHAPE_ANY && scan->peek == SCAN_PEEK_NONE)
            scan->peek = SCAN_PEEK_BLIND;
        scan->depth--;
    }
}

/* A length-delimited field of `length` octets begins. */
static int begin_body(struct scan *scan, uint64_t length)
{
    const struct scan_field *field = scan->field;
    if (length > top(scan)->left)
        return broken(scan);
    switch (field->role) {
    case ROLE_RESOURCE:
        scan->resources++;
        if (scan->peek == SCAN_PEEK_NONE) {
            enter(scan, field->shape, length);
            return 0;
        }
        break;
    case ROLE_ERROR:
        scan->has_error = true;
        enter(scan, field->shape, length);
        return 0;
    case ROLE_ENTER:
        if (scan->peek == SCAN_PEEK_NONE) {
            enter(scan, field->shape, length);
            return 0;
        }
        break;
    case ROLE_REMOVED:
        scan->removed++;
        break;
    default:
        break;
    }
    struct scan_text *text = field_text(scan);
    if (text != NULL)
        text_clear(text);
    scan->step = STEP_BODY;
    scan->body = length;
    if (length == 0)
        body_done(scan);
    return 0;
}

static int begin_field(struct scan *scan, uint64_t tag)
{
    uint64_t number = tag >> 3;
    uint8_t wire = tag & 7;
    if (tag > UINT32_MAX || number == 0)
        return broken(scan);
    scan->field = &unknown_field;
    if (number < FIELDS_MAX && fields[top(scan)->shape][number].role != ROLE_SKIP &&
        fields[top(scan)->shape][number].wire == wire)
        scan->field = &fields[top(scan)->shape][number];
    scan->value = 0;
    scan->shift = 0;
    switch (wire) {
    case WIRE_VARINT:
        scan->step = STEP_VALUE;
        return 0;
    case WIRE_BYTES:
        scan->step = STEP_LENGTH;
        return 0;
    case WIRE_FIXED64:
    case WIRE_FIXED32:
        return begin_body(scan, wire == WIRE_FIXED64 ? 8 : 4);
    default: /* groups: no message of the discovery protocol has had one */
        return broken(scan);
    }
}

/* One octet of a tag, a number or a length. */
static int step_varint(struct scan *scan, uint8_t octet)
{
    if (scan->shift == 63 && octet > 1)
        return broken(scan);
    scan->value |= (uint64_t)(octet & 0x7f) << scan->shift;
    scan->shift += 7;
    top(scan)->left--;
    bool is_last = (octet & 0x80) == 0;
    if (top(scan)->left == 0 && (!is_last || scan->step == STEP_TAG))
        return broken(scan);
    if (!is_last)
        return 0;
    if (scan->step == STEP_TAG)
        return begin_field(scan, scan->value);
    if (scan->step == STEP_LENGTH)
        return begin_body(scan, scan->value);
    if (scan->field->role == ROLE_CODE)
        scan->error_code = scan->value;
    next_tag(scan);
    return 0;
}

/* As much of the body as is there; returns how much. */
static size_t step_body(struct scan *scan, const uint8_t *at, size_t len)
{
    if (len > scan->body)
        len = (size_t)scan->body;
    struct scan_text *text = field_text(scan);
    if (text != NULL)
        text_append(text, at, len);
    scan->body -= len;
    top(scan)->left -= len;
    if (scan->body == 0)
        body_done(scan);
    return len;
}

int scan_feed(struct scan *scan, struct rig_slice bytes)
{
    const uint8_t *at = bytes.at;
    const uint8_t *end = at + bytes.len;
    while (at < end) {
        if (scan->step == STEP_BROKEN)
            return RIG_E_PROTOCOL;
        if (scan->step == STEP_BODY) {
            at += step_body(scan, at, (size_t)(end - at));
        } else {
            rig_require(top(scan)->left > 0); /* fed past the end of the message */
            int err = step_varint(scan, *at++);
            if (err < 0)
                return err;
        }
        leave(scan);
    }
    return 0;
}

bool scan_is_whole(const struct scan *scan)
{
    return scan->depth == 0 && scan->step == STEP_TAG && scan->frames[0].left == 0;
}

void scan_begin(struct scan *scan, uint32_t length)
{
    text_clear(&scan->version);
    text_clear(&scan->type_url);
    text_clear(&scan->nonce);
    text_clear(&scan->peeked);
    text_clear(&scan->error);
    scan->peek = SCAN_PEEK_NONE;
    scan->has_error = false;
    scan->error_code = 0;
    scan->resources = 0;
    scan->removed = 0;
    scan->depth = 0;
    scan->frames[0] = (struct scan_frame){.left = length, .shape = (uint8_t)scan->kind};
    next_tag(scan);
}

void scan_init(struct scan *scan, enum scan_kind kind)
{
    *scan = (struct scan){.kind = kind};
    scan_begin(scan, 0);
}

void scan_deinit(struct scan *scan)
{
    rig_buf_deinit(&scan->version.buf);
    rig_buf_deinit(&scan->type_url.buf);
    rig_buf_deinit(&scan->nonce.buf);
    rig_buf_deinit(&scan->peeked.buf);
    rig_buf_deinit(&scan->error.buf);
}
