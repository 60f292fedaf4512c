/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a pod trusts under which name, what headers it sends, and where its ProxyConfig is from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "plugins/pod/pod.h"
#include "tests/harness/test.h"

struct fixture {
    struct rig_arena arena;
    struct rig_fault why;
    struct pod_config config;
    struct proxy_settings settings;
    struct workload_peer peer;
    char home[4096];
    char dir[64];
};

static const struct pod_config plain = {
    .node_type = "sidecar",
    .domain = "",
    .mesh_file = "./etc/istio/config/mesh",
    .service_cluster = "istio-proxy",
    .proxy_config = "",
    .ca_address = "",
    .ca_root = "",
    .xds_root = "",
    .cert_provider = "istiod",
    .istiod_san = "",
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    rig_arena_init(&f->arena, 1u << 20);
    f->config = plain;
    f->settings.discovery_address = "istiod.istio-system.svc:15012";
    snprintf(f->dir, sizeof(f->dir), "/tmp/rig-pod-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_non_null(getcwd(f->home, sizeof(f->home)));
    assert_int_equal(chdir(f->dir), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    assert_int_equal(chdir(f->home), 0);
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    int status = system(command);
    rig_arena_deinit(&f->arena);
    free(f);
    return status;
}

static void write_file(const char *path, const char *content)
{
    char copy[256];
    snprintf(copy, sizeof(copy), "%s", path);
    for (char *slash = strchr(copy, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(copy, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static void discovery(struct fixture *f)
{
    if (peers_discovery(&f->config, &f->settings, &f->arena, &f->peer, &f->why) < 0)
        fail_msg("%s", f->why.text);
}

static void ca(struct fixture *f)
{
    if (peers_ca(&f->config, &f->settings, &f->arena, &f->peer, &f->why) < 0)
        fail_msg("%s", f->why.text);
}

static void injected_root_is_the_default(void **state)
{
    struct fixture *f = *state;
    write_file("var/run/secrets/istio/root-cert.pem", "pem");
    discovery(f);
    assert_string_equal(f->peer.address, "istiod.istio-system.svc:15012");
    assert_string_equal(f->peer.server_name, "istiod.istio-system.svc");
    assert_string_equal(f->peer.root_path, "./var/run/secrets/istio/root-cert.pem");
    assert_false(f->peer.is_plaintext);
    ca(f);
    assert_string_equal(f->peer.address, "istiod.istio-system.svc:15012");
    assert_string_equal(f->peer.root_path, "./var/run/secrets/istio/root-cert.pem");
}

static void missing_root_is_a_fault_that_names_the_way_out(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(peers_discovery(&f->config, &f->settings, &f->arena, &f->peer, &f->why),
                     RIG_E_ABSENT);
    assert_string_equal(f->why.text, "root CA file for XDS does not exist: "
                                     "./var/run/secrets/istio/root-cert.pem (XDS_ROOT_CA names "
                                     "another)");
    f->config.ca_root = "nowhere.pem";
    assert_int_equal(peers_ca(&f->config, &f->settings, &f->arena, &f->peer, &f->why),
                     RIG_E_ABSENT);
    assert_string_equal(f->why.text,
                        "root CA file for CA does not exist: nowhere.pem (CA_ROOT_CA names "
                        "another)");
    f->config.cert_provider = "none";
    assert_int_equal(peers_discovery(&f->config, &f->settings, &f->arena, &f->peer, &f->why),
                     RIG_E_ABSENT);
}

static void roots_are_found_in_istios_order(void **state)
{
    struct fixture *f = *state;
    write_file("var/run/secrets/istio/root-cert.pem", "pem");
    write_file("etc/certs/root-cert.pem", "pem");
    write_file("own.pem", "pem");
    discovery(f);
    assert_string_equal(f->peer.root_path, "./etc/certs/root-cert.pem");
    f->config.xds_root = "own.pem";
    discovery(f);
    assert_string_equal(f->peer.root_path, "own.pem");
    f->config.xds_root = "SYSTEM";
    discovery(f);
    assert_null(f->peer.root_path);

    ca(f);
    assert_string_equal(f->peer.root_path, "./var/run/secrets/istio/root-cert.pem");
    f->config.cert_provider = "custom";
    ca(f);
    assert_string_equal(f->peer.root_path, "./etc/certs/root-cert.pem");
    f->config.ca_root = "SYSTEM";
    ca(f);
    assert_null(f->peer.root_path);
}

static void plaintext_needs_no_root(void **state)
{
    struct fixture *f = *state;
    f->settings.is_plaintext = true;
    discovery(f);
    assert_true(f->peer.is_plaintext);
    assert_null(f->peer.root_path);
    f->config.ca_address = "ca.example:15010";
    ca(f);
    assert_true(f->peer.is_plaintext);
    assert_string_equal(f->peer.address, "ca.example:15010");
}

static void localhost_stands_for_istiod(void **state)
{
    struct fixture *f = *state;
    write_file("var/run/secrets/istio/root-cert.pem", "pem");
    f->settings.discovery_address = "localhost:15012";
    discovery(f);
    assert_string_equal(f->peer.server_name, "istiod.istio-system.svc");
    f->settings.discovery_address = "[::1]:15012";
    discovery(f);
    assert_string_equal(f->peer.server_name, "::1");
}

static void istiod_san_counts_for_the_ca_only_without_ca_addr(void **state)
{
    struct fixture *f = *state;
    write_file("var/run/secrets/istio/root-cert.pem", "pem");
    f->config.istiod_san = "istiod.example";
    discovery(f);
    assert_string_equal(f->peer.server_name, "istiod.example");
    ca(f);
    assert_string_equal(f->peer.server_name, "istiod.example");
    f->config.ca_address = "ca.example:443";
    ca(f);
    assert_string_equal(f->peer.server_name, "ca.example");
}

static void bad_addresses_name_their_variable(void **state)
{
    struct fixture *f = *state;
    f->config.ca_address = "ca.example";
    assert_true(peers_ca(&f->config, &f->settings, &f->arena, &f->peer, &f->why) < 0);
    assert_memory_equal(f->why.text, "CA_ADDR: ", 9);
}

/* ---- headers ---- */

static void headers_are_lower_case(void **state)
{
    static const char *const environment[] = {"PATH=/bin", "XDS_HEADER_X-Tenant=Blue",
                                              "XDS_HEADER_EMPTY=", NULL};
    struct fixture *f = *state;
    struct rig_doc *headers = NULL;
    assert_int_equal(peers_headers(environment, &f->arena, &headers, &f->why), 0);
    assert_int_equal(headers->count, 2);
    assert_string_equal(rig_doc_get_text(headers, "x-tenant", ""), "Blue");
    assert_string_equal(rig_doc_get_text(headers, "empty", "(absent)"), "");
}

static void headers_that_http2_forbids_are_refused(void **state)
{
    static const char *const bad[] = {
        "XDS_HEADER_=a",     "XDS_HEADER_A B=c",  "XDS_HEADER_:path=/",    "XDS_HEADER_TE=gzip",
        "XDS_HEADER_Host=h", "XDS_HEADER_A=b\nc", "XDS_HEADER_A= b",       "XDS_HEADER_A=b\t",
        "XDS_HEADER_A=\x7f", "XDS_HEADER_\xc3=a", "XDS_HEADER_A=\xc3\xa9", "XDS_HEADER_A=b\r",
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *const environment[] = {bad[i], NULL};
        struct rig_doc *headers = NULL;
        if (peers_headers(environment, &f->arena, &headers, &f->why) != RIG_E_SYNTAX)
            fail_msg("%s was taken", bad[i]);
    }
}

/* ---- ProxyConfig ---- */

static struct rig_doc *annotation(struct fixture *f, const char *key, const char *value)
{
    struct rig_doc *map = rig_doc_map(&f->arena);
    rig_doc_set(&f->arena, map, key, rig_doc_text(&f->arena, value));
    return map;
}

static int effective(struct fixture *f, const struct rig_doc *annotations,
                     struct proxy_config *config)
{
    return effective_read(&f->config, annotations, &f->arena, config, &f->settings, &f->why);
}

static void later_sources_of_proxy_config_win(void **state)
{
    struct fixture *f = *state;
    struct proxy_config config;
    write_file("etc/istio/config/mesh",
               "trustDomain: td\ndefaultConfig: {drainDuration: 1s, proxyAdminPort: 1,"
               " statusPort: 1, concurrency: 1, serviceCluster: ''}");
    f->config.proxy_config = "{proxyAdminPort: 2, statusPort: 2}";
    f->config.cpu_limit = 7;
    f->config.service_cluster = "from-flag";
    struct rig_doc *annotations = annotation(f, "proxy.istio.io/config", "statusPort: 3");
    assert_int_equal(effective(f, annotations, &config), 0);
    assert_int_equal(f->settings.drain_s, 1);
    assert_int_equal(f->settings.admin_port, 2);
    assert_int_equal(f->settings.status_port, 3);
    assert_int_equal(f->settings.concurrency, 1);
    assert_string_equal(f->settings.service_cluster, "from-flag");

    rig_doc_set(&f->arena, annotations, "status.sidecar.istio.io/port",
                rig_doc_text(&f->arena, "4"));
    rig_doc_set(&f->arena, annotations, "sidecar.istio.io/discoveryAddress",
                rig_doc_text(&f->arena, "other:15012"));
    f->config.concurrency = 5;
    assert_int_equal(effective(f, annotations, &config), 0);
    assert_int_equal(f->settings.status_port, 4);
    assert_int_equal(f->settings.concurrency, 5);
    assert_string_equal(f->settings.discovery_address, "other:15012");
}

static void cpu_limit_is_the_last_word_on_concurrency(void **state)
{
    struct fixture *f = *state;
    struct proxy_config config;
    assert_int_equal(effective(f, NULL, &config), 0);
    assert_false(f->settings.has_concurrency);
    f->config.cpu_limit = 2;
    assert_int_equal(effective(f, NULL, &config), 0);
    assert_int_equal(f->settings.concurrency, 2);
    f->config.proxy_config = "concurrency: 0";
    assert_int_equal(effective(f, NULL, &config), 0);
    assert_true(f->settings.has_concurrency);
    assert_int_equal(f->settings.concurrency, 0);
}

static void a_bad_status_port_annotation_is_ignored(void **state)
{
    static const char *const bad[] = {
        "", "x", "-1", "65536", "15020x", " 1", "99999999999999999999"};
    struct fixture *f = *state;
    struct proxy_config config;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(
            effective(f, annotation(f, "status.sidecar.istio.io/port", bad[i]), &config), 0);
        assert_int_equal(f->settings.status_port, 15020);
    }
    assert_int_equal(effective(f, annotation(f, "status.sidecar.istio.io/port", "0"), &config), 0);
    assert_int_equal(f->settings.status_port, 0);
}

static void faults_of_each_source_name_it(void **state)
{
    struct fixture *f = *state;
    struct proxy_config config;
    f->config.proxy_config = "a: [";
    assert_true(effective(f, NULL, &config) < 0);
    assert_memory_equal(f->why.text, "PROXY_CONFIG:", 13);
    f->config.proxy_config = "";
    assert_true(effective(f, annotation(f, "proxy.istio.io/config", "drainDuration: 0s"), &config) <
                0);
    assert_string_equal(f->why.text, "annotation proxy.istio.io/config:1: drainDuration must be "
                                     "whole seconds, \"1s\" to \"3600s\"");
    assert_true(
        effective(f, annotation(f, "sidecar.istio.io/discoveryAddress", "nowhere"), &config) < 0);
    assert_string_equal(f->why.text, "annotation sidecar.istio.io/discoveryAddress: "
                                     "discoveryAddress must be HOST:PORT");
    write_file("etc/istio/config/mesh", "defaultConfig:\n  statusPort: 70000\n");
    assert_true(effective(f, NULL, &config) < 0);
    assert_string_equal(f->why.text, "./etc/istio/config/mesh:2: statusPort must be a port, or 0 "
                                     "for none");
}

/* ---- addresses ---- */

static void instance_ip_comes_first_and_once(void **state)
{
    struct fixture *f = *state;
    const char *const *list = addresses_list("192.0.2.7", &f->arena);
    assert_string_equal(list[0], "192.0.2.7");
    for (size_t i = 1; list[i] != NULL; i++) {
        assert_string_not_equal(list[i], "192.0.2.7");
        assert_string_not_equal(list[i], "127.0.0.1");
        assert_string_not_equal(list[i], "::1");
    }
    list = addresses_list("no address", &f->arena);
    assert_non_null(list[0]);
    assert_string_not_equal(list[0], "no address");
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(injected_root_is_the_default, setup, teardown),
    cmocka_unit_test_setup_teardown(missing_root_is_a_fault_that_names_the_way_out, setup,
                                    teardown),
    cmocka_unit_test_setup_teardown(roots_are_found_in_istios_order, setup, teardown),
    cmocka_unit_test_setup_teardown(plaintext_needs_no_root, setup, teardown),
    cmocka_unit_test_setup_teardown(localhost_stands_for_istiod, setup, teardown),
    cmocka_unit_test_setup_teardown(istiod_san_counts_for_the_ca_only_without_ca_addr, setup,
                                    teardown),
    cmocka_unit_test_setup_teardown(bad_addresses_name_their_variable, setup, teardown),
    cmocka_unit_test_setup_teardown(headers_are_lower_case, setup, teardown),
    cmocka_unit_test_setup_teardown(headers_that_http2_forbids_are_refused, setup, teardown),
    cmocka_unit_test_setup_teardown(later_sources_of_proxy_config_win, setup, teardown),
    cmocka_unit_test_setup_teardown(cpu_limit_is_the_last_word_on_concurrency, setup, teardown),
    cmocka_unit_test_setup_teardown(a_bad_status_port_annotation_is_ignored, setup, teardown),
    cmocka_unit_test_setup_teardown(faults_of_each_source_name_it, setup, teardown),
    cmocka_unit_test_setup_teardown(instance_ip_comes_first_and_once, setup, teardown))
