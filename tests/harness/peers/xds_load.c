/* SPDX-License-Identifier: Apache-2.0 */
/* xds_load: both ends of a relay under load: a control plane that an agent dials over TLS, and an
 * Envoy that dials the agent's Unix socket. Fast enough not to be what is measured.
 *
 *   xds_load --listen 127.0.0.1:PORT --chain FILE --key FILE
 *
 * Obeys lines of standard input, answers each with one line, ends with the input:
 *   connect PATH       opens the downstream stream; "connected" once it has reached upstream
 *   disconnect         resets the downstream stream
 *   push BYTES         one message; "pushed BYTES MICROSECONDS" once downstream has all of it
 *   start BYTES        as push, answered at once with "started BYTES"; `wait` gives the rest
 *   wait               "pushed BYTES MICROSECONDS"
 *   half BYTES SENT    announces a message of BYTES, sends SENT of it and stops; "started BYTES"
 *   reset              resets the stream upstream
 *   rate BYTES         downstream takes so many octets a second from now on; 0: all it can get
 *   exchange N BYTES   N times: a message down, its ACK up; "exchanged N MICROSECONDS"
 *   request BYTES      a request of this size up; "requested BYTES" once upstream has it
 *   taken              "taken BYTES": what downstream has received of the present message
 * A downstream stream that ends, for whatever reason, says "closed CODE reset|trailers open|whole
 * MESSAGE" once it is gone on both sides: how, and whether a message was under way. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/grpc.h"
#include "core/tls.h"

#define SOTW        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
#define CLUSTER     "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define QUEUE_BYTES (512u << 10) /* kept queued while a push is under way */
#define TICK_MS     5
#define FILL_BYTES  4000u /* of one resource: a cluster of common size */

struct load {
    uv_loop_t loop;
    uv_pipe_t input;
    struct rig_buf line;
    struct rig_grpc_server *server;
    struct rig_grpc_call *up; /* the agent's stream, as the control plane sees it */
    struct rig_grpc_channel *channel;
    struct rig_grpc_call *down; /* our stream to the agent, as Envoy has it */
    bool is_connecting;
    char how[256]; /* the downstream stream ended, not yet reported */

    struct rig_buf resource, head, tail;
    uint64_t left;                 /* resources of the message under way not yet queued */
    uint64_t kept;                 /* of these, so many are never sent */
    bool is_pushing, wants_answer; /* answer when it has arrived */
    uint64_t began_ns, took_us, message_bytes, taken;
    uint64_t nonce;

    uv_timer_t ticker;
    uint64_t rate; /* octets a second; 0: no limit */
    uint64_t held; /* received and not yet given back */

    uint64_t exchanges_left, exchanges, exchange_bytes, requested;
};

static void answer(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void answer(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

_Noreturn static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "xds_load: %s: %s\n", what, why);
    exit(1);
}

/* ---- protobuf by hand: three tags, and lengths ---- */

static void put_varint(struct rig_buf *buf, uint64_t value)
{
    do {
        uint8_t octet = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        rig_buf_append(buf, &octet, 1);
        value >>= 7;
    } while (value > 0);
}

static void put_octets(struct rig_buf *buf, unsigned field, struct rig_slice octets)
{
    put_varint(buf, field << 3 | 2);
    put_varint(buf, octets.len);
    rig_buf_append_slice(buf, octets);
}

static void put_text(struct rig_buf *buf, unsigned field, const char *text)
{
    put_octets(buf, field, rig_slice_text(text));
}

/* DiscoveryResponse {1 version, 2 resources ..., 4 type URL, 5 nonce}; a resource is an Any of a
 * Cluster {1 name, 28 ballast}: nobody here looks into it. */
static void resource_make(struct load *load)
{
    struct rig_buf cluster = {0}, any = {0};
    char *fill = rig_alloc(FILL_BYTES + 1);
    memset(fill, 'x', FILL_BYTES);
    put_text(&cluster, 1, "outbound|80||service.default.svc.cluster.local");
    put_text(&cluster, 28, fill);
    put_text(&any, 1, CLUSTER);
    put_octets(&any, 2, rig_buf_slice(&cluster));
    put_octets(&load->resource, 2, rig_buf_slice(&any));
    rig_free(fill);
    rig_buf_deinit(&cluster);
    rig_buf_deinit(&any);
}

static void frame_make(struct load *load)
{
    char nonce[32];
    snprintf(nonce, sizeof(nonce), "%" PRIu64, ++load->nonce);
    rig_buf_clear(&load->head);
    rig_buf_clear(&load->tail);
    put_text(&load->head, 1, "2026-01-01T00:00:00Z/1");
    put_text(&load->tail, 4, CLUSTER);
    put_text(&load->tail, 5, nonce);
}

