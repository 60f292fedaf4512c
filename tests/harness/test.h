/* SPDX-License-Identifier: Apache-2.0 */
/* tests/harness/test.h: what every cmocka file needs; an argument names the one test to run. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RIG_TEST_MAIN(...)                                        \
    int main(int argc, char **argv)                               \
    {                                                             \
        const struct CMUnitTest tests[] = {__VA_ARGS__};          \
        if (argc > 1)                                             \
            cmocka_set_test_filter(argv[1]);                      \
        return cmocka_run_group_tests(tests, NULL, NULL);         \
    }
