/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1: requests as octets on a real socket, and our client against our server and against
 * scripted answers. */
#include "tests/harness/test.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/dial.h"
#include "core/http1.h"

struct fixture {
    uv_loop_t loop;
    struct rig_http1_server *server;
    struct rig_http1_exchange *held;
    struct rig_buf seen; /* "METHOD path query body|" of each request */
    int fd;
    bool is_closed;
};

static void on_request(void *ctx, struct rig_http1_exchange *exchange,
                       const struct rig_http1_request *request)
{
    struct fixture *f = ctx;
    rig_buf_printf(&f->seen, "%.*s %.*s %.*s %.*s%s|", RIG_SLICE_ARG(request->method),
                   RIG_SLICE_ARG(request->path), RIG_SLICE_ARG(request->query),
                   RIG_SLICE_ARG(request->body), request->is_loopback ? "" : " remote");
    if (rig_slice_is(request->path, "/hold"))
        f->held = exchange;
    else if (rig_slice_is(request->path, "/none"))
        rig_http1_respond(exchange, 204, NULL, RIG_SLICE(""));
    else if (rig_slice_is(request->path, "/big")) {
        struct rig_buf big = {0};
        memset(rig_buf_reserve(&big, 4 << 20), 'x', 4 << 20);
        rig_buf_commit(&big, 4 << 20);
        rig_http1_respond(exchange, 200, "text/plain", rig_buf_slice(&big));
        rig_buf_deinit(&big);
    } else
        rig_http1_respond(exchange, 200, "text/plain", RIG_SLICE("hello"));
}

static int fixture_dial(struct fixture *f)
{
    uint16_t port;
    char host[64];
    rig_dial_split(rig_http1_server_address(f->server), host, sizeof(host), &port, NULL);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static struct fixture *fixture_new(uint32_t idle_timeout_ms)
{
    struct fixture *f = rig_new(struct fixture);
    struct rig_http1_server_options options = {.address = "127.0.0.1:0",
                                               .idle_timeout_ms = idle_timeout_ms,
                                               .max_body_bytes = 100,
                                               .max_connections = 2,
                                               .on_request = on_request,
                                               .ctx = f};
    uv_loop_init(&f->loop);
    assert_int_equal(rig_http1_server_open(&f->loop, &options, &f->server, NULL), 0);
    f->fd = fixture_dial(f);
    return f;
}

static void on_closed(void *ctx)
{
    ((struct fixture *)ctx)->is_closed = true;
}

static void fixture_free(struct fixture *f)
{
    rig_http1_server_close(f->server, on_closed, f);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->is_closed);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    close(f->fd);
    rig_buf_deinit(&f->seen);
    rig_free(f);
}