/* Once a stream that was there is gone on both sides, so that the next one finds nobody. */
static void closed_report(struct load *load)
{
    if (load->how[0] == '\0' || load->channel != NULL || load->up != NULL)
        return;
    answer("closed %s", load->how);
    load->how[0] = '\0';
}

/* ---- upstream: the control plane ---- */

static void push_more(struct load *load)
{
    while (load->up != NULL && load->is_pushing && load->left > load->kept &&
           rig_grpc_call_queued(load->up) < QUEUE_BYTES) {
        rig_grpc_call_send_bytes(load->up, rig_buf_slice(&load->resource));
        if (--load->left == 0)
            rig_grpc_call_send_bytes(load->up, rig_buf_slice(&load->tail));
    }
}

/* Begins a message of `bytes`, of which about `sent` are sent. */
static void push_begin(struct load *load, uint64_t bytes, uint64_t sent)
{
    frame_make(load);
    uint64_t frame = load->head.len + load->tail.len;
    uint64_t count = bytes > frame ? (bytes - frame) / load->resource.len : 0;
    load->left = count > 0 ? count : 1;
    load->message_bytes = frame + load->left * load->resource.len;
    load->kept = sent < bytes ? load->left - sent / load->resource.len : 0;
    load->taken = 0;
    load->took_us = 0;
    load->is_pushing = true;
    load->began_ns = uv_hrtime();
    rig_grpc_call_send_begin(load->up, (uint32_t)load->message_bytes);
    rig_grpc_call_send_bytes(load->up, rig_buf_slice(&load->head));
    push_more(load);
}

static void exchange_next(struct load *load)
{
    if (load->exchanges_left == 0) {
        answer("exchanged %" PRIu64 " %" PRIu64, load->exchanges,
               (uv_hrtime() - load->began_ns) / 1000);
        load->exchanges = 0;
        return;
    }
    load->exchanges_left--;
    struct rig_buf message = {0};
    frame_make(load);
    rig_buf_append_slice(&message, rig_buf_slice(&load->head));
    size_t fixed = message.len + load->tail.len + 64;
    struct rig_buf any = {0};
    put_text(&any, 1, CLUSTER);
    size_t fill =
        load->exchange_bytes > fixed + any.len ? load->exchange_bytes - fixed - any.len : 1;
    put_octets(&any, 2, rig_slice(load->resource.at, fill < FILL_BYTES ? fill : FILL_BYTES));
    put_octets(&message, 2, rig_buf_slice(&any));
    rig_buf_append_slice(&message, rig_buf_slice(&load->tail));
    rig_grpc_call_send(load->up, rig_buf_slice(&message));
    rig_buf_deinit(&any);
    rig_buf_deinit(&message);
}

static void on_request(void *ctx, struct rig_slice message)
{
    struct load *load = ctx;
    if (load->is_connecting) {
        load->is_connecting = false;
        answer("connected");
    } else if (load->requested > 0 && message.len >= load->requested) {
        load->requested = 0;
        answer("requested %zu", message.len);
    } else if (load->exchanges > 0) {
        exchange_next(load);
    }
}

static void on_up_sent(void *ctx, size_t len)
{
    (void)len;
    push_more(ctx);
}

static void on_up_close(void *ctx, const struct rig_grpc_status *status)
{
    struct load *load = ctx;
    (void)status;
    load->up = NULL;
    load->is_pushing = false;
    closed_report(load);
}

static const struct rig_grpc_handler up_handler = {.on_message = on_request,
                                                   .message_max_bytes = 64u << 20,
                                                   .on_sent = on_up_sent,
                                                   .on_close = on_up_close};

static void on_call(void *ctx, struct rig_grpc_call *call)
{
    struct load *load = ctx;
    if (load->up != NULL) {
        rig_grpc_call_finish(call, RIG_GRPC_RESOURCE_EXHAUSTED, "one stream at a time");
        return;
    }
    load->up = call;
    rig_grpc_call_accept(call, &up_handler, load);
}

/* ---- downstream: Envoy ---- */

static void send_request(struct load *load, size_t fill_bytes)
{
    struct rig_buf request = {0}, node = {0};
    put_text(&node, 1, "sidecar~127.0.0.1~load-0.default~default.svc.cluster.local");
    if (fill_bytes > 0) {
        char *fill = rig_alloc(fill_bytes + 1);
        memset(fill, 'n', fill_bytes);
        put_text(&node, 2, fill);
        rig_free(fill);
    }
    put_octets(&request, 2, rig_buf_slice(&node));
    put_text(&request, 4, CLUSTER);
    rig_grpc_call_send(load->down, rig_buf_slice(&request));
    rig_buf_deinit(&request);
    rig_buf_deinit(&node);
}

