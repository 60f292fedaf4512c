/* SPDX-License-Identifier: Apache-2.0 */
/* Log records: one line each whatever is in them, and which levels are written. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/json.h"
#include "core/log.h"

static char path[64];

static int setup(void **state)
{
    (void)state;
    strcpy(path, "/tmp/rig_log_XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? fd : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    rig_log_configure("none", false, "stderr", NULL);
    return unlink(path);
}

/* What the file holds, which is emptied. */
static const char *written(struct rig_buf *text)
{
    rig_buf_clear(text);
    assert_int_equal(rig_buf_read_file(text, path, 1 << 20), 0);
    assert_int_equal(truncate(path, 0), 0);
    return rig_buf_text(text);
}

static void text_record_is_one_line_of_columns(void **state)
{
    (void)state;
    struct rig_buf text = {0};
    assert_int_equal(rig_log_configure("info", false, path, NULL), 0);
    rig_log_info("sds", "peer says %s", "a\nb\rc\td\x1b[31me\x7f");
    const char *tab = strchr(written(&text), '\t');
    assert_non_null(tab);
    assert_string_equal(tab, "\tinfo\tsds\tpeer says a b c d [31me \n");
    rig_log_info("default", "plain");
    tab = strchr(written(&text), '\t');
    assert_string_equal(tab, "\tinfo\tplain\n");
    rig_buf_deinit(&text);
}

/* RFC 8259, 8.1: UTF-8; RFC 3629, 4: no overlong form, no surrogate, nothing over U+10FFFF. */
static void json_record_is_json(void **state)
{
    (void)state;
    static const struct {
        const char *message, *read;
    } vectors[] = {
        {"a\"b\\c\n\x1b", "a\"b\\c\n\x1b"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff-\x80", "?-?"},
        {"\xe0\x80\x80", "???"},
        {"\xed\xa0\x80", "???"},
        {"\xf4\x90\x80\x80", "????"},
        {"\xc3", "?"},
    };
    struct rig_buf text = {0};
    assert_int_equal(rig_log_configure("info", true, path, NULL), 0);
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct rig_arena arena;
        struct rig_doc *doc;
        struct rig_fault why;
        rig_arena_init(&arena, 1 << 16);
        rig_log_warn("ca", "%s", vectors[i].message);
        written(&text);
        if (rig_json_read(rig_buf_slice(&text), "log", &arena, &doc, &why) != 0)
            fail_msg("%zu: %s", i, why.text);
        assert_string_equal(rig_doc_get_text(doc, "msg", NULL), vectors[i].read);
        assert_string_equal(rig_doc_get_text(doc, "scope", NULL), "ca");
        assert_string_equal(rig_doc_get_text(doc, "level", NULL), "warn");
        rig_arena_deinit(&arena);
    }
    rig_buf_deinit(&text);
}

static void long_record_is_cut_and_ends(void **state)
{
    (void)state;
    struct rig_buf text = {0};
    char message[20000];
    memset(message, '\x01', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    for (int as_json = 0; as_json < 2; as_json++) {
        assert_int_equal(rig_log_configure("info", as_json == 1, path, NULL), 0);
        rig_log_error("default", "%s", message);
        const char *end = strchr(written(&text), '\n');
        assert_true(text.len > 1000 && text.len < 8192);
        assert_ptr_equal(end, (const char *)text.at + text.len - 1);
        if (as_json)
            assert_memory_equal(end - 2, "\"}", 2);
    }
    rig_buf_deinit(&text);
}

static void levels_are_by_scope(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(rig_log_configure("all:warn,sds:debug,ca:none", false, path, NULL), 0);
    assert_true(rig_log_enabled(RIG_LOG_DEBUG, "sds"));
    assert_false(rig_log_enabled(RIG_LOG_FATAL, "ca"));
    assert_true(rig_log_enabled(RIG_LOG_WARN, "other"));
    assert_false(rig_log_enabled(RIG_LOG_INFO, "other"));
    assert_int_equal(rig_log_configure("sds:loud", false, path, &why), RIG_E_RANGE);
    assert_non_null(strstr(why.text, "loud"));
    assert_int_equal(rig_log_configure(":info", false, path, &why), RIG_E_RANGE);
    assert_true(rig_log_configure("info", false, "/nowhere/at/all", &why) < 0);
    assert_non_null(strstr(why.text, "/nowhere/at/all"));
}

RIG_TEST_MAIN(cmocka_unit_test_setup_teardown(text_record_is_one_line_of_columns, setup, teardown),
              cmocka_unit_test_setup_teardown(json_record_is_json, setup, teardown),
              cmocka_unit_test_setup_teardown(long_record_is_cut_and_ends, setup, teardown),
              cmocka_unit_test_setup_teardown(levels_are_by_scope, setup, teardown))
