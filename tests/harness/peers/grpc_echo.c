/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_echo: our gRPC server and client as a program, for peers that are not ours.
 *
 *   grpc_echo serve ADDRESS [--chain FILE --key FILE] [--keepalive MS]
 *
 * Prints "listening ADDRESS", ends with its input. Methods of /test.Echo/: Talk sends each message
 * back as it comes, octet by octet if need be; Fail ends as the metadata `want-code` and
 * `want-message` say; Blob answers a number with so many octets; Half announces so many, sends half
 * of them and resets; Hang does nothing.
 *
 *   grpc_echo call ADDRESS PATH [--ca FILE --name NAME] [--timeout MS] [--meta NAME=VALUE]...
 *             [--send TEXT]... [--fill OCTETS]... [--open] [--keepalive MS]
 *
 * Sends the messages in order and half-closes, unless --open. Prints "ready" when the channel is
 * there, "message LENGTH CHECKSUM" for each message, "goaway CODE", "closed CODE reset|trailers
 * whole|mid TEXT" for the call and "channel CODE STAGE TEXT" for the channel, and ends. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "core/alloc.h"
#include "core/buf.h"
#include "core/grpc.h"
#include "core/secret.h"
#include "core/tls.h"

#define METADATA_MAX 8
#define MESSAGES_MAX 16
#define FILE_BYTES   (1u << 20)

static struct {
    uv_loop_t loop;
    uv_pipe_t input;
    struct rig_grpc_server *server;
    struct rig_grpc_channel *channel;
    struct rig_grpc_call *call;
    const char *path, *chain, *key, *ca, *name;
    uint32_t timeout_ms, keepalive_ms;
    struct rig_h2_header metadata[METADATA_MAX];
    size_t metadata_count;
    struct rig_buf messages[MESSAGES_MAX];
    size_t message_count;
    bool stays_open;
    uint64_t length;
    uint32_t checksum;
} echo;

static _Noreturn void die(const char *what, const struct rig_fault *why)
{
    fprintf(stderr, "grpc_echo: %s: %s\n", what, why->text);
    exit(2);
}

