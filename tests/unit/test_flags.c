/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: values, words, what is unknown. */
#include "tests/harness/test.h"

#include <string.h>

#include "core/flags.h"

struct probe_config {
    const char *domain;
    bool as_json;
    uint64_t count;
};

static const struct rig_option rows[] = {
    RIG_OPT(STRING, struct probe_config, domain, "domain", "", NULL, "domain", "s"),
    RIG_OPT(BOOL, struct probe_config, as_json, "asJson", "false", NULL, "log_as_json", "s"),
    RIG_OPT(UINT, struct probe_config, count, "count", "0", NULL, "concurrency", "s"),
    {0},
};

static struct rig_arena arena;
static struct options options;
static struct flags flags;
static char *words[16];
static const struct probe_config *config;

static int parse(bool ignore_unknown, struct rig_fault *why, int argc, char **argv)
{
    static struct options *tables[] = {&options};
    rig_arena_deinit(&arena);
    rig_arena_init(&arena, 1 << 20);
    assert_int_equal(options_init(&options, "probe", rows, sizeof(*config), &arena, why), 0);
    config = options.config;
    flags = (struct flags){
        .tables = tables, .table_count = 1, .ignore_unknown = ignore_unknown, .words = words};
    return flags_parse(&flags, argc, argv, why);
}

#define PARSE(ignore, why, ...)                                                                    \
    parse(ignore, why, (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)),                    \
          (char *[]){__VA_ARGS__, NULL})

static int teardown(void **state)
{
    (void)state;
    rig_arena_deinit(&arena);
    return 0;
}

static void values_come_both_ways(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(false, &why, "p", "sidecar", "--domain", "a.svc", "--log_as_json",
                           "word", "--concurrency=4"),
                     0);
    assert_string_equal(config->domain, "a.svc");
    assert_true(config->as_json);
    assert_int_equal(config->count, 4);
    assert_int_equal(flags.word_count, 2);
    assert_string_equal(words[0], "sidecar");
    assert_string_equal(words[1], "word");
    assert_string_equal(options.values[0].origin, "--domain");
}

static void bool_takes_its_value_by_equals_only(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(false, &why, "p", "--log_as_json=false"), 0);
    assert_false(config->as_json);
    assert_int_equal(PARSE(false, &why, "p", "--log_as_json", "false"), 0);
    assert_true(config->as_json);
    assert_string_equal(words[0], "false");
}

static void unknown_flag_is_refused_by_name(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(false, &why, "p", "--domian", "x"), RIG_E_USAGE);
    assert_string_equal(why.text,
                        "unknown flag \"--domian\" (did you mean --domain?); --help lists them");
    assert_int_equal(PARSE(false, &why, "p", "-v"), RIG_E_USAGE);
}

/* agent.md 1.1: unknown --x=y is one token, unknown --x takes the next word unless it is a flag. */
static void unknown_flag_is_ignored_by_the_fields_rule(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(true, &why, "p", "--binaryPath", "/x", "--drainDuration=1s", "proxy",
                           "--old", "--domain", "d", "-v", "9", "last"),
                     0);
    assert_string_equal(config->domain, "d");
    assert_int_equal(flags.word_count, 2);
    assert_string_equal(words[0], "proxy");
    assert_string_equal(words[1], "last");
}

static void abbreviation_is_an_unknown_flag(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(true, &why, "p", "--dom", "x", "--log_as=true", "y"), 0);
    assert_string_equal(config->domain, "");
    assert_false(config->as_json);
    assert_int_equal(flags.word_count, 1);
}

/* Whether or not a value follows, and whatever it would stand for. */
static void abbreviation_is_ignored_with_the_unknown(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(true, &why, "p", "--hel"), 0);
    assert_false(flags.wants_help);
    assert_int_equal(PARSE(true, &why, "p", "word", "--dom"), 0);
    assert_int_equal(flags.word_count, 1);
    assert_int_equal(PARSE(false, &why, "p", "--hel"), RIG_E_USAGE);
    assert_int_equal(PARSE(false, &why, "p", "--dom"), RIG_E_USAGE);
    assert_non_null(strstr(why.text, "unknown flag \"--dom\""));
    assert_int_equal(PARSE(true, &why, "p", "--domain"), RIG_E_USAGE);
    assert_non_null(strstr(why.text, "flag --domain needs a value"));
}

static void value_of_an_unknown_flag_is_not_told(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(false, &why, "p", "--domian=hush"), RIG_E_USAGE);
    assert_non_null(strstr(why.text, "unknown flag \"--domian\" (did you mean --domain?)"));
    assert_null(strstr(why.text, "hush"));
}

static void missing_and_bad_values_are_named(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(true, &why, "p", "--domain"), RIG_E_USAGE);
    assert_string_equal(why.text, "flag --domain needs a value");
    assert_int_equal(PARSE(true, &why, "p", "--concurrency=many"), RIG_E_USAGE);
    assert_string_equal(why.text, "--concurrency: probe.count: \"many\" is not a whole number");
}

static void double_dash_ends_flags_and_help_is_seen(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(PARSE(false, &why, "p", "--", "--domain", "x"), 0);
    assert_int_equal(flags.word_count, 2);
    assert_int_equal(PARSE(false, &why, "p", "--help"), 0);
    assert_true(flags.wants_help);
    assert_int_equal(PARSE(false, &why, "p", "-h"), 0);
    assert_true(flags.wants_help);
}

RIG_TEST_MAIN(cmocka_unit_test_teardown(values_come_both_ways, teardown),
              cmocka_unit_test_teardown(bool_takes_its_value_by_equals_only, teardown),
              cmocka_unit_test_teardown(unknown_flag_is_refused_by_name, teardown),
              cmocka_unit_test_teardown(unknown_flag_is_ignored_by_the_fields_rule, teardown),
              cmocka_unit_test_teardown(abbreviation_is_an_unknown_flag, teardown),
              cmocka_unit_test_teardown(abbreviation_is_ignored_with_the_unknown, teardown),
              cmocka_unit_test_teardown(value_of_an_unknown_flag_is_not_told, teardown),
              cmocka_unit_test_teardown(missing_and_bad_values_are_named, teardown),
              cmocka_unit_test_teardown(double_dash_ends_flags_and_help_is_seen, teardown))
