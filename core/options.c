/* SPDX-License-Identifier: Apache-2.0 */
/* core/options.c: text -> the fields of an option struct. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "log.h"

int rig_bool_parse(const char *text, bool *value)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *value = strcmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return RIG_E_SYNTAX;
}

/* One "1.5h" of a duration; 0 octets used: no such thing there. */
static size_t duration_part(const char *text, double *ms)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
    size_t digits = strspn(text, "0123456789.");
    char number[32];
    if (digits == 0 || digits >= sizeof(number))
        return 0;
    memcpy(number, text, digits);
    number[digits] = '\0';
    char *end;
    double value = strtod(number, &end);
    if (*end != '\0')
        return 0;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t len = strlen(units[i].name);
        if (strncmp(text + digits, units[i].name, len) == 0 &&
            !isalpha((unsigned char)text[digits + len])) {
            *ms += value * units[i].ms;
            return digits + len;
        }
    }
    return 0;
}

int rig_duration_parse(const char *text, uint64_t *ms)
{
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return 0;
    }
    double sum = 0;
    if (*text == '\0')
        return RIG_E_SYNTAX;
    while (*text != '\0') {
        size_t used = duration_part(text, &sum);
        if (used == 0)
            return RIG_E_SYNTAX;
        text += used;
    }
    if (sum > 9e15)
        return RIG_E_SYNTAX;
    *ms = (uint64_t)(sum + 0.5);
    return 0;
}

static int uint_parse(const char *text, uint64_t *value)
{
    if (!isdigit((unsigned char)*text))
        return RIG_E_SYNTAX;
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0 ? 0 : RIG_E_SYNTAX;
}

static int ratio_parse(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value) ? 0 : RIG_E_SYNTAX;
}

const struct rig_option *options_row(const struct options *options, struct rig_slice key)
{
    for (size_t i = 0; i < options->count; i++) {
        if (rig_slice_is(key, options->rows[i].key))
            return &options->rows[i];
    }
    return NULL;
}

static int not_a(const struct options *options, const struct rig_option *row, const char *text,
                 const char *due, struct rig_fault *why)
{
    bool is_secret = (row->flags & RIG_OPTION_SECRET) != 0;
    return rig_fault_set(why, RIG_E_RANGE, "%s.%s: \"%s\" is not %s", options->section, row->key,
                         is_secret ? "(hidden)" : text, due);
}

