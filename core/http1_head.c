/* SPDX-License-Identifier: Apache-2.0 */
/* core/http1_head.c: the rules of a request's head that llhttp does not check: Host (RFC 9112,
 * 3.2), folded lines (5.2), empty names, codings and versions that we do not speak. */
#include "http1_head.h"

#include <string.h>

void http1_head_feed(struct http1_head *head, const char *data, size_t len)
{
    head->data = data;
    head->data_len = len;
}

void http1_head_fed(struct http1_head *head)
{
    head->was_cut = head->span_end != NULL && head->span_end == head->data + head->data_len;
    head->span_end = NULL;
}

static size_t keep(char *kept, size_t size, size_t len, struct rig_slice piece)
{
    for (size_t i = 0; i < piece.len && len + i < size; i++)
        kept[len + i] =
            (char)(piece.at[i] >= 'A' && piece.at[i] <= 'Z' ? piece.at[i] | 0x20 : piece.at[i]);
    return len + piece.len;
}

void http1_head_name(struct http1_head *head, const char *at, size_t len)
{
    head->name_len = keep(head->name, sizeof(head->name), head->name_len, rig_slice(at, len));
}

/* A value in two pieces goes on where the data was cut, or else was folded over a line end. */
void http1_head_value(struct http1_head *head, const char *at, size_t len)
{
    bool goes_on =
        head->span_end != NULL ? at == head->span_end : head->was_cut && at == head->data;
    if (head->value_len > 0 && len > 0 && !goes_on)
        head->is_malformed = true;
    head->value_len = keep(head->value, sizeof(head->value), head->value_len, rig_slice(at, len));
    head->span_end = at + len;
}

static bool is(const char *kept, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(kept, word, len) == 0;
}

void http1_head_field_end(struct http1_head *head)
{
    if (head->name_len == 0) {
        head->is_malformed = true;
    } else if (is(head->name, head->name_len, "host")) {
        head->host_count++;
    } else if (is(head->name, head->name_len, "transfer-encoding")) {
        head->coding_count++;
        head->has_coding |= !is(head->value, head->value_len, "chunked");
    } else if (is(head->name, head->name_len, "expect")) {
        if (is(head->value, head->value_len, "100-continue"))
            head->wants_continue = true;
        else
            head->has_expectation = true;
    }
    head->name_len = head->value_len = 0;
    head->span_end = NULL;
    head->was_cut = false;
}

void http1_head_reset(struct http1_head *head)
{
    *head = (struct http1_head){.data = head->data, .data_len = head->data_len};
}

int http1_head_verdict(struct http1_head *head, const llhttp_t *parser)
{
    bool is_new = parser->http_minor == 1;
    /* RFC 9112, 6.3: where such a body ends cannot be told. */
    bool is_endless = head->coding_count > 0 && (parser->flags & F_CHUNKED) == 0;
    int status = 0;
    /* llhttp speaks the protocols of cameras and radio stations too. */
    if (parser->method > HTTP_UNLINK || head->is_malformed || is_endless ||
        head->coding_count > 1 || (!is_new && head->coding_count > 0))
        status = 400;
    else if (parser->http_major != 1)
        status = 505;
    else if (head->host_count > 1 || (is_new && head->host_count == 0))
        status = 400;
    else if (head->has_expectation)
        status = 417;
    else if (head->has_coding || parser->method == HTTP_CONNECT)
        status = 501;
    bool wants_continue = head->wants_continue && is_new;
    http1_head_reset(head);
    head->wants_continue = wants_continue;
    return status;
}

bool http1_target_split(struct rig_slice target, bool is_options, struct rig_slice *path,
                        struct rig_slice *query)
{
    if (target.len > 0 && target.at[0] != '/' && !rig_slice_is(target, "*")) {
        /* scheme://authority, which llhttp has checked, then perhaps nothing */
        const uint8_t *colon = memchr(target.at, ':', target.len);
        size_t skip = colon != NULL ? (size_t)(colon - target.at) + 3 : target.len;
        while (skip < target.len && target.at[skip] != '/' && target.at[skip] != '?')
            skip++;
        target =
            skip < target.len ? rig_slice(target.at + skip, target.len - skip) : rig_slice("/", 1);
    }
    const uint8_t *mark = target.len > 0 ? memchr(target.at, '?', target.len) : NULL;
    *path = rig_slice(target.at, mark != NULL ? (size_t)(mark - target.at) : target.len);
    *query = mark != NULL ? rig_slice(mark + 1, target.len - path->len - 1) : rig_slice("", 0);
    if (path->len == 0 && mark != NULL)
        *path = rig_slice("/", 1); /* http://host?query */
    if (target.len == 0 || memchr(target.at, '#', target.len) != NULL)
        return false;
    return path->at[0] == '/' || (is_options && rig_slice_is(*path, "*"));
}
