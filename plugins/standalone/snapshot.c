/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/snapshot.c: mesh and node -> a document for the template -> resources.
 * Here it is decided which services a workload serves and which it may see. */
#include "snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "core/alloc.h"
#include "core/doc.h"

#include <standalone_proto/cluster.pb-c.h>
#include <standalone_proto/endpoint.pb-c.h>
#include <standalone_proto/listener.pb-c.h>
#include <standalone_proto/route.pb-c.h>

#include "proto_json.h"
#include "wire.h"

#define SCRIPT "standalone"

/* A mesh file of full size has some ten thousand services. */
#define RENDER_BYTES_MAX   ((size_t)512 * 1024 * 1024)
#define SNAPSHOT_BYTES_MAX ((size_t)256 * 1024 * 1024)
static const struct rig_script_limits script_limits = {
    .max_instructions = 200 * 1000 * 1000,
    .max_bytes = (size_t)256 * 1024 * 1024,
    .max_ms = 5000,
};

struct type_row {
    const char *list; /* the template's name for it */
    const char *name_field;
    const char *short_name;
    const char *url;
    const ProtobufCMessageDescriptor *descriptor;
};

static const struct type_row types[SNAPSHOT_TYPES] = {
    [SNAPSHOT_CLUSTERS] = {"clusters", "name", "Cluster",
                           PROTO_URL_PREFIX "envoy.config.cluster.v3.Cluster",
                           &envoy__config__cluster__v3__cluster__descriptor},
    [SNAPSHOT_ENDPOINTS] = {"endpoints", "cluster_name", "ClusterLoadAssignment",
                            PROTO_URL_PREFIX "envoy.config.endpoint.v3.ClusterLoadAssignment",
                            &envoy__config__endpoint__v3__cluster_load_assignment__descriptor},
    [SNAPSHOT_LISTENERS] = {"listeners", "name", "Listener",
                            PROTO_URL_PREFIX "envoy.config.listener.v3.Listener",
                            &envoy__config__listener__v3__listener__descriptor},
    [SNAPSHOT_ROUTES] = {"routes", "name", "RouteConfiguration",
                         PROTO_URL_PREFIX "envoy.config.route.v3.RouteConfiguration",
                         &envoy__config__route__v3__route_configuration__descriptor},
};

const char *snapshot_type_url(enum snapshot_type type)
{
    return types[type].url;
}

const char *snapshot_type_name(enum snapshot_type type)
{
    return types[type].short_name;
}

bool snapshot_type_find(struct rig_slice type_url, enum snapshot_type *type)
{
    for (int i = 0; i < SNAPSHOT_TYPES; i++) {
        if (rig_slice_is(type_url, types[i].url)) {
            *type = (enum snapshot_type)i;
            return true;
        }
    }
    return false;
}

/* ---- the template's argument ---- */

static struct rig_doc *service_doc(struct rig_arena *arena, const struct mesh *mesh,
                                   const struct mesh_service *service)
{
    char id[IDENTITY_ID_MAX + 1];
    struct rig_doc *doc = rig_doc_map(arena);
    identity_spiffe_id(&service->identity, mesh->trust_domain, id);
    rig_doc_set(arena, doc, "host",
                rig_doc_text(arena, rig_arena_printf(arena, "%s.%s", service->name,
                                                     service->identity.namespace)));
    rig_doc_set(arena, doc, "protocol", rig_doc_text(arena, service->is_tcp ? "tcp" : "http"));
    rig_doc_set(arena, doc, "spiffe_id", rig_doc_text(arena, id));
    return doc;
}

static struct rig_doc *inbound_doc(struct rig_arena *arena, const struct mesh *mesh,
                                   const struct mesh_service *service,
                                   const struct mesh_endpoint *endpoint)
{
    struct rig_doc *doc = service_doc(arena, mesh, service);
    rig_doc_set(arena, doc, "address", rig_doc_text(arena, endpoint->address));
    rig_doc_set(arena, doc, "port", rig_doc_int(arena, endpoint->port));
    rig_doc_set(arena, doc, "workload_port", rig_doc_int(arena, service->workload_port));
    if (!service->allow.is_given)
        return doc;
    struct rig_doc *allow = rig_doc_list(arena);
    for (size_t i = 0; i < service->allow.count; i++) {
        char id[IDENTITY_ID_MAX + 1];
        identity_spiffe_id(&service->allow.items[i], mesh->trust_domain, id);
        rig_doc_push(arena, allow, rig_doc_text(arena, id));
    }
    rig_doc_set(arena, doc, "allow", allow);
    return doc;
}

