/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/test_http2.c: our client against our server over a socket pair, and each of them
 * against frames written by hand. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/fault.h"
#include "core/http2.h"
#include "core/stream.h"
#include "core/stream_setup.h"
#include "tests/harness/loop.h"

#define CALLS_MAX    300
#define NARROW_BYTES 100001

/* What one side of one stream has seen. */
struct call {
    struct rig_h2_stream *stream;
    struct rig_buf headers, trailers; /* "name=value\n" */
    struct rig_buf body;
    bool is_answered, is_end;
    bool keeps_window;
    size_t kept; /* of the window */
    size_t sent;
    unsigned close_count;
    bool is_reset;
    uint32_t code;
    int err;
    bool resets_in_data, closes_in_data;
    struct side *side;
};

struct side {
    struct rig_h2 *h2;
    struct call calls[CALLS_MAX];
    size_t call_count;
    bool is_inside; /* a call of ours */
    bool is_ready;
    bool refuses, keeps_window;
    unsigned closed_count;
    int closed_err;
    struct rig_fault why;
    bool has_goaway;
    uint32_t goaway_code;
};

struct scene {
    struct test_loop loop;
    struct side client, server;
    int bare;            /* the other end, when there is only one side */
    struct rig_buf seen; /* what `bare` has received */
};

static void headers_text(struct rig_buf *text, const struct rig_h2_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        rig_buf_printf(text, "%.*s=%.*s\n", RIG_SLICE_ARG(headers[i].name),
                       RIG_SLICE_ARG(headers[i].value));
}

static void on_headers(void *ctx, const struct rig_h2_header *headers, size_t count, bool is_end)
{
    struct call *call = ctx;
    headers_text(call->is_answered ? &call->trailers : &call->headers, headers, count);
    call->is_answered = true;
    call->is_end = is_end;
}

static void on_data(void *ctx, struct rig_slice data, bool is_end)
{
    struct call *call = ctx;
    assert_int_equal(call->close_count, 0);
    rig_buf_append_slice(&call->body, data);
    if (call->keeps_window)
        call->kept += data.len;
    else
        rig_h2_stream_consume(call->stream, data.len);
    if (is_end)
        call->is_end = true;
    if (call->resets_in_data)
        rig_h2_stream_reset(call->stream, 8);
    if (call->closes_in_data)
        rig_h2_close(call->side->h2);
}

static void on_sent(void *ctx, size_t len)
{
    struct call *call = ctx;
    assert_false(call->side->is_inside);
    call->sent += len;
}

static void on_close(void *ctx, bool is_reset, uint32_t code, int err)
{
    struct call *call = ctx;
    assert_false(call->side->is_inside);
    call->close_count++;
    call->is_reset = is_reset;
    call->code = code;
    call->err = err;
    call->stream = NULL;
}

static const struct rig_h2_stream_events call_events = {on_headers, on_data, on_sent, on_close};

static void on_ready(void *ctx)
{
    ((struct side *)ctx)->is_ready = true;
}

static void on_request(void *ctx, struct rig_h2_stream *stream, const struct rig_h2_header *headers,
                       size_t count, bool is_end)
{
    struct side *side = ctx;
    if (side->refuses)
        return;
    assert_true(side->call_count < CALLS_MAX);
    struct call *call = &side->calls[side->call_count++];
    call->side = side;
    call->stream = stream;
    call->keeps_window = side->keeps_window;
    headers_text(&call->headers, headers, count);
    call->is_answered = true;
    call->is_end = is_end;
    rig_h2_stream_bind(stream, &call_events, call);
}

static void on_goaway(void *ctx, uint32_t code, struct rig_slice debug)
{
    struct side *side = ctx;
    (void)debug;
    side->has_goaway = true;
    side->goaway_code = code;
}

static void on_closed(void *ctx, int err, const struct rig_fault *why)
{
    struct side *side = ctx;
    assert_false(side->is_inside);
    for (size_t i = 0; i < side->call_count; i++)
        assert_int_equal(side->calls[i].close_count, 1);
    side->closed_count++;
    side->closed_err = err;
    side->why = *why;
    side->h2 = NULL;
}

static const struct rig_h2_events side_events = {on_ready, on_request, on_goaway, on_closed};

static void side_open(struct scene *scene, struct side *side, int fd, struct rig_h2_options options)
{
    struct rig_stream *stream;
    struct stream_setup setup = {.fd = fd};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    assert_int_equal(stream_open(&scene->loop.uv, &setup, &stream, NULL), 0);
    options.is_server = side == &scene->server;
    side->h2 = rig_h2_open(&scene->loop.uv, stream, &options, &side_events, side);
}

static void scene_pair(struct scene *scene, struct rig_h2_options client,
                       struct rig_h2_options server)
{
    int fds[2];
    *scene = (struct scene){.bare = -1};
    loop_init(&scene->loop);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    if (server.stream_window_bytes == NARROW_BYTES) {
        int small = 4096; /* sockets that are full all the time */
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    }
    side_open(scene, &scene->client, fds[0], client);
    side_open(scene, &scene->server, fds[1], server);
    loop_until(&scene->loop, scene->client.is_ready && scene->server.is_ready);
}

