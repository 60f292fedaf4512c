/* SPDX-License-Identifier: Apache-2.0 */
/* core/fault.h: error codes, and the sentence that goes with them.
 *
 * A function that can fail returns 0 or a negative code. libuv's codes (negative errnos) pass
 * through unchanged; ours start at RIG_E_BASE. Where the input is somebody's text the function
 * also fills a rig_fault: one sentence with file, line and key, saying what to do next. */
#pragma once

#include <stdarg.h>

#define RIG_E_BASE (-5000)

#define RIG_ERRORS(X)                                             \
    X(SYNTAX, 1, "text is not well-formed")                       \
    X(RANGE, 2, "value is out of range")                          \
    X(TOO_LARGE, 3, "larger than its limit")                      \
    X(ABSENT, 4, "not there")                                     \
    X(PENDING, 5, "not ready yet")                                \
    X(CRYPTO, 6, "cryptographic operation failed")                \
    X(TLS, 7, "TLS failed")                                       \
    X(AUTH, 8, "identity was refused")                            \
    X(PROTOCOL, 9, "peer broke the protocol")                     \
    X(SCRIPT, 10, "script failed")                                \
    X(BUDGET, 11, "budget is used up")                            \
    X(PLUGIN, 12, "plugin was refused")                           \
    X(CLOSED, 13, "closed")                                       \
    X(USAGE, 14, "wrong usage")                                   \
    X(UNKNOWN, 15, "unknown name")

enum rig_error {
#define X(name, number, text) RIG_E_##name = RIG_E_BASE - (number),
    RIG_ERRORS(X)
#undef X
};

#define RIG_FAULT_BYTES 768

struct rig_fault {
    char text[RIG_FAULT_BYTES]; /* one sentence, no line end; empty when nothing is known */
};

/* A short text for any code: ours, or libuv's. Never NULL. */
const char *rig_error_text(int code);

/* Writes the sentence and returns `code`, so that `return rig_fault_set(why, code, ...)` reads
 * well. `why` may be NULL. */
int rig_fault_set(struct rig_fault *why, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<prefix>: " before the sentence that is there. Returns `code`. */
int rig_fault_prefix(struct rig_fault *why, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "<sentence>: <OpenSSL's first queued reason>"; empties OpenSSL's queue. Returns `code`. */
int rig_fault_openssl(struct rig_fault *why, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The static analyzer sees no further than the declaration; that the code comes back is what it
 * needs to know. */
#ifdef __clang_analyzer__
#define rig_fault_set(why, code, ...)     ((void)rig_fault_set(why, code, __VA_ARGS__), (code))
#define rig_fault_prefix(why, code, ...)  ((void)rig_fault_prefix(why, code, __VA_ARGS__), (code))
#define rig_fault_openssl(why, code, ...) ((void)rig_fault_openssl(why, code, __VA_ARGS__), (code))
#endif
