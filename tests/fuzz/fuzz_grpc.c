/* SPDX-License-Identifier: Apache-2.0 */
/* Any octets as a gRPC byte stream, cut into pieces of any size: the deframer tells the same as a
 * reader that has them all at once. The same octets as grpc-message and grpc-status. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/alloc.h"
#include "core/grpc.h"
#include "core/grpc_frame.h"
#include "core/grpc_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was told, as text: 'b' with the length, 'd' with octets, 'e'. Pieces are joined. */
struct telling {
    struct rig_buf events;
    bool is_in_bytes;
    unsigned stop_after; /* events; 0: never */
    unsigned count;
    struct grpc_deframer *deframer;
};

static void tell(struct telling *telling, char kind)
{
    rig_require(telling->deframer == NULL || !telling->deframer->is_stopped);
    telling->is_in_bytes = kind == 'd';
    rig_buf_append(&telling->events, &kind, 1);
    telling->count++;
    if (telling->deframer != NULL && telling->count == telling->stop_after)
        telling->deframer->is_stopped = true;
}

static void on_begin(void *ctx, uint32_t length)
{
    tell(ctx, 'b');
    rig_buf_append(&((struct telling *)ctx)->events, &length, sizeof(length));
}

static void on_bytes(void *ctx, struct rig_slice bytes)
{
    struct telling *telling = ctx;
    rig_require(bytes.len > 0);
    if (!telling->is_in_bytes)
        tell(telling, 'd');
    rig_buf_append_slice(&telling->events, bytes);
}

static void on_end(void *ctx)
{
    tell(ctx, 'e');
}

static const struct grpc_sink sink = {on_begin, on_bytes, on_end};

/* The reader that has them all. */
static int read_all(struct rig_slice data, struct telling *telling, bool *is_mid)
{
    while (data.len > 0) {
        *is_mid = true;
        if (data.at[0] != 0)
            return RIG_E_PROTOCOL;
        if (data.len < 5)
            return 0;
        uint32_t length = (uint32_t)data.at[1] << 24 | (uint32_t)data.at[2] << 16 |
                          (uint32_t)data.at[3] << 8 | data.at[4];
        on_begin(telling, length);
        data = rig_slice(data.at + 5, data.len - 5);
        size_t take = data.len < length ? data.len : length;
        if (take > 0)
            on_bytes(telling, rig_slice(data.at, take));
        if (take < length)
            return 0;
        on_end(telling);
        *is_mid = false;
        data = rig_slice(data.at + take, data.len - take);
    }
    return 0;
}

static void deframe(struct rig_slice data, uint32_t seed)
{
    struct grpc_deframer deframer = {0};
    struct telling pieces = {.deframer = &deframer}, whole = {0};
    if (seed & 1)
        pieces.stop_after = 1 + (seed >> 1) % 8;
    bool is_mid = false;
    int expected = read_all(data, &whole, &is_mid);
    int err = 0;
    while (data.len > 0 && err == 0) {
        seed = seed * 1664525 + 1013904223;
        size_t piece = (seed >> 16) % 9;
        if (piece == 8)
            piece = (seed >> 8) % 4096;
        piece = piece < data.len ? piece : data.len;
        struct rig_fault why;
        err = grpc_deframe(&deframer, rig_slice(data.at, piece), &sink, &pieces, &why);
        data = rig_slice(data.at + piece, data.len - piece);
    }
    if (deframer.is_stopped) {
        rig_require(pieces.events.len <= whole.events.len);
    } else {
        rig_require(err == expected && pieces.events.len == whole.events.len);
        rig_require(grpc_deframer_is_mid(&deframer) == is_mid);
    }
    rig_require(pieces.events.len == 0 ||
                memcmp(pieces.events.at, whole.events.at, pieces.events.len) == 0);
    rig_buf_deinit(&pieces.events);
    rig_buf_deinit(&whole.events);
}

static void status(struct rig_slice data)
{
    int code = grpc_code_parse(data);
    rig_require(code >= 0 && code <= 999);
    char *text = grpc_message_decode(data);
    rig_require(strlen(text) <= GRPC_MESSAGE_MAX);
    struct rig_buf encoded = {0};
    grpc_message_encode(text, &encoded);
    rig_require(encoded.len <= GRPC_MESSAGE_MAX);
    for (size_t i = 0; i < encoded.len; i++)
        rig_require(encoded.at[i] >= 0x20 && encoded.at[i] <= 0x7e);
    char *again = grpc_message_decode(rig_buf_slice(&encoded));
    rig_require(strncmp(text, again, strlen(again)) == 0);
    rig_require(encoded.len > GRPC_MESSAGE_MAX - 3 || strlen(again) == strlen(text));
    rig_free(again);
    rig_free(text);
    rig_buf_deinit(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t seed = 0;
    if (size < sizeof(seed))
        return 0;
    memcpy(&seed, data, sizeof(seed));
    deframe(rig_slice(data + sizeof(seed), size - sizeof(seed)), seed);
    status(rig_slice(data + sizeof(seed), size - sizeof(seed)));
    return 0;
}
