/* SPDX-License-Identifier: Apache-2.0 */
/* core/commands.c: plugins, version, help, and the commands that plugins bring. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <llhttp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/crypto.h>
#include <uv.h>

#include "alloc.h"
#include "flags.h"
#include "json.h"
#include "loader.h"
#include "program.h"

#define OUTPUT_BYTES_MAX (1u << 20)

void help_options(const struct options *options)
{
    for (size_t i = 0; i < options->count; i++) {
        const struct rig_option *row = &options->rows[i];
        if (row->flag == NULL)
            continue;
        printf("  --%-26s %s", row->flag, row->about);
        if (row->fallback != NULL && row->fallback[0] != '\0')
            printf(" (default: %s)", row->fallback);
        if (row->variables != NULL)
            printf(" [$%s]", row->variables);
        printf("\n");
    }
}

struct output_config {
    const char *format;
};

static const struct rig_option output_options[] = {
    RIG_OPT(STRING, struct output_config, format, "output", "table", NULL, "output",
            "table or json (also -o)"),
    {0},
};

/* "-o json" is the field's habit; the parser knows long flags only. */
static int output_parse(struct program *program, int argc, char *const *argv, bool *as_json,
                        struct rig_fault *why)
{
    struct options own;
    int err = options_init(&own, "output", output_options, sizeof(struct output_config),
                           &program->arena, why);
    struct options *tables[] = {&own, &program->core};
    struct flags flags = {.tables = tables, .table_count = 2};
    char **copy = rig_alloc(((size_t)argc + 1) * sizeof(*copy));
    static char long_form[] = "--output";
    for (int i = 0; i < argc; i++)
        copy[i] = strcmp(argv[i], "-o") == 0 ? long_form : argv[i];
    flags.words = rig_alloc(((size_t)argc + 1) * sizeof(*flags.words));
    if (err == 0)
        err = flags_parse(&flags, argc, copy, why);
    if (err == 0 && flags.word_count > 1)
        err = rig_fault_set(why, RIG_E_USAGE, "unexpected word \"%s\"", flags.words[1]);
    rig_free(copy);
    rig_free(flags.words);
    const char *format = ((struct output_config *)own.config)->format;
    if (err == 0 && strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
        err = rig_fault_set(why, RIG_E_USAGE, "output \"%s\" is not table or json", format);
    *as_json = err == 0 && strcmp(format, "json") == 0;
    return err;
}

static int usage_error(const struct rig_fault *why)
{
    fprintf(stderr, "outrigger: %s\n", why->text);
    return 2;
}

static void print_json(const struct rig_doc *doc)
{
    struct rig_buf text = {0};
    rig_json_write(doc, RIG_JSON_PRETTY, &text);
    printf("%s\n", rig_buf_text(&text));
    rig_buf_deinit(&text);
}

/* A command has no loop that would hear of SIGTERM and SIGINT: they end it, as is their default. */
static void signals_default(void)
{
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_UNBLOCK, &ending, NULL);
}

/* ---- plugins ---- */

static struct rig_doc *plugin_row(struct rig_arena *arena, const char *name,
                                  const struct rig_plugin *plugin, const char *refusal)
{
    struct rig_doc *row = rig_doc_map(arena);
    rig_doc_set(arena, row, "name", rig_doc_text(arena, name));
    if (plugin == NULL) {
        rig_doc_set(arena, row, "refused", rig_doc_text(arena, refusal));
        return row;
    }
    struct rig_doc *offers = rig_doc_list(arena), *needs = rig_doc_list(arena);
    struct rig_doc *commands = rig_doc_list(arena);
    for (const struct rig_offer *o = plugin->offers; o != NULL && o->service != NULL; o++)
        rig_doc_push(arena, offers, rig_doc_text(arena, o->service));
    for (const struct rig_need *n = plugin->needs; n != NULL && n->service != NULL; n++)
        rig_doc_push(arena, needs, rig_doc_text(arena, n->service));
    for (const struct rig_command *c = plugin->commands; c != NULL && c->name != NULL; c++)
        rig_doc_push(arena, commands, rig_doc_text(arena, c->name));
    rig_doc_set(arena, row, "version",
                rig_doc_text(arena, plugin->version != NULL ? plugin->version : ""));
    rig_doc_set(arena, row, "abi", rig_doc_int(arena, plugin->abi));
    rig_doc_set(arena, row, "offers", offers);
    rig_doc_set(arena, row, "needs", needs);
    rig_doc_set(arena, row, "commands", commands);
    rig_doc_set(arena, row, "about",
                rig_doc_text(arena, plugin->about != NULL ? plugin->about : ""));
    return row;
}

