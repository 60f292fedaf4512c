/* SPDX-License-Identifier: Apache-2.0 */
/* core/log.h: one record per line, text or JSON, filtered by level and scope.
 *
 * Text: `2006-01-02T15:04:05.000000Z<TAB>level<TAB>[scope<TAB>]message`; the scope "default" is
 * not printed. JSON: {"level","time","scope","msg"}. A scope is any short name; it needs no
 * registration. Call from the loop's thread only. Never pass a secret. */
#pragma once

#include <stdbool.h>

#include "fault.h"

enum rig_log_level {
    RIG_LOG_NONE,
    RIG_LOG_FATAL,
    RIG_LOG_ERROR,
    RIG_LOG_WARN,
    RIG_LOG_INFO,
    RIG_LOG_DEBUG,
};

/* `levels` is "scope:level,..." or "level"; "all" and "default" name every scope without an
 * entry of its own. `target` is "stdout", "stderr" or a file path (appended to). */
int rig_log_configure(const char *levels, bool as_json, const char *target, struct rig_fault *why);

/* True when records are JSON: for those who pass the choice on to a child. */
bool rig_log_is_json(void);

bool rig_log_enabled(enum rig_log_level level, const char *scope);

void rig_log(enum rig_log_level level, const char *scope, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define rig_log_error(scope, ...) rig_log(RIG_LOG_ERROR, scope, __VA_ARGS__)
#define rig_log_warn(scope, ...) rig_log(RIG_LOG_WARN, scope, __VA_ARGS__)
#define rig_log_info(scope, ...) rig_log(RIG_LOG_INFO, scope, __VA_ARGS__)
#define rig_log_debug(scope, ...)                                                       \
    (rig_log_enabled(RIG_LOG_DEBUG, scope) ? rig_log(RIG_LOG_DEBUG, scope, __VA_ARGS__) \
                                           : (void)0)
