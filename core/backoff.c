/* SPDX-License-Identifier: Apache-2.0 */
/* core/backoff.c: pure arithmetic. */
#include "backoff.h"

void rig_backoff_init(struct rig_backoff *backoff, uint32_t first_ms, uint32_t max_ms)
{
    *backoff = (struct rig_backoff){.first_ms = first_ms, .max_ms = max_ms};
}

void rig_backoff_reset(struct rig_backoff *backoff)
{
    backoff->attempt = 0;
}

uint32_t rig_backoff_next_ms(struct rig_backoff *backoff, uint32_t random)
{
    uint64_t wait_ms = backoff->first_ms;
    for (uint32_t i = 0; i < backoff->attempt && wait_ms < backoff->max_ms; i++)
        wait_ms *= 2;
    if (wait_ms > backoff->max_ms)
        wait_ms = backoff->max_ms;
    if (backoff->attempt < UINT32_MAX)
        backoff->attempt++;
    /* 3/4 .. 5/4 of the wait, over the whole range of `random`. */
    uint64_t spread = wait_ms / 2 * random / UINT32_MAX;
    return (uint32_t)(wait_ms - wait_ms / 4 + spread);
}
