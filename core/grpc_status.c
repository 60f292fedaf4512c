/* SPDX-License-Identifier: Apache-2.0 */
/* core/grpc_status.c: codes and texts of a call's end (grpc/doc/PROTOCOL-HTTP2.md, "Responses",
 * and http-grpc-status-mapping.md). */
#include "grpc_status.h"

#include <stdio.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "alloc.h"
#include "grpc.h"

int rig_grpc_code_of_http(int http_status)
{
    switch (http_status) {
    case 400:
        return RIG_GRPC_INTERNAL;
    case 401:
        return RIG_GRPC_UNAUTHENTICATED;
    case 403:
        return RIG_GRPC_PERMISSION_DENIED;
    case 404:
        return RIG_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return RIG_GRPC_UNAVAILABLE;
    default:
        return RIG_GRPC_UNKNOWN;
    }
}

int rig_grpc_code_of_reset(uint32_t h2_code)
{
    switch (h2_code) {
    case NGHTTP2_REFUSED_STREAM:
        return RIG_GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return RIG_GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
    case NGHTTP2_FLOW_CONTROL_ERROR:
        return RIG_GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return RIG_GRPC_PERMISSION_DENIED;
    default:
        return RIG_GRPC_INTERNAL;
    }
}

void grpc_message_encode(const char *text, struct rig_buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    rig_buf_clear(out);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        bool is_literal = *c >= 0x20 && *c <= 0x7e && *c != '%';
        if (out->len + (is_literal ? 1 : 3) > GRPC_MESSAGE_MAX)
            break;
        char escape[3] = {'%', digits[*c >> 4], digits[*c & 15]};
        if (is_literal)
            rig_buf_append(out, c, 1);
        else
            rig_buf_append(out, escape, sizeof(escape));
    }
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

char *grpc_message_decode(struct rig_slice encoded)
{
    size_t max = encoded.len < GRPC_MESSAGE_MAX ? encoded.len : GRPC_MESSAGE_MAX;
    char *text = rig_alloc(max + 1);
    size_t len = 0;
    for (size_t i = 0; i < encoded.len && len < max; i++) {
        uint8_t c = encoded.at[i];
        int high = -1, low = -1;
        if (c == '%' && encoded.len - i > 2) {
            high = hex_value(encoded.at[i + 1]);
            low = hex_value(encoded.at[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        text[len++] = c != '\0' ? (char)c : '?'; /* a C string has no place for it */
    }
    text[len] = '\0';
    return text;
}

int grpc_code_parse(struct rig_slice text)
{
    int code = 0;
    if (text.len == 0 || text.len > 3)
        return RIG_GRPC_UNKNOWN;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return RIG_GRPC_UNKNOWN;
        code = code * 10 + (text.at[i] - '0');
    }
    return code;
}

void grpc_timeout_text(uint32_t timeout_ms, char text[GRPC_TIMEOUT_BYTES])
{
    bool fits = timeout_ms <= 99999999;
    snprintf(text, GRPC_TIMEOUT_BYTES, "%u%c", fits ? timeout_ms : timeout_ms / 1000,
             fits ? 'm' : 'S');
}
