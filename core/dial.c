/* SPDX-License-Identifier: Apache-2.0 */
/* core/dial.c: resolve, connect, shake hands.
 *
 * The resolver runs on libuv's pool and cannot be interrupted: its request is a block of its own
 * that outlives the dial when the caller has gone or the deadline has come. All else hangs on
 * one timer, which also makes sure that nothing is reported inside rig_dial_start. */
#include "dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "alloc.h"
#include "buf.h"
#include "stream.h"
#include "stream_setup.h"
#include "tls.h"
#include "tls_session.h"

#define TIMEOUT_MS       10000
#define ADDRESS_LEAST_MS 2000 /* what a try of one address gets, however many there are */
#define HOST_BYTES       256
#define ADDRESSES_MAX    16

struct lookup {
    uv_getaddrinfo_t request;
    struct rig_dial *dial; /* NULL: nobody waits any more */
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un path;
};

struct rig_dial {
    uv_timer_t timer;
    struct rig_dial_options options; /* without the texts */
    char *address;
    char *server_name;
    char host[HOST_BYTES];
    char port[8];
    rig_dial_cb on_done;
    void *ctx;
    enum rig_dial_stage stage;
    uint64_t deadline_ms;
    struct lookup *lookup;
    union address *addresses;
    size_t address_count;
    size_t next_address; /* to try */
    struct rig_stream *stream;
    int first_err; /* of the first address: what a user knows the host by */
    struct rig_fault fault;
};

/* ---- the address ---- */

int rig_dial_split(const char *address, char *host, size_t host_bytes, uint16_t *port,
                   struct rig_fault *why)
{
    const char *begin = address, *end, *colon;
    if (address[0] == '[') {
        begin = address + 1;
        end = strchr(begin, ']');
        colon = end != NULL ? end + 1 : NULL;
    } else {
        end = colon = strchr(address, ':');
    }
    if (colon == NULL || *colon != ':' || end == begin)
        return rig_fault_set(why, RIG_E_SYNTAX, "address \"%s\" is not HOST:PORT", address);
    size_t len = (size_t)(end - begin);
    if (len >= host_bytes)
        return rig_fault_set(why, RIG_E_SYNTAX, "address \"%s\": the host is too long", address);
    const char *digits = colon + 1;
    size_t count = strspn(digits, "0123456789");
    unsigned long number = strtoul(digits, NULL, 10);
    if (count == 0 || count > 5 || digits[count] != '\0' || number > UINT16_MAX)
        return rig_fault_set(why, RIG_E_SYNTAX, "address \"%s\": the port is not 0 to 65535",
                             address);
    memcpy(host, begin, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    return 0;
}

static void address_add(struct rig_dial *dial, const union address *address)
{
    dial->addresses =
        rig_realloc(dial->addresses, (dial->address_count + 1) * sizeof(*dial->addresses));
    dial->addresses[dial->address_count++] = *address;
}

/* An address that needs no resolver becomes the only entry of `addresses`. */
static int address_parse(struct rig_dial *dial, const char *text, struct rig_fault *why)
{
    union address address = {0};
    if (strncmp(text, "unix:", 5) == 0) {
        size_t len = strlen(text + 5);
        if (len == 0 || len >= sizeof(address.path.sun_path))
            return rig_fault_set(why, RIG_E_SYNTAX,
                                 "Unix socket path has %zu octets, must have 1 to %zu: %s", len,
                                 sizeof(address.path.sun_path) - 1, text + 5);
        address.path.sun_family = AF_UNIX;
        memcpy(address.path.sun_path, text + 5, len + 1);
        snprintf(dial->host, sizeof(dial->host), "localhost");
        address_add(dial, &address);
        return 0;
    }
    uint16_t port;
    int err = rig_dial_split(text, dial->host, sizeof(dial->host), &port, why);
    if (err < 0)
        return err;
    if (port == 0)
        return rig_fault_set(why, RIG_E_SYNTAX, "address \"%s\": nobody listens on port 0", text);
    snprintf(dial->port, sizeof(dial->port), "%u", port);
    if (uv_ip4_addr(dial->host, port, &address.v4) == 0 ||
        uv_ip6_addr(dial->host, port, &address.v6) == 0)
        address_add(dial, &address);
    return 0;
}

static void address_text(const union address *address, char *text, size_t size)
{
    text[0] = '\0';
    if (address->any.sa_family == AF_INET)
        uv_ip4_name(&address->v4, text, size);
    else if (address->any.sa_family == AF_INET6)
        uv_ip6_name(&address->v6, text, size);
}

/* ---- the end ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct rig_dial *dial = handle->data;
    rig_free(dial->addresses);
    rig_free(dial->address);
    rig_free(dial->server_name);
    rig_tls_free(dial->options.tls);
    rig_free(dial);
}

static void dial_end(struct rig_dial *dial)
{
    if (dial->lookup != NULL) {
        dial->lookup->dial = NULL;
        uv_cancel((uv_req_t *)&dial->lookup->request); /* helps while no thread has taken it */
        dial->lookup = NULL;
    }
    if (dial->stream != NULL)
        rig_stream_close(dial->stream, NULL, NULL);
    dial->stream = NULL;
    uv_close((uv_handle_t *)&dial->timer, on_timer_closed);
}

