/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/mesh/proxy_config.c: merges ProxyConfig documents as Istio 1.21 does, and reads the
 * settings of the agent out of the result.
 *
 * Istio decodes twice, strictly and then leniently, so that a misspelt field is dropped without
 * a word. Here it is kept and a warning names it; a value of the wrong kind is an error in both. */
#include "proxy_config.h"

#include <string.h>

#include "core/dial.h"

enum field_kind {
    TEXT,     /* string */
    COUNT,    /* int32 or a wrapper of it; a quoted number is read too */
    DURATION, /* "45s" */
    FLAG,     /* bool or a wrapper of it */
    CHOICE,   /* enum: name or number */
    MESSAGE,
    TEXT_MAP, /* map<string, string> */
    ITEMS,
};

struct field {
    const char *name;
    enum field_kind kind;
    bool is_idle; /* Istio's agent acts upon it, this one does not */
};

/* istio.mesh.v1alpha1.ProxyConfig, 1.21 and later. */
static const struct field fields[] = {
    {"binaryPath", TEXT, false},
    {"caCertificatesPem", ITEMS, true},
    {"concurrency", COUNT, false},
    {"configPath", TEXT, false},
    {"connectionSettings", MESSAGE, true},
    {"controlPlaneAuthPolicy", CHOICE, false},
    {"customConfigFile", TEXT, true},
    {"discoveryAddress", TEXT, false},
    {"discoveryRefreshDelay", DURATION, false},
    {"drainDuration", DURATION, false},
    {"envoyAccessLogService", MESSAGE, true},
    {"envoyMetricsService", MESSAGE, true},
    {"envoyMetricsServiceAddress", TEXT, true},
    {"extraStatTags", ITEMS, false},
    {"fileFlushInterval", DURATION, true},
    {"fileFlushMinSizeKb", COUNT, true},
    {"gatewayTopology", MESSAGE, false},
    {"holdApplicationUntilProxyStarts", FLAG, false},
    {"image", MESSAGE, false},
    {"interceptionMode", CHOICE, false},
    {"meshId", TEXT, false},
    {"privateKeyProvider", MESSAGE, true},
    {"proxyAdminPort", COUNT, false},
    {"proxyBootstrapTemplatePath", TEXT, true},
    {"proxyHeaders", MESSAGE, false},
    {"proxyMetadata", TEXT_MAP, false},
    {"proxyStatsMatcher", MESSAGE, false},
    {"readinessProbe", MESSAGE, true},
    {"runtimeValues", TEXT_MAP, false},
    {"serviceCluster", TEXT, false},
    {"statNameLength", COUNT, false},
    {"statsCompression", FLAG, true},
    {"statsdUdpAddress", TEXT, false},
    {"statusPort", COUNT, false},
    {"terminationDrainDuration", DURATION, false},
    {"tracing", MESSAGE, false},
    {"tracingServiceName", CHOICE, false},
    {"zipkinAddress", TEXT, true},
};

/* Members of `tracing` that only the agent would act upon. */
static const char *const idle_tracers[] = {"lightstep", "datadog", "stackdriver", "openCensusAgent",
                                           "tlsSettings"};

/* proxyHeaders is the one message that Istio merges member by member, and only for these. */
static const char *const kept_headers[] = {"forwardedClientCert", "requestId", "attemptCount",
                                           "server", "envoyDebugHeaders"};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct field *field_find(struct rig_slice name)
{
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        if (rig_slice_is(name, fields[i].name))
            return &fields[i];
    }
    return NULL;
}

/* ---- names ---- */

static char *camel_case(struct rig_arena *arena, struct rig_slice name)
{
    char *camel = rig_arena_copy(arena, name.at, name.len);
    if (camel == NULL)
        return NULL;
    size_t out = 0;
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)name.at[i];
        if (c == '_' && i + 1 < name.len && name.at[i + 1] >= 'a' && name.at[i + 1] <= 'z')
            c = (char)(name.at[++i] - 'a' + 'A');
        camel[out++] = c;
    }
    camel[out] = '\0';
    return camel;
}

/* Maps whose keys are the user's, not field names. */
static bool has_own_keys(const char *field)
{
    return strcmp(field, "proxyMetadata") == 0 || strcmp(field, "runtimeValues") == 0 ||
           strcmp(field, "customTags") == 0;
}