static void print_list(const struct rig_doc *list, int width)
{
    struct rig_buf text = {0};
    for (size_t i = 0; i < list->count; i++)
        rig_buf_printf(&text, "%s%s", i > 0 ? "," : "", (const char *)list->items[i]->text.at);
    printf(" %-*s", width, text.len > 0 ? rig_buf_text(&text) : "-");
    rig_buf_deinit(&text);
}

static void print_plugins(const struct rig_doc *rows)
{
    printf("%-16s %-8s %-4s %-14s %-38s %s\n", "NAME", "VERSION", "ABI", "OFFERS", "NEEDS",
           "ABOUT");
    for (size_t i = 0; i < rows->count; i++) {
        const struct rig_doc *row = rows->items[i];
        const char *refused = rig_doc_get_text(row, "refused", NULL);
        printf("%-16s", rig_doc_get_text(row, "name", ""));
        if (refused != NULL) {
            printf(" refused: %s\n", refused);
            continue;
        }
        printf(" %-8s %-4s", rig_doc_get_text(row, "version", ""),
               (const char *)rig_doc_get(row, "abi")->text.at);
        print_list(rig_doc_get(row, "offers"), 14);
        print_list(rig_doc_get(row, "needs"), 38);
        printf(" %s\n", rig_doc_get_text(row, "about", ""));
    }
}

/* Exit status 1 when a plugin file was refused: the list doubles as a check. */
static int run_plugins(struct program *program, int argc, char *const *argv)
{
    struct rig_fault why = {0};
    bool as_json;
    char **names;
    size_t count;
    if (output_parse(program, argc, argv, &as_json, &why) < 0)
        return usage_error(&why);
    if (loader_list(program->plugin_dir, &names, &count, &why) < 0) {
        fprintf(stderr, "outrigger: %s; --plugin-dir names another\n", why.text);
        return 1;
    }
    struct rig_arena arena;
    rig_arena_init(&arena, OUTPUT_BYTES_MAX);
    struct rig_doc *rows = rig_doc_list(&arena);
    int status = 0;
    for (size_t i = 0; i < count; i++) {
        struct loaded loaded;
        int err = loader_open(program->plugin_dir, names[i], &loaded, &why);
        rig_doc_push(&arena, rows,
                     plugin_row(&arena, names[i], err == 0 ? &loaded.plugin : NULL, why.text));
        if (err < 0)
            status = 1;
        loader_close(&loaded);
        rig_free(names[i]);
    }
    rig_free(names);
    if (as_json)
        print_json(rows);
    else
        print_plugins(rows);
    rig_arena_deinit(&arena);
    return status;
}

/* ---- version, help ---- */

static int run_version(struct program *program, int argc, char *const *argv)
{
    struct rig_fault why = {0};
    bool as_json;
    if (output_parse(program, argc, argv, &as_json, &why) < 0)
        return usage_error(&why);
    struct rig_arena arena;
    rig_arena_init(&arena, OUTPUT_BYTES_MAX);
    struct rig_doc *doc = rig_doc_map(&arena);
    rig_doc_set(&arena, doc, "version", rig_doc_text(&arena, RIG_VERSION));
    rig_doc_set(&arena, doc, "pluginAbi", rig_doc_int(&arena, RIG_PLUGIN_ABI));
    rig_doc_set(&arena, doc, "openssl",
                rig_doc_text(&arena, OpenSSL_version(OPENSSL_VERSION_STRING)));
    rig_doc_set(&arena, doc, "libuv", rig_doc_text(&arena, uv_version_string()));
    rig_doc_set(&arena, doc, "nghttp2", rig_doc_text(&arena, nghttp2_version(0)->version_str));
    if (as_json)
        print_json(doc);
    else
        for (size_t i = 0; i < doc->count; i++)
            printf("%-10s %.*s\n", (const char *)doc->members[i].key.at,
                   RIG_SLICE_ARG(doc->members[i].value->text));
    rig_arena_deinit(&arena);
    return 0;
}

typedef bool (*command_visit)(void *ctx, struct program *program, const struct loaded *loaded,
                              const struct rig_command *command);

