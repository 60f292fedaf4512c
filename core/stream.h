/* SPDX-License-Identifier: Apache-2.0 */
/* core/stream.h: a connected socket, plain or TLS, and the listener that accepts them.
 *
 * Pull model: the owner reads when told that it may, so back-pressure is simply not reading.
 * A stream lives on the loop: rig_stream_close is asynchronous and reports once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "fault.h"

struct rig_stream;
struct rig_tls;

struct rig_stream_events {
    /* There may be something to read (or an end, or an error to learn by reading). Called while
     * reading is wanted; an owner that returns before UV_EAGAIN is called again after others. */
    void (*on_readable)(void *ctx);
    /* A write that had answered UV_EAGAIN may be tried again. */
    void (*on_writable)(void *ctx);
};

/* The owner's callbacks; keeps `events`. A new stream wants no reading. */
void rig_stream_bind(struct rig_stream *stream, const struct rig_stream_events *events, void *ctx);

void rig_stream_want_read(struct rig_stream *stream, bool wanted);

/* Octets read (> 0), 0 at the peer's orderly end, UV_EAGAIN when nothing is there now, else the
 * connection is broken: libuv's code, or RIG_E_TLS with the reason in rig_stream_fault. */
ssize_t rig_stream_read(struct rig_stream *stream, uint8_t *at, size_t len);

/* Octets taken (may be fewer than `len`), or UV_EAGAIN: on_writable follows. After UV_EAGAIN the
 * next write starts with the same octets (TLS demands it; they may have moved). */
ssize_t rig_stream_write(struct rig_stream *stream, const uint8_t *at, size_t len);

/* Why a read or write failed; empty text when nothing is known. Borrowed. */
const struct rig_fault *rig_stream_fault(const struct rig_stream *stream);

/* The peer is 127.0.0.0/8, ::1 (also as ::ffff:127.x) or on a Unix socket. */
bool rig_stream_peer_is_loopback(const struct rig_stream *stream);

/* Closes at once (with TLS: a close_notify is tried). on_closed may be NULL; it is called from
 * the loop, after which the stream is gone. No other callback comes after this call. */
void rig_stream_close(struct rig_stream *stream, void (*on_closed)(void *ctx), void *ctx);

struct rig_listener;

struct rig_listener_options {
    const char *address;    /* "unix:PATH", or "HOST:PORT" with a numeric host ("[::]:15020");
                             * port 0: any free one */
    unsigned socket_mode;   /* chmod of a Unix socket; 0: leave */
    struct rig_tls *tls;    /* shared with the caller (rig_tls_free); NULL: plain */
    uint32_t handshake_timeout_ms; /* TLS handshake of an accepted peer; 0: 10,000 */
    uint32_t max_connections;      /* more wait in the backlog; 0: no limit of ours */
    /* A connection is ready (handshake done). Takes the stream. */
    void (*on_accept)(void *ctx, struct rig_stream *stream);
    void *ctx;
};

/* Binds and listens. Unix: a leftover socket, regular file or empty directory at the path is
 * removed first, a missing parent directory is made (0750), a path over 107 octets is refused by
 * name (sun_path is 108 with its NUL). Returns owned. */
int rig_listener_open(uv_loop_t *loop, const struct rig_listener_options *options,
                      struct rig_listener **listener, struct rig_fault *why);

/* True when somebody listens on this "unix:PATH" now; false for a leftover, and for TCP. For those
 * who must not take a socket over from a living server. Does not wait. */
bool rig_listener_is_served(const char *address);

/* "127.0.0.1:34567" or "unix:PATH", as bound. Borrowed. */
const char *rig_listener_address(const struct rig_listener *listener);

/* Stops accepting and removes a Unix socket's file. Accepted streams are their owners'. */
void rig_listener_close(struct rig_listener *listener, void (*on_closed)(void *ctx), void *ctx);
