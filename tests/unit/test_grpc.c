/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/test_grpc.c: calls of ours against ours over real sockets, and each side against an
 * HTTP/2 peer that says what the test wants. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/buf.h"
#include "core/fault.h"
#include "core/grpc.h"
#include "core/grpc_frame.h"
#include "core/grpc_status.h"
#include "core/http2.h"
#include "core/stream.h"
#include "tests/harness/loop.h"
#include "tests/harness/pki.h"

#define CALLS_MAX 8

struct side {
    struct rig_grpc_call *call;
    struct scene *scene;
    struct rig_buf messages; /* all payloads in a row */
    unsigned message_count, begin_count;
    uint32_t length; /* announced last */
    bool is_half_closed;
    size_t sent;
    unsigned close_count;
    int code;
    char text[5000];
    bool is_reset, is_mid_message;
    bool keeps_window;
    bool finishes_in_message, resets_in_message;
};

struct scene {
    struct test_loop loop;
    bool is_inside;
    struct rig_grpc_server *server;
    struct rig_grpc_channel *channel;
    struct rig_tls *server_tls, *client_tls;
    struct pki_root root;
    struct pki_leaf leaf;
    struct side served[CALLS_MAX], client;
    size_t served_count;
    char metadata[200];
    bool is_ready, is_server_closed, has_goaway;
    unsigned closed_count;
    int closed_code;
    char closed_text[RIG_FAULT_BYTES];
    enum rig_dial_stage closed_stage;
    const struct rig_grpc_handler *served_handler;
    int finish_at_once; /* code; -1: accept */
    /* the scripted peer */
    struct rig_listener *listener;
    struct rig_h2 *peer;
    bool is_peer_gone;
    struct rig_h2_stream *peer_stream;
    struct rig_buf peer_headers, peer_body;
    bool is_peer_end, is_peer_stream_gone, is_peer_reset;
    unsigned peer_header_blocks;
    uint32_t peer_code;
    char dir[32];
};

/* ---- handlers ---- */

static void on_begin(void *ctx, uint32_t length)
{
    struct side *side = ctx;
    side->begin_count++;
    side->length = length;
}

static void on_bytes(void *ctx, struct rig_slice bytes)
{
    struct side *side = ctx;
    assert_true(bytes.len > 0);
    rig_buf_append_slice(&side->messages, bytes);
    if (!side->keeps_window)
        rig_grpc_call_consume(side->call, bytes.len);
}

static void on_end(void *ctx)
{
    ((struct side *)ctx)->message_count++;
}

static void on_message(void *ctx, struct rig_slice message)
{
    struct side *side = ctx;
    assert_int_equal(side->close_count, 0);
    side->message_count++;
    rig_buf_append_slice(&side->messages, message);
    if (side->finishes_in_message)
        rig_grpc_call_finish(side->call, RIG_GRPC_ABORTED, "enough");
    if (side->resets_in_message)
        rig_grpc_call_reset(side->call, 8);
}

static void on_half_close(void *ctx)
{
    ((struct side *)ctx)->is_half_closed = true;
}

static void on_sent(void *ctx, size_t len)
{
    struct side *side = ctx;
    assert_false(side->scene->is_inside);
    side->sent += len;
}

static void on_close(void *ctx, const struct rig_grpc_status *status)
{
    struct side *side = ctx;
    assert_false(side->scene->is_inside);
    side->close_count++;
    side->code = status->code;
    snprintf(side->text, sizeof(side->text), "%s", status->message);
    side->is_reset = status->is_reset;
    side->is_mid_message = status->is_mid_message;
    side->call = NULL;
}

static const struct rig_grpc_handler collected = {
    .on_message = on_message,
    .message_max_bytes = 1u << 20,
    .on_half_close = on_half_close,
    .on_sent = on_sent,
    .on_close = on_close,
};

static const struct rig_grpc_handler cut_through = {
    .on_begin = on_begin,
    .on_bytes = on_bytes,
    .on_end = on_end,
    .on_half_close = on_half_close,
    .on_sent = on_sent,
    .on_close = on_close,
};

static void on_call(void *ctx, struct rig_grpc_call *call)
{
    struct scene *scene = ctx;
    struct rig_slice token = rig_grpc_call_metadata(call, "authorization");
    snprintf(scene->metadata, sizeof(scene->metadata), "%.*s|%.*s|%.*s|%.*s|%.*s",
             RIG_SLICE_ARG(token), RIG_SLICE_ARG(rig_grpc_call_metadata(call, "te")),
             RIG_SLICE_ARG(rig_grpc_call_metadata(call, "grpc-timeout")),
             RIG_SLICE_ARG(rig_grpc_call_metadata(call, "user-agent")),
             RIG_SLICE_ARG(rig_grpc_call_metadata(call, "absent")));
    if (scene->finish_at_once >= 0) {
        rig_grpc_call_finish(call, scene->finish_at_once, "at once");
        return;
    }
    assert_true(scene->served_count < CALLS_MAX);
    struct side *side = &scene->served[scene->served_count++];
    side->scene = scene;
    side->call = call;
    rig_grpc_call_accept(call, scene->served_handler, side);
}

static const struct rig_grpc_method methods[] = {{"/test.Echo/Talk", on_call}, {0}};

/* ---- the channel ---- */

static void on_ready(void *ctx)
{
    ((struct scene *)ctx)->is_ready = true;
}

static void on_goaway(void *ctx, uint32_t code, struct rig_slice debug)
{
    (void)code, (void)debug;
    ((struct scene *)ctx)->has_goaway = true;
}

static void on_closed(void *ctx, const struct rig_grpc_status *status)
{
    struct scene *scene = ctx;
    assert_false(scene->is_inside);
    assert_null(scene->client.call);
    scene->closed_count++;
    scene->closed_code = status->code;
    scene->closed_stage = status->stage;
    snprintf(scene->closed_text, sizeof(scene->closed_text), "%s", status->message);
    scene->channel = NULL;
}

static const struct rig_grpc_channel_events channel_events = {on_ready, on_goaway, on_closed};

/* ---- the scene ---- */

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){.finish_at_once = -1, .served_handler = &collected};
    loop_init(&scene->loop);
    strcpy(scene->dir, "/tmp/rig-grpc-XXXXXX");
    assert_non_null(mkdtemp(scene->dir));
    scene->client.scene = scene;
}

