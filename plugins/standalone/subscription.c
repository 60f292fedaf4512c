/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/subscription.c: see subscription.h.
 *
 * An entry exists for every name that was asked for or sent. Its version is the one last *sent*,
 * accepted or not; so "send what differs from the snapshot" already never repeats what was
 * refused, and only answers that are due in any case must look at is_refused. */
#include "subscription.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

static struct subscription_entry *entry_find(const struct subscription *subscription,
                                             const char *name)
{
    struct subscription_entry *entry;
    HASH_FIND_STR(subscription->entries, name, entry);
    return entry;
}

static struct subscription_entry *entry_get(struct subscription *subscription, const char *name)
{
    struct subscription_entry *entry = entry_find(subscription, name);
    size_t len = strlen(name);
    if (entry != NULL)
        return entry;
    entry = rig_alloc(sizeof(*entry) + len + 1);
    memcpy(entry->name, name, len + 1);
    HASH_ADD_KEYPTR(hh, subscription->entries, entry->name, len, entry);
    subscription->name_octets += len;
    return entry;
}

/* The same for a name that the peer chose; NULL over the limits. */
static struct subscription_entry *entry_take(struct subscription *subscription, const char *name)
{
    struct subscription_entry *entry = entry_find(subscription, name);
    size_t len = strlen(name);
    if (entry == NULL && (HASH_COUNT(subscription->entries) >= SUBSCRIPTION_NAMES_MAX ||
                          len > SUBSCRIPTION_NAME_BYTES_MAX ||
                          subscription->name_octets + len > SUBSCRIPTION_OCTETS_MAX))
        return NULL;
    return entry_get(subscription, name);
}

static void entry_remove(struct subscription *subscription, struct subscription_entry *entry)
{
    HASH_DEL(subscription->entries, entry); /* NOLINT(clang-analyzer-core.NullDereference) */
    subscription->name_octets -= strlen(entry->name);
    rig_free(entry);
}

void subscription_deinit(struct subscription *subscription)
{
    struct subscription_entry *entry, *next;
    HASH_ITER(hh, subscription->entries, entry, next)
    entry_remove(subscription, entry);
}

/* ---- requests ---- */

/* A nonce of ours is a decimal number; anything else was never sent: 0. */
static uint64_t nonce_read(const char *text)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return 0;
    unsigned long long value = strtoull(text, &end, 10);
    return *end == '\0' ? value : 0;
}

static void take_ack(struct subscription *subscription, uint64_t nonce)
{
    subscription->acks++;
    if (nonce == subscription->nonce)
        memcpy(subscription->accepted, subscription->version, sizeof(subscription->accepted));
}

static void take_nack(struct subscription *subscription, uint64_t nonce, const char *message)
{
    struct subscription_entry *entry, *next;
    subscription->nacks++;
    snprintf(subscription->last_nack, sizeof(subscription->last_nack), "%s", message);
    subscription->is_refused = nonce == subscription->nonce;
    HASH_ITER(hh, subscription->entries, entry, next)
    {
        if (entry->nonce == nonce)
            entry->is_refused = true;
    }
}

static enum subscription_event take_verdict(struct subscription *subscription, uint64_t nonce,
                                            const Mesh__Discovery__Status *error)
{
    if (error == NULL) {
        take_ack(subscription, nonce);
        return SUBSCRIPTION_ACK;
    }
    take_nack(subscription, nonce, error->message);
    return SUBSCRIPTION_NACK;
}

/* In SotW the names of a request are all that are wanted. Those that are new, or all of a first
 * request, are due. */
static int replace_names(struct subscription *subscription, char *const *names, size_t count,
                         bool is_first)
{
    struct subscription_entry *entry, *next;
    HASH_ITER(hh, subscription->entries, entry, next)
    entry->is_subscribed = false;
    for (size_t i = 0; i < count; i++) {
        bool is_new = entry_find(subscription, names[i]) == NULL;
        entry = entry_take(subscription, names[i]);
        if (entry == NULL)
            return RIG_E_TOO_LARGE;
        entry->is_subscribed = true;
        if (is_new || is_first) {
            entry->is_due = true;
            subscription->is_due = true;
        }
    }
    /* Envoy drops what it no longer asks for; asked for again it must be sent again. */
    HASH_ITER(hh, subscription->entries, entry, next)
    {
        if (!entry->is_subscribed)
            entry_remove(subscription, entry);
    }
    return 0;
}

