/* SPDX-License-Identifier: Apache-2.0 */
/* Envoy's command line by Istio's own vectors, and the paths and verdicts around it. */
#include <string.h>

#include "plugins/bootstrap/arguments.h"
#include "plugins/bootstrap/readiness.h"
#include "plugins/bootstrap/render.h"
#include "tests/harness/golden.h"

static struct rig_arena arena;

static int setup(void **state)
{
    (void)state;
    rig_arena_init(&arena, 1u << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_arena_deinit(&arena);
    return 0;
}

static const struct rig_doc *vectors(const char *name)
{
    const struct rig_doc *cases = golden_read("bootstrap/cases.json", &arena);
    return rig_doc_get(rig_doc_get(cases, "unit_vectors"), name);
}

static void arguments_by_istios_vector(void **state)
{
    (void)state;
    const struct rig_doc *vector = vectors("envoy_args_1.21.0");
    const struct rig_doc *inputs = rig_doc_get(vector, "inputs");
    const struct rig_doc *expected = rig_doc_get(vector, "argv");
    int64_t drain_s = 0, concurrency = 0;
    assert_int_equal(rig_doc_int64(rig_doc_get(inputs, "drain_duration_s"), &drain_s), 0);
    assert_int_equal(rig_doc_int64(rig_doc_get(inputs, "concurrency"), &concurrency), 0);
    struct arguments_request request = {
        .binary = "envoy",
        .config_file = rig_doc_get_text(inputs, "config", ""),
        .log_level = rig_doc_get_text(inputs, "log_level", ""),
        .component_log_level = rig_doc_get_text(inputs, "component_log_level", ""),
        .override_json = rig_doc_get_text(inputs, "override_file_as_json", NULL),
        .drain_s = (uint32_t)drain_s,
        .concurrency = (uint32_t)concurrency};
    const char *const *argv = arguments_build(&request, &arena, rig_doc_list(&arena));
    assert_string_equal(argv[0], "envoy");
    assert_int_equal(expected->count, 22);
    for (size_t i = 0; i < expected->count; i++)
        assert_string_equal(argv[i + 1], (const char *)expected->items[i]->text.at);
    assert_null(argv[expected->count + 1]);
}

static void log_levels_by_istios_vectors(void **state)
{
    (void)state;
    const struct rig_doc *cases = vectors("split_log_level");
    assert_true(cases->count >= 5);
    for (size_t i = 0; i < cases->count; i++) {
        const char *level, *components;
        struct rig_buf joined = {0};
        const struct rig_doc *list = rig_doc_get(cases->items[i], "components");
        for (size_t k = 0; k < list->count; k++)
            rig_buf_printf(&joined, "%s%s", k > 0 ? "," : "",
                           (const char *)list->items[k]->text.at);
        arguments_split_level(rig_doc_get_text(cases->items[i], "in", ""), &arena, &level,
                              &components, rig_doc_list(&arena));
        assert_string_equal(level, rig_doc_get_text(cases->items[i], "level", ""));
        assert_string_equal(components, rig_buf_text(&joined));
        rig_buf_deinit(&joined);
    }
}

static void items_with_two_colons_are_dropped_with_a_warning(void **state)
{
    const char *level, *components;
    struct rig_doc *warnings = rig_doc_list(&arena);
    (void)state;
    arguments_split_level("a:b:c,,info,d:e", &arena, &level, &components, warnings);
    assert_string_equal(level, "info");
    assert_string_equal(components, "d:e");
    assert_int_equal(warnings->count, 1);
}

static bool has_pair(const char *const *argv, const char *flag, const char *value)
{
    for (; *argv != NULL; argv++) {
        if (strcmp(*argv, flag) == 0)
            return argv[1] != NULL && strcmp(argv[1], value) == 0;
    }
    return false;
}

static void components_of_the_level_beat_the_old_flag(void **state)
{
    struct arguments_request request = {.binary = "e",
                                        .config_file = "c",
                                        .log_level = "warning,misc:info",
                                        .component_log_level = "misc:error",
                                        .drain_s = 1,
                                        .is_ipv6 = true,
                                        .is_log_json = true};
    (void)state;
    const char *const *argv = arguments_build(&request, &arena, rig_doc_list(&arena));
    assert_true(has_pair(argv, "--component-log-level", "misc:info"));
    assert_true(has_pair(argv, "-l", "warning"));
    assert_true(has_pair(argv, "--local-address-ip-version", "v6"));
    assert_true(has_pair(argv, "--log-format",
                         "{\"level\":\"%l\",\"time\":\"%Y-%m-%dT%T.%fZ\",\"scope\":\"envoy %n\","
                         "\"msg\":\"%j\",\"caller\":\"%g:%#\",\"thread\":%t}"));
    assert_false(has_pair(argv, "--concurrency", "0"));
}

static void paths_are_cleaned(void **state)
{
    (void)state;
    assert_string_equal(render_path(&arena, "./etc/istio/proxy", "envoy-rev.json"),
                        "etc/istio/proxy/envoy-rev.json");
    assert_string_equal(render_path(&arena, "/etc//istio/./proxy/", "XDS"), "/etc/istio/proxy/XDS");
    assert_string_equal(render_path(&arena, ".", "XDS"), "XDS");
    assert_string_equal(render_path(&arena, "../a", "XDS"), "../a/XDS");
}

/* ---- readiness ---- */

static void judged(const char *stats, const char *sentence)
{
    struct rig_fault why = {.text = ""};
    int err = readiness_judge(rig_slice_text(stats), &why);
    assert_string_equal(why.text, sentence);
    assert_int_equal(err, sentence[0] == '\0' ? 0 : RIG_E_PENDING);
}

#define CONFIGURED                                                                                 \
    "cluster_manager.cds.update_success: 1\n"                                                      \
    "listener_manager.lds.update_rejected: 0\n"                                                    \
    "listener_manager.lds.update_success: 2\n"

static void readiness_needs_configuration_and_life(void **state)
{
    (void)state;
    judged("", "config not received from XDS server (is Istiod running?): cds updates: 0 "
               "successful, 0 rejected; lds updates: 0 successful, 0 rejected");
    judged("cluster_manager.cds.update_success: 3\n",
           "config not fully received from XDS server: cds updates: 3 successful, 0 rejected; lds "
           "updates: 0 successful, 0 rejected");
    judged("cluster_manager.cds.update_success: 3\nlistener_manager.lds.update_rejected: 1",
           "config received from XDS server, but was rejected: cds updates: 3 successful, 0 "
           "rejected; lds updates: 0 successful, 1 rejected");
    judged(CONFIGURED, "server is not live, its state is not known yet");
    judged(CONFIGURED "server.state: 3\nlistener_manager.workers_started: 1\n",
           "server is not live, current state is: INITIALIZING");
    judged(CONFIGURED "server.state: 9\n", "server is not live, current state is: ?");
    judged(CONFIGURED "server.state: 0\nlistener_manager.workers_started: 0\n",
           "workers have not yet started");
    judged(CONFIGURED "server.state: 0\nlistener_manager.workers_started: 1\n", "");
}

static void readiness_takes_no_name_for_another(void **state)
{
    (void)state;
    judged("xcluster_manager.cds.update_success: 1\ncluster_manager.cds.update_success_x: 1\n"
           "cluster_manager.cds.update_success\ncluster_manager.cds.update_success: \n",
           "config not received from XDS server (is Istiod running?): cds updates: 0 successful, "
           "0 rejected; lds updates: 0 successful, 0 rejected");
}

RIG_TEST_MAIN(cmocka_unit_test_setup_teardown(arguments_by_istios_vector, setup, teardown),
              cmocka_unit_test_setup_teardown(log_levels_by_istios_vectors, setup, teardown),
              cmocka_unit_test_setup_teardown(items_with_two_colons_are_dropped_with_a_warning,
                                              setup, teardown),
              cmocka_unit_test_setup_teardown(components_of_the_level_beat_the_old_flag, setup,
                                              teardown),
              cmocka_unit_test_setup_teardown(paths_are_cleaned, setup, teardown),
              cmocka_unit_test(readiness_needs_configuration_and_life),
              cmocka_unit_test(readiness_takes_no_name_for_another))
