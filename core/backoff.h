/* SPDX-License-Identifier: Apache-2.0 */
/* core/backoff.h: when to try again.
 *
 * A schedule that doubles from `first_ms` to `max_ms` and spreads each wait by up to a quarter
 * either way, so that a restarted server is not met by every client at once. Holds no handle and
 * reads no clock; the caller arms its own timer. */
#pragma once

#include <stdint.h>

struct rig_backoff {
    uint32_t first_ms;
    uint32_t max_ms;
    uint32_t attempt; /* failures since the last rig_backoff_reset */
};

void rig_backoff_init(struct rig_backoff *backoff, uint32_t first_ms, uint32_t max_ms);
void rig_backoff_reset(struct rig_backoff *backoff);

/* The next wait. `random` is any 32 bits; a test passes a constant. */
uint32_t rig_backoff_next_ms(struct rig_backoff *backoff, uint32_t random);
