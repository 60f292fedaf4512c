/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/mesh_file.c: YAML -> struct mesh. A key that no table below names is an
 * error: a misspelt `allow` that is ignored would open a service to everybody. */
#include "mesh_file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <uv.h>

#include "core/alloc.h"
#include "core/doc.h"
#include "core/yaml.h"

/* The document is some forty times as large as its text, what is kept of it much smaller. */
#define SCRATCH_BYTES_MAX ((size_t)64 * MESH_FILE_BYTES_MAX)
#define ARENA_BYTES_MAX   ((size_t)16 * MESH_FILE_BYTES_MAX)

static const char *const mesh_keys[] = {"trustDomain", "services", NULL};
static const char *const service_keys[] = {"name",    "namespace", "serviceAccount", "protocol",
                                           "port",    "endpoints", "workloadPort",   "allow",
                                           "clients", NULL};
static const char *const endpoint_keys[] = {"address", "port", NULL};

/* Where we are, for the sentences. */
struct reader {
    const char *name;
    struct mesh *mesh;
    struct rig_arena *scratch; /* the document, and names of places */
    struct rig_fault *why;
};

struct place {
    const struct rig_doc *map;
    const char *name; /* "services[2]"; "" at the top */
};

static int refuse(const struct reader *reader, int code, uint32_t line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(const struct reader *reader, int code, uint32_t line, const char *format, ...)
{
    char text[RIG_FAULT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    /* The node of an empty file stands on no line. */
    return rig_fault_set(reader->why, code, "%s:%" PRIu32 ": %s", reader->name, line > 0 ? line : 1,
                         text);
}

/* "services[2].port" */
static const char *key_path(const struct reader *reader, const struct place *place, const char *key)
{
    if (place->name[0] == '\0')
        return key;
    const char *path = rig_arena_printf(reader->scratch, "%s.%s", place->name, key);
    return path != NULL ? path : key;
}

static bool is_listed(const char *const *keys, struct rig_slice key)
{
    while (*keys != NULL && !rig_slice_is(key, *keys))
        keys++;
    return *keys != NULL;
}

static int check_keys(const struct reader *reader, const struct place *place,
                      const char *const *keys)
{
    const struct rig_doc *map = place->map;
    if (map->kind != RIG_DOC_MAP)
        return refuse(reader, RIG_E_SYNTAX, map->line, "%s is %s, not a map",
                      place->name[0] != '\0' ? place->name : "the document",
                      rig_doc_kind_text(map->kind));
    for (size_t i = 0; i < map->count; i++) {
        if (is_listed(keys, map->members[i].key))
            continue;
        char known[256] = "";
        for (size_t k = 0, len = 0; keys[k] != NULL && len < sizeof(known); k++)
            len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", k > 0 ? ", " : "",
                                    keys[k]);
        return refuse(reader, RIG_E_UNKNOWN, map->members[i].line,
                      "%s: unknown key; known here: %s",
                      key_path(reader, place, (const char *)map->members[i].key.at), known);
    }
    return 0;
}

static int missing(const struct reader *reader, const struct place *place, const char *key)
{
    return refuse(reader, RIG_E_ABSENT, place->map->line, "%s is missing",
                  key_path(reader, place, key));
}

/* A string of this key and where it stands. `fallback` NULL: the key must be there. */
static int read_text(const struct reader *reader, const struct place *place, const char *key,
                     const char *fallback, uint32_t *line, struct rig_slice *text)
{
    const struct rig_doc *node = rig_doc_get(place->map, key);
    *line = node != NULL ? node->line : place->map->line;
    if (node == NULL) {
        *text = rig_slice_text(fallback);
        return fallback != NULL ? 0 : missing(reader, place, key);
    }
    if (node->kind != RIG_DOC_STRING)
        return refuse(reader, RIG_E_SYNTAX, node->line, "%s is %s, not a string",
                      key_path(reader, place, key), rig_doc_kind_text(node->kind));
    *text = node->text;
    return 0;
}

static int read_name(const struct reader *reader, const struct place *place, const char *key,
                     const char *fallback, struct rig_slice *name)
{
    uint32_t line;
    int err = read_text(reader, place, key, fallback, &line, name);
    if (err < 0)
        return err;
    if (!identity_is_name(*name))
        return refuse(
            reader, RIG_E_RANGE, line,
            "%s: \"%.*s\" is not a name of lower-case letters, digits and '-', 63 at most",
            key_path(reader, place, key), RIG_SLICE_ARG(*name));
    return 0;
}

static int read_port(const struct reader *reader, const struct place *place, const char *key,
                     uint16_t *port)
{
    const struct rig_doc *node = rig_doc_get(place->map, key);
    if (node == NULL)
        return missing(reader, place, key);
    if (node->kind != RIG_DOC_NUMBER)
        return refuse(reader, RIG_E_SYNTAX, node->line, "%s is %s, not a number",
                      key_path(reader, place, key), rig_doc_kind_text(node->kind));
    int64_t value;
    if (rig_doc_int64(node, &value) < 0 || value < 1 || value > UINT16_MAX)
        return refuse(reader, RIG_E_RANGE, node->line, "%s: %.*s is not a port (1 to 65535)",
                      key_path(reader, place, key), RIG_SLICE_ARG(node->text));
    *port = (uint16_t)value;
    return 0;
}

/* The list of this key in `list`, NULL when it is absent. */
static int read_list(const struct reader *reader, const struct place *place, const char *key,
                     const struct rig_doc **list)
{
    *list = rig_doc_get(place->map, key);
    if (*list != NULL && (*list)->kind != RIG_DOC_LIST)
        return refuse(reader, RIG_E_SYNTAX, (*list)->line, "%s is %s, not a list",
                      key_path(reader, place, key), rig_doc_kind_text((*list)->kind));
    return 0;
}

static struct place item_place(const struct reader *reader, const struct place *place,
                               const char *key, size_t index)
{
    const struct rig_doc *list = rig_doc_get(place->map, key);
    const char *name =
        rig_arena_printf(reader->scratch, "%s[%zu]", key_path(reader, place, key), index);
    return (struct place){list->items[index], name != NULL ? name : key};
}

static void *list_room(const struct reader *reader, size_t count, size_t item_bytes)
{
    return rig_arena_alloc(&reader->mesh->arena, count * item_bytes);
}

static int read_identities(const struct reader *reader, const struct place *place, const char *key,
                           struct mesh_identities *identities)
{
    const struct rig_doc *list;
    int err = read_list(reader, place, key, &list);
    if (err < 0 || list == NULL)
        return err;
    identities->is_given = true;
    identities->items = list_room(reader, list->count, sizeof(*identities->items));
    if (identities->items == NULL)
        return list->count > 0 ? RIG_E_BUDGET : 0;
    for (size_t i = 0; i < list->count; i++) {
        struct place item = item_place(reader, place, key, i);
        if (item.map->kind != RIG_DOC_STRING)
            return refuse(reader, RIG_E_SYNTAX, item.map->line, "%s is %s, not a string", item.name,
                          rig_doc_kind_text(item.map->kind));
        struct rig_fault reason = {0};
        err = identity_of_spiffe_id(item.map->text, reader->mesh->trust_domain,
                                    &identities->items[i], &reason);
        if (err < 0)
            return refuse(reader, err, item.map->line, "%s: %s", item.name, reason.text);
    }
    identities->count = list->count;
    return 0;
}

static bool is_numeric_address(const char *text)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    return uv_ip4_addr(text, 1, &v4) == 0 || uv_ip6_addr(text, 1, &v6) == 0;
}

