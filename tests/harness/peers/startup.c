/* SPDX-License-Identifier: Apache-2.0 */
/* startup: how long after its exec an agent can be reached, seen from outside.
 *
 *   startup XDS-SOCKET SDS-SOCKET STAMP-FILE -- AGENT ARGUMENT...
 *
 * Runs the agent, tries to connect to both sockets every 20 us, and prints
 * "xds_us N sds_us N envoy_us N": microseconds from just before the agent's exec. The agent is
 * told to use this same program as Envoy: called with "-c" it writes the time of its own start to
 * $RIG_STAMP_FILE and waits for its end. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_US 10000000

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int be_envoy(int64_t started_us)
{
    const char *path = getenv("RIG_STAMP_FILE");
    char temporary[4096];
    if (path == NULL)
        return 2;
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    FILE *file = fopen(temporary, "w");
    if (file == NULL)
        return 2;
    fprintf(file, "%" PRId64 "\n", started_us);
    fclose(file);
    rename(temporary, path);
    for (;;)
        pause();
}

static bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_there = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return is_there;
}

static int64_t read_stamp(const char *path)
{
    int64_t stamp = 0;
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%" SCNd64, &stamp) != 1)
            stamp = 0;
        fclose(file);
    }
    return stamp;
}

static int64_t launch(char **argv, pid_t *agent)
{
    int fds[2];
    int64_t exec_us = 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return 0;
    *agent = fork();
    if (*agent == 0) {
        int64_t now = now_us();
        if (write(fds[1], &now, sizeof(now)) == sizeof(now))
            execv(argv[0], argv);
        _exit(127);
    }
    if (read(fds[0], &exec_us, sizeof(exec_us)) != sizeof(exec_us))
        exec_us = 0;
    close(fds[0]);
    close(fds[1]);
    return exec_us;
}

int main(int argc, char **argv)
{
    int64_t started_us = now_us();
    if (argc > 1 && strcmp(argv[1], "-c") == 0)
        return be_envoy(started_us);
    if (argc < 6 || strcmp(argv[4], "--") != 0) {
        fprintf(stderr, "startup XDS-SOCKET SDS-SOCKET STAMP-FILE -- AGENT ARGUMENT...\n");
        return 2;
    }
    setenv("RIG_STAMP_FILE", argv[3], 1);
    pid_t agent = 0;
    int64_t exec_us = launch(argv + 5, &agent);
    if (agent <= 0 || exec_us == 0) {
        fprintf(stderr, "startup: %s cannot be run\n", argv[5]);
        return 1;
    }
    int64_t seen_us[3] = {0};
    while (now_us() < exec_us + LIMIT_US &&
           (seen_us[0] == 0 || seen_us[1] == 0 || seen_us[2] == 0)) {
        for (int i = 0; i < 2; i++) {
            if (seen_us[i] == 0 && answers(argv[1 + i]))
                seen_us[i] = now_us();
        }
        seen_us[2] = read_stamp(argv[3]);
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    int status = 0;
    kill(agent, SIGTERM);
    waitpid(agent, &status, 0);
    for (int i = 0; i < 3; i++) {
        if (seen_us[i] == 0) {
            fprintf(stderr, "startup: %s did not come\n", argv[1 + i]);
            return 1;
        }
    }
    printf("xds_us %" PRId64 " sds_us %" PRId64 " envoy_us %" PRId64 "\n", seen_us[0] - exec_us,
           seen_us[1] - exec_us, seen_us[2] - exec_us);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}
