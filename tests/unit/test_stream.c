/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/test_stream.c: streams and listeners on real sockets; ours against ours, and
 * against a bare socket where misbehaviour is wanted. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/buf.h"
#include "core/dial.h"
#include "core/fault.h"
#include "core/stream.h"
#include "core/tls.h"
#include "tests/harness/loop.h"
#include "tests/harness/pki.h"

#define CHUNK_BYTES 50000

/* One end: writes `out` as far as the socket takes it, reads into `in` up to `in_max`. */
struct end {
    struct rig_stream *stream;
    struct rig_buf out, in;
    size_t in_max;
    size_t read_bytes; /* for one read; 0: CHUNK_BYTES */
    ssize_t last;      /* answer of the last read */
    int write_err;
    unsigned readable_count;
};

struct scene {
    struct test_loop loop;
    struct rig_listener *listener;
    struct rig_tls *server_tls, *client_tls;
    struct pki_root root;
    struct pki_leaf leaf;
    struct end server, client;
    unsigned accepted;
    struct rig_stream *more[8]; /* accepted after the first */
    int dial_err;
    enum rig_dial_stage dial_stage;
    struct rig_fault dial_why;
    bool is_dialled;
    bool is_closed;
    char dir[32];
};

static void end_write(struct end *end)
{
    while (end->out.len > 0) {
        ssize_t put = rig_stream_write(end->stream, end->out.at, end->out.len);
        if (put == UV_EAGAIN)
            return;
        if (put < 0) {
            end->write_err = (int)put;
            return;
        }
        rig_buf_consume(&end->out, (size_t)put);
    }
}

static void on_readable(void *ctx)
{
    struct end *end = ctx;
    size_t want = end->read_bytes > 0 ? end->read_bytes : CHUNK_BYTES;
    end->readable_count++;
    for (;;) {
        if (end->in.len >= end->in_max) {
            rig_stream_want_read(end->stream, false);
            return;
        }
        size_t room = end->in_max - end->in.len;
        end->last = rig_stream_read(end->stream, rig_buf_reserve(&end->in, want),
                                    room < want ? room : want);
        if (end->last > 0) {
            rig_buf_commit(&end->in, (size_t)end->last);
            continue;
        }
        if (end->last != UV_EAGAIN)
            rig_stream_want_read(end->stream, false);
        return;
    }
}

static void on_writable(void *ctx)
{
    end_write(ctx);
}

static const struct rig_stream_events end_events = {on_readable, on_writable};

static void end_take(struct end *end, struct rig_stream *stream)
{
    end->stream = stream;
    end->last = UV_EAGAIN;
    rig_stream_bind(stream, &end_events, end);
}

static void end_read(struct end *end, size_t max)
{
    end->in_max = max;
    rig_stream_want_read(end->stream, true);
}

static void end_close(struct end *end)
{
    if (end->stream != NULL)
        rig_stream_close(end->stream, NULL, NULL);
    end->stream = NULL;
    rig_buf_deinit(&end->out);
    rig_buf_deinit(&end->in);
}

static void on_accept(void *ctx, struct rig_stream *stream)
{
    struct scene *scene = ctx;
    if (scene->accepted > 0)
        scene->more[scene->accepted - 1] = stream;
    else
        end_take(&scene->server, stream);
    scene->accepted++;
}

static void on_dialled(void *ctx, int err, enum rig_dial_stage stage, const struct rig_fault *why,
                       struct rig_stream *stream)
{
    struct scene *scene = ctx;
    scene->is_dialled = true;
    scene->dial_err = err;
    scene->dial_stage = stage;
    scene->dial_why = *why;
    if (err == 0)
        end_take(&scene->client, stream);
}

static void on_listener_closed(void *ctx)
{
    ((struct scene *)ctx)->is_closed = true;
}

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){.is_dialled = false};
    loop_init(&scene->loop);
    strcpy(scene->dir, "/tmp/rig-stream-XXXXXX");
    assert_non_null(mkdtemp(scene->dir));
}

