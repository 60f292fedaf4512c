/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file, from its text to option tables: YAML, sections, rows, every type. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/log.h"
#include "core/role.h"
#include "core/yaml.h"

struct fuzz_config {
    const char *text;
    bool flag;
    uint64_t count;
    uint64_t wait_ms;
    double ratio;
};

static const struct rig_option rows[] = {
    RIG_OPT(STRING, struct fuzz_config, text, "text", "", NULL, "text", "s"),
    RIG_OPT(BOOL, struct fuzz_config, flag, "flag", "false", NULL, "flag", "s"),
    RIG_OPT_IN(UINT, struct fuzz_config, count, "count", "1", 1, 100, NULL, "count", "s"),
    RIG_OPT_IN(DURATION_MS, struct fuzz_config, wait_ms, "wait", "1s", 1, 60000, NULL, "wait", "s"),
    RIG_OPT_IN(RATIO, struct fuzz_config, ratio, "ratio", "0.5", 0, 1, NULL, "ratio", "s"),
    {0},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig_arena arena;
    struct options options;
    struct options *tables[] = {&options};
    struct rig_doc *doc = NULL;
    struct rig_buf problems = {0};
    rig_arena_init(&arena, 4 << 20);
    rig_log_configure("none", false, "stderr", NULL);
    rig_require(options_init(&options, "fuzz", rows, sizeof(struct fuzz_config), &arena, NULL) ==
                0);
    if (rig_yaml_read(rig_slice(data, size), "f.yaml", &arena, &doc, NULL) == 0) {
        int err = config_apply(tables, 1, doc, "f.yaml", NULL, NULL, NULL, &problems);
        rig_require((err < 0) == (problems.len > 0));
    }
    /* Whatever the text was, the limits of the rows hold. */
    const struct fuzz_config *config = options.config;
    rig_require(config->count >= 1 && config->count <= 100);
    rig_require(config->wait_ms >= 1 && config->wait_ms <= 60000);
    rig_require(config->ratio >= 0 && config->ratio <= 1);
    rig_buf_deinit(&problems);
    rig_arena_deinit(&arena);
    return 0;
}
