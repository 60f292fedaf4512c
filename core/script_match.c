/* SPDX-License-Identifier: Apache-2.0 */
/* core/script_match.c: Lua's patterns (manual, 6.4.1) with a budget.
 *
 * Lua's own matcher backtracks inside of one C call, where no hook counts: ten octets of pattern
 * on a pod's label can take years. This one is charged for each octet it looks at, as if that
 * were an instruction. It raises only between steps and owns nothing. */
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "script_state.h"

#define CAPTURES_MAX 32
#define DEPTH_MAX    200
#define CHARGE_STEP  1024

#define SPECIALS "^$*+?.([%-"

enum { CAPTURE_OPEN = -1, CAPTURE_POSITION = -2 };

struct match {
    lua_State *L;
    const char *text, *text_end;
    const char *pattern_end;
    uint64_t steps;
    int depth;
    int count; /* of captures */
    struct {
        const char *at;
        ptrdiff_t len; /* or CAPTURE_OPEN, CAPTURE_POSITION */
    } captures[CAPTURES_MAX];
};

/* One more octet was looked at. */
static void step(struct match *m)
{
    if (++m->steps < CHARGE_STEP)
        return;
    m->steps = 0;
    script_charge(m->L, CHARGE_STEP);
}

static bool is_of_class(int c, int class)
{
    bool is;
    switch (tolower(class)) {
    case 'a':
        is = isalpha(c);
        break;
    case 'c':
        is = iscntrl(c);
        break;
    case 'd':
        is = isdigit(c);
        break;
    case 'g':
        is = isgraph(c);
        break;
    case 'l':
        is = islower(c);
        break;
    case 'p':
        is = ispunct(c);
        break;
    case 's':
        is = isspace(c);
        break;
    case 'u':
        is = isupper(c);
        break;
    case 'w':
        is = isalnum(c);
        break;
    case 'x':
        is = isxdigit(c);
        break;
    default:
        return class == c;
    }
    return isupper(class) ? !is : is;
}

/* The end of the single-character item at `p`. */
static const char *item_end(struct match *m, const char *p)
{
    if (*p == '%') {
        if (p + 1 == m->pattern_end)
            luaL_error(m->L, "malformed pattern: it ends with '%%'");
        return p + 2;
    }
    if (*p++ != '[')
        return p;
    if (p < m->pattern_end && *p == '^')
        p++;
    /* A bracket that comes first stands for itself. */
    for (bool is_first = true;; is_first = false) {
        if (p >= m->pattern_end)
            luaL_error(m->L, "malformed pattern: ']' is missing");
        if (*p == ']' && !is_first)
            return p + 1;
        p += *p == '%' ? 2 : 1;
        step(m);
    }
}

/* `p` is '[', `end` behind its ']'. */
static bool is_in_set(struct match *m, int c, const char *p, const char *end)
{
    bool is_in = true;
    end--;
    if (*++p == '^') {
        is_in = false;
        p++;
    }
    while (p < end) {
        step(m);
        if (*p == '%') {
            if (is_of_class(c, (unsigned char)p[1]))
                return is_in;
            p += 2;
        } else if (p + 2 < end && p[1] == '-') {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return is_in;
            p += 3;
        } else if ((unsigned char)*p++ == c) {
            return is_in;
        }
    }
    return !is_in;
}

static bool item_matches(struct match *m, const char *s, const char *p, const char *end)
{
    step(m);
    if (s >= m->text_end)
        return false;
    int c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return is_of_class(c, (unsigned char)p[1]);
    case '[':
        return is_in_set(m, c, p, end);
    default:
        return (unsigned char)*p == c;
    }
}

/* All of these answer where the match ends, or NULL. */
static const char *match_here(struct match *m, const char *s, const char *p);

static const char *match_balance(struct match *m, const char *s, const char *p)
{
    if (m->pattern_end - p < 4)
        luaL_error(m->L, "malformed pattern: '%%b' needs two characters");
    if (s >= m->text_end || *s != p[2])
        return NULL;
    size_t depth = 1;
    while (++s < m->text_end) {
        step(m);
        if (*s == p[3]) {
            if (--depth == 0)
                return match_here(m, s + 1, p + 4);
        } else if (*s == p[2]) {
            depth++;
        }
    }
    return NULL;
}

