/* SPDX-License-Identifier: Apache-2.0 */
/* core/program.c: core's own options, the directories, and a role's way to a running host. */
#include "program.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "flags.h"
#include "host.h"
#include "log.h"
#include "yaml.h"

#define CONFIG_BYTES_MAX (1u << 20)
#define ARENA_BYTES_MAX  (16u << 20)

static const struct rig_option core_options[] = {
    RIG_OPT(STRING, struct core_config, config_path, "config", "", NULL, "config",
            "YAML file with a section for each plugin"),
    RIG_OPT(STRING, struct core_config, plugin_dir, "pluginDir", "", "OUTRIGGER_PLUGIN_DIR",
            "plugin-dir", "Where plugin files are; default: beside the program"),
    RIG_OPT(STRING, struct core_config, role_dir, "roleDir", "", "OUTRIGGER_ROLE_DIR", "role-dir",
            "More role files, looked up before the shipped ones"),
    RIG_OPT(STRING, struct core_config, script_dir, "scriptDir", "/etc/outrigger/scripts",
            "OUTRIGGER_SCRIPT_DIR", "script-dir",
            "The site's Lua scripts, looked up before the shipped ones"),
    RIG_OPT(STRING, struct core_config, log_levels, "logOutputLevel", "default:info", NULL,
            "log_output_level", "Levels: scope:level,...; none, fatal, error, warn, info, debug"),
    RIG_OPT(BOOL, struct core_config, log_as_json, "logAsJson", "false", NULL, "log_as_json",
            "Log records as JSON lines"),
    RIG_OPT(STRING, struct core_config, log_target, "logTarget", "stdout", NULL, "log_target",
            "Where the log goes: stdout, stderr or a file"),
    {0},
};

struct document {
    struct rig_doc *doc; /* NULL: no configuration file */
    const char *file;
};

static const char *or_beside(struct program *program, const char *option, const char *beside,
                             const char *compiled)
{
    if (option[0] != '\0')
        return option;
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len > 0) {
        self[len] = '\0';
        char *slash = strrchr(self, '/');
        if (slash != NULL)
            *slash = '\0';
        char *path = rig_arena_printf(&program->arena, "%s/../%s", self, beside);
        if (path != NULL && access(path, R_OK) == 0)
            return path;
    }
    return compiled;
}

static void directories_find(struct program *program)
{
    const struct core_config *config = program->config;
    const char *share = or_beside(program, "", "share/outrigger", RIG_SHARE_DIR);
    program->plugin_dir =
        or_beside(program, config->plugin_dir, "lib/outrigger/plugins", RIG_PLUGIN_DIR);
    size_t n = 0;
    program->script_dirs[n++] = config->script_dir;
    program->script_dirs[n++] = rig_arena_printf(&program->arena, "%s/scripts", share);
    program->script_dirs[n++] = rig_arena_printf(&program->arena, "%s/templates", share);
    n = 0;
    if (config->role_dir[0] != '\0')
        program->role_dirs[n++] = config->role_dir;
    program->role_dirs[n++] = rig_arena_printf(&program->arena, "%s/templates/roles", share);
}

/* Core's flags among all others; those it does not know are somebody else's. */
static int core_flags(struct program *program, int argc, char *const *argv, struct rig_fault *why)
{
    struct options *tables[] = {&program->core};
    struct flags flags = {.tables = tables, .table_count = 1, .ignore_unknown = true};
    flags.words = rig_alloc(((size_t)argc + 1) * sizeof(*flags.words));
    int err = flags_parse(&flags, argc, argv, why);
    rig_free(flags.words);
    return err;
}

static int document_read(struct program *program, struct document *document, struct rig_fault *why)
{
    document->doc = NULL;
    document->file = program->config->config_path;
    if (document->file[0] == '\0')
        return 0;
    return rig_yaml_read_file(document->file, CONFIG_BYTES_MAX, &program->arena, &document->doc,
                              why);
}

int program_init(struct program *program, int argc, char *const *argv, struct rig_fault *why)
{
    *program = (struct program){0};
    rig_arena_init(&program->arena, ARENA_BYTES_MAX);
    int err = options_init(&program->core, "core", core_options, sizeof(struct core_config),
                           &program->arena, why);
    program->config = program->core.config;
    if (err == 0)
        err = options_environment(&program->core, why);
    if (err == 0)
        err = core_flags(program, argc, argv, why);
    if (err == 0)
        directories_find(program);
    return err;
}

