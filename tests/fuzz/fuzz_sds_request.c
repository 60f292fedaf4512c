/* SPDX-License-Identifier: Apache-2.0 */
/* Any octets as a DiscoveryRequest on the secret socket, and as the next request of a stream. What
 * our reader takes for a message, protobuf-c's takes too, and both see the same. */
#include <stddef.h>
#include <stdint.h>

#include "core/alloc.h"
#include "mesh_proto/discovery.pb-c.h"
#include "plugins/sds/request.h"
#include "plugins/sds/subscription.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_text(struct rig_slice slice, const char *text)
{
    /* protobuf-c ends strings with NUL and so hides what follows one inside. */
    return memchr(slice.at, 0, slice.len) != NULL || rig_slice_is(slice, text);
}

static void compare(const struct sds_request *request)
{
    Mesh__Discovery__DiscoveryRequest *other =
        mesh__discovery__discovery_request__unpack(NULL, request->message.len, request->message.at);
    if (other == NULL)
        return; /* stricter in fields that do not concern us */
    size_t cursor = 0;
    size_t count = 0;
    struct rig_slice name;
    while (sds_request_name(request, &cursor, &name)) {
        rig_require(count < other->n_resource_names);
        rig_require(name.len == 0 || is_text(name, other->resource_names[count]));
        count++;
    }
    rig_require(count == request->name_count && count == other->n_resource_names);
    rig_require(request->type_url.len == 0 || is_text(request->type_url, other->type_url));
    rig_require(request->is_nack == (other->error_detail != NULL));
    mesh__discovery__discovery_request__free_unpacked(other, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sds_request request;
    struct subscriptions subscriptions = {.nonce = "n1"};
    size_t half = size / 2;
    const struct rig_slice messages[] = {rig_slice(data, size), rig_slice(data, half),
                                         rig_slice(data + half, size - half)};
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        if (sds_request_read(messages[i], &request) < 0)
            continue;
        compare(&request);
        if (request.name_count > 1000)
            continue; /* in the program unknown names end the stream first */
        enum request_kind kind = subscriptions_judge(&subscriptions, &request);
        subscriptions_apply(&subscriptions, kind, &request);
        rig_require(kind != REQUEST_UNSUBSCRIBE || subscriptions.first == NULL);
        rig_require(kind != REQUEST_SUBSCRIBE || subscriptions.first != NULL);
    }
    subscriptions_deinit(&subscriptions);
    return 0;
}
