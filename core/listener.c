/* SPDX-License-Identifier: Apache-2.0 */
/* core/listener.c: a listening socket and the peers it has accepted.
 *
 * A peer is counted until its stream is gone, wherever it was handed to. All handshakes have the
 * same time, so those under way stand in a queue and one timer watches its head. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <uv.h>

#include "alloc.h"
#include "buf.h"
#include "dial.h"
#include "log.h"
#include "stream.h"
#include "stream_setup.h"
#include "tls.h"
#include "tls_session.h"

#define HANDSHAKE_TIMEOUT_MS 10000
#define ACCEPTS_PER_EVENT    32
#define PAUSE_MS             100 /* after accept(2) found no descriptor or memory */
#define PARENT_DIR_MODE      0750

struct peer {
    struct peer *prev, *next;      /* of one of the listener's rings */
    struct rig_listener *listener; /* NULL: closed before this peer */
    struct rig_stream *stream;
    uint64_t deadline_ms; /* of the handshake */
};

struct rig_listener {
    uv_poll_t poll;
    uv_timer_t deadline; /* of the oldest handshake */
    uv_timer_t pause;
    unsigned open_handles; /* and handshakes that are being closed */
    int fd;
    bool is_polling;
    bool is_closing;
    bool has_warned; /* of the shortage that lasts */
    uint32_t peer_count;
    struct peer shaking; /* ring: TLS handshakes under way, oldest first */
    struct peer settled; /* ring: handed over, or being dropped */
    struct rig_listener_options options;
    char *address;    /* as bound */
    const char *path; /* inside `address`; NULL for TCP */
    struct stat file; /* what bind made at `path` */
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

/* ---- the socket ---- */

static int parents_make(const char *path)
{
    char parent[sizeof(((struct sockaddr_un *)0)->sun_path)];
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        memcpy(parent, path, (size_t)(slash - path));
        parent[slash - path] = '\0';
        if (mkdir(parent, PARENT_DIR_MODE) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* What an earlier run, or a volume mount that came first, left at our path. */
static int leftover_remove(const char *path, struct rig_fault *why)
{
    struct stat info;
    if (lstat(path, &info) < 0)
        return errno == ENOENT ? 0 : rig_fault_set(why, -errno, "%s: %s", path, strerror(errno));
    int result;
    if (S_ISDIR(info.st_mode))
        result = rmdir(path);
    else if (S_ISSOCK(info.st_mode) || S_ISREG(info.st_mode))
        result = unlink(path);
    else
        return rig_fault_set(why, UV_EEXIST, "%s is neither a socket nor a regular file: remove it",
                             path);
    if (result < 0)
        return rig_fault_set(why, -errno, "cannot remove what is at %s: %s", path, strerror(errno));
    return 0;
}

static int unix_bind(struct rig_listener *listener, const char *path, struct rig_fault *why)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(name.sun_path))
        return rig_fault_set(why, RIG_E_TOO_LARGE,
                             "Unix socket path has %zu octets, must have 1 to %zu: %s", len,
                             sizeof(name.sun_path) - 1, path);
    memcpy(name.sun_path, path, len + 1);
    int err = parents_make(path);
    if (err < 0)
        return rig_fault_set(why, err, "cannot make the directory of %s: %s", path,
                             rig_error_text(err));
    err = leftover_remove(path, why);
    if (err < 0)
        return err;
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0 || bind(listener->fd, (struct sockaddr *)&name, sizeof(name)) < 0)
        return rig_fault_set(why, -errno, "cannot bind %s: %s", path, strerror(errno));
    struct rig_buf text = {0};
    rig_buf_printf(&text, "unix:%s", path);
    listener->address = rig_strdup(rig_buf_text(&text));
    rig_buf_deinit(&text);
    listener->path = listener->address + strlen("unix:");
    if (lstat(path, &listener->file) < 0 ||
        (listener->options.socket_mode != 0 && chmod(path, listener->options.socket_mode) < 0))
        return rig_fault_set(why, -errno, "cannot set the mode of %s: %s", path, strerror(errno));
    return 0;
}

