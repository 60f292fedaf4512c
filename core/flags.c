/* SPDX-License-Identifier: Apache-2.0 */
/* core/flags.c: the rows that have a flag become getopt_long's table. */
#include "flags.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "alloc.h"

/* getopt_long's values: no character, so that none is '?' or ':'. */
#define HELP_VALUE 999
#define ROW_VALUE  1000 /* plus the row's place in `targets` */

struct target {
    struct options *table;
    const struct rig_option *row;
};

struct parser {
    struct flags *flags;
    struct option *longs;
    struct target *targets;
    size_t count;
    int argc;
    char **argv;
};

static void parser_add(struct parser *parser, struct options *table, const struct rig_option *row)
{
    parser->targets[parser->count] = (struct target){.table = table, .row = row};
    parser->longs[parser->count] = (struct option){
        .name = row->flag,
        .has_arg = row->type == RIG_OPTION_BOOL ? optional_argument : required_argument,
        .val = ROW_VALUE + (int)parser->count,
    };
    parser->count++;
}

static void parser_init(struct parser *parser, struct flags *flags, int argc, char *const *argv)
{
    size_t room = 2;
    for (size_t i = 0; i < flags->table_count; i++)
        room += flags->tables[i]->count;
    *parser = (struct parser){.flags = flags, .argc = argc};
    parser->longs = rig_alloc(room * sizeof(*parser->longs));
    parser->targets = rig_alloc(room * sizeof(*parser->targets));
    /* getopt_long wants a vector that it may write to; it writes only when it permutes. */
    parser->argv = rig_alloc(((size_t)argc + 1) * sizeof(*parser->argv));
    memcpy(parser->argv, argv, (size_t)argc * sizeof(*argv));
    for (size_t i = 0; i < flags->table_count; i++) {
        struct options *table = flags->tables[i];
        for (size_t j = 0; j < table->count; j++) {
            if (table->rows[j].flag != NULL)
                parser_add(parser, table, &table->rows[j]);
        }
    }
    parser->longs[parser->count] = (struct option){.name = "help", .val = HELP_VALUE};
}

static void parser_deinit(struct parser *parser)
{
    rig_free(parser->longs);
    rig_free(parser->targets);
    rig_free(parser->argv);
}

/* The name in "--name=value", empty for anything else. */
static struct rig_slice long_name(const char *word)
{
    if (strncmp(word, "--", 2) != 0)
        return rig_slice("", 0);
    return rig_slice(word + 2, strcspn(word + 2, "="));
}

/* Is it --NAME, in full? The field has no abbreviations. */
static bool is_flag(const char *word, const char *name)
{
    return rig_slice_is(long_name(word), name);
}

/* Each function below answers how many words it has used up, or a negative code. */

static int unknown_flag(struct parser *parser, int at, struct rig_fault *why)
{
    const char *word = parser->argv[at];
    if (parser->flags->ignore_unknown) {
        const char *next = at + 1 < parser->argc ? parser->argv[at + 1] : NULL;
        bool has_value = strchr(word, '=') != NULL;
        return !has_value && next != NULL && next[0] != '-' ? 2 : 1;
    }
    /* Without its value: that may be a secret. */
    const char *nearest = NULL;
    struct rig_slice name = long_name(word);
    for (size_t i = 0; i < parser->count && name.len > 2; i++) {
        if (strncmp(parser->longs[i].name, (const char *)name.at, 3) == 0)
            nearest = parser->longs[i].name;
    }
    return rig_fault_set(why, RIG_E_USAGE, "unknown flag \"%.*s\"%s%s%s; --help lists them",
                         (int)strcspn(word, "="), word, nearest != NULL ? " (did you mean --" : "",
                         nearest != NULL ? nearest : "", nearest != NULL ? "?)" : "");
}

static int known_flag(struct parser *parser, size_t index, int used, struct rig_fault *why)
{
    struct target *target = &parser->targets[index];
    char origin[96];
    snprintf(origin, sizeof(origin), "--%s", target->row->flag);
    const char *text = optarg != NULL ? optarg : "true";
    int err = options_set(target->table, target->row, text, origin, why);
    return err < 0 ? rig_fault_prefix(why, RIG_E_USAGE, "%s", origin) : used;
}

/* The flag at `at`, by getopt_long over a vector of that word and the next: its state never
 * reaches from one flag into another. */
static int parse_one(struct parser *parser, int at, struct rig_fault *why)
{
    char *word = parser->argv[at];
    char *vector[] = {parser->argv[0], word, at + 1 < parser->argc ? parser->argv[at + 1] : NULL,
                      NULL};
    opterr = 0;
    optind = 0;
    int found = getopt_long(vector[2] != NULL ? 3 : 2, vector, "+:h", parser->longs, NULL);
    if (strcmp(word, "-h") == 0 || (found == HELP_VALUE && is_flag(word, "help"))) {
        parser->flags->wants_help = true;
        return 1;
    }
    /* A value that is missing: optopt is the flag's. */
    int value = found == ':' ? optopt : found;
    if (value >= ROW_VALUE && is_flag(word, parser->longs[value - ROW_VALUE].name)) {
        if (found == ':')
            return rig_fault_set(why, RIG_E_USAGE, "flag %s needs a value", word);
        return known_flag(parser, (size_t)(value - ROW_VALUE), optind - 1, why);
    }
    return unknown_flag(parser, at, why); /* an abbreviation too */
}

int flags_parse(struct flags *flags, int argc, char *const *argv, struct rig_fault *why)
{
    struct parser parser;
    parser_init(&parser, flags, argc, argv);
    flags->word_count = 0;
    bool only_words = false;
    int used = 0;
    for (int at = 1; at < argc && used >= 0; at += used) {
        char *word = parser.argv[at];
        used = 1;
        if (!only_words && strcmp(word, "--") == 0)
            only_words = true;
        else if (only_words || word[0] != '-' || word[1] == '\0')
            flags->words[flags->word_count++] = word;
        else
            used = parse_one(&parser, at, why);
        if (used < 0)
            break;
    }
    flags->words[flags->word_count] = NULL;
    parser_deinit(&parser);
    return used < 0 ? used : 0;
}
