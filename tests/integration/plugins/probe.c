/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that says what is done with it, and does wrong what the test wants it to. Compiled by
 * test_loader.py with -DPROBE=name and some of: PROBE_ABI, PROBE_SIZE, PROBE_TITLE, PROBE_SYMBOL,
 * PROBE_OFFERS, PROBE_NEEDS, PROBE_NEED_KIND, PROBE_FAIL_INIT, PROBE_FAIL_START, PROBE_STOP_MS,
 * PROBE_HOLDS. */
#include <stdlib.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/plugin.h"

#define TEXT_OF(word) #word
#define TEXT(word)    TEXT_OF(word)
#define JOIN_OF(a, b) a##b
#define JOIN(a, b)    JOIN_OF(a, b)

#ifndef PROBE_ABI
#define PROBE_ABI RIG_PLUGIN_ABI
#endif
#ifndef PROBE_SIZE
#define PROBE_SIZE sizeof(struct rig_plugin)
#endif
#ifndef PROBE_TITLE
#define PROBE_TITLE TEXT(PROBE)
#endif
#ifndef PROBE_SYMBOL
#define PROBE_SYMBOL JOIN(PROBE, _plugin)
#endif
#ifndef PROBE_NEED_KIND
#define PROBE_NEED_KIND RIG_NEED_ONE
#endif
#ifndef PROBE_STOP_MS
#define PROBE_STOP_MS 0
#endif

#define say(what) rig_log_info("probe", "%s %s", TEXT(PROBE), what)

struct config {
    const char *word;
    uint64_t count;
};

struct probe {
    struct rig_host *host;
    rig_stopped_cb stopped;
    uv_timer_t timer;
};

static int probe_init(struct rig_host *host, const void *config, void **self, struct rig_fault *why)
{
    const struct config *own = config;
    rig_log_info("probe", "%s init word=%s count=%d", TEXT(PROBE), own->word, (int)own->count);
#ifdef PROBE_FAIL_INIT
    (void)host;
    (void)self;
    return rig_fault_set(why, RIG_E_RANGE, "it does not want to be initialised");
#else
    (void)why;
    struct probe *probe = rig_new(struct probe);
    probe->host = host;
    *self = probe;
    return 0;
#endif
}

static int probe_start(void *self, struct rig_fault *why)
{
    say("start");
#ifdef PROBE_FAIL_START
    (void)self;
    return rig_fault_set(why, RIG_E_RANGE, "it does not want to start");
#else
    (void)why;
    struct probe *probe = self;
    return uv_timer_init(rig_host_loop(probe->host), &probe->timer);
#endif
}

static void probe_drain(void *self)
{
    say("drain");
#ifdef PROBE_HOLDS
    rig_host_hold(((struct probe *)self)->host);
#else
    (void)self;
#endif
}

static void on_closed(uv_handle_t *handle)
{
    struct probe *probe = rig_container(handle, struct probe, timer);
    say("stopped");
    probe->stopped(probe->host);
}

static void on_timer(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer, on_closed);
}

static void probe_stop(void *self, rig_stopped_cb stopped)
{
    struct probe *probe = self;
    say("stop");
    probe->stopped = stopped;
    uv_timer_start(&probe->timer, on_timer, PROBE_STOP_MS, 0);
}

static void probe_free(void *self)
{
    say("free");
    rig_free(self);
}

static const struct rig_option options[] = {
    RIG_OPT(STRING, struct config, word, "word", "none", NULL, "probe-word", "Any word"),
    RIG_OPT_IN(UINT, struct config, count, "count", "3", 1, 9, "PROBE_COUNT", NULL, "A digit"),
    {0},
};

#ifdef PROBE_OFFERS
static const struct rig_offer offers[] = {{PROBE_OFFERS, 1, ""}, {0}};
#endif
#ifdef PROBE_NEEDS
static const struct rig_need needs[] = {{PROBE_NEEDS, 1, PROBE_NEED_KIND}, {0}};
#endif

RIG_EXPORT const struct rig_plugin PROBE_SYMBOL = {
    .abi = PROBE_ABI,
    .size = PROBE_SIZE,
    .name = PROBE_TITLE,
    .about = "Says what is done with it",
    .version = "7.8.9",
    .config_size = sizeof(struct config),
    .options = options,
#ifdef PROBE_OFFERS
    .offers = offers,
#endif
#ifdef PROBE_NEEDS
    .needs = needs,
#endif
    .init = probe_init,
    .start = probe_start,
    .drain = probe_drain,
    .stop = probe_stop,
    .free = probe_free,
};
