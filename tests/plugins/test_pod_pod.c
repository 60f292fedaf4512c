/* SPDX-License-Identifier: Apache-2.0 */
/* The service `workload` as its consumers see it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/plugin.h"
#include "plugins/pod/pod.h"
#include "tests/harness/test.h"

extern const struct rig_plugin pod_plugin;

struct fixture {
    struct pod_config config;
    struct rig_fault why;
    void *self;
    const struct workload_v1 *functions;
    char home[4096];
    char dir[64];
};

static const struct pod_config injected = {
    .node_type = "sidecar",
    .domain = "shop.svc.cluster.local",
    .mesh_file = "./etc/istio/config/mesh",
    .service_cluster = "istio-proxy",
    .proxy_config = "{concurrency: 2, newField: [1.50]}",
    .outlier_log_path = "",
    .pod_name = "cart-0",
    .pod_namespace = "shop",
    .service_account = "cart",
    .instance_ip = "192.0.2.7",
    .cluster_id = "Kubernetes",
    .ca_address = "",
    .ca_root = "SYSTEM",
    .xds_root = "SYSTEM",
    .cert_provider = "istiod",
    .istiod_san = "",
    .jwt_policy = "third-party-jwt",
    .trust_domain = "prod.example",
    .xds_socket = "",
    .sds_socket = "/run/secrets",
    .envoy_status_port = 15021,
    .envoy_prometheus_port = 15090,
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->config = injected;
    snprintf(f->dir, sizeof(f->dir), "/tmp/rig-pod-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_non_null(getcwd(f->home, sizeof(f->home)));
    assert_int_equal(chdir(f->dir), 0);
    assert_int_equal(system("mkdir -p etc/istio/pod var/run/secrets/tokens"), 0);
    unsetenv("XDS_HEADER_X-TENANT");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    if (f->self != NULL)
        pod_plugin.free(f->self);
    assert_int_equal(chdir(f->home), 0);
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    int status = system(command);
    free(f);
    return status;
}

static void write_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static const struct workload *start(struct fixture *f)
{
    if (pod_plugin.init(NULL, &f->config, &f->self, &f->why) < 0)
        fail_msg("%s", f->why.text);
    assert_string_equal(pod_plugin.offers[0].service, "workload");
    f->functions = pod_plugin.offers[0].functions;
    return f->functions->get(f->self);
}

static void workload_is_complete(void **state)
{
    struct fixture *f = *state;
    write_file("etc/istio/pod/labels", "app=\"cart\"\n");
    setenv("XDS_HEADER_X-TENANT", "blue", 1);
    const struct workload *w = start(f);
    assert_string_equal(w->node_type, "sidecar");
    assert_string_equal(w->node_id, "sidecar~192.0.2.7~cart-0.shop~shop.svc.cluster.local");
    assert_string_equal(w->cluster, "cart.shop");
    assert_string_equal(w->pod_name, "cart-0");
    assert_string_equal(w->pod_namespace, "shop");
    assert_string_equal(w->service_account, "cart");
    assert_string_equal(w->trust_domain, "prod.example");
    assert_string_equal(w->xds_socket, "./etc/istio/proxy/XDS"); /* below configPath */
    assert_string_equal(w->sds_socket, "/run/secrets");
    assert_string_equal(w->spiffe_id, "spiffe://prod.example/ns/shop/sa/cart");
    assert_string_equal(w->cluster_id, "Kubernetes");
    assert_string_equal(w->ip_addresses[0], "192.0.2.7");
    assert_string_equal(w->discovery.address, "istiod.istio-system.svc:15012");
    assert_string_equal(w->ca.server_name, "istiod.istio-system.svc");
    assert_string_equal(rig_doc_get_text(w->xds_headers, "x-tenant", ""), "blue");
    const struct rig_doc *list = rig_doc_get(w->proxy_config, "newField");
    assert_string_equal((const char *)list->items[0]->text.at, "1.50");
    assert_ptr_equal(rig_doc_get(w->metadata, "PROXY_CONFIG"), w->proxy_config);
    assert_int_equal(w->locality->count, 0);
}

