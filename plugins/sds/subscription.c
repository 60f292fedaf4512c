/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/subscription.c: the set of names of one stream. */
#include "subscription.h"

#include "core/alloc.h"

#include "request.h"

enum request_kind subscriptions_judge(const struct subscriptions *subscriptions,
                                      const struct sds_request *request)
{
    if (request->is_nack)
        return REQUEST_NACK;
    if (request->name_count == 0)
        return REQUEST_UNSUBSCRIBE;
    if (request->response_nonce.len == 0 || subscriptions->first == NULL)
        return REQUEST_SUBSCRIBE;
    if (!rig_slice_is(request->response_nonce, subscriptions->nonce))
        return REQUEST_STALE;
    return REQUEST_ACK;
}

struct subscription *subscriptions_find(const struct subscriptions *subscriptions,
                                        struct rig_slice name)
{
    struct subscription *each = subscriptions->first;
    while (each != NULL && !rig_slice_equal(subscription_name(each), name))
        each = each->next;
    return each;
}

static struct subscription *subscription_add(struct subscriptions *subscriptions,
                                             struct rig_slice name)
{
    struct subscription **end = &subscriptions->first;
    struct subscription *added = rig_alloc(sizeof(*added) + name.len + 1);
    memcpy(added->name, name.at, name.len);
    added->name_len = name.len;
    while (*end != NULL)
        end = &(*end)->next;
    *end = added;
    return added;
}

static void remove_unwanted(struct subscriptions *subscriptions)
{
    struct subscription **at = &subscriptions->first;
    while (*at != NULL) {
        struct subscription *each = *at;
        if (each->is_wanted) {
            each->is_wanted = false;
            at = &each->next;
        } else {
            *at = each->next;
            rig_free(each);
        }
    }
}

void subscriptions_apply(struct subscriptions *subscriptions, enum request_kind kind,
                         const struct sds_request *request)
{
    if (kind == REQUEST_NACK || kind == REQUEST_STALE)
        return;
    size_t cursor = 0;
    struct rig_slice name;
    while (kind != REQUEST_UNSUBSCRIBE && sds_request_name(request, &cursor, &name)) {
        struct subscription *each = subscriptions_find(subscriptions, name);
        if (each == NULL) {
            each = subscription_add(subscriptions, name);
            each->is_due = true;
        }
        each->is_due |= kind == REQUEST_SUBSCRIBE;
        each->is_wanted = true;
    }
    remove_unwanted(subscriptions);
}

void subscriptions_deinit(struct subscriptions *subscriptions)
{
    remove_unwanted(subscriptions); /* none is marked between two requests */
    subscriptions->nonce[0] = '\0';
}
