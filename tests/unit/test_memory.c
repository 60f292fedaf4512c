/* SPDX-License-Identifier: Apache-2.0 */
/* alloc, buf, arena, secret, fault, backoff, log: the base. */
#include "tests/harness/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "core/alloc.h"
#include "core/arena.h"
#include "core/backoff.h"
#include "core/buf.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/secret.h"

static void capped_size_has_an_error(void **state)
{
    (void)state;
    void *block;
    assert_int_equal(rig_alloc_capped(11, 10, &block), RIG_E_TOO_LARGE);
    assert_null(block);
    assert_int_equal(rig_alloc_capped(10, 10, &block), 0);
    rig_free(block);
}

/* A queue against a plain model of it, over many sizes. */
static void buf_is_a_queue(void **state)
{
    (void)state;
    struct rig_buf buf = {0};
    uint8_t next_in = 0, next_out = 0;
    unsigned seed = 1;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1103515245u + 12345u;
        size_t n = (seed >> 16) % 300;
        if ((seed >> 8) % 2 == 0) {
            for (size_t j = 0; j < n; j++, next_in++)
                rig_buf_append(&buf, &next_in, 1);
        } else {
            n = n < buf.len ? n : buf.len;
            for (size_t j = 0; j < n; j++)
                assert_int_equal(buf.at[j], next_out++);
            rig_buf_consume(&buf, n);
        }
    }
    rig_buf_deinit(&buf);
}

/* What a secret buf has let go of cannot be read in its block any more. */
static void secret_buf_wipes_behind_itself(void **state)
{
    (void)state;
    struct rig_buf buf = {.is_secret = true};
    unsigned seed = 1;
    uint8_t octets[300];
    memset(octets, 'k', sizeof(octets));
    for (int i = 0; i < 2000; i++) {
        seed = seed * 1103515245u + 12345u;
        size_t n = (seed >> 16) % sizeof(octets);
        if ((seed >> 8) % 2 == 0)
            rig_buf_append(&buf, octets, n);
        else
            rig_buf_consume(&buf, n < buf.len ? n : buf.len);
        for (const uint8_t *at = buf.block; at < buf.at; at++)
            assert_int_equal(*at, 0);
        for (size_t j = 0; j < buf.len; j++)
            assert_int_equal(buf.at[j], 'k');
    }
    rig_buf_deinit(&buf);
    assert_true(buf.is_secret);

    rig_buf_append(&buf, octets, 60); /* of 64 */
    rig_buf_consume(&buf, 50);
    rig_buf_append(&buf, octets, 20); /* moves down instead of growing */
    assert_ptr_equal(buf.at, buf.block);
    for (size_t j = 30; j < 60; j++)
        assert_int_equal(buf.block[j], 0);
    rig_buf_clear(&buf);
    for (size_t j = 0; j < 60; j++)
        assert_int_equal(buf.block[j], 0);
    rig_buf_deinit(&buf);
}

static void buf_cap_is_kept_and_big_blocks_are_given_back(void **state)
{
    (void)state;
    struct rig_buf buf = {0};
    assert_int_equal(rig_buf_append_capped(&buf, "abc", 3, 4), 0);
    assert_int_equal(rig_buf_append_capped(&buf, "de", 2, 4), RIG_E_TOO_LARGE);
    assert_string_equal(rig_buf_text(&buf), "abc");
    rig_buf_commit(&buf, (rig_buf_reserve(&buf, 1 << 20), 1 << 20));
    rig_buf_consume(&buf, buf.len);
    assert_null(buf.block);
    rig_buf_deinit(&buf);
}

static void files_are_replaced_whole(void **state)
{
    (void)state;
    char dir[] = "/tmp/rig-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    snprintf(path, sizeof(path), "%s/f", dir);
    struct rig_buf buf = {0};
    assert_int_equal(rig_file_replace(path, RIG_SLICE("one"), 0600), 0);
    assert_int_equal(rig_file_replace(path, RIG_SLICE("two"), 0600), 0);
    assert_int_equal(rig_buf_read_file(&buf, path, 3), 0);
    assert_string_equal(rig_buf_text(&buf), "two");
    rig_buf_clear(&buf);
    assert_int_equal(rig_buf_read_file(&buf, path, 2), RIG_E_TOO_LARGE);
    assert_int_equal(buf.len, 0);
    assert_int_equal(rig_buf_read_file(&buf, "/nonexistent/x", 2), UV_ENOENT);
    assert_int_equal(rig_file_replace("/nonexistent/x", RIG_SLICE("one"), 0600), UV_ENOENT);
    rig_buf_deinit(&buf);
    unlink(path);
    assert_int_equal(rmdir(dir), 0); /* no temporary was left */
}

