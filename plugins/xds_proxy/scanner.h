/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/scanner.h: reads the few fields of a discovery message that a relay needs,
 * while the message passes.
 *
 * Works on any split of the octets, skips everything else by its length and keeps nothing but
 * bounded copies of short strings, so that a push of 100 MB costs what one of 1 KB costs. What
 * comes before the decision whether a push is relayed: the type of the first resource
 * (`peek`), since the response's own type URL is written after all resources. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

enum scan_kind {
    SCAN_RESPONSE,       /* DiscoveryResponse */
    SCAN_DELTA_RESPONSE, /* DeltaDiscoveryResponse */
    SCAN_REQUEST,        /* DiscoveryRequest */
    SCAN_DELTA_REQUEST,  /* DeltaDiscoveryRequest */
};

/* The first thing seen in a response that tells its type. */
enum scan_peek {
    SCAN_PEEK_NONE,     /* nothing yet */
    SCAN_PEEK_TYPE,     /* its type URL, before any resource: no resource, or an odd writer */
    SCAN_PEEK_RESOURCE, /* the Any type of a resource */
    SCAN_PEEK_BLIND,    /* a resource whose body names no type */
};

/* Octets kept of one string. */
#define SCAN_TEXT_MAX 1024u

struct scan_text {
    struct rig_buf buf;
    bool is_cut; /* it was longer than SCAN_TEXT_MAX */
};

struct scan_field;

/* A message that is being read: the whole, or one inside it. */
struct scan_frame {
    uint64_t left; /* octets of it still to come, those of inner frames not counted */
    uint8_t shape; /* which message it is */
};

struct scan {
    struct scan_text version;  /* version_info, system_version_info */
    struct scan_text type_url; /* the last one wins, as everywhere in protobuf */
    struct scan_text nonce;
    struct scan_text peeked; /* what `peek` speaks of, for TYPE and RESOURCE */
    struct scan_text error;  /* error_detail.message */
    enum scan_peek peek;
    bool has_error; /* error_detail is there: a NACK */
    uint64_t error_code;
    uint64_t resources; /* resources seen so far; in a delta removed ones are not among them */
    uint64_t removed;

    /* private */
    enum scan_kind kind;
    struct scan_frame frames[3];
    uint8_t depth;
    uint8_t step;
    uint8_t shift;
    uint64_t value; /* the varint that is being read */
    const struct scan_field *field;
    uint64_t body; /* octets of the field's body still to come */
};

void scan_init(struct scan *scan, enum scan_kind kind);
void scan_deinit(struct scan *scan);

/* A new message of `length` octets begins; what was known of the one before is forgotten. */
void scan_begin(struct scan *scan, uint32_t length);

/* The next octets, never more than are missing. RIG_E_PROTOCOL when this is no protobuf message,
 * and for all that follows until the next scan_begin. */
int scan_feed(struct scan *scan, struct rig_slice bytes);

/* The last octet has been fed. */
bool scan_is_whole(const struct scan *scan);

static inline struct rig_slice scan_slice(const struct scan_text *text)
{
    return rig_buf_slice(&text->buf);
}

/* A type URL; empty when it is too long to be one of anybody's. */
static inline struct rig_slice scan_type(const struct scan_text *text)
{
    return text->is_cut ? rig_slice(NULL, 0) : rig_buf_slice(&text->buf);
}