static void on_down_begin(void *ctx, uint32_t length)
{
    (void)ctx;
    (void)length;
}

static void on_down_bytes(void *ctx, struct rig_slice bytes)
{
    struct load *load = ctx;
    load->taken += bytes.len;
    if (load->rate == 0)
        rig_grpc_call_consume(load->down, bytes.len);
    else
        load->held += bytes.len;
}

static void on_down_end(void *ctx)
{
    struct load *load = ctx;
    if (load->exchanges > 0) {
        struct rig_buf ack = {0};
        char nonce[32];
        snprintf(nonce, sizeof(nonce), "%" PRIu64, load->nonce);
        put_text(&ack, 1, "2026-01-01T00:00:00Z/1");
        put_text(&ack, 4, CLUSTER);
        put_text(&ack, 5, nonce);
        rig_grpc_call_send(load->down, rig_buf_slice(&ack));
        rig_buf_deinit(&ack);
        return;
    }
    load->is_pushing = false;
    load->took_us = (uv_hrtime() - load->began_ns) / 1000;
    if (load->wants_answer) {
        load->wants_answer = false;
        answer("pushed %" PRIu64 " %" PRIu64, load->message_bytes, load->took_us);
    }
}

static void on_down_close(void *ctx, const struct rig_grpc_status *status)
{
    struct load *load = ctx;
    load->down = NULL;
    load->held = 0;
    load->exchanges = 0;
    snprintf(load->how, sizeof(load->how), "%d %s %s %s", status->code,
             status->is_reset ? "reset" : "trailers", status->is_mid_message ? "open" : "whole",
             status->message);
    rig_grpc_channel_close(load->channel);
}

static const struct rig_grpc_handler down_handler = {.on_begin = on_down_begin,
                                                     .on_bytes = on_down_bytes,
                                                     .on_end = on_down_end,
                                                     .on_close = on_down_close};

static void on_channel_ready(void *ctx)
{
    struct load *load = ctx;
    struct rig_grpc_request request = {.path = SOTW, .authority = "xds-grpc"};
    load->down = rig_grpc_call_start(load->channel, &request, &down_handler, load);
    if (load->down == NULL)
        give_up("downstream", "the agent takes no call");
    /* Envoy's first request carries its list of extensions: 62 KB. */
    send_request(load, 62000);
}

static void on_channel_closed(void *ctx, const struct rig_grpc_status *status)
{
    struct load *load = ctx;
    load->channel = NULL;
    if (load->is_connecting)
        give_up("downstream", status->message);
    closed_report(load);
}

static const struct rig_grpc_channel_events channel_events = {.on_ready = on_channel_ready,
                                                              .on_closed = on_channel_closed};

static void connect_down(struct load *load, const char *path)
{
    char address[256];
    struct rig_fault why = {0};
    snprintf(address, sizeof(address), "unix:%s", path);
    struct rig_grpc_channel_options options = {
        .dial = {.address = address},
        .h2 = {.stream_window_bytes = 16u << 20, .connection_window_bytes = 24u << 20}};
    load->is_connecting = true;
    if (rig_grpc_channel_open(&load->loop, &options, &channel_events, load, &load->channel, &why) <
        0)
        give_up(address, why.text);
}

/* Gives window back at the pace of a slow reader. */
static void on_tick(uv_timer_t *ticker)
{
    struct load *load = ticker->data;
    uint64_t due = load->rate == 0 ? load->held : load->rate * TICK_MS / 1000;
    if (due > load->held)
        due = load->held;
    if (load->down != NULL && due > 0) {
        load->held -= due;
        rig_grpc_call_consume(load->down, due);
    }
}

/* ---- the lines ---- */

