/* SPDX-License-Identifier: Apache-2.0 */
/* core/script.h: decisions in Lua: a document in, a document out.
 *
 * A script is found by name ("cert_policy", "lib.quantity" for lib/quantity.lua) in the site's
 * directories first, then in the shipped scripts/ and templates/. It returns a table of functions;
 * what the first script of that name leaves out is taken from the next, so a site overrides one
 * function and leaves the rest. A call runs in a fresh sandboxed state, within limits of
 * instructions, time, memory and depth; the state is gone when the call returns, so a script keeps
 * nothing and an idle program holds no Lua.
 *
 * A script has Lua's base functions but load, loadfile, dofile, collectgarbage, print and rawset;
 * string but dump; table; math but random; utf8. No io, os, debug, coroutines. A global cannot be
 * assigned, a metatable has no __gc. `pairs` goes by keys in order, so that the same input gives
 * the same output. `require "x"` finds the first x, "site.x" and "shipped.x" those of one side.
 *
 * To Lua a map is a table, a list is a table with the list metatable (getmetatable(t) == "list"),
 * null is the value `null`, which counts as true. From Lua an empty table is a map unless it was
 * made by list{} or came in as a list. Integers stay integers; other numbers become doubles.
 * A function that answers nil, "reason" fails with that reason. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "doc.h"
#include "fault.h"

struct rig_script_limits {
    uint64_t max_instructions; /* and steps of pattern matching; 0: 10 million */
    size_t max_bytes;          /* Lua heap; 0: 32 MiB */
    uint32_t max_ms;           /* processor time; 0: 500 */
};

struct rig_script_dirs {
    const char *const *dirs; /* in order of search, NULL-terminated; keeps */
    size_t site_count;       /* the first so many are the site's, the rest are shipped */
};

/* Calls `script`.`function`(argument). The result lives in `arena`. RIG_E_ABSENT when no such
 * script or function exists (file names searched are in `why`), RIG_E_SCRIPT with
 * "file:line: message" or the script's own reason, RIG_E_BUDGET when a limit was hit. `limits` may
 * be NULL. Maps of the result have their keys in order. */
int rig_script_call(const struct rig_script_dirs *dirs, const char *script, const char *function,
                    const struct rig_doc *argument, const struct rig_script_limits *limits,
                    struct rig_arena *arena, struct rig_doc **result, struct rig_fault *why);