void program_deinit(struct program *program)
{
    rig_arena_deinit(&program->arena);
}

/* ---- a role's way ---- */

struct running {
    struct program *program;
    const struct role *role;
    struct document document;
    struct rig_host *host;
    struct options **tables; /* core's, then the plugins' */
    size_t table_count;
};

static int plugins_load(struct running *run, struct rig_fault *why)
{
    const struct rig_doc *list = rig_doc_get(run->document.doc, "plugins");
    if (list != NULL && list->kind != RIG_DOC_LIST)
        return rig_fault_set(why, RIG_E_SYNTAX, "%s:%u: plugins: a list of names is due",
                             run->document.file, list->line);
    if (list == NULL)
        list = run->role->plugins;
    for (size_t i = 0; i < list->count; i++) {
        struct loaded loaded;
        if (list->items[i]->kind != RIG_DOC_STRING)
            return rig_fault_set(why, RIG_E_SYNTAX, "%s:%u: plugins: a name is due",
                                 run->document.file, list->items[i]->line);
        const char *name = (const char *)list->items[i]->text.at;
        int err = loader_open(run->program->plugin_dir, name, &loaded, why);
        if (err < 0)
            return err;
        host_add(run->host, &loaded);
    }
    return host_configure(run->host, why);
}

static void tables_collect(struct running *run)
{
    size_t count = 0;
    while (host_options_at(run->host, count) != NULL)
        count++;
    run->table_count = count + 1;
    run->tables = rig_alloc(run->table_count * sizeof(*run->tables));
    run->tables[0] = &run->program->core;
    for (size_t i = 0; i < count; i++)
        run->tables[i + 1] = host_options_at(run->host, i);
}

/* A section of a plugin that is there but not loaded is another role's, not a misspelt one. */
static bool is_plugin_there(void *ctx, const char *name)
{
    const struct program *program = ctx;
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s.so", program->plugin_dir, name);
    return strcmp(name, "plugins") == 0 || (strchr(name, '/') == NULL && access(path, F_OK) == 0);
}

static int layer(struct running *run, const struct rig_doc *sections, const char *file,
                 const char *origin, struct rig_fault *why)
{
    struct rig_buf problems = {0};
    int err = config_apply(run->tables, run->table_count, sections, file, origin, is_plugin_there,
                           run->program, &problems);
    if (err < 0) {
        /* The first goes into the sentence; the others are said at once, or a reader would mend
         * his file line by line. */
        const char *text = rig_buf_text(&problems);
        size_t len = strcspn(text, "\n");
        rig_fault_set(why, err, "%.*s", (int)len, text);
        for (text += len; *text == '\n' && text[1] != '\0'; text += len) {
            text++;
            len = strcspn(text, "\n");
            rig_log_error("default", "%.*s", (int)len, text);
        }
    }
    rig_buf_deinit(&problems);
    return err;
}

static int word_positional(struct running *run, const char *word, struct rig_fault *why)
{
    const char *target = run->role->positional;
    if (target == NULL)
        return rig_fault_set(why, RIG_E_USAGE, "unexpected word \"%s\"; --help shows the usage",
                             word);
    const char *dot = strchr(target, '.');
    for (size_t i = 0; i < run->table_count && dot != NULL; i++) {
        struct options *options = run->tables[i];
        size_t len = (size_t)(dot - target);
        if (strlen(options->section) != len || strncmp(options->section, target, len) != 0)
            continue;
        const struct rig_option *row = options_row(options, rig_slice_text(dot + 1));
        if (row != NULL)
            return options_set(options, row, word, "command line", why);
    }
    return 0; /* the plugin that had it is not loaded */
}

static bool is_role_word(const struct role *role, const char *word)
{
    for (size_t i = 0; role->words != NULL && i < role->words->count; i++) {
        if (rig_slice_is(role->words->items[i]->text, word))
            return true;
    }
    return false;
}

