/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/status.h: what has passed, by type: the rows behind the service xds_status.
 *
 * Outlives pairs. Texts in it come from peers; they are kept as printable ASCII. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "plugins/services/xds_status.h"

#include "scanner.h"

/* A control plane may name any number of types; these many get a row. */
#define STATUS_TYPES_MAX 64

struct status_row;

/* Things said once: the last few, by hash. Peers choose the texts, so there are not more than
 * these in a minute; what is not said is counted all the same. */
#define STATUS_SAID_MAX 16

struct status_said {
    uint64_t hashes[STATUS_SAID_MAX];
    uint64_t said_ms[STATUS_SAID_MAX]; /* clock time; 0: never */
    unsigned next;
};

struct status {
    struct status_row *rows;
    size_t count;
    struct rig_buf last_failure;
    struct status_said said;
};

void status_deinit(struct status *status);

/* A whole response of `bytes` octets went to Envoy. */
void status_push(struct status *status, const struct scan *response, uint64_t bytes);

/* A request came from Envoy: counts it when it is an ACK or a NACK of a type that has passed.
 * Anybody in the pod can send requests, so what they name gets no row. */
void status_reply(struct status *status, const struct scan *request);

/* True the first time for these two texts (and again when much else was said in between), unless
 * too much has been said lately. */
bool status_say(struct status *status, struct rig_slice what, struct rig_slice detail);

/* Why there is no connection, one sentence; until there is one. */
void status_fail(struct status *status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void status_recover(struct status *status);

/* As xds_status_v1.type and .last_failure. */
bool status_type(struct status *status, size_t index, struct xds_type_status *out);
const char *status_last_failure(struct status *status);

/* Puts `text` in place of what `out` holds, with '?' for what is not printable ASCII. */
void status_printable(struct rig_buf *out, struct rig_slice text);