static void arena_stops_at_its_budget(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, 100000);
    for (int i = 0; i < 100; i++)
        assert_non_null(rig_arena_alloc(&arena, 1 + (size_t)i * 7));
    assert_non_null(rig_arena_alloc(&arena, 30000));
    assert_null(rig_arena_alloc(&arena, 100000));
    assert_true(rig_arena_is_spent(&arena));
    assert_null(rig_arena_alloc(&arena, 1));
    rig_arena_deinit(&arena);
}

/* Whether any mapping of this process still holds the octets (beside `except`). */
static bool memory_holds(const char *needle, size_t len)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[512];
    bool found = false;
    while (fgets(line, sizeof(line), maps) != NULL && !found) {
        unsigned long from, to;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || strncmp(mode, "rw-p", 4) != 0 ||
            to - from > 64ul << 20 || strstr(line, "[stack]") != NULL)
            continue;
        char *copy = malloc(to - from);
        ssize_t got = pread(mem, copy, to - from, (off_t)from);
        found = got > 0 && memmem(copy, (size_t)got, needle, len) != NULL;
        memset(copy, 0, to - from);
        free(copy);
    }
    fclose(maps);
    close(mem);
    return found;
}

static void secret_is_wiped(void **state)
{
    (void)state;
    char text[32];
    struct rig_secret secret = {0};
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)('A' + (i * 7 + (size_t)getpid()) % 26);
    rig_secret_set(&secret, rig_slice(text, sizeof(text)));
    const uint8_t *at = secret.at;
    assert_memory_equal(at, text, sizeof(text));
    rig_secret_set(&secret, RIG_SLICE("other"));
    rig_secret_deinit(&secret);
    assert_null(secret.at);
    assert_false(memory_holds(text, sizeof(text)));
}

static void secret_file_is_trimmed_and_bounded(void **state)
{
    (void)state;
    char path[] = "/tmp/rig-test-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, " token\n\n", 8), 8);
    struct rig_secret secret = {0};
    struct rig_fault why = {0};
    assert_int_equal(rig_secret_read_file(&secret, path, 100, &why), 0);
    assert_true(rig_slice_is(rig_secret_slice(&secret), "token"));
    assert_int_equal(rig_secret_read_file(&secret, path, 7, &why), RIG_E_TOO_LARGE);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(rig_secret_read_file(&secret, path, 100, &why), RIG_E_ABSENT);
    assert_true(rig_slice_is(rig_secret_slice(&secret), "token")); /* the old one stays */
    rig_secret_deinit(&secret);
    close(fd);
    unlink(path);
    assert_int_equal(rig_secret_read_file(&secret, path, 100, &why), UV_ENOENT);
    assert_non_null(strstr(why.text, path));
}