static void obey(struct load *load, const char *line)
{
    char path[240] = "";
    unsigned long long a = 0, b = 0;
    if (sscanf(line, "connect %239s", path) == 1) {
        connect_down(load, path);
    } else if (strcmp(line, "disconnect") == 0 && load->down != NULL) {
        rig_grpc_call_reset(load->down, 8 /* CANCEL */);
    } else if (sscanf(line, "rate %llu", &a) == 1) {
        load->rate = a;
        answer("rate %llu", a);
    } else if (strcmp(line, "taken") == 0) {
        answer("taken %" PRIu64, load->taken);
    } else if (strcmp(line, "wait") == 0) {
        if (load->took_us > 0)
            answer("pushed %" PRIu64 " %" PRIu64, load->message_bytes, load->took_us);
        else
            load->wants_answer = true;
    } else if (load->up == NULL || load->down == NULL) {
        answer("error not connected: %s", line);
    } else if (sscanf(line, "push %llu", &a) == 1) {
        load->wants_answer = true;
        push_begin(load, a, a);
    } else if (sscanf(line, "start %llu", &a) == 1) {
        push_begin(load, a, a);
        answer("started %" PRIu64, load->message_bytes);
    } else if (sscanf(line, "half %llu %llu", &a, &b) == 2 && b < a) {
        push_begin(load, a, b);
        answer("started %" PRIu64, load->message_bytes);
    } else if (strcmp(line, "reset") == 0) {
        rig_grpc_call_reset(load->up, 2 /* INTERNAL_ERROR */);
    } else if (sscanf(line, "exchange %llu %llu", &a, &b) == 2) {
        load->exchanges = load->exchanges_left = a;
        load->exchange_bytes = b;
        load->began_ns = uv_hrtime();
        exchange_next(load);
    } else if (sscanf(line, "request %llu", &a) == 1) {
        load->requested = a;
        send_request(load, (size_t)a);
    } else {
        answer("error not understood: %s", line);
    }
}

static void on_input_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct load *load = handle->data;
    (void)suggested;
    buf->base = (char *)rig_buf_reserve(&load->line, 1024);
    buf->len = 1024;
}

static void on_input(uv_stream_t *input, ssize_t len, const uv_buf_t *buf)
{
    struct load *load = input->data;
    (void)buf;
    if (len < 0)
        exit(load->is_connecting ? 1 : 0);
    rig_buf_commit(&load->line, (size_t)len);
    for (;;) {
        const char *text = rig_buf_text(&load->line);
        const char *newline = strchr(text, '\n');
        if (newline == NULL)
            return;
        char line[512];
        size_t length = (size_t)(newline - text);
        snprintf(line, sizeof(line), "%.*s", (int)length, text);
        rig_buf_consume(&load->line, length + 1);
        obey(load, line);
    }
}

/* ---- set-up ---- */

static struct rig_tls *tls_load(const char *chain_path, const char *key_path)
{
    struct rig_buf chain = {0};
    struct rig_secret key = {0};
    struct rig_fault why = {0};
    struct rig_tls *tls = NULL;
    if (rig_buf_read_file(&chain, chain_path, 1u << 20) < 0)
        give_up(chain_path, "cannot be read");
    if (rig_secret_read_file(&key, key_path, 1u << 20, &why) < 0)
        give_up(key_path, why.text);
    struct rig_tls_server_options options = {
        .chain_pem = rig_buf_slice(&chain), .key_pem = &key, .alpn = "h2"};
    if (rig_tls_server_new(&options, &tls, &why) < 0)
        give_up("TLS", why.text);
    rig_buf_deinit(&chain);
    rig_secret_deinit(&key);
    return tls;
}

int main(int argc, char **argv)
{
    static const struct option flags[] = {{"listen", required_argument, NULL, 'l'},
                                          {"chain", required_argument, NULL, 'c'},
                                          {"key", required_argument, NULL, 'k'},
                                          {0}};
    static const struct rig_grpc_method methods[] = {{SOTW, on_call}, {0}};
    static struct load load;
    const char *listen_at = NULL, *chain = NULL, *key = NULL;
    struct rig_fault why = {0};
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        if (flag == 'l')
            listen_at = optarg;
        else if (flag == 'c')
            chain = optarg;
        else if (flag == 'k')
            key = optarg;
        else
            return 2;
    }
    if (listen_at == NULL || chain == NULL || key == NULL)
        give_up("usage", "--listen HOST:PORT --chain FILE --key FILE");
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&load.loop);
    resource_make(&load);
    struct rig_grpc_server_options options = {
        .address = listen_at,
        .tls = tls_load(chain, key),
        .methods = methods,
        .ctx = &load,
        .h2 = {.stream_window_bytes = 1u << 20, .connection_window_bytes = 1u << 20}};
    if (rig_grpc_server_open(&load.loop, &options, &load.server, &why) < 0)
        give_up(listen_at, why.text);
    uv_timer_init(&load.loop, &load.ticker);
    load.ticker.data = &load;
    uv_timer_start(&load.ticker, on_tick, TICK_MS, TICK_MS);
    uv_pipe_init(&load.loop, &load.input, 0);
    load.input.data = &load;
    if (uv_pipe_open(&load.input, STDIN_FILENO) < 0)
        give_up("standard input", "is no pipe");
    uv_read_start((uv_stream_t *)&load.input, on_input_room, on_input);
    answer("listening %s", rig_grpc_server_address(load.server));
    uv_run(&load.loop, UV_RUN_DEFAULT);
    return 0;
}
