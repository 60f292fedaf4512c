/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/rotation.h: when a certificate is renewed. Pure arithmetic.
 *
 * Two clocks agree on it: the monotonic one does the waiting, the wall clock is looked at once a
 * minute, since a suspended machine or a corrected clock moves only the latter. Whichever says
 * first that it is time is believed. No clock, lifetime or ratio makes requests follow each other
 * faster than ROTATION_LEAST_MS, and a row of certificates that are due at once makes the distance
 * grow (Istio's agent asks in an endless loop then). */
#pragma once

#include <stdint.h>

#define ROTATION_LEAST_MS   5000u    /* between the starts of two requests */
#define ROTATION_MOST_MS    3600000u /* that distance, grown */
#define ROTATION_RECHECK_MS 60000u   /* look at the wall clock this often */

struct rotation {
    uint64_t due_ms;      /* monotonic */
    int64_t due_s;        /* wall */
    uint64_t earliest_ms; /* monotonic; not before, whatever the wall clock says */
    uint32_t hurried;     /* certificates in a row that were due at once */
};

struct rotation_certificate {
    int64_t not_before_s;
    int64_t not_after_s;
    int64_t received_s;          /* wall clock when it came */
    uint64_t received_ms;        /* monotonic */
    uint64_t request_started_ms; /* monotonic, when its key was begun */
    double grace_ratio;          /* share of the lifetime that is left at renewal, 0..1 */
};

/* Istio's rule: seconds from `now_s` until `ratio` of the time from `created_s` to `expiry_s` is
 * left; 0 when that is past. */
int64_t rotation_delay_s(int64_t created_s, int64_t expiry_s, double ratio, int64_t now_s);

/* A certificate has come: plans its renewal. `rotation` starts zeroed. */
void rotation_plan(struct rotation *rotation, const struct rotation_certificate *certificate);

/* How long to wait before asking again, at most ROTATION_RECHECK_MS; 0: renew now. */
uint64_t rotation_wait_ms(const struct rotation *rotation, uint64_t now_ms, int64_t now_s);
