/* SPDX-License-Identifier: Apache-2.0 */
/* core/loader.c: what is checked before a plugin's first instruction runs, and after. */
#include "loader.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc.h"
#include "buf.h"

#define NAME_BYTES_MAX 48

/* What runs with our rights must not be changed by others: its owner is root or we are. */
static int check_writers(const char *path, const char *name, struct rig_fault *why)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return rig_fault_set(why, errno == ENOENT ? RIG_E_ABSENT : -errno, "plugin %s: %s: %s",
                             name, path, strerror(errno));
    /* In a sticky directory others cannot replace what is there; on a file the bit says nothing. */
    bool is_sticky_dir = S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX) != 0;
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 && !is_sticky_dir)
        return rig_fault_set(why, RIG_E_PLUGIN,
                             "plugin %s: %s may be written by others (mode %03o); chmod go-w it",
                             name, path, st.st_mode & 0777);
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return rig_fault_set(why, RIG_E_PLUGIN,
                             "plugin %s: %s belongs to user %u, not to root or to us", name, path,
                             (unsigned)st.st_uid);
    return 0;
}

/* The file and the directory that it really is in. */
static int check_file(const char *real, const char *name, struct rig_fault *why)
{
    char dir[PATH_MAX];
    size_t len = (size_t)(strrchr(real, '/') - real);
    memcpy(dir, real, len);
    dir[len] = '\0';
    int err = check_writers(len > 0 ? dir : "/", name, why);
    return err < 0 ? err : check_writers(real, name, why);
}

static int check_name(const char *name, struct rig_fault *why)
{
    size_t len = strlen(name);
    bool is_good = len > 0 && len <= NAME_BYTES_MAX;
    for (size_t i = 0; i < len && is_good; i++)
        is_good =
            islower((unsigned char)name[i]) || isdigit((unsigned char)name[i]) || name[i] == '_';
    return is_good
               ? 0
               : rig_fault_set(why, RIG_E_PLUGIN,
                               "plugin \"%s\": a name has lower-case letters, digits and _ only",
                               name);
}

int loader_adopt(const struct rig_plugin *plugin, const char *name, struct loaded *loaded,
                 struct rig_fault *why)
{
    if (plugin->abi != RIG_PLUGIN_ABI)
        return rig_fault_set(why, RIG_E_PLUGIN,
                             "plugin %s: made for plugin interface %u, this program has %u; "
                             "build it against this version's headers",
                             name, plugin->abi, RIG_PLUGIN_ABI);
    if (plugin->size < offsetof(struct rig_plugin, status))
        return rig_fault_set(why, RIG_E_PLUGIN,
                             "plugin %s: its table has %u octets, at least %zu are due", name,
                             plugin->size, offsetof(struct rig_plugin, status));
    size_t size = plugin->size < sizeof(*plugin) ? plugin->size : sizeof(*plugin);
    memset(&loaded->plugin, 0, sizeof(loaded->plugin));
    memcpy(&loaded->plugin, plugin, size);
    const struct rig_plugin *copy = &loaded->plugin;
    if (copy->name == NULL || strcmp(copy->name, name) != 0)
        return rig_fault_set(why, RIG_E_PLUGIN, "plugin %s: its table says it is \"%s\"", name,
                             copy->name != NULL ? copy->name : "");
    if (copy->init == NULL || copy->stop == NULL || copy->free == NULL)
        return rig_fault_set(why, RIG_E_PLUGIN, "plugin %s: its table lacks init, stop or free",
                             name);
    return 0;
}

int loader_open(const char *dir, const char *name, struct loaded *loaded, struct rig_fault *why)
{
    *loaded = (struct loaded){0};
    int err = check_name(name, why);
    if (err < 0)
        return err;
    char path[PATH_MAX], real[PATH_MAX], symbol[NAME_BYTES_MAX + 16];
    snprintf(path, sizeof(path), "%s/%s.so", dir, name);
    snprintf(symbol, sizeof(symbol), "%s_plugin", name);
    if (realpath(path, real) == NULL)
        return rig_fault_set(why, RIG_E_ABSENT,
                             "plugin %s: no file %s; `outrigger plugins` lists what is there", name,
                             path);
    /* Of a symbolic link: where it stands, and what it leads to. */
    err = check_writers(dir, name, why);
    if (err == 0)
        err = check_file(real, name, why);
    if (err < 0)
        return err;
    loaded->handle = dlopen(real, RTLD_NOW | RTLD_LOCAL);
    if (loaded->handle == NULL)
        return rig_fault_set(why, RIG_E_PLUGIN, "plugin %s: %s", name, dlerror());
    const struct rig_plugin *plugin = dlsym(loaded->handle, symbol);
    err = plugin == NULL ? rig_fault_set(why, RIG_E_PLUGIN, "plugin %s: %s has no symbol %s", name,
                                         path, symbol)
                         : loader_adopt(plugin, name, loaded, why);
    if (err < 0)
        loader_close(loaded);
    return err;
}

