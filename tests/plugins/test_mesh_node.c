/* SPDX-License-Identifier: Apache-2.0 */
/* Node metadata, cluster names and downward API files, mostly by Istio's own vectors. */
#include <string.h>

#include "core/json.h"
#include "plugins/mesh/node.h"
#include "tests/harness/golden.h"

struct fixture {
    struct rig_arena arena;
    struct rig_fault why;
    struct node_request request;
    struct node_description node;
};

static int setup(void **state)
{
    static const char *const ips[] = {"10.3.3.3", "10.4.4.4", "10.3.3.3", NULL};
    struct fixture *f = calloc(1, sizeof(*f));
    rig_arena_init(&f->arena, 1u << 20);
    f->request = (struct node_request){.ip_addresses = ips,
                                       .pod_name = "pod-1",
                                       .pod_namespace = "bar",
                                       .istio_version = "1.21.0",
                                       .envoy_status_port = 15021,
                                       .envoy_prometheus_port = 15090};
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

static struct rig_doc *json_doc(struct fixture *f, const char *text)
{
    struct rig_doc *doc = NULL;
    if (rig_json_read(rig_slice_text(text), "test", &f->arena, &doc, &f->why) < 0)
        fail_msg("%s", f->why.text);
    return doc;
}

static const char *json_text(struct fixture *f, const struct rig_doc *doc)
{
    struct rig_buf text = {0};
    rig_json_write(doc, RIG_JSON_COMPACT, &text);
    const char *copy = rig_arena_copy(&f->arena, text.at, text.len);
    rig_buf_deinit(&text);
    return copy;
}

static void describe(struct fixture *f, const char *const *environment)
{
    f->request.environment = environment;
    if (node_describe(&f->request, &f->arena, &f->node, &f->why) < 0)
        fail_msg("%s", f->why.text);
}

static const char *meta(struct fixture *f, const char *key)
{
    const struct rig_doc *value = rig_doc_get(f->node.metadata, key);
    return value != NULL ? json_text(f, value) : "(absent)";
}

static void refuses(struct fixture *f, const char *variable, const char *sentence)
{
    const char *const environment[] = {variable, NULL};
    f->request.environment = environment;
    assert_true(node_describe(&f->request, &f->arena, &f->node, &f->why) < 0);
    assert_string_equal(f->why.text, sentence);
}

/* ---- vectors ---- */

static void downward_files_by_istios_vectors(void **state)
{
    struct fixture *f = *state;
    const struct rig_doc *cases = golden_read("bootstrap/cases.json", &f->arena);
    const struct rig_doc *vectors = rig_doc_get(rig_doc_get(cases, "unit_vectors"), "downward_api");
    assert_true(vectors->count >= 4);
    for (size_t i = 0; i < vectors->count; i++) {
        const struct rig_doc *expected = rig_doc_get(vectors->items[i], "map");
        struct rig_doc *map = NULL;
        int err =
            node_downward_read(rig_slice_text(rig_doc_get_text(vectors->items[i], "file", "")),
                               "labels", &f->arena, &map, &f->why);
        assert_int_equal(err, 0);
        assert_int_equal(map->count, expected->count);
        for (size_t k = 0; k < expected->count; k++)
            assert_string_equal(
                rig_doc_get_text(map, (const char *)expected->members[k].key.at, "(absent)"),
                (const char *)expected->members[k].value->text.at);
    }
}

static void cluster_names_by_istios_vectors(void **state)
{
    struct fixture *f = *state;
    const struct rig_doc *cases = golden_read("bootstrap/cases.json", &f->arena);
    const struct rig_doc *vectors =
        rig_doc_get(rig_doc_get(cases, "unit_vectors"), "service_cluster (namespace bar)");
    assert_true(vectors->count >= 6);
    for (size_t i = 0; i < vectors->count; i++) {
        struct rig_doc *metadata = json_doc(f, "{\"NAMESPACE\":\"bar\"}");
        rig_doc_set(&f->arena, metadata, "LABELS", rig_doc_get(vectors->items[i], "labels"));
        assert_string_equal(
            node_cluster(rig_doc_get(vectors->items[i], "proxy_config"), metadata, &f->arena),
            rig_doc_get_text(vectors->items[i], "cluster", ""));
    }
}

static void locality_label_by_istios_vector(void **state)
{
    struct fixture *f = *state;
    const struct rig_doc *cases = golden_read("bootstrap/cases.json", &f->arena);
    const struct rig_doc *vector =
        rig_doc_get(rig_doc_get(cases, "unit_vectors"), "locality_label")->items[0];
    struct rig_doc *labels = NULL;
    assert_int_equal(node_downward_read(rig_slice_text(rig_doc_get_text(vector, "labels_file", "")),
                                        "labels", &f->arena, &labels, &f->why),
                     0);
    f->request.labels = labels;
    describe(f, NULL);
    assert_string_equal(
        rig_doc_get_text(rig_doc_get(f->node.metadata, "LABELS"), "istio-locality", ""),
        rig_doc_get_text(vector, "LABELS[istio-locality]", "(absent)"));
    assert_string_equal(json_text(f, f->node.locality),
                        "{\"region\":\"region\",\"zone\":\"zone\",\"sub_zone\":\"subzone\"}");
}

/* ---- metadata ---- */

static void agents_own_values_are_there(void **state)
{
    struct fixture *f = *state;
    f->request.proxy_config = json_doc(f, "{\"serviceCluster\":\"c\",\"unknown\":1.50}");
    f->request.pilot_san = json_doc(f, "[\"istiod.istio-system.svc\"]");
    f->request.sts_port = 15463;
    f->request.outlier_log_path = "/dev/stdout";
    f->request.service_account = "sa";
    describe(f, NULL);
    assert_string_equal(meta(f, "INSTANCE_IPS"), "\"10.3.3.3,10.4.4.4\"");
    assert_string_equal(meta(f, "NAME"), "\"pod-1\"");
    assert_string_equal(meta(f, "NAMESPACE"), "\"bar\"");
    assert_string_equal(meta(f, "SERVICE_ACCOUNT"), "\"sa\"");
    assert_string_equal(meta(f, "ISTIO_VERSION"), "\"1.21.0\"");
    assert_string_equal(meta(f, "ENVOY_STATUS_PORT"), "15021");
    assert_string_equal(meta(f, "ENVOY_PROMETHEUS_PORT"), "15090");
    assert_string_equal(meta(f, "STS_PORT"), "\"15463\"");
    assert_string_equal(meta(f, "OUTLIER_LOG_PATH"), "\"/dev/stdout\"");
    assert_string_equal(meta(f, "PILOT_SAN"), "[\"istiod.istio-system.svc\"]");
    assert_string_equal(meta(f, "PROXY_CONFIG"), "{\"serviceCluster\":\"c\",\"unknown\":1.50}");
    assert_string_equal(meta(f, "LABELS"), "(absent)");
    assert_string_equal(meta(f, "ANNOTATIONS"), "(absent)");
    assert_string_equal(json_text(f, f->node.locality), "{}");
}

static void later_sources_win(void **state)
{
    struct fixture *f = *state;
    const char *const environment[] = {"PATH=/bin",
                                       "ISTIO_META_B=env",
                                       "ISTIO_META_C=env",
                                       "ISTIO_METAJSON_X={\"C\":\"json\"}",
                                       "ISTIO_META_NAMESPACE=fake",
                                       "ISTIO_META_ISTIO_VERSION=release-3.1",
                                       "ISTIO_META_",
                                       NULL};
    f->request.proxy_config =
        json_doc(f, "{\"proxyMetadata\":{\"ISTIO_META_A\":\"pc\",\"ISTIO_META_B\":\"pc\","
                    "\"OTHER\":\"pc\"}}");
    describe(f, environment);
    assert_string_equal(meta(f, "A"), "\"pc\"");
    assert_string_equal(meta(f, "B"), "\"env\"");
    assert_string_equal(meta(f, "C"), "\"json\"");
    assert_string_equal(meta(f, "OTHER"), "(absent)");
    assert_string_equal(meta(f, "NAMESPACE"), "\"bar\"");
    assert_string_equal(meta(f, "ISTIO_VERSION"), "\"release-3.1\"");
}

static void typed_keys_beat_raw_ones_by_istios_vector(void **state)
{
    struct fixture *f = *state;
    const char *const environment[] = {
        "ISTIO_METAJSON_RAW={\"UNKNOWN\":\"new-field\",\"A\":1,\"B\":{\"b\":1},"
        "\"PROXY_CONFIG\":{\"fake\":1}}",
        "ISTIO_META_OWNER=real-owner", NULL};
    f->request.proxy_config = json_doc(f, "{\"serviceCluster\":\"cluster\"}");
    describe(f, environment);
    const struct rig_doc *cases = golden_read("bootstrap/cases.json", &f->arena);
    const struct rig_doc *expected =
        rig_doc_get(rig_doc_get(rig_doc_get(cases, "unit_vectors"), "raw_metadata_precedence"),
                    "node.metadata");
    assert_int_equal(expected->count, 5);
    for (size_t i = 0; i < expected->count; i++)
        assert_string_equal(meta(f, (const char *)expected->members[i].key.at),
                            json_text(f, expected->members[i].value));
}

static void json_members_come_to_the_top(void **state)
{
    struct fixture *f = *state;
    const char *const environment[] = {
        "ISTIO_METAJSON_LABELS={\"version\":\"v1\",\"app\":\"test\",\"istio-locality\":\"a.b\"}",
        NULL};
    describe(f, environment);
    assert_string_equal(meta(f, "version"), "\"v1\"");
    assert_string_equal(meta(f, "istio-locality"), "\"a.b\"");
    const char *labels = "{\"version\":\"v1\",\"app\":\"test\",\"istio-locality\":\"a/b\"}";
    assert_string_equal(meta(f, "LABELS"), labels);
    assert_string_equal(meta(f, "STATIC_LABELS"), labels);
    assert_string_equal(f->node.cluster, "test.bar");
    assert_string_equal(json_text(f, f->node.locality), "{\"region\":\"a\",\"zone\":\"b\"}");
}

static void files_add_labels_and_annotations(void **state)
{
    struct fixture *f = *state;
    const char *const environment[] = {"ISTIO_METAJSON_LABELS={\"a\":\"static\",\"b\":\"static\"}",
                                       NULL};
    f->request.labels = json_doc(f, "{\"b\":\"file\",\"pod-template-hash\":\"5f\"}");
    f->request.annotations = json_doc(f, "{\"x/y\":\"z\"}");
    describe(f, environment);
    assert_string_equal(meta(f, "LABELS"), "{\"a\":\"static\",\"b\":\"file\"}");
    assert_string_equal(meta(f, "STATIC_LABELS"), "{\"a\":\"static\",\"b\":\"static\"}");
    assert_string_equal(meta(f, "ANNOTATIONS"), "{\"x/y\":\"z\"}");
}

static void types_are_those_of_the_control_plane(void **state)
{
    struct fixture *f = *state;
    const char *const environment[] = {
        "ISTIO_META_DNS_CAPTURE=1", "ISTIO_META_ENABLE_HBONE=false",
        "ISTIO_META_OWNER=", "ISTIO_META_POD_PORTS=[\n {\"name\":\"http\",\"containerPort\":80}\n]",
        NULL};
    describe(f, environment);
    assert_string_equal(meta(f, "DNS_CAPTURE"), "\"true\"");
    assert_string_equal(meta(f, "ENABLE_HBONE"), "\"false\"");
    assert_string_equal(meta(f, "OWNER"), "\"\"");
    assert_string_equal(meta(f, "POD_PORTS"),
                        "\"[{\\\"name\\\":\\\"http\\\",\\\"containerPort\\\":80}]\"");
}

static void empty_pod_ports_pass_as_they_are(void **state)
{
    struct fixture *f = *state;
    const char *const environment[] = {"ISTIO_META_POD_PORTS=[\n]", NULL};
    describe(f, environment);
    assert_string_equal(meta(f, "POD_PORTS"), "\"[\\n]\"");
}

static void wrong_types_are_refused(void **state)
{
    struct fixture *f = *state;
    refuses(f, "ISTIO_META_DNS_CAPTURE=maybe",
            "ISTIO_META_DNS_CAPTURE must be true or false; this would reach the control plane as "
            "node metadata");
    refuses(f, "ISTIO_METAJSON_X={\"OWNER\":1}",
            "node metadata OWNER must be a string, not a number");
    refuses(f, "ISTIO_METAJSON_X={\"LABELS\":{\"a\":1}}",
            "node metadata LABELS.a must be a string");
    refuses(f, "ISTIO_METAJSON_X={\"ANNOTATIONS\":\"a\"}",
            "node metadata ANNOTATIONS must be a map, not a string");
    refuses(f, "ISTIO_META_POD_PORTS=80",
            "ISTIO_META_POD_PORTS must be a JSON list of ports in a string");
    refuses(f, "ISTIO_META_ENVOY_STATUS_PORT=many",
            "node metadata ENVOY_STATUS_PORT must be a whole number");
}

static void json_that_is_no_object_is_only_a_warning(void **state)
{
    struct fixture *f = *state;
    const char *const environment[] = {"ISTIO_METAJSON_A=[1]", "ISTIO_METAJSON_B={", NULL};
    describe(f, environment);
    assert_int_equal(f->node.warnings->count, 2);
    assert_string_equal((const char *)f->node.warnings->items[0]->text.at,
                        "ISTIO_METAJSON_A: must be a JSON object; the variable is ignored");
}

static void cluster_falls_back_to_workload_then_namespace(void **state)
{
    struct fixture *f = *state;
    const struct rig_doc *none = json_doc(f, "{}");
    assert_string_equal(node_cluster(none,
                                     json_doc(f, "{\"WORKLOAD_NAME\":\"wl\",\"NAMESPACE\":\"ns\"}"),
                                     &f->arena),
                        "wl.ns");
    assert_string_equal(node_cluster(none, json_doc(f, "{}"), &f->arena), "istio-proxy");
    const struct rig_doc *canonical =
        json_doc(f, "{\"tracingServiceName\":\"CANONICAL_NAME_AND_NAMESPACE\"}");
    assert_string_equal(
        node_cluster(canonical,
                     json_doc(f, "{\"LABELS\":{\"app\":\"a\",\"app.kubernetes.io/name\":"
                                 "\"k\"},\"NAMESPACE\":\"ns\"}"),
                     &f->arena),
        "k.ns");
    assert_string_equal(
        node_cluster(canonical, json_doc(f, "{\"WORKLOAD_NAME\":\"wl\"}"), &f->arena), "wl");
}

static void localities_may_be_partial(void **state)
{
    struct fixture *f = *state;
    f->request.labels = json_doc(f, "{\"istio-locality\":\"us-east.1/z\"}");
    describe(f, NULL);
    assert_string_equal(json_text(f, f->node.locality),
                        "{\"region\":\"us-east.1\",\"zone\":\"z\"}");
}

/* ---- downward API files ---- */

static void go_quoting_is_undone(void **state)
{
    struct fixture *f = *state;
    struct rig_doc *map = NULL;
    const char *text = "no equals sign\n"
                       "esc=\"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\"\n"
                       "hex=\"\\x41\\u00e9\\U0001F600\\101\"\n"
                       "empty=\"\"\n"
                       "twice=\"1\"\n"
                       "twice=\"2\"";
    assert_int_equal(node_downward_read(rig_slice_text(text), "labels", &f->arena, &map, &f->why),
                     0);
    assert_string_equal(rig_doc_get_text(map, "esc", ""), "\a\b\f\n\r\t\v\\\"");
    assert_string_equal(rig_doc_get_text(map, "hex", ""), "A\xc3\xa9\xf0\x9f\x98\x80"
                                                          "A");
    assert_string_equal(rig_doc_get_text(map, "empty", "(absent)"), "");
    assert_string_equal(rig_doc_get_text(map, "twice", ""), "2");
    assert_int_equal(map->count, 4);
}

static void one_bad_quote_refuses_the_file(void **state)
{
    static const char *const bad[] = {
        "a=b",         "a=\"b",       "a=\"",        "a=\"b\"c\"",    "a=\"\\\"",
        "a=\"\\q\"",   "a=\"\\x4\"",  "a=\"\\u12\"", "a=\"\\ud800\"", "a=\"\\U00110000\"",
        "a=\"\\400\"", "a=\"\\x00\"", "a=\"\\19\"",
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[64];
        struct rig_doc *map = NULL;
        snprintf(text, sizeof(text), "good=\"1\"\n%s\n", bad[i]);
        if (node_downward_read(rig_slice_text(text), "labels", &f->arena, &map, &f->why) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_string_equal(f->why.text, "labels:2: a value is not a quoted string");
    }
}

static void node_id_has_four_parts(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(node_id(&f->arena, "sidecar", "1.2.3.4", "foo", "ns", "bar"),
                        "sidecar~1.2.3.4~foo.ns~bar");
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(downward_files_by_istios_vectors, setup, teardown),
    cmocka_unit_test_setup_teardown(cluster_names_by_istios_vectors, setup, teardown),
    cmocka_unit_test_setup_teardown(locality_label_by_istios_vector, setup, teardown),
    cmocka_unit_test_setup_teardown(agents_own_values_are_there, setup, teardown),
    cmocka_unit_test_setup_teardown(later_sources_win, setup, teardown),
    cmocka_unit_test_setup_teardown(typed_keys_beat_raw_ones_by_istios_vector, setup, teardown),
    cmocka_unit_test_setup_teardown(json_members_come_to_the_top, setup, teardown),
    cmocka_unit_test_setup_teardown(files_add_labels_and_annotations, setup, teardown),
    cmocka_unit_test_setup_teardown(types_are_those_of_the_control_plane, setup, teardown),
    cmocka_unit_test_setup_teardown(empty_pod_ports_pass_as_they_are, setup, teardown),
    cmocka_unit_test_setup_teardown(wrong_types_are_refused, setup, teardown),
    cmocka_unit_test_setup_teardown(json_that_is_no_object_is_only_a_warning, setup, teardown),
    cmocka_unit_test_setup_teardown(cluster_falls_back_to_workload_then_namespace, setup, teardown),
    cmocka_unit_test_setup_teardown(localities_may_be_partial, setup, teardown),
    cmocka_unit_test_setup_teardown(go_quoting_is_undone, setup, teardown),
    cmocka_unit_test_setup_teardown(one_bad_quote_refuses_the_file, setup, teardown),
    cmocka_unit_test_setup_teardown(node_id_has_four_parts, setup, teardown))
