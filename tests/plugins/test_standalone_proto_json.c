/* SPDX-License-Identifier: Apache-2.0 */
/* Documents become protobuf octets; the octets here are written out by hand from the encoding's
 * rules (protobuf.dev, "Encoding"). */
#include "tests/harness/test.h"

#include <stdio.h>
#include <string.h>

#include <standalone_proto/cluster.pb-c.h>
#include <standalone_proto/listener.pb-c.h>
#include <standalone_proto/rbac.pb-c.h>
#include <standalone_proto/route.pb-c.h>
#include <standalone_proto/tls.pb-c.h>

#include "core/json.h"

#include "plugins/standalone/proto_json.h"

#define CLUSTER  envoy__config__cluster__v3__cluster__descriptor
#define ROUTE    envoy__config__route__v3__route_action__descriptor
#define LISTENER envoy__config__listener__v3__listener__descriptor
#define RBAC     envoy__config__rbac__v3__rbac__descriptor
#define DOWNTLS  envoy__extensions__transport_sockets__tls__v3__downstream_tls_context__descriptor

static int encode(const char *json, const ProtobufCMessageDescriptor *type, struct rig_buf *out,
                  struct rig_fault *why)
{
    struct rig_arena arena;
    struct rig_doc *doc = NULL;
    rig_arena_init(&arena, 1024 * 1024);
    assert_int_equal(rig_json_read(rig_slice_text(json), "test", &arena, &doc, why), 0);
    int err = proto_json_encode(doc, type, "top", out, why);
    rig_arena_deinit(&arena);
    return err;
}

