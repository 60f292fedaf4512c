/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/test_dial.c: from an address to a stream, or to the sentence why not; a resolver
 * that hangs is made by defining getaddrinfo here, which libuv's pool then calls. */
#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/dial.h"
#include "core/fault.h"
#include "core/stream.h"
#include "core/tls.h"
#include "tests/harness/loop.h"
#include "tests/harness/pki.h"

/* ---- the resolver ---- */

/* As the program has it; libuv reads it when the pool is first used. */
__attribute__((constructor)) static void two_threads(void)
{
    setenv("UV_THREADPOOL_SIZE", "2", 1);
}

static pthread_mutex_t resolver_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t resolver_go = PTHREAD_COND_INITIALIZER;
static bool resolver_hangs;
static unsigned resolver_inside, resolver_calls;

static void resolver_release(void)
{
    pthread_mutex_lock(&resolver_lock);
    resolver_hangs = false;
    pthread_cond_broadcast(&resolver_go);
    pthread_mutex_unlock(&resolver_lock);
}

static struct addrinfo *answer(const char *ip, const char *port, struct addrinfo *next)
{
    struct addrinfo *info = calloc(1, sizeof(*info) + sizeof(struct sockaddr_in));
    struct sockaddr_in *name = (struct sockaddr_in *)(info + 1);
    name->sin_family = AF_INET;
    name->sin_port = htons((uint16_t)atoi(port));
    inet_pton(AF_INET, ip, &name->sin_addr);
    info->ai_family = AF_INET;
    info->ai_socktype = SOCK_STREAM;
    info->ai_addrlen = sizeof(*name);
    info->ai_addr = (struct sockaddr *)name;
    info->ai_next = next;
    return info;
}

/* "two.test" has two addresses, "first.test" only the first of them, "slow.test" hangs while
 * told so; other names are not known. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **result)
{
    (void)hints;
    pthread_mutex_lock(&resolver_lock);
    resolver_calls++;
    resolver_inside++;
    while (resolver_hangs && strcmp(host, "slow.test") == 0)
        pthread_cond_wait(&resolver_go, &resolver_lock);
    resolver_inside--;
    pthread_mutex_unlock(&resolver_lock);
    *result = NULL;
    if (strcmp(host, "two.test") == 0)
        *result = answer("127.0.0.2", port, answer("127.0.0.1", port, NULL));
    else if (strcmp(host, "first.test") == 0)
        *result = answer("127.0.0.2", port, NULL);
    else if (strcmp(host, "slow.test") == 0)
        *result = answer("127.0.0.1", port, NULL);
    return *result != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *info)
{
    while (info != NULL) {
        struct addrinfo *next = info->ai_next;
        free(info);
        info = next;
    }
}

/* ---- the scene ---- */

struct scene {
    struct test_loop loop;
    struct rig_listener *listener;
    bool is_accepted, is_done, is_worked;
    int err;
    enum rig_dial_stage stage;
    struct rig_fault why;
    struct rig_stream *client, *server;
    char address[80];
};

static void on_accept(void *ctx, struct rig_stream *stream)
{
    struct scene *scene = ctx;
    scene->is_accepted = true;
    scene->server = stream;
}

static void on_done(void *ctx, int err, enum rig_dial_stage stage, const struct rig_fault *why,
                    struct rig_stream *stream)
{
    struct scene *scene = ctx;
    assert_false(scene->is_done);
    scene->is_done = true;
    scene->err = err;
    scene->stage = stage;
    scene->why = *why;
    scene->client = stream;
}

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){.is_done = false};
    loop_init(&scene->loop);
    struct rig_listener_options options = {
        .address = "127.0.0.1:0", .on_accept = on_accept, .ctx = scene};
    assert_int_equal(rig_listener_open(&scene->loop.uv, &options, &scene->listener, NULL), 0);
}

/* The listener's port at another host. */
static const char *at(struct scene *scene, const char *host)
{
    snprintf(scene->address, sizeof(scene->address), "%s:%s", host,
             strrchr(rig_listener_address(scene->listener), ':') + 1);
    return scene->address;
}

static struct rig_dial *dial(struct scene *scene, struct rig_dial_options options)
{
    struct rig_dial *it = NULL;
    assert_int_equal(rig_dial_start(&scene->loop.uv, &options, on_done, scene, &it, NULL), 0);
    assert_false(scene->is_done);
    return it;
}

static void scene_deinit(struct scene *scene)
{
    if (scene->client != NULL)
        rig_stream_close(scene->client, NULL, NULL);
    if (scene->server != NULL)
        rig_stream_close(scene->server, NULL, NULL);
    rig_listener_close(scene->listener, NULL, NULL);
    loop_deinit(&scene->loop);
}

/* Until a pool thread hangs in the resolver; its going there does not wake the loop. */
static void resolver_entered(struct scene *scene)
{
    unsigned inside = 0;
    for (int i = 0; i < LOOP_DEADLINE_MS && inside == 0; i++) {
        loop_for(&scene->loop, 1);
        pthread_mutex_lock(&resolver_lock);
        inside = resolver_inside;
        pthread_mutex_unlock(&resolver_lock);
    }
    assert_int_equal(inside, 1);
}