static int flags_layer(struct running *run, int argc, char *const *argv, bool *wants_help,
                       struct rig_fault *why)
{
    struct flags flags = {.tables = run->tables,
                          .table_count = run->table_count,
                          .ignore_unknown = run->role->ignores_unknown_flags};
    flags.words = rig_alloc(((size_t)argc + 1) * sizeof(*flags.words));
    int err = flags_parse(&flags, argc, argv, why);
    int at = 0;
    if (flags.word_count > 0 && is_role_word(run->role, flags.words[0]))
        at = 1;
    if (err == 0 && at < flags.word_count)
        err = word_positional(run, flags.words[at++], why);
    if (err == 0 && at < flags.word_count)
        err = rig_fault_set(why, RIG_E_USAGE, "unexpected word \"%s\"; --help shows the usage",
                            flags.words[at]);
    *wants_help = flags.wants_help;
    rig_free(flags.words);
    return err;
}

static int layers(struct running *run, int argc, char *const *argv, bool *wants_help,
                  struct rig_fault *why)
{
    const struct role *role = run->role;
    int err = layer(run, role->options, role->file, NULL, why);
    if (err == 0)
        err = layer(run, role->named_options, role->file, NULL, why);
    if (err == 0)
        err = layer(run, run->document.doc, run->document.file, NULL, why);
    for (size_t i = 0; i < run->table_count && err == 0; i++)
        err = options_environment(run->tables[i], why);
    if (err == 0)
        err = flags_layer(run, argc, argv, wants_help, why);
    return err;
}

static void help_role(const struct running *run)
{
    const struct role *role = run->role;
    printf("%s\n\nUsage:\n  outrigger %s [flags]\n\nPlugins:\n ", role->about, role->name);
    for (size_t i = 1; i < run->table_count; i++)
        printf(" %s", run->tables[i]->section);
    printf("\n\nFlags (every option is also a key of the configuration file, and a variable "
           "OUTRIGGER_<PLUGIN>_<KEY>):\n");
    for (size_t i = 0; i < run->table_count; i++)
        help_options(run->tables[i]);
    printf("\nExamples:\n  outrigger %s --config outrigger.yaml\n"
           "  outrigger %s --log_output_level=default:info,sds:debug\n",
           role->name, role->name);
}

/* "FLAG: --name="value"", the lines that people grep a log for. */
static void log_flags(const struct running *run)
{
    for (size_t i = 0; i < run->table_count; i++) {
        const struct options *options = run->tables[i];
        for (size_t j = 0; j < options->count; j++) {
            const struct rig_option *row = &options->rows[j];
            const char *text = options->values[j].text;
            if (row->flag != NULL && (row->flags & RIG_OPTION_SECRET) == 0)
                rig_log_info("default", "FLAG: --%s=\"%s\"", row->flag, text != NULL ? text : "");
        }
    }
}

static int logging_apply(const struct program *program, struct rig_fault *why)
{
    const struct core_config *config = program->config;
    return rig_log_configure(config->log_levels, config->log_as_json, config->log_target, why);
}

int program_run_role(struct program *program, const struct role *role, int argc, char *const *argv)
{
    struct rig_fault why = {0};
    struct running run = {.program = program, .role = role, .host = host_new()};
    bool wants_help = false;
    int status = role->failure_status;
    host_name(run.host, role->name);
    host_scripts(run.host, program->script_dirs, 1);
    int err = logging_apply(program, &why);
    if (err == 0)
        err = document_read(program, &run.document, &why);
    if (err == 0)
        err = plugins_load(&run, &why);
    if (err == 0) {
        tables_collect(&run);
        err = layers(&run, argc, argv, &wants_help, &why);
    }
    if (err == 0)
        err = logging_apply(program, &why); /* once more: the file may set it, too */
    if (err < 0) {
        rig_log_error("default", "%s", why.text);
    } else if (wants_help) {
        help_role(&run);
        status = 0;
    } else {
        rig_log_info("default", "outrigger %s, role %s", RIG_VERSION, role->name);
        log_flags(&run);
        host_failure_status(run.host, role->failure_status);
        status = host_run(run.host);
    }
    rig_free(run.tables);
    if (!host_free(run.host)) {
        fflush(NULL);
        _exit(status);
    }
    return status;
}
