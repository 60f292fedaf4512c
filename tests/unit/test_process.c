/* SPDX-License-Identifier: Apache-2.0 */
/* Children: exit status, signals, what cannot be started, and what dies with us. */
#include "tests/harness/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/process.h"

struct seen {
    int count;
    int64_t status;
    int signal;
};

static void on_exit_seen(void *ctx, int64_t exit_status, int number)
{
    struct seen *seen = ctx;
    seen->count++;
    seen->status = exit_status;
    seen->signal = number;
}

static int spawn(uv_loop_t *loop, const char *script, struct seen *seen, struct rig_process **out)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct rig_process_options options = {.argv = argv, .on_exit = on_exit_seen, .ctx = seen};
    return rig_process_open(loop, &options, out, NULL);
}

static void run(const char *script, struct seen *seen)
{
    uv_loop_t loop;
    struct rig_process *process;
    uv_loop_init(&loop);
    *seen = (struct seen){0};
    assert_int_equal(spawn(&loop, script, seen, &process), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void exit_status_and_signal_are_told_apart(void **state)
{
    (void)state;
    struct seen seen;
    run("exit 7", &seen);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.status, 7);
    assert_int_equal(seen.signal, 0);
    run("kill -KILL $$", &seen);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.signal, SIGKILL);
}

static void two_children_are_reaped_each(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct rig_process *first, *second;
    struct seen a = {0}, b = {0};
    uv_loop_init(&loop);
    assert_int_equal(spawn(&loop, "exec sleep 60", &a, &first), 0);
    assert_int_equal(spawn(&loop, "exit 2", &b, &second), 0);
    while (b.count == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(a.count, 0);
    assert_int_equal(rig_process_signal(first, SIGTERM), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.signal, SIGTERM);
    assert_int_equal(b.status, 2);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void missing_file_is_an_error_at_once(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct rig_process *process;
    struct rig_fault why = {0};
    const char *argv[] = {"/nonexistent/program", NULL};
    struct rig_process_options options = {.argv = argv, .on_exit = on_exit_seen};
    uv_loop_init(&loop);
    assert_int_equal(rig_process_open(&loop, &options, &process, &why), UV_ENOENT);
    assert_string_equal(why.text, "/nonexistent/program: No such file or directory");
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* A parent of ours is killed; its child must follow. The pipe's end tells when both are gone. */
static void child_dies_with_its_parent(void **state)
{
    (void)state;
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t parent = fork();
    if (parent == 0) {
        uv_loop_t loop;
        struct rig_process *process;
        struct seen seen = {0};
        close(ends[0]);
        uv_loop_init(&loop);
        if (spawn(&loop, "exec sleep 600", &seen, &process) == 0)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    close(ends[1]);
    alarm(10); /* ends the test when the child lives on */
    assert_int_equal(read(ends[0], &byte, 1), 0);
    alarm(0);
    close(ends[0]);
    waitpid(parent, NULL, 0);
}

static bool is_hit; /* the child, before anything else runs in it */

static void on_fork_child(void)
{
    if (is_hit)
        raise(SIGUSR1);
}

static void on_usr1(uv_signal_t *signal, int number)
{
    (void)number;
    ++*(int *)signal->data;
}

/* A signal that only the child gets is none of ours: a second SIGTERM, say, would cut a drain. */
static void signal_of_the_child_stays_there(void **state)
{
    (void)state;
    uv_loop_t loop;
    uv_signal_t watched;
    struct rig_process *process;
    struct seen seen = {0};
    int heard = 0;
    uv_loop_init(&loop);
    uv_signal_init(&loop, &watched);
    watched.data = &heard;
    uv_signal_start(&watched, on_usr1, SIGUSR1);
    assert_int_equal(pthread_atfork(NULL, NULL, on_fork_child), 0);
    is_hit = true;
    assert_int_equal(spawn(&loop, "exit 0", &seen, &process), 0);
    is_hit = false;
    while (seen.count == 0)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(seen.signal, SIGUSR1);
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(heard, 0);
    /* Ours still come. */
    raise(SIGUSR1);
    while (heard == 0)
        uv_run(&loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&watched, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

RIG_TEST_MAIN(cmocka_unit_test(exit_status_and_signal_are_told_apart),
              cmocka_unit_test(two_children_are_reaped_each),
              cmocka_unit_test(missing_file_is_an_error_at_once),
              cmocka_unit_test(child_dies_with_its_parent),
              cmocka_unit_test(signal_of_the_child_stays_there))
