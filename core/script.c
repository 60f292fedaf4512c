/* SPDX-License-Identifier: Apache-2.0 */
/* core/script.c: one call of a script's function: a state, its limits, its end.
 *
 * All of Lua's work happens in one protected call, `run`. A used-up budget is final: from then on
 * every further instruction raises again, so that a script's own pcall cannot go on for long. */
#include "script.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "script_state.h"

#define INSTRUCTIONS_DEFAULT 10000000u
#define BYTES_DEFAULT        (32u << 20)
#define MS_DEFAULT           500u

#define HOOK_STEP  1000u
#define WATCH_STEP 2000 /* instructions between two looks at the processor's clock */

/* Whoever asks for a block of this size writes it, which takes time that no instruction counts. */
#define LARGE_BLOCK_BYTES 4096

#define NO_MEMORY "not enough memory" /* as Lua calls it */

/* By thread: what others do must not end this call. */
static uint64_t processor_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    script_charge(L, script_of(L)->hook_step);
}

/* From here on each instruction raises; lua_sethook may be called from anywhere. */
static void call_over(struct script_call *call)
{
    call->is_over = true;
    if (call->L != NULL)
        lua_sethook(call->L, on_count, LUA_MASKCOUNT, 1);
}

static void watch(struct script_call *call, uint64_t steps)
{
    call->unwatched += steps;
    if (call->unwatched < WATCH_STEP || call->is_over)
        return;
    call->unwatched = 0;
    if (processor_us() > call->end_us)
        call_over(call);
}

static void *limited_realloc(void *ctx, void *block, size_t old_size, size_t size)
{
    struct script_call *call = ctx;
    size_t held = block != NULL ? old_size : 0; /* without a block it is a kind, not a size */
    if (size == 0) {
        free(block);
        call->used_bytes -= held;
        return NULL;
    }
    bool is_large = size > held && size >= LARGE_BLOCK_BYTES;
    if (is_large)
        watch(call, size / SCRIPT_OCTETS_PER_STEP);
    if (size > held &&
        (size - held > call->limits.max_bytes - call->used_bytes || (is_large && call->is_over))) {
        call->was_refused = true;
        watch(call, WATCH_STEP); /* Lua collects everything, then asks once more */
        return NULL;
    }
    void *moved = realloc(block, size);
    if (moved != NULL)
        call->used_bytes += size - held;
    return moved;
}

static int end_now(lua_State *L)
{
    const struct script_call *call = script_of(L);
    if (call->spent_instructions >= call->limits.max_instructions)
        return luaL_error(L, "the budget of %I instructions is used up",
                          (LUAI_UACINT)call->limits.max_instructions);
    return luaL_error(L, "the budget of %d ms is used up", (int)call->limits.max_ms);
}

void script_charge(lua_State *L, uint64_t steps)
{
    struct script_call *call = script_of(L);
    call->spent_instructions += steps;
    watch(call, steps);
    if (call->spent_instructions >= call->limits.max_instructions && !call->is_over)
        call_over(call);
    if (call->is_over)
        end_now(L);
}

