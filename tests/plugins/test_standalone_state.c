/* SPDX-License-Identifier: Apache-2.0 */
/* The state directory: made once, kept, and refused when it cannot be trusted. */
#include "tests/harness/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/buf.h"

#include "plugins/standalone/state.h"

static char dir[64];

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static int make_dir(void **state)
{
    (void)state;
    char temporary[] = "/tmp/outrigger-test-XXXXXX";
    if (mkdtemp(temporary) == NULL)
        return -1;
    snprintf(dir, sizeof(dir), "%s/state", temporary);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    static const char *const names[] = {"root-key.pem", "root-cert.pem", "token-key.pem"};
    for (size_t i = 0; i < 3; i++)
        unlink(path_of(names[i]));
    rmdir(dir);
    *strrchr(dir, '/') = '\0';
    return rmdir(dir); /* nothing else was left in there */
}

static unsigned mode_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static void init(struct state *made)
{
    struct rig_fault why = {0};
    int err = state_init(made, dir, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
}

static void assert_refused(const char *sentence)
{
    struct state made;
    struct rig_fault why = {0};
    assert_true(state_init(&made, dir, &why) < 0);
    assert_null(made.token_key);
    char expected[256];
    snprintf(expected, sizeof(expected), "%s%s", dir, sentence);
    assert_memory_equal(why.text, expected, strlen(expected));
}

static void first_call_makes_and_second_reads(void **state)
{
    (void)state;
    struct state first, second;
    init(&first);
    assert_true(first.is_new);
    assert_int_equal(mode_of(dir), 0700);
    assert_int_equal(mode_of(path_of("root-key.pem")), 0600);
    assert_int_equal(mode_of(path_of("token-key.pem")), 0600);
    assert_int_equal(mode_of(path_of("root-cert.pem")), 0644);

    init(&second);
    assert_false(second.is_new);
    assert_true(rig_slice_equal(rig_buf_slice(&first.authority.root_pem),
                                rig_buf_slice(&second.authority.root_pem)));
    assert_int_equal(EVP_PKEY_eq(first.token_key, second.token_key), 1);
    assert_int_not_equal(EVP_PKEY_eq(first.token_key, first.authority.key), 1);

    struct rig_buf cert = {0};
    assert_int_equal(rig_buf_read_file(&cert, path_of("root-cert.pem"), 65536), 0);
    assert_true(rig_slice_equal(rig_buf_slice(&first.authority.root_pem), rig_buf_slice(&cert)));
    rig_buf_deinit(&cert);
    state_deinit(&first);
    state_deinit(&second);
}

/* A first start that was cut off: without root-cert.pem nothing can have been issued. */
static void half_made_directory_is_made_anew(void **state)
{
    (void)state;
    struct state made, again;
    init(&made);
    assert_int_equal(unlink(path_of("root-cert.pem")), 0);
    init(&again);
    assert_true(again.is_new);
    assert_int_not_equal(EVP_PKEY_eq(made.authority.key, again.authority.key), 1);
    state_deinit(&made);
    state_deinit(&again);
}

static void two_first_starts_agree(void **state)
{
    (void)state;
    enum { PROCESSES = 6 };
    pid_t children[PROCESSES];
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            char octet;
            struct state made;
            close(gate[1]);
            if (read(gate[0], &octet, 1) != 0) /* all start together, at its end */
                _exit(99);
            int err = state_init(&made, dir, NULL);
            _exit(err < 0 ? 98 : made.is_new);
        }
    }
    close(gate[0]);
    close(gate[1]);
    int makers = 0;
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        makers += WEXITSTATUS(status);
    }
    assert_int_equal(makers, 1);
}

static void open_files_are_refused(void **state)
{
    (void)state;
    struct state made;
    init(&made);
    state_deinit(&made);
    assert_int_equal(chmod(path_of("token-key.pem"), 0640), 0);
    assert_refused("/token-key.pem: its mode 0640 lets others read it: chmod 600 it");
    assert_int_equal(chmod(path_of("token-key.pem"), 0600), 0);
    assert_int_equal(chmod(path_of("root-key.pem"), 0604), 0);
    assert_refused("/root-key.pem: its mode 0604 lets others read it: chmod 600 it");
    assert_int_equal(chmod(path_of("root-key.pem"), 0600), 0);
    assert_int_equal(chmod(dir, 0770), 0);
    assert_refused(": its mode 0770 lets others write: chmod 700 it");
    assert_int_equal(chmod(dir, 0755), 0);
    init(&made);
    state_deinit(&made);
}

static void lost_and_broken_files_are_refused(void **state)
{
    (void)state;
    struct state made;
    init(&made);
    state_deinit(&made);
    assert_int_equal(rig_file_replace(path_of("token-key.pem"), RIG_SLICE("rubbish"), 0600), 0);
    assert_refused("/token-key.pem: no private key in PEM");
    assert_int_equal(unlink(path_of("token-key.pem")), 0);
    assert_refused("/token-key.pem: no such file or directory");
    assert_int_equal(rig_file_replace(path_of("root-cert.pem"), RIG_SLICE("rubbish"), 0644), 0);
    assert_refused("/root-cert.pem: no certificate in PEM");
}

static void unusable_directories_are_refused(void **state)
{
    (void)state;
    struct state made;
    struct rig_fault why = {0};
    assert_true(state_init(&made, "/dev/null/state", &why) < 0);
    assert_string_equal(why.text, "/dev/null/state: cannot be made: not a directory");
    assert_true(state_init(&made, "/dev/null", &why) < 0);
    assert_string_equal(why.text, "/dev/null: not a directory");
    char *longest = malloc(5000);
    memset(longest, 'a', 4999);
    longest[4999] = '\0';
    assert_int_equal(state_init(&made, longest, &why), RIG_E_TOO_LARGE);
    free(longest);
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(first_call_makes_and_second_reads, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(half_made_directory_is_made_anew, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(two_first_starts_agree, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(open_files_are_refused, make_dir, remove_dir),
    cmocka_unit_test_setup_teardown(lost_and_broken_files_are_refused, make_dir, remove_dir),
    cmocka_unit_test(unusable_directories_are_refused))
