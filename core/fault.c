/* SPDX-License-Identifier: Apache-2.0 */
/* core/fault.c: sentences. A fault is one line: line ends inside foreign text become spaces. */
#include "fault.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <uv.h>

const char *rig_error_text(int code)
{
    switch (code) {
    case 0:
        return "success";
#define X(name, number, text)                                                                      \
    case RIG_E_##name:                                                                             \
        return text;
        RIG_ERRORS(X)
#undef X
    default:
        break;
    }
    if (code <= RIG_E_BASE || code > 0)
        return "unknown error";
    /* uv_err_name would allocate for codes it does not know; uv_strerror_r does not. */
    static char text[64];
    return uv_strerror_r(code, text, sizeof(text));
}

static void one_line(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
    }
}

int(rig_fault_set)(struct rig_fault *why, int code, const char *format, ...)
{
    if (why == NULL)
        return code;
    va_list args;
    va_start(args, format);
    /* `why` may be among the arguments: format aside, then copy. */
    char text[RIG_FAULT_BYTES];
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    one_line(text);
    memcpy(why->text, text, sizeof(text));
    return code;
}

int(rig_fault_prefix)(struct rig_fault *why, int code, const char *format, ...)
{
    if (why == NULL)
        return code;
    char text[RIG_FAULT_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(text))
        return code;
    const char *rest = why->text[0] != '\0' ? why->text : rig_error_text(code);
    size_t room = sizeof(text) - (size_t)len;
    size_t rest_len = strnlen(rest, room);
    if (rest_len + 3 > room)
        rest_len = room > 3 ? room - 3 : 0;
    if (room > 3)
        snprintf(text + len, room, ": %.*s", (int)rest_len, rest);
    one_line(text);
    memcpy(why->text, text, sizeof(text));
    return code;
}

int(rig_fault_openssl)(struct rig_fault *why, int code, const char *format, ...)
{
    unsigned long first = ERR_get_error();
    ERR_clear_error();
    if (why == NULL)
        return code;
    char text[RIG_FAULT_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    const char *reason = first != 0 ? ERR_reason_error_string(first) : NULL;
    if (reason != NULL && len >= 0 && (size_t)len < sizeof(text))
        snprintf(text + len, sizeof(text) - (size_t)len, ": %s", reason);
    one_line(text);
    memcpy(why->text, text, sizeof(text));
    return code;
}
