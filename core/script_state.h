/* SPDX-License-Identifier: Apache-2.0 */
/* core/script_state.h: what the files of script.c share, and nobody else includes.
 *
 * Everything here runs inside the one protected call of rig_script_call and may raise a Lua error,
 * which is a long jump: a C function that owns something may not call it. Memory is Lua's or the
 * arena's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

#include "script.h"

/* What a C function that walks or copies octets does in the time of one instruction. */
#define SCRIPT_OCTETS_PER_STEP 64

/* The metatable of lists, in the registry. */
#define SCRIPT_LIST "list"

struct script_call {
    lua_State *L; /* NULL until it is made */
    const struct rig_script_dirs *dirs;
    const char *script;
    const char *function;
    const struct rig_doc *argument;
    struct rig_script_limits limits;
    struct rig_arena *arena;
    struct rig_doc *result;
    struct rig_fault *why;
    int err; /* of script_fail */
    uint64_t hook_step;
    uint64_t spent_instructions;
    uint64_t unwatched; /* of them, since the processor's clock was read */
    uint64_t end_us;    /* of this thread's processor time */
    size_t used_bytes;
    bool is_over;          /* a budget is used up; nothing may go on */
    bool was_refused;      /* memory, at least once */
    bool is_out_of_memory; /* and the call failed for it */
};

static inline struct script_call *script_of(lua_State *L)
{
    return *(struct script_call **)lua_getextraspace(L);
}

/* script.c: counts work that Lua's own hook does not see; raises when the budget is used up. */
void script_charge(lua_State *L, uint64_t steps);

/* script.c: ends the call with `code` and the sentence. For use outside of the script's functions
 * only, which could catch it. */
_Noreturn void script_fail(lua_State *L, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* script_doc.c: one value more on the stack; the value at the top as a document. */
void script_push_doc(lua_State *L, const struct rig_doc *doc);
void script_push_null(lua_State *L);
struct rig_doc *script_take_doc(lua_State *L);

/* script_load.c */
#define SCRIPT_PATH_BYTES 1024

/* `name` without its "site." or "shipped.", and the directories to be searched: from `first` to
 * before `end`. False when it is no script's name. */
bool script_name_split(const struct rig_script_dirs *dirs, const char *name, const char **stem,
                       size_t *first, size_t *end);

/* The file of `stem` in the directory; false when the path is too long. */
bool script_path(const char *dir, const char *stem, char path[SCRIPT_PATH_BYTES]);

/* Pushes what the script in that directory returns, and runs it if it has not run yet. False,
 * with nothing pushed, when there is no such file. */
bool script_load(lua_State *L, size_t dir, const char *name, const char *stem);

int script_require(lua_State *L); /* name -> value */

/* script_lib.c: the sandbox. */
void script_open_libs(lua_State *L);

/* script_match.c: find, match, gmatch, gsub into the table at the top. */
void script_open_match(lua_State *L);