_Noreturn void script_fail(lua_State *L, int code, const char *format, ...)
{
    struct script_call *call = script_of(L);
    char text[RIG_FAULT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    call->err = rig_fault_set(call->why, code, "%s", text);
    lua_pushlightuserdata(L, call);
    lua_error(L);
    abort();
}

/* "file.lua:12: ..." already */
static bool has_place(const char *text)
{
    const char *colon = strstr(text, ".lua:");
    const char *space = strchr(text, ' ');
    return colon != NULL && (space == NULL || colon < space) && isdigit((unsigned char)colon[5]);
}

/* The next function on the stack that is Lua's. */
static bool next_frame(lua_State *L, int *level, lua_Debug *frame)
{
    while (lua_getstack(L, *level, frame)) {
        ++*level;
        lua_getinfo(L, "nSl", frame);
        if (frame->currentline > 0)
            return true;
    }
    return false;
}

/* Writes the sentence where the error happened, while its stack is there. Allocates nothing: it
 * may run because nothing is left. */
static int on_error(lua_State *L)
{
    struct script_call *call = script_of(L);
    if (lua_touserdata(L, -1) == call)
        return 1;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    call->is_out_of_memory = call->was_refused && text != NULL && strcmp(text, NO_MEMORY) == 0;
    char kind[64];
    if (text == NULL) {
        snprintf(kind, sizeof(kind), "an error that is a %s", luaL_typename(L, -1));
        text = kind;
    }
    lua_Debug frame, caller;
    int level = 0;
    char place[LUA_IDSIZE + 32] = "", from[LUA_IDSIZE + 96] = "";
    if (next_frame(L, &level, &frame)) {
        const char *name = frame.name != NULL                ? frame.name
                           : strcmp(frame.what, "main") == 0 ? "the script's own code"
                                                             : call->function;
        if (!has_place(text))
            snprintf(place, sizeof(place), "%s:%d: ", frame.short_src, frame.currentline);
        if (next_frame(L, &level, &caller))
            snprintf(from, sizeof(from), " (in %.60s, called from %s:%d)", name, caller.short_src,
                     caller.currentline);
        else
            snprintf(from, sizeof(from), " (in %.60s)", name);
    }
    /* The end of a long text goes, not where it happened. */
    rig_fault_set(call->why, RIG_E_SCRIPT, "%s%.500s%s", place, text, from);
    return 1;
}

/* Finds the function and leaves it at the top of the stack, or ends the call. */
static void find_function(lua_State *L)
{
    const struct script_call *call = script_of(L);
    char searched[512] = "", path[SCRIPT_PATH_BYTES];
    size_t first, end, len = 0;
    const char *stem;
    bool is_there = false;
    if (!script_name_split(call->dirs, call->script, &stem, &first, &end))
        script_fail(L, RIG_E_ABSENT, "'%s' is no name of a script", call->script);
    for (size_t dir = first; dir < end; dir++) {
        if (script_path(call->dirs->dirs[dir], stem, path) && len < sizeof(searched)) {
            int put =
                snprintf(searched + len, sizeof(searched) - len, "%s%s", len > 0 ? ", " : "", path);
            len += put > 0 ? (size_t)put : 0;
        }
        if (!script_load(L, dir, call->script, stem))
            continue;
        is_there = true;
        if (!lua_istable(L, -1))
            luaL_error(L, "%s does not return a table of functions", path);
        int kind = lua_getfield(L, -1, call->function);
        if (kind == LUA_TFUNCTION)
            return;
        if (kind != LUA_TNIL)
            luaL_error(L, "%s: '%s' is a %s, no function", path, call->function,
                       lua_typename(L, kind));
        lua_pop(L, 2);
    }
    if (is_there)
        script_fail(L, RIG_E_ABSENT, "the script '%s' has no function '%s' (%s)", call->script,
                    call->function, searched);
    script_fail(L, RIG_E_ABSENT, "there is no script '%s' (%s)", call->script,
                len > 0 ? searched : "no directory of scripts is known");
}

static int run(lua_State *L)
{
    struct script_call *call = script_of(L);
    script_open_libs(L);
    find_function(L);
    script_push_doc(L, call->argument);
    lua_call(L, 1, 2);
    /* A function that ends with `return pcall(...)` runs no instruction after it. */
    if (call->is_over)
        return end_now(L);
    if (lua_isnil(L, -2) && lua_type(L, -1) == LUA_TSTRING)
        script_fail(L, RIG_E_SCRIPT, "%s", lua_tostring(L, -1));
    if (lua_isnil(L, -2) && !lua_isnil(L, -1))
        script_fail(L, RIG_E_SCRIPT, "%s.%s: answered nil and a %s instead of a reason",
                    call->script, call->function, luaL_typename(L, -1));
    lua_pop(L, 1);
    call->result = script_take_doc(L);
    return 0;
}

static int out_of_memory(struct script_call *call)
{
    return rig_fault_set(call->why, RIG_E_BUDGET, "%s.%s: the budget of %zu octets is used up",
                         call->script, call->function, call->limits.max_bytes);
}

static int verdict(lua_State *L, struct script_call *call, int status)
{
    if (status == LUA_OK)
        return 0;
    if (lua_touserdata(L, -1) == call)
        return call->err;
    /* Large blocks are refused once the time is over. */
    if (call->is_over && (status == LUA_ERRMEM || call->is_out_of_memory))
        return rig_fault_set(call->why, RIG_E_BUDGET, "%s.%s: the budget of %u ms is used up",
                             call->script, call->function, call->limits.max_ms);
    if (call->is_over)
        return RIG_E_BUDGET;
    if (status == LUA_ERRMEM || call->is_out_of_memory)
        return out_of_memory(call);
    if (status == LUA_ERRERR)
        return rig_fault_set(call->why, RIG_E_SCRIPT, "%s.%s: failed, and its error handler too",
                             call->script, call->function);
    return RIG_E_SCRIPT;
}

static void set_limits(struct script_call *call, const struct rig_script_limits *limits)
{
    if (limits != NULL)
        call->limits = *limits;
    if (call->limits.max_instructions == 0)
        call->limits.max_instructions = INSTRUCTIONS_DEFAULT;
    if (call->limits.max_bytes == 0)
        call->limits.max_bytes = BYTES_DEFAULT;
    if (call->limits.max_ms == 0)
        call->limits.max_ms = MS_DEFAULT;
    call->hook_step =
        call->limits.max_instructions < HOOK_STEP ? call->limits.max_instructions : HOOK_STEP;
    call->end_us = processor_us() + (uint64_t)call->limits.max_ms * 1000;
}

int rig_script_call(const struct rig_script_dirs *dirs, const char *script, const char *function,
                    const struct rig_doc *argument, const struct rig_script_limits *limits,
                    struct rig_arena *arena, struct rig_doc **result, struct rig_fault *why)
{
    struct script_call call = {.dirs = dirs,
                               .script = script,
                               .function = function,
                               .argument = argument,
                               .arena = arena,
                               .why = why};
    *result = NULL;
    set_limits(&call, limits);
    lua_State *L = lua_newstate(limited_realloc, &call);
    if (L == NULL)
        return out_of_memory(&call);
    *(struct script_call **)lua_getextraspace(L) = &call;
    call.L = L;
    lua_sethook(L, on_count, LUA_MASKCOUNT, (int)call.hook_step);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, run);
    int err = verdict(L, &call, lua_pcall(L, 0, 0, 1));
    lua_close(L);
    if (err == 0)
        *result = call.result;
    return err;
}
