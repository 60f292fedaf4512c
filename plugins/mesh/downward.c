/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/mesh/downward.c: the files that the kubelet writes for labels and annotations, one
 * key="value" a line, the value quoted as Go's %q does it. */
#include "node.h"

#include <string.h>

struct quoted {
    const uint8_t *at;
    const uint8_t *end;
};

static int hex_read(struct quoted *in, int digits, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < digits; i++) {
        if (in->at == in->end)
            return RIG_E_SYNTAX;
        uint8_t c = *in->at++;
        uint8_t lower = c | 0x20;
        if (c >= '0' && c <= '9')
            *value = *value * 16 + (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            *value = *value * 16 + (uint32_t)(lower - 'a' + 10);
        else
            return RIG_E_SYNTAX;
    }
    return 0;
}

/* `first` and two more octal digits, at most \377. */
static int octal_read(struct quoted *in, uint8_t first, uint32_t *value)
{
    *value = (uint32_t)(first - '0');
    for (int i = 0; i < 2; i++) {
        if (in->at == in->end || *in->at < '0' || *in->at > '7')
            return RIG_E_SYNTAX;
        *value = *value * 8 + (uint32_t)(*in->at++ - '0');
    }
    return *value <= 0xff ? 0 : RIG_E_SYNTAX;
}

static int utf8_append(struct rig_buf *out, uint32_t code)
{
    uint8_t octets[4];
    size_t len;
    if (code < 0x80) {
        octets[0] = (uint8_t)code;
        len = 1;
    } else if (code < 0x800) {
        octets[0] = (uint8_t)(0xc0 | code >> 6);
        len = 2;
    } else if (code < 0x10000) {
        if (code >= 0xd800 && code < 0xe000) /* half of a surrogate pair */
            return RIG_E_SYNTAX;
        octets[0] = (uint8_t)(0xe0 | code >> 12);
        len = 3;
    } else if (code < 0x110000) {
        octets[0] = (uint8_t)(0xf0 | code >> 18);
        len = 4;
    } else {
        return RIG_E_SYNTAX;
    }
    for (size_t i = 1; i < len; i++)
        octets[i] = (uint8_t)(0x80 | (code >> 6 * (len - 1 - i) & 0x3f));
    rig_buf_append(out, octets, len);
    return 0;
}

/* What follows a backslash. A NUL is refused: values live on as C strings. */
static int escape_read(struct quoted *in, struct rig_buf *out)
{
    static const char letters[] = "abfnrtv\\\"";
    static const char octets[] = "\a\b\f\n\r\t\v\\\"";
    uint32_t value = 0;
    if (in->at == in->end)
        return RIG_E_SYNTAX;
    uint8_t c = *in->at++;
    const char *letter = c != '\0' ? strchr(letters, c) : NULL;
    if (letter != NULL) {
        rig_buf_append(out, &octets[letter - letters], 1);
        return 0;
    }
    bool is_octet = c == 'x' || (c >= '0' && c <= '7');
    int err = c == 'x'   ? hex_read(in, 2, &value)
              : c == 'u' ? hex_read(in, 4, &value)
              : c == 'U' ? hex_read(in, 8, &value)
              : is_octet ? octal_read(in, c, &value)
                         : RIG_E_SYNTAX;
    if (err < 0 || value == 0)
        return RIG_E_SYNTAX;
    if (!is_octet)
        return utf8_append(out, value);
    uint8_t octet = (uint8_t)value;
    rig_buf_append(out, &octet, 1);
    return 0;
}

static int unquote(struct rig_slice text, struct rig_buf *out)
{
    if (text.len < 2 || text.at[0] != '"' || text.at[text.len - 1] != '"')
        return RIG_E_SYNTAX;
    struct quoted in = {.at = text.at + 1, .end = text.at + text.len - 1};
    while (in.at < in.end) {
        uint8_t c = *in.at++;
        int err = 0;
        if (c == '"' || c == '\0')
            return RIG_E_SYNTAX;
        if (c == '\\')
            err = escape_read(&in, out);
        else
            rig_buf_append(out, &c, 1);
        if (err < 0)
            return err;
    }
    return 0;
}

int node_downward_read(struct rig_slice text, const char *name, struct rig_arena *arena,
                       struct rig_doc **map, struct rig_fault *why)
{
    struct rig_doc *out = rig_doc_map(arena);
    struct rig_buf value = {0};
    unsigned line = 0;
    int err = 0;
    while (text.len > 0 && err == 0) {
        const uint8_t *end = memchr(text.at, '\n', text.len);
        size_t len = end != NULL ? (size_t)(end - text.at) : text.len;
        const uint8_t *equals = memchr(text.at, '=', len);
        line++;
        if (equals != NULL) {
            struct rig_slice key = rig_slice(text.at, (size_t)(equals - text.at));
            rig_buf_clear(&value);
            err = unquote(rig_slice(equals + 1, len - key.len - 1), &value);
            rig_doc_set_slice(arena, out, key, rig_doc_string(arena, rig_buf_slice(&value)));
        }
        size_t taken = end != NULL ? len + 1 : len;
        text = rig_slice(text.at + taken, text.len - taken);
    }
    rig_buf_deinit(&value);
    if (err < 0)
        return rig_fault_set(why, err, "%s:%u: a value is not a quoted string", name, line);
    if (rig_arena_is_spent(arena))
        return rig_fault_set(why, RIG_E_TOO_LARGE, "%s: too large", name);
    *map = out;
    return 0;
}
