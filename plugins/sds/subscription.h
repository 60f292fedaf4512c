/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/subscription.h: which secrets a stream has asked for, and what a request means.
 *
 * The rules of the state-of-the-world protocol, without streams, secrets or clocks:
 *
 *     error_detail             NACK: no answer, nothing changes
 *     no names                 unsubscribe from everything
 *     no nonce, or nothing     subscribe: these names, and all of them are answered
 *       subscribed so far        (so does the foreign nonce of a proxy that reconnects)
 *     a nonce not the last     stale: ignored, a newer answer is on its way
 *     the last nonce           ACK: these names; only those that are new are answered */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

#define SUBSCRIPTION_NONCE_BYTES 32

struct sds_request;

struct subscription {
    struct subscription *next;
    bool is_due;              /* an answer (or a push) is owed */
    bool is_wanted;           /* private */
    uint64_t sent_generation; /* 0: nothing sent yet */
    size_t name_len;
    char name[]; /* NUL-terminated */
};

struct subscriptions {
    struct subscription *first;           /* in the order of the request */
    char nonce[SUBSCRIPTION_NONCE_BYTES]; /* of the last answer; empty: none */
};

enum request_kind {
    REQUEST_NACK,
    REQUEST_UNSUBSCRIBE,
    REQUEST_SUBSCRIBE,
    REQUEST_STALE,
    REQUEST_ACK,
};

enum request_kind subscriptions_judge(const struct subscriptions *subscriptions,
                                      const struct sds_request *request);

/* Changes the set as the request of this kind says and marks what is due. */
void subscriptions_apply(struct subscriptions *subscriptions, enum request_kind kind,
                         const struct sds_request *request);

struct subscription *subscriptions_find(const struct subscriptions *subscriptions,
                                        struct rig_slice name);

void subscriptions_deinit(struct subscriptions *subscriptions);

static inline struct rig_slice subscription_name(const struct subscription *subscription)
{
    return rig_slice(subscription->name, subscription->name_len);
}
