/* SPDX-License-Identifier: Apache-2.0 */
/* tests/harness/loop.h: a loop that runs until something has happened, with a deadline, and that
 * must be empty at the end: a handle left open fails the test. */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include <uv.h>

#include "test.h"

/* For sanitizers on a busy machine: an event that comes costs nothing, one that does not this. */
#define LOOP_DEADLINE_MS 30000

struct test_loop {
    uv_loop_t uv;
    uv_timer_t watchdog;
    bool is_late;
};

static inline void loop_on_late(uv_timer_t *timer)
{
    ((struct test_loop *)timer->data)->is_late = true;
}

static inline void loop_init(struct test_loop *loop)
{
    signal(SIGPIPE, SIG_IGN); /* as the program does: OpenSSL writes without MSG_NOSIGNAL */
    *loop = (struct test_loop){.is_late = false};
    assert_int_equal(uv_loop_init(&loop->uv), 0);
    uv_timer_init(&loop->uv, &loop->watchdog);
    loop->watchdog.data = loop;
}

#define loop_until(loop, condition)                                                                \
    do {                                                                                           \
        (loop)->is_late = false;                                                                   \
        uv_update_time(&(loop)->uv);                                                               \
        uv_timer_start(&(loop)->watchdog, loop_on_late, LOOP_DEADLINE_MS, 0);                      \
        while (!(condition) && !(loop)->is_late)                                                   \
            uv_run(&(loop)->uv, UV_RUN_ONCE);                                                      \
        uv_timer_stop(&(loop)->watchdog);                                                          \
        assert_true(condition);                                                                    \
    } while (0)

/* Runs for so long whatever happens: for showing that something does *not* happen. */
static inline void loop_for(struct test_loop *loop, uint64_t ms)
{
    loop->is_late = false;
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->watchdog, loop_on_late, ms, 0);
    while (!loop->is_late)
        uv_run(&loop->uv, UV_RUN_ONCE);
    uv_timer_stop(&loop->watchdog);
}

static inline void loop_deinit(struct test_loop *loop)
{
    uv_close((uv_handle_t *)&loop->watchdog, NULL);
    for (int i = 0; i < 100; i++)
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&loop->uv), 0);
}
