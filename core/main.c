/* SPDX-License-Identifier: Apache-2.0 */
/* core/main.c: argv -> role or command -> loop -> exit code; nothing else. */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

/* What holds for the whole process, before the first allocation of note. */
static void process_init(void)
{
    /* As process 1 of a container we have no default action for SIGTERM (signal(7)): block it
     * until the loop listens. */
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    signal(SIGPIPE, SIG_IGN);

    /* A closed standard stream would be the next socket's number, and the log would go there. */
    int null;
    do
        null = open("/dev/null", O_RDWR);
    while (null >= 0 && null <= STDERR_FILENO);
    if (null > STDERR_FILENO)
        close(null);

    /* A dump of ours would hold keys: memory stays out of it (core(5)). */
    int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t put = write(fd, "0x0", 3);
        (void)put;
        close(fd);
    }

    /* Two threads: one for a resolver that may hang (libuv gives resolvers at most half), one
     * for keys. One heap for all: an arena for each thread would cost memory for nothing.
     * Blocks that grow are mapped and go back at once; those of 64 KiB and less, which a large
     * push takes and frees thousands of times, stay in the heap. */
    setenv("UV_THREADPOOL_SIZE", "2", 0);
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 64 << 10);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* `outrigger WORD ...`: a command of core's, a role, a plugin's command, in this order. */
static int run_word(struct program *program, int argc, char **argv, struct rig_fault *why,
                    int *status)
{
    struct role role;
    int err = command_run_own(program, argc, argv, status);
    if (err != RIG_E_ABSENT)
        return err;
    err = role_find(program->role_dirs, argv[0], &program->arena, &role, why);
    if (err == 0)
        *status = program_run_role(program, &role, argc, argv);
    if (err != RIG_E_ABSENT)
        return err;
    err = command_run_plugin(program, argc, argv, status);
    if (err == RIG_E_ABSENT)
        rig_fault_set(why, err, "no role or command \"%s\"; `outrigger help` lists them", argv[0]);
    return err;
}

/* Called by another name: that name means a role, and only `version` is no word of it. */
static int run_called(struct program *program, int argc, char **argv, struct rig_fault *why,
                      int *status)
{
    struct role role;
    int err = role_find(program->role_dirs, base_name(argv[0]), &program->arena, &role, why);
    if (err < 0)
        return err;
    if (argc > 1 && strcmp(argv[1], "version") == 0)
        return command_run_own(program, argc - 1, argv + 1, status);
    *status = program_run_role(program, &role, argc, argv);
    return 0;
}

int main(int argc, char **argv)
{
    static char help[] = "help";
    char *no_words[] = {help, NULL};
    struct program program;
    struct rig_fault why = {0};
    int status = 0;
    process_init();
    int err = program_init(&program, argc, argv, &why);
    if (err == 0) {
        err = RIG_E_ABSENT;
        if (argc > 0 && strcmp(base_name(argv[0]), "outrigger") != 0)
            err = run_called(&program, argc, argv, &why, &status);
        if (err == RIG_E_ABSENT)
            err = run_word(&program, argc > 1 ? argc - 1 : 1, argc > 1 ? argv + 1 : no_words, &why,
                           &status);
    }
    if (err < 0) {
        fprintf(stderr, "outrigger: %s\n", why.text);
        status = 2;
    }
    program_deinit(&program);
    return status;
}