/* A copy with camelCase names at every depth; `are_keys_kept` is for this level only. */
static struct rig_doc *camel_copy(struct rig_arena *arena, const struct rig_doc *doc,
                                  bool are_keys_kept)
{
    if (doc->kind == RIG_DOC_LIST) {
        struct rig_doc *list = rig_doc_list(arena);
        for (size_t i = 0; i < doc->count; i++)
            rig_doc_push(arena, list, camel_copy(arena, doc->items[i], false));
        return list;
    }
    if (doc->kind != RIG_DOC_MAP)
        return rig_doc_copy(arena, doc);

    struct rig_doc *map = rig_doc_map(arena);
    for (size_t i = 0; i < doc->count; i++) {
        const struct rig_doc_member *member = &doc->members[i];
        const char *key =
            are_keys_kept ? (const char *)member->key.at : camel_case(arena, member->key);
        if (key == NULL)
            break;
        rig_doc_set(arena, map, key,
                    camel_copy(arena, member->value, !are_keys_kept && has_own_keys(key)));
    }
    return map;
}

/* ---- kinds ---- */

static bool is_duration(const struct rig_doc *value)
{
    uint64_t ms;
    return value->kind == RIG_DOC_STRING && proxy_duration_parse(value->text, &ms) == 0;
}

/* Proto-JSON lets a number stand in quotes; later readers see a number only. */
static bool count_unquote(struct rig_doc *value)
{
    if (value->kind == RIG_DOC_STRING) {
        if (value->text.len == 0 || value->text.len > 10)
            return false;
        for (size_t i = 0; i < value->text.len; i++) {
            if (value->text.at[i] < '0' || value->text.at[i] > '9')
                return false;
        }
        value->kind = RIG_DOC_NUMBER;
    }
    int64_t number;
    return rig_doc_int64(value, &number) == 0 && number >= INT32_MIN && number <= INT32_MAX;
}

static const char *kind_problem(const struct field *field, struct rig_doc *value)
{
    switch (field->kind) {
    case TEXT:
        return value->kind == RIG_DOC_STRING ? NULL : "must be a string";
    case COUNT:
        return count_unquote(value) ? NULL : "must be a whole number";
    case DURATION:
        return is_duration(value) ? NULL : "must be a duration in seconds like \"45s\"";
    case FLAG:
        return value->kind == RIG_DOC_BOOL ? NULL : "must be true or false";
    case CHOICE:
        return value->kind == RIG_DOC_STRING || value->kind == RIG_DOC_NUMBER ? NULL
                                                                              : "must be a name";
    case MESSAGE:
    case TEXT_MAP:
        return value->kind == RIG_DOC_MAP ? NULL : "must be a map";
    case ITEMS:
        return value->kind == RIG_DOC_LIST ? NULL : "must be a list";
    }
    return NULL;
}

static int field_check(const struct field *field, struct rig_doc *value, const char *origin,
                       struct rig_fault *why)
{
    const char *problem = kind_problem(field, value);
    if (problem != NULL)
        return rig_fault_set(why, RIG_E_SYNTAX, "%s: %s %s, not %s", origin, field->name, problem,
                             rig_doc_kind_text(value->kind));
    if (field->kind != TEXT_MAP)
        return 0;
    for (size_t i = 0; i < value->count; i++) {
        const struct rig_doc_member *member = &value->members[i];
        if (member->value->kind != RIG_DOC_STRING)
            return rig_fault_set(why, RIG_E_SYNTAX, "%s: %s.%s must be a string: put it in quotes",
                                 origin, field->name, (const char *)member->key.at);
    }
    return 0;
}

/* ---- merging ---- */