/* ---- what works ---- */

static void names_are_resolved_addresses_are_not(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    unsigned before = resolver_calls;
    dial(&scene, (struct rig_dial_options){.address = at(&scene, "127.0.0.1")});
    loop_until(&scene.loop, scene.is_done && scene.is_accepted);
    assert_int_equal(scene.err, 0);
    assert_int_equal(scene.stage, RIG_DIAL_DONE);
    assert_int_equal(resolver_calls, before);
    scene_deinit(&scene);
    scene_init(&scene);
    dial(&scene, (struct rig_dial_options){.address = at(&scene, "slow.test")});
    loop_until(&scene.loop, scene.is_done && scene.is_accepted);
    assert_int_equal(scene.err, 0);
    assert_int_equal(resolver_calls, before + 1);
    scene_deinit(&scene);
}

static void second_address_is_tried(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    dial(&scene, (struct rig_dial_options){.address = at(&scene, "two.test")});
    loop_until(&scene.loop, scene.is_done);
    assert_string_equal(scene.why.text, "");
    assert_int_equal(scene.err, 0);
    loop_until(&scene.loop, scene.is_accepted);
    scene_deinit(&scene);
}

/* ---- what does not ---- */

static void refusal_names_host_and_address(void **state)
{
    (void)state;
    struct scene scene;
    char want[200];
    scene_init(&scene);
    dial(&scene, (struct rig_dial_options){.address = at(&scene, "first.test")});
    loop_until(&scene.loop, scene.is_done);
    assert_int_equal(scene.err, UV_ECONNREFUSED);
    assert_int_equal(scene.stage, RIG_DIAL_CONNECT);
    snprintf(want, sizeof(want), "cannot connect to %s (127.0.0.2): connection refused",
             scene.address);
    assert_string_equal(scene.why.text, want);
    scene_deinit(&scene);

    scene_init(&scene);
    dial(&scene, (struct rig_dial_options){.address = "unix:/nonexistent/socket"});
    loop_until(&scene.loop, scene.is_done);
    assert_int_equal(scene.err, UV_ENOENT);
    assert_string_equal(scene.why.text, "cannot connect to unix:/nonexistent/socket: "
                                        "no such file or directory");
    scene_deinit(&scene);
}

static void unknown_name_fails_to_resolve(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    dial(&scene, (struct rig_dial_options){.address = "nowhere.test:443"});
    loop_until(&scene.loop, scene.is_done);
    assert_int_equal(scene.err, UV_EAI_NONAME);
    assert_int_equal(scene.stage, RIG_DIAL_RESOLVE);
    assert_string_equal(scene.why.text, "cannot resolve nowhere.test: unknown node or service");
    scene_deinit(&scene);
}

static void addresses_that_are_none_are_refused_at_once(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    static const char *const bad[] = {"",           "host",     ":443",     "host:", "host:0",
                                      "host:99999", "host:44a", "[::1]443", "[::1",  "a:b:443"};
    char path[200] = "unix:/";
    memset(path + 6, 'x', 107);
    for (size_t i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
        const char *text = i < sizeof(bad) / sizeof(bad[0]) ? bad[i] : path;
        struct rig_dial_options options = {.address = text};
        struct rig_fault why = {0};
        struct rig_dial *it = NULL;
        assert_int_equal(rig_dial_start(&scene.loop.uv, &options, on_done, &scene, &it, &why),
                         RIG_E_SYNTAX);
        assert_true(why.text[0] != '\0');
    }
    scene_deinit(&scene);
}

/* ---- time ---- */

static void deadline_covers_every_stage(void **state)
{
    (void)state;
    struct scene scene;
    /* Resolver. */
    scene_init(&scene);
    resolver_hangs = true;
    dial(&scene, (struct rig_dial_options){.address = at(&scene, "slow.test"), .timeout_ms = 60});
    loop_until(&scene.loop, scene.is_done);
    assert_int_equal(scene.err, UV_ETIMEDOUT);
    assert_int_equal(scene.stage, RIG_DIAL_RESOLVE);
    assert_string_equal(scene.why.text, "cannot resolve slow.test within 60 ms");
    resolver_release();
    loop_for(&scene.loop, 20);
    scene_deinit(&scene);

    /* TLS: somebody accepts and says nothing. */
    struct pki_root root;
    pki_root_init(&root, "root");
    struct rig_tls *tls = pki_client(&root, "h2");
    scene_init(&scene);
    dial(&scene, (struct rig_dial_options){
                     .address = at(&scene, "127.0.0.1"), .tls = tls, .timeout_ms = 60});
    loop_until(&scene.loop, scene.is_done);
    assert_int_equal(scene.err, UV_ETIMEDOUT);
    assert_int_equal(scene.stage, RIG_DIAL_TLS);
    assert_non_null(strstr(scene.why.text, "cannot complete the TLS handshake with 127.0.0.1:"));
    rig_tls_free(tls);
    pki_root_deinit(&root);
    scene_deinit(&scene);

    /* Connect: a full backlog drops the SYN. */
    scene_init(&scene);
    int full = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(name);
    assert_int_equal(bind(full, (struct sockaddr *)&name, len), 0);
    assert_int_equal(listen(full, 0), 0);
    getsockname(full, (struct sockaddr *)&name, &len);
    int fillers[4];
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&name, len);
    }
    snprintf(scene.address, sizeof(scene.address), "127.0.0.1:%u", ntohs(name.sin_port));
    dial(&scene, (struct rig_dial_options){.address = scene.address, .timeout_ms = 60});
    loop_until(&scene.loop, scene.is_done);
    assert_int_equal(scene.err, UV_ETIMEDOUT);
    assert_int_equal(scene.stage, RIG_DIAL_CONNECT);
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(full);
    scene_deinit(&scene);
}