/* As one would write it: 24h rather than 8.64e+07ms. */
static void limit_text(const struct rig_option *row, double value, char text[32])
{
    static const struct {
        double ms;
        const char *unit;
    } units[] = {{3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    if (row->type != RIG_OPTION_DURATION_MS) {
        snprintf(text, 32, "%.15g", value);
        return;
    }
    size_t i = 0;
    while (i < 3 && fmod(value, units[i].ms) != 0)
        i++;
    snprintf(text, 32, "%.15g%s", value / units[i].ms, value > 0 ? units[i].unit : "");
}

static int not_within(const struct options *options, const struct rig_option *row, const char *text,
                      struct rig_fault *why)
{
    char due[96], least[32], most[32];
    limit_text(row, row->least, least);
    limit_text(row, row->most, most);
    snprintf(due, sizeof(due), "between %s and %s", least, most);
    return not_a(options, row, text, due, why);
}

static bool is_within(const struct rig_option *row, double value)
{
    return row->most <= row->least || (value >= row->least && value <= row->most);
}

int options_set(struct options *options, const struct rig_option *row, const char *text,
                const char *origin, struct rig_fault *why)
{
    char *field = (char *)options->config + row->offset;
    bool flag;
    uint64_t number;
    double ratio;
    char *copy = rig_arena_text(options->arena, text);
    char *from = rig_arena_text(options->arena, origin);
    if (copy == NULL || from == NULL)
        return rig_fault_set(why, RIG_E_BUDGET, "configuration is too large");
    switch (row->type) {
    case RIG_OPTION_STRING:
        memcpy(field, &copy, sizeof(copy));
        break;
    case RIG_OPTION_BOOL:
        if (rig_bool_parse(text, &flag) < 0)
            return not_a(options, row, text, "true or false", why);
        memcpy(field, &flag, sizeof(flag));
        break;
    case RIG_OPTION_UINT:
        if (uint_parse(text, &number) < 0)
            return not_a(options, row, text, "a whole number", why);
        if (!is_within(row, (double)number))
            return not_within(options, row, text, why);
        memcpy(field, &number, sizeof(number));
        break;
    case RIG_OPTION_DURATION_MS:
        if (rig_duration_parse(text, &number) < 0)
            return not_a(options, row, text, "a duration such as 100ms, 45s or 1h30m", why);
        if (!is_within(row, (double)number))
            return not_within(options, row, text, why);
        memcpy(field, &number, sizeof(number));
        break;
    case RIG_OPTION_RATIO:
        if (ratio_parse(text, &ratio) < 0)
            return not_a(options, row, text, "a number", why);
        if (!is_within(row, ratio))
            return not_within(options, row, text, why);
        memcpy(field, &ratio, sizeof(ratio));
        break;
    }
    options->values[row - options->rows] = (struct options_value){.text = copy, .origin = from};
    return 0;
}

int options_init(struct options *options, const char *section, const struct rig_option *rows,
                 size_t config_size, struct rig_arena *arena, struct rig_fault *why)
{
    *options = (struct options){.section = section, .rows = rows, .arena = arena};
    while (rows != NULL && rows[options->count].key != NULL)
        options->count++;
    options->config = rig_arena_alloc(arena, config_size + 1);
    options->values = rig_arena_alloc(arena, (options->count + 1) * sizeof(*options->values));
    if (options->config == NULL || options->values == NULL)
        return rig_fault_set(why, RIG_E_BUDGET, "configuration is too large");
    for (size_t i = 0; rows != NULL && i < options->count; i++) {
        if (rows[i].fallback == NULL)
            continue;
        int err = options_set(options, &rows[i], rows[i].fallback, "default", why);
        if (err < 0)
            return rig_fault_prefix(why, err, "default");
    }
    return 0;
}

/* OUTRIGGER_XDS_PROXY_SOCKET_MODE of section xds_proxy, key socketMode. */
static void variable_name(const struct options *options, const struct rig_option *row,
                          struct rig_buf *name)
{
    rig_buf_clear(name);
    rig_buf_printf(name, "OUTRIGGER_%s_", options->section);
    for (const char *c = row->key; *c != '\0'; c++) {
        if (isupper((unsigned char)*c) && c != row->key && !isupper((unsigned char)c[-1]))
            rig_buf_append_text(name, "_");
        rig_buf_append(name, c, 1);
    }
    for (size_t i = 0; i < name->len; i++)
        name->at[i] = (uint8_t)toupper(name->at[i]);
}

/* The first variable of the row's list that is set, its name in `name`; NULL when none is. */
static const char *variable_of(const struct rig_option *row, struct rig_buf *name)
{
    const char *list = row->variables != NULL ? row->variables : "";
    while (*list != '\0') {
        size_t len = strcspn(list, ",");
        rig_buf_clear(name);
        rig_buf_append(name, list, len);
        const char *text = getenv(rig_buf_text(name));
        if (text != NULL)
            return text;
        list += len + (list[len] == ',');
    }
    return NULL;
}

int options_environment(struct options *options, struct rig_fault *why)
{
    struct rig_buf name = {0};
    int err = 0;
    for (size_t i = 0; i < options->count && err == 0; i++) {
        const struct rig_option *row = &options->rows[i];
        struct rig_fault ignored;
        const char *text = variable_of(row, &name);
        struct rig_buf origin = {0};
        if (text != NULL) {
            rig_buf_printf(&origin, "$%s", rig_buf_text(&name));
            if (options_set(options, row, text, rig_buf_text(&origin), &ignored) < 0)
                rig_log_warn("default", "variable %s: %s; it is not used", rig_buf_text(&name),
                             ignored.text);
        }
        variable_name(options, row, &name);
        text = getenv(rig_buf_text(&name));
        if (text != NULL) {
            rig_buf_clear(&origin);
            rig_buf_printf(&origin, "$%s", rig_buf_text(&name));
            err = options_set(options, row, text, rig_buf_text(&origin), why);
            if (err < 0)
                rig_fault_prefix(why, err, "variable %s", rig_buf_text(&name));
        }
        rig_buf_deinit(&origin);
    }
    rig_buf_deinit(&name);
    return err;
}

/* Levenshtein's distance of two short words, case ignored; 99 when one is long. */
static unsigned distance(struct rig_slice a, const char *b)
{
    unsigned row[64];
    size_t b_len = strlen(b);
    if (a.len >= 64 || b_len >= 64)
        return 99;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned above = row[j];
            unsigned best = diagonal + (tolower(a.at[i - 1]) != tolower((unsigned char)b[j - 1]));
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[b_len];
}

const char *options_nearest(const struct options *options, struct rig_slice key)
{
    const char *nearest = NULL;
    unsigned least = key.len / 3 + 2;
    for (size_t i = 0; i < options->count; i++) {
        unsigned d = distance(key, options->rows[i].key);
        if (d < least) {
            least = d;
            nearest = options->rows[i].key;
        }
    }
    return nearest;
}