static void scene_tls(struct scene *scene)
{
    pki_root_init(&scene->root, "root");
    pki_leaf_init(&scene->leaf, &scene->root, (struct pki_want){.san = "IP:127.0.0.1"});
    scene->server_tls = pki_server(&scene->leaf, "h2");
    scene->client_tls = pki_client(&scene->root, "h2");
}

static void scene_listen(struct scene *scene, struct rig_listener_options options)
{
    struct rig_fault why = {0};
    options.on_accept = on_accept;
    options.ctx = scene;
    int err = rig_listener_open(&scene->loop.uv, &options, &scene->listener, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
}

static void scene_dial(struct scene *scene)
{
    struct rig_dial *dial;
    struct rig_dial_options options = {.address = rig_listener_address(scene->listener),
                                       .tls = scene->client_tls};
    assert_int_equal(rig_dial_start(&scene->loop.uv, &options, on_dialled, scene, &dial, NULL), 0);
    assert_false(scene->is_dialled);
}

/* Both ends of one connection. */
static void scene_connect(struct scene *scene)
{
    scene_listen(scene,
                 (struct rig_listener_options){.address = "127.0.0.1:0", .tls = scene->server_tls});
    scene_dial(scene);
    loop_until(&scene->loop, scene->is_dialled && scene->accepted == 1);
    assert_string_equal(scene->dial_why.text, "");
    assert_int_equal(scene->dial_err, 0);
}

static void scene_deinit(struct scene *scene)
{
    end_close(&scene->client);
    end_close(&scene->server);
    if (scene->listener != NULL) {
        rig_listener_close(scene->listener, on_listener_closed, scene);
        assert_false(scene->is_closed);
        loop_until(&scene->loop, scene->is_closed);
    }
    rig_tls_free(scene->server_tls);
    rig_tls_free(scene->client_tls);
    pki_root_deinit(&scene->root);
    pki_leaf_deinit(&scene->leaf);
    loop_deinit(&scene->loop);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", scene->dir);
    assert_int_equal(system(command), 0);
}

static void pattern(struct rig_buf *buf, size_t len, unsigned seed)
{
    uint8_t *at = rig_buf_reserve(buf, len);
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
    rig_buf_commit(buf, len);
}

/* A socket of the test's own, connected to the listener; blocking. */
static int bare_connect(const char *address)
{
    int fd;
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        strcpy(name.sun_path, address + 5);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
        return fd;
    }
    char host[64];
    uint16_t port;
    assert_int_equal(rig_dial_split(address, host, sizeof(host), &port, NULL), 0);
    struct sockaddr_in name;
    assert_int_equal(uv_ip4_addr(host, port, &name), 0);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    return fd;
}

/* ---- octets ---- */

static void exchange(struct scene *scene, size_t len)
{
    scene_connect(scene);
    struct rig_buf up = {0}, down = {0};
    pattern(&up, len, 1);
    pattern(&down, len, 7);
    rig_buf_append(&scene->client.out, up.at, up.len);
    rig_buf_append(&scene->server.out, down.at, down.len);
    end_read(&scene->client, len);
    end_read(&scene->server, len);
    end_write(&scene->client);
    end_write(&scene->server);
    loop_until(&scene->loop, scene->client.in.len == len && scene->server.in.len == len);
    assert_memory_equal(scene->server.in.at, up.at, len);
    assert_memory_equal(scene->client.in.at, down.at, len);
    rig_buf_deinit(&up);
    rig_buf_deinit(&down);
}

static void plain_carries_both_ways(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    exchange(&scene, 8u << 20);
    scene_deinit(&scene);
}

static void tls_carries_both_ways(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_tls(&scene);
    exchange(&scene, 8u << 20);
    scene_deinit(&scene);
}