static void scene_serve(struct scene *scene, const char *address, struct rig_h2_options h2)
{
    struct rig_grpc_server_options options = {
        .address = address, .tls = scene->server_tls, .methods = methods, .ctx = scene, .h2 = h2};
    struct rig_fault why = {0};
    int err = rig_grpc_server_open(&scene->loop.uv, &options, &scene->server, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
}

static void scene_open(struct scene *scene, const char *address, struct rig_h2_options h2)
{
    struct rig_grpc_channel_options options = {
        .dial = {.address = address, .tls = scene->client_tls, .timeout_ms = 20000}, .h2 = h2};
    scene->is_inside = true;
    assert_int_equal(rig_grpc_channel_open(&scene->loop.uv, &options, &channel_events, scene,
                                           &scene->channel, NULL),
                     0);
    scene->is_inside = false;
}

/* Server and channel over a Unix socket. */
static void scene_pair(struct scene *scene, struct rig_h2_options client,
                       struct rig_h2_options server)
{
    char address[64];
    scene_init(scene);
    snprintf(address, sizeof(address), "unix:%s/grpc", scene->dir);
    scene_serve(scene, address, server);
    scene_open(scene, rig_grpc_server_address(scene->server), client);
    loop_until(&scene->loop, scene->is_ready);
}

static void on_server_closed(void *ctx)
{
    struct scene *scene = ctx;
    assert_false(scene->is_inside);
    scene->is_server_closed = true;
}

static void server_close(struct scene *scene)
{
    scene->is_inside = true;
    rig_grpc_server_close(scene->server, on_server_closed, scene);
    scene->is_inside = false;
    loop_until(&scene->loop, scene->is_server_closed);
    scene->server = NULL;
}

static void scene_deinit(struct scene *scene)
{
    if (scene->channel != NULL) {
        scene->is_inside = true;
        rig_grpc_channel_close(scene->channel);
        scene->is_inside = false;
        loop_until(&scene->loop, scene->channel == NULL);
        assert_int_equal(scene->closed_code, RIG_GRPC_OK);
    }
    if (scene->server != NULL)
        server_close(scene);
    if (scene->peer != NULL)
        rig_h2_close(scene->peer);
    loop_until(&scene->loop, scene->peer == NULL);
    if (scene->listener != NULL)
        rig_listener_close(scene->listener, NULL, NULL);
    assert_true(scene->closed_count <= 1);
    for (size_t i = 0; i < scene->served_count; i++) {
        assert_int_equal(scene->served[i].close_count, 1);
        rig_buf_deinit(&scene->served[i].messages);
    }
    rig_buf_deinit(&scene->client.messages);
    rig_buf_deinit(&scene->peer_headers);
    rig_buf_deinit(&scene->peer_body);
    rig_tls_free(scene->server_tls);
    rig_tls_free(scene->client_tls);
    pki_root_deinit(&scene->root);
    pki_leaf_deinit(&scene->leaf);
    loop_deinit(&scene->loop);
    rmdir(scene->dir);
}

static void start_with(struct scene *scene, const struct rig_grpc_handler *handler,
                       const char *path, uint32_t timeout_ms)
{
    const struct rig_h2_header metadata[] = {
        {RIG_SLICE("authorization"), RIG_SLICE("Bearer abc"), true},
        {RIG_SLICE("clusterid"), RIG_SLICE(""), false},
    };
    struct rig_grpc_request request = {.path = path,
                                       .authority = "peer",
                                       .metadata = metadata,
                                       .metadata_count = 2,
                                       .timeout_ms = timeout_ms};
    scene->is_inside = true;
    scene->client.call = rig_grpc_call_start(scene->channel, &request, handler, &scene->client);
    scene->is_inside = false;
    assert_non_null(scene->client.call);
}

static void start(struct scene *scene)
{
    start_with(scene, &collected, "/test.Echo/Talk", 0);
}

static void send_text(struct side *side, const char *text)
{
    side->scene->is_inside = true;
    rig_grpc_call_send(side->call, rig_slice_text(text));
    side->scene->is_inside = false;
}

static void fill(struct rig_buf *buf, size_t len)
{
    uint8_t *at = rig_buf_reserve(buf, len);
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)((i * 2654435761u) >> 11);
    rig_buf_commit(buf, len);
}

static bool is_filled(const struct rig_buf *buf)
{
    for (size_t i = 0; i < buf->len; i++)
        if (buf->at[i] != (uint8_t)((i * 2654435761u) >> 11))
            return false;
    return true;
}

static void send_filled(struct side *side, size_t len)
{
    struct rig_buf buf = {0};
    fill(&buf, len);
    side->scene->is_inside = true;
    rig_grpc_call_send(side->call, rig_buf_slice(&buf));
    side->scene->is_inside = false;
    rig_buf_deinit(&buf);
}

static void finish(struct side *side, int code, const char *text)
{
    side->scene->is_inside = true;
    rig_grpc_call_finish(side->call, code, text);
    side->scene->is_inside = false;
}

/* ---- calls ---- */

static void messages_go_both_ways(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    start(&scene);
    send_text(&scene.client, "one");
    send_text(&scene.client, "");
    send_text(&scene.client, "three");
    loop_until(&scene.loop, scene.served_count == 1 && scene.served[0].message_count == 3);
    struct side *served = &scene.served[0];
    assert_string_equal(rig_buf_text(&served->messages), "onethree");
    assert_string_equal(scene.metadata, "Bearer abc|trailers||outrigger/" RIG_VERSION "|");
    assert_false(served->is_half_closed);
    send_text(served, "answer");
    loop_until(&scene.loop, scene.client.message_count == 1);
    rig_grpc_call_half_close(scene.client.call);
    loop_until(&scene.loop, served->is_half_closed);
    send_text(served, "!");
    finish(served, RIG_GRPC_OK, NULL);
    loop_until(&scene.loop, scene.client.close_count == 1 && served->close_count == 1);
    assert_string_equal(rig_buf_text(&scene.client.messages), "answer!");
    assert_int_equal(scene.client.code, RIG_GRPC_OK);
    assert_string_equal(scene.client.text, "");
    assert_false(scene.client.is_reset || scene.client.is_mid_message);
    assert_int_equal(served->code, RIG_GRPC_OK);
    assert_false(served->is_reset);
    assert_int_equal(scene.client.sent, 8);
    assert_int_equal(served->sent, 7);
    scene_deinit(&scene);
}

