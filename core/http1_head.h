/* SPDX-License-Identifier: Apache-2.0 */
/* core/http1_head.h: what RFC 9112 asks of a request's head and llhttp leaves to its user. Private
 * to http1_server.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <llhttp.h>

#include "buf.h"

struct http1_head {
    char name[24]; /* of the field that is being read, in lower case; cut when longer */
    size_t name_len;
    char value[24]; /* the same of its value */
    size_t value_len;
    const char *data; /* what the parser is being fed */
    size_t data_len;
    const char *span_end; /* where the last piece of the value ended */
    bool was_cut;         /* it ended with the data before */
    bool is_malformed;
    bool wants_continue;
    bool has_expectation; /* another one */
    bool has_coding;      /* a transfer coding that is not chunked */
    unsigned host_count;
    unsigned coding_count;
};

/* Before and after each piece of data goes to llhttp. */
void http1_head_feed(struct http1_head *head, const char *data, size_t len);
void http1_head_fed(struct http1_head *head);

/* Forgets all fields: for trailers, which come the same way and are of no use here. */
void http1_head_reset(struct http1_head *head);

/* llhttp's spans, and the end of one field. */
void http1_head_name(struct http1_head *head, const char *at, size_t len);
void http1_head_value(struct http1_head *head, const char *at, size_t len);
void http1_head_field_end(struct http1_head *head);

/* At the end of the head: 0, or the status to refuse it with. Leaves nothing but
 * `wants_continue`. */
int http1_head_verdict(struct http1_head *head, const llhttp_t *parser);

/* Origin-form, absolute-form or "*" (RFC 9112, 3.2) -> path and query; false when it is neither. */
bool http1_target_split(struct rig_slice target, bool is_options, struct rig_slice *path,
                        struct rig_slice *query);
