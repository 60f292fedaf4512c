/* SPDX-License-Identifier: Apache-2.0 */
/* Renewal times: Istio's table (secretcache_test.go, RotateTime), and what keeps requests apart. */
#include "tests/harness/test.h"

#include <math.h>

#include "plugins/workload_certs/rotation.h"

#define NOW_S  INT64_C(1700000000)
#define NOW_MS UINT64_C(5000000)
#define MIN    60

static void delay_follows_istios_table(void **state)
{
    (void)state;
    static const struct {
        int64_t created_min, expiry_min; /* from now */
        double ratio;
        int64_t delay_min;
    } table[] = {
        {-60, -30, 0.5, 0}, /* expired */
        {0, 60, 0.5, 30},   {0, 60, 0.25, 45}, {0, 60, 0.75, 15},
        {0, 60, 1, 0},      {0, 60, 0, 60},    {30, 90, 0.25, 75}, /* starts in the future */
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_int_equal(rotation_delay_s(NOW_S + table[i].created_min * MIN,
                                          NOW_S + table[i].expiry_min * MIN, table[i].ratio, NOW_S),
                         table[i].delay_min * MIN);
}

static void delay_bears_any_number(void **state)
{
    (void)state;
    assert_int_equal(rotation_delay_s(NOW_S, NOW_S + 3600, -1, NOW_S), 3600);
    assert_int_equal(rotation_delay_s(NOW_S, NOW_S + 3600, 2, NOW_S), 0);
    assert_int_equal(rotation_delay_s(NOW_S, NOW_S + 3600, NAN, NOW_S), 3600);
    assert_true(rotation_delay_s(INT64_MIN, INT64_MAX, 0.5, INT64_MIN) > 0);
    assert_int_equal(rotation_delay_s(INT64_MAX, INT64_MIN, 0.5, INT64_MAX), 0);
}

/* A certificate of `ttl_s` that the CA dates two minutes back, as istiod does. */
static struct rotation_certificate certificate(int64_t ttl_s, double ratio)
{
    return (struct rotation_certificate){.not_before_s = NOW_S - 120,
                                         .not_after_s = NOW_S + ttl_s,
                                         .received_s = NOW_S,
                                         .received_ms = NOW_MS,
                                         .request_started_ms = NOW_MS - 100,
                                         .grace_ratio = ratio};
}

static void a_day_is_renewed_after_twelve_hours(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    const struct rotation_certificate day = certificate(86400, 0.5);
    rotation_plan(&rotation, &day);
    assert_int_equal(rotation.due_s, NOW_S + 43200);
    assert_int_equal(rotation.due_ms, NOW_MS + 43200000);
    assert_int_equal(rotation.hurried, 0);
}

static void waiting_is_cut_into_minutes(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    const struct rotation_certificate hour = certificate(3600, 0.5);
    rotation_plan(&rotation, &hour);
    uint64_t now_ms = NOW_MS;
    unsigned looks = 0;
    for (uint64_t wait; (wait = rotation_wait_ms(&rotation, now_ms, NOW_S)) > 0; looks++) {
        assert_true(wait <= ROTATION_RECHECK_MS);
        now_ms += wait;
    }
    assert_int_equal(now_ms, NOW_MS + 1800000); /* on time by the monotonic clock alone */
    assert_int_equal(looks, 30);
}

static void a_suspended_machine_renews_at_its_next_look(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    const struct rotation_certificate day = certificate(86400, 0.5);
    rotation_plan(&rotation, &day);
    /* The monotonic clock stood still for a day. */
    assert_int_equal(rotation_wait_ms(&rotation, NOW_MS + 60000, NOW_S + 86400), 0);
    assert_true(rotation_wait_ms(&rotation, NOW_MS + 60000, NOW_S + 43199) > 0);
    assert_int_equal(rotation_wait_ms(&rotation, NOW_MS + 60000, NOW_S + 43200), 0);
}

static void a_clock_set_back_does_not_put_it_off(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    const struct rotation_certificate day = certificate(86400, 0.5);
    rotation_plan(&rotation, &day);
    assert_int_equal(rotation_wait_ms(&rotation, NOW_MS + 43200000, NOW_S - 86400), 0);
}

static void a_clock_that_is_behind_does_not_outlive_the_certificate(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    struct rotation_certificate day = certificate(86400, 0.5);
    day.not_before_s += 2 * 86400; /* the CA's clock is two days ahead of ours */
    day.not_after_s += 2 * 86400;
    rotation_plan(&rotation, &day);
    /* Half of its own life (a day and the two minutes), not half of the three days that we see. */
    assert_int_equal(rotation.due_ms, NOW_MS + (86400 + 120) / 2 * 1000);
}

static void ten_seconds_are_renewed_each_five(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    struct rotation_certificate ten = certificate(10, 0.5);
    for (int i = 0; i < 1000; i++) {
        rotation_plan(&rotation, &ten);
        assert_true(rotation.due_ms >= ten.request_started_ms + ROTATION_LEAST_MS);
        assert_true(rotation.due_ms <= ten.received_ms + ROTATION_LEAST_MS);
        ten.request_started_ms = rotation.due_ms;
        ten.received_ms = rotation.due_ms + 100;
        ten.received_s += 5;
        ten.not_before_s += 5;
        ten.not_after_s += 5;
    }
    assert_int_equal(rotation.hurried, 0);
}

static void certificates_due_at_once_move_apart(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    struct rotation_certificate day = certificate(86400, 1);
    uint64_t last_ms = 0;
    for (int i = 0; i < 20; i++) {
        rotation_plan(&rotation, &day);
        uint64_t apart_ms = rotation.due_ms - day.request_started_ms;
        assert_true(apart_ms >= ROTATION_LEAST_MS && apart_ms <= ROTATION_MOST_MS);
        assert_true(apart_ms == 2 * last_ms || apart_ms == ROTATION_MOST_MS || last_ms == 0);
        last_ms = apart_ms;
        day.request_started_ms = rotation.due_ms;
        day.received_ms = rotation.due_ms;
    }
    assert_int_equal(last_ms, ROTATION_MOST_MS);
    day.grace_ratio = 0.5; /* somebody mended it */
    rotation_plan(&rotation, &day);
    assert_int_equal(rotation.hurried, 0);
    assert_int_equal(rotation.due_ms, day.received_ms + 43200000);
}

static void growing_distance_keeps_within_the_lifetime(void **state)
{
    (void)state;
    struct rotation rotation = {.hurried = 20};
    const struct rotation_certificate minute = certificate(60, 1);
    rotation_plan(&rotation, &minute);
    assert_int_equal(rotation.due_ms, minute.request_started_ms + 30000);
}

static void a_leaping_wall_clock_makes_no_loop(void **state)
{
    (void)state;
    struct rotation rotation = {0};
    const struct rotation_certificate day = certificate(86400, 0.5);
    rotation_plan(&rotation, &day);
    /* Always "a year later": still not before the least distance. */
    assert_int_equal(rotation_wait_ms(&rotation, NOW_MS, NOW_S + 31536000),
                     ROTATION_LEAST_MS - 100);
    assert_int_equal(rotation_wait_ms(&rotation, NOW_MS + ROTATION_LEAST_MS, NOW_S + 31536000), 0);
}

RIG_TEST_MAIN(cmocka_unit_test(delay_follows_istios_table),
              cmocka_unit_test(delay_bears_any_number),
              cmocka_unit_test(a_day_is_renewed_after_twelve_hours),
              cmocka_unit_test(waiting_is_cut_into_minutes),
              cmocka_unit_test(a_suspended_machine_renews_at_its_next_look),
              cmocka_unit_test(a_clock_set_back_does_not_put_it_off),
              cmocka_unit_test(a_clock_that_is_behind_does_not_outlive_the_certificate),
              cmocka_unit_test(ten_seconds_are_renewed_each_five),
              cmocka_unit_test(certificates_due_at_once_move_apart),
              cmocka_unit_test(growing_distance_keeps_within_the_lifetime),
              cmocka_unit_test(a_leaping_wall_clock_makes_no_loop))