static void finish(struct rig_dial *dial, int err)
{
    struct rig_stream *stream = NULL;
    if (err == 0) {
        dial->stage = RIG_DIAL_DONE;
        stream = dial->stream;
        dial->stream = NULL;
    }
    dial_end(dial);
    dial->on_done(dial->ctx, err, dial->stage, &dial->fault, stream);
}

static void fail_timeout(struct rig_dial *dial)
{
    static const char *const doing[] = {
        [RIG_DIAL_RESOLVE] = "resolve",
        [RIG_DIAL_CONNECT] = "connect to",
        [RIG_DIAL_TLS] = "complete the TLS handshake with",
    };
    rig_fault_set(&dial->fault, UV_ETIMEDOUT, "cannot %s %s within %u ms", doing[dial->stage],
                  dial->stage == RIG_DIAL_RESOLVE ? dial->host : dial->address,
                  dial->options.timeout_ms);
    finish(dial, UV_ETIMEDOUT);
}

/* ---- connect ---- */

static void connect_next(struct rig_dial *dial);

static void connect_failed(struct rig_dial *dial, int err)
{
    if (dial->first_err == 0) {
        char ip[INET6_ADDRSTRLEN];
        address_text(&dial->addresses[dial->next_address - 1], ip, sizeof(ip));
        bool is_name = ip[0] != '\0' && strcmp(ip, dial->host) != 0;
        rig_fault_set(&dial->fault, err, "cannot connect to %s%s%s%s: %s", dial->address,
                      is_name ? " (" : "", is_name ? ip : "", is_name ? ")" : "",
                      rig_error_text(err));
        dial->first_err = err;
    }
    if (dial->stream != NULL)
        rig_stream_close(dial->stream, NULL, NULL);
    dial->stream = NULL;
    connect_next(dial);
}

static void on_settled(void *ctx, int err)
{
    struct rig_dial *dial = ctx;
    if (err == 0) {
        dial->fault.text[0] = '\0';
        finish(dial, 0);
    } else if (stream_stage(dial->stream) == STREAM_CONNECTING) {
        connect_failed(dial, err);
    } else {
        dial->stage = RIG_DIAL_TLS;
        rig_fault_set(&dial->fault, err, "TLS handshake with %s failed: %s", dial->address,
                      rig_stream_fault(dial->stream)->text);
        finish(dial, err);
    }
}

static int socket_connect(const struct rig_dial *dial, const union address *address, int *fd,
                          bool *is_connecting)
{
    *fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return -errno;
    socklen_t len = sizeof(address->path);
    if (address->any.sa_family != AF_UNIX) {
        len = address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
        int on = 1;
        unsigned user_timeout_ms = dial->options.user_timeout_ms;
        setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (user_timeout_ms > 0)
            setsockopt(*fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
                       sizeof(user_timeout_ms));
    }
    int result = connect(*fd, &address->any, len);
    *is_connecting = result < 0 && (errno == EINPROGRESS || errno == EINTR);
    if (result == 0 || *is_connecting)
        return 0;
    int err = -errno;
    close(*fd);
    return err;
}

static void on_timer(uv_timer_t *timer);

/* One black hole among a name's addresses may not eat the time of the others. */
static void connect_arm(struct rig_dial *dial)
{
    uint64_t now = uv_now(dial->timer.loop);
    uint64_t wait = dial->deadline_ms > now ? dial->deadline_ms - now : 0;
    size_t left = dial->address_count - dial->next_address;
    if (left > 0) {
        uint64_t share =
            wait / (left + 1) > ADDRESS_LEAST_MS ? wait / (left + 1) : ADDRESS_LEAST_MS;
        wait = share < wait ? share : wait;
    }
    uv_timer_start(&dial->timer, on_timer, wait, 0);
}