/* Visits the commands of all plugins until one visit answers true. */
static bool each_command(struct program *program, command_visit visit, void *ctx)
{
    char **names;
    size_t count;
    bool found = false;
    if (loader_list(program->plugin_dir, &names, &count, NULL) < 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct loaded loaded;
        if (!found && loader_open(program->plugin_dir, names[i], &loaded, NULL) == 0) {
            const struct rig_command *c = loaded.plugin.commands;
            for (; c != NULL && c->name != NULL && !found; c++)
                found = visit(ctx, program, &loaded, c);
            loader_close(&loaded);
        }
        rig_free(names[i]);
    }
    rig_free(names);
    return found;
}

static bool visit_print(void *ctx, struct program *program, const struct loaded *loaded,
                        const struct rig_command *command)
{
    (void)ctx;
    (void)program;
    (void)loaded;
    printf("  %-14s %s\n", command->name, command->about);
    return false;
}

static int run_help(struct program *program, int argc, char *const *argv)
{
    (void)argc;
    (void)argv;
    printf("Outrigger hosts plugins beside a service proxy; the plugins make the role.\n\n"
           "Usage:\n  outrigger ROLE|COMMAND [flags]\n\nRoles:\n");
    role_list(program->role_dirs);
    printf("\nCommands:\n"
           "  %-14s %s\n  %-14s %s\n  %-14s %s\n",
           "plugins", "List the plugin files, what they offer and need, and why one is refused",
           "version", "Versions of the program, the plugin interface and the libraries", "help",
           "This text; `outrigger ROLE --help` lists a role's flags");
    each_command(program, visit_print, NULL);
    printf("\nFlags of every role:\n");
    help_options(&program->core);
    printf("\nExamples:\n  outrigger plugins -o json\n  outrigger agent --config outrigger.yaml\n");
    return 0;
}

/* ---- a plugin's command ---- */

struct wanted {
    const char *name;
    int argc;
    char *const *argv;
    int exit_status;
};

static void help_command(const struct rig_command *command, const struct options *options)
{
    printf("%s\n\nUsage:\n  outrigger %s %s\n\nFlags:\n", command->about, command->name,
           command->usage);
    help_options(options);
    if (command->examples != NULL)
        printf("\nExamples:\n%s\n", command->examples);
}

static bool visit_run(void *ctx, struct program *program, const struct loaded *loaded,
                      const struct rig_command *command)
{
    (void)loaded;
    struct wanted *wanted = ctx;
    if (strcmp(command->name, wanted->name) != 0)
        return false;
    signals_default();
    struct rig_fault why = {0};
    struct options options;
    struct options *tables[] = {&options, &program->core};
    struct flags flags = {.tables = tables, .table_count = 2};
    flags.words = rig_alloc(((size_t)wanted->argc + 1) * sizeof(*flags.words));
    int err = options_init(&options, command->name, command->options, command->config_size,
                           &program->arena, &why);
    if (err == 0)
        err = options_environment(&options, &why);
    if (err == 0)
        err = flags_parse(&flags, wanted->argc, wanted->argv, &why);
    if (err < 0) {
        fprintf(stderr, "outrigger %s: %s\n", command->name, why.text);
        wanted->exit_status = 2;
    } else if (flags.wants_help) {
        help_command(command, &options);
    } else {
        wanted->exit_status = command->run(options.config, flags.word_count, flags.words);
    }
    rig_free(flags.words);
    return true;
}

int command_run_own(struct program *program, int argc, char *const *argv, int *exit_status)
{
    static const struct {
        const char *name;
        int (*run)(struct program *program, int argc, char *const *argv);
    } own[] = {
        {"plugins", run_plugins},   {"version", run_version}, {"help", run_help},
        {"--version", run_version}, {"--help", run_help},     {"-h", run_help},
    };
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strcmp(argv[0], own[i].name) == 0) {
            signals_default();
            *exit_status = own[i].run(program, argc, argv);
            return 0;
        }
    }
    return RIG_E_ABSENT;
}

int command_run_plugin(struct program *program, int argc, char *const *argv, int *exit_status)
{
    struct wanted wanted = {.name = argv[0], .argc = argc, .argv = argv};
    if (!each_command(program, visit_run, &wanted))
        return RIG_E_ABSENT;
    *exit_status = wanted.exit_status;
    return 0;
}