/* One side of ours, the test's own hand at the other end. */
static void scene_bare(struct scene *scene, bool is_server, struct rig_h2_options options)
{
    int fds[2];
    *scene = (struct scene){.bare = -1};
    loop_init(&scene->loop);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    scene->bare = fds[1];
    fcntl(scene->bare, F_SETFL, O_NONBLOCK);
    side_open(scene, is_server ? &scene->server : &scene->client, fds[0], options);
}

static void side_free(struct scene *scene, struct side *side)
{
    if (side->h2 != NULL) {
        side->is_inside = true;
        rig_h2_close(side->h2);
        side->is_inside = false;
        loop_until(&scene->loop, side->h2 == NULL);
    }
    for (size_t i = 0; i < side->call_count; i++) {
        rig_buf_deinit(&side->calls[i].headers);
        rig_buf_deinit(&side->calls[i].trailers);
        rig_buf_deinit(&side->calls[i].body);
    }
    assert_true(side->closed_count <= 1);
}

static void scene_deinit(struct scene *scene)
{
    side_free(scene, &scene->client);
    side_free(scene, &scene->server);
    if (scene->bare >= 0)
        close(scene->bare);
    rig_buf_deinit(&scene->seen);
    loop_deinit(&scene->loop);
}

#define HEADER(n, v)                                                                               \
    {                                                                                              \
        RIG_SLICE(n), RIG_SLICE(v), false                                                          \
    }

static struct call *request(struct side *side, const char *path)
{
    const struct rig_h2_header headers[] = {
        HEADER(":method", "POST"),
        HEADER(":scheme", "http"),
        {RIG_SLICE(":path"), rig_slice_text(path), false},
        HEADER(":authority", "peer"),
        {RIG_SLICE("authorization"), RIG_SLICE("Bearer t"), true},
    };
    assert_true(side->call_count < CALLS_MAX);
    struct call *call = &side->calls[side->call_count++];
    call->side = side;
    call->keeps_window = side->keeps_window;
    side->is_inside = true;
    call->stream = rig_h2_request(side->h2, headers, 5, &call_events, call);
    side->is_inside = false;
    if (call->stream == NULL)
        side->call_count--;
    return call->stream != NULL ? call : NULL;
}

static void respond(struct call *call, bool is_end)
{
    const struct rig_h2_header headers[] = {HEADER(":status", "200"),
                                            HEADER("content-type", "text/plain")};
    call->side->is_inside = true;
    rig_h2_stream_respond(call->stream, headers, 2, is_end);
    call->side->is_inside = false;
}

static void write_text(struct call *call, const char *text)
{
    call->side->is_inside = true;
    rig_h2_stream_write(call->stream, rig_slice_text(text));
    call->side->is_inside = false;
}

static void write_pattern(struct call *call, size_t len)
{
    struct rig_buf buf = {0};
    uint8_t *at = rig_buf_reserve(&buf, len);
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)((i * 2654435761u) >> 11);
    rig_buf_commit(&buf, len);
    call->side->is_inside = true;
    rig_h2_stream_write(call->stream, rig_buf_slice(&buf));
    call->side->is_inside = false;
    rig_buf_deinit(&buf);
}

static bool is_pattern(const struct rig_buf *buf)
{
    for (size_t i = 0; i < buf->len; i++)
        if (buf->at[i] != (uint8_t)((i * 2654435761u) >> 11))
            return false;
    return true;
}

static void end(struct call *call)
{
    call->side->is_inside = true;
    rig_h2_stream_end(call->stream, NULL, 0);
    call->side->is_inside = false;
}

/* ---- a hand-made peer ---- */

static void frame(struct scene *scene, uint8_t type, uint8_t flags, uint32_t id,
                  struct rig_slice payload)
{
    uint8_t head[9] = {(uint8_t)(payload.len >> 16),
                       (uint8_t)(payload.len >> 8),
                       (uint8_t)payload.len,
                       type,
                       flags,
                       (uint8_t)(id >> 24),
                       (uint8_t)(id >> 16),
                       (uint8_t)(id >> 8),
                       (uint8_t)id};
    struct rig_buf whole = {0};
    rig_buf_append(&whole, head, sizeof(head));
    rig_buf_append_slice(&whole, payload);
    while (whole.len > 0) {
        ssize_t put = send(scene->bare, whole.at, whole.len, MSG_NOSIGNAL);
        if (put > 0)
            rig_buf_consume(&whole, (size_t)put);
        else if (errno == EAGAIN)
            uv_run(&scene->loop.uv, UV_RUN_NOWAIT);
        else
            break; /* our side has ended the connection */
    }
    rig_buf_deinit(&whole);
}

static void hello(struct scene *scene, bool is_client)
{
    if (is_client)
        assert_int_equal(send(scene->bare, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, 0), 24);
    frame(scene, 4, 0, 0, rig_slice(NULL, 0));
}