static int read_endpoint(const struct reader *reader, const struct place *place,
                         struct mesh_endpoint *endpoint)
{
    int err = check_keys(reader, place, endpoint_keys);
    uint32_t line = 0;
    struct rig_slice address = {0};
    if (err == 0)
        err = read_text(reader, place, "address", NULL, &line, &address);
    if (err < 0)
        return err;
    /* Envoy takes endpoints by address only (EDS resolves no names). */
    endpoint->address = rig_arena_copy(&reader->mesh->arena, address.at, address.len);
    if (endpoint->address == NULL)
        return RIG_E_BUDGET;
    if (!is_numeric_address(endpoint->address))
        return refuse(reader, RIG_E_RANGE, line, "%s: \"%.*s\" is not an IP address",
                      key_path(reader, place, "address"), RIG_SLICE_ARG(address));
    return read_port(reader, place, "port", &endpoint->port);
}

static int read_endpoints(const struct reader *reader, const struct place *place,
                          struct mesh_service *service)
{
    const struct rig_doc *list;
    int err = read_list(reader, place, "endpoints", &list);
    if (err < 0)
        return err;
    if (list == NULL || list->count == 0)
        return missing(reader, place, "endpoints");
    service->endpoints = list_room(reader, list->count, sizeof(*service->endpoints));
    if (service->endpoints == NULL)
        return RIG_E_BUDGET;
    for (size_t i = 0; i < list->count; i++) {
        struct place item = item_place(reader, place, "endpoints", i);
        err = read_endpoint(reader, &item, &service->endpoints[i]);
        if (err < 0)
            return err;
        /* A workload finds its own endpoint by its address. */
        for (size_t k = 0; k < i; k++)
            if (strcmp(service->endpoints[k].address, service->endpoints[i].address) == 0)
                return refuse(reader, RIG_E_RANGE, item.map->line,
                              "%s: the address %s is there already", item.name,
                              service->endpoints[i].address);
    }
    service->endpoint_count = list->count;
    return 0;
}

