/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/xds_proxy/status.c: what has passed, by type: the rows behind the service xds_status. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/fault.h"

#define SAYING_MS 60000

struct status_row {
    struct rig_buf type_url, version, nonce, last_nack;
    uint64_t pushes, bytes, resources, received_ms, acks, nacks;
};

void status_deinit(struct status *status)
{
    for (size_t i = 0; i < status->count; i++) {
        struct status_row *row = &status->rows[i];
        rig_buf_deinit(&row->type_url);
        rig_buf_deinit(&row->version);
        rig_buf_deinit(&row->nonce);
        rig_buf_deinit(&row->last_nack);
    }
    rig_free(status->rows);
    rig_buf_deinit(&status->last_failure);
    *status = (struct status){0};
}

void status_printable(struct rig_buf *out, struct rig_slice text)
{
    rig_buf_clear(out);
    uint8_t *at = rig_buf_reserve(out, text.len);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t octet = text.at[i];
        /* Envoy's NACKs have line ends in them; a record has one line. */
        at[i] = octet == '\n' ? ' ' : octet < 0x20 || octet > 0x7e ? '?' : octet;
    }
    rig_buf_commit(out, text.len);
}

/* NULL when nothing of this type has passed. */
static struct status_row *find_row(const struct status *status, struct rig_slice type_url)
{
    struct rig_buf key = {0};
    struct status_row *found = NULL;
    status_printable(&key, type_url);
    for (size_t i = 0; i < status->count && found == NULL; i++) {
        if (rig_slice_equal(rig_buf_slice(&status->rows[i].type_url), rig_buf_slice(&key)))
            found = &status->rows[i];
    }
    rig_buf_deinit(&key);
    return found;
}

/* The row of a type, made at first sight; NULL for no type, or one too many. */
static struct status_row *make_row(struct status *status, struct rig_slice type_url)
{
    struct status_row *row = find_row(status, type_url);
    if (row != NULL || type_url.len == 0 || status->count == STATUS_TYPES_MAX)
        return row;
    status->rows = rig_realloc(status->rows, (status->count + 1) * sizeof(*status->rows));
    row = &status->rows[status->count++];
    *row = (struct status_row){0};
    status_printable(&row->type_url, type_url);
    return row;
}

void status_push(struct status *status, const struct scan *response, uint64_t bytes)
{
    struct status_row *row = make_row(status, scan_type(&response->type_url));
    if (row == NULL)
        return;
    status_printable(&row->version, scan_slice(&response->version));
    status_printable(&row->nonce, scan_slice(&response->nonce));
    row->pushes++;
    row->bytes = bytes;
    row->resources = response->resources;
    row->received_ms = rig_clock_ms();
}

void status_reply(struct status *status, const struct scan *request)
{
    /* Without a nonce it is a subscription and answers nothing. */
    if (scan_slice(&request->nonce).len == 0)
        return;
    struct status_row *row = find_row(status, scan_type(&request->type_url));
    if (row == NULL)
        return;
    if (!request->has_error) {
        row->acks++;
        return;
    }
    row->nacks++;
    status_printable(&row->last_nack, scan_slice(&request->error));
}

/* FNV-1a; a collision costs one line of log. */
static uint64_t hash_more(uint64_t hash, struct rig_slice text)
{
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ text.at[i]) * UINT64_C(0x100000001b3);
    return (hash ^ 0x100) * UINT64_C(0x100000001b3);
}

bool status_say(struct status *status, struct rig_slice what, struct rig_slice detail)
{
    struct status_said *said = &status->said;
    uint64_t hash = hash_more(hash_more(UINT64_C(0xcbf29ce484222325), what), detail);
    uint64_t now_ms = rig_clock_ms();
    for (unsigned i = 0; i < STATUS_SAID_MAX; i++) {
        if (said->hashes[i] == hash)
            return false;
    }
    uint64_t oldest_ms = said->said_ms[said->next];
    if (oldest_ms != 0 && now_ms - oldest_ms < SAYING_MS)
        return false;
    said->hashes[said->next] = hash;
    said->said_ms[said->next] = now_ms;
    said->next = (said->next + 1) % STATUS_SAID_MAX;
    return true;
}

void status_fail(struct status *status, const char *format, ...)
{
    char text[RIG_FAULT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    status_printable(&status->last_failure, rig_slice_text(text));
}

void status_recover(struct status *status)
{
    rig_buf_clear(&status->last_failure);
}

const char *status_last_failure(struct status *status)
{
    return rig_buf_text(&status->last_failure);
}

bool status_type(struct status *status, size_t index, struct xds_type_status *out)
{
    if (index >= status->count)
        return false;
    struct status_row *row = &status->rows[index];
    *out = (struct xds_type_status){
        .type_url = rig_buf_text(&row->type_url),
        .version = rig_buf_text(&row->version),
        .nonce = rig_buf_text(&row->nonce),
        .pushes = row->pushes,
        .bytes = row->bytes,
        .resources = row->resources,
        .received_ms = row->received_ms,
        .acks = row->acks,
        .nacks = row->nacks,
        .last_nack = rig_buf_text(&row->last_nack),
    };
    return true;
}