static void calls_go_over_tls(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    pki_root_init(&scene.root, "root");
    pki_leaf_init(&scene.leaf, &scene.root, (struct pki_want){.san = "IP:127.0.0.1"});
    scene.server_tls = pki_server(&scene.leaf, "h2");
    scene.client_tls = pki_client(&scene.root, "h2");
    scene_serve(&scene, "127.0.0.1:0", (struct rig_h2_options){0});
    scene_open(&scene, rig_grpc_server_address(scene.server), (struct rig_h2_options){0});
    loop_until(&scene.loop, scene.is_ready);
    start(&scene);
    send_filled(&scene.client, 1000000);
    loop_until(&scene.loop, scene.served_count == 1 && scene.served[0].message_count == 1);
    send_filled(&scene.served[0], 1000000);
    loop_until(&scene.loop, scene.client.message_count == 1);
    assert_int_equal(scene.served[0].messages.len, 1000000);
    assert_true(is_filled(&scene.served[0].messages) && is_filled(&scene.client.messages));
    scene_deinit(&scene);
}

/* 49 of 50 MB are there while the message is open; the reset in its middle is no end. */
static void cut_through_hands_out_what_is_there(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(
        &scene,
        (struct rig_h2_options){.stream_window_bytes = 262144, .connection_window_bytes = 524288},
        (struct rig_h2_options){0});
    start_with(&scene, &cut_through, "/test.Echo/Talk", 0);
    loop_until(&scene.loop, scene.served_count == 1);
    struct side *served = &scene.served[0];
    struct rig_buf part = {0};
    fill(&part, 49u << 20);
    rig_grpc_call_send_begin(served->call, 50u << 20);
    rig_grpc_call_send_bytes(served->call, rig_buf_slice(&part));
    loop_until(&scene.loop, scene.client.messages.len == 49u << 20);
    assert_true(is_filled(&scene.client.messages));
    assert_int_equal(scene.client.begin_count, 1);
    assert_int_equal(scene.client.length, 50u << 20);
    assert_int_equal(scene.client.message_count, 0);
    loop_until(&scene.loop, served->sent == 49u << 20);
    assert_int_equal(rig_grpc_call_queued(served->call), 0);
    finish(served, RIG_GRPC_OK, NULL); /* a half message cannot be finished, only reset */
    loop_until(&scene.loop, scene.client.close_count == 1 && served->close_count == 1);
    assert_true(scene.client.is_reset && scene.client.is_mid_message);
    assert_int_equal(scene.client.code, RIG_GRPC_INTERNAL);
    assert_true(served->is_reset);
    rig_buf_deinit(&part);
    scene_deinit(&scene);
}

static void window_that_is_kept_stops_the_peer(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(
        &scene,
        (struct rig_h2_options){.stream_window_bytes = 262144, .connection_window_bytes = 524288},
        (struct rig_h2_options){0});
    scene.client.keeps_window = true;
    start_with(&scene, &cut_through, "/test.Echo/Talk", 0);
    loop_until(&scene.loop, scene.served_count == 1);
    send_filled(&scene.served[0], 4u << 20);
    /* The window less the prefix, which is given back at once but may not be announced yet. */
    loop_until(&scene.loop, scene.client.messages.len >= 262144 - 5);
    loop_for(&scene.loop, 100);
    assert_true(scene.client.messages.len <= 262144);
    assert_int_equal(scene.served[0].sent, scene.client.messages.len);
    assert_int_equal(rig_grpc_call_queued(scene.served[0].call),
                     (4u << 20) - scene.client.messages.len);
    /* Requests go on meanwhile. */
    send_text(&scene.client, "ACK");
    loop_until(&scene.loop, scene.served[0].message_count == 1);
    scene.client.keeps_window = false;
    rig_grpc_call_consume(scene.client.call, scene.client.messages.len);
    loop_until(&scene.loop, scene.client.message_count == 1);
    assert_true(is_filled(&scene.client.messages));
    scene_deinit(&scene);
}

static void status_and_message_are_carried(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    /* Trailers-only, and after a message; text that must be escaped. */
    for (int with_message = 0; with_message < 2; with_message++) {
        scene.client.close_count = 0;
        start(&scene);
        loop_until(&scene.loop, scene.served_count == (size_t)with_message + 1);
        struct side *served = &scene.served[with_message];
        if (with_message)
            send_text(served, "m");
        finish(served, RIG_GRPC_NOT_FOUND, "100 % no \"Zürich\"\n");
        loop_until(&scene.loop, scene.client.close_count == 1 && served->close_count == 1);
        assert_int_equal(scene.client.code, RIG_GRPC_NOT_FOUND);
        assert_string_equal(scene.client.text, "100 % no \"Zürich\"\n");
        assert_false(scene.client.is_reset);
        assert_int_equal(served->code, RIG_GRPC_NOT_FOUND);
    }
    scene.finish_at_once = RIG_GRPC_UNAUTHENTICATED;
    scene.client.close_count = 0;
    start(&scene);
    loop_until(&scene.loop, scene.client.close_count == 1);
    assert_int_equal(scene.client.code, RIG_GRPC_UNAUTHENTICATED);
    assert_string_equal(scene.client.text, "at once");
    scene_deinit(&scene);
}

static void unknown_paths_are_unimplemented(void **state)
{
    (void)state;
    static const struct {
        const char *path, *text;
    } cases[] = {
        {"/test.Echo/Sing", "unknown method Sing for service test.Echo"},
        {"/test.Other/Talk", "unknown service test.Other"},
        {"/test.Echo", "malformed method name: \"/test.Echo\""},
        {"/", "malformed method name: \"/\""},
        {"/test.Ech/Talk", "unknown service test.Ech"},
    };
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scene.client.close_count = 0;
        start_with(&scene, &collected, cases[i].path, 0);
        loop_until(&scene.loop, scene.client.close_count == 1);
        assert_int_equal(scene.client.code, RIG_GRPC_UNIMPLEMENTED);
        assert_string_equal(scene.client.text, cases[i].text);
    }
    assert_int_equal(scene.served_count, 0);
    scene_deinit(&scene);
}