static void assert_encoded(const char *json, const ProtobufCMessageDescriptor *type,
                           struct rig_slice expected)
{
    struct rig_buf out = {0};
    struct rig_fault why = {0};
    int err = encode(json, type, &out, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    assert_int_equal(out.len, expected.len);
    if (expected.len > 0)
        assert_memory_equal(out.at, expected.at, expected.len);
    rig_buf_deinit(&out);
}

static void assert_refused(const char *json, const ProtobufCMessageDescriptor *type,
                           const char *sentence)
{
    struct rig_buf out = {0};
    struct rig_fault why = {0};
    rig_buf_append_text(&out, "kept");
    assert_true(encode(json, type, &out, &why) < 0);
    assert_string_equal(why.text, sentence);
    assert_string_equal(rig_buf_text(&out), "kept");
    rig_buf_deinit(&out);
}

static void scalars_enums_and_durations(void **state)
{
    (void)state;
    assert_encoded("{}", &CLUSTER, RIG_SLICE(""));
    assert_encoded("{\"name\":\"a\"}", &CLUSTER,
                   RIG_SLICE("\x0a\x01"
                             "a"));
    /* lb_policy 6 = LEAST_REQUEST 1; connect_timeout 4 = {seconds 1: 300} */
    assert_encoded("{\"lb_policy\":\"LEAST_REQUEST\",\"connect_timeout\":\"300s\"}", &CLUSTER,
                   RIG_SLICE("\x22\x03\x08\xac\x02\x30\x01"));
    /* {seconds 1: 1, nanos 2: 500000000} */
    assert_encoded("{\"connect_timeout\":\"1.5s\"}", &CLUSTER,
                   RIG_SLICE("\x22\x08\x08\x01\x10\x80\xca\xb5\xee\x01"));
    /* A duration of nothing is there: "no timeout" is not "the default timeout". */
    assert_encoded("{\"timeout\":\"0s\"}", &ROUTE, RIG_SLICE("\x42\x00"));
}

static void defaults_are_left_out_but_in_oneofs_and_wrappers(void **state)
{
    (void)state;
    assert_encoded("{\"name\":\"\",\"lb_policy\":\"ROUND_ROBIN\"}", &CLUSTER, RIG_SLICE(""));
    assert_encoded("{\"type\":\"STATIC\"}", &CLUSTER, RIG_SLICE("\x10\x00"));
    assert_encoded("{\"require_client_certificate\":true}", &DOWNTLS,
                   RIG_SLICE("\x12\x02\x08\x01"));
    assert_encoded("{\"require_client_certificate\":false}", &DOWNTLS, RIG_SLICE("\x12\x00"));
    assert_encoded("{\"name\":null}", &CLUSTER, RIG_SLICE(""));
}

static void fields_are_ascending_and_maps_sorted(void **state)
{
    (void)state;
    /* address 2 {socket_address 1 {address 2: "::", port_value 3: 8080}}, traffic_direction 16 */
    struct rig_slice listener = RIG_SLICE("\x0a\x01l\x12\x09\x0a\x07\x12\x02::\x18\x90\x3f"
                                          "\x80\x01\x02");
    assert_encoded("{\"traffic_direction\":\"OUTBOUND\",\"name\":\"l\",\"address\":"
                   "{\"socket_address\":{\"port_value\":8080,\"address\":\"::\"}}}",
                   &LISTENER, listener);
    struct rig_slice rules = RIG_SLICE("\x12\x05\x0a\x01"
                                       "a\x12\x00\x12\x05\x0a\x01"
                                       "b\x12\x00");
    assert_encoded("{\"policies\":{\"b\":{},\"a\":{}}}", &RBAC, rules);
    assert_encoded("{\"policies\":{\"a\":{},\"b\":{}}}", &RBAC, rules);
    assert_encoded("{\"policies\":{}}", &RBAC, RIG_SLICE(""));
}

#define TLS_URL "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"

static void any_holds_its_message(void **state)
{
    (void)state;
    /* filter_chains 3 {transport_socket 6 {typed_config 3 {type_url 1, value 2}}} */
    assert_int_equal(strlen(TLS_URL), 0x52);
    struct rig_slice expected =
        RIG_SLICE("\x1a\x5e\x32\x5c\x1a\x5a\x0a\x52" TLS_URL "\x12\x04\x12\x02\x08\x01");
    assert_encoded(
        "{\"filter_chains\":[{\"transport_socket\":{\"typed_config\":{\"@type\":\"" TLS_URL
        "\",\"require_client_certificate\":true}}}]}",
        &LISTENER, expected);
}

static void misspelt_fields_are_named(void **state)
{
    (void)state;
    assert_refused("{\"nmae\":\"a\"}", &CLUSTER,
                   "top.nmae: no such field of envoy.config.cluster.v3.Cluster");
    assert_refused("{\"filter_chains\":[{},{\"filters\":[{\"nmae\":1}]}]}", &LISTENER,
                   "top.filter_chains[1].filters[0].nmae: no such field of "
                   "envoy.config.listener.v3.Filter");
    assert_refused("{\"@type\":\"x\"}", &CLUSTER,
                   "top.@type: no such field of envoy.config.cluster.v3.Cluster");
    assert_refused("{\"policies\":{\"a\":{\"x\":1}}}", &RBAC,
                   "top.policies.a.x: no such field of envoy.config.rbac.v3.Policy");
    assert_refused("{\"filter_chains\":[{\"transport_socket\":{\"typed_config\":{\"@type\":"
                   "\"type.googleapis.com/"
                   "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\",\"x\":1}}}]}",
                   &LISTENER,
                   "top.filter_chains[0].transport_socket.typed_config.x: no such field of "
                   "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
}

static void wrong_values_are_named(void **state)
{
    (void)state;
    assert_refused("[]", &CLUSTER, "top: a list, not a map");
    assert_refused("{\"name\":1}", &CLUSTER, "top.name: a number, not a string");
    assert_refused("{\"lb_policy\":1}", &CLUSTER, "top.lb_policy: a number, not a name");
    assert_refused("{\"lb_policy\":\"BEST\"}", &CLUSTER, "top.lb_policy: no such value");
    assert_refused("{\"connect_timeout\":5}", &CLUSTER,
                   "top.connect_timeout: a number, not a duration like \"1.5s\"");
    assert_refused("{\"connect_timeout\":\"5\"}", &CLUSTER,
                   "top.connect_timeout: not a duration like \"1.5s\"");
    assert_refused("{\"filter_chains\":{\"a\":1}}", &LISTENER,
                   "top.filter_chains: a map, not a list");
    assert_refused("{\"policies\":[]}", &RBAC, "top.policies: a list, not a map");
    assert_refused("{\"require_client_certificate\":1}", &DOWNTLS,
                   "top.require_client_certificate: a number, not true or false");
    static const char *const ports[] = {"-1", "4294967296", "1.5"};
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        char json[128];
        snprintf(json, sizeof(json), "{\"address\":{\"socket_address\":{\"port_value\":%s}}}",
                 ports[i]);
        assert_refused(json, &LISTENER,
                       "top.address.socket_address.port_value: the number does not fit");
    }
    assert_refused("{\"policies\":{\"a\":{\"principals\":[{\"any\":true,\"authenticated\":{}}]}}}",
                   &RBAC,
                   "top.policies.a.principals[0].authenticated: excludes another field that is "
                   "given");
}

static void any_needs_a_known_type(void **state)
{
    (void)state;
    assert_refused("{\"transport_socket\":{\"typed_config\":{}}}", &CLUSTER,
                   "top.transport_socket.typed_config.@type: is missing");
    assert_refused(
        "{\"transport_socket\":{\"typed_config\":{\"@type\":\"type.googleapis.com/x\"}}}", &CLUSTER,
        "top.transport_socket.typed_config.@type: this type is not written here");
}

RIG_TEST_MAIN(cmocka_unit_test(scalars_enums_and_durations),
              cmocka_unit_test(defaults_are_left_out_but_in_oneofs_and_wrappers),
              cmocka_unit_test(fields_are_ascending_and_maps_sorted),
              cmocka_unit_test(any_holds_its_message), cmocka_unit_test(misspelt_fields_are_named),
              cmocka_unit_test(wrong_values_are_named), cmocka_unit_test(any_needs_a_known_type))