static struct rig_doc *outbound_doc(struct rig_arena *arena, const struct mesh *mesh,
                                    const struct mesh_service *service)
{
    struct rig_doc *doc = service_doc(arena, mesh, service);
    struct rig_doc *endpoints = rig_doc_list(arena);
    for (size_t i = 0; i < service->endpoint_count; i++) {
        const struct mesh_endpoint *endpoint = &service->endpoints[i];
        struct rig_doc *item = rig_doc_map(arena);
        rig_doc_set(arena, item, "address", rig_doc_text(arena, endpoint->address));
        rig_doc_set(arena, item, "port", rig_doc_int(arena, endpoint->port));
        rig_doc_push(arena, endpoints, item);
    }
    rig_doc_set(arena, doc, "port", rig_doc_int(arena, service->port));
    rig_doc_set(arena, doc, "endpoints", endpoints);
    return doc;
}

/* Where this workload of the service listens: its own address among the endpoints. A service
 * with one endpoint has one workload, whatever address that one believes to have. */
static const struct mesh_endpoint *own_endpoint(const struct mesh_service *service,
                                                const char *address)
{
    if (service->endpoint_count == 1)
        return &service->endpoints[0];
    for (size_t i = 0; i < service->endpoint_count; i++)
        if (strcmp(service->endpoints[i].address, address) == 0)
            return &service->endpoints[i];
    return NULL;
}

static struct rig_doc *argument(struct rig_arena *arena, const struct mesh *mesh,
                                const struct snapshot_node *node)
{
    struct rig_doc *doc = rig_doc_map(arena);
    struct rig_doc *inbound = rig_doc_list(arena);
    struct rig_doc *outbound = rig_doc_list(arena);
    for (size_t i = 0; i < mesh->service_count; i++) {
        const struct mesh_service *service = &mesh->services[i];
        if (identity_equal(&service->identity, &node->identity)) {
            const struct mesh_endpoint *own = own_endpoint(service, node->address);
            if (own != NULL)
                rig_doc_push(arena, inbound, inbound_doc(arena, mesh, service, own));
        } else if (!service->clients.is_given ||
                   mesh_identities_has(&service->clients, &node->identity)) {
            rig_doc_push(arena, outbound, outbound_doc(arena, mesh, service));
        }
    }
    rig_doc_set(arena, doc, "trust_domain", rig_doc_text(arena, mesh->trust_domain));
    rig_doc_set(arena, doc, "inbound", inbound);
    rig_doc_set(arena, doc, "outbound", outbound);
    return doc;
}

/* ---- its answer ---- */

static void hash_text(EVP_MD_CTX *md, char text[SNAPSHOT_VERSION_BYTES])
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    rig_require(EVP_DigestFinal_ex(md, hash, NULL) == 1);
    for (size_t i = 0; i < (SNAPSHOT_VERSION_BYTES - 1) / 2; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
}

static EVP_MD_CTX *hash_new(void)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    rig_require(md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1);
    return md;
}

static void store(struct snapshot *snapshot, const struct type_row *row,
                  struct snapshot_resource *resource, struct rig_slice message)
{
    struct rig_buf any = {0};
    wire_text(&any, 1, row->url);
    wire_bytes(&any, 2, message);
    resource->any = rig_slice(rig_arena_copy(&snapshot->arena, any.at, any.len), any.len);
    rig_buf_deinit(&any);
    EVP_MD_CTX *md = hash_new();
    EVP_DigestUpdate(md, message.at, message.len);
    hash_text(md, resource->version);
    EVP_MD_CTX_free(md);
}

