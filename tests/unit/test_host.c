/* SPDX-License-Identifier: Apache-2.0 */
/* The life cycle, seen from plugins: order, services, failure, asynchronous stop. */
#include "tests/harness/test.h"

#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/dial.h"
#include "core/host.h"
#include "core/log.h"

static char trace[512];

static void note(const char *what, const char *who)
{
    snprintf(trace + strlen(trace), sizeof(trace) - strlen(trace), "%s%s %s",
             trace[0] != '\0' ? ", " : "", what, who);
}

struct probe {
    struct rig_host *host;
    uv_timer_t timer;
    rig_stopped_cb stopped;
    const char *name;
    struct rig_dial *dial;
};

static int probe_init(const char *name, struct rig_host *host, void **self)
{
    struct probe *probe = rig_new(struct probe);
    probe->host = host;
    probe->name = name;
    *self = probe;
    note("init", name);
    return 0;
}

static int a_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    (void)config, (void)why;
    return probe_init("a", host, self);
}

static int b_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    (void)config, (void)why;
    struct rig_provider provider;
    assert_int_equal(rig_service_provider(host, "greeting", 0, &provider), 0);
    assert_string_equal(provider.plugin, "a");
    assert_int_equal(rig_service_provider(host, "greeting", 1, &provider), RIG_E_ABSENT);
    return probe_init("b", host, self);
}

static int bad_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    (void)host, (void)config, (void)self;
    return rig_fault_set(why, RIG_E_RANGE, "the moon is full");
}

static int probe_start(void *self, struct rig_fault *why)
{
    (void)why;
    struct probe *probe = self;
    uv_timer_init(rig_host_loop(probe->host), &probe->timer);
    probe->timer.data = probe;
    note("start", probe->name);
    return 0;
}

static int bad_start(void *self, struct rig_fault *why)
{
    (void)self;
    return rig_fault_set(why, RIG_E_RANGE, "the port is taken");
}

static int leaving_start(void *self, struct rig_fault *why)
{
    struct probe *probe = self;
    int err = probe_start(self, why);
    rig_host_exit(probe->host, 7);
    rig_host_exit(probe->host, 9); /* the first decides */
    return err;
}

static int killed_start(void *self, struct rig_fault *why)
{
    int err = probe_start(self, why);
    raise(SIGTERM);
    return err;
}

static void on_closed(uv_handle_t *handle)
{
    struct probe *probe = handle->data;
    note("stopped", probe->name);
    probe->stopped(probe->host);
}

static void probe_stop(void *self, rig_stopped_cb stopped)
{
    struct probe *probe = self;
    probe->stopped = stopped;
    note("stop", probe->name);
    uv_close((uv_handle_t *)&probe->timer, on_closed);
}

static void probe_drain(void *self)
{
    note("drain", ((struct probe *)self)->name);
}

static void on_held_enough(uv_timer_t *timer)
{
    rig_host_exit(((struct probe *)timer->data)->host, 0);
}

static void holding_drain(void *self)
{
    struct probe *probe = self;
    probe_drain(self);
    rig_host_hold(probe->host);
    uv_timer_start(&probe->timer, on_held_enough, 20, 0);
}

static void probe_free(void *self)
{
    note("free", ((struct probe *)self)->name);
    rig_free(self);
}

static const struct rig_offer greeting_offer[] = {{"greeting", 1, "hello"}, {0}};
static const struct rig_need greeting_need[] = {{"greeting", 1, RIG_NEED_ONE}, {0}};

static struct rig_plugin plugin_a(void)
{
    return (struct rig_plugin){.abi = RIG_PLUGIN_ABI,
                               .size = sizeof(struct rig_plugin),
                               .name = "a",
                               .offers = greeting_offer,
                               .init = a_init,
                               .start = probe_start,
                               .drain = probe_drain,
                               .stop = probe_stop,
                               .free = probe_free};
}

