/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/workload_certs/answer.h: is what the CA sent fit to be served?
 *
 * A refused answer leaves the certificate in hand untouched. What the proxy would refuse is an
 * error here; what only peers may dislike (another identity, a chain that does not lead to the
 * root) is a remark, since a CA may know better. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/fault.h"

#define ANSWER_SERIAL_BYTES 64

struct answer {
    struct rig_buf chain_pem; /* all elements, leaf first */
    struct rig_buf roots_pem; /* the last one */
    int64_t not_before_s;
    int64_t not_after_s;
    char serial[ANSWER_SERIAL_BYTES]; /* hex */
    struct rig_fault remark;          /* empty when there is none */
};

struct answer_expectation {
    struct rig_slice public_der; /* of the key that the request was made over */
    const char *spiffe_id;
    int64_t now_s; /* wall */
};

/* `elements`: PEM texts, leaf first, root last. Fills a zeroed `answer`; on failure it is empty
 * again and `why` says what is wrong. */
int answer_read(const struct rig_slice *elements, size_t count,
                const struct answer_expectation *expected, struct answer *answer,
                struct rig_fault *why);
void answer_deinit(struct answer *answer);

/* Joins the texts: CRLF becomes LF, and a line end is put between two when the first lacks it. */
void answer_join(const struct rig_slice *elements, size_t count, struct rig_buf *out);