static void domain_defaults_to_the_namespaces(void **state)
{
    struct fixture *f = *state;
    f->config.domain = "";
    assert_string_equal(start(f)->node_id, "sidecar~192.0.2.7~cart-0.shop~shop.svc.cluster.local");
}

static void token_is_read_at_every_call(void **state)
{
    struct fixture *f = *state;
    struct rig_secret token = {0};
    start(f);
    assert_int_equal(f->functions->token(f->self, &token, &f->why), RIG_E_ABSENT);
    write_file("var/run/secrets/tokens/istio-token", " first\n");
    assert_int_equal(f->functions->token(f->self, &token, &f->why), 0);
    assert_string_equal((const char *)token.at, "first");
    write_file("var/run/secrets/tokens/istio-token", "second");
    assert_int_equal(f->functions->token(f->self, &token, &f->why), 0);
    assert_string_equal((const char *)token.at, "second");
    write_file("var/run/secrets/tokens/istio-token", " \n");
    assert_int_equal(f->functions->token(f->self, &token, &f->why), RIG_E_ABSENT);
    assert_int_equal(truncate("var/run/secrets/tokens/istio-token", 1 << 20), 0);
    assert_int_equal(f->functions->token(f->self, &token, &f->why), RIG_E_TOO_LARGE);
    rig_secret_deinit(&token);
}

static void unknown_jwt_policy_means_no_token(void **state)
{
    struct fixture *f = *state;
    struct rig_secret token = {0};
    write_file("var/run/secrets/tokens/istio-token", "token");
    f->config.jwt_policy = "none";
    start(f);
    assert_int_equal(f->functions->token(f->self, &token, &f->why), RIG_E_ABSENT);
    rig_secret_deinit(&token);
}

static void bad_label_file_is_ignored(void **state)
{
    struct fixture *f = *state;
    write_file("etc/istio/pod/labels", "app=cart\n");
    assert_string_equal(start(f)->cluster, "istio-proxy.shop");
}

static void proxy_types_are_checked(void **state)
{
    struct fixture *f = *state;
    f->config.node_type = "gateway";
    assert_int_equal(pod_plugin.init(NULL, &f->config, &f->self, &f->why), RIG_E_USAGE);
    assert_string_equal(f->why.text, "\"gateway\" is no proxy type: sidecar, router, waypoint or "
                                     "ztunnel");
    f->config.node_type = "router";
    assert_memory_equal(start(f)->node_id, "router~", 7);
}

/* Each step of init that can fail, last first: nothing may be left behind (the sanitizers look). */
static void failed_init_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    setenv("XDS_HEADER_X-TENANT", "a\nb", 1);
    assert_true(pod_plugin.init(NULL, &f->config, &f->self, &f->why) < 0);
    f->config.ca_root = "/nowhere";
    assert_true(pod_plugin.init(NULL, &f->config, &f->self, &f->why) < 0);
    f->config.xds_root = "/nowhere";
    assert_true(pod_plugin.init(NULL, &f->config, &f->self, &f->why) < 0);
    f->config.proxy_config = "drainDuration: 0s";
    assert_true(pod_plugin.init(NULL, &f->config, &f->self, &f->why) < 0);
    assert_null(f->self);
}

RIG_TEST_MAIN(cmocka_unit_test_setup_teardown(workload_is_complete, setup, teardown),
              cmocka_unit_test_setup_teardown(domain_defaults_to_the_namespaces, setup, teardown),
              cmocka_unit_test_setup_teardown(token_is_read_at_every_call, setup, teardown),
              cmocka_unit_test_setup_teardown(unknown_jwt_policy_means_no_token, setup, teardown),
              cmocka_unit_test_setup_teardown(bad_label_file_is_ignored, setup, teardown),
              cmocka_unit_test_setup_teardown(proxy_types_are_checked, setup, teardown),
              cmocka_unit_test_setup_teardown(failed_init_leaves_nothing, setup, teardown))
