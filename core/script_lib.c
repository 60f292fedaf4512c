/* SPDX-License-Identifier: Apache-2.0 */
/* core/script_lib.c: the sandbox: what a script may call.
 *
 * Left out is what reaches outside (files, clocks, chance, bytecode) and what runs where no budget
 * is watched: finalizers (Lua calls them without hooks), and loops inside of C functions that a
 * script can make endless, which get a limit here. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <lualib.h>

#include "script_state.h"

/* Elements that one call of a function of `table` may walk over. */
#define RANGE_MAX (1 << 24)

/* One by one: slower than a copy. */
#define SCAN_OCTETS_PER_STEP 8

static int null_text(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

static int list_new(lua_State *L)
{
    if (lua_isnone(L, 1))
        lua_newtable(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_argerror(L, 1, "it has a metatable that cannot be changed");
    luaL_setmetatable(L, SCRIPT_LIST);
    return 1;
}

/* Calls the function that was wrapped with the arguments that are there. */
static int call_wrapped(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* A finalizer runs with hooks off, when Lua likes or when the state ends: nothing would stop it. */
static int set_metatable(lua_State *L)
{
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "a metatable has no __gc here");
        lua_pop(L, 1);
    }
    return call_wrapped(L);
}

/* Lua would call the handler where the error was raised. When that is in the hook that watches the
 * budget, hooks are off, and the handler could run for ever. Without the debug library a handler
 * cannot tell that it is called after the unwinding. */
static int protected_call(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    lua_replace(L, 2);
    lua_replace(L, 1); /* the handler, the function, its arguments */
    if (lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0) == LUA_OK) {
        lua_pushboolean(L, true);
        lua_replace(L, 1);
        return lua_gettop(L);
    }
    lua_pcall(L, 1, 1, 0); /* what the handler makes of the error, or its own */
    lua_pushboolean(L, false);
    lua_insert(L, 1);
    return 2;
}

static int refuse_global(lua_State *L)
{
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
    return luaL_error(L, "the global '%s' is assigned; declare it local", name);
}

struct key {
    int rank; /* numbers, strings, the others as they come */
    int place;
    lua_Number number;
    const char *text; /* the table holds it */
    size_t len;
};

static int key_compare(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    int order = a->rank - b->rank;
    if (order == 0 && a->rank == 0)
        order = a->number < b->number ? -1 : a->number > b->number;
    if (order == 0 && a->rank == 1) {
        order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
        if (order == 0 && a->len != b->len)
            order = a->len < b->len ? -1 : 1;
    }
    return order != 0 ? order : a->place - b->place;
}

/* Upvalues: the table, its keys in order, the place reached. */
static int pairs_next(lua_State *L)
{
    lua_Integer place = lua_tointeger(L, lua_upvalueindex(3));
    do {
        lua_settop(L, 0);
        if (lua_rawgeti(L, lua_upvalueindex(2), ++place) == LUA_TNIL)
            return 1;
        lua_pushvalue(L, 1);
    } while (lua_rawget(L, lua_upvalueindex(1)) == LUA_TNIL); /* removed meanwhile */
    lua_pushinteger(L, place);
    lua_replace(L, lua_upvalueindex(3));
    return 2;
}

/* Pushes a table of the keys of the one at 1, in order. */
static void push_keys(lua_State *L)
{
    int count = 0;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
        count++;
    script_charge(L, (uint64_t)count);
    struct key *keys = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof(*keys), 0);
    lua_createtable(L, count, 0); /* as they come */
    int i = 0;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1), i++) {
        int type = lua_type(L, -2);
        keys[i] = (struct key){.rank = 2, .place = i + 1};
        if (type == LUA_TNUMBER) {
            keys[i].rank = 0;
            keys[i].number = lua_tonumber(L, -2);
        } else if (type == LUA_TSTRING) {
            keys[i].rank = 1;
            keys[i].text = lua_tolstring(L, -2, &keys[i].len);
        }
        lua_pushvalue(L, -2);
        lua_rawseti(L, -4, i + 1);
    }
    qsort(keys, (size_t)count, sizeof(*keys), key_compare);
    lua_createtable(L, count, 0); /* in order */
    for (i = 0; i < count; i++) {
        lua_rawgeti(L, -2, keys[i].place);
        lua_rawseti(L, -2, i + 1);
    }
    lua_replace(L, -3);
    lua_pop(L, 1);
}

static int pairs_sorted(lua_State *L)
{
    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 3);
        return 3;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    push_keys(L);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, pairs_next, 3);
    return 1;
}