static void stops_reading_when_not_wanted(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_connect(&scene);
    pattern(&scene.client.out, 16u << 20, 3);
    end_read(&scene.server, 1000);
    end_write(&scene.client);
    loop_until(&scene.loop, scene.server.in.len == 1000);
    loop_for(&scene.loop, 100);
    /* What the kernel holds for both ends is the only thing that still moves. */
    assert_int_equal(scene.server.in.len, 1000);
    assert_true(scene.client.out.len > 4u << 20);
    end_read(&scene.server, 16u << 20);
    loop_until(&scene.loop, scene.server.in.len == 16u << 20);
    scene_deinit(&scene);
}

/* The record is inside OpenSSL, the socket is empty: no poll event will come. */
static void octets_inside_tls_are_told(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_tls(&scene);
    scene_connect(&scene);
    pattern(&scene.client.out, 40000, 3);
    end_write(&scene.client);
    scene.server.read_bytes = 100;
    end_read(&scene.server, 100);
    loop_until(&scene.loop, scene.server.in.len == 100);
    loop_for(&scene.loop, 50); /* the rest has arrived by now */
    for (size_t want = 10000; want <= 40000; want += 10000) {
        end_read(&scene.server, want);
        loop_until(&scene.loop, scene.server.in.len == want);
    }
    scene_deinit(&scene);
}

/* A client that speaks right behind its handshake: OpenSSL may have read both at once. */
static void octets_behind_the_handshake_are_told(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_tls(&scene);
    scene_listen(&scene,
                 (struct rig_listener_options){.address = "127.0.0.1:0", .tls = scene.server_tls});
    scene_dial(&scene);
    loop_until(&scene.loop, scene.is_dialled); /* the server has not seen "Finished" yet */
    rig_buf_append_text(&scene.client.out, "first words");
    end_write(&scene.client);
    loop_until(&scene.loop, scene.accepted == 1);
    end_read(&scene.server, 11);
    loop_until(&scene.loop, scene.server.in.len == 11);
    assert_memory_equal(scene.server.in.at, "first words", 11);
    scene_deinit(&scene);
}

/* ---- ends ---- */

static void orderly_end_is_zero(void **state)
{
    (void)state;
    for (int with_tls = 0; with_tls < 2; with_tls++) {
        struct scene scene;
        scene_init(&scene);
        if (with_tls)
            scene_tls(&scene);
        scene_connect(&scene);
        rig_buf_append_text(&scene.client.out, "bye");
        end_write(&scene.client);
        end_close(&scene.client);
        end_read(&scene.server, 100);
        loop_until(&scene.loop, scene.server.last == 0);
        assert_memory_equal(scene.server.in.at, "bye", 3);
        scene_deinit(&scene);
    }
}

static void reset_is_an_error(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_listen(&scene, (struct rig_listener_options){.address = "127.0.0.1:0"});
    int fd = bare_connect(rig_listener_address(scene.listener));
    loop_until(&scene.loop, scene.accepted == 1);
    end_read(&scene.server, 100);
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    loop_until(&scene.loop, scene.server.last != UV_EAGAIN);
    assert_int_equal(scene.server.last, UV_ECONNRESET);
    scene_deinit(&scene);
}

/* A TCP end without close_notify may be a truncation: no orderly end (RFC 8446 6.1). */
static void end_without_close_notify_is_an_error(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_tls(&scene);
    scene_connect(&scene);
    end_read(&scene.server, 100);
    /* Half-closing the socket under the client's TLS. */
    char text[64];
    struct sockaddr_storage peer;
    bool is_cut = false;
    for (int fd = 3; fd < 64 && !is_cut; fd++) {
        socklen_t len = sizeof(peer);
        snprintf(text, sizeof(text), "%d", fd);
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.ss_family == AF_INET) {
            char host[64];
            uint16_t port;
            rig_dial_split(rig_listener_address(scene.listener), host, sizeof(host), &port, NULL);
            if (ntohs(((struct sockaddr_in *)&peer)->sin_port) == port)
                is_cut = shutdown(fd, SHUT_WR) == 0;
        }
    }
    assert_true(is_cut);
    loop_until(&scene.loop, scene.server.last != UV_EAGAIN);
    assert_int_equal(scene.server.last, UV_EOF);
    assert_string_equal(rig_stream_fault(scene.server.stream)->text,
                        "peer closed the connection while reading");
    scene_deinit(&scene);
}

