/* SPDX-License-Identifier: Apache-2.0 */
/* tests/harness/golden.h: Istio's own answers, in ../shared beside the source tree. Where they
 * are absent the test is skipped and says so; in CI a skip is a failure. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/json.h"
#include "test.h"

/* Reads ../shared/istio-golden/<name> as JSON into `arena`, or skips the running test. */
static inline struct rig_doc *golden_read(const char *name, struct rig_arena *arena)
{
    const char *source = getenv("RIG_SOURCE_DIR");
    char path[1024];
    struct rig_buf text = {0};
    struct rig_doc *doc = NULL;
    struct rig_fault why = {.text = ""};
    snprintf(path, sizeof(path), "%s/../shared/istio-golden/%s", source != NULL ? source : ".",
             name);
    if (rig_buf_read_file(&text, path, 1u << 20) < 0) {
        fprintf(stderr, "SKIPPED: %s is not there\n", path);
        rig_buf_deinit(&text);
        skip();
    }
    int err = rig_json_read(rig_buf_slice(&text), name, arena, &doc, &why);
    rig_buf_deinit(&text);
    if (err < 0)
        fail_msg("%s", why.text);
    return doc;
}
