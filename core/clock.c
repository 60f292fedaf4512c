/* SPDX-License-Identifier: Apache-2.0 */
/* core/clock.c: CLOCK_MONOTONIC and CLOCK_REALTIME, the latter movable. */
#include "clock.h"

#include <time.h>

static int64_t wall_offset_s;

uint64_t rig_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t rig_clock_ms(void)
{
    return rig_clock_us() / 1000u;
}

int64_t rig_clock_wall_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec + wall_offset_s;
}

void rig_clock_wall_shift(int64_t offset_s)
{
    wall_offset_s = offset_s;
}

void rig_clock_text(int64_t wall_s, char text[RIG_CLOCK_TEXT_BYTES])
{
    time_t seconds = (time_t)wall_s;
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(text, RIG_CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts);
}