static void on_work(uv_work_t *work)
{
    (void)work;
}

static void on_worked(uv_work_t *work, int status)
{
    assert_int_equal(status, 0);
    ((struct scene *)work->data)->is_worked = true;
}

/* Two threads, and names that do not come: keys must still be made (and the reverse). */
static void resolver_that_hangs_does_not_delay_the_pool(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    resolver_hangs = true;
    struct rig_dial *dials[4];
    for (int i = 0; i < 4; i++)
        dials[i] = dial(&scene, (struct rig_dial_options){.address = at(&scene, "slow.test")});
    resolver_entered(&scene);
    uv_work_t work = {.data = &scene};
    assert_int_equal(uv_queue_work(&scene.loop.uv, &work, on_work, on_worked), 0);
    loop_until(&scene.loop, scene.is_worked);
    assert_int_equal(resolver_inside, 1);
    for (int i = 0; i < 4; i++)
        rig_dial_cancel(dials[i]);
    resolver_release();
    loop_for(&scene.loop, 50);
    assert_false(scene.is_done);
    assert_int_equal(resolver_calls > 0, 1);
    scene_deinit(&scene);
}

static void cancel_at_any_stage_is_quiet(void **state)
{
    (void)state;
    struct pki_root root;
    pki_root_init(&root, "root");
    struct rig_tls *tls = pki_client(&root, NULL);
    struct scene scene;
    /* At once. */
    scene_init(&scene);
    rig_dial_cancel(dial(&scene, (struct rig_dial_options){.address = at(&scene, "127.0.0.1")}));
    loop_for(&scene.loop, 20);
    assert_false(scene.is_done);
    scene_deinit(&scene);
    /* While the resolver hangs; its answer finds nobody. */
    scene_init(&scene);
    resolver_hangs = true;
    struct rig_dial *it =
        dial(&scene, (struct rig_dial_options){.address = at(&scene, "slow.test")});
    resolver_entered(&scene);
    rig_dial_cancel(it);
    resolver_release();
    loop_for(&scene.loop, 20);
    assert_false(scene.is_done || scene.is_accepted);
    scene_deinit(&scene);
    /* In the handshake. */
    scene_init(&scene);
    it = dial(&scene, (struct rig_dial_options){.address = at(&scene, "127.0.0.1"), .tls = tls});
    loop_until(&scene.loop, scene.is_accepted);
    rig_dial_cancel(it);
    loop_for(&scene.loop, 20);
    assert_false(scene.is_done);
    scene_deinit(&scene);
    rig_tls_free(tls);
    pki_root_deinit(&root);
}

/* The settings' owner may replace them while a dial or a listener still uses the old ones. */
static void tls_settings_may_go_first(void **state)
{
    (void)state;
    struct pki_root root;
    struct pki_leaf leaf;
    pki_root_init(&root, "root");
    pki_leaf_init(&leaf, &root, (struct pki_want){.san = "IP:127.0.0.1"});
    struct scene scene = {0};
    loop_init(&scene.loop);
    struct rig_tls *server = pki_server(&leaf, "h2"), *client = pki_client(&root, "h2");
    struct rig_listener_options options = {
        .address = "127.0.0.1:0", .tls = server, .on_accept = on_accept, .ctx = &scene};
    assert_int_equal(rig_listener_open(&scene.loop.uv, &options, &scene.listener, NULL), 0);
    dial(&scene,
         (struct rig_dial_options){.address = rig_listener_address(scene.listener), .tls = client});
    rig_tls_free(server);
    rig_tls_free(client);
    pki_leaf_deinit(&leaf);
    pki_root_deinit(&root);
    loop_until(&scene.loop, scene.is_done && scene.is_accepted);
    assert_int_equal(scene.err, 0);
    scene_deinit(&scene);
}

RIG_TEST_MAIN(cmocka_unit_test(names_are_resolved_addresses_are_not),
              cmocka_unit_test(second_address_is_tried),
              cmocka_unit_test(refusal_names_host_and_address),
              cmocka_unit_test(unknown_name_fails_to_resolve),
              cmocka_unit_test(addresses_that_are_none_are_refused_at_once),
              cmocka_unit_test(deadline_covers_every_stage),
              cmocka_unit_test(resolver_that_hangs_does_not_delay_the_pool),
              cmocka_unit_test(cancel_at_any_stage_is_quiet),
              cmocka_unit_test(tls_settings_may_go_first))
