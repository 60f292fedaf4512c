/* SPDX-License-Identifier: Apache-2.0 */
/* Any octets as YAML. What is read has to be a sound tree: writing it as JSON and reading that
 * again gives the same text, by both readers. */
#include <stddef.h>
#include <stdint.h>

#include "core/alloc.h"
#include "core/json.h"
#include "core/yaml.h"

#define BUDGET (2u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_again(const struct rig_buf *json, bool as_yaml)
{
    struct rig_arena arena;
    struct rig_buf again = {0};
    struct rig_doc *doc = NULL;
    rig_arena_init(&arena, 64u << 20);
    int err = as_yaml ? rig_yaml_read(rig_buf_slice(json), "again", &arena, &doc, NULL)
                      : rig_json_read(rig_buf_slice(json), "again", &arena, &doc, NULL);
    rig_require(err == 0);
    rig_json_write(doc, RIG_JSON_COMPACT, &again);
    rig_require(rig_slice_equal(rig_buf_slice(json), rig_buf_slice(&again)));
    rig_buf_deinit(&again);
    rig_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig_arena arena;
    struct rig_doc *doc = NULL;
    struct rig_fault why = {""};
    rig_arena_init(&arena, BUDGET);
    int err = rig_yaml_read(rig_slice(data, size), "fuzz", &arena, &doc, &why);
    rig_require((err == 0) == (doc != NULL));
    rig_require((err == 0) == (why.text[0] == '\0'));
    if (err == 0) {
        struct rig_buf json = {0};
        rig_require(rig_doc_depth(doc) <= RIG_DOC_DEPTH_MAX);
        rig_json_write(doc, RIG_JSON_COMPACT, &json);
        read_again(&json, false);
        read_again(&json, true);
        rig_buf_deinit(&json);
    }
    rig_arena_deinit(&arena);
    return 0;
}