/* ":method POST, :scheme http, :path /, :authority x" by static table and a literal. */
static const struct rig_slice get_request = {(const uint8_t *)"\x83\x86\x84\x01\x01x", 6};

static void pull(struct scene *scene)
{
    ssize_t got;
    while ((got = recv(scene->bare, rig_buf_reserve(&scene->seen, 4096), 4096, 0)) > 0)
        rig_buf_commit(&scene->seen, (size_t)got);
}

/* How many frames of this type have come to the hand-made peer; payload of the last one. */
static unsigned frames_seen(struct scene *scene, uint8_t type, struct rig_slice *last)
{
    unsigned count = 0;
    pull(scene);
    struct rig_slice rest = rig_buf_slice(&scene->seen);
    if (scene->client.h2 != NULL || scene->client.closed_count > 0) {
        size_t magic = rest.len < 24 ? rest.len : 24;
        rest.at += magic;
        rest.len -= magic;
    }
    while (rest.len >= 9) {
        size_t len = (size_t)rest.at[0] << 16 | (size_t)rest.at[1] << 8 | rest.at[2];
        if (rest.len < 9 + len)
            break;
        if (rest.at[3] == type) {
            count++;
            if (last != NULL)
                *last = rig_slice(rest.at + 9, len);
        }
        rest.at += 9 + len;
        rest.len -= 9 + len;
    }
    return count;
}

/* ---- octets ---- */

static void request_and_response_are_carried(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    struct call *call = request(&scene.client, "/echo");
    write_text(call, "ping");
    end(call);
    loop_until(&scene.loop, scene.server.call_count == 1 && scene.server.calls[0].is_end);
    struct call *served = &scene.server.calls[0];
    assert_string_equal(rig_buf_text(&served->headers),
                        ":method=POST\n:scheme=http\n:path=/echo\n:authority=peer\n"
                        "authorization=Bearer t\n");
    assert_string_equal(rig_buf_text(&served->body), "ping");
    respond(served, false);
    write_text(served, "pong");
    const struct rig_h2_header trailers[] = {HEADER("status", "fine")};
    rig_h2_stream_end(served->stream, trailers, 1);
    loop_until(&scene.loop, call->close_count == 1 && served->close_count == 1);
    assert_string_equal(rig_buf_text(&call->headers), ":status=200\ncontent-type=text/plain\n");
    assert_string_equal(rig_buf_text(&call->body), "pong");
    assert_string_equal(rig_buf_text(&call->trailers), "status=fine\n");
    assert_true(call->is_end);
    assert_false(call->is_reset || served->is_reset);
    assert_int_equal(call->err, 0);
    assert_int_equal(call->sent, 4);
    assert_int_equal(served->sent, 4);
    scene_deinit(&scene);
}

static void large_bodies_are_carried_both_ways(void **state)
{
    (void)state;
    struct scene scene;
    struct rig_h2_options options = {.stream_window_bytes = 262144,
                                     .connection_window_bytes = 524288};
    scene_pair(&scene, options, options);
    struct call *call = request(&scene.client, "/echo");
    write_pattern(call, 8u << 20);
    assert_true(rig_h2_stream_queued(call->stream) > 0);
    end(call);
    loop_until(&scene.loop, scene.server.call_count == 1);
    struct call *served = &scene.server.calls[0];
    respond(served, false);
    write_pattern(served, 8u << 20);
    end(served);
    loop_until(&scene.loop, call->close_count == 1 && served->close_count == 1);
    assert_int_equal(served->body.len, 8u << 20);
    assert_int_equal(call->body.len, 8u << 20);
    assert_true(is_pattern(&served->body) && is_pattern(&call->body));
    assert_int_equal(call->sent, 8u << 20);
    uint64_t received, sent;
    rig_h2_count(scene.client.h2, &received, &sent);
    assert_true(received > 8u << 20 && received < (8u << 20) + 100000);
    assert_true(sent > 8u << 20 && sent < (8u << 20) + 100000);
    scene_deinit(&scene);
}

/* ---- windows ---- */

static void window_that_is_kept_stops_its_stream_only(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(
        &scene, (struct rig_h2_options){.keepalive_ms = 60, .keepalive_timeout_ms = 20000},
        (struct rig_h2_options){.stream_window_bytes = 100000, .connection_window_bytes = 300000});
    scene.server.keeps_window = true;
    struct call *slow = request(&scene.client, "/slow");
    write_pattern(slow, 1u << 20);
    loop_until(&scene.loop,
               scene.server.call_count == 1 && scene.server.calls[0].body.len == 100000);
    /* Others go on, in both directions, and so do PINGs. */
    scene.server.keeps_window = false;
    struct call *quick = request(&scene.client, "/quick");
    write_pattern(quick, 1u << 20);
    end(quick);
    loop_until(&scene.loop, scene.server.call_count == 2 && scene.server.calls[1].is_end);
    respond(&scene.server.calls[0], false);
    write_text(&scene.server.calls[0], "still here");
    loop_until(&scene.loop, slow->body.len == 10);
    loop_for(&scene.loop, 200);
    assert_int_equal(scene.client.closed_count, 0);
    assert_int_equal(scene.server.calls[0].body.len, 100000);
    assert_int_equal(rig_h2_stream_queued(slow->stream), (1u << 20) - 100000);
    /* Given back, it goes on. */
    scene.server.calls[0].keeps_window = false;
    rig_h2_stream_consume(scene.server.calls[0].stream, 100000);
    loop_until(&scene.loop, scene.server.calls[0].body.len == 1u << 20);
    scene_deinit(&scene);
}

