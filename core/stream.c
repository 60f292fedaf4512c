/* SPDX-License-Identifier: Apache-2.0 */
/* core/stream.c: a socket under uv_poll, with OpenSSL directly on its descriptor.
 *
 * No memory BIOs: an octet is copied by the kernel and by the cipher, no more. The price is that
 * OpenSSL reads ahead: octets may wait inside it while the socket is empty, when no poll event
 * will come. `kick` is the event for those. OpenSSL keeps its buffers while octets flow, since
 * fresh pages for each burst cost more than its cipher; they go when the stream is quiet. */
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "alloc.h"
#include "stream_setup.h"
#include "tls.h"
#include "tls_session.h"

#define QUIET_MS 500

struct rig_stream {
    uv_poll_t poll;
    uv_idle_t kick;
    uv_timer_t quiet; /* of TLS: gives OpenSSL's buffers back */
    unsigned open_handles;
    int fd;
    SSL *ssl;                /* NULL: plain */
    struct rig_fault *fault; /* made when there is something to say */
    const struct rig_stream_events *events;
    void *ctx;

    enum stream_stage stage;
    bool is_busy;    /* since the last tick of `quiet` */
    bool has_failed; /* in its stage */
    int mask;        /* what poll waits for */
    bool wants_read;
    bool is_read_dry;     /* the last read found nothing */
    bool is_write_full;   /* the last write was cut short; on_writable is due */
    bool tls_wants_write; /* a handshake or a read that cannot go on before a write */
    bool is_broken;       /* no close_notify any more */
    bool is_closing;
    bool has_end; /* `end` was found behind octets that had to be handed out first */
    int end;

    struct rig_tls *tls; /* of the handshake */
    void (*on_settled)(void *ctx, int err);
    void *settled_ctx;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
    void (*on_gone)(void *ctx);
    void *gone_ctx;
};

static struct rig_fault *fault_of(struct rig_stream *stream)
{
    if (stream->fault == NULL)
        stream->fault = rig_new(struct rig_fault);
    return stream->fault;
}

