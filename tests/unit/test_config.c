/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration and role files: what is applied, and how a mistake is named. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/role.h"
#include "core/yaml.h"

struct probe_config {
    const char *socket;
    uint64_t count;
};

static const struct rig_option rows[] = {
    RIG_OPT(STRING, struct probe_config, socket, "socket", "", NULL, NULL, "s"),
    RIG_OPT_IN(UINT, struct probe_config, count, "count", "1", 1, 9, NULL, NULL, "s"),
    {0},
};

static struct rig_arena arena;
static struct options options;
static const struct probe_config *config;
static struct rig_buf problems;

static bool is_known(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "elsewhere") == 0;
}

static int apply(const char *text)
{
    static struct options *tables[] = {&options};
    struct rig_fault why = {0};
    struct rig_doc *doc;
    rig_buf_clear(&problems);
    assert_int_equal(rig_yaml_read(rig_slice_text(text), "c.yaml", &arena, &doc, &why), 0);
    return config_apply(tables, 1, doc, "c.yaml", NULL, is_known, NULL, &problems);
}

static int setup(void **state)
{
    (void)state;
    rig_arena_init(&arena, 1 << 20);
    config = NULL;
    int err = options_init(&options, "probe", rows, sizeof(*config), &arena, NULL);
    config = options.config;
    return err;
}

static int teardown(void **state)
{
    (void)state;
    rig_arena_deinit(&arena);
    rig_buf_deinit(&problems);
    return 0;
}

static void values_are_applied_with_their_origin(void **state)
{
    (void)state;
    assert_int_equal(apply("probe:\n  socket: /x\n  count: 5\nelsewhere: {any: thing}\n"), 0);
    assert_string_equal(config->socket, "/x");
    assert_int_equal(config->count, 5);
    assert_string_equal(options.values[1].origin, "c.yaml:3");
}

static void every_problem_is_named_with_its_line(void **state)
{
    (void)state;
    assert_int_equal(apply("probe:\n  sokcet: /x\n  count: 50\n  socket: [a]\nprbe: {}\n"),
                     RIG_E_RANGE);
    assert_string_equal(
        rig_buf_text(&problems),
        "c.yaml:2: unknown key \"probe.sokcet\"; did you mean \"socket\"?\n"
        "c.yaml:3: probe.count: \"50\" is not between 1 and 9\n"
        "c.yaml:4: probe.socket: a single value is due, not a list\n"
        "c.yaml:5: unknown section \"prbe\"; a section has the name of a plugin, or "
        "core\n");
    assert_int_equal(config->count, 1);
}

static void sections_that_are_no_maps_are_named(void **state)
{
    (void)state;
    assert_int_equal(apply("probe: 3\n"), RIG_E_RANGE);
    assert_string_equal(rig_buf_text(&problems),
                        "c.yaml:1: probe: a map of options is due, not a number\n");
    assert_int_equal(apply("- probe\n"), RIG_E_RANGE);
    assert_int_equal(apply("probe:\n"), 0);
    assert_int_equal(apply(""), 0);
}

static char dir[] = "/tmp/rig-roles-XXXXXX";
static char path[128];

static int role(const char *text, const char *called, struct role *out, struct rig_fault *why)
{
    const char *dirs[] = {"/nonexistent", dir, NULL};
    snprintf(path, sizeof(path), "%s/probe.yaml", dir);
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    return role_find(dirs, called, &arena, out, why);
}

static int role_setup(void **state)
{
    strcpy(dir, "/tmp/rig-roles-XXXXXX");
    return mkdtemp(dir) != NULL ? setup(state) : -1;
}

static int role_teardown(void **state)
{
    unlink(path);
    rmdir(dir);
    return teardown(state);
}

static void role_is_found_by_name_and_by_alias(void **state)
{
    (void)state;
    static const char text[] = "about: A probe.\nnames: [old-probe]\nwords: [proxy]\n"
                               "unknownFlags: ignore\npositional: a.b\nplugins: [x, y]\n"
                               "named: {old-probe: {failureStatus: 255, options: {x: {k: 1}}}}\n";
    struct role found;
    struct rig_fault why = {0};
    assert_int_equal(role(text, "probe", &found, &why), 0);
    assert_string_equal(found.about, "A probe.");
    assert_int_equal(found.failure_status, 1);
    assert_null(found.named_options);
    assert_int_equal(found.plugins->count, 2);
    assert_true(found.ignores_unknown_flags);
    assert_int_equal(role(text, "old-probe", &found, &why), 0);
    assert_string_equal(found.name, "probe");
    assert_int_equal(found.failure_status, 255);
    assert_non_null(found.named_options);
    assert_int_equal(role(text, "nothing", &found, &why), RIG_E_ABSENT);
    assert_int_equal(role(text, "../probe", &found, &why), RIG_E_ABSENT);
}

static void broken_role_is_refused_with_its_line(void **state)
{
    (void)state;
    struct role found;
    struct rig_fault why = {0};
    assert_int_equal(role("about: x\nplugns: [a]\n", "probe", &found, &why), RIG_E_UNKNOWN);
    assert_non_null(strstr(why.text, "/probe.yaml:2: unknown key \"plugns\""));
    assert_int_equal(role("about: x\n", "probe", &found, &why), RIG_E_SYNTAX);
    assert_non_null(strstr(why.text, "the key \"plugins\" is missing"));
    assert_int_equal(role("plugins: [1]\n", "probe", &found, &why), RIG_E_SYNTAX);
    assert_non_null(strstr(why.text, "/probe.yaml:1: plugins: a list of strings is due"));
    assert_int_equal(role("unknownFlags: maybe\nplugins: []\n", "probe", &found, &why),
                     RIG_E_SYNTAX);
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(values_are_applied_with_their_origin, setup, teardown),
    cmocka_unit_test_setup_teardown(every_problem_is_named_with_its_line, setup, teardown),
    cmocka_unit_test_setup_teardown(sections_that_are_no_maps_are_named, setup, teardown),
    cmocka_unit_test_setup_teardown(role_is_found_by_name_and_by_alias, role_setup, role_teardown),
    cmocka_unit_test_setup_teardown(broken_role_is_refused_with_its_line, role_setup,
                                    role_teardown))