static void deadline_ends_the_call(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    start_with(&scene, &collected, "/test.Echo/Talk", 80);
    loop_until(&scene.loop, scene.client.close_count == 1 && scene.served_count == 1 &&
                                scene.served[0].close_count == 1);
    assert_int_equal(scene.client.code, RIG_GRPC_DEADLINE_EXCEEDED);
    assert_string_equal(scene.client.text, "deadline of 80 ms exceeded");
    assert_non_null(strstr(scene.metadata, "|80m|"));
    assert_int_equal(scene.served[0].code, RIG_GRPC_CANCELLED);
    assert_true(scene.served[0].is_reset);
    scene_deinit(&scene);
}

static void message_over_its_limit_ends_the_call(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    start(&scene);
    send_filled(&scene.client, 1u << 20); /* just fits */
    send_filled(&scene.client, (1u << 20) + 1);
    loop_until(&scene.loop, scene.client.close_count == 1 && scene.served[0].close_count == 1);
    assert_int_equal(scene.served[0].message_count, 1);
    assert_int_equal(scene.client.code, RIG_GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(scene.client.text,
                        "received message larger than max (1048577 vs. 1048576)");
    assert_int_equal(scene.served[0].code, RIG_GRPC_RESOURCE_EXHAUSTED);
    assert_true(scene.served[0].is_mid_message);
    scene_deinit(&scene);
}

static void owner_may_end_the_call_in_a_message(void **state)
{
    (void)state;
    for (int resets = 0; resets < 2; resets++) {
        struct scene scene;
        scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
        start(&scene);
        loop_until(&scene.loop, scene.served_count == 1);
        scene.served[0].finishes_in_message = !resets;
        scene.served[0].resets_in_message = resets;
        send_text(&scene.client, "one");
        send_text(&scene.client, "two");
        loop_until(&scene.loop, scene.client.close_count == 1 && scene.served[0].close_count == 1);
        assert_int_equal(scene.served[0].message_count, 1);
        assert_int_equal(scene.client.code, resets ? RIG_GRPC_CANCELLED : RIG_GRPC_ABORTED);
        assert_int_equal(scene.client.is_reset, resets);
        assert_int_equal(scene.served[0].is_reset, resets);
        scene_deinit(&scene);
    }
}

static void bad_metadata_sends_nothing(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    const struct rig_h2_header metadata = {RIG_SLICE("authorization"),
                                           RIG_SLICE("Bearer a\r\nevil: 1"), true};
    struct rig_grpc_request request = {
        .path = "/test.Echo/Talk", .authority = "peer", .metadata = &metadata, .metadata_count = 1};
    scene.is_inside = true;
    scene.client.call = rig_grpc_call_start(scene.channel, &request, &collected, &scene.client);
    scene.is_inside = false;
    loop_until(&scene.loop, scene.client.close_count == 1);
    assert_int_equal(scene.client.code, RIG_GRPC_INTERNAL);
    assert_non_null(strstr(scene.client.text, "authorization"));
    assert_null(strstr(scene.client.text, "Bearer"));
    loop_for(&scene.loop, 20);
    assert_int_equal(scene.served_count, 0);
    assert_string_equal(scene.metadata, "");
    scene_deinit(&scene);
}

/* ---- ends of connections ---- */

static void closing_the_channel_cancels_calls(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    start(&scene);
    loop_until(&scene.loop, scene.served_count == 1);
    scene.is_inside = true;
    rig_grpc_channel_close(scene.channel);
    scene.is_inside = false;
    loop_until(&scene.loop, scene.closed_count == 1 && scene.served[0].close_count == 1);
    assert_int_equal(scene.closed_code, RIG_GRPC_OK);
    assert_int_equal(scene.client.code, RIG_GRPC_CANCELLED);
    assert_true(scene.client.is_reset);
    assert_int_equal(scene.served[0].code, RIG_GRPC_UNAVAILABLE);
    scene_deinit(&scene);
}

static void closing_while_dialling_is_quiet(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    scene_serve(&scene, "127.0.0.1:0", (struct rig_h2_options){0});
    scene_open(&scene, rig_grpc_server_address(scene.server), (struct rig_h2_options){0});
    scene.is_inside = true;
    rig_grpc_channel_close(scene.channel);
    scene.is_inside = false;
    loop_until(&scene.loop, scene.closed_count == 1);
    assert_int_equal(scene.closed_code, RIG_GRPC_OK);
    assert_false(scene.is_ready);
    scene_deinit(&scene);
}

static void closing_the_server_ends_calls(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    start(&scene);
    loop_until(&scene.loop, scene.served_count == 1);
    server_close(&scene);
    assert_int_equal(scene.served[0].close_count, 1);
    assert_int_equal(scene.served[0].code, RIG_GRPC_CANCELLED);
    loop_until(&scene.loop, scene.closed_count == 1);
    assert_int_equal(scene.client.code, RIG_GRPC_UNAVAILABLE);
    assert_string_equal(scene.client.text,
                        "connection closed by the peer, received prior goaway: code: NO_ERROR, "
                        "debug data: \"\"");
    assert_int_equal(scene.closed_code, RIG_GRPC_UNAVAILABLE);
    assert_string_equal(scene.closed_text, scene.client.text);
    scene_deinit(&scene);
}

static void drained_server_finishes_open_calls(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    start(&scene);
    loop_until(&scene.loop, scene.served_count == 1);
    rig_grpc_server_drain(scene.server);
    loop_until(&scene.loop, scene.has_goaway);
    send_text(&scene.served[0], "last");
    finish(&scene.served[0], RIG_GRPC_OK, NULL);
    loop_until(&scene.loop, scene.closed_count == 1);
    assert_int_equal(scene.client.code, RIG_GRPC_OK);
    assert_int_equal(scene.client.message_count, 1);
    server_close(&scene);
    scene_deinit(&scene);
}

static void connection_without_calls_is_closed(void **state)
{
    (void)state;
    struct scene scene;
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){.idle_timeout_ms = 40});
    start(&scene);
    loop_until(&scene.loop, scene.served_count == 1);
    loop_for(&scene.loop, 120);
    assert_int_equal(scene.closed_count, 0);
    finish(&scene.served[0], RIG_GRPC_OK, NULL);
    loop_until(&scene.loop, scene.closed_count == 1);
    assert_true(scene.has_goaway);
    assert_int_equal(scene.client.code, RIG_GRPC_OK);

    scene.is_ready = false; /* and one that never had a call */
    scene.closed_count = 0;
    scene_open(&scene, rig_grpc_server_address(scene.server), (struct rig_h2_options){0});
    loop_until(&scene.loop, scene.closed_count == 1);
    assert_true(scene.is_ready);
    server_close(&scene);
    scene_deinit(&scene);
}

