/* SPDX-License-Identifier: Apache-2.0 */
/* ProxyConfig: overlays as Istio merges them, and settings with sentences that name the source. */
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/yaml.h"
#include "plugins/mesh/proxy_config.h"
#include "tests/harness/test.h"

struct fixture {
    struct rig_arena arena;
    struct proxy_config config;
    struct rig_fault why;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    rig_arena_init(&f->arena, 1u << 20);
    proxy_config_init(&f->config, &f->arena);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rig_arena_deinit(&f->arena);
    free(f);
    return 0;
}

static int overlay(struct fixture *f, const char *yaml, const char *source)
{
    struct rig_doc *doc = NULL;
    assert_int_equal(rig_yaml_read(rig_slice_text(yaml), source, &f->arena, &doc, &f->why), 0);
    return proxy_config_overlay(&f->config, doc, source, &f->why);
}

static const char *json(struct fixture *f, const struct rig_doc *doc)
{
    struct rig_buf text = {0};
    rig_json_write(doc, RIG_JSON_COMPACT, &text);
    const char *copy = rig_arena_copy(&f->arena, text.at, text.len);
    rig_buf_deinit(&text);
    return copy;
}

static const char *field(struct fixture *f, const char *name)
{
    return json(f, rig_doc_get(f->config.fields, name));
}

static void read_settings(struct fixture *f, struct proxy_settings *settings)
{
    int err = proxy_settings_read(f->config.fields, f->config.origins, settings, &f->why);
    if (err < 0)
        fail_msg("%s", f->why.text);
}

/* After `yaml`, reading the settings must fail with exactly this sentence. */
static void refuses(struct fixture *f, const char *yaml, const char *sentence)
{
    struct proxy_settings settings;
    proxy_config_init(&f->config, &f->arena);
    int err = overlay(f, yaml, "PROXY_CONFIG");
    if (err == 0)
        err = proxy_settings_read(f->config.fields, f->config.origins, &settings, &f->why);
    assert_true(err < 0);
    assert_string_equal(f->why.text, sentence);
}

static void defaults_are_those_of_1_21(void **state)
{
    struct fixture *f = *state;
    struct proxy_settings settings;
    read_settings(f, &settings);
    assert_string_equal(settings.config_path, "./etc/istio/proxy");
    assert_string_equal(settings.binary_path, "/usr/local/bin/envoy");
    assert_string_equal(settings.discovery_address, "istiod.istio-system.svc:15012");
    assert_string_equal(settings.service_cluster, "istio-proxy");
    assert_int_equal(settings.drain_s, 45);
    assert_int_equal(settings.termination_drain_ms, 5000);
    assert_int_equal(settings.admin_port, 15000);
    assert_int_equal(settings.status_port, 15020);
    assert_false(settings.has_concurrency);
    assert_false(settings.is_plaintext);
    assert_string_equal(field(f, "tracing"),
                        "{\"zipkin\":{\"address\":\"zipkin.istio-system:9411\"}}");
    assert_string_equal(field(f, "statNameLength"), "189");
}

static void overlay_replaces_whole_fields(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(overlay(f, "runtimeValues: {a: x, b: y}\nextraStatTags: [one, two]", "m"), 0);
    assert_int_equal(
        overlay(f, "runtimeValues: {c: z}\nextraStatTags: [three]\ntracing: {}", "PROXY_CONFIG"),
        0);
    assert_string_equal(field(f, "runtimeValues"), "{\"c\":\"z\"}");
    assert_string_equal(field(f, "extraStatTags"), "[\"three\"]");
    assert_string_equal(field(f, "tracing"), "{}");
}

static void proxy_metadata_is_united(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(overlay(f, "proxyMetadata: {A: '1', B: '2'}", "m"), 0);
    assert_int_equal(overlay(f, "proxyMetadata: {B: '3', C: '4'}", "PROXY_CONFIG"), 0);
    const struct rig_doc *map = rig_doc_get(f->config.fields, "proxyMetadata");
    assert_int_equal(map->count, 3);
    assert_string_equal(rig_doc_get_text(map, "A", ""), "1");
    assert_string_equal(rig_doc_get_text(map, "B", ""), "3");
    assert_string_equal(rig_doc_get_text(map, "C", ""), "4");
}

static void proxy_headers_keep_five_members(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(overlay(f,
                             "proxyHeaders: {requestId: {disabled: true}, server: {value: a},"
                             " setCurrentClientCertDetails: {uri: true}}",
                             "m"),
                     0);
    assert_int_equal(overlay(f, "proxyHeaders: {server: {value: b}}", "PROXY_CONFIG"), 0);
    const struct rig_doc *headers = rig_doc_get(f->config.fields, "proxyHeaders");
    assert_string_equal(json(f, rig_doc_get(headers, "server")), "{\"value\":\"b\"}");
    assert_string_equal(json(f, rig_doc_get(headers, "requestId")), "{\"disabled\":true}");
    assert_null(rig_doc_get(headers, "setCurrentClientCertDetails"));
}

