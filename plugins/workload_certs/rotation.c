/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/rotation.c: renewal times, and the least distance between requests. */
#include "rotation.h"

#include <stdbool.h>

/* NotAfter may be the year 9999; kept so that no sum below overflows. */
#define FAR_S INT64_C(400000000000)

static int64_t clamp(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static double clamp_ratio(double ratio)
{
    return ratio > 0.0 ? (ratio < 1.0 ? ratio : 1.0) : 0.0; /* not a number: 0 */
}

int64_t rotation_delay_s(int64_t created_s, int64_t expiry_s, double ratio, int64_t now_s)
{
    created_s = clamp(created_s, -FAR_S, FAR_S);
    expiry_s = clamp(expiry_s, -FAR_S, FAR_S);
    now_s = clamp(now_s, -FAR_S, FAR_S);
    double grace_s = clamp_ratio(ratio) * (double)(expiry_s - created_s);
    int64_t delay_s = expiry_s - (int64_t)grace_s - now_s;
    return delay_s > 0 ? delay_s : 0;
}

/* The least distance to the next request. It grows while certificates are due at once, but not
 * so far that the one in hand would run out. */
static uint64_t pace_ms(uint32_t hurried, int64_t left_s)
{
    uint64_t pace = ROTATION_LEAST_MS;
    while (hurried-- > 0 && pace < ROTATION_MOST_MS)
        pace *= 2;
    if (pace > ROTATION_MOST_MS)
        pace = ROTATION_MOST_MS;
    uint64_t half_ms = left_s > 0 ? (uint64_t)left_s * 500 : 0;
    if (pace > half_ms)
        pace = half_ms;
    return pace > ROTATION_LEAST_MS ? pace : ROTATION_LEAST_MS;
}

void rotation_plan(struct rotation *rotation, const struct rotation_certificate *certificate)
{
    int64_t received_s = clamp(certificate->received_s, -FAR_S, FAR_S);
    int64_t expiry_s = clamp(certificate->not_after_s, -FAR_S, FAR_S);
    int64_t start_s = clamp(certificate->not_before_s, -FAR_S, FAR_S);
    double ratio = clamp_ratio(certificate->grace_ratio);
    int64_t delay_s = rotation_delay_s(received_s, expiry_s, ratio, received_s);
    /* With a clock that is behind, the certificate seems to live longer than it does. */
    int64_t whole_s = rotation_delay_s(start_s, expiry_s, ratio, start_s);
    if (delay_s > whole_s)
        delay_s = whole_s;

    uint64_t delay_ms = (uint64_t)delay_s * 1000;
    bool is_hurried = delay_ms < ROTATION_LEAST_MS / 2;
    uint64_t pace = pace_ms(is_hurried ? rotation->hurried : 0, expiry_s - received_s);
    rotation->hurried = is_hurried ? rotation->hurried + 1 : 0;
    rotation->earliest_ms = certificate->request_started_ms + pace;
    rotation->due_ms = certificate->received_ms + delay_ms;
    if (rotation->due_ms < rotation->earliest_ms)
        rotation->due_ms = rotation->earliest_ms;
    delay_ms = rotation->due_ms - certificate->received_ms;
    rotation->due_s = received_s + (int64_t)((delay_ms + 999) / 1000);
}

uint64_t rotation_wait_ms(const struct rotation *rotation, uint64_t now_ms, int64_t now_s)
{
    uint64_t until_ms = now_s >= rotation->due_s ? rotation->earliest_ms : rotation->due_ms;
    if (now_ms >= until_ms)
        return 0;
    uint64_t wait_ms = until_ms - now_ms;
    return wait_ms < ROTATION_RECHECK_MS ? wait_ms : ROTATION_RECHECK_MS;
}