static int read_protocol(const struct reader *reader, const struct place *place,
                         struct mesh_service *service)
{
    uint32_t line;
    struct rig_slice protocol = {0};
    int err = read_text(reader, place, "protocol", "http", &line, &protocol);
    if (err < 0)
        return err;
    service->is_tcp = rig_slice_is(protocol, "tcp");
    if (!service->is_tcp && !rig_slice_is(protocol, "http"))
        return refuse(reader, RIG_E_RANGE, line, "%s: \"%.*s\" is neither http nor tcp",
                      key_path(reader, place, "protocol"), RIG_SLICE_ARG(protocol));
    return 0;
}

static int read_names(const struct reader *reader, const struct place *place,
                      struct mesh_service *service)
{
    struct rig_slice name = {0}, namespace = {0}, account = {0};
    int err = read_name(reader, place, "name", NULL, &name);
    if (err < 0)
        return err;
    service->name = rig_arena_copy(&reader->mesh->arena, name.at, name.len);
    if (service->name == NULL)
        return RIG_E_BUDGET;
    err = read_name(reader, place, "namespace", "default", &namespace);
    if (err == 0)
        err = read_name(reader, place, "serviceAccount", service->name, &account);
    return err < 0 ? err : identity_set(&service->identity, namespace, account);
}

static bool share_endpoint(const struct mesh_service *a, const struct mesh_service *b,
                           size_t *index)
{
    for (size_t i = 0; i < a->endpoint_count; i++) {
        for (size_t k = 0; k < b->endpoint_count; k++) {
            *index = k;
            if (a->endpoints[i].port == b->endpoints[k].port &&
                strcmp(a->endpoints[i].address, b->endpoints[k].address) == 0)
                return true;
        }
    }
    return false;
}

/* What two services cannot share: the name, the port on a client's loopback, an endpoint. */
static int check_unique(const struct reader *reader, const struct place *place,
                        const struct mesh_service *service)
{
    for (const struct mesh_service *other = reader->mesh->services; other < service; other++) {
        if (strcmp(other->name, service->name) == 0 &&
            strcmp(other->identity.namespace, service->identity.namespace) == 0)
            return refuse(reader, RIG_E_RANGE, service->line,
                          "%s: %s of the namespace %s is in line %" PRIu32 " already",
                          key_path(reader, place, "name"), service->name,
                          service->identity.namespace, other->line);
        if (other->port == service->port)
            return refuse(reader, RIG_E_RANGE, rig_doc_get(place->map, "port")->line,
                          "%s: %u is the port of %s (line %" PRIu32 ") already",
                          key_path(reader, place, "port"), service->port, other->name, other->line);
        size_t index;
        if (share_endpoint(other, service, &index))
            return refuse(
                reader, RIG_E_RANGE, rig_doc_get(place->map, "endpoints")->items[index]->line,
                "%s[%zu]: %s:%u is an endpoint of %s (line %" PRIu32 ") already",
                key_path(reader, place, "endpoints"), index, service->endpoints[index].address,
                service->endpoints[index].port, other->name, other->line);
    }
    return 0;
}

