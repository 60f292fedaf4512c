/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/response.c: fields of envoy.service.discovery.v3 in ascending order, as
 * every relay on the way expects them. */
#include "response.h"

#include "wire.h"

#define IDENTIFIER "outrigger-" RIG_VERSION

static void write_control_plane(uint32_t field, struct rig_buf *message)
{
    struct rig_buf control_plane = {0};
    wire_text(&control_plane, 1, IDENTIFIER);
    wire_bytes(message, field, rig_buf_slice(&control_plane));
    rig_buf_deinit(&control_plane);
}

void response_write_sotw(const struct response *response, struct rig_buf *message)
{
    wire_text(message, 1, response->version);
    for (size_t i = 0; i < response->answer->item_count; i++)
        wire_bytes(message, 2, response->answer->items[i]->any);
    wire_text(message, 4, response->type_url);
    wire_text(message, 5, response->nonce);
    write_control_plane(6, message);
}

void response_write_delta(const struct response *response, struct rig_buf *message)
{
    struct rig_buf resource = {0};
    wire_text(message, 1, response->version);
    for (size_t i = 0; i < response->answer->item_count; i++) {
        const struct snapshot_resource *item = response->answer->items[i];
        rig_buf_clear(&resource);
        wire_text(&resource, 1, item->version);
        wire_bytes(&resource, 2, item->any);
        wire_text(&resource, 3, item->name);
        wire_bytes(message, 2, rig_buf_slice(&resource));
    }
    wire_text(message, 4, response->type_url);
    wire_text(message, 5, response->nonce);
    for (size_t i = 0; i < response->answer->removed_count; i++)
        wire_text(message, 6, response->answer->removed[i]);
    write_control_plane(7, message);
    rig_buf_deinit(&resource);
}
