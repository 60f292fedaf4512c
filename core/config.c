/* SPDX-License-Identifier: Apache-2.0 */
/* core/config.c: a document of sections -> option tables; every problem is named, not the first
 * alone, so that a file is mended in one go. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "doc.h"
#include "role.h"

struct applying {
    const char *file;
    const char *origin;
    struct rig_buf *problems;
    int err;
};

static void problem(struct applying *applying, uint32_t line, const char *sentence)
{
    rig_buf_printf(applying->problems, "%s:%u: %s\n", applying->file, line, sentence);
    applying->err = RIG_E_RANGE;
}

static const char *scalar_text(const struct rig_doc *value)
{
    switch (value->kind) {
    case RIG_DOC_BOOL:
        return value->is_true ? "true" : "false";
    case RIG_DOC_NUMBER:
    case RIG_DOC_STRING:
        return (const char *)value->text.at;
    default:
        return NULL;
    }
}

static void apply_value(struct applying *applying, struct options *options,
                        const struct rig_doc_member *member)
{
    struct rig_fault why = {0};
    const char *key = (const char *)member->key.at;
    const struct rig_option *row = options_row(options, member->key);
    if (row == NULL) {
        const char *nearest = options_nearest(options, member->key);
        rig_fault_set(&why, RIG_E_UNKNOWN, "unknown key \"%s.%s\"%s%s%s", options->section, key,
                      nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                      nearest != NULL ? "\"?" : "");
        problem(applying, member->line, why.text);
        return;
    }
    const char *text = scalar_text(member->value);
    if (text == NULL) {
        rig_fault_set(&why, RIG_E_RANGE, "%s.%s: a single value is due, not %s", options->section,
                      key, rig_doc_kind_text(member->value->kind));
        problem(applying, member->line, why.text);
        return;
    }
    char origin[512];
    snprintf(origin, sizeof(origin), "%s:%u", applying->file, member->line);
    if (options_set(options, row, text, applying->origin != NULL ? applying->origin : origin,
                    &why) < 0)
        problem(applying, member->line, why.text);
}

static struct options *table_of(struct options *const *tables, size_t count, const char *section)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(tables[i]->section, section) == 0)
            return tables[i];
    }
    return NULL;
}

int config_apply(struct options *const *tables, size_t count, const struct rig_doc *sections,
                 const char *file, const char *origin,
                 bool (*is_known_section)(void *ctx, const char *name), void *ctx,
                 struct rig_buf *problems)
{
    struct applying applying = {.file = file, .origin = origin, .problems = problems};
    if (sections == NULL || sections->kind == RIG_DOC_NULL)
        return 0;
    if (sections->kind != RIG_DOC_MAP) {
        problem(&applying, sections->line, "a map of sections is due");
        return applying.err;
    }
    for (size_t i = 0; i < sections->count; i++) {
        const struct rig_doc_member *section = &sections->members[i];
        const char *name = (const char *)section->key.at;
        struct options *options = table_of(tables, count, name);
        struct rig_fault why = {0};
        if (options == NULL) {
            if (is_known_section != NULL && is_known_section(ctx, name))
                continue;
            rig_fault_set(&why, RIG_E_UNKNOWN,
                          "unknown section \"%s\"; a section has the name of a plugin, or core",
                          name);
            problem(&applying, section->line, why.text);
            continue;
        }
        if (section->value->kind == RIG_DOC_NULL)
            continue;
        if (section->value->kind != RIG_DOC_MAP) {
            rig_fault_set(&why, RIG_E_RANGE, "%s: a map of options is due, not %s", name,
                          rig_doc_kind_text(section->value->kind));
            problem(&applying, section->line, why.text);
            continue;
        }
        for (size_t j = 0; j < section->value->count; j++)
            apply_value(&applying, options, &section->value->members[j]);
    }
    return applying.err;
}
