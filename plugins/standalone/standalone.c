/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/standalone.c: the embedded control plane: options, life, and the one server
 * on which the CA and the discovery service are found. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/dial.h"
#include "core/grpc.h"
#include "core/log.h"
#include "core/plugin.h"
#include "core/tls.h"

#include "ads.h"
#include "cert_service.h"
#include "mesh_file.h"
#include "snapshot.h"
#include "state.h"
#include "token_command.h"

#define SCOPE "standalone"

/* An agent has one connection with one stream, and one more for each certificate. Without a token
 * nobody gets a stream, and without a stream a connection does not last. */
#define CONNECTIONS_MAX 1024
#define STREAMS_MAX     32
#define IDLE_MS         30000

/* Names of the server's certificate: those of the option, the loopback's, the listening one. */
#define SERVER_NAMES_MAX 32

struct standalone_config {
    const char *file;
    const char *address;
    const char *server_names;
    const char *state_dir;
    const char *status_address;
    const char *address_file;
};

struct standalone {
    struct rig_host *host;
    const struct standalone_config *config;
    struct mesh *mesh;
    struct state state;
    struct rig_tls *tls;
    struct rig_grpc_server *server;
    struct ads ads;
    struct cert_service certs;
    rig_stopped_cb stopped;
};

static void on_sotw(void *ctx, struct rig_grpc_call *call)
{
    struct standalone *self = ctx;
    ads_call_sotw(&self->ads, call);
}

static void on_delta(void *ctx, struct rig_grpc_call *call)
{
    struct standalone *self = ctx;
    ads_call_delta(&self->ads, call);
}

static void on_certificate(void *ctx, struct rig_grpc_call *call)
{
    struct standalone *self = ctx;
    cert_service_call(&self->certs, call);
}

static const struct rig_grpc_method methods[] = {
    {ADS_SOTW_PATH, on_sotw},
    {ADS_DELTA_PATH, on_delta},
    {CERT_SERVICE_PATH, on_certificate},
    {0},
};

/* Splits the option in place and adds what is always a name of ours. */
static int collect_names(char *listed, char *host, const char *names[SERVER_NAMES_MAX + 1],
                         struct rig_fault *why)
{
    size_t count = 0;
    char *rest = listed, *name;
    while ((name = strsep(&rest, ",")) != NULL) {
        if (name[0] == '\0')
            continue;
        if (count + 4 >= SERVER_NAMES_MAX)
            return rig_fault_set(why, RIG_E_TOO_LARGE, "standalone.serverNames: over %d names",
                                 SERVER_NAMES_MAX - 4);
        names[count++] = name;
    }
    names[count++] = "localhost";
    names[count++] = "127.0.0.1";
    names[count++] = "::1";
    if (strcmp(host, "0.0.0.0") != 0 && strcmp(host, "::") != 0)
        names[count++] = host;
    names[count] = NULL;
    return 0;
}

/* The server's certificate is made at each start; only the root outlives us. */
static int make_tls(struct standalone *self, struct rig_fault *why)
{
    char host[256];
    uint16_t port;
    const char *names[SERVER_NAMES_MAX + 1];
    struct rig_buf chain = {0};
    struct rig_secret key = {0};
    char *listed = rig_strdup(self->config->server_names);
    int err = rig_dial_split(self->config->address, host, sizeof(host), &port, why);
    if (err < 0)
        rig_fault_prefix(why, err, "standalone.address");
    else
        err = collect_names(listed, host, names, why);
    if (err == 0)
        err = authority_serve(&self->state.authority, names, &chain, &key, why);
    if (err == 0) {
        struct rig_tls_server_options options = {
            .chain_pem = rig_buf_slice(&chain), .key_pem = &key, .alpn = "h2"};
        err = rig_tls_server_new(&options, &self->tls, why);
    }
    rig_free(listed);
    rig_buf_deinit(&chain);
    rig_secret_deinit(&key);
    return err;
}

/* What a template gets wrong is found at start, not when the first workload comes. */
static int try_template(const struct standalone *self, struct rig_fault *why)
{
    struct snapshot *snapshot = NULL;
    struct snapshot_node node = {
        .identity = self->mesh->services[0].identity,
        .address = self->mesh->services[0].endpoints[0].address,
    };
    int err = snapshot_make(self->mesh, self->ads.scripts, &node, &snapshot, why);
    snapshot_free(snapshot);
    return err;
}

static void standalone_free(void *ctx)
{
    struct standalone *self = ctx;
    rig_tls_free(self->tls);
    state_deinit(&self->state);
    mesh_free(self->mesh);
    rig_free(self);
}

static int standalone_init(struct rig_host *host, const void *config, void **out,
                           struct rig_fault *why)
{
    struct standalone *self = rig_new(struct standalone);
    self->host = host;
    self->config = config;
    int err = mesh_read_file(self->config->file, &self->mesh, why);
    if (err == 0)
        err = state_init(&self->state, self->config->state_dir, why);
    if (err == 0) {
        self->ads = (struct ads){
            .mesh = self->mesh, .state = &self->state, .scripts = rig_host_scripts(host)};
        self->certs =
            (struct cert_service){.state = &self->state, .trust_domain = self->mesh->trust_domain};
        err = make_tls(self, why);
    }
    if (err == 0)
        err = try_template(self, why);
    if (err < 0)
        standalone_free(self);
    else
        *out = self;
    return err;
}

