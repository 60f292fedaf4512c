/* SPDX-License-Identifier: Apache-2.0 */
/* core/flags.h: a command line -> option tables, by getopt_long, without its abbreviations.
 *
 * `--name=value`, `--name value`; a BOOL takes no separate word (`--name`, `--name=false`). */
#pragma once

#include <stdbool.h>

#include "fault.h"
#include "options.h"

struct flags {
    struct options *const *tables;
    size_t table_count;
    bool ignore_unknown; /* unknown --x=y is one token; unknown --x takes a word without '-' too */
    bool wants_help;     /* out: --help or -h was there */
    char **words;        /* out: what is no flag, borrowed from argv; room for argc + 1 */
    int word_count;
};

/* `argv` is not reordered; argv[0] is skipped. RIG_E_USAGE with a suggestion. */
int flags_parse(struct flags *flags, int argc, char *const *argv, struct rig_fault *why);