bool rig_listener_is_served(const char *address)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strncmp(address, "unix:", 5) != 0 || strlen(address + 5) >= sizeof(name.sun_path))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    strcpy(name.sun_path, address + 5);
    /* EAGAIN: its backlog is full; EPROTOTYPE: it is of another type (unix(7)). */
    bool is_served = connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0 || errno == EAGAIN ||
                     errno == EPROTOTYPE;
    close(fd);
    return is_served;
}

static int numeric_address(const char *text, struct sockaddr_storage *name, struct rig_fault *why)
{
    char host[64];
    uint16_t port;
    int err = rig_dial_split(text, host, sizeof(host), &port, why);
    if (err < 0)
        return err;
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)name) < 0 &&
        uv_ip6_addr(host, port, (struct sockaddr_in6 *)name) < 0)
        return rig_fault_set(why, RIG_E_SYNTAX,
                             "\"%s\": the host of a listening address is an IP address", text);
    return 0;
}

static int bound_address(struct rig_listener *listener)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {0};
    socklen_t len = sizeof(name);
    char host[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 16];
    if (getsockname(listener->fd, &name.any, &len) < 0)
        return -errno;
    bool is_v6 = name.any.sa_family == AF_INET6;
    int err = is_v6 ? uv_ip6_name(&name.v6, host, sizeof(host))
                    : uv_ip4_name(&name.v4, host, sizeof(host));
    if (err < 0)
        return err;
    snprintf(text, sizeof(text), is_v6 ? "[%s]:%u" : "%s:%u", host,
             ntohs(is_v6 ? name.v6.sin6_port : name.v4.sin_port));
    listener->address = rig_strdup(text);
    return 0;
}