static void write_address(struct standalone *self, const char *address)
{
    const char *path = self->config->address_file;
    if (path == NULL)
        return;
    int err = rig_file_replace(path, rig_slice_text(address), 0644);
    if (err < 0) {
        rig_log_error(SCOPE, "%s: %s", path, rig_error_text(err));
        rig_host_exit(self->host, 1);
    }
}

static int standalone_start(void *ctx, struct rig_fault *why)
{
    struct standalone *self = ctx;
    struct rig_grpc_server_options options = {
        .address = self->config->address,
        .tls = self->tls,
        .methods = methods,
        .ctx = self,
        .max_connections = CONNECTIONS_MAX,
        .h2 = {.max_streams = STREAMS_MAX,
               .idle_timeout_ms = IDLE_MS,
               .keepalive_ms = 30000,
               .keepalive_timeout_ms = 10000},
    };
    int err = 0;
    if (self->config->status_address != NULL)
        err = rig_host_serve(self->host, self->config->status_address, why);
    if (err == 0)
        err = rig_grpc_server_open(rig_host_loop(self->host), &options, &self->server, why);
    if (err < 0)
        return err;
    const char *address = rig_grpc_server_address(self->server);
    if (self->state.is_new)
        rig_log_info(SCOPE, "made a root certificate and a key for tokens in %s",
                     self->config->state_dir);
    rig_log_info(SCOPE,
                 "control plane of %s on %s: %zu services; clients verify it by "
                 "%s/root-cert.pem",
                 self->mesh->trust_domain, address, self->mesh->service_count,
                 self->config->state_dir);
    write_address(self, address);
    rig_host_mark(self->host, "control plane served");
    return 0;
}

static void standalone_drain(void *ctx)
{
    struct standalone *self = ctx;
    rig_grpc_server_drain(self->server);
}

static void on_server_closed(void *ctx)
{
    struct standalone *self = ctx;
    self->stopped(self->host);
}

static void standalone_stop(void *ctx, rig_stopped_cb stopped)
{
    struct standalone *self = ctx;
    self->stopped = stopped;
    if (self->config->address_file != NULL)
        unlink(self->config->address_file);
    rig_grpc_server_close(self->server, on_server_closed, self);
}

static void standalone_status(void *ctx, struct rig_arena *arena, struct rig_doc *out)
{
    const struct standalone *self = ctx;
    struct rig_doc *certificates = rig_doc_map(arena);
    rig_doc_set(arena, certificates, "issued", rig_doc_int(arena, (int64_t)self->certs.issued));
    rig_doc_set(arena, certificates, "refused", rig_doc_int(arena, (int64_t)self->certs.refused));
    rig_doc_set(arena, out, "address", rig_doc_text(arena, rig_grpc_server_address(self->server)));
    rig_doc_set(arena, out, "trustDomain", rig_doc_text(arena, self->mesh->trust_domain));
    rig_doc_set(arena, out, "services", rig_doc_int(arena, (int64_t)self->mesh->service_count));
    rig_doc_set(arena, out, "certificates", certificates);
    rig_doc_set(arena, out, "streamsRefused", rig_doc_int(arena, (int64_t)self->ads.refused));
    rig_doc_set(arena, out, "streams", ads_status(&self->ads, arena));
}

#define ROW(member, key, fallback, flag, about)                                                    \
    RIG_OPT(STRING, struct standalone_config, member, key, fallback, NULL, flag, about)

static const struct rig_option options[] = {
    ROW(file, "file", "mesh.yaml", "file",
        "The mesh: services, endpoints, allowed identities; read at start"),
    ROW(address, "address", "127.0.0.1:15012", "address",
        "Where agents find CA and discovery, numeric; port 0: any free one"),
    ROW(server_names, "serverNames", "istiod.istio-system.svc", "server-names",
        "Names and addresses of the server's certificate, by commas, beside localhost"),
    ROW(state_dir, "stateDir", STATE_DIR_DEFAULT, "state-dir",
        "Directory of root certificate and keys; made when it is not there"),
    ROW(status_address, "statusAddress", NULL, "status-address",
        "Where GET /status tells streams and refused resources; nowhere if not set"),
    ROW(address_file, "addressFile", NULL, "address-file",
        "File that gets the bound address once it is served; removed at the end"),
    {0},
};

RIG_EXPORT extern const struct rig_plugin standalone_plugin;
const struct rig_plugin standalone_plugin = {
    .abi = RIG_PLUGIN_ABI,
    .size = sizeof(struct rig_plugin),
    .name = "standalone",
    .about = "Control plane of one mesh file: CA and discovery for machines without Kubernetes",
    .version = RIG_VERSION,
    .config_size = sizeof(struct standalone_config),
    .options = options,
    .commands = token_commands,
    .init = standalone_init,
    .start = standalone_start,
    .drain = standalone_drain,
    .stop = standalone_stop,
    .free = standalone_free,
    .status = standalone_status,
};