/* What dead streams held of the connection's window must come back, or it runs dry. */
static void dead_streams_give_their_window_back(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    scene.server.keeps_window = true;
    for (unsigned i = 0; i < 20; i++) {
        struct call *call = request(&scene.client, "/dies");
        struct call *served = &scene.server.calls[i];
        write_pattern(call, 30000);
        loop_until(&scene.loop, served->body.len == 30000);
        if (i % 3 == 0)
            rig_h2_stream_reset(call->stream, 8);
        else if (i % 3 == 1)
            rig_h2_stream_reset(served->stream, 8);
        else
            respond(served, true), end(call);
        loop_until(&scene.loop, call->close_count == 1 && served->close_count == 1);
    }
    scene.server.keeps_window = false;
    struct call *call = request(&scene.client, "/lives");
    write_pattern(call, 500000);
    loop_until(&scene.loop, scene.server.calls[20].body.len == 500000);
    scene_deinit(&scene);
}

/* ---- ends of streams ---- */

static void reset_carries_its_code(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    struct call *a = request(&scene.client, "/a"), *b = request(&scene.client, "/b");
    write_pattern(a, 200000); /* over the window: some stays queued */
    scene.server.keeps_window = true;
    loop_until(&scene.loop, scene.server.call_count == 2);
    scene.client.is_inside = true;
    rig_h2_stream_reset(a->stream, 8);
    scene.client.is_inside = false;
    assert_int_equal(a->close_count, 0);
    rig_h2_stream_reset(scene.server.calls[1].stream, 11);
    loop_until(&scene.loop, a->close_count && b->close_count && scene.server.calls[0].close_count &&
                                scene.server.calls[1].close_count);
    assert_true(a->is_reset && b->is_reset);
    assert_int_equal(a->code, 8);
    assert_int_equal(scene.server.calls[0].code, 8);
    assert_true(scene.server.calls[0].is_reset && scene.server.calls[1].is_reset);
    assert_int_equal(b->code, 11);
    assert_int_equal(scene.server.calls[1].code, 11);
    scene_deinit(&scene);
}

static void reset_inside_a_callback_is_the_last_word(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    struct call *call = request(&scene.client, "/a");
    loop_until(&scene.loop, scene.server.call_count == 1);
    scene.server.calls[0].resets_in_data = true;
    write_pattern(call, 60000);
    loop_until(&scene.loop, call->close_count == 1 && scene.server.calls[0].close_count == 1);
    /* One piece came; nothing was told behind the reset. */
    assert_true(scene.server.calls[0].body.len <= 16384);
    assert_int_equal(call->code, 8);
    scene_deinit(&scene);
}

/* RFC 9113 8.1: complete response first, then RST_STREAM(NO_ERROR). */
static void early_response_ends_the_request(void **state)
{
    (void)state;
    for (int with_body = 0; with_body < 2; with_body++) {
        struct scene scene;
        scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
        struct call *call = request(&scene.client, "/a");
        loop_until(&scene.loop, scene.server.call_count == 1);
        struct call *served = &scene.server.calls[0];
        respond(served, !with_body);
        if (with_body) {
            write_text(served, "body");
            const struct rig_h2_header trailers[] = {HEADER("status", "fine")};
            rig_h2_stream_end(served->stream, trailers, 1);
        }
        loop_until(&scene.loop, call->close_count == 1 && served->close_count == 1);
        assert_true(call->is_end);
        assert_true(call->is_reset);
        assert_int_equal(call->code, 0);
        assert_int_equal(call->trailers.len, with_body ? strlen("status=fine\n") : 0);
        scene_deinit(&scene);
    }
}

static void unbound_request_is_refused(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    scene.server.refuses = true;
    struct call *call = request(&scene.client, "/a");
    loop_until(&scene.loop, call->close_count == 1);
    assert_true(call->is_reset);
    assert_int_equal(call->code, 7); /* REFUSED_STREAM */
    scene_deinit(&scene);
}