static int tcp_bind(struct rig_listener *listener, const char *text, struct rig_fault *why)
{
    struct sockaddr_storage name = {0};
    int err = numeric_address(text, &name, why);
    if (err < 0)
        return err;
    listener->fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0 && errno == EAFNOSUPPORT && name.ss_family == AF_INET6 &&
        IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)&name)->sin6_addr)) {
        /* "[::]" means every address; without IPv6 in the kernel those are the IPv4 ones. */
        struct sockaddr_in any = {.sin_family = AF_INET,
                                  .sin_port = ((struct sockaddr_in6 *)&name)->sin6_port};
        memcpy(&name, &any, sizeof(any));
        listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    int on = 1, off = 0;
    socklen_t len =
        name.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (listener->fd < 0 ||
        setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        (name.ss_family == AF_INET6 &&
         setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
        bind(listener->fd, (struct sockaddr *)&name, len) < 0)
        return rig_fault_set(why, -errno, "cannot bind %s: %s", text, strerror(errno));
    err = bound_address(listener);
    return err == 0 ? 0 : rig_fault_set(why, err, "cannot bind %s: %s", text, rig_error_text(err));
}

/* ---- peers ---- */

static void polling_update(struct rig_listener *listener);
static void deadline_arm(struct rig_listener *listener);

static void ring_add(struct peer *ring, struct peer *peer)
{
    peer->prev = ring->prev;
    peer->next = ring;
    ring->prev->next = peer;
    ring->prev = peer;
}

static void ring_remove(struct peer *peer)
{
    peer->prev->next = peer->next;
    peer->next->prev = peer->prev;
}

static void on_peer_gone(void *ctx)
{
    struct peer *peer = ctx;
    struct rig_listener *listener = peer->listener;
    if (listener != NULL) {
        ring_remove(peer);
        listener->peer_count--;
        polling_update(listener);
    }
    rig_free(peer);
}

static void listener_unref(struct rig_listener *listener)
{
    if (--listener->open_handles > 0)
        return;
    void (*on_closed)(void *ctx) = listener->on_closed;
    void *ctx = listener->closed_ctx;
    rig_free(listener->address);
    rig_tls_free(listener->options.tls);
    rig_free(listener);
    if (on_closed != NULL)
        on_closed(ctx);
}

static void on_drop_closed(void *ctx)
{
    listener_unref(ctx);
}

/* The listener waits for what it drops: on_closed means that nothing is left. */
static void peer_drop(struct rig_listener *listener, struct peer *peer)
{
    listener->open_handles++;
    rig_stream_close(peer->stream, on_drop_closed, listener);
}

static void on_peer_settled(void *ctx, int err)
{
    struct peer *peer = ctx;
    struct rig_listener *listener = peer->listener;
    ring_remove(peer);
    ring_add(&listener->settled, peer);
    deadline_arm(listener);
    if (err == 0) {
        listener->options.on_accept(listener->options.ctx, peer->stream);
        return;
    }
    /* A port scanner or a probe without TLS is everyday: no louder than debug. */
    rig_log_debug("listener", "%s: a peer was dropped: %s", listener->address,
                  rig_stream_fault(peer->stream)->text);
    peer_drop(listener, peer);
}

static void on_deadline(uv_timer_t *timer)
{
    struct rig_listener *listener = timer->data;
    struct peer *ring = &listener->shaking;
    while (ring->next != ring && ring->next->deadline_ms <= uv_now(timer->loop)) {
        struct peer *peer = ring->next;
        ring_remove(peer);
        ring_add(&listener->settled, peer);
        rig_log_debug("listener", "%s: a peer was dropped: no TLS handshake in time",
                      listener->address);
        peer_drop(listener, peer);
    }
    deadline_arm(listener);
}

static void deadline_arm(struct rig_listener *listener)
{
    const struct peer *first = listener->shaking.next;
    if (first == &listener->shaking) {
        uv_timer_stop(&listener->deadline);
        return;
    }
    uint64_t now = uv_now(listener->deadline.loop);
    uv_timer_start(&listener->deadline, on_deadline,
                   first->deadline_ms > now ? first->deadline_ms - now : 0, 0);
}

static void peer_new(struct rig_listener *listener, int fd)
{
    struct peer *peer = rig_new(struct peer);
    struct stream_setup setup = {
        .fd = fd, .tls = listener->options.tls, .on_settled = on_peer_settled, .ctx = peer};
    struct rig_fault why = {0};
    if (listener->path == NULL) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    if (stream_open(listener->poll.loop, &setup, &peer->stream, &why) < 0) {
        rig_log_warn("listener", "%s: a peer was dropped: %s", listener->address, why.text);
        rig_free(peer);
        return;
    }
    peer->listener = listener;
    listener->peer_count++;
    stream_on_gone(peer->stream, on_peer_gone, peer);
    if (stream_stage(peer->stream) == STREAM_READY) {
        ring_add(&listener->settled, peer);
        listener->options.on_accept(listener->options.ctx, peer->stream);
        return;
    }
    peer->deadline_ms = uv_now(listener->poll.loop) + listener->options.handshake_timeout_ms;
    ring_add(&listener->shaking, peer);
    deadline_arm(listener);
}

/* ---- accepting ---- */

static void on_pause_end(uv_timer_t *timer)
{
    polling_update(timer->data);
}

/* The connection that cannot be taken stays in the backlog and the socket stays readable: asking
 * again at once would spin. */
static void shortage(struct rig_listener *listener, int err)
{
    if (!listener->has_warned)
        rig_log_warn("listener", "%s: cannot accept, trying again each %d ms: %s",
                     listener->address, PAUSE_MS, rig_error_text(err));
    listener->has_warned = true;
    uv_timer_start(&listener->pause, on_pause_end, PAUSE_MS, 0);
    polling_update(listener);
}

static bool is_full(const struct rig_listener *listener)
{
    return listener->options.max_connections > 0 &&
           listener->peer_count >= listener->options.max_connections;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct rig_listener *listener = poll->data;
    (void)events;
    if (status < 0) { /* libuv stops a handle at POLLERR */
        listener->is_polling = false;
        shortage(listener, status);
        return;
    }
    for (int i = 0; i < ACCEPTS_PER_EVENT && !listener->is_closing && !is_full(listener); i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            listener->has_warned = false;
            peer_new(listener, fd);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            shortage(listener, -errno);
            return;
        }
        /* Others are a connection's own errors, already gone (accept(2)): on to the next. */
    }
    polling_update(listener);
}