static int read_service(const struct reader *reader, const struct place *place,
                        struct mesh_service *service)
{
    service->line = place->map->line;
    int err = check_keys(reader, place, service_keys);
    if (err == 0)
        err = read_names(reader, place, service);
    if (err == 0)
        err = read_protocol(reader, place, service);
    if (err == 0)
        err = read_port(reader, place, "port", &service->port);
    if (err == 0)
        err = read_port(reader, place, "workloadPort", &service->workload_port);
    if (err == 0)
        err = read_endpoints(reader, place, service);
    if (err == 0)
        err = read_identities(reader, place, "allow", &service->allow);
    if (err == 0)
        err = read_identities(reader, place, "clients", &service->clients);
    return err < 0 ? err : check_unique(reader, place, service);
}

static int read_services(const struct reader *reader, const struct place *top)
{
    const struct rig_doc *list;
    int err = read_list(reader, top, "services", &list);
    if (err < 0)
        return err;
    if (list == NULL || list->count == 0)
        return missing(reader, top, "services");
    reader->mesh->services = list_room(reader, list->count, sizeof(struct mesh_service));
    if (reader->mesh->services == NULL)
        return RIG_E_BUDGET;
    for (size_t i = 0; i < list->count; i++) {
        struct place item = item_place(reader, top, "services", i);
        err = read_service(reader, &item, &reader->mesh->services[i]);
        if (err < 0)
            return err;
    }
    reader->mesh->service_count = list->count;
    return 0;
}

static int read_document(const struct reader *reader, const struct rig_doc *doc)
{
    struct place top = {doc, ""};
    int err = check_keys(reader, &top, mesh_keys);
    if (err < 0)
        return err;
    uint32_t line;
    struct rig_slice domain = {0};
    err = read_text(reader, &top, "trustDomain", "cluster.local", &line, &domain);
    if (err < 0)
        return err;
    if (!identity_is_trust_domain(domain))
        return refuse(reader, RIG_E_RANGE, line,
                      "trustDomain: \"%.*s\" is not of lower-case letters, digits, '.', '-', '_'",
                      RIG_SLICE_ARG(domain));
    reader->mesh->trust_domain = rig_arena_copy(&reader->mesh->arena, domain.at, domain.len);
    if (reader->mesh->trust_domain == NULL)
        return RIG_E_BUDGET;
    return read_services(reader, &top);
}

int mesh_read(struct rig_slice text, const char *name, struct mesh **mesh, struct rig_fault *why)
{
    struct mesh *made = rig_new(struct mesh);
    struct rig_arena scratch;
    rig_arena_init(&made->arena, ARENA_BYTES_MAX);
    rig_arena_init(&scratch, SCRATCH_BYTES_MAX);
    struct reader reader = {name, made, &scratch, why};
    struct rig_doc *doc = NULL;
    int err = rig_yaml_read(text, name, &scratch, &doc, why);
    if (err == 0)
        err = read_document(&reader, doc);
    if (rig_arena_is_spent(&made->arena) || rig_arena_is_spent(&scratch))
        err = rig_fault_set(why, RIG_E_TOO_LARGE, "%s: too large for a mesh file", name);
    rig_arena_deinit(&scratch);
    if (err < 0)
        mesh_free(made);
    else
        *mesh = made;
    return err;
}

int mesh_read_file(const char *path, struct mesh **mesh, struct rig_fault *why)
{
    struct rig_buf text = {0};
    int err = rig_buf_read_file(&text, path, MESH_FILE_BYTES_MAX);
    if (err < 0)
        rig_fault_set(why, err, "%s: %s", path, rig_error_text(err));
    else
        err = mesh_read(rig_buf_slice(&text), path, mesh, why);
    rig_buf_deinit(&text);
    return err;
}

void mesh_free(struct mesh *mesh)
{
    if (mesh == NULL)
        return;
    rig_arena_deinit(&mesh->arena);
    rig_free(mesh);
}

bool mesh_identities_has(const struct mesh_identities *list, const struct identity *identity)
{
    for (size_t i = 0; i < list->count; i++)
        if (identity_equal(&list->items[i], identity))
            return true;
    return false;
}