static void streams_over_the_limit_wait(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){.max_streams = 2});
    struct call *calls[3];
    for (int i = 0; i < 3; i++)
        calls[i] = request(&scene.client, "/a");
    loop_until(&scene.loop, scene.server.call_count == 2);
    loop_for(&scene.loop, 50);
    assert_int_equal(scene.server.call_count, 2);
    respond(&scene.server.calls[0], true);
    loop_until(&scene.loop, scene.server.call_count == 3);
    assert_int_equal(calls[0]->close_count, 1);
    /* One that still waits can be given up. */
    struct call *waiting = request(&scene.client, "/b");
    loop_for(&scene.loop, 20);
    rig_h2_stream_reset(waiting->stream, 8);
    respond(&scene.server.calls[1], true);
    loop_until(&scene.loop, waiting->close_count == 1);
    assert_true(waiting->is_reset);
    assert_int_equal(scene.server.call_count, 3);
    scene_deinit(&scene);
}

/* ---- ends of connections ---- */

static void close_loses_the_streams(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    struct call *call = request(&scene.client, "/a");
    loop_until(&scene.loop, scene.server.call_count == 1);
    scene.client.is_inside = true;
    rig_h2_close(scene.client.h2);
    rig_h2_close(scene.client.h2);
    assert_null(request(&scene.client, "/b"));
    scene.client.is_inside = true;
    rig_h2_stream_write(call->stream, RIG_SLICE("into the void"));
    rig_h2_stream_reset(call->stream, 8);
    scene.client.is_inside = false;
    loop_until(&scene.loop, scene.client.closed_count == 1 && scene.server.closed_count == 1);
    assert_int_equal(scene.client.closed_err, 0);
    assert_string_equal(scene.client.why.text, "");
    assert_int_equal(call->close_count, 1);
    assert_int_equal(call->err, UV_ECANCELED);
    assert_false(call->is_reset);
    assert_int_equal(scene.server.closed_err, UV_EOF);
    assert_int_equal(scene.server.calls[0].err, UV_EOF);
    assert_true(scene.server.has_goaway);
    assert_string_equal(scene.server.why.text,
                        "connection closed by the peer, received prior goaway: code: NO_ERROR, "
                        "debug data: \"\"");
    scene_deinit(&scene);
}

static void close_inside_a_callback_is_the_last_word(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    struct call *call = request(&scene.client, "/a");
    loop_until(&scene.loop, scene.server.call_count == 1);
    scene.server.calls[0].closes_in_data = true;
    write_pattern(call, 60000);
    loop_until(&scene.loop, scene.client.closed_count == 1 && scene.server.closed_count == 1);
    assert_int_equal(scene.server.closed_err, 0);
    assert_true(scene.server.calls[0].body.len <= 16384);
    scene_deinit(&scene);
}

static void drain_waits_for_open_streams(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    struct call *call = request(&scene.client, "/a");
    loop_until(&scene.loop, scene.server.call_count == 1);
    rig_h2_drain(scene.server.h2);
    loop_until(&scene.loop, scene.client.has_goaway);
    assert_int_equal(scene.client.goaway_code, 0);
    assert_null(request(&scene.client, "/b"));
    respond(&scene.server.calls[0], false);
    write_pattern(&scene.server.calls[0], 300000);
    end(&scene.server.calls[0]);
    loop_until(&scene.loop, scene.server.closed_count == 1 && scene.client.closed_count == 1);
    assert_int_equal(call->body.len, 300000);
    assert_true(call->is_end);
    assert_int_equal(scene.server.closed_err, 0);
    assert_int_equal(scene.client.closed_err, UV_EOF);
    scene_deinit(&scene);
}

static void vanished_peer_loses_the_streams(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, false, (struct rig_h2_options){0});
    hello(&scene, false);
    struct call *call = request(&scene.client, "/a");
    loop_until(&scene.loop, frames_seen(&scene, 1, NULL) == 1);
    /* Headers and half a frame of the body, then nothing any more. */
    frame(&scene, 1, 4, 1, RIG_SLICE("\x88"));
    send(scene.bare, "\0\x10\0\0\0\0\0\0\1half", 13, 0);
    close(scene.bare);
    scene.bare = -1;
    loop_until(&scene.loop, scene.client.closed_count == 1);
    assert_int_equal(scene.client.closed_err, UV_EOF);
    assert_string_equal(scene.client.why.text, "connection closed by the peer");
    assert_int_equal(call->err, UV_EOF);
    assert_string_equal(rig_buf_text(&call->body), "half");
    scene_deinit(&scene);
}

/* ---- time ---- */

static void silent_peer_has_no_settings(void **state)
{
    (void)state;
    for (int is_server = 0; is_server < 2; is_server++) {
        struct scene scene;
        scene_bare(&scene, is_server, (struct rig_h2_options){.settings_timeout_ms = 60});
        struct side *side = is_server ? &scene.server : &scene.client;
        loop_until(&scene.loop, side->closed_count == 1);
        assert_false(side->is_ready);
        assert_int_equal(side->closed_err, UV_ETIMEDOUT);
        assert_string_equal(side->why.text, "no HTTP/2 SETTINGS from the peer within 60 ms");
        scene_deinit(&scene);
    }
}