static void connections_over_the_limit_wait(void **state)
{
    (void)state;
    struct scene scene, second = {.finish_at_once = -1};
    char address[64];
    scene_init(&scene);
    snprintf(address, sizeof(address), "unix:%s/grpc", scene.dir);
    struct rig_grpc_server_options options = {
        .address = address, .methods = methods, .ctx = &scene, .max_connections = 1};
    assert_int_equal(rig_grpc_server_open(&scene.loop.uv, &options, &scene.server, NULL), 0);
    scene_open(&scene, address, (struct rig_h2_options){0});
    loop_until(&scene.loop, scene.is_ready);
    struct rig_grpc_channel_options channel = {.dial = {.address = address, .timeout_ms = 20000}};
    assert_int_equal(rig_grpc_channel_open(&scene.loop.uv, &channel, &channel_events, &second,
                                           &second.channel, NULL),
                     0);
    loop_for(&scene.loop, 50);
    assert_false(second.is_ready);
    rig_grpc_channel_close(scene.channel);
    loop_until(&scene.loop, second.is_ready);
    rig_grpc_channel_close(second.channel);
    loop_until(&scene.loop, scene.closed_count == 1 && second.closed_count == 1);
    server_close(&scene);
    scene_deinit(&scene);
}

/* Each message is under its limit, all of them together are not. */
static void unfinished_messages_of_a_connection_are_bounded(void **state)
{
    (void)state;
    struct scene scene;
    struct side sides[CALLS_MAX] = {0};
    struct rig_buf most = {0};
    const size_t limit = collected.message_max_bytes;
    const struct rig_grpc_request request = {.path = "/test.Echo/Talk", .authority = "peer"};
    fill(&most, limit - 1);
    scene_pair(&scene, (struct rig_h2_options){0}, (struct rig_h2_options){0});
    for (int i = 0; i < 5; i++) {
        sides[i].scene = &scene;
        sides[i].call = rig_grpc_call_start(scene.channel, &request, &collected, &sides[i]);
        rig_grpc_call_send_begin(sides[i].call, (uint32_t)limit);
        rig_grpc_call_send_bytes(sides[i].call, rig_buf_slice(&most));
    }
    loop_until(&scene.loop, scene.served_count == 5 &&
                                scene.served[0].close_count + scene.served[1].close_count +
                                        scene.served[2].close_count + scene.served[3].close_count +
                                        scene.served[4].close_count ==
                                    1);
    for (int i = 0; i < 5; i++)
        if (scene.served[i].close_count > 0)
            assert_int_equal(scene.served[i].code, RIG_GRPC_RESOURCE_EXHAUSTED);
    /* The others are finished, and what they held is free again. */
    loop_until(&scene.loop, sides[0].close_count + sides[1].close_count + sides[2].close_count +
                                    sides[3].close_count + sides[4].close_count ==
                                1);
    unsigned whole = 0;
    for (int i = 0; i < 5; i++)
        if (sides[i].call != NULL)
            rig_grpc_call_send_bytes(sides[i].call, RIG_SLICE("."));
    loop_until(&scene.loop, (whole = scene.served[0].message_count + scene.served[1].message_count +
                                     scene.served[2].message_count + scene.served[3].message_count +
                                     scene.served[4].message_count) == 4);
    start(&scene);
    send_filled(&scene.client, limit);
    loop_until(&scene.loop, scene.served_count == 6 && scene.served[5].message_count == 1);
    rig_buf_deinit(&most);
    for (int i = 0; i < CALLS_MAX; i++)
        rig_buf_deinit(&sides[i].messages);
    rig_grpc_channel_close(scene.channel);
    loop_until(&scene.loop, scene.closed_count == 1);
    server_close(&scene);
    scene_deinit(&scene);
}

static void channel_says_at_which_stage_it_failed(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    char address[64];
    snprintf(address, sizeof(address), "unix:%s/nobody", scene.dir);
    scene_open(&scene, address, (struct rig_h2_options){0});
    loop_until(&scene.loop, scene.closed_count == 1);
    assert_int_equal(scene.closed_code, RIG_GRPC_UNAVAILABLE);
    assert_int_equal(scene.closed_stage, RIG_DIAL_CONNECT);
    assert_non_null(strstr(scene.closed_text, address));
    assert_non_null(strstr(scene.closed_text, "no such file"));
    scene.closed_count = 0;
    scene_deinit(&scene);
}

/* ---- the peer that says what the test wants ---- */

static void on_peer_headers(void *ctx, const struct rig_h2_header *headers, size_t count,
                            bool is_end)
{
    struct scene *scene = ctx;
    for (size_t i = 0; i < count; i++)
        rig_buf_printf(&scene->peer_headers, "%.*s=%.*s\n", RIG_SLICE_ARG(headers[i].name),
                       RIG_SLICE_ARG(headers[i].value));
    scene->peer_header_blocks++;
    scene->is_peer_end |= is_end;
}

static void on_peer_data(void *ctx, struct rig_slice data, bool is_end)
{
    struct scene *scene = ctx;
    rig_buf_append_slice(&scene->peer_body, data);
    rig_h2_stream_consume(scene->peer_stream, data.len);
    scene->is_peer_end |= is_end;
}

static void on_peer_stream_close(void *ctx, bool is_reset, uint32_t code, int err)
{
    struct scene *scene = ctx;
    (void)err;
    scene->is_peer_stream_gone = true;
    scene->is_peer_reset = is_reset;
    scene->peer_code = code;
    scene->peer_stream = NULL;
}

static const struct rig_h2_stream_events peer_stream_events = {on_peer_headers, on_peer_data, NULL,
                                                               on_peer_stream_close};