static void null_leaves_the_field(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(overlay(f, "tracing: null\ndrainDuration: ~", "PROXY_CONFIG"), 0);
    assert_string_equal(field(f, "drainDuration"), "\"45s\"");
    assert_string_equal(field(f, "tracing"),
                        "{\"zipkin\":{\"address\":\"zipkin.istio-system:9411\"}}");
    assert_int_equal(overlay(f, "", "PROXY_CONFIG"), 0);
}

static void snake_case_becomes_camel_case(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(overlay(f,
                             "drain_duration: 3s\n"
                             "proxy_metadata: {my_key: v_1}\n"
                             "tracing: {custom_tags: {my_tag: {literal: {value: x}}},"
                             " tls_settings: {ca_certificates: /a}}\n"
                             "gateway_topology: {num_trusted_proxies: 2}",
                             "PROXY_CONFIG"),
                     0);
    assert_string_equal(field(f, "drainDuration"), "\"3s\"");
    assert_null(rig_doc_get(f->config.fields, "drain_duration"));
    assert_string_equal(field(f, "proxyMetadata"), "{\"my_key\":\"v_1\"}");
    assert_string_equal(field(f, "tracing"),
                        "{\"customTags\":{\"my_tag\":{\"literal\":{\"value\":\"x\"}}},"
                        "\"tlsSettings\":{\"caCertificates\":\"/a\"}}");
    assert_string_equal(field(f, "gatewayTopology"), "{\"numTrustedProxies\":2}");
}

static void unknown_fields_survive_and_are_named(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(overlay(f,
                             "# a comment\ndrainDuratoin: 5s\nfuture: {a: [1, 1.50]}\n"
                             "envoyMetricsService: {address: 'a:1'}",
                             "PROXY_CONFIG"),
                     0);
    assert_string_equal(field(f, "drainDuratoin"), "\"5s\"");
    assert_string_equal(field(f, "future"), "{\"a\":[1,1.50]}");
    const struct rig_doc *warnings = proxy_config_warnings(&f->config);
    assert_int_equal(warnings->count, 3);
    assert_string_equal((const char *)warnings->items[0]->text.at,
                        "PROXY_CONFIG:2: drainDuratoin is no field of ProxyConfig; only the "
                        "control plane gets to see it");
    assert_string_equal((const char *)warnings->items[2]->text.at,
                        "PROXY_CONFIG:4: envoyMetricsService has no effect in this agent yet");
}

static void defaults_give_no_warning(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(proxy_config_warnings(&f->config)->count, 0);
}

static void a_name_and_the_rule_for_it_replace_each_other(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(overlay(f, "tracingServiceName: CANONICAL_NAME_ONLY", "m"), 0);
    assert_null(rig_doc_get(f->config.fields, "serviceCluster"));
    assert_int_equal(overlay(f, "serviceCluster: mine", "PROXY_CONFIG"), 0);
    assert_null(rig_doc_get(f->config.fields, "tracingServiceName"));
    refuses(f, "serviceCluster: a\ntracingServiceName: CANONICAL_NAME_ONLY",
            "PROXY_CONFIG: serviceCluster and tracingServiceName exclude each other");
}

static void settings_follow_the_overlay(void **state)
{
    struct fixture *f = *state;
    struct proxy_settings settings;
    assert_int_equal(overlay(f,
                             "{\"discoveryAddress\": \"[fd00::1]:15010\", \"concurrency\": 2,"
                             " \"controlPlaneAuthPolicy\": \"NONE\", \"proxyAdminPort\": \"15005\","
                             " \"terminationDrainDuration\": \"0.250s\", \"statusPort\": 0}",
                             "PROXY_CONFIG"),
                     0);
    read_settings(f, &settings);
    assert_string_equal(settings.discovery_address, "[fd00::1]:15010");
    assert_true(settings.has_concurrency);
    assert_int_equal(settings.concurrency, 2);
    assert_true(settings.is_plaintext);
    assert_int_equal(settings.admin_port, 15005);
    assert_int_equal(settings.status_port, 0);
    assert_int_equal(settings.termination_drain_ms, 250);
}