static void keepalive_finds_a_dead_peer(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, false,
               (struct rig_h2_options){.keepalive_ms = 100, .keepalive_timeout_ms = 100});
    hello(&scene, false);
    loop_until(&scene.loop, scene.client.is_ready);
    loop_for(&scene.loop, 350); /* no stream, no PING */
    assert_int_equal(frames_seen(&scene, 6, NULL), 0);
    struct call *call = request(&scene.client, "/a");
    loop_for(&scene.loop, 50);
    assert_int_equal(frames_seen(&scene, 6, NULL), 0);
    loop_until(&scene.loop, frames_seen(&scene, 6, NULL) == 1);
    assert_int_equal(scene.client.closed_count, 0);
    frame(&scene, 0xfa, 0, 0, RIG_SLICE("any octet is a sign of life"));
    loop_until(&scene.loop, frames_seen(&scene, 6, NULL) == 2);
    assert_int_equal(scene.client.closed_count, 0);
    loop_until(&scene.loop, scene.client.closed_count == 1);
    assert_int_equal(scene.client.closed_err, UV_ETIMEDOUT);
    assert_int_equal(call->err, UV_ETIMEDOUT);
    assert_non_null(strstr(scene.client.why.text, "nothing received for 200 ms"));
    scene_deinit(&scene);
}

static void server_pings_without_streams(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, true,
               (struct rig_h2_options){.keepalive_ms = 50, .keepalive_timeout_ms = 50});
    hello(&scene, true);
    loop_until(&scene.loop, frames_seen(&scene, 6, NULL) == 1);
    loop_until(&scene.loop, scene.server.closed_count == 1);
    assert_int_equal(scene.server.closed_err, UV_ETIMEDOUT);
    scene_deinit(&scene);
}

/* ---- hostile peers ---- */

static void what_is_no_http2_ends_the_connection(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, true, (struct rig_h2_options){0});
    send(scene.bare, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, 0);
    loop_until(&scene.loop, scene.server.closed_count == 1);
    assert_int_equal(scene.server.closed_err, RIG_E_PROTOCOL);
    scene_deinit(&scene);

    scene_bare(&scene, false, (struct rig_h2_options){0});
    send(scene.bare, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, 0);
    loop_until(&scene.loop, scene.client.closed_count == 1);
    assert_int_equal(scene.client.closed_err, RIG_E_PROTOCOL);
    assert_non_null(strstr(scene.client.why.text, "peer broke HTTP/2"));
    scene_deinit(&scene);
}

static void broken_frame_gets_goaway(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, true, (struct rig_h2_options){0});
    hello(&scene, true);
    frame(&scene, 0, 0, 0, RIG_SLICE("DATA on stream 0"));
    loop_until(&scene.loop, scene.server.closed_count == 1);
    assert_int_equal(scene.server.closed_err, RIG_E_PROTOCOL);
    struct rig_slice goaway = {0};
    assert_int_equal(frames_seen(&scene, 7, &goaway), 1);
    assert_int_equal(goaway.at[7], 1); /* PROTOCOL_ERROR */
    scene_deinit(&scene);
}

/* What a peer said is part of the reason, and a reason is one line. */
static void goaway_text_stays_one_line(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, true, (struct rig_h2_options){0});
    hello(&scene, true);
    frame(&scene, 7, 0, 0, RIG_SLICE("\0\0\0\0\0\0\0\0max\nage\x1b[2J"));
    loop_until(&scene.loop, scene.server.has_goaway);
    shutdown(scene.bare, SHUT_RDWR);
    loop_until(&scene.loop, scene.server.closed_count == 1);
    assert_string_equal(scene.server.why.text,
                        "connection closed by the peer, received prior goaway: code: NO_ERROR, "
                        "debug data: \"max age [2J\"");
    scene_deinit(&scene);
}

static void header_block_over_the_limit_is_refused(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0},
               (struct rig_h2_options){.max_header_bytes = 2000});
    char value[1900];
    memset(value, 'v', sizeof(value));
    struct rig_h2_header headers[] = {HEADER(":method", "POST"),
                                      HEADER(":scheme", "http"),
                                      HEADER(":path", "/"),
                                      HEADER(":authority", "x"),
                                      {RIG_SLICE("big"), rig_slice(value, sizeof(value)), false}};
    struct call *call = &scene.client.calls[scene.client.call_count++];
    call->side = &scene.client;
    call->stream = rig_h2_request(scene.client.h2, headers, 5, &call_events, call);
    loop_until(&scene.loop, call->close_count == 1);
    assert_true(call->is_reset);
    assert_int_equal(call->code, 11); /* ENHANCE_YOUR_CALM */
    assert_int_equal(scene.server.call_count, 0);
    request(&scene.client, "/small"); /* the connection lives */
    loop_until(&scene.loop, scene.server.call_count == 1);
    scene_deinit(&scene);
}

static void informational_headers_are_passed_over(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, false, (struct rig_h2_options){0});
    hello(&scene, false);
    struct call *call = request(&scene.client, "/a");
    loop_until(&scene.loop, frames_seen(&scene, 1, NULL) == 1);
    frame(&scene, 1, 4, 1,
          RIG_SLICE("\x08\x03"
                    "103"));
    frame(&scene, 1, 5, 1, RIG_SLICE("\x88"));
    loop_until(&scene.loop, call->is_end);
    assert_string_equal(rig_buf_text(&call->headers), ":status=200\n");
    assert_int_equal(call->trailers.len, 0);
    scene_deinit(&scene);
}