/* Adler-32 (RFC 1950), which Python's zlib has too. */
static uint32_t checksum_add(uint32_t sum, struct rig_slice bytes)
{
    uint32_t a = sum & 0xffff, b = sum >> 16;
    for (size_t i = 0; i < bytes.len; i++) {
        a = (a + bytes.at[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* ---- server ---- */

struct served {
    struct rig_grpc_call *call;
    bool is_half;
};

static struct served *served_new(struct rig_grpc_call *call)
{
    struct served *served = rig_new(struct served);
    served->call = call;
    return served;
}

static void on_served_close(void *ctx, const struct rig_grpc_status *status)
{
    printf("served %d %s\n", status->code, status->is_reset ? "reset" : "trailers");
    rig_free(ctx);
}

static void on_served_half_close(void *ctx)
{
    rig_grpc_call_finish(((struct served *)ctx)->call, RIG_GRPC_OK, NULL);
}

/* Talk: the relay in small. Window is given back for what has gone out. */
static void on_talk_begin(void *ctx, uint32_t length)
{
    rig_grpc_call_send_begin(((struct served *)ctx)->call, length);
}

static void on_talk_bytes(void *ctx, struct rig_slice bytes)
{
    rig_grpc_call_send_bytes(((struct served *)ctx)->call, bytes);
}

static void on_talk_sent(void *ctx, size_t len)
{
    rig_grpc_call_consume(((struct served *)ctx)->call, len);
}

static const struct rig_grpc_handler talk = {
    .on_begin = on_talk_begin,
    .on_bytes = on_talk_bytes,
    .on_sent = on_talk_sent,
    .on_half_close = on_served_half_close,
    .on_close = on_served_close,
};

static void on_talk(void *ctx, struct rig_grpc_call *call)
{
    (void)ctx;
    rig_grpc_call_accept(call, &talk, served_new(call));
}

static void on_fail(void *ctx, struct rig_grpc_call *call)
{
    (void)ctx;
    struct rig_slice code = rig_grpc_call_metadata(call, "want-code");
    struct rig_slice text = rig_grpc_call_metadata(call, "want-message");
    char number[16], message[8192];
    snprintf(number, sizeof(number), "%.*s", RIG_SLICE_ARG(code));
    snprintf(message, sizeof(message), "<%.*s> \xc3\xbc%%\n", RIG_SLICE_ARG(text));
    rig_grpc_call_finish(call, atoi(number), message);
}

static void on_blob_message(void *ctx, struct rig_slice message)
{
    struct served *served = ctx;
    char number[24];
    snprintf(number, sizeof(number), "%.*s", RIG_SLICE_ARG(message));
    uint32_t length = (uint32_t)strtoul(number, NULL, 10);
    struct rig_buf part = {0};
    size_t size = served->is_half ? length / 2 : length;
    memset(rig_buf_reserve(&part, size), 'b', size);
    rig_buf_commit(&part, size);
    rig_grpc_call_send_begin(served->call, length);
    rig_grpc_call_send_bytes(served->call, rig_buf_slice(&part));
    rig_buf_deinit(&part);
}

static void on_blob_sent(void *ctx, size_t len)
{
    struct served *served = ctx;
    (void)len;
    if (served->is_half && rig_grpc_call_queued(served->call) == 0)
        rig_grpc_call_reset(served->call, 2); /* INTERNAL_ERROR */
}

static const struct rig_grpc_handler blob = {
    .on_message = on_blob_message,
    .on_sent = on_blob_sent,
    .on_half_close = on_served_half_close,
    .on_close = on_served_close,
};

/* With half a message out, a half-close must not become an end. */
static const struct rig_grpc_handler half = {
    .on_message = on_blob_message,
    .on_sent = on_blob_sent,
    .on_close = on_served_close,
};

static void on_blob(void *ctx, struct rig_grpc_call *call)
{
    (void)ctx;
    rig_grpc_call_accept(call, &blob, served_new(call));
}

static void on_half(void *ctx, struct rig_grpc_call *call)
{
    (void)ctx;
    struct served *served = served_new(call);
    served->is_half = true;
    rig_grpc_call_accept(call, &half, served);
}

static const struct rig_grpc_handler hang = {.on_close = on_served_close};

static void on_hang(void *ctx, struct rig_grpc_call *call)
{
    (void)ctx;
    rig_grpc_call_accept(call, &hang, served_new(call));
}

static const struct rig_grpc_method methods[] = {
    {"/test.Echo/Talk", on_talk}, {"/test.Echo/Fail", on_fail}, {"/test.Echo/Blob", on_blob},
    {"/test.Echo/Half", on_half}, {"/test.Echo/Hang", on_hang}, {0},
};

static void serve(const char *address)
{
    struct rig_fault why = {0};
    struct rig_tls *tls = NULL;
    if (echo.chain != NULL) {
        struct rig_buf chain = {0};
        struct rig_secret key = {0};
        if (rig_buf_read_file(&chain, echo.chain, FILE_BYTES) < 0 ||
            rig_secret_read_file(&key, echo.key, FILE_BYTES, &why) < 0)
            die("certificate", &why);
        struct rig_tls_server_options options = {
            .chain_pem = rig_buf_slice(&chain), .key_pem = &key, .alpn = "h2"};
        if (rig_tls_server_new(&options, &tls, &why) < 0)
            die("certificate", &why);
        rig_buf_deinit(&chain);
        rig_secret_deinit(&key);
    }
    struct rig_grpc_server_options options = {.address = address,
                                              .tls = tls,
                                              .methods = methods,
                                              .h2 = {.stream_window_bytes = 262144,
                                                     .connection_window_bytes = 524288,
                                                     .keepalive_ms = echo.keepalive_ms,
                                                     .keepalive_timeout_ms = 2000}};
    if (rig_grpc_server_open(&echo.loop, &options, &echo.server, &why) < 0)
        die("serve", &why);
    printf("listening %s\n", rig_grpc_server_address(echo.server));
    uv_run(&echo.loop, UV_RUN_DEFAULT);
    rig_tls_free(tls);
}

/* ---- client ---- */

static void on_begin(void *ctx, uint32_t length)
{
    (void)ctx;
    echo.length = length;
    echo.checksum = 1;
}

static void on_bytes(void *ctx, struct rig_slice bytes)
{
    (void)ctx;
    echo.checksum = checksum_add(echo.checksum, bytes);
    rig_grpc_call_consume(echo.call, bytes.len);
}

static void on_end(void *ctx)
{
    (void)ctx;
    printf("message %" PRIu64 " %" PRIu32 "\n", echo.length, echo.checksum);
}

static void on_close(void *ctx, const struct rig_grpc_status *status)
{
    (void)ctx;
    printf("closed %d %s %s %s\n", status->code, status->is_reset ? "reset" : "trailers",
           status->is_mid_message ? "mid" : "whole", status->message);
    echo.call = NULL;
    rig_grpc_channel_close(echo.channel);
}

static const struct rig_grpc_handler handler = {
    .on_begin = on_begin, .on_bytes = on_bytes, .on_end = on_end, .on_close = on_close};

static void on_ready(void *ctx)
{
    (void)ctx;
    printf("ready\n");
    struct rig_grpc_request request = {.path = echo.path,
                                       .authority = "echo",
                                       .is_tls = echo.ca != NULL,
                                       .metadata = echo.metadata,
                                       .metadata_count = echo.metadata_count,
                                       .timeout_ms = echo.timeout_ms};
    echo.call = rig_grpc_call_start(echo.channel, &request, &handler, NULL);
    rig_require(echo.call != NULL);
    for (size_t i = 0; i < echo.message_count; i++)
        rig_grpc_call_send(echo.call, rig_buf_slice(&echo.messages[i]));
    if (!echo.stays_open)
        rig_grpc_call_half_close(echo.call);
}

static void on_goaway(void *ctx, uint32_t code, struct rig_slice debug)
{
    (void)ctx;
    printf("goaway %" PRIu32 " %.*s\n", code, RIG_SLICE_ARG(debug));
}

static void on_channel_closed(void *ctx, const struct rig_grpc_status *status)
{
    (void)ctx;
    printf("channel %d %d %s\n", status->code, status->stage, status->message);
    if (!uv_is_closing((uv_handle_t *)&echo.input))
        uv_close((uv_handle_t *)&echo.input, NULL);
    echo.channel = NULL;
}

static const struct rig_grpc_channel_events events = {on_ready, on_goaway, on_channel_closed};

static void call(const char *address)
{
    struct rig_fault why = {0};
    struct rig_tls *tls = NULL;
    struct rig_tls_client_options trust = {.root_path = echo.ca, .alpn = "h2"};
    if (echo.ca != NULL && rig_tls_client_new(&trust, &tls, &why) < 0)
        die("roots", &why);
    struct rig_grpc_channel_options options = {
        .dial = {.address = address, .tls = tls, .server_name = echo.name},
        .h2 = {.stream_window_bytes = 262144,
               .connection_window_bytes = 524288,
               .keepalive_ms = echo.keepalive_ms,
               .keepalive_timeout_ms = 2000},
    };
    if (rig_grpc_channel_open(&echo.loop, &options, &events, NULL, &echo.channel, &why) < 0)
        die("dial", &why);
    uv_run(&echo.loop, UV_RUN_DEFAULT);
    rig_tls_free(tls);
}

/* ---- the program ---- */

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    static char block[64];
    (void)handle, (void)size;
    *buf = uv_buf_init(block, sizeof(block));
}

/* Whoever started us has gone, or wants us to. */
static void on_input(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    (void)buf;
    if (got >= 0)
        return;
    uv_close((uv_handle_t *)stream, NULL);
    if (echo.server != NULL)
        rig_grpc_server_close(echo.server, NULL, NULL);
    if (echo.channel != NULL)
        rig_grpc_channel_close(echo.channel);
}

static void metadata_add(char *text)
{
    char *value = strchr(text, '=');
    if (value == NULL || echo.metadata_count == METADATA_MAX)
        exit(2);
    *value++ = '\0';
    echo.metadata[echo.metadata_count++] =
        (struct rig_h2_header){rig_slice_text(text), rig_slice_text(value), false};
}

static struct rig_buf *message_add(void)
{
    if (echo.message_count == MESSAGES_MAX)
        exit(2);
    return &echo.messages[echo.message_count++];
}

static void options_read(int argc, char **argv)
{
    static const struct option options[] = {
        {"chain", 1, NULL, 'c'},
        {"key", 1, NULL, 'k'},
        {"ca", 1, NULL, 'a'},
        {"name", 1, NULL, 'n'},
        {"timeout", 1, NULL, 't'},
        {"meta", 1, NULL, 'm'},
        {"send", 1, NULL, 's'},
        {"fill", 1, NULL, 'f'},
        {"open", 0, NULL, 'o'},
        {"keepalive", 1, NULL, 'p'},
        {0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        struct rig_buf *buf;
        size_t size;
        switch (c) {
        case 'c':
            echo.chain = optarg;
            break;
        case 'k':
            echo.key = optarg;
            break;
        case 'a':
            echo.ca = optarg;
            break;
        case 'n':
            echo.name = optarg;
            break;
        case 't':
            echo.timeout_ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            echo.keepalive_ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'm':
            metadata_add(optarg);
            break;
        case 's':
            rig_buf_append_text(message_add(), optarg);
            break;
        case 'f':
            buf = message_add();
            size = strtoul(optarg, NULL, 10);
            memset(rig_buf_reserve(buf, size), 'f', size);
            rig_buf_commit(buf, size);
            break;
        case 'o':
            echo.stays_open = true;
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    options_read(argc, argv);
    argv += optind;
    argc -= optind;
    uv_loop_init(&echo.loop);
    uv_pipe_init(&echo.loop, &echo.input, 0);
    uv_pipe_open(&echo.input, STDIN_FILENO);
    uv_read_start((uv_stream_t *)&echo.input, on_allocate, on_input);
    if (argc == 2 && strcmp(argv[0], "serve") == 0) {
        serve(argv[1]);
    } else if (argc == 3 && strcmp(argv[0], "call") == 0) {
        echo.path = argv[2];
        call(argv[1]);
    } else {
        fprintf(stderr, "grpc_echo: see the head of its source\n");
        return 2;
    }
    for (size_t i = 0; i < echo.message_count; i++)
        rig_buf_deinit(&echo.messages[i]);
    return uv_loop_close(&echo.loop) == 0 ? 0 : 1;
}
