/* SPDX-License-Identifier: Apache-2.0 */
/* core/script.h: decisions in Lua: a document in, a document out.
 *
 * A script is found by name ("cert_policy", "bootstrap") in the site's directories first, then
 * in the shipped scripts/ and templates/. It returns a table of functions. A call runs in a
 * fresh sandboxed state (no io, os, debug, load, bytecode, collectgarbage; `require` finds
 * "site.x" and "shipped.x" only), within limits of instructions, memory and depth; the state is
 * gone when the call returns, so a script keeps nothing and an idle program holds no Lua.
 *
 * To Lua a map is a table, a list is a table with the list metatable, null is the value
 * `null`. From Lua an empty table is a map unless it was made by list{} or came in as a list.
 * Integers stay integers. A function that answers nil, "reason" fails with that reason. */
#pragma once

#include <stdint.h>

#include "doc.h"
#include "fault.h"

struct rig_script_limits {
    uint64_t max_instructions; /* 0: 10 million */
    size_t max_bytes;          /* Lua heap; 0: 32 MiB */
};

struct rig_script_dirs {
    const char *const *dirs; /* in order of search, NULL-terminated; keeps */
};

/* Calls `script`.`function`(argument). The result lives in `arena`. RIG_E_ABSENT when no such
 * script or function exists (file names searched are in `why`), RIG_E_SCRIPT with
 * "file:line: message", RIG_E_BUDGET when a limit was hit. `limits` may be NULL. */
int rig_script_call(const struct rig_script_dirs *dirs, const char *script, const char *function,
                    const struct rig_doc *argument, const struct rig_script_limits *limits,
                    struct rig_arena *arena, struct rig_doc **result, struct rig_fault *why);