/* Sends these octets again and again, never reads, until our side has had enough; how many. */
static size_t flood(struct scene *scene, void (*next)(uint8_t *at, uint32_t count), size_t len)
{
    uint8_t octets[32];
    size_t sent = 0;
    uint32_t count = 0;
    while (scene->server.closed_count == 0 && sent < 64u << 20) {
        if (sent % len == 0)
            next(octets, count++);
        ssize_t put = send(scene->bare, octets + sent % len, len - sent % len, MSG_NOSIGNAL);
        if (put > 0)
            sent += (size_t)put;
        else if (errno != EAGAIN)
            break;
        else
            uv_run(&scene->loop.uv, UV_RUN_NOWAIT);
    }
    loop_until(&scene->loop, scene->server.closed_count == 1);
    return sent;
}

static void next_ping(uint8_t *at, uint32_t count)
{
    (void)count;
    memcpy(at, "\0\0\10\6\0\0\0\0\0pingpong", 17);
}

static void next_request(uint8_t *at, uint32_t count)
{
    uint32_t id = 2 * count + 1;
    memcpy(at, "\0\0\6\1\5\0", 6);
    at[6] = (uint8_t)(id >> 16);
    at[7] = (uint8_t)(id >> 8);
    at[8] = (uint8_t)id;
    memcpy(at + 9, get_request.at, get_request.len);
}

/* The answers to a peer that asks and never reads may not pile up. */
static void floods_end_the_connection(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, true, (struct rig_h2_options){0});
    hello(&scene, true);
    assert_true(flood(&scene, next_ping, 17) < 4u << 20);
    assert_int_equal(scene.server.closed_err, RIG_E_PROTOCOL);
    scene_deinit(&scene);

    scene_bare(&scene, true, (struct rig_h2_options){0});
    hello(&scene, true);
    scene.server.refuses = true;
    assert_true(flood(&scene, next_request, 15) < 4u << 20);
    assert_int_equal(scene.server.closed_err, RIG_E_PROTOCOL);
    assert_string_equal(scene.server.why.text, "peer makes us answer faster than it reads");
    scene_deinit(&scene);
}

/* Streams that are opened and reset at once (CVE-2023-44487) leave nothing behind. */
static void rapid_resets_leave_nothing(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, true, (struct rig_h2_options){0});
    hello(&scene, true);
    for (uint32_t i = 0; i < 250; i++) {
        frame(&scene, 1, 4, 2 * i + 1, get_request);
        frame(&scene, 3, 0, 2 * i + 1, rig_slice("\0\0\0\x08", 4));
    }
    loop_until(&scene.loop,
               scene.server.call_count == 250 && scene.server.calls[249].close_count == 1);
    for (int i = 0; i < 250; i++) {
        assert_true(scene.server.calls[i].is_reset);
        assert_int_equal(scene.server.calls[i].code, 8);
    }
    scene_deinit(&scene);
}

/* The peer takes no octet: what waits for it is bounded by windows and by our own limit. */
static void blocked_output_is_bounded_and_goes_on(void **state)
{
    (void)state;
    struct scene scene;
    scene_bare(&scene, true, (struct rig_h2_options){0});
    hello(&scene, true);
    frame(&scene, 4, 0, 0, rig_slice("\0\4\x7f\xff\xff\xff", 6)); /* windows as wide as can be */
    frame(&scene, 8, 0, 0, rig_slice("\x7f\xff\0\0", 4));
    frame(&scene, 1, 5, 1, get_request);
    loop_until(&scene.loop, scene.server.call_count == 1);
    struct call *served = &scene.server.calls[0];
    respond(served, false);
    write_pattern(served, 8u << 20);
    loop_for(&scene.loop, 50);
    size_t in_output = (8u << 20) - rig_h2_stream_queued(served->stream);
    assert_true(in_output < 1u << 20); /* mostly the kernel's own buffer */
    size_t data = 0;
    loop_until(&scene.loop, (pull(&scene), scene.seen.len >= 8u << 20));
    struct rig_slice last;
    loop_until(&scene.loop, frames_seen(&scene, 0, &last) >= 512);
    struct rig_slice rest = rig_buf_slice(&scene.seen);
    while (rest.len >= 9) {
        size_t len = (size_t)rest.at[0] << 16 | (size_t)rest.at[1] << 8 | rest.at[2];
        if (rest.at[3] == 0) {
            for (size_t i = 0; i < len; i++, data++)
                assert_int_equal(rest.at[9 + i], (uint8_t)((data * 2654435761u) >> 11));
        }
        rest.at += 9 + len;
        rest.len -= 9 + len;
    }
    assert_int_equal(data, 8u << 20);
    scene_deinit(&scene);
}

/* ---- anything at any time ---- */

static uint32_t dice(uint32_t *seed, uint32_t sides)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % sides;
}