int subscription_take_sotw(struct subscription *subscription,
                           const Mesh__Discovery__DiscoveryRequest *request,
                           enum subscription_event *event)
{
    uint64_t nonce = nonce_read(request->response_nonce);
    bool is_first = !subscription->is_active || request->response_nonce[0] == '\0';
    if (!is_first && (nonce == 0 || nonce != subscription->nonce)) {
        *event = SUBSCRIPTION_STALE;
        return 0;
    }
    *event =
        is_first ? SUBSCRIPTION_ASKED : take_verdict(subscription, nonce, request->error_detail);
    subscription->is_active = true;
    /* Clusters and listeners are always sent whole: what is missing in a response Envoy removes. */
    subscription->is_wildcard =
        subscription->type == SNAPSHOT_CLUSTERS || subscription->type == SNAPSHOT_LISTENERS;
    if (!subscription->is_wildcard)
        return replace_names(subscription, request->resource_names, request->n_resource_names,
                             is_first);
    if (is_first)
        subscription->is_due = true;
    return 0;
}

/* What the peer kept from an earlier stream. */
static int take_initial(struct subscription *subscription,
                        const Mesh__Discovery__DeltaDiscoveryRequest *request)
{
    for (size_t i = 0; i < request->n_initial_resource_versions; i++) {
        const Mesh__Discovery__InitialVersion *initial = request->initial_resource_versions[i];
        struct subscription_entry *entry = entry_take(subscription, initial->key);
        if (entry == NULL)
            return RIG_E_TOO_LARGE;
        snprintf(entry->version, sizeof(entry->version), "%.*s", (int)sizeof(entry->version) - 1,
                 initial->value);
    }
    return 0;
}

static int take_subscribe(struct subscription *subscription,
                          const Mesh__Discovery__DeltaDiscoveryRequest *request, bool is_first)
{
    for (size_t i = 0; i < request->n_resource_names_subscribe; i++) {
        const char *name = request->resource_names_subscribe[i];
        subscription->is_due = true;
        if (strcmp(name, "*") == 0) {
            subscription->is_wildcard = true;
            continue;
        }
        struct subscription_entry *entry = entry_take(subscription, name);
        if (entry == NULL)
            return RIG_E_TOO_LARGE;
        entry->is_subscribed = true;
        /* Who subscribes in mid-stream gets an answer even if he was sent it before; after a
         * reconnect what he has suffices. */
        entry->is_due = !is_first || entry->version[0] == '\0';
    }
    return 0;
}

static void take_unsubscribe(struct subscription *subscription,
                             const Mesh__Discovery__DeltaDiscoveryRequest *request)
{
    for (size_t i = 0; i < request->n_resource_names_unsubscribe; i++) {
        const char *name = request->resource_names_unsubscribe[i];
        if (strcmp(name, "*") == 0)
            subscription->is_wildcard = false;
        struct subscription_entry *entry = entry_find(subscription, name);
        if (entry == NULL)
            continue;
        entry->is_subscribed = false;
        entry->is_due = false;
        if (!subscription->is_wildcard)
            entry_remove(subscription, entry);
    }
}

int subscription_take_delta(struct subscription *subscription,
                            const Mesh__Discovery__DeltaDiscoveryRequest *request,
                            enum subscription_event *event)
{
    bool is_first = !subscription->is_active;
    uint64_t nonce = nonce_read(request->response_nonce);
    int err = 0;
    *event = SUBSCRIPTION_ASKED;
    if (!is_first && request->response_nonce[0] != '\0') {
        *event = nonce == 0 || nonce > subscription->nonce
                     ? SUBSCRIPTION_STALE
                     : take_verdict(subscription, nonce, request->error_detail);
    }
    subscription->is_active = true;
    if (is_first) {
        err = take_initial(subscription, request);
        subscription->is_due = true;
        /* "Legacy wildcard": clusters and listeners asked for without any name. */
        subscription->is_wildcard =
            request->n_resource_names_subscribe == 0 &&
            (subscription->type == SNAPSHOT_CLUSTERS || subscription->type == SNAPSHOT_LISTENERS);
    }
    take_unsubscribe(subscription, request);
    return err < 0 ? err : take_subscribe(subscription, request, is_first);
}

/* ---- answers ---- */