static void connect_next(struct rig_dial *dial)
{
    if (dial->next_address == dial->address_count) {
        finish(dial, dial->first_err);
        return;
    }
    dial->stage = RIG_DIAL_CONNECT;
    const union address *address = &dial->addresses[dial->next_address++];
    connect_arm(dial);
    int fd;
    bool is_connecting;
    int err = socket_connect(dial, address, &fd, &is_connecting);
    if (err == 0) {
        struct stream_setup setup = {
            .fd = fd,
            .is_connecting = is_connecting,
            .tls = dial->options.tls,
            .server_name = dial->server_name,
            .on_settled = on_settled,
            .ctx = dial,
        };
        err = stream_open(dial->timer.loop, &setup, &dial->stream, &dial->fault);
        if (err < 0) { /* a name that TLS cannot verify: another address would not help */
            dial->stage = RIG_DIAL_TLS;
            finish(dial, err);
            return;
        }
    }
    if (err < 0)
        connect_failed(dial, err);
    else if (stream_stage(dial->stream) == STREAM_READY)
        on_settled(dial, 0);
}

/* ---- resolve ---- */

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct lookup *lookup = request->data;
    struct rig_dial *dial = lookup->dial;
    if (dial != NULL && status == 0) {
        for (struct addrinfo *info = list; info != NULL; info = info->ai_next) {
            union address address = {0};
            if (info->ai_addrlen > sizeof(address) || dial->address_count == ADDRESSES_MAX)
                continue;
            memcpy(&address, info->ai_addr, info->ai_addrlen);
            address_add(dial, &address);
        }
    }
    uv_freeaddrinfo(list);
    rig_free(lookup);
    if (dial == NULL)
        return;
    dial->lookup = NULL;
    if (dial->address_count == 0) {
        int err = status < 0 ? status : UV_EAI_NODATA;
        rig_fault_set(&dial->fault, err, "cannot resolve %s: %s", dial->host, rig_error_text(err));
        finish(dial, err);
        return;
    }
    connect_next(dial);
}

static void resolve(struct rig_dial *dial)
{
    dial->stage = RIG_DIAL_RESOLVE;
    uint64_t now = uv_now(dial->timer.loop);
    uv_timer_start(&dial->timer, on_timer, dial->deadline_ms > now ? dial->deadline_ms - now : 0,
                   0);
    struct lookup *lookup = rig_new(struct lookup);
    lookup->request.data = lookup;
    lookup->dial = dial;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int err = uv_getaddrinfo(dial->timer.loop, &lookup->request, on_resolved, dial->host,
                             dial->port, &hints);
    if (err < 0) {
        rig_free(lookup);
        rig_fault_set(&dial->fault, err, "cannot resolve %s: %s", dial->host, rig_error_text(err));
        finish(dial, err);
        return;
    }
    dial->lookup = lookup;
}

/* ---- the dial ---- */

static void on_start(uv_timer_t *timer)
{
    struct rig_dial *dial = timer->data;
    if (dial->address_count > 0)
        connect_next(dial);
    else
        resolve(dial);
}

static void on_timer(uv_timer_t *timer)
{
    struct rig_dial *dial = timer->data;
    bool is_shaking = dial->stream != NULL && stream_stage(dial->stream) == STREAM_HANDSHAKE;
    if (is_shaking)
        dial->stage = RIG_DIAL_TLS;
    uint64_t now = uv_now(timer->loop);
    if (now >= dial->deadline_ms)
        fail_timeout(dial);
    else if (is_shaking)
        uv_timer_start(&dial->timer, on_timer, dial->deadline_ms - now, 0);
    else
        connect_failed(dial, UV_ETIMEDOUT);
}

int rig_dial_start(uv_loop_t *loop, const struct rig_dial_options *options, rig_dial_cb on_done,
                   void *ctx, struct rig_dial **out, struct rig_fault *why)
{
    struct rig_dial *dial = rig_new(struct rig_dial);
    int err = address_parse(dial, options->address, why);
    if (err < 0) {
        rig_free(dial->addresses);
        rig_free(dial);
        return err;
    }
    dial->options = *options;
    dial->options.address = dial->options.server_name = NULL; /* borrowed; copies follow */
    tls_ref(dial->options.tls);
    if (options->timeout_ms == 0)
        dial->options.timeout_ms = TIMEOUT_MS;
    dial->address = rig_strdup(options->address);
    dial->server_name =
        rig_strdup(options->server_name != NULL ? options->server_name : dial->host);
    dial->on_done = on_done;
    dial->ctx = ctx;
    dial->stage = dial->address_count > 0 ? RIG_DIAL_CONNECT : RIG_DIAL_RESOLVE;
    dial->deadline_ms = uv_now(loop) + dial->options.timeout_ms;
    uv_timer_init(loop, &dial->timer);
    dial->timer.data = dial;
    uv_timer_start(&dial->timer, on_start, 0, 0);
    *out = dial;
    return 0;
}

void rig_dial_cancel(struct rig_dial *dial)
{
    dial_end(dial);
}