static void faults_are_one_line_and_take_prefixes(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(rig_fault_set(&why, RIG_E_RANGE, "a\nb"), RIG_E_RANGE);
    assert_string_equal(why.text, "a b");
    rig_fault_prefix(&why, RIG_E_RANGE, "file:%d", 3);
    assert_string_equal(why.text, "file:3: a b");
    char big[2000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    rig_fault_set(&why, RIG_E_RANGE, "%s", big);
    assert_int_equal(strlen(why.text), RIG_FAULT_BYTES - 1);
    rig_fault_prefix(&why, RIG_E_RANGE, "p");
    assert_memory_equal(why.text, "p: xxx", 6);
    assert_string_equal(rig_error_text(UV_ENOENT), "no such file or directory");
    assert_string_equal(rig_error_text(RIG_E_AUTH), "identity was refused");
}

static void backoff_doubles_spreads_and_stops_at_max(void **state)
{
    (void)state;
    struct rig_backoff backoff;
    rig_backoff_init(&backoff, 100, 1000);
    assert_int_equal(rig_backoff_next_ms(&backoff, 0), 75);
    assert_int_equal(rig_backoff_next_ms(&backoff, UINT32_MAX), 250);
    assert_in_range(rig_backoff_next_ms(&backoff, UINT32_MAX / 2), 395, 400);
    for (int i = 0; i < 100; i++)
        assert_in_range(rig_backoff_next_ms(&backoff, UINT32_MAX), 1, 1250);
    rig_backoff_reset(&backoff);
    assert_int_equal(rig_backoff_next_ms(&backoff, 0), 75);
}

/* Nobody writes to it: whoever opened it in the ordinary way would wait for ever. */
static void pipes_are_not_read(void **state)
{
    (void)state;
    char dir[] = "/tmp/rig-test-XXXXXX", path[64];
    struct rig_buf buf = {0};
    struct rig_secret secret = {0};
    struct rig_fault why = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(20);
    assert_int_equal(rig_buf_read_file(&buf, path, 100), UV_EFTYPE);
    assert_int_equal(rig_secret_read_file(&secret, path, 100, &why), UV_EFTYPE);
    alarm(0);
    assert_non_null(strstr(why.text, "/pipe: "));
    assert_int_equal(rig_buf_read_file(&buf, "/dev/null", 100), 0);
    rig_buf_deinit(&buf);
    unlink(path);
    rmdir(dir);
}

static void log_into(const char *path, bool as_json, const char *levels)
{
    assert_int_equal(rig_log_configure(levels, as_json, path, NULL), 0);
    rig_log_info("default", "plain \"quoted\"\n\x01\x7f\r\x1b[2J\xff\xc3\xa4");
    rig_log_debug("sds", "seen");
    rig_log_debug("xdsproxy", "not seen");
    rig_log_warn("xdsproxy", "scoped");
    rig_log_configure("info", false, "stderr", NULL);
}

static void log_lines_have_the_fields_shape(void **state)
{
    (void)state;
    char path[] = "/tmp/rig-test-XXXXXX";
    close(mkstemp(path));
    struct rig_buf text = {0};
    log_into(path, false, "default:info,sds:debug");
    assert_int_equal(rig_buf_read_file(&text, path, 4096), 0);
    const char *at = rig_buf_text(&text);
    char level[16], when[64], rest[128];
    assert_int_equal(sscanf(at, "%63[0-9TZ:.-]\t%15[a-z]\t%127[^\n]", when, level, rest), 3);
    assert_int_equal(strlen(when), strlen("2006-01-02T15:04:05.000000Z"));
    assert_string_equal(level, "info");
    assert_non_null(strstr(at, "\tdebug\tsds\tseen\n"));
    assert_non_null(strstr(at, "\twarn\txdsproxy\tscoped\n"));
    assert_null(strstr(at, "not seen"));
    assert_non_null(strstr(at, "plain \"quoted\"     [2J\xff\xc3\xa4\n"));
    assert_int_equal(truncate(path, 0), 0);
    rig_buf_clear(&text);
    log_into(path, true, "all:info");
    assert_int_equal(rig_buf_read_file(&text, path, 4096), 0);
    assert_non_null(strstr(rig_buf_text(&text),
                           "\"scope\":\"default\",\"msg\":\"plain "
                           "\\\"quoted\\\"\\u000a\\u0001\x7f\\u000d\\u001b[2J?\xc3\xa4\"}\n"));
    assert_int_equal(rig_log_configure("sds:loud", false, "stdout", NULL), RIG_E_RANGE);
    rig_buf_deinit(&text);
    unlink(path);
}

RIG_TEST_MAIN(cmocka_unit_test(capped_size_has_an_error), cmocka_unit_test(buf_is_a_queue),
              cmocka_unit_test(secret_buf_wipes_behind_itself),
              cmocka_unit_test(buf_cap_is_kept_and_big_blocks_are_given_back),
              cmocka_unit_test(files_are_replaced_whole),
              cmocka_unit_test(arena_stops_at_its_budget), cmocka_unit_test(secret_is_wiped),
              cmocka_unit_test(secret_file_is_trimmed_and_bounded),
              cmocka_unit_test(faults_are_one_line_and_take_prefixes),
              cmocka_unit_test(backoff_doubles_spreads_and_stops_at_max),
              cmocka_unit_test(pipes_are_not_read),
              cmocka_unit_test(log_lines_have_the_fields_shape))
