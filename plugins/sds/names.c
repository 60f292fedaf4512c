/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/names.c: from a name to its source, and the source's news to the streams. */
#include "names.h"

#include "core/alloc.h"
#include "core/log.h"

#define SCOPE "sds"

static const struct secret_source_v1 *functions_of(const struct rig_provider *source)
{
    return source->functions;
}

int names_current(const struct served_name *name, struct secret *secret, struct rig_fault *why)
{
    return functions_of(name->source)
        ->current(name->source->self, rig_slice_text(name->name), secret, why);
}

struct served_name *names_find(const struct names *names, struct rig_slice name)
{
    struct served_name *each = names->first;
    while (each != NULL && !rig_slice_is(name, each->name))
        each = each->next;
    return each;
}

static void on_change(struct secret_watch *watch, int err, const struct rig_fault *why)
{
    const struct served_name *name = watch->ctx;
    struct secret secret;
    if (err < 0) /* requests that wait have a deadline of their own */
        rig_log_debug(SCOPE, "%s is not there yet: %s", name->name, why->text);
    else if (names_current(name, &secret, NULL) == 0)
        name->names->on_change(name->names->ctx, name, secret.generation);
}

/* The first source that knows the name; NULL when none does. */
static const struct rig_provider *source_find(const struct names *names, struct rig_slice name)
{
    struct secret secret;
    if (name.len == 0 || memchr(name.at, 0, name.len) != NULL)
        return NULL;
    for (size_t i = 0; i < names->source_count; i++) {
        const struct rig_provider *source = &names->sources[i];
        if (functions_of(source)->current(source->self, name, &secret, NULL) != RIG_E_UNKNOWN)
            return source;
    }
    return NULL;
}

struct served_name *names_add(struct names *names, struct rig_slice text)
{
    struct served_name *name = names_find(names, text);
    if (name != NULL)
        return name;
    const struct rig_provider *source = source_find(names, text);
    if (source == NULL)
        return NULL;
    name = rig_alloc(sizeof(*name) + text.len + 1);
    memcpy(name->name, text.at, text.len);
    name->names = names;
    name->source = source;
    name->watch = (struct secret_watch){.name = name->name, .on_change = on_change, .ctx = name};
    name->next = names->first;
    names->first = name;
    functions_of(source)->watch(source->self, &name->watch);
    return name;
}

void names_sweep(struct names *names)
{
    struct served_name **at = &names->first;
    while (*at != NULL) {
        struct served_name *name = *at;
        if (names->is_wanted(names->ctx, name->name)) {
            at = &name->next;
            continue;
        }
        functions_of(name->source)->unwatch(name->source->self, &name->watch);
        *at = name->next;
        rig_free(name);
    }
}