const struct rig_fault *rig_stream_fault(const struct rig_stream *stream)
{
    static const struct rig_fault none;
    return stream->fault != NULL ? stream->fault : &none;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static int wanted_mask(const struct rig_stream *stream)
{
    if (stream->has_failed)
        return 0;
    switch (stream->stage) {
    case STREAM_CONNECTING:
        return UV_WRITABLE;
    case STREAM_HANDSHAKE:
        return stream->tls_wants_write ? UV_WRITABLE : UV_READABLE;
    case STREAM_READY:
        return (stream->wants_read ? UV_READABLE : 0) |
               (stream->tls_wants_write || stream->is_write_full ? UV_WRITABLE : 0);
    }
    return 0;
}

/* Any change of the mask costs two epoll_ctl(2) in libuv, so it is made only when needed. */
static void poll_update(struct rig_stream *stream)
{
    int mask = wanted_mask(stream);
    if (stream->is_closing || mask == stream->mask)
        return;
    stream->mask = mask;
    if (mask != 0)
        uv_poll_start(&stream->poll, mask, on_poll);
    else
        uv_poll_stop(&stream->poll);
}

static void on_kick(uv_idle_t *kick);

static void kick_if_pending(struct rig_stream *stream)
{
    if (!stream->is_closing && stream->wants_read && stream->ssl != NULL && !stream->is_read_dry &&
        !stream->tls_wants_write && (SSL_has_pending(stream->ssl) || stream->has_end))
        uv_idle_start(&stream->kick, on_kick);
}

static void tell_readable(struct rig_stream *stream)
{
    if (stream->is_closing || !stream->wants_read)
        return;
    stream->events->on_readable(stream->ctx);
    kick_if_pending(stream);
}

static void on_kick(uv_idle_t *kick)
{
    struct rig_stream *stream = kick->data;
    uv_idle_stop(kick);
    tell_readable(stream);
}

static void on_quiet(uv_timer_t *quiet)
{
    struct rig_stream *stream = quiet->data;
    bool was_busy = stream->is_busy;
    stream->is_busy = false;
    /* It keeps them, too, while part of a record is in them. */
    if (was_busy || !SSL_free_buffers(stream->ssl))
        uv_timer_start(quiet, on_quiet, QUIET_MS, 0);
}

static void tls_is_busy(struct rig_stream *stream)
{
    stream->is_busy = true;
    if (!uv_is_active((uv_handle_t *)&stream->quiet))
        uv_timer_start(&stream->quiet, on_quiet, QUIET_MS, 0);
}

/* ---- setting up ---- */

static void settle(struct rig_stream *stream, int err)
{
    if (err == 0)
        stream->stage = STREAM_READY;
    else
        stream->has_failed = true;
    rig_tls_free(stream->tls);
    stream->tls = NULL;
    stream->tls_wants_write = false;
    if (err == 0 && stream->fault != NULL) {
        rig_free(stream->fault);
        stream->fault = NULL;
    }
    poll_update(stream);
    stream->on_settled(stream->settled_ctx, err);
}

static void handshake_step(struct rig_stream *stream)
{
    tls_is_busy(stream);
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(stream->ssl);
    if (result == 1) {
        settle(stream, tls_session_settle(stream->tls, stream->ssl, stream->fault));
        return;
    }
    int ssl_error = SSL_get_error(stream->ssl, result);
    if (ssl_error != SSL_ERROR_WANT_READ && ssl_error != SSL_ERROR_WANT_WRITE) {
        settle(stream, tls_session_error(ssl_error, "during the TLS handshake", stream->fault));
        return;
    }
    stream->tls_wants_write = ssl_error == SSL_ERROR_WANT_WRITE;
    poll_update(stream);
}

static void connect_step(struct rig_stream *stream)
{
    int err = 0;
    socklen_t len = sizeof(err);
    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        err = errno;
    if (err != 0) {
        rig_fault_set(fault_of(stream), -err, "%s", rig_error_text(-err));
        settle(stream, -err);
    } else if (stream->ssl != NULL) {
        stream->stage = STREAM_HANDSHAKE;
        handshake_step(stream);
    } else {
        settle(stream, 0);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct rig_stream *stream = poll->data;
    if (status < 0) {
        /* libuv stops a handle at POLLERR. What the error is, a read or a write tells. */
        stream->mask = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if (stream->stage == STREAM_CONNECTING) {
        connect_step(stream);
        return;
    }
    if (stream->stage == STREAM_HANDSHAKE) {
        handshake_step(stream);
        return;
    }
    if ((events & UV_READABLE) || stream->tls_wants_write) {
        stream->tls_wants_write = false;
        tell_readable(stream);
    }
    if (!stream->is_closing && (events & UV_WRITABLE) && stream->is_write_full) {
        stream->is_write_full = false;
        stream->events->on_writable(stream->ctx);
    }
    poll_update(stream);
}

int stream_open(uv_loop_t *loop, const struct stream_setup *setup, struct rig_stream **out,
                struct rig_fault *why)
{
    struct rig_stream *stream = rig_new(struct rig_stream);
    stream->fd = setup->fd;
    int err = uv_poll_init(loop, &stream->poll, setup->fd);
    if (err < 0) {
        close(setup->fd);
        rig_free(stream);
        return rig_fault_set(why, err, "cannot watch a socket: %s", rig_error_text(err));
    }
    uv_idle_init(loop, &stream->kick);
    uv_timer_init(loop, &stream->quiet);
    stream->poll.data = stream->kick.data = stream->quiet.data = stream;
    stream->open_handles = 3;
    stream->on_settled = setup->on_settled;
    stream->settled_ctx = setup->ctx;
    if (setup->tls != NULL) {
        stream->tls = tls_ref(setup->tls);
        err = tls_session_new(setup->tls, setup->fd, setup->server_name, &stream->ssl,
                              fault_of(stream));
        if (err < 0) {
            rig_fault_set(why, err, "%s", stream->fault->text);
            rig_stream_close(stream, NULL, NULL);
            return err;
        }
    }
    stream->stage = setup->is_connecting ? STREAM_CONNECTING
                    : setup->tls != NULL ? STREAM_HANDSHAKE
                                         : STREAM_READY;
    /* The client speaks first: waiting for "writable" starts it from the loop. */
    if (stream->stage == STREAM_HANDSHAKE && !SSL_is_server(stream->ssl))
        stream->tls_wants_write = true;
    poll_update(stream);
    *out = stream;
    return 0;
}

enum stream_stage stream_stage(const struct rig_stream *stream)
{
    return stream->stage;
}

void stream_on_gone(struct rig_stream *stream, void (*on_gone)(void *ctx), void *ctx)
{
    stream->on_gone = on_gone;
    stream->gone_ctx = ctx;
}

/* ---- the owner's side ---- */

bool rig_stream_peer_is_loopback(const struct rig_stream *stream)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } peer = {0};
    socklen_t len = sizeof(peer);
    if (getpeername(stream->fd, &peer.any, &len) < 0)
        return false;
    const uint8_t *v6 = peer.v6.sin6_addr.s6_addr;
    switch (peer.any.sa_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return ntohl(peer.v4.sin_addr.s_addr) >> 24 == 127;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&peer.v6.sin6_addr) ||
               (memcmp(v6, mapped, sizeof(mapped)) == 0 && v6[12] == 127);
    default:
        return false;
    }
}

void rig_stream_bind(struct rig_stream *stream, const struct rig_stream_events *events, void *ctx)
{
    stream->events = events;
    stream->ctx = ctx;
}

void rig_stream_want_read(struct rig_stream *stream, bool wanted)
{
    if (stream->is_closing || stream->wants_read == wanted)
        return;
    stream->wants_read = wanted;
    if (wanted)
        kick_if_pending(stream);
    else
        uv_idle_stop(&stream->kick);
    poll_update(stream);
}

static ssize_t broken(struct rig_stream *stream, int err)
{
    stream->is_broken = true;
    return err;
}

static ssize_t plain_read(struct rig_stream *stream, uint8_t *at, size_t len)
{
    for (;;) {
        ssize_t got = recv(stream->fd, at, len, 0);
        if (got >= 0)
            return got;
        if (errno == EINTR)
            continue;
        return errno == EAGAIN ? UV_EAGAIN : broken(stream, -errno);
    }
}