static bool is_wanted(const struct subscription_entry *entry,
                      const struct snapshot_resource *resource)
{
    if (entry == NULL || strcmp(entry->version, resource->version) != 0)
        return true;
    return entry->is_due && !entry->is_refused;
}

static int answer_init(const struct subscription *subscription, const struct snapshot_set *set,
                       struct rig_arena *arena, struct subscription_answer *answer)
{
    size_t names = HASH_COUNT(subscription->entries);
    *answer = (struct subscription_answer){
        .items = rig_arena_alloc(arena, (set->count + 1) * sizeof(void *)),
        .removed = rig_arena_alloc(arena, (names + 1) * sizeof(void *)),
    };
    return rig_arena_is_spent(arena) ? RIG_E_BUDGET : 0;
}

/* Adds the subscribed resources that the peer has not. True when one was held back because it
 * was refused. */
static bool add_named(const struct subscription *subscription, const struct snapshot_set *set,
                      struct subscription_answer *answer)
{
    bool is_held_back = false;
    struct subscription_entry *entry, *next;
    HASH_ITER(hh, subscription->entries, entry, next)
    {
        const struct snapshot_resource *resource =
            entry->is_subscribed ? snapshot_find(set, entry->name) : NULL;
        if (resource == NULL)
            continue;
        if (is_wanted(entry, resource))
            answer->items[answer->item_count++] = resource;
        else if (entry->is_due)
            is_held_back = true;
    }
    return is_held_back;
}

int subscription_answer_sotw(struct subscription *subscription, const struct snapshot_set *set,
                             struct rig_arena *arena, struct subscription_answer *answer)
{
    int err = answer_init(subscription, set, arena, answer);
    if (err < 0 || !subscription->is_active)
        return err;
    if (!subscription->is_wildcard) {
        bool is_held_back = add_named(subscription, set, answer);
        answer->is_due = answer->item_count > 0 || (subscription->is_due && !is_held_back);
        return 0;
    }
    bool is_changed = strcmp(subscription->version, set->version) != 0;
    answer->is_due = is_changed || (subscription->is_due && !subscription->is_refused);
    for (size_t i = 0; answer->is_due && i < set->count; i++)
        answer->items[answer->item_count++] = &set->items[i];
    return 0;
}

int subscription_answer_delta(struct subscription *subscription, const struct snapshot_set *set,
                              struct rig_arena *arena, struct subscription_answer *answer)
{
    struct subscription_entry *entry, *next;
    int err = answer_init(subscription, set, arena, answer);
    if (err < 0 || !subscription->is_active)
        return err;
    bool is_held_back = false;
    if (subscription->is_wildcard) {
        for (size_t i = 0; i < set->count; i++)
            if (is_wanted(entry_find(subscription, set->items[i].name), &set->items[i]))
                answer->items[answer->item_count++] = &set->items[i];
    } else {
        is_held_back = add_named(subscription, set, answer);
    }
    HASH_ITER(hh, subscription->entries, entry, next)
    {
        bool is_known = entry->version[0] != '\0' || entry->is_due;
        if (is_known && snapshot_find(set, entry->name) == NULL)
            answer->removed[answer->removed_count++] = entry->name;
    }
    answer->is_due = answer->item_count > 0 || answer->removed_count > 0 ||
                     (subscription->is_due && !is_held_back);
    return 0;
}

void subscription_sent(struct subscription *subscription, const struct snapshot_set *set,
                       const struct subscription_answer *answer, uint64_t nonce)
{
    struct subscription_entry *entry, *next;
    subscription->nonce = nonce;
    subscription->is_due = false;
    subscription->is_refused = false;
    memcpy(subscription->version, set->version, sizeof(subscription->version));
    HASH_ITER(hh, subscription->entries, entry, next)
    entry->is_due = false;
    for (size_t i = 0; i < answer->removed_count; i++) {
        entry = entry_find(subscription, answer->removed[i]);
        if (entry != NULL && entry->is_subscribed)
            entry->version[0] = '\0';
        else if (entry != NULL)
            entry_remove(subscription, entry);
    }
    for (size_t i = 0; i < answer->item_count; i++) {
        entry = entry_get(subscription, answer->items[i]->name);
        memcpy(entry->version, answer->items[i]->version, sizeof(entry->version));
        entry->nonce = nonce;
        entry->is_refused = false;
    }
}