static void put(struct fixture *f, const char *text)
{
    assert_int_equal(send(f->fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

/* Runs the loop until what has come holds `needle`, or the connection has ended (empty needle). */
static void expect(struct fixture *f, struct rig_buf *got, const char *needle)
{
    bool ended = false;
    for (;;) {
        ssize_t n = recv(f->fd, rig_buf_reserve(got, 65536), 65536, MSG_DONTWAIT);
        if (n > 0)
            rig_buf_commit(got, (size_t)n);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            ended = true;
        if (needle[0] != '\0' && strstr(rig_buf_text(got), needle) != NULL)
            return;
        if (ended) {
            assert_string_equal(needle, "");
            return;
        }
        if (n < 0)
            uv_run(&f->loop, UV_RUN_NOWAIT);
    }
}

static void requests_are_answered_on_one_connection(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    put(f, "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(f, &got, "hello");
    assert_memory_equal(got.at, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 36);
    put(f, "POST /d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody");
    rig_buf_clear(&got);
    expect(f, &got, "");
    assert_non_null(strstr(rig_buf_text(&got), "Connection: close\r\n"));
    assert_string_equal(rig_buf_text(&f->seen), "GET /a b=c |POST /d  body|");
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void pipelined_requests_wait_their_turn(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    put(f, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
           "HEAD /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    while (f->held == NULL)
        uv_run(&f->loop, UV_RUN_ONCE);
    for (int i = 0; i < 5; i++)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_string_equal(rig_buf_text(&f->seen), "GET /hold  |");
    rig_http1_respond(f->held, 503, NULL, RIG_SLICE("later"));
    expect(f, &got, "");
    assert_string_equal(rig_buf_text(&f->seen), "GET /hold  |GET /2  |HEAD /3  |");
    const char *text = rig_buf_text(&got);
    assert_memory_equal(text, "HTTP/1.1 503 Service Unavailable\r\n", 34);
    assert_int_equal(strlen(strstr(text, "Connection: close")),
                     strlen("Connection: close\r\n\r\n"));
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void answer_larger_than_the_socket_arrives_whole(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    put(f, "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect(f, &got, "");
    const char *body = strstr(rig_buf_text(&got), "\r\n\r\n") + 4;
    assert_int_equal(strlen(body), 4 << 20);
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void refused(const char *request, const char *status)
{
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    send(f->fd, request, strlen(request), MSG_NOSIGNAL);
    expect(f, &got, "");
    if (strncmp(rig_buf_text(&got), status, strlen(status)) != 0)
        fail_msg("%.60s: answered %.60s, due %s", request, rig_buf_text(&got), status);
    assert_int_equal(f->seen.len, 0);
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void bad_requests_are_refused_and_closed(void **state)
{
    (void)state;
    char long_head[40000], long_url[10000];
    strcpy(long_head, "GET / HTTP/1.1\r\n");
    for (size_t at = strlen(long_head); at + 20 < sizeof(long_head); at += strlen(long_head + at))
        strcpy(long_head + at, "X-Padding: aaaa\r\n");
    memset(long_url, 'a', sizeof(long_url));
    memcpy(long_url, "GET /", 5);
    strcpy(long_url + sizeof(long_url) - 12, " HTTP/1.1\r\n");
    refused("nonsense\r\n\r\n", "HTTP/1.1 400 ");
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.1\r\nHost: x\r\nX: a\x01\r\n\r\n", "HTTP/1.1 400 ");
    /* RFC 9112, 3.2: one Host, no more and no less. */
    refused("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", "HTTP/1.1 400 ");
    /* 5: no space before the colon, no name of nothing, no folded line, no bare CR or LF */
    refused("GET / HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.1\r\nHost: x\r\nX: y\rZ: z\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET / HTTP/1.1\r\n Host: x\r\n\r\n", "HTTP/1.1 400 ");
    /* 2.3 and 3: what is no HTTP/1 */
    refused("GET / HTTP/2.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 ");
    refused("GET / HTTP/0.9\r\n\r\n", "HTTP/1.1 505 ");
    refused("GET /\r\n\r\n", "HTTP/1.1 505 ");
    refused("GET / HTTP/1.2\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ");
    refused("DESCRIBE / RTSP/1.0\r\n\r\n", "HTTP/1.1 400 ");
    refused("SOURCE / ICE/1.0\r\n\r\n", "HTTP/1.1 400 ");
    refused("get / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET x HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET * HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ");
    refused("GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ");
    refused("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", "HTTP/1.1 501 ");
    refused("GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", "HTTP/1.1 417 ");
    refused(long_head, "HTTP/1.1 431 ");
    refused(long_url, "HTTP/1.1 414 ");
}

static void lengths_in_doubt_are_refused(void **state)
{
    (void)state;
#define POST "POST / HTTP/1.1\r\nHost: x\r\n"
    /* RFC 9112 6.1: both lengths is how requests are smuggled. */
    refused(POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400 ");
    refused(POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 400 ");
    refused(POST "Content-Length: 3,3\r\n\r\nabc", "HTTP/1.1 400 ");
    refused(POST "Content-Length: -3\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Content-Length: +3\r\n\r\nabc", "HTTP/1.1 400 ");
    refused(POST "Content-Length: 0x3\r\n\r\nabc", "HTTP/1.1 400 ");
    refused(POST "Content-Length: \r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Content-Length : 3\r\n\r\nabc", "HTTP/1.1 400 ");
    refused(POST "Content-Length: 18446744073709551616\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Content-Length: 18446744073709551615\r\n\r\n", "HTTP/1.1 413 ");
    refused(POST "Content-Length: 101\r\n\r\n", "HTTP/1.1 413 ");
    refused(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: chunked, identity\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: xchunked\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 501 ");
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n", "HTTP/1.1 400 ");
    refused(POST "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "HTTP/1.1 400 ");
#undef POST
}

/* Octet by octet, so that every token is cut everywhere. */
static void requests_come_in_any_pieces(void **state)
{
    (void)state;
    static const char request[] = "POST /p?q HTTP/1.1\r\nHost: x\r\nX-Long-Name-Of-A-Field: \t a b "
                                  "\r\nX-E: \r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "3;x=y\r\nabc\r\n0\r\nHost: t\r\nHost: u\r\n\r\n"
                                  "GET /last HTTP/1.1\r\nhOST:\r\nConnection: close\r\n\r\n";
    static const char folded[] = "GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n";
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        assert_int_equal(send(f->fd, request + i, 1, MSG_NOSIGNAL), 1);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    expect(f, &got, "");
    assert_string_equal(rig_buf_text(&f->seen), "POST /p q abc|GET /last  |");
    fixture_free(f);
    f = fixture_new(0);
    for (size_t i = 0; i < sizeof(folded) - 1; i++) {
        send(f->fd, folded + i, 1, MSG_NOSIGNAL);
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    rig_buf_clear(&got);
    expect(f, &got, "HTTP/1.1 400 ");
    assert_int_equal(f->seen.len, 0);
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void every_form_of_target_is_a_path(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    put(f, "\r\nGET http://x:1/a?b HTTP/1.1\r\nHost: x\r\n\r\n"
           "GET http://x HTTP/1.1\r\nHost: x\r\n\r\n"
           "GET http://x?q HTTP/1.1\r\nHost: x\r\n\r\n"
           "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"
           "GET //a?b?c HTTP/1.1\r\nHost: x\r\n\r\n"
           "GET /1.0 HTTP/1.0\r\n\r\n");
    expect(f, &got, "");
    assert_string_equal(rig_buf_text(&f->seen),
                        "GET /a b |GET /  |GET / q |OPTIONS *  |GET //a b?c |GET /1.0  |");
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void client_that_waits_is_told_to_continue(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    put(f, "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n");
    expect(f, &got, "HTTP/1.1 100 Continue\r\n\r\n");
    put(f, "ok");
    expect(f, &got, "hello");
    assert_string_equal(rig_buf_text(&f->seen), "POST /e  ok|");
    /* Not when it will be refused. */
    rig_buf_clear(&got);
    put(f, "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\nExpect: 100-continue\r\n\r\n");
    expect(f, &got, "");
    assert_memory_equal(got.at, "HTTP/1.1 413 ", 13);
    rig_buf_deinit(&got);
    fixture_free(f);
}

/* The refusal comes before the body has been sent, and arrives although it is sent. */
static void refusal_survives_a_client_that_goes_on(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    char block[1000];
    memset(block, 'x', sizeof(block));
    put(f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    for (int i = 0; i < 100; i++) {
        assert_int_equal(send(f->fd, block, sizeof(block), MSG_NOSIGNAL), sizeof(block));
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    expect(f, &got, "");
    assert_memory_equal(got.at, "HTTP/1.1 413 ", 13);
    assert_non_null(strstr(rig_buf_text(&got), "\r\n\r\n"));
    assert_int_equal(f->seen.len, 0);
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void answer_has_date_and_no_needless_length(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    put(f, "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect(f, &got, "");
    const char *text = rig_buf_text(&got);
    assert_memory_equal(text, "HTTP/1.1 204 No Content\r\n", 25);
    assert_null(strstr(text, "Content-"));
    struct tm tm = {0};
    assert_non_null(strptime(strstr(text, "Date: "), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm));
    assert_true(llabs((long long)timegm(&tm) - (long long)time(NULL)) < 60);
    assert_string_equal(text + got.len - 4, "\r\n\r\n");
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void chunked_body_is_counted_as_it_comes(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    put(f, "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
           "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    expect(f, &got, "hello");
    assert_string_equal(rig_buf_text(&f->seen), "POST /c  abcde|");
    put(f, "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    rig_buf_clear(&got);
    for (int i = 0; i < 3; i++)
        send(f->fd, "28\r\n0123456789012345678901234567890123456789\r\n", 46, MSG_NOSIGNAL);
    expect(f, &got, "");
    assert_memory_equal(got.at, "HTTP/1.1 413 ", 13);
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void silent_and_slow_clients_are_closed(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(30);
    struct rig_buf got = {0};
    expect(f, &got, "");
    close(f->fd);
    f->fd = fixture_dial(f);
    put(f, "GET / HT");
    expect(f, &got, "");
    assert_int_equal(got.len, 0);
    rig_buf_deinit(&got);
    fixture_free(f);
}

/* All places are taken: f->fd, which asked last, keeps its own. */
static void silent_client_makes_room(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct rig_buf got = {0};
    int first = f->fd, silent = fixture_dial(f);
    put(f, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(f, &got, "hello");
    f->fd = fixture_dial(f);
    put(f, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    alarm(20); /* ends a test that waits for the idle timeout */
    while (f->held == NULL)
        uv_run(&f->loop, UV_RUN_ONCE);
    int holder = f->fd;
    f->fd = silent;
    expect(f, &got, "");
    close(silent);
    /* The place of who waits for an answer is no place to take. */
    f->fd = first;
    rig_buf_clear(&got);
    put(f, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(f, &got, "hello");
    f->fd = fixture_dial(f);
    rig_buf_clear(&got);
    put(f, "GET /c HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(f, &got, "hello");
    close(f->fd);
    f->fd = first;
    expect(f, &got, "");
    close(first);
    f->fd = holder;
    rig_buf_clear(&got);
    rig_http1_respond(f->held, 200, "text/plain", RIG_SLICE("held"));
    expect(f, &got, "held");
    alarm(0);
    rig_buf_deinit(&got);
    fixture_free(f);
}

static void answer_after_the_peer_left_is_harmless(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    put(f, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    while (f->held == NULL)
        uv_run(&f->loop, UV_RUN_ONCE);
    close(f->fd);
    f->fd = -1;
    rig_http1_server_close(f->server, on_closed, f);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    rig_http1_respond(f->held, 200, NULL, RIG_SLICE("x"));
    assert_int_equal(uv_loop_close(&f->loop), 0);
    rig_buf_deinit(&f->seen);
    rig_free(f);
}

/* ---- the client ---- */

struct answer {
    int count;
    int err;
    int status;
    char body[128];
    char why[RIG_FAULT_BYTES];
};

static void on_answer(void *ctx, int err, int status, struct rig_slice body,
                      const struct rig_fault *why)
{
    struct answer *a = ctx;
    a->count++;
    a->err = err;
    a->status = status;
    snprintf(a->body, sizeof(a->body), "%.*s", RIG_SLICE_ARG(body));
    memcpy(a->why, why->text, sizeof(a->why));
}

static void client_gets_its_answer(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct answer a = {0};
    struct rig_http1_call *call;
    struct rig_http1_call_options options = {
        .address = rig_http1_server_address(f->server), .method = "POST", .target = "/drain?x"};
    assert_int_equal(rig_http1_call_start(&f->loop, &options, on_answer, &a, &call, NULL), 0);
    assert_int_equal(a.count, 0);
    while (a.count == 0)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(a.err, 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "hello");
    assert_string_equal(rig_buf_text(&f->seen), "POST /drain x |");
    fixture_free(f);
}

/* A server that answers these octets to whoever connects, then closes or stays. */
static void answered(const char *octets, bool stays, struct answer *a)
{
    uv_loop_t loop;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(server, 1), 0);
    getsockname(server, (struct sockaddr *)&at, &len);
    char address[64];
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(at.sin_port));
    struct rig_http1_call *call;
    struct rig_http1_call_options options = {.address = address,
                                             .method = "GET",
                                             .target = "/",
                                             .timeout_ms = stays ? 50 : 5000,
                                             .max_body_bytes = 50};
    *a = (struct answer){0};
    uv_loop_init(&loop);
    assert_int_equal(rig_http1_call_start(&loop, &options, on_answer, a, &call, NULL), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    int peer = accept(server, NULL, NULL);
    char request[512];
    while (recv(peer, request, sizeof(request), MSG_DONTWAIT) < 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    send(peer, octets, strlen(octets), MSG_NOSIGNAL);
    if (!stays)
        close(peer);
    uv_run(&loop, UV_RUN_DEFAULT);
    if (stays)
        close(peer);
    close(server);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(a->count, 1);
}

static void client_takes_every_kind_of_end(void **state)
{
    (void)state;
    struct answer a;
    answered("HTTP/1.1 204 No Content\r\n\r\n", false, &a);
    assert_int_equal(a.status, 204);
    answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false,
             &a);
    assert_string_equal(a.body, "abc");
    answered("HTTP/1.0 200 OK\r\n\r\nuntil the end", false, &a);
    assert_int_equal(a.err, 0);
    assert_string_equal(a.body, "until the end");
    answered("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
             "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
             false, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "ok");
}

static void client_expects_no_body_of_head(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct answer a = {0};
    struct rig_http1_call *call;
    struct rig_http1_call_options options = {.address = rig_http1_server_address(f->server),
                                             .method = "HEAD",
                                             .target = "/",
                                             .timeout_ms = 20000};
    assert_int_equal(rig_http1_call_start(&f->loop, &options, on_answer, &a, &call, NULL), 0);
    while (a.count == 0)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(a.err, 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "");
    fixture_free(f);
}

static void client_names_what_went_wrong(void **state)
{
    (void)state;
    struct answer a;
    answered("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false, &a);
    assert_int_equal(a.err, UV_EOF);
    assert_string_equal(a.why, "the peer closed in mid-answer");
    answered("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
             "012345678901234567890123456789012345678901234567890123456789",
             false, &a);
    assert_int_equal(a.err, RIG_E_TOO_LARGE);
    answered("SSH-2.0-x\r\n", false, &a);
    assert_int_equal(a.err, RIG_E_PROTOCOL);
    answered("HTTP/1.1 200 OK\r\nContent-Le", true, &a);
    assert_int_equal(a.err, UV_ETIMEDOUT);
}

static void cancelled_call_does_not_call_back(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(0);
    struct answer a = {0};
    struct rig_http1_call *call;
    struct rig_http1_call_options options = {
        .address = rig_http1_server_address(f->server), .method = "GET", .target = "/"};
    assert_int_equal(rig_http1_call_start(&f->loop, &options, on_answer, &a, &call, NULL), 0);
    rig_http1_call_cancel(call);
    fixture_free(f);
    assert_int_equal(a.count, 0);
}

RIG_TEST_MAIN(cmocka_unit_test(requests_are_answered_on_one_connection),
              cmocka_unit_test(pipelined_requests_wait_their_turn),
              cmocka_unit_test(answer_larger_than_the_socket_arrives_whole),
              cmocka_unit_test(bad_requests_are_refused_and_closed),
              cmocka_unit_test(lengths_in_doubt_are_refused),
              cmocka_unit_test(requests_come_in_any_pieces),
              cmocka_unit_test(every_form_of_target_is_a_path),
              cmocka_unit_test(client_that_waits_is_told_to_continue),
              cmocka_unit_test(refusal_survives_a_client_that_goes_on),
              cmocka_unit_test(answer_has_date_and_no_needless_length),
              cmocka_unit_test(client_expects_no_body_of_head),
              cmocka_unit_test(chunked_body_is_counted_as_it_comes),
              cmocka_unit_test(silent_and_slow_clients_are_closed),
              cmocka_unit_test(silent_client_makes_room),
              cmocka_unit_test(answer_after_the_peer_left_is_harmless),
              cmocka_unit_test(client_gets_its_answer),
              cmocka_unit_test(client_takes_every_kind_of_end),
              cmocka_unit_test(client_names_what_went_wrong),
              cmocka_unit_test(cancelled_call_does_not_call_back))
