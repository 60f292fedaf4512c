/* SPDX-License-Identifier: Apache-2.0 */
/* What a mesh file may say, and the sentence for each way in which it can be wrong. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "core/buf.h"

#include "plugins/standalone/mesh_file.h"

static struct mesh *read_good(const char *text)
{
    struct mesh *mesh = NULL;
    struct rig_fault why = {0};
    int err = mesh_read(rig_slice_text(text), "mesh.yaml", &mesh, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    return mesh;
}

static void assert_refused(const char *text, const char *sentence)
{
    struct mesh *mesh = NULL;
    struct rig_fault why = {0};
    assert_true(mesh_read(rig_slice_text(text), "mesh.yaml", &mesh, &why) < 0);
    assert_null(mesh);
    assert_string_equal(why.text, sentence);
}

static void whole_file_is_read(void **state)
{
    (void)state;
    struct mesh *mesh = read_good("trustDomain: td.example\n"
                                  "services:\n"
                                  "  - name: orders\n"
                                  "    namespace: shop\n"
                                  "    serviceAccount: orders-sa\n"
                                  "    protocol: tcp\n"
                                  "    port: 8080\n"
                                  "    workloadPort: 9090\n"
                                  "    endpoints:\n"
                                  "      - {address: 10.0.0.5, port: 15006}\n"
                                  "      - {address: \"fd00::5\", port: 15007}\n"
                                  "    allow: [spiffe://td.example/ns/shop/sa/frontend]\n"
                                  "    clients:\n"
                                  "      - spiffe://td.example/ns/shop/sa/frontend\n"
                                  "      - spiffe://td.example/ns/ops/sa/probe\n");
    assert_string_equal(mesh->trust_domain, "td.example");
    assert_int_equal(mesh->service_count, 1);
    const struct mesh_service *service = &mesh->services[0];
    assert_string_equal(service->name, "orders");
    assert_string_equal(service->identity.namespace, "shop");
    assert_string_equal(service->identity.service_account, "orders-sa");
    assert_true(service->is_tcp);
    assert_int_equal(service->port, 8080);
    assert_int_equal(service->workload_port, 9090);
    assert_int_equal(service->endpoint_count, 2);
    assert_string_equal(service->endpoints[0].address, "10.0.0.5");
    assert_int_equal(service->endpoints[0].port, 15006);
    assert_string_equal(service->endpoints[1].address, "fd00::5");
    assert_int_equal(service->endpoints[1].port, 15007);
    assert_true(service->allow.is_given);
    assert_int_equal(service->allow.count, 1);
    struct identity frontend, probe;
    assert_int_equal(identity_set(&frontend, RIG_SLICE("shop"), RIG_SLICE("frontend")), 0);
    assert_int_equal(identity_set(&probe, RIG_SLICE("ops"), RIG_SLICE("probe")), 0);
    assert_true(mesh_identities_has(&service->allow, &frontend));
    assert_false(mesh_identities_has(&service->allow, &probe));
    assert_true(mesh_identities_has(&service->clients, &frontend));
    assert_true(mesh_identities_has(&service->clients, &probe));
    mesh_free(mesh);
}

#define ENDPOINT "    endpoints: [{address: 127.0.0.1, port: 15006}]\n"
#define REST     "    port: 8080\n    workloadPort: 9090\n" ENDPOINT

static void what_is_left_out_has_defaults(void **state)
{
    (void)state;
    struct mesh *mesh = read_good("services:\n  - name: orders\n" REST);
    const struct mesh_service *service = &mesh->services[0];
    assert_string_equal(mesh->trust_domain, "cluster.local");
    assert_string_equal(service->identity.namespace, "default");
    assert_string_equal(service->identity.service_account, "orders");
    assert_false(service->is_tcp);
    assert_false(service->allow.is_given);
    assert_false(service->clients.is_given);
    mesh_free(mesh);
}

/* `allow: []` is nobody; it must not read like an absent `allow`, which is everybody. */
static void empty_allow_is_given(void **state)
{
    (void)state;
    struct mesh *mesh = read_good("services:\n  - name: orders\n    allow: []\n" REST);
    assert_true(mesh->services[0].allow.is_given);
    assert_int_equal(mesh->services[0].allow.count, 0);
    mesh_free(mesh);
    assert_refused("services:\n  - name: orders\n    allow:\n" REST,
                   "mesh.yaml:3: services[0].allow is null, not a list");
}