static struct rig_plugin plugin_b(void)
{
    struct rig_plugin b = plugin_a();
    b.name = "b";
    b.offers = NULL;
    b.needs = greeting_need;
    b.init = b_init;
    return b;
}

/* b is configured first and needs a: a comes first all the same. */
static int run(struct rig_plugin *b, struct rig_plugin *a)
{
    struct rig_fault why = {0};
    struct rig_host *host = host_new();
    struct rig_plugin *all[] = {b, a};
    trace[0] = '\0';
    rig_log_configure("none", false, "stderr", NULL);
    for (size_t i = 0; i < 2; i++) {
        struct loaded loaded = {0};
        assert_int_equal(loader_adopt(all[i], all[i]->name, &loaded, &why), 0);
        host_add(host, &loaded);
    }
    assert_int_equal(host_configure(host, &why), 0);
    host_failure_status(host, 3);
    int status = host_run(host);
    if (!host_free(host))
        _exit(status); /* as the program does */
    return status;
}

static void order_follows_needs_and_ends_in_reverse(void **state)
{
    (void)state;
    struct rig_plugin a = plugin_a(), b = plugin_b();
    b.start = leaving_start;
    assert_int_equal(run(&b, &a), 7);
    assert_string_equal(trace, "init a, init b, start a, start b, stop b, stopped b, stop a, "
                               "stopped a, free b, free a");
}

static void signal_drains_before_it_stops(void **state)
{
    (void)state;
    struct rig_plugin a = plugin_a(), b = plugin_b();
    b.start = killed_start;
    assert_int_equal(run(&b, &a), 0);
    assert_string_equal(trace, "init a, init b, start a, start b, drain b, drain a, stop b, "
                               "stopped b, stop a, stopped a, free b, free a");
}

static void hold_delays_the_stop_until_exit(void **state)
{
    (void)state;
    struct rig_plugin a = plugin_a(), b = plugin_b();
    b.start = killed_start;
    a.drain = holding_drain;
    assert_int_equal(run(&b, &a), 0);
    assert_non_null(strstr(trace, "drain b, drain a, stop b"));
}

static void failed_init_frees_what_came_before(void **state)
{
    (void)state;
    struct rig_plugin a = plugin_a(), b = plugin_b();
    b.init = bad_init;
    assert_int_equal(run(&b, &a), 3);
    assert_string_equal(trace, "init a, free a");
}

static void failed_start_stops_what_came_before(void **state)
{
    (void)state;
    struct rig_plugin a = plugin_a(), b = plugin_b();
    b.start = bad_start;
    assert_int_equal(run(&b, &a), 3);
    assert_string_equal(trace, "init a, init b, start a, stop a, stopped a, free b, free a");
}

/* This getaddrinfo is the one that libuv's pool calls: it answers after the test's patience. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **result)
{
    (void)host, (void)port, (void)hints, (void)result;
    for (;;)
        pause();
}

static void on_dialled(void *ctx, int err, enum rig_dial_stage stage, const struct rig_fault *why,
                       struct rig_stream *stream)
{
    (void)ctx, (void)err, (void)stage, (void)why, (void)stream;
    abort();
}

static int dialling_start(void *self, struct rig_fault *why)
{
    struct probe *probe = self;
    const struct rig_dial_options options = {.address = "never.test:443"};
    assert_int_equal(
        rig_dial_start(rig_host_loop(probe->host), &options, on_dialled, NULL, &probe->dial, why),
        0);
    return probe_start(self, why);
}

static void on_resolving(uv_timer_t *timer)
{
    rig_host_exit(((struct probe *)timer->data)->host, 7);
}

static int soon_leaving_start(void *self, struct rig_fault *why)
{
    struct probe *probe = self;
    int err = probe_start(self, why);
    uv_timer_start(&probe->timer, on_resolving, 50, 0); /* a thread of the pool hangs by now */
    return err;
}

static void dialling_stop(void *self, rig_stopped_cb stopped)
{
    rig_dial_cancel(((struct probe *)self)->dial);
    probe_stop(self, stopped);
}

