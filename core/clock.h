/* SPDX-License-Identifier: Apache-2.0 */
/* core/clock.h: what time it is; a clock that tests move. */
#pragma once

#include <stdint.h>

/* Monotonic, for waiting and measuring. */
uint64_t rig_clock_ms(void);
uint64_t rig_clock_us(void);

/* Seconds since 1970 by the wall clock, for certificates and tokens. */
int64_t rig_clock_wall_s(void);

/* Moves the wall clock of this process by `offset_s`; for tests. */
void rig_clock_wall_shift(int64_t offset_s);

/* "2006-01-02T15:04:05Z" of a wall time in seconds. */
#define RIG_CLOCK_TEXT_BYTES 32
void rig_clock_text(int64_t wall_s, char text[RIG_CLOCK_TEXT_BYTES]);
