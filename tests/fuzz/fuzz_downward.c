/* SPDX-License-Identifier: Apache-2.0 */
/* Any octets as a downward API file. What is read has to come back the same when it is quoted
 * again: labels decide names and routes. */
#include <stddef.h>
#include <stdint.h>

#include "core/alloc.h"
#include "plugins/mesh/node.h"

#define BUDGET (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quote(const struct rig_doc *map, struct rig_buf *out)
{
    for (size_t i = 0; i < map->count; i++) {
        struct rig_slice value = map->members[i].value->text;
        rig_buf_append_slice(out, map->members[i].key);
        rig_buf_append_text(out, "=\"");
        for (size_t k = 0; k < value.len; k++)
            rig_buf_printf(out, "\\x%02x", value.at[k]);
        rig_buf_append_text(out, "\"\n");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig_arena arena;
    struct rig_doc *map = NULL, *again = NULL;
    struct rig_fault why = {""};
    rig_arena_init(&arena, BUDGET);
    int err = node_downward_read(rig_slice(data, size), "fuzz", &arena, &map, &why);
    rig_require((err == 0) == (map != NULL));
    rig_require((err == 0) == (why.text[0] == '\0'));
    if (err == 0) {
        struct rig_arena second;
        struct rig_buf text = {0};
        rig_arena_init(&second, 64u << 20);
        quote(map, &text);
        rig_require(node_downward_read(rig_buf_slice(&text), "again", &second, &again, NULL) == 0);
        rig_require(again->count == map->count);
        for (size_t i = 0; i < map->count; i++)
            rig_require(
                rig_slice_equal(map->members[i].value->text, again->members[i].value->text));
        rig_buf_deinit(&text);
        rig_arena_deinit(&second);
    }
    rig_arena_deinit(&arena);
    return 0;
}