static void resolver_that_hangs_does_not_keep_the_program(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rig_plugin a = plugin_a(), b = plugin_b();
        a.start = dialling_start;
        a.stop = dialling_stop;
        b.start = soon_leaving_start;
        run(&b, &a);
        _exit(99); /* freed although the pool was at work */
    }
    int status = 0;
    for (int waited_ms = 0; waited_ms < 20000; waited_ms += 10) {
        if (waitpid(child, &status, WNOHANG) == child) {
            assert_true(WIFEXITED(status));
            assert_int_equal(WEXITSTATUS(status), 7);
            return;
        }
        usleep(10000);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    fail_msg("the program does not end");
}

static int order(struct rig_plugin *plugins, size_t count, struct rig_fault *why)
{
    struct loaded loaded[4] = {0};
    size_t out[4];
    for (size_t i = 0; i < count; i++)
        assert_int_equal(loader_adopt(&plugins[i], plugins[i].name, &loaded[i], why), 0);
    return loader_order(loaded, count, out, why);
}

static void need_without_provider_is_named(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    struct rig_plugin b = plugin_b();
    assert_int_equal(order(&b, 1, &why), RIG_E_PLUGIN);
    assert_string_equal(why.text, "plugin b: needs service greeting (version 1), which no loaded "
                                  "plugin offers; add one that does to `plugins`");
}

static void circle_is_named(void **state)
{
    (void)state;
    static const struct rig_offer answer_offer[] = {{"answer", 1, "x"}, {0}};
    static const struct rig_need answer_need[] = {{"answer", 1, RIG_NEED_EACH}, {0}};
    struct rig_fault why = {0};
    struct rig_plugin two[] = {plugin_a(), plugin_b()};
    two[0].needs = answer_need;
    two[1].offers = answer_offer;
    assert_int_equal(order(two, 2, &why), RIG_E_PLUGIN);
    assert_string_equal(why.text, "plugins need each other in a circle: a needs b needs a");
}

static void two_providers_of_one_are_named(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    struct rig_plugin three[] = {plugin_a(), plugin_b(), plugin_a()};
    three[2].name = "c";
    assert_int_equal(order(three, 3, &why), RIG_E_PLUGIN);
    assert_string_equal(why.text,
                        "plugin b: needs one service greeting, and both a and c offer it");
}

static void other_abi_is_refused_with_both_numbers(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    struct loaded loaded = {0};
    struct rig_plugin a = plugin_a();
    a.abi = 77;
    assert_int_equal(loader_adopt(&a, "a", &loaded, &why), RIG_E_PLUGIN);
    assert_non_null(strstr(why.text, "plugin a: made for plugin interface 77, this program has 1"));
}

static void smaller_table_reads_as_zero_at_its_end(void **state)
{
    (void)state;
    struct loaded loaded = {0};
    struct rig_plugin a = plugin_a();
    a.size = offsetof(struct rig_plugin, status);
    a.status = (void (*)(void *, struct rig_arena *, struct rig_doc *))(uintptr_t)1;
    assert_int_equal(loader_adopt(&a, "a", &loaded, NULL), 0);
    assert_null(loaded.plugin.status);
}

RIG_TEST_MAIN(cmocka_unit_test(order_follows_needs_and_ends_in_reverse),
              cmocka_unit_test(signal_drains_before_it_stops),
              cmocka_unit_test(hold_delays_the_stop_until_exit),
              cmocka_unit_test(failed_init_frees_what_came_before),
              cmocka_unit_test(failed_start_stops_what_came_before),
              cmocka_unit_test(resolver_that_hangs_does_not_keep_the_program),
              cmocka_unit_test(need_without_provider_is_named), cmocka_unit_test(circle_is_named),
              cmocka_unit_test(two_providers_of_one_are_named),
              cmocka_unit_test(other_abi_is_refused_with_both_numbers),
              cmocka_unit_test(smaller_table_reads_as_zero_at_its_end))