static const char *match_frontier(struct match *m, const char *s, const char *p)
{
    p += 2;
    if (p >= m->pattern_end || *p != '[')
        luaL_error(m->L, "malformed pattern: '%%f' needs a set");
    const char *end = item_end(m, p);
    int before = s == m->text ? '\0' : (unsigned char)s[-1];
    int after = s < m->text_end ? (unsigned char)*s : '\0';
    if (is_in_set(m, before, p, end) || !is_in_set(m, after, p, end))
        return NULL;
    return match_here(m, s, end);
}

static const char *match_back(struct match *m, const char *s, const char *p)
{
    int i = p[1] - '1';
    if (i < 0 || i >= m->count || m->captures[i].len == CAPTURE_OPEN)
        luaL_error(m->L, "invalid capture %%%d in the pattern", i + 1);
    if (m->captures[i].len == CAPTURE_POSITION)
        return NULL; /* a place has no octets to repeat; Lua too finds none */
    size_t len = (size_t)m->captures[i].len;
    m->steps += len < CHARGE_STEP ? len : CHARGE_STEP;
    step(m);
    if ((size_t)(m->text_end - s) < len || memcmp(m->captures[i].at, s, len) != 0)
        return NULL;
    return match_here(m, s + len, p + 2);
}

static const char *match_open(struct match *m, const char *s, const char *p)
{
    bool is_position = p + 1 < m->pattern_end && p[1] == ')';
    if (m->count == CAPTURES_MAX)
        luaL_error(m->L, "too many captures in the pattern");
    m->captures[m->count].at = s;
    m->captures[m->count].len = is_position ? CAPTURE_POSITION : CAPTURE_OPEN;
    m->count++;
    const char *end = match_here(m, s, is_position ? p + 2 : p + 1);
    if (end == NULL)
        m->count--;
    return end;
}

static const char *match_close(struct match *m, const char *s, const char *p)
{
    int i = m->count - 1;
    while (i >= 0 && m->captures[i].len != CAPTURE_OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "malformed pattern: ')' closes nothing");
    m->captures[i].len = s - m->captures[i].at;
    const char *end = match_here(m, s, p + 1);
    if (end == NULL)
        m->captures[i].len = CAPTURE_OPEN;
    return end;
}

/* As many as there are, then fewer and fewer. */
static const char *match_most(struct match *m, const char *s, const char *p, const char *end)
{
    size_t count = 0;
    while (item_matches(m, s + count, p, end))
        count++;
    for (;; count--) {
        const char *found = match_here(m, s + count, end + 1);
        if (found != NULL || count == 0)
            return found;
    }
}

static const char *match_least(struct match *m, const char *s, const char *p, const char *end)
{
    for (;; s++) {
        const char *found = match_here(m, s, end + 1);
        if (found != NULL)
            return found;
        if (!item_matches(m, s, p, end))
            return NULL;
    }
}

/* What is not a single character with a suffix; false when `p` is none of these. */
static bool match_special(struct match *m, const char *s, const char *p, const char **found)
{
    char next = p + 1 < m->pattern_end ? p[1] : '\0';
    if (*p == '(')
        *found = match_open(m, s, p);
    else if (*p == ')')
        *found = match_close(m, s, p);
    else if (*p == '$' && p + 1 == m->pattern_end)
        *found = s == m->text_end ? s : NULL;
    else if (*p == '%' && next == 'b')
        *found = match_balance(m, s, p);
    else if (*p == '%' && next == 'f')
        *found = match_frontier(m, s, p);
    else if (*p == '%' && isdigit((unsigned char)next))
        *found = match_back(m, s, p);
    else
        return false;
    return true;
}

static const char *match_items(struct match *m, const char *s, const char *p)
{
    const char *found;
    while (p < m->pattern_end) {
        if (match_special(m, s, p, &found))
            return found;
        const char *end = item_end(m, p);
        char suffix = end < m->pattern_end ? *end : '\0';
        if (suffix == '*')
            return match_most(m, s, p, end);
        if (suffix == '-')
            return match_least(m, s, p, end);
        bool is_there = item_matches(m, s, p, end);
        if (suffix == '+')
            return is_there ? match_most(m, s + 1, p, end) : NULL;
        if (suffix == '?') {
            if (is_there && (found = match_here(m, s + 1, end + 1)) != NULL)
                return found;
            p = end + 1;
            continue;
        }
        if (!is_there)
            return NULL;
        s++;
        p = end;
    }
    return s;
}