static int make_resource(struct snapshot *snapshot, const struct type_row *row,
                         const struct rig_doc *doc, size_t index, struct rig_fault *why)
{
    struct snapshot_resource *resource = &snapshot->sets[row - types].items[index];
    struct rig_buf message = {0};
    char place[64];
    snprintf(place, sizeof(place), "%s[%zu]", row->list, index);
    const char *name = rig_doc_get_text(doc, row->name_field, "");
    if (name[0] == '\0')
        return rig_fault_set(why, RIG_E_ABSENT, "%s.%s: is missing", place, row->name_field);
    int err = proto_json_encode(doc, row->descriptor, place, &message, why);
    if (err == 0) {
        resource->name = rig_arena_text(&snapshot->arena, name);
        store(snapshot, row, resource, rig_buf_slice(&message));
        if (rig_arena_is_spent(&snapshot->arena))
            err = rig_fault_set(why, RIG_E_BUDGET, "%s: too large", place);
    }
    rig_buf_deinit(&message);
    return err;
}

static int compare_resources(const void *a, const void *b)
{
    const struct snapshot_resource *left = a, *right = b;
    return strcmp(left->name, right->name);
}

/* Sorts, and makes the set's version of its members'. */
static int finish_set(struct snapshot_set *set, const struct type_row *row, struct rig_fault *why)
{
    if (set->count > 0)
        qsort(set->items, set->count, sizeof(*set->items), compare_resources);
    EVP_MD_CTX *md = hash_new();
    int err = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct snapshot_resource *item = &set->items[i];
        if (i > 0 && strcmp(item[-1].name, item->name) == 0)
            err = rig_fault_set(why, RIG_E_SYNTAX, "%s: \"%s\" stands there twice", row->list,
                                item->name);
        EVP_DigestUpdate(md, item->name, strlen(item->name) + 1);
        EVP_DigestUpdate(md, item->version, sizeof(item->version));
    }
    hash_text(md, set->version);
    EVP_MD_CTX_free(md);
    return err;
}

static int make_set(struct snapshot *snapshot, const struct type_row *row,
                    const struct rig_doc *answer, struct rig_fault *why)
{
    struct snapshot_set *set = &snapshot->sets[row - types];
    const struct rig_doc *list = rig_doc_get(answer, row->list);
    if (list == NULL || list->kind != RIG_DOC_LIST)
        return rig_fault_set(why, RIG_E_SYNTAX, "%s is %s, not a list", row->list,
                             list != NULL ? rig_doc_kind_text(list->kind) : "missing");
    set->items = rig_arena_alloc(&snapshot->arena, list->count * sizeof(*set->items));
    if (set->items == NULL && list->count > 0)
        return rig_fault_set(why, RIG_E_BUDGET, "%s: too many", row->list);
    for (size_t i = 0; i < list->count; i++) {
        int err = make_resource(snapshot, row, list->items[i], i, why);
        if (err < 0)
            return err;
    }
    set->count = list->count;
    return finish_set(set, row, why);
}

int snapshot_make(const struct mesh *mesh, const struct rig_script_dirs *dirs,
                  const struct snapshot_node *node, struct snapshot **snapshot,
                  struct rig_fault *why)
{
    struct rig_arena scratch;
    struct rig_doc *answer = NULL;
    struct snapshot *made = rig_new(struct snapshot);
    rig_arena_init(&scratch, RENDER_BYTES_MAX);
    rig_arena_init(&made->arena, SNAPSHOT_BYTES_MAX);
    struct rig_doc *given = argument(&scratch, mesh, node);
    int err =
        rig_script_call(dirs, SCRIPT, "resources", given, &script_limits, &scratch, &answer, why);
    for (int i = 0; err == 0 && i < SNAPSHOT_TYPES; i++) {
        err = make_set(made, &types[i], answer, why);
        if (err < 0)
            rig_fault_prefix(why, err, "the template %s", SCRIPT);
    }
    rig_arena_deinit(&scratch);
    if (err < 0)
        snapshot_free(made);
    else
        *snapshot = made;
    return err;
}

void snapshot_free(struct snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    rig_arena_deinit(&snapshot->arena);
    rig_free(snapshot);
}

const struct snapshot_resource *snapshot_find(const struct snapshot_set *set, const char *name)
{
    struct snapshot_resource wanted = {.name = name};
    if (set->count == 0)
        return NULL;
    return bsearch(&wanted, set->items, set->count, sizeof(*set->items), compare_resources);
}