/* Fills `at` from as many records as are there: one SSL_read gives at most one. */
static ssize_t tls_read(struct rig_stream *stream, uint8_t *at, size_t len)
{
    size_t total = 0;
    if (stream->has_end)
        return stream->end;
    tls_is_busy(stream);
    stream->is_read_dry = false;
    while (total < len) {
        size_t room = len - total < INT32_MAX ? len - total : INT32_MAX;
        ERR_clear_error();
        errno = 0;
        int got = SSL_read(stream->ssl, at + total, (int)room);
        if (got > 0) {
            total += (size_t)got;
            if (SSL_has_pending(stream->ssl))
                continue;
            break; /* whether the socket has more, poll tells for less than a failing read(2) */
        }
        int ssl_error = SSL_get_error(stream->ssl, got);
        if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE) {
            stream->is_read_dry = ssl_error == SSL_ERROR_WANT_READ;
            stream->tls_wants_write = ssl_error == SSL_ERROR_WANT_WRITE;
            poll_update(stream);
            return total > 0 ? (ssize_t)total : UV_EAGAIN;
        }
        stream->has_end = true;
        if (ssl_error != SSL_ERROR_ZERO_RETURN) {
            stream->is_broken = true;
            stream->end = tls_session_error(ssl_error, "while reading", fault_of(stream));
        }
        return total > 0 ? (ssize_t)total : stream->end;
    }
    return (ssize_t)total;
}

ssize_t rig_stream_read(struct rig_stream *stream, uint8_t *at, size_t len)
{
    if (stream->is_closing || stream->stage != STREAM_READY)
        return UV_EAGAIN;
    return stream->ssl != NULL ? tls_read(stream, at, len) : plain_read(stream, at, len);
}

static ssize_t plain_write(struct rig_stream *stream, const uint8_t *at, size_t len)
{
    for (;;) {
        ssize_t put = send(stream->fd, at, len, MSG_NOSIGNAL);
        if (put >= 0)
            return put;
        if (errno == EINTR)
            continue;
        return errno == EAGAIN ? UV_EAGAIN : broken(stream, -errno);
    }
}

static ssize_t tls_write(struct rig_stream *stream, const uint8_t *at, size_t len)
{
    size_t total = 0;
    tls_is_busy(stream);
    while (total < len) {
        size_t room = len - total < INT32_MAX ? len - total : INT32_MAX;
        ERR_clear_error();
        errno = 0;
        int put = SSL_write(stream->ssl, at + total, (int)room);
        if (put > 0) {
            total += (size_t)put;
            continue;
        }
        int ssl_error = SSL_get_error(stream->ssl, put);
        if (ssl_error == SSL_ERROR_WANT_WRITE || ssl_error == SSL_ERROR_WANT_READ)
            return total > 0 ? (ssize_t)total : UV_EAGAIN;
        int err = tls_session_error(ssl_error, "while writing", fault_of(stream));
        return total > 0 ? (ssize_t)total : broken(stream, err);
    }
    return (ssize_t)total;
}

ssize_t rig_stream_write(struct rig_stream *stream, const uint8_t *at, size_t len)
{
    if (stream->is_closing || stream->stage != STREAM_READY || stream->is_write_full)
        return UV_EAGAIN;
    if (len == 0)
        return 0;
    ssize_t put = stream->ssl != NULL ? tls_write(stream, at, len) : plain_write(stream, at, len);
    /* A write cut short has filled the socket: the next one need not ask the kernel. */
    if (put == UV_EAGAIN || (put > 0 && (size_t)put < len)) {
        stream->is_write_full = true;
        poll_update(stream);
    }
    return put;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct rig_stream *stream = handle->data;
    if (--stream->open_handles > 0)
        return;
    void (*on_closed)(void *ctx) = stream->on_closed;
    void *closed_ctx = stream->closed_ctx;
    if (stream->on_gone != NULL)
        stream->on_gone(stream->gone_ctx);
    rig_free(stream->fault);
    rig_free(stream);
    if (on_closed != NULL)
        on_closed(closed_ctx);
}

void rig_stream_close(struct rig_stream *stream, void (*on_closed)(void *ctx), void *ctx)
{
    rig_require(!stream->is_closing);
    stream->is_closing = true;
    stream->on_closed = on_closed;
    stream->closed_ctx = ctx;
    if (stream->ssl != NULL && stream->stage == STREAM_READY && !stream->is_broken) {
        ERR_clear_error();
        SSL_shutdown(stream->ssl);
    }
    ERR_clear_error();
    SSL_free(stream->ssl);
    stream->ssl = NULL;
    rig_tls_free(stream->tls);
    stream->tls = NULL;
    uv_close((uv_handle_t *)&stream->poll, on_handle_closed);
    uv_close((uv_handle_t *)&stream->kick, on_handle_closed);
    uv_close((uv_handle_t *)&stream->quiet, on_handle_closed);
    close(stream->fd); /* uv_close has taken it out of the poll set */
}