static void polling_update(struct rig_listener *listener)
{
    if (listener->is_closing)
        return;
    bool wanted = !is_full(listener) && !uv_is_active((uv_handle_t *)&listener->pause);
    if (wanted == listener->is_polling)
        return;
    listener->is_polling = wanted;
    if (wanted)
        uv_poll_start(&listener->poll, UV_READABLE, on_connection);
    else
        uv_poll_stop(&listener->poll);
}

static void socket_discard(struct rig_listener *listener)
{
    if (listener->fd >= 0)
        close(listener->fd);
    /* Only if it is still ours: a successor may have bound the path meanwhile. */
    struct stat now;
    if (listener->path != NULL && lstat(listener->path, &now) == 0 &&
        now.st_dev == listener->file.st_dev && now.st_ino == listener->file.st_ino)
        unlink(listener->path);
}

int rig_listener_open(uv_loop_t *loop, const struct rig_listener_options *options,
                      struct rig_listener **out, struct rig_fault *why)
{
    struct rig_listener *listener = rig_new(struct rig_listener);
    listener->options = *options;
    listener->options.address = NULL; /* borrowed; `address` is ours */
    listener->fd = -1;
    listener->shaking.prev = listener->shaking.next = &listener->shaking;
    listener->settled.prev = listener->settled.next = &listener->settled;
    if (options->handshake_timeout_ms == 0)
        listener->options.handshake_timeout_ms = HANDSHAKE_TIMEOUT_MS;
    int err = strncmp(options->address, "unix:", 5) == 0
                  ? unix_bind(listener, options->address + 5, why)
                  : tcp_bind(listener, options->address, why);
    if (err == 0 && listen(listener->fd, SOMAXCONN) < 0)
        err = rig_fault_set(why, -errno, "cannot listen on %s: %s", options->address,
                            strerror(errno));
    if (err == 0 && (err = uv_poll_init(loop, &listener->poll, listener->fd)) < 0)
        rig_fault_set(why, err, "cannot watch %s: %s", options->address, rig_error_text(err));
    if (err < 0) {
        socket_discard(listener);
        rig_free(listener->address);
        rig_free(listener);
        return err;
    }
    tls_ref(listener->options.tls);
    uv_timer_init(loop, &listener->deadline);
    uv_timer_init(loop, &listener->pause);
    listener->poll.data = listener->deadline.data = listener->pause.data = listener;
    listener->open_handles = 3;
    polling_update(listener);
    *out = listener;
    return 0;
}

const char *rig_listener_address(const struct rig_listener *listener)
{
    return listener->address;
}

static void on_handle_closed(uv_handle_t *handle)
{
    listener_unref(handle->data);
}

void rig_listener_close(struct rig_listener *listener, void (*on_closed)(void *ctx), void *ctx)
{
    rig_require(!listener->is_closing);
    listener->is_closing = true;
    listener->on_closed = on_closed;
    listener->closed_ctx = ctx;
    for (struct peer *peer = listener->shaking.next; peer != &listener->shaking;
         peer = peer->next) {
        peer->listener = NULL;
        peer_drop(listener, peer);
    }
    for (struct peer *peer = listener->settled.next; peer != &listener->settled; peer = peer->next)
        peer->listener = NULL;
    uv_close((uv_handle_t *)&listener->poll, on_handle_closed);
    uv_close((uv_handle_t *)&listener->deadline, on_handle_closed);
    uv_close((uv_handle_t *)&listener->pause, on_handle_closed);
    socket_discard(listener);
}