static void write_to_a_gone_peer_fails(void **state)
{
    (void)state;
    for (int with_tls = 0; with_tls < 2; with_tls++) {
        struct scene scene;
        scene_init(&scene);
        if (with_tls)
            scene_tls(&scene);
        scene_connect(&scene);
        end_close(&scene.client);
        pattern(&scene.server.out, 8u << 20, 3);
        loop_for(&scene.loop, 10);
        end_write(&scene.server);
        loop_until(&scene.loop, scene.server.write_err != 0);
        assert_true(scene.server.write_err == UV_EPIPE || scene.server.write_err == UV_ECONNRESET);
        scene_deinit(&scene);
    }
}

/* ---- listeners ---- */

static int listen_fault(struct scene *scene, const char *address, struct rig_fault *why)
{
    struct rig_listener_options options = {.address = address, .on_accept = on_accept};
    *why = (struct rig_fault){0};
    int err = rig_listener_open(&scene->loop.uv, &options, &scene->listener, why);
    if (err == 0) {
        rig_listener_close(scene->listener, on_listener_closed, scene);
        loop_until(&scene->loop, scene->is_closed);
    }
    scene->is_closed = false;
    scene->listener = NULL;
    return err;
}

static void unix_path_of_107_octets_fits_108_does_not(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    char address[200];
    struct rig_fault why;
    int len = snprintf(address, sizeof(address), "unix:%s/", scene.dir);
    memset(address + len, 'x', 150);
    address[5 + 107] = '\0';
    assert_int_equal(listen_fault(&scene, address, &why), 0);
    address[5 + 107] = 'x';
    address[5 + 108] = '\0';
    assert_int_equal(listen_fault(&scene, address, &why), RIG_E_TOO_LARGE);
    assert_non_null(strstr(why.text, "108 octets"));
    assert_non_null(strstr(why.text, address + 5));
    assert_int_equal(listen_fault(&scene, "unix:", &why), RIG_E_TOO_LARGE);
    scene_deinit(&scene);
}

