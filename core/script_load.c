/* SPDX-License-Identifier: Apache-2.0 */
/* core/script_load.c: from a script's name to what the file returns.
 *
 * A name is words of [a-z0-9_] between dots, so no name leads out of a directory. Text only:
 * Lua's bytecode is not checked by Lua and could do anything. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "script_state.h"

#define SCRIPT_BYTES_MAX (1u << 20)

/* Path -> value of what has been loaded in this call, in the registry. */
static const char loaded_key;
/* The value while the script is still running. */
static const char loading_key;

static bool is_name(const char *name)
{
    bool in_word = false;
    for (; *name != '\0'; name++) {
        bool is_word =
            (*name >= 'a' && *name <= 'z') || (*name >= '0' && *name <= '9') || *name == '_';
        if (!is_word && (*name != '.' || !in_word))
            return false;
        in_word = is_word;
    }
    return in_word;
}

bool script_name_split(const struct rig_script_dirs *dirs, const char *name, const char **stem,
                       size_t *first, size_t *end)
{
    if (!is_name(name))
        return false;
    *stem = name;
    *first = *end = 0;
    while (dirs->dirs[*end] != NULL)
        ++*end;
    size_t site_count = dirs->site_count < *end ? dirs->site_count : *end;
    if (strncmp(name, "site.", 5) == 0) {
        *stem = name + 5;
        *end = site_count;
    } else if (strncmp(name, "shipped.", 8) == 0) {
        *stem = name + 8;
        *first = site_count;
    }
    return true;
}

/* "lib.quantity" -> "lib/quantity.lua" */
static bool file_name(const char *stem, char *name, size_t size)
{
    int len = snprintf(name, size, "%s", stem);
    if (len < 0 || (size_t)len + sizeof(".lua") > size)
        return false;
    for (char *at = name; *at != '\0'; at++)
        *at = *at == '.' ? '/' : *at;
    strcpy(name + len, ".lua");
    return true;
}

bool script_path(const char *dir, const char *stem, char path[SCRIPT_PATH_BYTES])
{
    char name[SCRIPT_PATH_BYTES];
    if (!file_name(stem, name, sizeof(name)))
        return false;
    int len = snprintf(path, SCRIPT_PATH_BYTES, "%s/%s", dir, name);
    return len > 0 && len < SCRIPT_PATH_BYTES;
}

/* Pushes the compiled chunk; false when there is no file. lua_load raises nothing (manual, 4.6),
 * so the text may be ours while it works. */
static bool compile(lua_State *L, const char *path, const char *chunk)
{
    struct rig_buf text = {0};
    int err = rig_buf_read_file(&text, path, SCRIPT_BYTES_MAX);
    if (err < 0) {
        rig_buf_deinit(&text);
        if (err == -ENOENT || err == -ENOTDIR)
            return false;
        luaL_error(L, "%s: %s", path, rig_error_text(err));
    }
    const char *at = text.len > 0 ? (const char *)text.at : "";
    int status = luaL_loadbufferx(L, at, text.len, chunk, "t");
    rig_buf_deinit(&text);
    if (status != LUA_OK)
        lua_error(L);
    return true;
}

bool script_load(lua_State *L, size_t dir, const char *name, const char *stem)
{
    char path[SCRIPT_PATH_BYTES], file[SCRIPT_PATH_BYTES];
    if (!script_path(script_of(L)->dirs->dirs[dir], stem, path) ||
        !file_name(name, file, sizeof(file)))
        luaL_error(L, "the path is too long of the script %s", name);
    luaL_checkstack(L, 6, NULL);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &loaded_key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &loaded_key);
    }
    if (lua_getfield(L, -1, path) != LUA_TNIL) {
        if (lua_touserdata(L, -1) == (void *)&loading_key)
            luaL_error(L, "%s is required while it is being loaded", name);
        lua_remove(L, -2);
        return true;
    }
    lua_pop(L, 1);
    const char *chunk = lua_pushfstring(L, "@%s", file);
    if (!compile(L, path, chunk)) {
        lua_pop(L, 2);
        return false;
    }
    lua_pushlightuserdata(L, (void *)&loading_key);
    lua_setfield(L, -4, path);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, true); /* as Lua's own require */
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, path);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return true;
}

int script_require(lua_State *L)
{
    size_t len, first, end;
    const char *name = luaL_checklstring(L, 1, &len);
    const char *stem;
    if (strlen(name) != len || !script_name_split(script_of(L)->dirs, name, &stem, &first, &end))
        return luaL_error(L, "'%s' is no name of a script", name);
    for (size_t dir = first; dir < end; dir++)
        if (script_load(L, dir, name, stem))
            return 1;
    return luaL_error(L, "there is no script '%s'", name);
}
