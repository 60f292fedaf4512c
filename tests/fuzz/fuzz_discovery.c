/* SPDX-License-Identifier: Apache-2.0 */
/* Any octets as one of the four discovery messages. The first octet picks the message and how
 * it is cut; the scanner must say the same at once and in pieces, and the same as a plain reader
 * that has the whole message before it. */
#include <stdlib.h>

#include "core/alloc.h"
#include "core/fault.h"
#include "plugins/xds_proxy/scanner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the plain reader ---- */

struct plain {
    struct rig_slice version, type_url, nonce;
    uint64_t resources, removed;
    bool has_error;
};

static bool read_varint(struct rig_slice *in, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (in->len == 0 || (shift == 63 && in->at[0] > 1))
            return false;
        uint8_t octet = in->at[0];
        in->at++;
        in->len--;
        *value |= (uint64_t)(octet & 0x7f) << shift;
        if (octet < 0x80)
            return true;
    }
    return false;
}

/* One field; `body` is empty for a number. */
static bool read_field(struct rig_slice *in, uint64_t *number, unsigned *wire,
                       struct rig_slice *body)
{
    uint64_t tag, len;
    *body = rig_slice(in->at, 0);
    if (!read_varint(in, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
        return false;
    *number = tag >> 3;
    *wire = tag & 7;
    if (*wire == 0)
        return read_varint(in, &len);
    if (*wire == 2 ? !read_varint(in, &len) : *wire != 1 && *wire != 5)
        return false;
    if (*wire != 2)
        len = *wire == 1 ? 8 : 4;
    if (len > in->len)
        return false;
    *body = rig_slice(in->at, (size_t)len);
    in->at += len;
    in->len -= (size_t)len;
    return true;
}

/* The top level alone: what is inside a resource is checked by the scanner only while it looks
 * for a type, so a reader of the whole cannot say whether it has to be well-formed. */
static bool read_plain(enum scan_kind kind, struct rig_slice in, struct plain *out)
{
    static const unsigned numbers[][6] = {
        /* version, type_url, nonce, resources, removed, error */
        [SCAN_RESPONSE] = {1, 4, 5, 2, 0, 0},
        [SCAN_DELTA_RESPONSE] = {1, 4, 5, 2, 6, 0},
        [SCAN_REQUEST] = {1, 4, 5, 0, 0, 6},
        [SCAN_DELTA_REQUEST] = {0, 2, 6, 0, 0, 7},
    };
    const unsigned *number = numbers[kind];
    while (in.len > 0) {
        uint64_t seen;
        unsigned wire;
        struct rig_slice body;
        if (!read_field(&in, &seen, &wire, &body))
            return false;
        if (wire != 2)
            continue;
        if (seen == number[0])
            out->version = body;
        if (seen == number[1])
            out->type_url = body;
        if (seen == number[2])
            out->nonce = body;
        out->resources += seen == number[3];
        out->removed += seen == number[4];
        out->has_error = out->has_error || seen == number[5];
    }
    return true;
}

/* ---- the scanner ---- */

/* Feeds `message` in pieces of a length that follows from `cut`; 0: at once. */
static int scan_all(struct scan *scan, struct rig_slice message, uint8_t cut)
{
    scan_begin(scan, (uint32_t)message.len);
    size_t done = 0;
    while (done < message.len) {
        size_t len = cut == 0 ? message.len : 1 + (done * 7 + cut) % cut;
        if (len > message.len - done)
            len = message.len - done;
        /* A block of its own: a read past the piece is seen. */
        uint8_t *piece = malloc(len);
        rig_require(piece != NULL);
        memcpy(piece, message.at + done, len);
        int err = scan_feed(scan, rig_slice(piece, len));
        free(piece);
        if (err < 0)
            return err;
        done += len;
    }
    return 0;
}

static void require_text(const struct scan_text *text, struct rig_slice whole)
{
    rig_require(text->is_cut == (whole.len > SCAN_TEXT_MAX));
    if (text->is_cut)
        whole.len = SCAN_TEXT_MAX;
    rig_require(rig_slice_equal(rig_buf_slice(&text->buf), whole));
}

static void require_same_text(const struct scan_text *a, const struct scan_text *b)
{
    rig_require(a->is_cut == b->is_cut);
    rig_require(rig_slice_equal(rig_buf_slice(&a->buf), rig_buf_slice(&b->buf)));
}

static void require_same(const struct scan *a, const struct scan *b)
{
    require_same_text(&a->version, &b->version);
    require_same_text(&a->type_url, &b->type_url);
    require_same_text(&a->nonce, &b->nonce);
    require_same_text(&a->peeked, &b->peeked);
    require_same_text(&a->error, &b->error);
    rig_require(a->peek == b->peek && a->has_error == b->has_error);
    rig_require(a->error_code == b->error_code);
    rig_require(a->resources == b->resources && a->removed == b->removed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    enum scan_kind kind = (enum scan_kind)(data[0] & 3);
    struct rig_slice message = rig_slice(data + 1, size - 1);
    struct scan whole, pieces;
    scan_init(&whole, kind);
    scan_init(&pieces, kind);

    int err = scan_all(&whole, message, 0);
    rig_require(err == 0 || err == RIG_E_PROTOCOL);
    rig_require(scan_is_whole(&whole) == (err == 0));
    rig_require(scan_all(&pieces, message, 1 + (data[0] >> 2)) == err);
    require_same(&whole, &pieces);

    struct plain plain = {0};
    bool is_plain = read_plain(kind, message, &plain);
    rig_require(err < 0 || is_plain);
    if (err == 0) {
        require_text(&whole.version, plain.version);
        require_text(&whole.type_url, plain.type_url);
        require_text(&whole.nonce, plain.nonce);
        rig_require(whole.resources == plain.resources && whole.removed == plain.removed);
        rig_require(whole.has_error == plain.has_error);
    }
    scan_deinit(&whole);
    scan_deinit(&pieces);
    return 0;
}