static void leftovers_are_removed(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    char path[100], address[110];
    snprintf(path, sizeof(path), "%s/XDS", scene.dir);
    snprintf(address, sizeof(address), "unix:%s", path);
    struct rig_fault why;

    int fd = open(path, O_CREAT | O_WRONLY, 0600); /* a regular file */
    close(fd);
    assert_int_equal(listen_fault(&scene, address, &why), 0);

    assert_int_equal(mkdir(path, 0755), 0); /* an empty directory */
    assert_int_equal(listen_fault(&scene, address, &why), 0);

    struct sockaddr_un name = {.sun_family = AF_UNIX}; /* a socket of a dead process */
    strcpy(name.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    close(fd);
    assert_int_equal(listen_fault(&scene, address, &why), 0);

    char inside[120]; /* a directory with something in it stays */
    snprintf(inside, sizeof(inside), "%s/file", path);
    assert_int_equal(mkdir(path, 0755), 0);
    close(open(inside, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(listen_fault(&scene, address, &why), UV_ENOTEMPTY);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(access(inside, F_OK), 0);
    unlink(inside);
    rmdir(path);

    assert_int_equal(symlink(scene.dir, path), 0); /* what is none of these stays too */
    assert_int_equal(listen_fault(&scene, address, &why), UV_EEXIST);
    unlink(path);
    scene_deinit(&scene);
}

static void served_socket_is_told_from_a_leftover(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    char path[100], address[110], long_address[300];
    snprintf(path, sizeof(path), "%s/XDS", scene.dir);
    snprintf(address, sizeof(address), "unix:%s", path);
    assert_false(rig_listener_is_served(address)); /* nothing there */
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_false(rig_listener_is_served(address)); /* a regular file */
    unlink(path);

    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_true(rig_listener_is_served(address)); /* nobody need accept */
    assert_true(rig_listener_is_served(address));
    assert_true(rig_listener_is_served(address)); /* nor is room in the backlog needed */
    close(fd);
    assert_false(rig_listener_is_served(address)); /* its process is gone */
    unlink(path);

    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_true(rig_listener_is_served(address)); /* a server of another kind */
    close(fd);
    unlink(path);

    memset(long_address, 'x', sizeof(long_address));
    memcpy(long_address, "unix:", 5);
    long_address[sizeof(long_address) - 1] = '\0';
    assert_false(rig_listener_is_served(long_address));
    assert_false(rig_listener_is_served("127.0.0.1:1"));
    scene_deinit(&scene);
}

static void parents_are_made_and_the_mode_is_set(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    char dir[64], path[80], address[100];
    snprintf(dir, sizeof(dir), "%s/etc/deep", scene.dir);
    snprintf(path, sizeof(path), "%s/XDS", dir);
    snprintf(address, sizeof(address), "unix:%s", path);
    umask(022);
    scene_listen(&scene, (struct rig_listener_options){.address = address, .socket_mode = 0666});
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISSOCK(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0666);
    assert_int_equal(stat(dir, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0750);
    assert_string_equal(rig_listener_address(scene.listener), address);
    int fd = bare_connect(address);
    loop_until(&scene.loop, scene.accepted == 1);
    close(fd);
    rig_listener_close(scene.listener, on_listener_closed, &scene);
    assert_int_equal(access(path, F_OK), -1);
    loop_until(&scene.loop, scene.is_closed);
    scene.listener = NULL;
    scene_deinit(&scene);
}

static void successor_keeps_its_socket(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    char address[100];
    snprintf(address, sizeof(address), "unix:%s/XDS", scene.dir);
    scene_listen(&scene, (struct rig_listener_options){.address = address});
    struct rig_listener *old = scene.listener;
    scene_listen(&scene, (struct rig_listener_options){.address = address});
    rig_listener_close(old, NULL, NULL);
    int fd = bare_connect(address);
    loop_until(&scene.loop, scene.accepted == 1);
    close(fd);
    scene_deinit(&scene);
}

static void bad_addresses_are_refused(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    struct rig_fault why;
    static const char *const bad[] = {
        "",           "127.0.0.1", ":80",         "[::1]",         "[::1:80",
        "127.0.0.1:", "[]:80",     "127.0.0.1:x", "1.2.3.4:65536", "1.2.3.4:123456",
        "1.2.3.4:-1", "::1:80",    "localhost:80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(listen_fault(&scene, bad[i], &why), RIG_E_SYNTAX);
        assert_non_null(strstr(why.text, bad[i]));
    }
    scene_listen(&scene, (struct rig_listener_options){.address = "127.0.0.1:0"});
    char taken[64];
    snprintf(taken, sizeof(taken), "%s", rig_listener_address(scene.listener));
    struct rig_listener *first = scene.listener;
    assert_int_equal(listen_fault(&scene, taken, &why), UV_EADDRINUSE);
    assert_non_null(strstr(why.text, taken));
    scene.listener = first;
    scene_deinit(&scene);
}

static void silent_peer_is_dropped_at_the_deadline(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_tls(&scene);
    scene_listen(&scene, (struct rig_listener_options){.address = "127.0.0.1:0",
                                                       .tls = scene.server_tls,
                                                       .handshake_timeout_ms = 150});
    int silent = bare_connect(rig_listener_address(scene.listener));
    fcntl(silent, F_SETFL, O_NONBLOCK);
    scene_dial(&scene); /* others are served meanwhile */
    loop_until(&scene.loop, scene.is_dialled && scene.accepted == 1);
    char octet;
    assert_int_equal(recv(silent, &octet, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    loop_until(&scene.loop, recv(silent, &octet, 1, 0) == 0);
    assert_int_equal(scene.accepted, 1);
    close(silent);
    scene_deinit(&scene);
}

static void peer_without_tls_is_dropped(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_tls(&scene);
    scene_listen(&scene,
                 (struct rig_listener_options){.address = "127.0.0.1:0", .tls = scene.server_tls});
    int fd = bare_connect(rig_listener_address(scene.listener));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    char text[64];
    ssize_t got = -1;
    loop_until(&scene.loop,
               (got = recv(fd, text, sizeof(text), 0)) == 0 || (got < 0 && errno == ECONNRESET));
    assert_int_equal(scene.accepted, 0);
    close(fd);
    scene_deinit(&scene);
}

static void connections_over_the_limit_wait(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_listen(&scene,
                 (struct rig_listener_options){.address = "127.0.0.1:0", .max_connections = 2});
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = bare_connect(rig_listener_address(scene.listener));
    loop_until(&scene.loop, scene.accepted == 2);
    loop_for(&scene.loop, 50);
    assert_int_equal(scene.accepted, 2);
    rig_stream_close(scene.more[0], NULL, NULL);
    loop_until(&scene.loop, scene.accepted == 3);
    rig_stream_close(scene.more[1], NULL, NULL);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    scene_deinit(&scene);
}

/* Out of descriptors: the socket stays readable; the loop must not spin on it. */
static void descriptor_shortage_does_not_spin(void **state)
{
    (void)state;
    const char *preload = getenv("LD_PRELOAD");
    if (preload != NULL && strstr(preload, "vgpreload") != NULL)
        skip(); /* valgrind plays the shortage itself, and closes what accept(2) gave */
    struct scene scene;
    scene_init(&scene);
    scene_listen(&scene, (struct rig_listener_options){.address = "127.0.0.1:0"});
    int fd = bare_connect(rig_listener_address(scene.listener));
    struct rlimit old, none;
    getrlimit(RLIMIT_NOFILE, &old);
    none = old;
    none.rlim_cur = (rlim_t)fd + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    loop_for(&scene.loop, 450);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(scene.accepted, 0);
    long used_ms =
        (long)(after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_true(used_ms < 200);
    loop_until(&scene.loop, scene.accepted == 1);
    close(fd);
    scene_deinit(&scene);
}

static void closing_ends_handshakes_but_not_streams(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_tls(&scene);
    scene_connect(&scene);
    int shaking = bare_connect(rig_listener_address(scene.listener));
    loop_for(&scene.loop, 30);
    rig_listener_close(scene.listener, on_listener_closed, &scene);
    loop_until(&scene.loop, scene.is_closed);
    scene.listener = NULL;
    char octet;
    assert_int_equal(recv(shaking, &octet, 1, 0), 0);
    rig_buf_append_text(&scene.client.out, "still here");
    end_read(&scene.server, 10);
    end_write(&scene.client);
    loop_until(&scene.loop, scene.server.in.len == 10);
    close(shaking);
    scene_deinit(&scene);
}

RIG_TEST_MAIN(cmocka_unit_test(plain_carries_both_ways), cmocka_unit_test(tls_carries_both_ways),
              cmocka_unit_test(stops_reading_when_not_wanted),
              cmocka_unit_test(octets_inside_tls_are_told),
              cmocka_unit_test(octets_behind_the_handshake_are_told),
              cmocka_unit_test(orderly_end_is_zero), cmocka_unit_test(reset_is_an_error),
              cmocka_unit_test(end_without_close_notify_is_an_error),
              cmocka_unit_test(write_to_a_gone_peer_fails),
              cmocka_unit_test(unix_path_of_107_octets_fits_108_does_not),
              cmocka_unit_test(leftovers_are_removed),
              cmocka_unit_test(served_socket_is_told_from_a_leftover),
              cmocka_unit_test(parents_are_made_and_the_mode_is_set),
              cmocka_unit_test(successor_keeps_its_socket),
              cmocka_unit_test(bad_addresses_are_refused),
              cmocka_unit_test(silent_peer_is_dropped_at_the_deadline),
              cmocka_unit_test(peer_without_tls_is_dropped),
              cmocka_unit_test(connections_over_the_limit_wait),
              cmocka_unit_test(descriptor_shortage_does_not_spin),
              cmocka_unit_test(closing_ends_handshakes_but_not_streams))
