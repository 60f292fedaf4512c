/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/subscription.h: what one stream wants of one resource type, what it has,
 * and so what it is to be sent next; both variants of the protocol (xDS REST and gRPC protocol,
 * "SotW" and "delta"). Pure state: no stream and no message is touched here.
 *
 * A response that was refused (NACK) is remembered: its resources are not sent again on this
 * stream until their content changes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mesh_proto/discovery.pb-c.h>
#include <uthash.h>

#include "core/arena.h"
#include "core/fault.h"

#include "snapshot.h"

#define SUBSCRIPTION_NAMES_MAX      50000
#define SUBSCRIPTION_NAME_BYTES_MAX 4096
#define SUBSCRIPTION_OCTETS_MAX     (4u << 20) /* of all names: what one SotW request can hold */
#define SUBSCRIPTION_NACK_BYTES     512

struct subscription_entry {
    UT_hash_handle hh;
    bool is_subscribed;                   /* asked for by name */
    bool is_due;                          /* is to be answered even if nothing has changed */
    bool is_refused;                      /* `version` was sent and refused */
    char version[SNAPSHOT_VERSION_BYTES]; /* what the peer has or was sent; "" for nothing */
    uint64_t nonce;                       /* of the response that carried it; 0: none of ours */
    char name[];
};

struct subscription {
    enum snapshot_type type;
    bool is_active;   /* has been asked for */
    bool is_wildcard; /* wants all there are */
    bool is_due;      /* is to be answered even if there is nothing to say */
    bool is_refused;  /* SotW, wildcard: the set `version` was refused */
    struct subscription_entry *entries;
    size_t name_octets;                    /* of all entries */
    uint64_t nonce;                        /* of the last response; 0: none */
    char version[SNAPSHOT_VERSION_BYTES];  /* of the set, in that response */
    char accepted[SNAPSHOT_VERSION_BYTES]; /* of the set, last ACK */
    uint64_t acks, nacks;
    char last_nack[SUBSCRIPTION_NACK_BYTES];
};

enum subscription_event {
    SUBSCRIPTION_ASKED, /* a request of its own */
    SUBSCRIPTION_ACK,
    SUBSCRIPTION_NACK,
    SUBSCRIPTION_STALE, /* about a response that is no longer the last: nothing was done */
};

/* What to send. `is_due` false: nothing at all. Lives in the arena, and borrows names until
 * subscription_sent. */
struct subscription_answer {
    bool is_due;
    const struct snapshot_resource **items;
    size_t item_count;
    const char **removed; /* delta only */
    size_t removed_count;
};

void subscription_deinit(struct subscription *subscription);

/* Takes a request in. RIG_E_TOO_LARGE: too many or too long names; the stream must end. */
int subscription_take_sotw(struct subscription *subscription,
                           const Mesh__Discovery__DiscoveryRequest *request,
                           enum subscription_event *event);
int subscription_take_delta(struct subscription *subscription,
                            const Mesh__Discovery__DeltaDiscoveryRequest *request,
                            enum subscription_event *event);

/* What this set holds that the peer has not. Call it after every request and whenever the set
 * is another one. RIG_E_BUDGET when the arena is used up. */
int subscription_answer_sotw(struct subscription *subscription, const struct snapshot_set *set,
                             struct rig_arena *arena, struct subscription_answer *answer);
int subscription_answer_delta(struct subscription *subscription, const struct snapshot_set *set,
                              struct rig_arena *arena, struct subscription_answer *answer);

/* The answer has gone out under this nonce (greater than all before). */
void subscription_sent(struct subscription *subscription, const struct snapshot_set *set,
                       const struct subscription_answer *answer, uint64_t nonce);
