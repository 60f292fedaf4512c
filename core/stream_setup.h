/* SPDX-License-Identifier: Apache-2.0 */
/* core/stream_setup.h: how a stream comes to be: a socket that connects or was accepted, then
 * the handshake when it is to be TLS. Private to stream.c, listener.c, dial.c. */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "fault.h"

struct rig_stream;
struct rig_tls;

enum stream_stage { STREAM_CONNECTING, STREAM_HANDSHAKE, STREAM_READY };

struct stream_setup {
    int fd;                  /* taken, also on failure; non-blocking */
    bool is_connecting;      /* connect(2) answered EINPROGRESS */
    struct rig_tls *tls;     /* NULL: plain; shared until settled or closed */
    const char *server_name; /* whom a TLS client expects; NULL for a server */
    /* The stream is ready, or cannot be (`err` < 0; the sentence is rig_stream_fault; the caller
     * closes). Does not come when stream_stage is STREAM_READY at once, as for an accepted plain
     * socket. Never inside stream_open. */
    void (*on_settled)(void *ctx, int err);
    void *ctx;
};

/* Returns owned (rig_stream_close). */
int stream_open(uv_loop_t *loop, const struct stream_setup *setup, struct rig_stream **stream,
                struct rig_fault *why);

/* How far it has come; of a failed one, what failed. */
enum stream_stage stream_stage(const struct rig_stream *stream);

/* `on_gone` runs when the stream's memory goes; NULL forgets it. */
void stream_on_gone(struct rig_stream *stream, void (*on_gone)(void *ctx), void *ctx);
