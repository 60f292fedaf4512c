/* SPDX-License-Identifier: Apache-2.0 */
/* tests/harness/test.h: what every cmocka file needs; an argument names the one test to run. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void uv_library_shutdown(void); /* of uv.h, which not every test wants */

/* The pool's threads end before OpenSSL's own clean-up at exit, or what OpenSSL keeps for each
 * thread would count as lost. */
#define RIG_TEST_MAIN(...)                                                \
    int main(int argc, char **argv)                                       \
    {                                                                     \
        const struct CMUnitTest tests[] = {__VA_ARGS__};                  \
        if (argc > 1)                                                     \
            cmocka_set_test_filter(argv[1]);                              \
        int failed = cmocka_run_group_tests(tests, NULL, NULL);           \
        uv_library_shutdown();                                            \
        return failed;                                                    \
    }