/* The octets of a stream go on with the pattern, whatever pieces they are written in. */
static void write_more(struct call *call, size_t *written, size_t len)
{
    struct rig_buf buf = {0};
    uint8_t *at = rig_buf_reserve(&buf, len);
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)(((*written + i) * 2654435761u) >> 11);
    rig_buf_commit(&buf, len);
    *written += len;
    call->side->is_inside = true;
    rig_h2_stream_write(call->stream, rig_buf_slice(&buf));
    call->side->is_inside = false;
    rig_buf_deinit(&buf);
}

static void random_step(struct scene *scene, uint32_t *seed, size_t *written)
{
    size_t i = dice(seed, (uint32_t)scene->client.call_count);
    struct call *call = &scene->client.calls[i];
    struct call *served = i < scene->server.call_count ? &scene->server.calls[i] : NULL;
    switch (dice(seed, 12)) {
    case 0:
        if (served != NULL && served->stream != NULL && dice(seed, 20) == 0)
            rig_h2_stream_reset(served->stream, 8);
        break;
    case 1:
        if (call->stream != NULL && dice(seed, 20) == 0)
            rig_h2_stream_reset(call->stream, 8);
        break;
    case 2:
        if (served != NULL)
            served->keeps_window = !served->keeps_window;
        break;
    case 3:
    case 4:
        if (served != NULL && served->stream != NULL && served->kept > 0) {
            size_t len = 1 + dice(seed, (uint32_t)served->kept);
            served->kept -= len;
            rig_h2_stream_consume(served->stream, len);
        }
        break;
    case 5:
        loop_for(&scene->loop, 1);
        break;
    default:
        if (call->stream != NULL)
            write_more(call, &written[i], 1 + dice(seed, dice(seed, 3) == 0 ? 60000 : 3000));
        break;
    }
}

static void random_scene(uint32_t seed)
{
    struct scene scene;
    size_t written[20] = {0};
    struct rig_h2_options narrow = {.stream_window_bytes = NARROW_BYTES,
                                    .connection_window_bytes = 1000000};
    scene_pair(&scene, (struct rig_h2_options){0}, narrow);
    for (int i = 0; i < 20; i++)
        request(&scene.client, "/random");
    loop_until(&scene.loop, scene.server.call_count == 20);
    for (int i = 0; i < 3000; i++)
        random_step(&scene, &seed, written);
    for (int i = 0; i < 20; i++) {
        struct call *call = &scene.client.calls[i], *served = &scene.server.calls[i];
        served->keeps_window = false;
        if (served->stream != NULL)
            rig_h2_stream_consume(served->stream, served->kept);
        served->kept = 0;
        if (call->stream != NULL)
            end(call);
    }
    for (int i = 0; i < 20; i++) {
        struct call *call = &scene.client.calls[i], *served = &scene.server.calls[i];
        loop_until(&scene.loop, served->is_end || served->close_count == 1);
        assert_true(is_pattern(&served->body));
        if (served->is_end)
            assert_int_equal(served->body.len, written[i]);
        if (served->stream != NULL)
            respond(served, true);
        loop_until(&scene.loop, call->close_count == 1 && served->close_count == 1);
        assert_int_equal(call->err, 0);
    }
    scene_deinit(&scene);
}

static void random_traffic_keeps_its_order(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 6; seed++)
        random_scene(seed * 7919);
}

RIG_TEST_MAIN(
    cmocka_unit_test(request_and_response_are_carried),
    cmocka_unit_test(large_bodies_are_carried_both_ways),
    cmocka_unit_test(window_that_is_kept_stops_its_stream_only),
    cmocka_unit_test(dead_streams_give_their_window_back), cmocka_unit_test(reset_carries_its_code),
    cmocka_unit_test(reset_inside_a_callback_is_the_last_word),
    cmocka_unit_test(early_response_ends_the_request), cmocka_unit_test(unbound_request_is_refused),
    cmocka_unit_test(streams_over_the_limit_wait), cmocka_unit_test(close_loses_the_streams),
    cmocka_unit_test(close_inside_a_callback_is_the_last_word),
    cmocka_unit_test(drain_waits_for_open_streams),
    cmocka_unit_test(vanished_peer_loses_the_streams),
    cmocka_unit_test(silent_peer_has_no_settings), cmocka_unit_test(keepalive_finds_a_dead_peer),
    cmocka_unit_test(server_pings_without_streams),
    cmocka_unit_test(what_is_no_http2_ends_the_connection),
    cmocka_unit_test(broken_frame_gets_goaway), cmocka_unit_test(goaway_text_stays_one_line),
    cmocka_unit_test(header_block_over_the_limit_is_refused),
    cmocka_unit_test(informational_headers_are_passed_over),
    cmocka_unit_test(floods_end_the_connection), cmocka_unit_test(rapid_resets_leave_nothing),
    cmocka_unit_test(blocked_output_is_bounded_and_goes_on),
    cmocka_unit_test(random_traffic_keeps_its_order))
