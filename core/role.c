/* SPDX-License-Identifier: Apache-2.0 */
/* core/role.c: role files. A role that names what it must not is refused with file:line. */
#include "role.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "yaml.h"

#define ROLE_BYTES_MAX (256u << 10)

static int wrong(const struct role *role, const struct rig_doc *at, uint32_t line, const char *key,
                 const char *due, struct rig_fault *why)
{
    return rig_fault_set(why, RIG_E_SYNTAX, "%s:%u: %s: %s is due, not %s", role->file,
                         at != NULL && at->line > 0 ? at->line : line, key, due,
                         at != NULL ? rig_doc_kind_text(at->kind) : "nothing");
}

static bool is_text_list(const struct rig_doc *doc)
{
    if (doc->kind != RIG_DOC_LIST)
        return false;
    for (size_t i = 0; i < doc->count; i++) {
        if (doc->items[i]->kind != RIG_DOC_STRING)
            return false;
    }
    return true;
}

static bool list_has(const struct rig_doc *list, const char *text)
{
    for (size_t i = 0; list != NULL && list->kind == RIG_DOC_LIST && i < list->count; i++) {
        if (rig_slice_is(list->items[i]->text, text))
            return true;
    }
    return false;
}

static int named_read(struct role *role, const struct rig_doc *named, const char *called,
                      struct rig_fault *why)
{
    const struct rig_doc *mine = rig_doc_get(named, called);
    if (mine == NULL)
        return 0;
    role->named_options = rig_doc_get(mine, "options");
    const struct rig_doc *status = rig_doc_get(mine, "failureStatus");
    int64_t value = role->failure_status;
    if (status != NULL && (rig_doc_int64(status, &value) < 0 || value < 1 || value > 255))
        return wrong(role, status, mine->line, "failureStatus", "a number from 1 to 255", why);
    role->failure_status = (int)value;
    return 0;
}

static int member_read(struct role *role, const struct rig_doc_member *member, const char *called,
                       struct rig_fault *why)
{
    const char *key = (const char *)member->key.at;
    const struct rig_doc *value = member->value;
    bool is_text = value->kind == RIG_DOC_STRING;
    if (strcmp(key, "about") == 0 || strcmp(key, "positional") == 0 ||
        strcmp(key, "unknownFlags") == 0) {
        if (!is_text)
            return wrong(role, value, member->line, key, "a string", why);
        if (strcmp(key, "about") == 0)
            role->about = (const char *)value->text.at;
        else if (strcmp(key, "positional") == 0)
            role->positional = (const char *)value->text.at;
        else if (rig_slice_is(value->text, "ignore"))
            role->ignores_unknown_flags = true;
        else if (!rig_slice_is(value->text, "refuse"))
            return wrong(role, value, member->line, key, "\"ignore\" or \"refuse\"", why);
        return 0;
    }
    if (strcmp(key, "names") == 0 || strcmp(key, "words") == 0 || strcmp(key, "plugins") == 0) {
        if (!is_text_list(value))
            return wrong(role, value, member->line, key, "a list of strings", why);
        if (strcmp(key, "words") == 0)
            role->words = value;
        else if (strcmp(key, "plugins") == 0)
            role->plugins = value;
        return 0;
    }
    if (strcmp(key, "options") == 0 || strcmp(key, "named") == 0) {
        if (value->kind != RIG_DOC_MAP)
            return wrong(role, value, member->line, key, "a map", why);
        if (strcmp(key, "named") == 0)
            return named_read(role, value, called, why);
        role->options = value;
        return 0;
    }
    return rig_fault_set(why, RIG_E_UNKNOWN,
                         "%s:%u: unknown key \"%s\"; a role has about, names, words, positional, "
                         "unknownFlags, plugins, options, named",
                         role->file, member->line, key);
}

static int role_read(struct role *role, const char *called, struct rig_arena *arena,
                     struct rig_fault *why)
{
    struct rig_doc *doc = NULL;
    int err = rig_yaml_read_file(role->file, ROLE_BYTES_MAX, arena, &doc, why);
    if (err < 0)
        return err;
    if (doc->kind != RIG_DOC_MAP)
        return rig_fault_set(why, RIG_E_SYNTAX, "%s:1: a role is a map", role->file);
    for (size_t i = 0; i < doc->count && err == 0; i++)
        err = member_read(role, &doc->members[i], called, why);
    if (err == 0 && role->plugins == NULL)
        err = rig_fault_set(why, RIG_E_SYNTAX, "%s:1: the key \"plugins\" is missing", role->file);
    return err;
}

static void role_start(struct role *role, const char *dir, const char *name,
                       struct rig_arena *arena)
{
    *role = (struct role){.about = "", .failure_status = 1};
    role->name = rig_arena_text(arena, name);
    role->file = rig_arena_printf(arena, "%s/%s.yaml", dir, name);
}

static bool is_role_file(const char *file_name, char *name, size_t size)
{
    size_t len = strlen(file_name);
    if (len <= 5 || len - 5 >= size || strcmp(file_name + len - 5, ".yaml") != 0)
        return false;
    memcpy(name, file_name, len - 5);
    name[len - 5] = '\0';
    return true;
}

/* The role of `dir` that lists `called` among its names. */
static int find_by_alias(const char *dir, const char *called, struct rig_arena *arena,
                         struct role *role, struct rig_fault *why)
{
    DIR *entries = opendir(dir);
    struct dirent *entry;
    int err = RIG_E_ABSENT;
    while (entries != NULL && err == RIG_E_ABSENT && (entry = readdir(entries)) != NULL) {
        char name[64];
        struct rig_doc *doc = NULL;
        if (!is_role_file(entry->d_name, name, sizeof(name)))
            continue;
        role_start(role, dir, name, arena);
        if (rig_yaml_read_file(role->file, ROLE_BYTES_MAX, arena, &doc, NULL) < 0)
            continue; /* a broken role is reported when it is asked for by its own name */
        if (list_has(rig_doc_get(doc, "names"), called))
            err = role_read(role, called, arena, why);
    }
    if (entries != NULL)
        closedir(entries);
    return err;
}

int role_find(const char *const *dirs, const char *name, struct rig_arena *arena, struct role *role,
              struct rig_fault *why)
{
    for (size_t i = 0; dirs[i] != NULL && strchr(name, '/') == NULL && name[0] != '.'; i++) {
        role_start(role, dirs[i], name, arena);
        FILE *file = role->file != NULL ? fopen(role->file, "re") : NULL;
        if (file == NULL)
            continue;
        fclose(file);
        return role_read(role, name, arena, why);
    }
    for (size_t i = 0; dirs[i] != NULL; i++) {
        int err = find_by_alias(dirs[i], name, arena, role, why);
        if (err != RIG_E_ABSENT)
            return err;
    }
    return rig_fault_set(why, RIG_E_ABSENT, "no role \"%s\"", name);
}

void role_list(const char *const *dirs)
{
    for (size_t i = 0; dirs[i] != NULL; i++) {
        struct dirent **entries = NULL;
        int count = scandir(dirs[i], &entries, NULL, alphasort);
        for (int j = 0; j < count; j++) {
            char name[64];
            struct rig_arena arena;
            struct role role;
            rig_arena_init(&arena, 1u << 20);
            if (is_role_file(entries[j]->d_name, name, sizeof(name))) {
                role_start(&role, dirs[i], name, &arena);
                if (role_read(&role, name, &arena, NULL) == 0)
                    printf("  %-14s %s\n", name, role.about);
            }
            rig_arena_deinit(&arena);
            free(entries[j]);
        }
        free(entries);
    }
}
