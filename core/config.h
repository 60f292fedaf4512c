/* SPDX-License-Identifier: Apache-2.0 */
/* core/config.h: the option rows, and how they are filled.
 *
 * One row is the only place of an option: key, type, unit, default, sentence, variable and flag.
 * The parser, the help, `plugins` and the unknown-key error all read these tables. Order, later
 * wins: default, role, file, the row's variables, OUTRIGGER_<SECTION>_<KEY>, flag. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rig_option_type {
    RIG_OPTION_STRING,      /* const char *; never NULL unless fallback is NULL and nothing set */
    RIG_OPTION_BOOL,        /* bool; 1 t T TRUE true True 0 f F FALSE false False */
    RIG_OPTION_UINT,        /* uint64_t */
    RIG_OPTION_DURATION_MS, /* uint64_t; "1.5s", "100ms", "24h", "1h30m" */
    RIG_OPTION_RATIO,       /* double */
};

enum rig_option_flags {
    RIG_OPTION_SECRET = 1u << 0, /* never printed */
};

struct rig_option {
    const char *key;       /* camelCase, in the plugin's section */
    enum rig_option_type type;
    size_t offset;         /* in the plugin's config struct */
    const char *fallback;  /* as text; NULL: NULL, false or 0 */
    double least, most;    /* inclusive, when most > least (UINT, DURATION_MS, RATIO) */
    const char *variables; /* environment variables, "A,B": the first that is set; or NULL */
    const char *flag;      /* long flag without dashes; or NULL */
    const char *about;     /* one sentence */
    uint32_t flags;
};

/* Rows for the common cases: RIG_OPT(STRING, struct sds_config, socket_path, "socket", "path",
 * "VARIABLES", "flag", "sentence"). */
#define RIG_OPT(kind, config, member, key_text, fallback_text, variables_text, flag_text, sentence) \
    {                                                                                              \
        .key = (key_text), .type = RIG_OPTION_##kind, .offset = offsetof(config, member),          \
        .fallback = (fallback_text), .variables = (variables_text), .flag = (flag_text),           \
        .about = (sentence)                                                                        \
    }
#define RIG_OPT_IN(kind, config, member, key_text, fallback_text, least_value, most_value,         \
                   variables_text, flag_text, sentence)                                            \
    {                                                                                              \
        .key = (key_text), .type = RIG_OPTION_##kind, .offset = offsetof(config, member),          \
        .fallback = (fallback_text), .least = (least_value), .most = (most_value),                 \
        .variables = (variables_text), .flag = (flag_text), .about = (sentence)                    \
    }

/* "90s", "1h30m", "1.5s" -> milliseconds; RIG_E_SYNTAX. */
int rig_duration_parse(const char *text, uint64_t *ms);

/* By the rule of RIG_OPTION_BOOL; RIG_E_SYNTAX. */
int rig_bool_parse(const char *text, bool *value);