/* Lua copies nothing in a loop as often as it is asked to. */
static int repeat(lua_State *L)
{
    size_t len = 0, separator_len = 0;
    luaL_checklstring(L, 1, &len);
    luaL_optlstring(L, 3, "", &separator_len);
    if (len == 0 && separator_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    lua_settop(L, 3);
    return call_wrapped(L);
}

/* Steps of a C loop from `first` to `last`, which counts for itself. */
static void charge_range(lua_State *L, lua_Integer first, lua_Integer last)
{
    if (last < first)
        return;
    if ((lua_Unsigned)last - (lua_Unsigned)first >= RANGE_MAX)
        luaL_error(L, "too many elements (%I to %I)", (LUAI_UACINT)first, (LUAI_UACINT)last);
    script_charge(L, (uint64_t)(last - first) + 1);
}

/* table.insert, remove and sort trust a length that a script makes up. */
static lua_Integer true_length(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
        luaL_error(L, "the table has a length of its own (__len)");
    return (lua_Integer)lua_rawlen(L, 1);
}

/* Both move what is behind the place. */
static int insert_or_remove(lua_State *L)
{
    lua_Integer len = true_length(L);
    int is_place = 0;
    lua_Integer place = lua_tointegerx(L, 2, &is_place);
    if (is_place && place >= 1)
        charge_range(L, place, len);
    return call_wrapped(L);
}

static int sort(lua_State *L)
{
    lua_Integer len = true_length(L);
    for (lua_Integer left = len; left > 0; left /= 2)
        charge_range(L, 1, len);
    return call_wrapped(L);
}

static int move(lua_State *L)
{
    charge_range(L, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return call_wrapped(L);
}

/* table.concat(t, separator, i, j) and table.unpack(t, i, j). */
static int over_range(lua_State *L, int at)
{
    lua_Integer first = luaL_optinteger(L, at, 1);
    lua_Integer last = lua_isnoneornil(L, at + 1) ? luaL_len(L, 1) : luaL_checkinteger(L, at + 1);
    charge_range(L, first, last);
    lua_settop(L, at - 1);
    lua_pushinteger(L, first);
    lua_pushinteger(L, last);
    return call_wrapped(L);
}

static int concat(lua_State *L)
{
    return over_range(L, 3);
}

static int unpack(lua_State *L)
{
    return over_range(L, 2);
}

/* Functions that walk over a string without being seen. */
static int scan(lua_State *L)
{
    size_t len = 0;
    if (lua_type(L, 1) == LUA_TSTRING)
        lua_tolstring(L, 1, &len);
    script_charge(L, len / SCAN_OCTETS_PER_STEP);
    return call_wrapped(L);
}

/* Replaces the function `name` of the table at the top by one that has it as its upvalue. */
static void wrap(lua_State *L, const char *name, lua_CFunction function)
{
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

static void drop(lua_State *L, const char *name)
{
    lua_pushnil(L);
    lua_setfield(L, -2, name);
}

/* Pushes what a library's opening function returns. */
static void open_lib(lua_State *L, lua_CFunction open, const char *name)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

/* The allowed base functions, into the table at the top. */
static void open_base(lua_State *L)
{
    static const char *const names[] = {
        "assert", "error",  "getmetatable", "ipairs",   "next",     "pcall", "rawequal", "rawget",
        "rawlen", "select", "setmetatable", "tonumber", "tostring", "type",  "_VERSION",
    };
    open_lib(L, luaopen_base, LUA_GNAME);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        lua_getfield(L, -1, names[i]);
        lua_setfield(L, -3, names[i]);
    }
    lua_pop(L, 1);
    wrap(L, "setmetatable", set_metatable);
    wrap(L, "tonumber", scan);
    lua_pushcfunction(L, pairs_sorted);
    lua_setfield(L, -2, "pairs");
    lua_pushcfunction(L, protected_call);
    lua_setfield(L, -2, "xpcall");
    lua_pushcfunction(L, script_require);
    lua_setfield(L, -2, "require");
}

static void open_values(lua_State *L)
{
    luaL_newmetatable(L, SCRIPT_LIST);
    lua_pushliteral(L, SCRIPT_LIST);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, list_new);
    lua_setfield(L, -2, "list");

    script_push_null(L);
    lua_newtable(L);
    lua_pushcfunction(L, null_text);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "null");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2); /* of all light userdata, of which a script sees no other */
    lua_setfield(L, -2, "null");
}

static void open_strings(lua_State *L)
{
    open_lib(L, luaopen_string, LUA_STRLIBNAME);
    drop(L, "dump");
    wrap(L, "rep", repeat);
    script_open_match(L);
    lua_setfield(L, -2, LUA_STRLIBNAME);
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushliteral(L, "string");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}

void script_open_libs(lua_State *L)
{
    lua_newtable(L);
    open_base(L);
    open_values(L);
    open_strings(L);
    open_lib(L, luaopen_table, LUA_TABLIBNAME);
    wrap(L, "insert", insert_or_remove);
    wrap(L, "remove", insert_or_remove);
    wrap(L, "sort", sort);
    wrap(L, "move", move);
    wrap(L, "concat", concat);
    wrap(L, "unpack", unpack);
    lua_setfield(L, -2, LUA_TABLIBNAME);
    open_lib(L, luaopen_math, LUA_MATHLIBNAME);
    drop(L, "random");
    drop(L, "randomseed");
    lua_setfield(L, -2, LUA_MATHLIBNAME);
    open_lib(L, luaopen_utf8, LUA_UTF8LIBNAME);
    wrap(L, "len", scan);
    wrap(L, "offset", scan);
    wrap(L, "codepoint", scan);
    lua_setfield(L, -2, LUA_UTF8LIBNAME);

    /* What a chunk sees is an empty table in front of the real one: it reads, and cannot write. */
    lua_newtable(L);
    lua_newtable(L);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_global);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "globals");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pop(L, 1);
}