static void faults_name_source_and_key(void **state)
{
    struct fixture *f = *state;
    refuses(f, "[1]", "PROXY_CONFIG: must be a map of ProxyConfig fields, not a list");
    refuses(f, "drainDuration: 45",
            "PROXY_CONFIG:1: drainDuration must be a duration in seconds like \"45s\", "
            "not a number");
    refuses(f, "a: 1\ndrainDuration: 0s",
            "PROXY_CONFIG:2: drainDuration must be whole seconds, \"1s\" to \"3600s\"");
    refuses(f, "drainDuration: 1.5s",
            "PROXY_CONFIG:1: drainDuration must be whole seconds, \"1s\" to \"3600s\"");
    refuses(f, "drainDuration: 3601s",
            "PROXY_CONFIG:1: drainDuration must be whole seconds, \"1s\" to \"3600s\"");
    refuses(f, "drainDuration: 1m",
            "PROXY_CONFIG:1: drainDuration must be a duration in seconds like \"45s\", "
            "not a string");
    refuses(f, "discoveryAddress: istiod", "PROXY_CONFIG:1: discoveryAddress must be HOST:PORT");
    refuses(f, "discoveryAddress: 'istiod:70000'",
            "PROXY_CONFIG:1: discoveryAddress must be HOST:PORT");
    refuses(f, "proxyAdminPort: 0", "PROXY_CONFIG:1: proxyAdminPort must be a port, 1 to 65535");
    refuses(f, "proxyAdminPort: 1.5",
            "PROXY_CONFIG:1: proxyAdminPort must be a whole number, not a number");
    refuses(f, "statusPort: 65536", "PROXY_CONFIG:1: statusPort must be a port, or 0 for none");
    refuses(f, "concurrency: -1",
            "PROXY_CONFIG:1: concurrency must be 0 (one worker a CPU) or more");
    refuses(f, "configPath: ''", "PROXY_CONFIG:1: configPath must not be empty");
    refuses(f, "controlPlaneAuthPolicy: TLS",
            "PROXY_CONFIG:1: controlPlaneAuthPolicy must be MUTUAL_TLS or NONE");
    refuses(f, "proxyMetadata: {ISTIO_META_DNS_CAPTURE: true}",
            "PROXY_CONFIG:1: proxyMetadata.ISTIO_META_DNS_CAPTURE must be a string: put it in "
            "quotes");
    refuses(f, "drainDuration: 5s\ndrain_duration: 6s",
            "PROXY_CONFIG:2: drainDuration is given twice (as drain_duration)");
    refuses(f, "tracingServiceName: NONE",
            "PROXY_CONFIG:1: tracingServiceName must be APP_LABEL_AND_NAMESPACE, "
            "CANONICAL_NAME_ONLY or CANONICAL_NAME_AND_NAMESPACE");
}

static void durations_are_proto_json(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0s", 0},
                {"45s", 45000},
                {"0.5s", 500},
                {"1.000000001s", 1001},
                {"315576000000s", 315576000000000}};
    static const char *const bad[] = {"",
                                      "s",
                                      "5",
                                      "5m",
                                      "-1s",
                                      "+1s",
                                      "1.s",
                                      ".5s",
                                      "1s ",
                                      " 1s",
                                      "1e3s",
                                      "0.1234567890s",
                                      "1000000000000s",
                                      "0x1s"};
    uint64_t ms;
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(proxy_duration_parse(rig_slice_text(good[i].text), &ms), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (proxy_duration_parse(rig_slice_text(bad[i]), &ms) != RIG_E_SYNTAX)
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

static void a_spent_arena_is_a_fault(void **state)
{
    struct fixture *f = *state;
    struct rig_doc *doc = NULL;
    assert_int_equal(rig_yaml_read(rig_slice_text("proxyMetadata: {A: b, C: d}\nmeshId: m"), "x",
                                   &f->arena, &doc, &f->why),
                     0);
    /* Every budget that is too small ends in an error, not in half a ProxyConfig. */
    for (size_t budget = 64; budget < 16384; budget += 64) {
        struct rig_arena arena;
        struct proxy_config config;
        struct rig_fault why = {.text = ""};
        rig_arena_init(&arena, budget);
        proxy_config_init(&config, &arena);
        int err = proxy_config_overlay(&config, doc, "x", &why);
        assert_true(err == 0 ? !rig_arena_is_spent(&arena) : rig_arena_is_spent(&arena));
        if (err == 0)
            assert_string_equal(rig_doc_get_text(config.fields, "meshId", ""), "m");
        rig_arena_deinit(&arena);
    }
}

RIG_TEST_MAIN(cmocka_unit_test_setup_teardown(defaults_are_those_of_1_21, setup, teardown),
              cmocka_unit_test_setup_teardown(overlay_replaces_whole_fields, setup, teardown),
              cmocka_unit_test_setup_teardown(proxy_metadata_is_united, setup, teardown),
              cmocka_unit_test_setup_teardown(proxy_headers_keep_five_members, setup, teardown),
              cmocka_unit_test_setup_teardown(null_leaves_the_field, setup, teardown),
              cmocka_unit_test_setup_teardown(snake_case_becomes_camel_case, setup, teardown),
              cmocka_unit_test_setup_teardown(unknown_fields_survive_and_are_named, setup,
                                              teardown),
              cmocka_unit_test_setup_teardown(defaults_give_no_warning, setup, teardown),
              cmocka_unit_test_setup_teardown(a_name_and_the_rule_for_it_replace_each_other, setup,
                                              teardown),
              cmocka_unit_test_setup_teardown(settings_follow_the_overlay, setup, teardown),
              cmocka_unit_test_setup_teardown(faults_name_source_and_key, setup, teardown),
              cmocka_unit_test(durations_are_proto_json),
              cmocka_unit_test_setup_teardown(a_spent_arena_is_a_fault, setup, teardown))
