/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/istio_ca/istio_ca.c: has certificates signed by Istio's CA; the plugin's table. */
#include <uv.h>

#include "core/alloc.h"
#include "core/plugin.h"
#include "plugins/services/ca.h"
#include "plugins/services/workload.h"

#include "signing.h"

struct istio_ca_config {
    const char *cert_signer;
};

struct istio_ca {
    struct rig_host *host;
    struct signing_options signing;
    size_t open_calls;
    uint64_t requests;
    rig_stopped_cb stopped;
};

static void on_call_gone(void *ctx)
{
    struct istio_ca *ca = ctx;
    ca->open_calls--;
    if (ca->open_calls == 0 && ca->stopped != NULL)
        ca->stopped(ca->host);
}

static struct ca_call *istio_ca_sign(void *self, struct rig_slice csr_pem, uint64_t ttl_s,
                                     ca_signed_cb on_signed, void *ctx)
{
    struct istio_ca *ca = self;
    ca->open_calls++;
    ca->requests++;
    return signing_open(&ca->signing, csr_pem, ttl_s, on_signed, ctx);
}

static void istio_ca_cancel(void *self, struct ca_call *call)
{
    (void)self;
    signing_cancel(call);
}

static int istio_ca_init(struct rig_host *host, const void *config, void **self,
                         struct rig_fault *why)
{
    const struct istio_ca_config *options = config;
    struct rig_provider provider;
    int err = rig_service_provider(host, WORKLOAD_SERVICE, 0, &provider);
    if (err < 0)
        return rig_fault_set(why, err, "no plugin offers \"%s\"", WORKLOAD_SERVICE);
    const struct workload_v1 *functions = provider.functions;
    struct istio_ca *ca = rig_new(struct istio_ca);
    ca->host = host;
    ca->signing = (struct signing_options){
        .loop = rig_host_loop(host),
        .workload = functions->get(provider.self),
        .workload_functions = functions,
        .workload_self = provider.self,
        .cert_signer = options->cert_signer,
        .on_gone = on_call_gone,
        .ctx = ca,
    };
    *self = ca;
    return 0;
}

static void istio_ca_stop(void *self, rig_stopped_cb stopped)
{
    struct istio_ca *ca = self;
    ca->stopped = stopped;
    if (ca->open_calls == 0)
        stopped(ca->host);
}

static void istio_ca_status(void *self, struct rig_arena *arena, struct rig_doc *out)
{
    const struct istio_ca *ca = self;
    const struct workload_peer *peer = &ca->signing.workload->ca;
    rig_doc_set(arena, out, "address", rig_doc_text(arena, peer->address));
    rig_doc_set(arena, out, "serverName", rig_doc_text(arena, peer->server_name));
    rig_doc_set(arena, out, "requests", rig_doc_int(arena, (int64_t)ca->requests));
    rig_doc_set(arena, out, "open", rig_doc_int(arena, (int64_t)ca->open_calls));
}

static const struct rig_option options[] = {
    RIG_OPT(STRING, struct istio_ca_config, cert_signer, "certSigner", "", "ISTIO_META_CERT_SIGNER",
            NULL, "Signer that the CA is asked to use; empty: its own"),
    {0},
};

static const struct ca_v1 ca_functions = {istio_ca_sign, istio_ca_cancel};

static const struct rig_offer offers[] = {
    {CA_SERVICE, CA_VERSION, &ca_functions},
    {0},
};

static const struct rig_need needs[] = {
    {WORKLOAD_SERVICE, WORKLOAD_VERSION, RIG_NEED_ONE},
    {0},
};

extern const struct rig_plugin istio_ca_plugin;
RIG_EXPORT const struct rig_plugin istio_ca_plugin = {
    .abi = RIG_PLUGIN_ABI,
    .size = sizeof(struct rig_plugin),
    .name = "istio_ca",
    .about = "Has certificates signed by Istio's CA (CreateCertificate)",
    .version = RIG_VERSION,
    .config_size = sizeof(struct istio_ca_config),
    .options = options,
    .offers = offers,
    .needs = needs,
    .init = istio_ca_init,
    .stop = istio_ca_stop,
    .free = rig_free,
    .status = istio_ca_status,
};
