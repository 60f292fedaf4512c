/* SPDX-License-Identifier: Apache-2.0 */
/* Option rows: each type, each layer, each refusal. */
#include "tests/harness/test.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/options.h"

struct probe_config {
    const char *socket;
    bool is_on;
    uint64_t count;
    uint64_t wait_ms;
    double ratio;
};

static const struct rig_option rows[] = {
    RIG_OPT(STRING, struct probe_config, socket, "socketPath", "/tmp/x", "PROBE_SOCKET,OLD_SOCKET",
            "socket", "s"),
    RIG_OPT(BOOL, struct probe_config, is_on, "isOn", "true", "PROBE_ON", "on", "s"),
    RIG_OPT_IN(UINT, struct probe_config, count, "count", "3", 1, 10, "PROBE_COUNT", "count", "s"),
    RIG_OPT_IN(DURATION_MS, struct probe_config, wait_ms, "wait", "1h30m", 1500, 86400000, NULL,
               "wait", "s"),
    RIG_OPT_IN(RATIO, struct probe_config, ratio, "gracePeriodRatio", "0.5", 0, 1, NULL, NULL, "s"),
    {0},
};

static struct rig_arena arena;
static struct options options;
static const struct probe_config *config;

static int setup(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    rig_log_configure("none", false, "stderr", NULL);
    rig_arena_init(&arena, 1 << 20);
    assert_int_equal(options_init(&options, "probe", rows, sizeof(*config), &arena, &why), 0);
    config = options.config;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_arena_deinit(&arena);
    unsetenv("PROBE_SOCKET");
    unsetenv("OLD_SOCKET");
    unsetenv("PROBE_ON");
    unsetenv("PROBE_COUNT");
    unsetenv("OUTRIGGER_PROBE_SOCKET_PATH");
    unsetenv("OUTRIGGER_PROBE_COUNT");
    return 0;
}

static int set(const char *key, const char *text, struct rig_fault *why)
{
    return options_set(&options, options_row(&options, rig_slice_text(key)), text, "test", why);
}

static void defaults_are_parsed(void **state)
{
    (void)state;
    assert_string_equal(config->socket, "/tmp/x");
    assert_true(config->is_on);
    assert_int_equal(config->count, 3);
    assert_int_equal(config->wait_ms, 90 * 60 * 1000);
    assert_true(config->ratio == 0.5);
    assert_string_equal(options.values[0].origin, "default");
}

static void bad_values_name_the_key_and_what_is_due(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    assert_int_equal(set("gracePeriodRatio", "1.5", &why), RIG_E_RANGE);
    assert_string_equal(why.text, "probe.gracePeriodRatio: \"1.5\" is not between 0 and 1");
    assert_int_equal(set("isOn", "yes", &why), RIG_E_RANGE);
    assert_string_equal(why.text, "probe.isOn: \"yes\" is not true or false");
    assert_int_equal(set("count", "-1", &why), RIG_E_RANGE);
    assert_int_equal(set("count", "11", &why), RIG_E_RANGE);
    assert_int_equal(set("count", "4x", &why), RIG_E_RANGE);
    assert_int_equal(set("wait", "5", &why), RIG_E_RANGE); /* Go: a bare number is no duration */
    assert_int_equal(set("wait", "25h", &why), RIG_E_RANGE);
    assert_string_equal(why.text, "probe.wait: \"25h\" is not between 1500ms and 24h");
    assert_int_equal(set("wait", "", &why), RIG_E_RANGE);
    assert_int_equal(set("gracePeriodRatio", "nan", &why), RIG_E_RANGE);
    assert_int_equal(config->count, 3);
}

static void durations_are_the_fields(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } vectors[] = {{"100ms", 100}, {"45s", 45000},      {"1.5s", 1500}, {"24h", 86400000},
                   {"0", 0},       {"1h1m1s", 3661000}, {"0s", 0}};
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint64_t ms = 1;
        assert_int_equal(rig_duration_parse(vectors[i].text, &ms), 0);
        assert_int_equal(ms, vectors[i].ms);
    }
    uint64_t ms;
    assert_int_equal(rig_duration_parse("1x", &ms), RIG_E_SYNTAX);
    assert_int_equal(rig_duration_parse("s", &ms), RIG_E_SYNTAX);
    assert_int_equal(rig_duration_parse("1mss", &ms), RIG_E_SYNTAX);
    assert_int_equal(rig_duration_parse("99999999999999h", &ms), RIG_E_SYNTAX);
}

static void first_set_variable_counts_even_when_empty(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    setenv("OLD_SOCKET", "/old", 1);
    assert_int_equal(options_environment(&options, &why), 0);
    assert_string_equal(config->socket, "/old");
    setenv("PROBE_SOCKET", "", 1);
    assert_int_equal(options_environment(&options, &why), 0);
    assert_string_equal(config->socket, "");
    assert_string_equal(options.values[0].origin, "$PROBE_SOCKET");
}

static void own_variable_beats_the_rows(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    setenv("PROBE_SOCKET", "/theirs", 1);
    setenv("OUTRIGGER_PROBE_SOCKET_PATH", "/ours", 1);
    assert_int_equal(options_environment(&options, &why), 0);
    assert_string_equal(config->socket, "/ours");
}

static void bad_foreign_variable_is_passed_over_own_is_refused(void **state)
{
    (void)state;
    struct rig_fault why = {0};
    setenv("PROBE_COUNT", "many", 1);
    setenv("PROBE_ON", "", 1);
    assert_int_equal(options_environment(&options, &why), 0);
    assert_int_equal(config->count, 3);
    assert_true(config->is_on);
    setenv("OUTRIGGER_PROBE_COUNT", "many", 1);
    assert_int_equal(options_environment(&options, &why), RIG_E_RANGE);
    assert_string_equal(
        why.text, "variable OUTRIGGER_PROBE_COUNT: probe.count: \"many\" is not a whole number");
}

static void misspelt_key_finds_its_neighbour(void **state)
{
    (void)state;
    assert_string_equal(options_nearest(&options, RIG_SLICE("gracePeriodratio")),
                        "gracePeriodRatio");
    assert_string_equal(options_nearest(&options, RIG_SLICE("sockePath")), "socketPath");
    assert_null(options_nearest(&options, RIG_SLICE("zzzzzz")));
}

RIG_TEST_MAIN(cmocka_unit_test_setup_teardown(defaults_are_parsed, setup, teardown),
              cmocka_unit_test_setup_teardown(bad_values_name_the_key_and_what_is_due, setup,
                                              teardown),
              cmocka_unit_test_setup_teardown(durations_are_the_fields, setup, teardown),
              cmocka_unit_test_setup_teardown(first_set_variable_counts_even_when_empty, setup,
                                              teardown),
              cmocka_unit_test_setup_teardown(own_variable_beats_the_rows, setup, teardown),
              cmocka_unit_test_setup_teardown(bad_foreign_variable_is_passed_over_own_is_refused,
                                              setup, teardown),
              cmocka_unit_test_setup_teardown(misspelt_key_finds_its_neighbour, setup, teardown))
