/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/bootstrap/arguments.c: Envoy's command line. Order and spelling are Istio's: people
 * and tools read them out of `ps`. */
#include "arguments.h"

#include <string.h>

#define ARGUMENTS_MAX 40

#define LOG_FORMAT_TEXT "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"
#define LOG_FORMAT_JSON                                                                            \
    "{\"level\":\"%l\",\"time\":\"%Y-%m-%dT%T.%fZ\",\"scope\":\"envoy %n\",\"msg\":\"%j\","        \
    "\"caller\":\"%g:%#\",\"thread\":%t}"

void arguments_split_level(const char *text, struct rig_arena *arena, const char **level,
                           const char **components, struct rig_doc *warnings)
{
    struct rig_buf joined = {0};
    *level = "";
    *components = "";
    while (text != NULL && *text != '\0') {
        size_t len = strcspn(text, ",");
        char *item = rig_arena_copy(arena, text, len);
        text += len + (text[len] == ',' ? 1 : 0);
        if (item == NULL || item[0] == '\0')
            continue;
        const char *colon = strchr(item, ':');
        if (colon == NULL)
            *level = item;
        else if (strchr(colon + 1, ':') == NULL)
            rig_buf_printf(&joined, "%s%s", joined.len > 0 ? "," : "", item);
        else
            rig_doc_push(
                arena, warnings,
                rig_doc_text(arena, rig_arena_printf(arena,
                                                     "log level \"%s\" is dropped: it is not "
                                                     "LEVEL or COMPONENT:LEVEL",
                                                     item)));
    }
    if (joined.len > 0) {
        const char *copy = rig_arena_copy(arena, joined.at, joined.len);
        *components = copy != NULL ? copy : "";
    }
    rig_buf_deinit(&joined);
}

struct arguments {
    const char **list;
    size_t count;
};

static void add(struct arguments *out, const char *argument)
{
    if (out->count < ARGUMENTS_MAX)
        out->list[out->count++] = argument;
}

static void add_pair(struct arguments *out, const char *flag, const char *value)
{
    add(out, flag);
    add(out, value);
}

const char *const *arguments_build(const struct arguments_request *request, struct rig_arena *arena,
                                   struct rig_doc *warnings)
{
    const char *level, *components;
    struct arguments out = {.list =
                                rig_arena_alloc(arena, (ARGUMENTS_MAX + 1) * sizeof(*out.list))};
    arguments_split_level(request->log_level, arena, &level, &components, warnings);
    if (components[0] == '\0')
        components = request->component_log_level;
    if (out.list == NULL)
        return NULL;

    add(&out, request->binary);
    add_pair(&out, "-c", request->config_file);
    add_pair(&out, "--drain-time-s", rig_arena_printf(arena, "%u", request->drain_s));
    add_pair(&out, "--drain-strategy", "immediate");
    add_pair(&out, "--local-address-ip-version", request->is_ipv6 ? "v6" : "v4");
    add_pair(&out, "--file-flush-interval-msec", "1000");
    add(&out, "--disable-hot-restart");
    add(&out, "--allow-unknown-static-fields");
    add_pair(&out, "--log-format", request->is_log_json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
    if (level[0] != '\0')
        add_pair(&out, "-l", level);
    if (components[0] != '\0')
        add_pair(&out, "--component-log-level", components);
    if (request->override_json != NULL)
        add_pair(&out, "--config-yaml", request->override_json);
    if (request->concurrency > 0)
        add_pair(&out, "--concurrency", rig_arena_printf(arena, "%u", request->concurrency));
    return rig_arena_is_spent(arena) ? NULL : out.list;
}
