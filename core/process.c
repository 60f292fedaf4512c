/* SPDX-License-Identifier: Apache-2.0 */
/* core/process.c: fork and exec of our own, because uv_spawn gives no place between the two, where
 * PR_SET_PDEATHSIG and the child's core dump filter are set. SIGCHLD is watched per child. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloc.h"

/* proc(5): what a process dumps by default (anonymous private and shared, ELF headers, ...). */
#define DUMP_FILTER_DEFAULT "0x33"

struct rig_process {
    uv_signal_t on_child;
    pid_t pid;
    void (*on_exit)(void *ctx, int64_t exit_status, int signal);
    void *ctx;
    int status; /* of waitpid, once it is gone */
};

extern char **environ;

static void on_closed(uv_handle_t *handle)
{
    struct rig_process *process = handle->data;
    bool by_signal = WIFSIGNALED(process->status);
    process->on_exit(process->ctx, by_signal ? 0 : WEXITSTATUS(process->status),
                     by_signal ? WTERMSIG(process->status) : 0);
    rig_free(process);
}

static void reap(struct rig_process *process)
{
    if (process->pid <= 0)
        return;
    pid_t gone;
    do
        gone = waitpid(process->pid, &process->status, WNOHANG);
    while (gone < 0 && errno == EINTR);
    if (gone != process->pid)
        return;
    process->pid = 0;
    uv_close((uv_handle_t *)&process->on_child, on_closed);
}

static void on_sigchld(uv_signal_t *handle, int number)
{
    (void)number;
    reap(handle->data);
}

/* Async-signal-safe only: the parent may have threads. Does not return. */
static _Noreturn void child(const struct rig_process_options *options, pid_t parent, int report)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < 32; number++) {
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL);
    }
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* the parent died before the line above */
    int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t put = write(fd, DUMP_FILTER_DEFAULT, sizeof(DUMP_FILTER_DEFAULT) - 1);
        (void)put; /* without it the child dumps less; it runs all the same */
        close(fd);
    }
    char **envp = options->envp != NULL ? (char **)(uintptr_t)options->envp : environ;
    execve(options->argv[0], (char **)(uintptr_t)options->argv, envp);
    int error = errno;
    ssize_t put = write(report, &error, sizeof(error));
    (void)put;
    _exit(127);
}

/* 0 when exec has happened, the child's errno (negative) otherwise. */
static int exec_result(int report)
{
    int error = 0;
    ssize_t got;
    do
        got = read(report, &error, sizeof(error));
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(error) ? -error : 0;
}

int rig_process_open(uv_loop_t *loop, const struct rig_process_options *options,
                     struct rig_process **out, struct rig_fault *why)
{
    *out = NULL;
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return rig_fault_set(why, -errno, "%s: %s", options->argv[0], strerror(errno));
    pid_t parent = getpid();
    /* A signal that meets the child before its handlers are reset would run ours, which tells the
     * loop by a pipe that both share: the parent would see it, too, as its own. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        child(options, parent, report[1]);
    int err = pid < 0 ? -errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (err == 0)
        err = exec_result(report[0]);
    close(report[0]);
    if (err < 0) {
        if (pid > 0)
            waitpid(pid, NULL, 0);
        return rig_fault_set(why, err, "%s: %s", options->argv[0], strerror(-err));
    }
    struct rig_process *process = rig_new(struct rig_process);
    process->pid = pid;
    process->on_exit = options->on_exit;
    process->ctx = options->ctx;
    process->on_child.data = process;
    rig_require(uv_signal_init(loop, &process->on_child) == 0);
    err = uv_signal_start(&process->on_child, on_sigchld, SIGCHLD);
    rig_require(err == 0);
    *out = process;
    /* It may have ended before SIGCHLD was watched; raise is how the loop hears of it. */
    raise(SIGCHLD);
    return 0;
}

pid_t rig_process_pid(const struct rig_process *process)
{
    return process->pid;
}

int rig_process_signal(struct rig_process *process, int number)
{
    if (process->pid <= 0)
        return UV_ESRCH;
    return kill(process->pid, number) < 0 ? -errno : 0;
}
