/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/state.c: see state.h.
 *
 * root-cert.pem is written last, so its presence says that the rest is there too; without it
 * nothing can have been issued, and everything is made anew. A lock on the directory keeps two
 * first starts apart. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/clock.h"

#define PATH_BYTES    4096
#define PEM_BYTES_MAX 65536

enum state_file { ROOT_KEY, TOKEN_KEY, ROOT_CERT, FILE_COUNT };

static const char *const file_names[FILE_COUNT] = {"root-key.pem", "token-key.pem",
                                                   "root-cert.pem"};

struct paths {
    char of[FILE_COUNT][PATH_BYTES];
};

static int set_paths(struct paths *paths, const char *dir, struct rig_fault *why)
{
    for (int i = 0; i < FILE_COUNT; i++) {
        int len = snprintf(paths->of[i], PATH_BYTES, "%s/%s", dir, file_names[i]);
        if (len < 0 || len >= PATH_BYTES)
            return rig_fault_set(why, RIG_E_TOO_LARGE, "the state directory's name is too long");
    }
    return 0;
}

static int check_private(const char *path, struct rig_fault *why)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return rig_fault_set(why, -errno, "%s: %s", path, rig_error_text(-errno));
    if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return rig_fault_set(why, RIG_E_AUTH, "%s: its mode %04o lets others read it: chmod 600 it",
                             path, (unsigned)(info.st_mode & 07777));
    return 0;
}

static int read_key(const char *path, EVP_PKEY **key, struct rig_fault *why)
{
    struct rig_secret pem = {0};
    int err = check_private(path, why);
    if (err == 0)
        err = rig_secret_read_file(&pem, path, PEM_BYTES_MAX, why);
    if (err == 0) {
        err = authority_key_read(rig_secret_slice(&pem), key, why);
        if (err < 0)
            rig_fault_prefix(why, err, "%s", path);
    }
    rig_secret_deinit(&pem);
    return err;
}

static int write_key(const char *path, EVP_PKEY *key, struct rig_fault *why)
{
    struct rig_secret pem = {0};
    int err = authority_key_write(key, &pem, why);
    if (err == 0) {
        err = rig_file_replace(path, rig_secret_slice(&pem), 0600);
        if (err < 0)
            rig_fault_set(why, err, "%s: %s", path, rig_error_text(err));
    }
    rig_secret_deinit(&pem);
    return err;
}

static int make_content(const struct paths *paths, struct rig_fault *why)
{
    EVP_PKEY *root_key = NULL, *token_key = NULL;
    struct rig_buf cert = {0};
    int err = authority_key_new(&root_key, why);
    if (err == 0)
        err = authority_key_new(&token_key, why);
    if (err == 0)
        err = authority_root_make(root_key, rig_clock_wall_s(), &cert, why);
    if (err == 0)
        err = write_key(paths->of[ROOT_KEY], root_key, why);
    if (err == 0)
        err = write_key(paths->of[TOKEN_KEY], token_key, why);
    if (err == 0) {
        err = rig_file_replace(paths->of[ROOT_CERT], rig_buf_slice(&cert), 0644);
        if (err < 0)
            rig_fault_set(why, err, "%s: %s", paths->of[ROOT_CERT], rig_error_text(err));
    }
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(token_key);
    rig_buf_deinit(&cert);
    return err;
}

static int read_content(const struct paths *paths, struct state *state, struct rig_fault *why)
{
    EVP_PKEY *root_key = NULL;
    struct rig_buf cert = {0};
    int err = rig_buf_read_file(&cert, paths->of[ROOT_CERT], PEM_BYTES_MAX);
    if (err < 0)
        rig_fault_set(why, err, "%s: %s", paths->of[ROOT_CERT], rig_error_text(err));
    if (err == 0)
        err = read_key(paths->of[ROOT_KEY], &root_key, why);
    if (err == 0) {
        err = authority_init(&state->authority, root_key, rig_buf_slice(&cert), rig_clock_wall_s(),
                             why);
        if (err < 0)
            rig_fault_prefix(why, err, "%s", paths->of[ROOT_CERT]);
    }
    if (err == 0)
        err = read_key(paths->of[TOKEN_KEY], &state->token_key, why);
    rig_buf_deinit(&cert);
    return err;
}

/* Who may write the directory may put a root of his own there. */
static int check_directory(int fd, const char *dir, struct rig_fault *why)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return rig_fault_set(why, -errno, "%s: %s", dir, rig_error_text(-errno));
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return rig_fault_set(why, RIG_E_AUTH, "%s: its mode %04o lets others write: chmod 700 it",
                             dir, (unsigned)(info.st_mode & 07777));
    return 0;
}

/* The directory, made and locked; closing the descriptor unlocks it. */
static int open_locked(const char *dir, struct rig_fault *why)
{
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return rig_fault_set(why, -errno, "%s: cannot be made: %s", dir, rig_error_text(-errno));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rig_fault_set(why, -errno, "%s: %s", dir, rig_error_text(-errno));
    int err = check_directory(fd, dir, why);
    while (err == 0 && flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            err =
                rig_fault_set(why, -errno, "%s: cannot be locked: %s", dir, rig_error_text(-errno));
    if (err < 0)
        close(fd);
    return err < 0 ? err : fd;
}

int state_init(struct state *state, const char *dir, struct rig_fault *why)
{
    *state = (struct state){0};
    struct paths *paths = rig_new(struct paths);
    int err = set_paths(paths, dir, why);
    int fd = err < 0 ? err : open_locked(dir, why);
    if (fd < 0) {
        err = fd;
        goto out;
    }
    if (access(paths->of[ROOT_CERT], F_OK) < 0 && errno == ENOENT) {
        state->is_new = true;
        err = make_content(paths, why);
    }
    if (err == 0)
        err = read_content(paths, state, why);
    close(fd);
out:
    if (err < 0)
        state_deinit(state);
    rig_free(paths);
    return err;
}

void state_deinit(struct state *state)
{
    authority_deinit(&state->authority);
    EVP_PKEY_free(state->token_key);
    *state = (struct state){0};
}