void loader_close(struct loaded *loaded)
{
    if (loaded->handle != NULL)
        dlclose(loaded->handle);
    *loaded = (struct loaded){0};
}

static bool offers(const struct rig_plugin *plugin, const struct rig_need *need)
{
    for (const struct rig_offer *o = plugin->offers; o != NULL && o->service != NULL; o++) {
        if (strcmp(o->service, need->service) == 0 && o->version >= need->version)
            return true;
    }
    return false;
}

static int check_need(const struct loaded *loaded, size_t count, size_t at,
                      const struct rig_need *need, struct rig_fault *why)
{
    size_t providers = 0;
    const char *others[2] = {NULL, NULL};
    for (size_t i = 0; i < count; i++) {
        if (offers(&loaded[i].plugin, need)) {
            if (providers < 2)
                others[providers] = loaded[i].plugin.name;
            providers++;
        }
    }
    const char *name = loaded[at].plugin.name;
    if (need->kind == RIG_NEED_ONE && providers == 0)
        return rig_fault_set(why, RIG_E_PLUGIN,
                             "plugin %s: needs service %s (version %u), which no loaded plugin "
                             "offers; add one that does to `plugins`",
                             name, need->service, need->version);
    if (need->kind != RIG_NEED_EACH && providers > 1)
        return rig_fault_set(why, RIG_E_PLUGIN,
                             "plugin %s: needs one service %s, and both %s and %s offer it", name,
                             need->service, others[0], others[1]);
    return 0;
}

/* Are all plugins that `at` needs something of already placed? */
static bool is_ready(const struct loaded *loaded, size_t count, size_t at, const bool *placed)
{
    for (const struct rig_need *n = loaded[at].plugin.needs; n != NULL && n->service != NULL; n++) {
        for (size_t i = 0; i < count; i++) {
            if (!placed[i] && offers(&loaded[i].plugin, n))
                return false;
        }
    }
    return true;
}

/* Follows needs among those not placed until a name comes up twice, and names the circle. */
static int circle(const struct loaded *loaded, size_t count, const bool *placed,
                  struct rig_fault *why)
{
    struct rig_buf text = {0};
    bool *seen = rig_alloc(count * sizeof(*seen));
    size_t at = 0;
    while (placed[at])
        at++;
    for (;;) {
        rig_buf_printf(&text, "%s%s", text.len > 0 ? " needs " : "", loaded[at].plugin.name);
        if (seen[at])
            break;
        seen[at] = true;
        size_t next = at;
        for (const struct rig_need *n = loaded[at].plugin.needs; n != NULL && n->service != NULL;
             n++) {
            for (size_t i = 0; i < count; i++) {
                if (!placed[i] && offers(&loaded[i].plugin, n))
                    next = i;
            }
        }
        at = next;
    }
    int err = rig_fault_set(why, RIG_E_PLUGIN, "plugins need each other in a circle: %s",
                            rig_buf_text(&text));
    rig_buf_deinit(&text);
    rig_free(seen);
    return err;
}

int loader_order(const struct loaded *loaded, size_t count, size_t *order, struct rig_fault *why)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(loaded[i].plugin.name, loaded[j].plugin.name) == 0)
                return rig_fault_set(why, RIG_E_PLUGIN, "plugin %s: listed twice",
                                     loaded[i].plugin.name);
        }
        for (const struct rig_need *n = loaded[i].plugin.needs; n != NULL && n->service != NULL;
             n++) {
            int err = check_need(loaded, count, i, n, why);
            if (err < 0)
                return err;
        }
    }
    bool *placed = rig_alloc((count + 1) * sizeof(*placed));
    int err = 0;
    for (size_t done = 0; done < count && err == 0; done++) {
        size_t at = 0;
        while (at < count && (placed[at] || !is_ready(loaded, count, at, placed)))
            at++;
        if (at == count) {
            err = circle(loaded, count, placed, why);
        } else {
            placed[at] = true;
            order[done] = at;
        }
    }
    rig_free(placed);
    return err;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int loader_list(const char *dir, char ***names, size_t *count, struct rig_fault *why)
{
    *names = NULL;
    *count = 0;
    DIR *entries = opendir(dir);
    if (entries == NULL)
        return rig_fault_set(why, -errno, "plugin directory %s: %s", dir, strerror(errno));
    struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        size_t len = strlen(entry->d_name);
        if (len <= 3 || strcmp(entry->d_name + len - 3, ".so") != 0)
            continue;
        *names = rig_realloc(*names, (*count + 1) * sizeof(**names));
        char *name = rig_strdup(entry->d_name);
        name[len - 3] = '\0';
        (*names)[(*count)++] = name;
    }
    closedir(entries);
    if (*count > 0)
        qsort(*names, *count, sizeof(**names), by_text);
    return 0;
}