void proxy_config_init(struct proxy_config *config, struct rig_arena *arena)
{
    *config = (struct proxy_config){
        .arena = arena, .fields = rig_doc_map(arena), .origins = rig_doc_map(arena)};

    static const struct {
        const char *field, *value;
    } texts[] = {
        {"configPath", "./etc/istio/proxy"},
        {"binaryPath", "/usr/local/bin/envoy"},
        {"serviceCluster", "istio-proxy"},
        {"drainDuration", "45s"},
        {"terminationDrainDuration", "5s"},
        {"controlPlaneAuthPolicy", "MUTUAL_TLS"},
        {"discoveryAddress", "istiod.istio-system.svc:15012"},
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        rig_doc_set(arena, config->fields, texts[i].field, rig_doc_text(arena, texts[i].value));
    rig_doc_set(arena, config->fields, "proxyAdminPort", rig_doc_int(arena, 15000));
    rig_doc_set(arena, config->fields, "statNameLength", rig_doc_int(arena, 189));
    rig_doc_set(arena, config->fields, "statusPort", rig_doc_int(arena, 15020));

    struct rig_doc *zipkin = rig_doc_map(arena);
    rig_doc_set(arena, zipkin, "address", rig_doc_text(arena, "zipkin.istio-system:9411"));
    struct rig_doc *tracing = rig_doc_map(arena);
    rig_doc_set(arena, tracing, "zipkin", zipkin);
    rig_doc_set(arena, config->fields, "tracing", tracing);
}

void proxy_config_set(struct proxy_config *config, const char *field, struct rig_doc *value,
                      const char *source)
{
    /* One oneof in the message: the name that is given, or the rule that makes it. */
    const char *twin = strcmp(field, "serviceCluster") == 0       ? "tracingServiceName"
                       : strcmp(field, "tracingServiceName") == 0 ? "serviceCluster"
                                                                  : NULL;
    if (twin != NULL)
        rig_doc_remove(config->fields, twin);
    rig_doc_set(config->arena, config->fields, field, value);
    rig_doc_set(config->arena, config->origins, field, rig_doc_text(config->arena, source));
}

static void metadata_unite(struct rig_arena *arena, const struct rig_doc *old,
                           struct rig_doc *value)
{
    for (size_t i = 0; old != NULL && i < old->count; i++) {
        if (rig_doc_get_slice(value, old->members[i].key) == NULL)
            rig_doc_set_slice(arena, value, old->members[i].key, old->members[i].value);
    }
}

static void headers_keep(struct rig_arena *arena, const struct rig_doc *old, struct rig_doc *value)
{
    for (size_t i = 0; i < COUNT_OF(kept_headers); i++) {
        struct rig_doc *kept = rig_doc_get(old, kept_headers[i]);
        if (kept != NULL && rig_doc_get(value, kept_headers[i]) == NULL)
            rig_doc_set(arena, value, kept_headers[i], kept);
    }
}

static const char *origin_text(struct rig_arena *arena, const char *source, uint32_t line)
{
    const char *origin = line > 0 ? rig_arena_printf(arena, "%s:%u", source, line) : source;
    return origin != NULL ? origin : source;
}

static int member_overlay(struct proxy_config *config, const struct rig_doc_member *member,
                          const char *name, const char *source, struct rig_fault *why)
{
    const char *origin = origin_text(config->arena, source, member->line);
    struct rig_doc *value = camel_copy(config->arena, member->value, has_own_keys(name));
    if (value == NULL)
        return rig_fault_set(why, RIG_E_TOO_LARGE, "%s: too large", origin);
    const struct field *field = field_find(rig_slice_text(name));
    int err = field != NULL ? field_check(field, value, origin, why) : 0;
    if (err < 0)
        return err;

    struct rig_doc *old = rig_doc_get(config->fields, name);
    if (strcmp(name, "proxyMetadata") == 0)
        metadata_unite(config->arena, old, value);
    else if (strcmp(name, "proxyHeaders") == 0)
        headers_keep(config->arena, old, value);
    proxy_config_set(config, name, value, origin);
    return 0;
}

int proxy_config_overlay(struct proxy_config *config, const struct rig_doc *overlay,
                         const char *source, struct rig_fault *why)
{
    if (overlay == NULL || overlay->kind == RIG_DOC_NULL)
        return 0;
    if (overlay->kind != RIG_DOC_MAP)
        return rig_fault_set(why, RIG_E_SYNTAX, "%s: must be a map of ProxyConfig fields, not %s",
                             source, rig_doc_kind_text(overlay->kind));

    struct rig_doc *seen = rig_doc_map(config->arena);
    for (size_t i = 0; i < overlay->count; i++) {
        const struct rig_doc_member *member = &overlay->members[i];
        const char *name = camel_case(config->arena, member->key);
        if (name == NULL || member->value->kind == RIG_DOC_NULL)
            continue;
        if (rig_doc_get(seen, name) != NULL)
            return rig_fault_set(why, RIG_E_SYNTAX, "%s: %s is given twice (as %.*s)",
                                 origin_text(config->arena, source, member->line), name,
                                 RIG_SLICE_ARG(member->key));
        rig_doc_set(config->arena, seen, name, rig_doc_bool(config->arena, true));
        int err = member_overlay(config, member, name, source, why);
        if (err < 0)
            return err;
    }
    if (rig_doc_get(seen, "serviceCluster") != NULL &&
        rig_doc_get(seen, "tracingServiceName") != NULL)
        return rig_fault_set(why, RIG_E_SYNTAX,
                             "%s: serviceCluster and tracingServiceName exclude each other",
                             source);
    if (rig_arena_is_spent(config->arena))
        return rig_fault_set(why, RIG_E_TOO_LARGE, "%s: too large", source);
    return 0;
}

/* ---- warnings ---- */

static void warn(const struct proxy_config *config, struct rig_doc *list, const char *field,
                 const char *text)
{
    const char *origin = rig_doc_get_text(config->origins, field, "ProxyConfig");
    const char *sentence = rig_arena_printf(config->arena, "%s: %s", origin, text);
    rig_doc_push(config->arena, list, rig_doc_text(config->arena, sentence));
}

struct rig_doc *proxy_config_warnings(const struct proxy_config *config)
{
    struct rig_arena *arena = config->arena;
    struct rig_doc *list = rig_doc_list(arena);
    for (size_t i = 0; config->fields != NULL && i < config->fields->count; i++) {
        const char *name = (const char *)config->fields->members[i].key.at;
        const struct field *field = field_find(config->fields->members[i].key);
        if (field == NULL)
            warn(config, list, name,
                 rig_arena_printf(arena,
                                  "%s is no field of ProxyConfig; only the control plane "
                                  "gets to see it",
                                  name));
        else if (field->is_idle)
            warn(config, list, name,
                 rig_arena_printf(arena, "%s has no effect in this agent yet", name));
    }
    const struct rig_doc *tracing = rig_doc_get(config->fields, "tracing");
    for (size_t i = 0; i < COUNT_OF(idle_tracers); i++) {
        if (rig_doc_get(tracing, idle_tracers[i]) != NULL)
            warn(config, list, "tracing",
                 rig_arena_printf(arena, "tracing.%s has no effect in this agent yet",
                                  idle_tracers[i]));
    }
    return list;
}

/* ---- settings ---- */

int proxy_duration_parse(struct rig_slice text, uint64_t *ms)
{
    size_t at = 0;
    uint64_t seconds = 0;
    for (; at < text.len && text.at[at] >= '0' && text.at[at] <= '9'; at++) {
        if (at == 12) /* google.protobuf.Duration ends at 315,576,000,000 s */
            return RIG_E_SYNTAX;
        seconds = seconds * 10 + (uint64_t)(text.at[at] - '0');
    }
    if (at == 0)
        return RIG_E_SYNTAX;

    uint64_t nanos = 0;
    if (at < text.len && text.at[at] == '.') {
        uint64_t unit = 100000000;
        size_t first = ++at;
        for (; at < text.len && text.at[at] >= '0' && text.at[at] <= '9'; at++, unit /= 10)
            nanos += (uint64_t)(text.at[at] - '0') * unit;
        if (at == first || at - first > 9)
            return RIG_E_SYNTAX;
    }
    if (at + 1 != text.len || text.at[at] != 's')
        return RIG_E_SYNTAX;
    *ms = seconds * 1000 + (nanos + 999999) / 1000000;
    return 0;
}

/* What the readers below share. */
struct reading {
    const struct rig_doc *fields;
    const struct rig_doc *origins;
    struct rig_fault *why;
};

static int refuse(const struct reading *in, const char *field, const char *problem)
{
    return rig_fault_set(in->why, RIG_E_RANGE, "%s: %s %s",
                         rig_doc_get_text(in->origins, field, "ProxyConfig"), field, problem);
}

static int path_read(const struct reading *in, const char *field, const char **path)
{
    *path = rig_doc_get_text(in->fields, field, "");
    return **path != '\0' ? 0 : refuse(in, field, "must not be empty");
}

static int port_read(const struct reading *in, const char *field, int64_t least, uint16_t *port)
{
    int64_t number = 0;
    if (rig_doc_int64(rig_doc_get(in->fields, field), &number) < 0 || number < least ||
        number > 65535)
        return refuse(in, field,
                      least == 0 ? "must be a port, or 0 for none" : "must be a port, 1 to 65535");
    *port = (uint16_t)number;
    return 0;
}

static int durations_read(const struct reading *in, struct proxy_settings *out)
{
    uint64_t ms = 0;
    const char *text = rig_doc_get_text(in->fields, "drainDuration", "");
    if (proxy_duration_parse(rig_slice_text(text), &ms) < 0 || ms < 1000 || ms > 3600 * 1000 ||
        ms % 1000 != 0)
        return refuse(in, "drainDuration", "must be whole seconds, \"1s\" to \"3600s\"");
    out->drain_s = (uint32_t)(ms / 1000);

    text = rig_doc_get_text(in->fields, "terminationDrainDuration", "");
    if (proxy_duration_parse(rig_slice_text(text), &ms) < 0 || ms > 24 * 3600 * 1000)
        return refuse(in, "terminationDrainDuration", "must be \"0s\" to \"86400s\"");
    out->termination_drain_ms = ms;
    return 0;
}

static int policy_read(const struct reading *in, struct proxy_settings *out)
{
    const struct rig_doc *policy = rig_doc_get(in->fields, "controlPlaneAuthPolicy");
    if (policy == NULL)
        return refuse(in, "controlPlaneAuthPolicy", "must be MUTUAL_TLS or NONE");
    if (rig_slice_is(policy->text, "NONE") || rig_slice_is(policy->text, "0"))
        out->is_plaintext = true;
    else if (!rig_slice_is(policy->text, "MUTUAL_TLS") && !rig_slice_is(policy->text, "1"))
        return refuse(in, "controlPlaneAuthPolicy", "must be MUTUAL_TLS or NONE");
    return 0;
}

static int naming_read(const struct reading *in, struct proxy_settings *out)
{
    static const char *const rules[] = {"APP_LABEL_AND_NAMESPACE",
                                        "CANONICAL_NAME_ONLY",
                                        "CANONICAL_NAME_AND_NAMESPACE",
                                        "0",
                                        "1",
                                        "2"};
    out->service_cluster = rig_doc_get_text(in->fields, "serviceCluster", "");
    const struct rig_doc *rule = rig_doc_get(in->fields, "tracingServiceName");
    if (rule == NULL)
        return 0;
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        if (rig_slice_is(rule->text, rules[i]))
            return 0;
    }
    return refuse(in, "tracingServiceName",
                  "must be APP_LABEL_AND_NAMESPACE, CANONICAL_NAME_ONLY or "
                  "CANONICAL_NAME_AND_NAMESPACE");
}