static const char *match_here(struct match *m, const char *s, const char *p)
{
    if (++m->depth > DEPTH_MAX)
        luaL_error(m->L, "the pattern is too complex");
    const char *end = match_items(m, s, p);
    m->depth--;
    return end;
}

static void push_capture(struct match *m, int i, const char *start, const char *end)
{
    if (i >= m->count) {
        if (i != 0)
            luaL_error(m->L, "invalid capture %%%d", i + 1);
        lua_pushlstring(m->L, start, (size_t)(end - start));
    } else if (m->captures[i].len == CAPTURE_POSITION) {
        lua_pushinteger(m->L, m->captures[i].at - m->text + 1);
    } else {
        if (m->captures[i].len == CAPTURE_OPEN)
            luaL_error(m->L, "malformed pattern: ')' is missing");
        lua_pushlstring(m->L, m->captures[i].at, (size_t)m->captures[i].len);
    }
}

/* All captures, or the whole match when there are none; answers how many. */
static int push_captures(struct match *m, const char *start, const char *end)
{
    int count = m->count > 0 || start == NULL ? m->count : 1;
    luaL_checkstack(m->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(m, i, start, end);
    return count;
}

/* What the text and the pattern are in all four functions: arguments 1 and 2. */
static const char *prepare(lua_State *L, struct match *m, int text, int pattern)
{
    size_t len;
    *m = (struct match){.L = L};
    m->text = luaL_checklstring(L, text, &len);
    m->text_end = m->text + len;
    const char *at = luaL_checklstring(L, pattern, &len);
    m->pattern_end = at + len;
    return at;
}

static const char *match_at(struct match *m, const char *s, const char *pattern)
{
    m->count = 0;
    m->depth = 0;
    return match_here(m, s, pattern);
}

/* A start as Lua's string functions count it; behind the text when it is behind the text. */
static const char *start_of(lua_State *L, const struct match *m, int argument)
{
    lua_Integer start = luaL_optinteger(L, argument, 1);
    lua_Integer len = m->text_end - m->text;
    if (start < 0)
        start = start < -len ? 1 : len + start + 1;
    if (start > len + 1)
        return NULL;
    return m->text + (start > 0 ? start - 1 : 0);
}

static int find_plain(struct match *m, const char *start, const char *pattern)
{
    size_t len = (size_t)(m->pattern_end - pattern);
    script_charge(m->L, (uint64_t)(m->text_end - start) / SCRIPT_OCTETS_PER_STEP);
    const char *found =
        len > 0 ? memmem(start, (size_t)(m->text_end - start), pattern, len) : start;
    if (found == NULL) {
        lua_pushnil(m->L);
        return 1;
    }
    lua_pushinteger(m->L, found - m->text + 1);
    lua_pushinteger(m->L, found - m->text + (lua_Integer)len);
    return 2;
}

static bool has_specials(const struct match *m, const char *pattern)
{
    for (; pattern < m->pattern_end; pattern++)
        if (*pattern != '\0' && strchr(SPECIALS, *pattern) != NULL)
            return true;
    return false;
}

static int search(lua_State *L, bool is_find)
{
    struct match m;
    const char *pattern = prepare(L, &m, 1, 2);
    const char *s = start_of(L, &m, 3);
    bool is_anchored = pattern < m.pattern_end && *pattern == '^';
    if (s == NULL) {
        lua_pushnil(L);
        return 1;
    }
    if (is_find && (lua_toboolean(L, 4) || !has_specials(&m, pattern)))
        return find_plain(&m, s, pattern);
    for (; s <= m.text_end; s++) {
        const char *end = match_at(&m, s, pattern + is_anchored);
        if (end != NULL && !is_find)
            return push_captures(&m, s, end);
        if (end != NULL) {
            lua_pushinteger(L, s - m.text + 1);
            lua_pushinteger(L, end - m.text);
            return 2 + push_captures(&m, NULL, NULL);
        }
        if (is_anchored)
            break;
    }
    lua_pushnil(L);
    return 1;
}

static int string_find(lua_State *L)
{
    return search(L, true);
}

static int string_match(lua_State *L)
{
    return search(L, false);
}

/* Upvalues: text, pattern, where to go on, where the last match ended (-1: none yet). */
static int gmatch_next(lua_State *L)
{
    struct match m;
    const char *pattern = prepare(L, &m, lua_upvalueindex(1), lua_upvalueindex(2));
    lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
    const char *s = m.text + lua_tointeger(L, lua_upvalueindex(3));
    for (; s <= m.text_end; s++) {
        const char *end = match_at(&m, s, pattern);
        if (end == NULL || end - m.text == last)
            continue;
        lua_pushinteger(L, end - m.text);
        lua_pushvalue(L, -1);
        lua_replace(L, lua_upvalueindex(3));
        lua_replace(L, lua_upvalueindex(4));
        return push_captures(&m, s, end);
    }
    return 0;
}

static int string_gmatch(lua_State *L)
{
    struct match m;
    prepare(L, &m, 1, 2);
    const char *start = start_of(L, &m, 3);
    lua_settop(L, 2);
    lua_pushinteger(L, (start != NULL ? start : m.text_end + 1) - m.text);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, gmatch_next, 4);
    return 1;
}

