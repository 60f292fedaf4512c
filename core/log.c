/* SPDX-License-Identifier: Apache-2.0 */
/* core/log.c: records are formatted on the stack and leave by one write(2), so that they never
 * mix with those of a child on the same descriptor. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "alloc.h"
#include "buf.h"

#define RECORD_BYTES 4096
#define SCOPES_MAX   32
#define SCOPE_BYTES  32

static const char *const level_names[] = {"none", "fatal", "error", "warn", "info", "debug"};

static struct {
    int fd;
    bool as_json;
    enum rig_log_level fallback;
    size_t count;
    struct {
        char scope[SCOPE_BYTES];
        enum rig_log_level level;
    } scopes[SCOPES_MAX];
} settings = {.fd = STDOUT_FILENO, .fallback = RIG_LOG_INFO};

static int level_parse(struct rig_slice text, enum rig_log_level *level)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (rig_slice_is(text, level_names[i])) {
            *level = (enum rig_log_level)i;
            return 0;
        }
    }
    return RIG_E_RANGE;
}

static int level_item(struct rig_slice item, struct rig_fault *why)
{
    const uint8_t *colon = memchr(item.at, ':', item.len);
    struct rig_slice scope = rig_slice(item.at, colon != NULL ? (size_t)(colon - item.at) : 0);
    struct rig_slice name = colon != NULL ? rig_slice(colon + 1, item.len - scope.len - 1) : item;
    enum rig_log_level level;
    if (level_parse(name, &level) < 0)
        return rig_fault_set(why, RIG_E_RANGE,
                             "log level \"%.*s\": not one of none, fatal, error, warn, info, debug",
                             RIG_SLICE_ARG(name));
    if (colon == NULL || rig_slice_is(scope, "all") || rig_slice_is(scope, "default")) {
        settings.fallback = level;
        return 0;
    }
    if (scope.len == 0 || scope.len >= SCOPE_BYTES || settings.count == SCOPES_MAX)
        return rig_fault_set(why, RIG_E_RANGE, "log scope \"%.*s\": too long, or too many scopes",
                             RIG_SLICE_ARG(scope));
    memcpy(settings.scopes[settings.count].scope, scope.at, scope.len);
    settings.scopes[settings.count].scope[scope.len] = '\0';
    settings.scopes[settings.count++].level = level;
    return 0;
}

static int target_open(const char *target, struct rig_fault *why)
{
    if (strcmp(target, "stdout") == 0)
        return STDOUT_FILENO;
    if (strcmp(target, "stderr") == 0)
        return STDERR_FILENO;
    int fd = open(target, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return rig_fault_set(why, -errno, "log target %s: %s", target, strerror(errno));
    return fd;
}

int rig_log_configure(const char *levels, bool as_json, const char *target, struct rig_fault *why)
{
    int fd = target_open(target, why);
    if (fd < 0)
        return fd;
    if (settings.fd > STDERR_FILENO)
        close(settings.fd);
    settings.fd = fd;
    settings.as_json = as_json;
    settings.fallback = RIG_LOG_INFO;
    settings.count = 0;
    while (*levels != '\0') {
        size_t len = strcspn(levels, ",");
        int err = level_item(rig_slice(levels, len), why);
        if (err < 0)
            return err;
        levels += len + (levels[len] == ',');
    }
    return 0;
}

bool rig_log_is_json(void)
{
    return settings.as_json;
}

bool rig_log_enabled(enum rig_log_level level, const char *scope)
{
    for (size_t i = 0; i < settings.count; i++) {
        if (strcmp(settings.scopes[i].scope, scope) == 0)
            return level <= settings.scopes[i].level;
    }
    return level <= settings.fallback;
}

static void time_text(char *text, size_t size)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm parts;
    gmtime_r(&now.tv_sec, &parts);
    size_t len = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + len, size - len, ".%06ldZ", now.tv_nsec / 1000);
}

/* A JSON string's inside. Octets that are no UTF-8 would spoil the line: they become '?'. */
static void json_escape(const char *text, char *out, size_t size)
{
    struct rig_slice all = rig_slice_text(text);
    size_t len = 0;
    for (size_t at = 0; at < all.len && len + 7 < size;) {
        uint8_t c = all.at[at];
        size_t octets = rig_utf8_len(all, at);
        if (octets == 0)
            out[len++] = '?';
        else if (c < 0x20)
            len += (size_t)snprintf(out + len, size - len, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            len += (size_t)snprintf(out + len, size - len, "\\%c", c);
        else
            for (size_t i = 0; i < octets; i++)
                out[len++] = (char)all.at[at + i];
        at += octets > 0 ? octets : 1;
    }
    out[len] = '\0';
}

void rig_log(enum rig_log_level level, const char *scope, const char *format, ...)
{
    if (!rig_log_enabled(level, scope))
        return;
    char message[RECORD_BYTES / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);

    char when[40];
    time_text(when, sizeof(when));
    char record[RECORD_BYTES + 256];
    int len;
    if (settings.as_json) {
        char escaped[RECORD_BYTES];
        json_escape(message, escaped, sizeof(escaped));
        len = snprintf(record, sizeof(record),
                       "{\"level\":\"%s\",\"time\":\"%s\",\"scope\":\"%s\",\"msg\":\"%s\"}\n",
                       level_names[level], when, scope, escaped);
    } else {
        /* Peers' texts are in it: no second line, no column more, and nothing that a terminal
         * would obey. */
        for (char *c = message; *c != '\0'; c++) {
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                *c = ' ';
        }
        bool is_default = strcmp(scope, "default") == 0;
        len = snprintf(record, sizeof(record), "%s\t%s\t%s%s%s\n", when, level_names[level],
                       is_default ? "" : scope, is_default ? "" : "\t", message);
    }
    if (len <= 0)
        return;
    if ((size_t)len >= sizeof(record)) {
        len = sizeof(record) - 1;
        record[len - 1] = '\n';
    }
    /* A log that cannot be written has nowhere to say so. */
    ssize_t put;
    do
        put = write(settings.fd, record, (size_t)len);
    while (put < 0 && errno == EINTR);
}