static void unknown_keys_are_named_with_their_line(void **state)
{
    (void)state;
    assert_refused("trustDomian: x\nservices: []\n",
                   "mesh.yaml:1: trustDomian: unknown key; known here: trustDomain, services");
    assert_refused("services:\n  - name: orders\n" REST "    alow: []\n",
                   "mesh.yaml:6: services[0].alow: unknown key; known here: name, namespace, "
                   "serviceAccount, protocol, port, endpoints, workloadPort, allow, clients");
    assert_refused("services:\n"
                   "  - name: a\n" REST "  - name: orders\n"
                   "    port: 8081\n"
                   "    workloadPort: 9090\n"
                   "    endpoints:\n"
                   "      - address: 127.0.0.1\n"
                   "        port: 15006\n"
                   "        weight: 3\n",
                   "mesh.yaml:12: services[1].endpoints[0].weight: unknown key; known here: "
                   "address, port");
}

static void missing_keys_are_named(void **state)
{
    (void)state;
    assert_refused("{}\n", "mesh.yaml:1: services is missing");
    assert_refused("services: []\n", "mesh.yaml:1: services is missing");
    assert_refused("services:\n  - port: 8080\n", "mesh.yaml:2: services[0].name is missing");
    assert_refused("services:\n  - name: a\n    workloadPort: 1\n" ENDPOINT,
                   "mesh.yaml:2: services[0].port is missing");
    assert_refused("services:\n  - name: a\n    port: 1\n" ENDPOINT,
                   "mesh.yaml:2: services[0].workloadPort is missing");
    assert_refused("services:\n  - name: a\n    port: 1\n    workloadPort: 2\n",
                   "mesh.yaml:2: services[0].endpoints is missing");
    assert_refused("services:\n  - name: a\n    port: 1\n    workloadPort: 2\n    endpoints: []\n",
                   "mesh.yaml:2: services[0].endpoints is missing");
    assert_refused("services:\n  - name: a\n    port: 1\n    workloadPort: 2\n    endpoints:\n     "
                   " - port: 3\n",
                   "mesh.yaml:6: services[0].endpoints[0].address is missing");
}

static void wrong_kinds_are_named(void **state)
{
    (void)state;
    assert_refused("", "mesh.yaml:1: the document is null, not a map");
    assert_refused("- a\n", "mesh.yaml:1: the document is a list, not a map");
    assert_refused("services: 3\n", "mesh.yaml:1: services is a number, not a list");
    assert_refused("services:\n  - orders\n", "mesh.yaml:2: services[0] is a string, not a map");
    assert_refused("services:\n  - name: 7\n",
                   "mesh.yaml:2: services[0].name is a number, not a string");
    assert_refused("services:\n  - name: a\n    port: \"80\"\n",
                   "mesh.yaml:3: services[0].port is a string, not a number");
    assert_refused("services:\n  - name: a\n    allow: spiffe://cluster.local/ns/a/sa/b\n" REST,
                   "mesh.yaml:3: services[0].allow is a string, not a list");
    assert_refused("services:\n  - name: a\n    allow: [1]\n" REST,
                   "mesh.yaml:3: services[0].allow[0] is a number, not a string");
    assert_refused("services:\n  - name: a\n    name: b\n",
                   "mesh.yaml:3: \"name\" stands on line 2 already");
}

static void wrong_values_are_quoted(void **state)
{
    (void)state;
    assert_refused("trustDomain: Cluster.Local\nservices: []\n",
                   "mesh.yaml:1: trustDomain: \"Cluster.Local\" is not of lower-case letters, "
                   "digits, '.', '-', '_'");
    assert_refused("services:\n  - name: a/b\n",
                   "mesh.yaml:2: services[0].name: \"a/b\" is not a name of lower-case letters, "
                   "digits and '-', 63 at most");
    assert_refused("services:\n  - name: a\n    namespace: a_b\n",
                   "mesh.yaml:3: services[0].namespace: \"a_b\" is not a name of lower-case "
                   "letters, digits and '-', 63 at most");
    assert_refused("services:\n  - name: a\n    serviceAccount: -a\n",
                   "mesh.yaml:3: services[0].serviceAccount: \"-a\" is not a name of lower-case "
                   "letters, digits and '-', 63 at most");
    assert_refused("services:\n  - name: a\n    protocol: udp\n",
                   "mesh.yaml:3: services[0].protocol: \"udp\" is neither http nor tcp");
    static const char *const ports[] = {"0", "65536", "-1", "80.5", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        char text[256], sentence[256];
        snprintf(text, sizeof(text), "services:\n  - name: a\n    port: %s\n", ports[i]);
        snprintf(sentence, sizeof(sentence),
                 "mesh.yaml:3: services[0].port: %s is not a port (1 to 65535)", ports[i]);
        assert_refused(text, sentence);
    }
    assert_refused("services:\n  - name: a\n    port: 1\n    workloadPort: 2\n"
                   "    endpoints: [{address: localhost, port: 3}]\n",
                   "mesh.yaml:5: services[0].endpoints[0].address: \"localhost\" is not an IP "
                   "address");
}