/* The replacement string, its %0 to %9 filled in. */
static void add_text(struct match *m, luaL_Buffer *out, const char *start, const char *end)
{
    size_t len;
    const char *at = lua_tolstring(m->L, 3, &len);
    for (const char *stop = at + len; at < stop; at++) {
        step(m);
        if (*at != '%') {
            luaL_addchar(out, *at);
            continue;
        }
        at++;
        if (at < stop && *at == '%') {
            luaL_addchar(out, '%');
        } else if (at < stop && *at == '0') {
            luaL_addlstring(out, start, (size_t)(end - start));
        } else if (at < stop && isdigit((unsigned char)*at)) {
            push_capture(m, *at - '1', start, end);
            luaL_tolstring(m->L, -1, NULL); /* a position is a number */
            lua_remove(m->L, -2);
            luaL_addvalue(out);
        } else {
            luaL_error(m->L, "invalid use of '%%' in the replacement");
        }
    }
}

static void add_replacement(struct match *m, luaL_Buffer *out, const char *start, const char *end)
{
    lua_State *L = m->L;
    int kind = lua_type(L, 3);
    if (kind != LUA_TFUNCTION && kind != LUA_TTABLE) {
        add_text(m, out, start, end);
        return;
    }
    if (kind == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, start, end), 1);
    } else {
        push_capture(m, 0, start, end);
        lua_gettable(L, 3);
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, start, (size_t)(end - start)); /* as it was */
        return;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement (a %s)", luaL_typename(L, -1));
    luaL_addvalue(out);
}

static int string_gsub(lua_State *L)
{
    struct match m;
    const char *pattern = prepare(L, &m, 1, 2);
    int kind = lua_type(L, 3);
    luaL_argexpected(L,
                     kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION ||
                         kind == LUA_TTABLE,
                     3, "string/function/table");
    lua_Integer max = luaL_optinteger(L, 4, LUA_MAXINTEGER);
    bool is_anchored = pattern < m.pattern_end && *pattern == '^';
    const char *s = m.text, *last = NULL;
    lua_Integer count = 0;
    luaL_Buffer out;
    lua_settop(L, 3);
    luaL_buffinit(L, &out);
    while (count < max) {
        const char *end = match_at(&m, s, pattern + is_anchored);
        if (end != NULL && end != last) {
            count++;
            add_replacement(&m, &out, s, end);
            s = last = end;
        } else if (s < m.text_end) {
            /* No NULL comes out of luaL_checklstring. */
            luaL_addchar(&out, *s++); // NOLINT(clang-analyzer-core.NullDereference)
        } else {
            break;
        }
        if (is_anchored)
            break;
    }
    luaL_addlstring(&out, s, (size_t)(m.text_end - s));
    luaL_pushresult(&out);
    lua_pushinteger(L, count);
    return 2;
}

void script_open_match(lua_State *L)
{
    static const luaL_Reg functions[] = {{"find", string_find},
                                         {"match", string_match},
                                         {"gmatch", string_gmatch},
                                         {"gsub", string_gsub},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