static void on_peer_request(void *ctx, struct rig_h2_stream *stream,
                            const struct rig_h2_header *headers, size_t count, bool is_end)
{
    struct scene *scene = ctx;
    scene->peer_stream = stream;
    rig_h2_stream_bind(stream, &peer_stream_events, scene);
    on_peer_headers(ctx, headers, count, is_end);
}

static void on_peer_ready(void *ctx)
{
    ((struct scene *)ctx)->is_ready = true;
}

static void on_peer_closed(void *ctx, int err, const struct rig_fault *why)
{
    (void)err, (void)why;
    ((struct scene *)ctx)->peer = NULL;
}

static const struct rig_h2_events peer_events = {on_peer_ready, on_peer_request, NULL,
                                                 on_peer_closed};

static void on_peer_accept(void *ctx, struct rig_stream *stream)
{
    struct scene *scene = ctx;
    struct rig_h2_options options = {.is_server = true};
    scene->peer = rig_h2_open(&scene->loop.uv, stream, &options, &peer_events, scene);
}

/* A channel of ours to a peer that has got our request. */
static void scene_scripted_server(struct scene *scene)
{
    scene_init(scene);
    char address[64];
    snprintf(address, sizeof(address), "unix:%s/peer", scene->dir);
    struct rig_listener_options options = {
        .address = address, .on_accept = on_peer_accept, .ctx = scene};
    assert_int_equal(rig_listener_open(&scene->loop.uv, &options, &scene->listener, NULL), 0);
    scene_open(scene, address, (struct rig_h2_options){0});
    loop_until(&scene->loop, scene->is_ready && scene->channel != NULL);
    loop_for(&scene->loop, 5);
    start(scene);
    loop_until(&scene->loop, scene->peer_stream != NULL);
}

static void on_peer_dialled(void *ctx, int err, enum rig_dial_stage stage,
                            const struct rig_fault *why, struct rig_stream *stream)
{
    struct scene *scene = ctx;
    (void)stage, (void)why;
    assert_int_equal(err, 0);
    scene->peer =
        rig_h2_open(&scene->loop.uv, stream, &(struct rig_h2_options){0}, &peer_events, scene);
}

/* A server of ours and a client that sends the given request. */
static void scene_scripted_client(struct scene *scene, const char *method, const char *type)
{
    scene_init(scene);
    char address[64];
    snprintf(address, sizeof(address), "unix:%s/grpc", scene->dir);
    scene_serve(scene, address, (struct rig_h2_options){0});
    struct rig_dial *dial;
    struct rig_dial_options options = {.address = address};
    assert_int_equal(rig_dial_start(&scene->loop.uv, &options, on_peer_dialled, scene, &dial, NULL),
                     0);
    loop_until(&scene->loop, scene->is_ready);
    const struct rig_h2_header headers[] = {
        {RIG_SLICE(":method"), rig_slice_text(method), false},
        {RIG_SLICE(":scheme"), RIG_SLICE("http"), false},
        {RIG_SLICE(":path"), RIG_SLICE("/test.Echo/Talk"), false},
        {RIG_SLICE(":authority"), RIG_SLICE("xds-grpc"), false},
        {RIG_SLICE("content-type"), rig_slice_text(type), false},
    };
    scene->peer_stream =
        rig_h2_request(scene->peer, headers, type != NULL ? 5 : 4, &peer_stream_events, scene);
}