static void identities_must_be_of_this_mesh(void **state)
{
    (void)state;
    const char *form = " is not of the form "
                       "spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT";
    static const char *const bad[] = {
        "frontend",
        "spiffe://cluster.local",
        "spiffe://cluster.local/ns/shop",
        "spiffe://cluster.local/ns/shop/sa/",
        "spiffe://cluster.local/ns//sa/frontend",
        "spiffe://cluster.local/ns/shop/sa/frontend/",
        "spiffe://cluster.local/ns/shop/sa/*",
        "spiffe://CLUSTER.local/ns/shop/sa/frontend",
        "https://cluster.local/ns/shop/sa/frontend",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[512], sentence[512];
        snprintf(text, sizeof(text), "services:\n  - name: a\n    allow: [\"%s\"]\n" REST, bad[i]);
        snprintf(sentence, sizeof(sentence), "mesh.yaml:3: services[0].allow[0]: \"%s\"%s", bad[i],
                 form);
        assert_refused(text, sentence);
    }
    assert_refused("services:\n  - name: a\n    clients:\n      - spiffe://other/ns/a/sa/b\n" REST,
                   "mesh.yaml:4: services[0].clients[0]: \"spiffe://other/ns/a/sa/b\" is of the "
                   "trust domain other; this mesh is cluster.local");
}

static void what_two_services_cannot_share(void **state)
{
    (void)state;
    assert_refused("services:\n"
                   "  - name: a\n" REST
                   "  - name: a\n    port: 8081\n    workloadPort: 1\n" ENDPOINT,
                   "mesh.yaml:6: services[1].name: a of the namespace default is in line 2 "
                   "already");
    assert_refused("services:\n"
                   "  - name: a\n" REST "  - name: b\n" REST,
                   "mesh.yaml:7: services[1].port: 8080 is the port of a (line 2) already");
    struct mesh *mesh = read_good("services:\n"
                                  "  - name: a\n" REST "  - name: a\n    namespace: b\n"
                                  "    port: 8081\n    workloadPort: 1\n"
                                  "    endpoints: [{address: 127.0.0.1, port: 15007}]\n");
    mesh_free(mesh);
    assert_refused("services:\n"
                   "  - name: a\n" REST "  - name: b\n    port: 8081\n    workloadPort: 1\n"
                   "    endpoints:\n      - {address: 127.0.0.2, port: 15006}\n"
                   "      - {address: 127.0.0.1, port: 15006}\n",
                   "mesh.yaml:11: services[1].endpoints[1]: 127.0.0.1:15006 is an endpoint of a "
                   "(line 2) already");
    assert_refused("services:\n  - name: a\n    port: 1\n    workloadPort: 2\n"
                   "    endpoints:\n      - {address: 127.0.0.1, port: 1}\n"
                   "      - {address: 127.0.0.1, port: 2}\n",
                   "mesh.yaml:7: services[0].endpoints[1]: the address 127.0.0.1 is there "
                   "already");
}

static void broken_yaml_has_a_line(void **state)
{
    (void)state;
    struct mesh *mesh = NULL;
    struct rig_fault why = {0};
    assert_true(mesh_read(RIG_SLICE("services:\n  - name: [\n"), "mesh.yaml", &mesh, &why) < 0);
    assert_memory_equal(why.text, "mesh.yaml:", 10);
}

static void absent_and_huge_files_are_refused(void **state)
{
    (void)state;
    struct mesh *mesh = NULL;
    struct rig_fault why = {0};
    assert_int_equal(mesh_read_file("/nonexistent/mesh.yaml", &mesh, &why), UV_ENOENT);
    assert_string_equal(why.text, "/nonexistent/mesh.yaml: no such file or directory");
    assert_int_equal(mesh_read_file("/dev/zero", &mesh, &why), RIG_E_TOO_LARGE);
    assert_string_equal(why.text, "/dev/zero: larger than its limit");
}

RIG_TEST_MAIN(cmocka_unit_test(whole_file_is_read), cmocka_unit_test(what_is_left_out_has_defaults),
              cmocka_unit_test(empty_allow_is_given),
              cmocka_unit_test(unknown_keys_are_named_with_their_line),
              cmocka_unit_test(missing_keys_are_named), cmocka_unit_test(wrong_kinds_are_named),
              cmocka_unit_test(wrong_values_are_quoted),
              cmocka_unit_test(identities_must_be_of_this_mesh),
              cmocka_unit_test(what_two_services_cannot_share),
              cmocka_unit_test(broken_yaml_has_a_line),
              cmocka_unit_test(absent_and_huge_files_are_refused))
