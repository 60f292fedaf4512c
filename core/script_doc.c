/* SPDX-License-Identifier: Apache-2.0 */
/* core/script_doc.c: document tree <-> Lua values. Tables are read raw: what a metatable makes up
 * is no part of a document. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script_state.h"

/* Shown where a refused value stands: result.clusters[3].name */
struct place {
    struct rig_slice key;
    lua_Integer index; /* when `key` is no key */
};

struct taker {
    lua_State *L;
    struct rig_arena *arena;
    size_t depth;
    struct place places[RIG_DOC_DEPTH_MAX + 2]; /* from 1 on */
};

static const char null_address;

void script_push_null(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&null_address);
}

static void push_doc(lua_State *L, const struct rig_doc *doc, size_t depth);

static void push_container(lua_State *L, const struct rig_doc *doc, size_t depth)
{
    if (depth == RIG_DOC_DEPTH_MAX)
        script_fail(L, RIG_E_BUDGET, "%s: the argument is nested too deeply", script_of(L)->script);
    bool is_list = doc->kind == RIG_DOC_LIST;
    int room = doc->count < INT32_MAX ? (int)doc->count : INT32_MAX;
    lua_createtable(L, is_list ? room : 0, is_list ? 0 : room);
    for (size_t i = 0; i < doc->count; i++) {
        if (is_list) {
            push_doc(L, doc->items[i], depth + 1);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
            continue;
        }
        lua_pushlstring(L, (const char *)doc->members[i].key.at, doc->members[i].key.len);
        push_doc(L, doc->members[i].value, depth + 1);
        lua_rawset(L, -3);
    }
    if (is_list)
        luaL_setmetatable(L, SCRIPT_LIST);
}

static void push_doc(lua_State *L, const struct rig_doc *doc, size_t depth)
{
    luaL_checkstack(L, 4, NULL);
    switch (doc != NULL ? doc->kind : RIG_DOC_NULL) {
    case RIG_DOC_NULL:
        script_push_null(L);
        return;
    case RIG_DOC_BOOL:
        lua_pushboolean(L, doc->is_true);
        return;
    case RIG_DOC_NUMBER:
        if (lua_stringtonumber(L, (const char *)doc->text.at) == 0)
            lua_pushlstring(L, (const char *)doc->text.at, doc->text.len);
        return;
    case RIG_DOC_STRING:
        lua_pushlstring(L, (const char *)doc->text.at, doc->text.len);
        return;
    case RIG_DOC_LIST:
    case RIG_DOC_MAP:
        push_container(L, doc, depth);
        return;
    }
}

void script_push_doc(lua_State *L, const struct rig_doc *doc)
{
    push_doc(L, doc, 0);
}

_Noreturn static void refuse(struct taker *taker, int code, const char *what)
{
    char path[256] = "";
    size_t len = 0;
    for (size_t i = 1; i <= taker->depth && len < sizeof(path); i++) {
        const struct place *place = &taker->places[i];
        int put =
            place->key.at != NULL
                ? snprintf(path + len, sizeof(path) - len, ".%.*s", RIG_SLICE_ARG(place->key))
                : snprintf(path + len, sizeof(path) - len, "[%" PRId64 "]", (int64_t)place->index);
        len += put > 0 ? (size_t)put : 0;
    }
    const struct script_call *call = script_of(taker->L);
    script_fail(taker->L, code, "%s.%s: result%s%s: %s", call->script, call->function, path,
                len < sizeof(path) ? "" : "...", what);
}

static void check_budget(struct taker *taker)
{
    const struct script_call *call = script_of(taker->L);
    if (rig_arena_is_spent(taker->arena))
        script_fail(taker->L, RIG_E_BUDGET, "%s.%s: the result needs more than %zu octets",
                    call->script, call->function, taker->arena->max_bytes);
}

static struct rig_doc *take_number(struct taker *taker)
{
    lua_State *L = taker->L;
    if (lua_isinteger(L, -1))
        return rig_doc_int(taker->arena, lua_tointeger(L, -1));
    lua_Number number = lua_tonumber(L, -1);
    if (!isfinite(number))
        refuse(taker, RIG_E_SCRIPT, "a number that is not finite has no place in a document");
    /* 2^63: below it an integer-valued double is an int64_t. */
    if (number == floor(number) && fabs(number) < 9223372036854775808.0)
        return rig_doc_int(taker->arena, (int64_t)number);
    char text[40];
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(text, sizeof(text), "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    return rig_doc_number(taker->arena, rig_slice(text, (size_t)len));
}

static bool is_list(lua_State *L)
{
    if (!lua_getmetatable(L, -1))
        return false;
    luaL_getmetatable(L, SCRIPT_LIST);
    bool is_same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is_same;
}

static void enter(struct taker *taker, struct place place)
{
    taker->depth++;
    taker->places[taker->depth] = place;
}

/* Refuses the first key of this type, which stands on the stack's table. */
static void refuse_key(struct taker *taker, bool is_text, const char *what)
{
    lua_State *L = taker->L;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if ((lua_type(L, -2) == LUA_TSTRING) != is_text)
            continue;
        struct place place = {.index = is_text ? 0 : lua_tointeger(L, -2)};
        if (is_text)
            place.key.at = (const uint8_t *)lua_tolstring(L, -2, &place.key.len);
        enter(taker, place);
        refuse(taker, RIG_E_SCRIPT, what);
    }
}