static void http_errors_of_requests(void **state)
{
    (void)state;
    static const struct {
        const char *method, *type, *status;
    } cases[] = {
        {"GET", "application/grpc", "405"},
        {"POST", "application/json", "415"},
        {"POST", NULL, "415"},
        {"POST", "application/grpc-web", "415"},
        {"POST", "application/grpcx", "415"},
        {"POST", "application/grpc", NULL},
        {"POST", "application/grpc+proto", NULL},
        {"POST", "application/grpc;charset=u", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scene scene;
        scene_scripted_client(&scene, cases[i].method, cases[i].type);
        if (cases[i].status == NULL) {
            loop_until(&scene.loop, scene.served_count == 1);
        } else {
            char begin[64];
            snprintf(begin, sizeof(begin), ":status=%s\ncontent-type=application/grpc\n",
                     cases[i].status);
            loop_until(&scene.loop, scene.is_peer_stream_gone);
            assert_true(scene.is_peer_end);
            assert_true(scene.is_peer_reset); /* our side was open: RST_STREAM(NO_ERROR) */
            assert_int_equal(scene.peer_code, 0);
            assert_int_equal(strncmp(rig_buf_text(&scene.peer_headers), begin, strlen(begin)), 0);
            assert_int_equal(scene.served_count, 0);
        }
        scene_deinit(&scene);
    }
}

/* What goes over the wire for a small answer, octet by octet. */
static void response_is_lazy_and_trailers_follow(void **state)
{
    (void)state;
    struct scene scene;
    scene_scripted_client(&scene, "POST", "application/grpc");
    loop_until(&scene.loop, scene.served_count == 1);
    loop_for(&scene.loop, 30);
    assert_int_equal(scene.peer_header_blocks, 0);
    send_text(&scene.served[0], "hi");
    loop_until(&scene.loop, scene.peer_body.len == 7);
    assert_memory_equal(scene.peer_body.at, "\0\0\0\0\2hi", 7);
    assert_string_equal(rig_buf_text(&scene.peer_headers),
                        ":status=200\ncontent-type=application/grpc\n");
    rig_buf_clear(&scene.peer_headers);
    finish(&scene.served[0], 7, "no");
    loop_until(&scene.loop, scene.is_peer_stream_gone);
    assert_string_equal(rig_buf_text(&scene.peer_headers), "grpc-status=7\ngrpc-message=no\n");
    assert_true(scene.is_peer_end && scene.is_peer_reset);
    assert_int_equal(scene.peer_code, 0);
    scene_deinit(&scene);
}

static void messages_in_single_octets_are_whole(void **state)
{
    (void)state;
    struct scene scene;
    scene_scripted_client(&scene, "POST", "application/grpc");
    static const char wire[] = "\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\2de";
    for (size_t i = 0; i < sizeof(wire) - 1; i++) {
        rig_h2_stream_write(scene.peer_stream, rig_slice(wire + i, 1));
        loop_for(&scene.loop, 1);
    }
    loop_until(&scene.loop, scene.served_count == 1 && scene.served[0].message_count == 3);
    assert_string_equal(rig_buf_text(&scene.served[0].messages), "abcde");
    scene_deinit(&scene);
}

static void broken_messages_are_internal(void **state)
{
    (void)state;
    static const struct {
        struct rig_slice wire;
        bool ends;
        const char *text;
    } cases[] = {
        {{(const uint8_t *)"\1\0\0\0\1x", 6},
         false,
         "message is compressed, but no compression was agreed on"},
        {{(const uint8_t *)"\2", 1}, false, "message flag is 0x02, must be 0 or 1"},
        {{(const uint8_t *)"\0\0\0\0\2x", 6},
         true,
         "client ended its side in the middle of a message"},
        {{(const uint8_t *)"\0\0", 2}, true, "client ended its side in the middle of a message"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scene scene;
        scene_scripted_client(&scene, "POST", "application/grpc");
        rig_h2_stream_write(scene.peer_stream, cases[i].wire);
        if (cases[i].ends)
            rig_h2_stream_end(scene.peer_stream, NULL, 0);
        loop_until(&scene.loop, scene.is_peer_stream_gone && scene.served[0].close_count == 1);
        assert_int_equal(scene.served[0].code, RIG_GRPC_INTERNAL);
        assert_true(scene.served[0].is_mid_message);
        assert_string_equal(scene.served[0].text, cases[i].text);
        assert_non_null(strstr(rig_buf_text(&scene.peer_headers), "grpc-status=13\n"));
        assert_int_equal(scene.served[0].message_count, 0);
        scene_deinit(&scene);
    }
}

/* 2^32-1 octets announced: nothing may be allocated for them, in either mode. */
static void announced_length_allocates_nothing(void **state)
{
    (void)state;
    for (int is_cut_through = 0; is_cut_through < 2; is_cut_through++) {
        struct scene scene;
        scene_scripted_client(&scene, "POST", "application/grpc");
        scene.served_handler = is_cut_through ? &cut_through : &collected;
        rig_h2_stream_write(scene.peer_stream, RIG_SLICE("\0\xff\xff\xff\xffxyz"));
        if (is_cut_through) {
            loop_until(&scene.loop, scene.served_count == 1 && scene.served[0].messages.len == 3);
            assert_int_equal(scene.served[0].length, UINT32_MAX);
            rig_h2_stream_reset(scene.peer_stream, 8);
            loop_until(&scene.loop, scene.served[0].close_count == 1);
            assert_int_equal(scene.served[0].code, RIG_GRPC_CANCELLED);
            assert_true(scene.served[0].is_mid_message && scene.served[0].is_reset);
        } else {
            loop_until(&scene.loop, scene.served_count == 1 && scene.served[0].close_count == 1);
            assert_int_equal(scene.served[0].code, RIG_GRPC_RESOURCE_EXHAUSTED);
        }
        scene_deinit(&scene);
    }
}

static void responses_of_all_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *status, *type, *grpc_status, *grpc_message;
        bool in_trailers; /* else trailers-only */
        const char *body;
        size_t body_len;
        int code;
        const char *text;
        bool is_mid;
    } cases[] = {
        {"200", "application/grpc", "0", NULL, true, "\0\0\0\0\1m", 6, 0, "", false},
        {"200", "application/grpc", "5", "not%20found%zz%", true, NULL, 0, 5, "not found%zz%",
         false},
        {"200", "application/grpc", "14", "gone", false, NULL, 0, 14, "gone", false},
        {"200", "application/grpc", "x", "what", false, NULL, 0, 2, "what", false},
        {"200", "application/grpc", NULL, NULL, true, NULL, 0, 2,
         "server ended the stream without a status", false},
        {"200", "application/grpc", "0", NULL, true, "\0\0\0\0\2m", 6, 13,
         "server ended the stream in the middle of a message: grpc-status 0, ", true},
        {"503", "text/html", NULL, NULL, false, NULL, 0, 14, "unexpected HTTP status 503", false},
        {"404", "text/html", NULL, NULL, true, NULL, 0, 12,
         "unexpected HTTP status 404, content-type \"text/html\"", false},
        {"200", "text/html", NULL, NULL, true, NULL, 0, 2,
         "unexpected HTTP status 200, content-type \"text/html\"", false},
        {"401", "application/grpc", "16", "authentication failure", false, NULL, 0, 16,
         "authentication failure", false},
        {"200", "application/grpc", NULL, NULL, true, "\1\0\0\0\0", 5, 13,
         "message is compressed, but no compression was agreed on", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scene scene;
        scene_scripted_server(&scene);
        struct rig_h2_header trailers[2] = {
            {RIG_SLICE("grpc-status"), rig_slice_text(cases[i].grpc_status), false},
            {RIG_SLICE("grpc-message"), rig_slice_text(cases[i].grpc_message), false}};
        size_t trailer_count = (cases[i].grpc_status != NULL) + (cases[i].grpc_message != NULL);
        struct rig_h2_header headers[4] = {
            {RIG_SLICE(":status"), rig_slice_text(cases[i].status), false},
            {RIG_SLICE("content-type"), rig_slice_text(cases[i].type), false},
            trailers[0],
            trailers[1]};
        if (cases[i].in_trailers) {
            rig_h2_stream_respond(scene.peer_stream, headers, 2, false);
            if (cases[i].body != NULL)
                rig_h2_stream_write(scene.peer_stream, rig_slice(cases[i].body, cases[i].body_len));
            rig_h2_stream_end(scene.peer_stream, trailers, trailer_count);
        } else {
            rig_h2_stream_respond(scene.peer_stream, headers, 2 + trailer_count, true);
        }
        loop_until(&scene.loop, scene.client.close_count == 1 && scene.is_peer_stream_gone);
        assert_int_equal(scene.client.code, cases[i].code);
        assert_string_equal(scene.client.text, cases[i].text);
        assert_int_equal(scene.client.is_mid_message, cases[i].is_mid);
        scene_deinit(&scene);
    }
}

/* DATA with END_STREAM and no trailers at all. */
static void end_without_trailers_is_no_status(void **state)
{
    (void)state;
    for (int is_mid = 0; is_mid < 2; is_mid++) {
        struct scene scene;
        scene_scripted_server(&scene);
        const struct rig_h2_header headers[] = {
            {RIG_SLICE(":status"), RIG_SLICE("200"), false},
            {RIG_SLICE("content-type"), RIG_SLICE("application/grpc"), false}};
        rig_h2_stream_respond(scene.peer_stream, headers, 2, false);
        rig_h2_stream_write(scene.peer_stream, rig_slice("\0\0\0\0\1m\0", is_mid ? 7 : 6));
        rig_h2_stream_end(scene.peer_stream, NULL, 0);
        loop_until(&scene.loop, scene.client.close_count == 1);
        assert_int_equal(scene.client.message_count, 1);
        assert_int_equal(scene.client.code, is_mid ? RIG_GRPC_INTERNAL : RIG_GRPC_UNKNOWN);
        assert_int_equal(scene.client.is_mid_message, is_mid);
        scene_deinit(&scene);
    }
}

static void resets_map_to_codes(void **state)
{
    (void)state;
    /* The table of PROTOCOL-HTTP2.md, "Errors". */
    static const struct {
        uint32_t h2;
        int code;
    } cases[] = {{0, 13}, {1, 13}, {2, 13}, {3, 8},   {4, 13}, {5, 13}, {6, 13},
                 {7, 14}, {8, 1},  {9, 13}, {10, 13}, {11, 8}, {12, 7}, {13, 13}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(rig_grpc_code_of_reset(cases[i].h2), cases[i].code);
    struct scene scene;
    scene_scripted_server(&scene);
    rig_h2_stream_reset(scene.peer_stream, 11);
    loop_until(&scene.loop, scene.client.close_count == 1);
    assert_int_equal(scene.client.code, RIG_GRPC_RESOURCE_EXHAUSTED);
    assert_true(scene.client.is_reset);
    assert_string_equal(scene.client.text,
                        "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM");
    scene_deinit(&scene);
}

/* ---- texts ---- */

static void http_statuses_map_to_codes(void **state)
{
    (void)state;
    static const int cases[][2] = {{400, 13}, {401, 16}, {403, 7},  {404, 12}, {429, 14},
                                   {502, 14}, {503, 14}, {504, 14}, {500, 2},  {302, 2}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(rig_grpc_code_of_http(cases[i][0]), cases[i][1]);
}

static void messages_are_percent_coded(void **state)
{
    (void)state;
    struct rig_buf out = {0};
    grpc_message_encode("a b~%\x7f\n\xc3\xbc", &out);
    assert_string_equal(rig_buf_text(&out), "a b~%25%7F%0A%C3%BC");
    char *text = grpc_message_decode(rig_buf_slice(&out));
    assert_string_equal(text, "a b~%\x7f\n\xc3\xbc");
    rig_free(text);
    text = grpc_message_decode(RIG_SLICE("%4a%4A%%41%4%g1%1g%00%"));
    assert_string_equal(text, "JJ%A%4%g1%1g?%");
    rig_free(text);

    struct rig_buf large = {0};
    for (int i = 0; i < 20000; i++)
        rig_buf_append_text(&large, i < 4095 ? "x" : "\n");
    grpc_message_encode(rig_buf_text(&large), &out);
    assert_int_equal(out.len, 4095); /* an escape is not cut */
    text = grpc_message_decode(rig_buf_slice(&large));
    assert_int_equal(strlen(text), 4096);
    rig_free(text);
    rig_buf_deinit(&large);
    rig_buf_deinit(&out);
}

static void codes_and_timeouts_are_texts(void **state)
{
    (void)state;
    assert_int_equal(grpc_code_parse(RIG_SLICE("0")), 0);
    assert_int_equal(grpc_code_parse(RIG_SLICE("16")), 16);
    assert_int_equal(grpc_code_parse(RIG_SLICE("999")), 999);
    static const char *const bad[] = {"", "-1", "1000", "4294967296", " 1", "1a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(grpc_code_parse(rig_slice_text(bad[i])), RIG_GRPC_UNKNOWN);
    char text[GRPC_TIMEOUT_BYTES];
    grpc_timeout_text(10000, text);
    assert_string_equal(text, "10000m");
    grpc_timeout_text(99999999, text);
    assert_string_equal(text, "99999999m");
    grpc_timeout_text(100000000, text);
    assert_string_equal(text, "100000S");
    grpc_timeout_text(UINT32_MAX, text);
    assert_string_equal(text, "4294967S");
}

RIG_TEST_MAIN(cmocka_unit_test(messages_go_both_ways), cmocka_unit_test(calls_go_over_tls),
              cmocka_unit_test(cut_through_hands_out_what_is_there),
              cmocka_unit_test(window_that_is_kept_stops_the_peer),
              cmocka_unit_test(status_and_message_are_carried),
              cmocka_unit_test(unknown_paths_are_unimplemented),
              cmocka_unit_test(deadline_ends_the_call),
              cmocka_unit_test(message_over_its_limit_ends_the_call),
              cmocka_unit_test(owner_may_end_the_call_in_a_message),
              cmocka_unit_test(bad_metadata_sends_nothing),
              cmocka_unit_test(closing_the_channel_cancels_calls),
              cmocka_unit_test(closing_while_dialling_is_quiet),
              cmocka_unit_test(closing_the_server_ends_calls),
              cmocka_unit_test(drained_server_finishes_open_calls),
              cmocka_unit_test(connection_without_calls_is_closed),
              cmocka_unit_test(connections_over_the_limit_wait),
              cmocka_unit_test(unfinished_messages_of_a_connection_are_bounded),
              cmocka_unit_test(channel_says_at_which_stage_it_failed),
              cmocka_unit_test(http_errors_of_requests),
              cmocka_unit_test(response_is_lazy_and_trailers_follow),
              cmocka_unit_test(messages_in_single_octets_are_whole),
              cmocka_unit_test(broken_messages_are_internal),
              cmocka_unit_test(announced_length_allocates_nothing),
              cmocka_unit_test(responses_of_all_kinds),
              cmocka_unit_test(end_without_trailers_is_no_status),
              cmocka_unit_test(resets_map_to_codes), cmocka_unit_test(http_statuses_map_to_codes),
              cmocka_unit_test(messages_are_percent_coded),
              cmocka_unit_test(codes_and_timeouts_are_texts))
