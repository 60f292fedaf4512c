/* SPDX-License-Identifier: Apache-2.0 */
/* When a certificate request is tried again (Istio: 100, 200, 400, 800 ms, a tenth either way). */
#include "tests/harness/test.h"

#include <string.h>

#include "plugins/istio_ca/signing.h"

static void waits_double_and_spread_by_a_tenth(void **state)
{
    (void)state;
    static const uint32_t middle[] = {100, 200, 400, 800};
    for (uint32_t attempt = 1; attempt <= 4; attempt++) {
        uint32_t least = UINT32_MAX;
        uint32_t most = 0;
        for (uint32_t random = 0; random < 2000; random++) {
            uint32_t wait = signing_wait_ms(attempt, random);
            least = wait < least ? wait : least;
            most = wait > most ? wait : most;
        }
        assert_int_equal(least, middle[attempt - 1] * 9 / 10);
        assert_int_equal(most, middle[attempt - 1] * 11 / 10);
        assert_true(signing_wait_ms(attempt, UINT32_MAX) <= most);
    }
}

static void there_is_no_sixth_attempt(void **state)
{
    (void)state;
    assert_int_equal(signing_wait_ms(5, 0), 0);
    assert_int_equal(signing_wait_ms(5, UINT32_MAX), 0);
    assert_int_equal(signing_wait_ms(40, 1), 0);
    assert_int_equal(signing_wait_ms(0, 1), 0);
}

static void passing_failures_alone_are_retried(void **state)
{
    (void)state;
    /* CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE */
    static const int retried[] = {1, 4, 8, 10, 13, 14};
    for (int code = -2; code < 20; code++) {
        bool is_listed = false;
        for (size_t i = 0; i < sizeof(retried) / sizeof(retried[0]); i++)
            is_listed |= retried[i] == code;
        assert_int_equal(signing_is_retryable(code), is_listed);
    }
}

static void codes_have_their_names(void **state)
{
    (void)state;
    assert_string_equal(signing_code_text(0), "OK");
    assert_string_equal(signing_code_text(3), "INVALID_ARGUMENT");
    assert_string_equal(signing_code_text(8), "RESOURCE_EXHAUSTED");
    assert_string_equal(signing_code_text(14), "UNAVAILABLE");
    assert_string_equal(signing_code_text(16), "UNAUTHENTICATED");
    assert_string_equal(signing_code_text(17), "no known code");
    assert_string_equal(signing_code_text(-1), "no known code");
}

RIG_TEST_MAIN(cmocka_unit_test(waits_double_and_spread_by_a_tenth),
              cmocka_unit_test(there_is_no_sixth_attempt),
              cmocka_unit_test(passing_failures_alone_are_retried),
              cmocka_unit_test(codes_have_their_names))
