/* SPDX-License-Identifier: Apache-2.0 */
/* core/program.h: from argv to a host that may run, or to a command's exit status.
 *
 * Private to core. `outrigger X` is a command of core's, then a role, then a plugin's command;
 * a role may also be meant by the name the program was called by. */
#pragma once

#include <stdbool.h>

#include "arena.h"
#include "fault.h"
#include "options.h"
#include "role.h"

struct core_config {
    const char *config_path;
    const char *plugin_dir;
    const char *role_dir;
    const char *script_dir;
    const char *log_levels;
    bool log_as_json;
    const char *log_target;
};

struct program {
    struct rig_arena arena;
    struct options core;
    const struct core_config *config;
    const char *plugin_dir;     /* as it stands: option, beside the program, compiled in */
    const char *script_dirs[4]; /* the site's, then shipped scripts/ and templates/ */
    const char *role_dirs[3];   /* the option's, then shipped templates/roles */
};

/* Reads core's own options from flags (unknown ones are left to later), the configuration file
 * and the environment, sets up logging and finds the directories. */
int program_init(struct program *program, int argc, char *const *argv, struct rig_fault *why);
void program_deinit(struct program *program);

/* Runs a role to its end. argv[0] is the name it was called by. Returns the exit status. */
int program_run_role(struct program *program, const struct role *role, int argc, char *const *argv);

/* commands.c: core's own (plugins, version, help), and those that plugins bring. argv[0] is the
 * command's name. RIG_E_ABSENT when there is no such command. */
int command_run_own(struct program *program, int argc, char *const *argv, int *exit_status);
int command_run_plugin(struct program *program, int argc, char *const *argv, int *exit_status);

/* "FLAG  what it does (default: ..., $VARIABLE)" for each row with a flag. */
void help_options(const struct options *options);