static struct rig_doc *take(struct taker *taker);

static struct rig_doc *take_list(struct taker *taker, lua_Integer count)
{
    lua_State *L = taker->L;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_Integer index = lua_tointeger(L, -2);
        if (index >= 1 && index <= count)
            continue;
        enter(taker, (struct place){.index = index});
        refuse(taker, RIG_E_SCRIPT,
               "a list's indices are 1 to its length, without holes; a map's keys are strings");
    }
    struct rig_doc *list = rig_doc_list(taker->arena);
    rig_doc_reserve(taker->arena, list, (size_t)count);
    check_budget(taker);
    for (lua_Integer i = 1; i <= count; i++) {
        enter(taker, (struct place){.index = i});
        lua_rawgeti(L, -1, i);
        rig_doc_push(taker->arena, list, take(taker));
        lua_pop(L, 1);
        taker->depth--;
    }
    return list;
}

static int member_compare(const void *left, const void *right)
{
    struct rig_slice a = ((const struct rig_doc_member *)left)->key;
    struct rig_slice b = ((const struct rig_doc_member *)right)->key;
    int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* Lua's order of keys changes from run to run; ours does not. */
static struct rig_doc *take_map(struct taker *taker, lua_Integer count)
{
    lua_State *L = taker->L;
    struct rig_doc *map = rig_doc_map(taker->arena);
    rig_doc_reserve(taker->arena, map, (size_t)count);
    check_budget(taker);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        size_t len;
        const char *text = lua_tolstring(L, -2, &len);
        struct rig_slice key = rig_slice(rig_arena_copy(taker->arena, text, len), len);
        check_budget(taker);
        enter(taker, (struct place){.key = key});
        rig_doc_append(taker->arena, map, key, take(taker));
        taker->depth--;
    }
    if (map->count > 1)
        qsort(map->members, map->count, sizeof(map->members[0]), member_compare);
    return map;
}

/* A table is a list when its keys are 1 to n, a map when they are strings, and else refused. */
static struct rig_doc *take_table(struct taker *taker)
{
    lua_State *L = taker->L;
    lua_Integer count = 0, texts = 0;
    if (taker->depth == RIG_DOC_DEPTH_MAX)
        refuse(taker, RIG_E_BUDGET, "nested too deeply");
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        count++;
        if (lua_type(L, -2) == LUA_TSTRING)
            texts++;
        else if (!lua_isinteger(L, -2))
            refuse(taker, RIG_E_SCRIPT, "has a key that is neither a string nor an index");
    }
    bool is_marked = is_list(L);
    if (texts == 0 && (count > 0 || is_marked))
        return take_list(taker, count);
    if (is_marked)
        refuse_key(taker, true, "the key of a map in a list");
    if (texts < count)
        refuse_key(taker, false, "the index of a list beside the keys of a map");
    return take_map(taker, count);
}

/* The value at the top, which stays there. */
static struct rig_doc *take(struct taker *taker)
{
    lua_State *L = taker->L;
    struct rig_doc *doc = NULL;
    size_t len;
    const char *text;
    luaL_checkstack(L, 6, NULL);
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        doc = rig_doc_null(taker->arena);
        break;
    case LUA_TBOOLEAN:
        doc = rig_doc_bool(taker->arena, lua_toboolean(L, -1));
        break;
    case LUA_TNUMBER:
        doc = take_number(taker);
        break;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        doc = rig_doc_string(taker->arena, rig_slice(text, len));
        break;
    case LUA_TTABLE:
        doc = take_table(taker);
        break;
    case LUA_TLIGHTUSERDATA: /* no other is ever given to a script */
        doc = rig_doc_null(taker->arena);
        break;
    default:
        refuse(taker, RIG_E_SCRIPT, "a function has no place in a document");
    }
    check_budget(taker);
    return doc;
}

struct rig_doc *script_take_doc(lua_State *L)
{
    struct taker taker = {.L = L, .arena = script_of(L)->arena};
    return take(&taker);
}