static int concurrency_read(const struct reading *in, struct proxy_settings *out)
{
    const struct rig_doc *concurrency = rig_doc_get(in->fields, "concurrency");
    int64_t number = 0;
    if (concurrency == NULL)
        return 0;
    if (rig_doc_int64(concurrency, &number) < 0 || number < 0 || number > INT32_MAX)
        return refuse(in, "concurrency", "must be 0 (one worker a CPU) or more");
    out->has_concurrency = true;
    out->concurrency = (uint32_t)number;
    return 0;
}

static int discovery_read(const struct reading *in, struct proxy_settings *out)
{
    char host[256];
    uint16_t port = 0;
    struct rig_fault reason = {.text = ""};
    out->discovery_address = rig_doc_get_text(in->fields, "discoveryAddress", "");
    if (rig_dial_split(out->discovery_address, host, sizeof(host), &port, &reason) < 0 ||
        host[0] == '\0' || port == 0)
        return refuse(in, "discoveryAddress", "must be HOST:PORT");
    return 0;
}

int proxy_settings_read(const struct rig_doc *config, const struct rig_doc *origins,
                        struct proxy_settings *settings, struct rig_fault *why)
{
    const struct reading in = {.fields = config, .origins = origins, .why = why};
    *settings = (struct proxy_settings){.statsd_udp_address =
                                            rig_doc_get_text(config, "statsdUdpAddress", "")};
    int err = path_read(&in, "configPath", &settings->config_path);
    if (err == 0)
        err = path_read(&in, "binaryPath", &settings->binary_path);
    if (err == 0)
        err = discovery_read(&in, settings);
    if (err == 0)
        err = durations_read(&in, settings);
    if (err == 0)
        err = port_read(&in, "proxyAdminPort", 1, &settings->admin_port);
    if (err == 0)
        err = port_read(&in, "statusPort", 0, &settings->status_port);
    if (err == 0)
        err = policy_read(&in, settings);
    if (err == 0)
        err = naming_read(&in, settings);
    if (err == 0)
        err = concurrency_read(&in, settings);
    return err;
}
