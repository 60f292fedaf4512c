/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts: what they see, what they give back, what they cannot do, and that each of them ends. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "core/json.h"
#include "core/script.h"

#define BUDGET (1u << 20)

/* A site's and a shipped directory, made for each test. */
struct place {
    char root[64];
    char site[80];
    char shipped[80];
    const char *list[3];
    struct rig_script_dirs dirs;
};

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    strcpy(place->root, "/tmp/rig_script_XXXXXX");
    if (place == NULL || mkdtemp(place->root) == NULL)
        return -1;
    snprintf(place->site, sizeof(place->site), "%s/site", place->root);
    snprintf(place->shipped, sizeof(place->shipped), "%s/shipped", place->root);
    mkdir(place->site, 0700);
    mkdir(place->shipped, 0700);
    place->list[0] = place->site;
    place->list[1] = place->shipped;
    place->dirs = (struct rig_script_dirs){.dirs = place->list, .site_count = 1};
    *state = place;
    return 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", place->root);
    int err = system(command);
    free(place);
    return err;
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Calls t.f(argument) with `body` as the function's body. */
static int call_body(struct place *place, const char *body, const struct rig_doc *argument,
                     const struct rig_script_limits *limits, struct rig_arena *arena,
                     struct rig_doc **result, struct rig_fault *why)
{
    struct rig_buf text = {0};
    rig_buf_printf(&text, "local M = {}\nfunction M.f(ctx) %s\nend\nreturn M\n", body);
    put(place->shipped, "t.lua", rig_buf_text(&text));
    rig_buf_deinit(&text);
    *why = (struct rig_fault){""};
    return rig_script_call(&place->dirs, "t", "f", argument, limits, arena, result, why);
}

/* Where another limit, or none, is under test, a slow machine must not meet the one of time. */
static const struct rig_script_limits patient = {.max_ms = 60000};

static void gives(struct place *place, const char *body, const char *argument, const char *json)
{
    struct rig_arena arena;
    struct rig_doc *ctx = NULL, *result = NULL;
    struct rig_fault why;
    struct rig_buf out = {0};
    rig_arena_init(&arena, BUDGET);
    if (argument != NULL)
        assert_int_equal(rig_json_read(rig_slice_text(argument), "ctx", &arena, &ctx, &why), 0);
    int err = call_body(place, body, ctx, &patient, &arena, &result, &why);
    if (err != 0)
        fail_msg("%s: %d %s", body, err, why.text);
    rig_json_write(result, RIG_JSON_COMPACT, &out);
    assert_string_equal(rig_buf_text(&out), json);
    rig_buf_deinit(&out);
    rig_arena_deinit(&arena);
}

static void fails_within(struct place *place, const char *body,
                         const struct rig_script_limits *limits, int code, const char *words)
{
    struct rig_arena arena;
    struct rig_doc *result = NULL;
    struct rig_fault why;
    rig_arena_init(&arena, BUDGET);
    int err = call_body(place, body, NULL, limits, &arena, &result, &why);
    if (err != code || strstr(why.text, words) == NULL || result != NULL)
        fail_msg("%s: %d '%s', wanted %d '%s'", body, err, why.text, code, words);
    rig_arena_deinit(&arena);
}

static void fails(struct place *place, const char *body, int code, const char *words)
{
    fails_within(place, body, &patient, code, words);
}

static void documents_go_in_and_out(void **state)
{
    struct place *place = *state;
    gives(place, "return ctx", NULL, "null");
    gives(
        place, "return ctx",
        "{\"z\":[],\"a\":{},\"m\":[1,-2,null,true,false,\"\\u0000x\",[[]],{\"k\":[null]}],\"\":0}",
        "{\"\":0,\"a\":{},\"m\":[1,-2,null,true,false,\"\\u0000x\",[[]],{\"k\":[null]}],"
        "\"z\":[]}");
    gives(place, "return ctx.a.b[2] + 1", "{\"a\":{\"b\":[1,41]}}", "42");
    gives(place, "return { {}, list{}, list(), {1,2}, list{'a'} }", NULL,
          "[{},[],[],[1,2],[\"a\"]]");
    gives(place, "return { b = 1, a = null, c = nil }", NULL, "{\"a\":null,\"b\":1}");
    gives(place, "local l = ctx; l[#l + 1] = 'c'; return l", "[\"a\",\"b\"]",
          "[\"a\",\"b\",\"c\"]");
    gives(place, "local l = ctx; l[1] = nil; return l", "[\"a\"]", "[]");
    gives(place, "return { tostring(null), type(null), ctx == null, null == null, not null }",
          "null", "[\"null\",\"userdata\",true,true,false]");
    gives(place, "return { getmetatable(ctx) or 'none', getmetatable(ctx.l) }", "{\"l\":[]}",
          "[\"none\",\"list\"]");
    gives(place, "return nil", NULL, "null");
    gives(place, "", NULL, "null");
    gives(place, "return setmetatable({a=1}, {__index={b=2}, __pairs=function() end})", NULL,
          "{\"a\":1}");
}

static void numbers_keep_their_value(void **state)
{
    struct place *place = *state;
    gives(place, "return ctx", "[9223372036854775807,-9223372036854775808,0]",
          "[9223372036854775807,-9223372036854775808,0]");
    gives(place, "return { math.type(ctx[1]), math.type(ctx[2]), math.type(ctx[3]) }",
          "[1,1.5,1e3]", "[\"integer\",\"float\",\"float\"]");
    /* IEEE 754: the shortest decimal that reads back as the same double. */
    gives(place, "return { 0.1, 1/3, 1.5, 5e-324, 1.7976931348623157e308, 0.1+0.2, -0.0, 3.0 }",
          NULL,
          "[0.1,0.3333333333333333,1.5,4.94065645841247e-324,1.7976931348623157e+308,"
          "0.30000000000000004,0,3]");
    gives(place, "return { 2^53, 10 // 2, 7 / 2, 1e15, 100 * 1.0 }", NULL,
          "[9007199254740992,5,3.5,1000000000000000,100]");
    fails(place, "return { a = { 1, 0/0 } }", RIG_E_SCRIPT, "result.a[2]");
    fails(place, "return 1/0", RIG_E_SCRIPT, "not finite");
}

static void functions_are_no_document(void **state)
{
    fails(*state, "return { a = { b = function() end } }", RIG_E_SCRIPT, "t.f: result.a.b: ");
    fails(*state, "return tostring", RIG_E_SCRIPT, "function");
}

static void tables_are_lists_or_maps(void **state)
{
    struct place *place = *state;
    fails(place, "return { x = { 1, 2, k = 3 } }", RIG_E_SCRIPT, "result.x[1]: ");
    fails(place, "return { ports = { [8080] = 'a' } }", RIG_E_SCRIPT, "result.ports[8080]: ");
    fails(place, "return { { 1, nil, 3 } }", RIG_E_SCRIPT, "result[1][3]: ");
    fails(place, "return { [0] = 1 }", RIG_E_SCRIPT, "result[0]: ");
    fails(place, "return { [-1] = 1, [1] = 2 }", RIG_E_SCRIPT, "result[-1]: ");
    fails(place, "local l = list{1}; l.key = 2; return { l }", RIG_E_SCRIPT, "result[1].key: ");
    fails(place, "return { [1.5] = 1 }", RIG_E_SCRIPT, "neither");
    fails(place, "return { a = { [true] = 1 } }", RIG_E_SCRIPT, "result.a: ");
    fails(place, "return { [null] = 1 }", RIG_E_SCRIPT, "neither");
}

static void output_is_in_order(void **state)
{
    struct place *place = *state;
    /* The same however Lua hashes its strings in this state. */
    for (int i = 0; i < 5; i++) {
        gives(place,
              "local t, keys = {}, list{}\n"
              "for _, k in ipairs{'pear', 'fig', 'a', 'A', 'b', 'aa', ''} do t[k] = 1 end\n"
              "t[10] = 1 t[9] = 1 t[-1.5] = 1 t[true] = 1\n"
              "for k in pairs(t) do keys[#keys + 1] = k end return keys",
              NULL, "[-1.5,9,10,\"\",\"A\",\"a\",\"aa\",\"b\",\"fig\",\"pear\",true]");
        gives(place, "return { pear = 1, fig = 2, a = 3, A = 4, b = 5, aa = 6 }", NULL,
              "{\"A\":4,\"a\":3,\"aa\":6,\"b\":5,\"fig\":2,\"pear\":1}");
    }
    gives(place,
          "local t, seen = {a = 1, b = 2, c = 3}, list{}\n"
          "for k, v in pairs(t) do t.b = nil; t[k] = v + 1; seen[#seen + 1] = k end\n"
          "return { t, seen }",
          NULL, "[{\"a\":2,\"c\":4},[\"a\",\"c\"]]");
    gives(place,
          "local t = setmetatable({}, {__pairs = function(t) return function(_, k)\n"
          "if not k then return 1, 'x' end end, t, nil end})\n"
          "local out = list{} for k, v in pairs(t) do out[k] = v end return out",
          NULL, "[\"x\"]");
    fails(place, "for k in pairs(null) do end", RIG_E_SCRIPT, "table expected");
}

static void nesting_is_limited(void **state)
{
    struct place *place = *state;
    gives(place,
          "local t = 'x' for i = 1, 64 do t = {t} end\n"
          "local n = 0 while type(t) == 'table' do t = t[1] n = n + 1 end return n",
          NULL, "64");
    fails(place, "local t = 'x' for i = 1, 65 do t = {t} end return t", RIG_E_BUDGET,
          "nested too deeply");
    fails(place, "local t = {} for i = 1, 1e5 do t = {a = t} end return t", RIG_E_BUDGET,
          "nested too deeply");
    fails(place, "local t = {} t.t = t return t", RIG_E_BUDGET, "result.t.t.t.");
    /* As wide as it is deep: 2^60 nodes. */
    fails(place, "local t = {} for i = 1, 60 do t = {t, t} end return t", RIG_E_BUDGET,
          "the result needs more than");
    /* And on the way in: made in C, since no reader would. */
    struct rig_arena arena;
    struct rig_fault why;
    rig_arena_init(&arena, BUDGET);
    struct rig_doc *deep = rig_doc_list(&arena), *result;
    for (int i = 1; i < RIG_DOC_DEPTH_MAX + 1; i++) {
        struct rig_doc *outer = rig_doc_list(&arena);
        rig_doc_push(&arena, outer, deep);
        deep = outer;
    }
    assert_int_equal(call_body(place, "return 1", deep, NULL, &arena, &result, &why), RIG_E_BUDGET);
    assert_int_equal(call_body(place, "return ctx", deep->items[0], NULL, &arena, &result, &why),
                     0);
    assert_int_equal(rig_doc_depth(result), RIG_DOC_DEPTH_MAX);
    rig_arena_deinit(&arena);
}

static void sandbox_has_no_way_out(void **state)
{
    struct place *place = *state;
    static const char *const absent[] = {
        "io",
        "os",
        "debug",
        "package",
        "coroutine",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "collectgarbage",
        "print",
        "rawset",
        "warn",
        "_G",
        "string.dump",
        "math.random",
        "math.randomseed",
        "getmetatable(_ENV).x",
    };
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        char body[128];
        snprintf(body, sizeof(body), "return { a = %s }", absent[i]);
        gives(place, body, NULL, "{}");
    }
    gives(place,
          "return { string.upper('a'), ('x'):rep(2), #table.pack(1,2), math.floor(1.5),\n"
          "utf8.char(8364), select('#', 1, nil), tonumber('7'), (pcall(error)), rawlen{1} }",
          NULL, "[\"A\",\"xx\",2,1,\"\xe2\x82\xac\",2,7,false,1]");
    fails(place, "x = 1", RIG_E_SCRIPT, "t.lua:2: the global 'x' is assigned");
    fails(place, "string = nil", RIG_E_SCRIPT, "the global 'string' is assigned");
    fails(place, "function g() end", RIG_E_SCRIPT, "'g'");
    fails(place, "table.insert(_ENV, 1)", RIG_E_SCRIPT, "is assigned");
    fails(place, "setmetatable(_ENV, {})", RIG_E_SCRIPT, "protected");
    fails(place, "setmetatable(list{}, nil)", RIG_E_SCRIPT, "protected");
    fails(place, "return getmetatable('').__index.rep", RIG_E_SCRIPT, "");
    fails(place, "return ctx.a", RIG_E_SCRIPT, "index a userdata value (local 'ctx')");
    fails(place, "return null.a", RIG_E_SCRIPT, "index a userdata value");
}

static void errors_say_where(void **state)
{
    struct place *place = *state;
    fails(place, "\n\nerror('boom')", RIG_E_SCRIPT, "t.lua:4: boom (in f)");
    fails(place, "error('boom', 0)", RIG_E_SCRIPT, "t.lua:2: boom (in f)");
    fails(place, "local function help(x)\n return x.y end\n return help(nil) .. ''", RIG_E_SCRIPT,
          "t.lua:3: attempt to index a nil value (local 'x') (in help, called from t.lua:4)");
    fails(place, "error({ code = 1 })", RIG_E_SCRIPT, "t.lua:2: an error that is a table");
    fails(place, "error()", RIG_E_SCRIPT, "t.lua:2: an error that is a nil");
    fails(place, "error(setmetatable({}, {__tostring = function() while true do end end}))",
          RIG_E_SCRIPT, "a table");
    fails(place, "return nil, 'no key for namespace x'", RIG_E_SCRIPT, "no key for namespace x");
    fails(place, "return nil, {}", RIG_E_SCRIPT, "instead of a reason");
    fails(place, "this is no Lua", RIG_E_SCRIPT, "t.lua:2: ");
    fails(place, "error('a\\nb\\0c')", RIG_E_SCRIPT, "a b");
    struct rig_arena arena;
    struct rig_doc *result;
    struct rig_fault why;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(call_body(place, "return nil, 'why'", NULL, NULL, &arena, &result, &why),
                     RIG_E_SCRIPT);
    assert_string_equal(why.text, "why");
    /* No fault wanted. */
    put(place->shipped, "t.lua", "return { f = function() error('x') end }");
    assert_int_equal(rig_script_call(&place->dirs, "t", "f", NULL, NULL, &arena, &result, NULL),
                     RIG_E_SCRIPT);
    rig_arena_deinit(&arena);
}

static void protected_calls_work(void **state)
{
    struct place *place = *state;
    gives(place,
          "local function h(e) return 'h ' .. e end\n"
          "return { {pcall(error, 'x', 0)}, {xpcall(error, h, 'y', 0)},\n"
          "{xpcall(function(...) return select('#', ...), ... end, h, 1, 2)} }",
          NULL, "[[false,\"x\"],[false,\"h y\"],[true,2,1,2]]");
    gives(place, "return { xpcall(error, function() error('worse', 0) end, 'x') }", NULL,
          "[false,\"worse\"]");
    fails(place, "xpcall(error)", RIG_E_SCRIPT, "bad argument #2 to 'xpcall'");
}

static void huge_error_is_cut(void **state)
{
    struct place *place = *state;
    fails(place, "local s = string.rep('x', 5e6) error(s)", RIG_E_SCRIPT, "(in f)");
    fails(place, "error(string.rep('x', 5e6), 0)", RIG_E_SCRIPT, "t.lua:2: xxx");
    fails(place, "return nil, string.rep('y', 5e6)", RIG_E_SCRIPT, "yyyyy");
    fails(place, "local t = {} t[string.rep('z', 1e5)] = 0/0 return t", RIG_E_SCRIPT, "result.zzz");
}

static double processor_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void endless_scripts_end(void **state)
{
    struct place *place = *state;
    static const char *const bodies[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() pcall(f) f() end f()",
        "return pcall(function() while true do end end)",
        "local function h() while true do end end xpcall(h, h)",
        "local function h() while true do pcall(h) end end while true do xpcall(h, h) end",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] .. '' end}) "
        "while true do pcall(function() return t[1] end) end",
        "while true do local x <close> = setmetatable({}, "
        "{__close = function() while true do end end}) end",
        "while true do pcall(error, 'x') end",
        "table.sort({1,2,3}, function() while true do end end)",
        "local s = ('x'):rep(100) while true do s:gsub('x', function() while true do end end) end",
        "return tostring(setmetatable({}, {__tostring = function() while true do end end}))",
        "for k in pairs(setmetatable({}, {__pairs = function() while true do end end})) do end",
        "goto a ::a:: goto a",
    };
    static const char file[] = "local function f() return f() end return f()";
    struct rig_script_limits limits = {.max_instructions = 1000000, .max_ms = 500};
    double start = processor_s();
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        fails_within(place, bodies[i], &limits, RIG_E_BUDGET, "the budget of ");
    put(place->shipped, "endless.lua", file);
    struct rig_arena arena;
    struct rig_doc *result;
    struct rig_fault why;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(
        rig_script_call(&place->dirs, "endless", "f", NULL, NULL, &arena, &result, &why),
        RIG_E_BUDGET);
    rig_arena_deinit(&arena);
    assert_true(processor_s() - start < 20);
}

static void small_budgets_are_kept(void **state)
{
    struct rig_script_limits limits = {.max_instructions = 100};
    fails_within(*state, "for i = 1, 60 do end for i = 1, 60 do end", &limits, RIG_E_BUDGET,
                 "the budget of 100 instructions");
    limits.max_instructions = 400;
    struct rig_arena arena;
    struct rig_doc *result;
    struct rig_fault why;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(
        call_body(*state, "for i = 1, 60 do end", NULL, &limits, &arena, &result, &why), 0);
    rig_arena_deinit(&arena);
}

/* Few instructions, each of them long. */
static void slow_scripts_end(void **state)
{
    struct rig_script_limits limits = {.max_ms = 200};
    double start = processor_s();
    fails_within(*state,
                 "local t = {} for i = 1, 1e5 do t[i] = i end\n"
                 "while true do for i = 1, 1000 do table.insert(t, 1, i) end\n"
                 "for i = 1, 1000 do table.remove(t, 1) end end",
                 &limits, RIG_E_BUDGET, "the budget of ");
    assert_true(processor_s() - start < 2);
    static const char *const bodies[] = {
        "local s = string.rep('x', 8e6) while true do local t = s .. 'y' end",
        "local s = string.rep('x', 8e6) while true do pcall(string.reverse, s) end",
        "local s = string.rep('x', 8e6) while true do s:find('y', 1, true) end",
        "local s = string.rep('x', 24e6) while true do utf8.len(s) end",
        "local s = string.rep('x', 24e6) while true do utf8.offset(s, #s) end",
        "local s = string.rep('1', 24e6) while true do tonumber(s) end",
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.sort(t) end",
        "local t = {} for i = 1, 5e5 do t[i] = i end while true do select('#', table.unpack(t)) "
        "end",
        "local t = {} for i = 1, 5e5 do t[i] = '' end while true do table.concat(t) end",
        /* Each refusal of memory is a collection of all there is. */
        "local t, f = nil, function() local a = {{}, {}, {}, {}} end\n"
        "local function add() t = {t} end while pcall(add) do end\n"
        "while true do pcall(f) end",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        start = processor_s();
        fails_within(*state, bodies[i], &limits, RIG_E_BUDGET, "the budget of ");
        if (processor_s() - start > 2)
            fail_msg("%s: took %g s", bodies[i], processor_s() - start);
    }
}

/* One loop serves everybody: who says nothing gets no more than half a second of it. */
static void default_time_is_short(void **state)
{
    double start = processor_s();
    fails_within(*state, "local s = string.rep('x', 4e6) while true do local t = s .. 'y' end",
                 NULL, RIG_E_BUDGET, "the budget of 500 ms");
    assert_true(processor_s() - start < 3);
}

static void endless_c_functions_are_refused(void **state)
{
    struct place *place = *state;
    gives(place, "return { string.rep('', 1e15), string.rep('a', 3, ','), ('ab'):rep(0) }", NULL,
          "[\"\",\"a,a,a\",\"\"]");
    fails(place, "setmetatable({}, {__gc = function() while true do end end})", RIG_E_SCRIPT,
          "__gc");
    gives(place,
          "local m = {} local t = setmetatable({}, m) m.__gc = function() while true do end end",
          NULL, "null");
    fails(place, "table.move({}, 1, math.maxinteger - 1, 2)", RIG_E_SCRIPT, "too many");
    fails(place, "table.move({}, math.mininteger, math.maxinteger - 1, 2)", RIG_E_SCRIPT, "");
    fails(place,
          "local t = setmetatable({}, {__len = function() return 1 << 60 end}) "
          "table.insert(t, 1, 2)",
          RIG_E_SCRIPT, "__len");
    fails(place,
          "local t = setmetatable({}, {__len = function() return 1 << 60 end}) "
          "table.remove(t, 1)",
          RIG_E_SCRIPT, "__len");
    fails(place,
          "table.sort(setmetatable({}, {__len = function() return 1 << 30 end, "
          "__index = rawequal, __newindex = rawequal}), rawequal)",
          RIG_E_SCRIPT, "__len");
    fails(place, "return table.concat({}, '', 1, 1 << 60)", RIG_E_SCRIPT, "");
    /* Elements that a C function makes up, none of which needs memory. */
    fails(place,
          "return table.concat(setmetatable({}, {__index = getmetatable, __metatable = ''}), '', "
          "1, 1 << 60)",
          RIG_E_SCRIPT, "too many");
    fails(place,
          "return table.concat(setmetatable({}, {__index = getmetatable, __metatable = '', "
          "__len = function() return 1 << 60 end}))",
          RIG_E_SCRIPT, "too many");
    gives(place,
          "return { table.concat({1,2,3}, ',', 2), table.concat({}), {table.unpack({1,2})} }", NULL,
          "[\"2,3\",\"\",[1,2]]");
    fails(place, "return table.unpack({}, 1, 1 << 60)", RIG_E_SCRIPT, "too many");
    gives(place,
          "local t = {1,2,3} table.insert(t, 4) table.insert(t, 1, 0) table.remove(t)\n"
          "table.sort(t, function(a, b) return a > b end)\n"
          "return { t, table.move({7,8}, 1, 2, 2, {6}), #table.move({}, 1, 0, 1) }",
          NULL, "[[3,2,1,0],[6,7,8],0]");
}

static void memory_is_limited(void **state)
{
    struct place *place = *state;
    fails(place, "return #string.rep('x', 300 * 1024 * 1024)", RIG_E_BUDGET, "33554432 octets");
    fails(place, "local t = {} for i = 1, 1e9 do t[i] = {} end", RIG_E_BUDGET, "octets");
    fails(place, "local s = 'x' while true do s = s .. s end", RIG_E_BUDGET, "octets");
    fails(place, "local function f() return 1 + f() end return f()", RIG_E_BUDGET, "octets");
    fails(place, "return table.concat(setmetatable({}, {__index = type}), '', 1, 1 << 23)",
          RIG_E_BUDGET, "octets");
    /* What a script throws away does not count. */
    gives(place, "for i = 1, 40 do local s = string.rep('x', 1000000) end return 1", NULL, "1");
    /* Caught is fine, as long as it fits. */
    gives(place, "return (pcall(string.rep, 'x', 1 << 40))", NULL, "false");
    /* Every amount, from nothing on: no crash, no leak. */
    int passed = 0, refused = 0;
    for (size_t bytes = 1; bytes < 64000; bytes += 501) {
        struct rig_script_limits limits = {.max_bytes = bytes};
        struct rig_arena arena;
        struct rig_doc *result;
        struct rig_fault why;
        rig_arena_init(&arena, BUDGET);
        int err = call_body(place, "return { a = list{1, 'x'}, b = tostring(1) }", NULL, &limits,
                            &arena, &result, &why);
        assert_true(err == 0 || err == RIG_E_BUDGET);
        passed += err == 0;
        refused += err != 0;
        rig_arena_deinit(&arena);
    }
    assert_true(passed > 0 && refused > 0);
}

static void arena_is_the_results_budget(void **state)
{
    struct rig_doc *result;
    struct rig_fault why;
    for (size_t budget = 0; budget < 2000; budget += 16) {
        struct rig_arena arena;
        rig_arena_init(&arena, budget);
        int err = call_body(*state, "return { a = list{1, 2.5, 'x', null, true}, b = { c = 1 } }",
                            NULL, NULL, &arena, &result, &why);
        assert_true(err == 0 || err == RIG_E_BUDGET);
        assert_true((result != NULL) == (err == 0));
        rig_arena_deinit(&arena);
    }
}

static void absent_scripts_are_named(void **state)
{
    struct place *place = *state;
    struct rig_arena arena;
    struct rig_doc *result;
    struct rig_fault why;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(
        rig_script_call(&place->dirs, "cert_policy", "f", NULL, NULL, &arena, &result, &why),
        RIG_E_ABSENT);
    assert_non_null(strstr(why.text, "/site/cert_policy.lua, "));
    assert_non_null(strstr(why.text, "/shipped/cert_policy.lua"));
    put(place->shipped, "cert_policy.lua", "return { g = function() end }");
    assert_int_equal(
        rig_script_call(&place->dirs, "cert_policy", "f", NULL, NULL, &arena, &result, &why),
        RIG_E_ABSENT);
    assert_non_null(strstr(why.text, "'f'"));
    assert_non_null(strstr(why.text, "/shipped/cert_policy.lua"));
    put(place->shipped, "cert_policy.lua", "return { f = 1 }");
    assert_int_equal(
        rig_script_call(&place->dirs, "cert_policy", "f", NULL, NULL, &arena, &result, &why),
        RIG_E_SCRIPT);
    put(place->shipped, "cert_policy.lua", "local x = 1");
    assert_int_equal(
        rig_script_call(&place->dirs, "cert_policy", "f", NULL, NULL, &arena, &result, &why),
        RIG_E_SCRIPT);
    assert_non_null(strstr(why.text, "cert_policy.lua does not return"));
    const char *none[] = {NULL};
    struct rig_script_dirs dirs = {.dirs = none};
    assert_int_equal(rig_script_call(&dirs, "x", "f", NULL, NULL, &arena, &result, &why),
                     RIG_E_ABSENT);
    static const char *const names[] = {"",    ".", "..",  "a..b",  ".a",          "a.", "../t",
                                        "a/b", "A", "a-b", "site.", "/etc/passwd", "a b"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(
            rig_script_call(&place->dirs, names[i], "f", NULL, NULL, &arena, &result, &why),
            RIG_E_ABSENT);
    rig_arena_deinit(&arena);
}

static void site_comes_first_and_may_leave_out(void **state)
{
    struct place *place = *state;
    put(place->shipped, "p.lua",
        "return { f = function() return 'shipped f' end, "
        "g = function() return 'shipped g' end }");
    put(place->site, "p.lua",
        "local s = require 'shipped.p' "
        "return { f = function() return 'site over ' .. s.f() end }");
    struct rig_arena arena;
    struct rig_doc *result;
    struct rig_fault why;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(rig_script_call(&place->dirs, "p", "f", NULL, NULL, &arena, &result, &why), 0);
    assert_string_equal((const char *)result->text.at, "site over shipped f");
    assert_int_equal(rig_script_call(&place->dirs, "p", "g", NULL, NULL, &arena, &result, &why), 0);
    assert_string_equal((const char *)result->text.at, "shipped g");
    /* A broken override is an error, not a reason to take the shipped one. */
    put(place->site, "p.lua", "return {");
    assert_int_equal(rig_script_call(&place->dirs, "p", "g", NULL, NULL, &arena, &result, &why),
                     RIG_E_SCRIPT);
    assert_non_null(strstr(why.text, "p.lua:1: "));
    rig_arena_deinit(&arena);
}

static void require_stays_inside(void **state)
{
    struct place *place = *state;
    char lib[128];
    snprintf(lib, sizeof(lib), "%s/lib", place->shipped);
    mkdir(lib, 0700);
    put(lib, "quantity.lua", "return { n = 7 }");
    put(place->root, "out.lua", "return 'out'");
    put(place->shipped, "nothing.lua", "");
    put(place->shipped, "round.lua", "return require 'round'");
    put(place->site, "both.lua", "return 'site'");
    put(place->shipped, "both.lua", "return 'shipped'");
    gives(place, "return require('lib.quantity').n", NULL, "7");
    gives(place, "return require('shipped.lib.quantity') == require('lib.quantity')", NULL, "true");
    gives(place, "return { require 'both', require 'site.both', require 'shipped.both' }", NULL,
          "[\"site\",\"site\",\"shipped\"]");
    gives(place, "return require 'nothing'", NULL, "true");
    fails(place, "require 'round'", RIG_E_SCRIPT, "round");
    fails(place, "require 'absent'", RIG_E_SCRIPT, "'absent'");
    fails(place, "require 'site.lib.quantity'", RIG_E_SCRIPT, "site.lib.quantity");
    fails(place, "require '../out'", RIG_E_SCRIPT, "no name");
    fails(place, "require '..out'", RIG_E_SCRIPT, "no name");
    fails(place, "require '/etc/passwd'", RIG_E_SCRIPT, "no name");
    fails(place, "require('lib/quantity')", RIG_E_SCRIPT, "no name");
    fails(place, "require('both\\0x')", RIG_E_SCRIPT, "");
    fails(place, "require(('a'):rep(5000))", RIG_E_SCRIPT, "too long");
    fails(place, "require({})", RIG_E_SCRIPT, "");
    put(place->shipped, "bytecode.lua", "\x1bLua");
    fails(place, "require 'bytecode'", RIG_E_SCRIPT, "binary chunk");
    put(place->shipped, "broken.lua", "\n\nx = = 1");
    fails(place, "require 'broken'", RIG_E_SCRIPT, "broken.lua:3: ");
}

/* Patterns and texts from few letters, so that they match often; what each function answers. */
static const char pattern_cases[] =
    "local M = {}\n"
    "local seed = 1\n"
    "local function pick(n) seed = (seed * 1103515245 + 12345) % 2147483648\n"
    "  return (seed // 65536) % n + 1 end\n"
    "local atoms = {'a','b','.','%a','%A','[ab]','[^a]','[%w_]','[a-c]','(',')','()','%1','%2',\n"
    "  '%bab','%f[a]','%f[^%w]','^','$','%','[','[]','[]]','[^]]','[a-]','%.','%%','-','*','+',\n"
    "  '?','(a','b)','%s','%u','%x','%p','[%','%b','%f','%9','\\0','[\\0a]','%g','\\xff'}\n"
    "local suffixes = {'','','','*','+','-','?'}\n"
    "local letters = {'a','b','c','A','1',' ','.','%','\\0','\\xff','ab','ba'}\n"
    "local repls = {'<%0>','%1','%2','x','%%','%','%a',7,false,{ab='T',a=false,b=1},\n"
    "  function(...) return select('#', ...) .. tostring((...)) end,\n"
    "  function() return nil end, function() return {} end}\n"
    "local function show(...)\n"
    "  local out = {}\n"
    "  for i = 1, select('#', ...) do local v = select(i, ...)\n"
    "    out[i] = type(v) == 'string' and string.format('%q', v) or tostring(v) end\n"
    "  if out[1] == 'false' then return 'error' end\n"
    "  return table.concat(out, ' ')\n"
    "end\n"
    "local function all(s, p, init)\n"
    "  local out = {}\n"
    "  for a, b, c in string.gmatch(s, p, init) do out[#out + 1] = show(true, a, b, c) end\n"
    "  return table.concat(out, ';')\n"
    "end\n"
    "function M.f(ctx)\n"
    "  local out = {}\n"
    "  for i = 1, ctx do\n"
    "    local p, s = pick(4) == 1 and '^' or '', ''\n"
    "    for _ = 1, pick(5) do p = p .. atoms[pick(#atoms)] .. suffixes[pick(#suffixes)] end\n"
    "    if pick(5) == 1 then p = p .. '$' end\n"
    "    for _ = 1, pick(9) - 1 do s = s .. letters[pick(#letters)] end\n"
    "    local init, plain, n = pick(15) - 7, pick(8) == 1, pick(4) == 1 and pick(4) - 1 or nil\n"
    "    local repl = repls[pick(#repls)]\n"
    "    out[#out + 1] = table.concat({string.format('%q %q', s, p),\n"
    "      show(pcall(string.find, s, p, init, plain)), show(pcall(string.find, s, p)),\n"
    "      show(pcall(string.match, s, p, init)), show(pcall(all, s, p, init)),\n"
    "      show(pcall(string.gsub, s, p, repl, n))}, '|')\n"
    "  end\n"
    "  return table.concat(out, '\\n')\n"
    "end\n"
    "return M\n";

/* Lua's own matcher says what is right. */
static void patterns_match_as_luas_own(void **state)
{
    struct place *place = *state;
    const lua_Integer count = 20000;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    assert_int_equal(luaL_dostring(L, pattern_cases), LUA_OK);
    lua_getfield(L, -1, "f");
    lua_pushinteger(L, count);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK)
        fail_msg("%s", lua_tostring(L, -1));
    const char *expected = lua_tostring(L, -1);

    put(place->shipped, "patterns.lua", pattern_cases);
    struct rig_script_limits limits = {.max_instructions = 1u << 30, .max_ms = 60000};
    struct rig_arena arena;
    struct rig_doc *result;
    struct rig_fault why = {""};
    rig_arena_init(&arena, 32u << 20);
    int err = rig_script_call(&place->dirs, "patterns", "f", rig_doc_int(&arena, count), &limits,
                              &arena, &result, &why);
    if (err != 0)
        fail_msg("%d %s", err, why.text);
    const char *got = (const char *)result->text.at;
    assert_true(strlen(got) > 100000);
    while (*got != '\0' || *expected != '\0') {
        size_t len = strcspn(got, "\n");
        if (len != strcspn(expected, "\n") || memcmp(got, expected, len) != 0)
            fail_msg("ours\n%.*s\nLua's\n%.*s", (int)len, got, (int)strcspn(expected, "\n"),
                     expected);
        got += len + (got[len] != '\0');
        expected += len + (expected[len] != '\0');
    }
    lua_close(L);
    rig_arena_deinit(&arena);
}

static void patterns_are_budgeted(void **state)
{
    struct place *place = *state;
    static const char *const bodies[] = {
        "return ('a'):rep(40):find(('a*'):rep(30) .. 'b')",
        "return ('a'):rep(100000):find('.-.-.-.-b')",
        "return ('a'):rep(100000):match('(.-)(.-)(.-)%1%2%3b')",
        "return (('a'):rep(10000):gsub('.-.-.-b', ''))",
        "for x in ('a'):rep(10000):gmatch('.-.-.-b') do end",
        "return ('('):rep(1000000):find('%b()%b()')",
        "return (' '):rep(1000000):match('^%s*(.-)%s*$x')",
        "return (' '):rep(200000):find(' *$x')",
        "return ('x'):rep(100000):find('[' .. ('a'):rep(100000) .. ']')",
        "while true do pcall(string.find, ('a'):rep(40), ('a*'):rep(30) .. 'b') end",
    };
    double start = processor_s();
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        fails(place, bodies[i], RIG_E_BUDGET, "the budget of 10000000 instructions");
    /* Plain search is linear, however the text is made. */
    gives(place, "return ('a'):rep(2000000):find(('a'):rep(1000000) .. 'b', 1, true)", NULL,
          "null");
    assert_true(processor_s() - start < 30);
    fails(place, "return ('a'):rep(300):find(('a?'):rep(300))", RIG_E_SCRIPT, "too complex");
    fails(place, "return ('a'):find(('('):rep(40))", RIG_E_SCRIPT, "too many captures");
    gives(place, "return (('  x  '):match('^%s*(.-)%s*$'))", NULL, "\"x\"");
}

static void nothing_stays_between_calls(void **state)
{
    struct place *place = *state;
    put(place->shipped, "count.lua",
        "local n = 0 return { f = function() n = n + 1 "
        "string.seen = (string.seen or 0) + 1 "
        "return n + string.seen end }");
    for (int i = 0; i < 3; i++) {
        struct rig_arena arena;
        struct rig_doc *result;
        rig_arena_init(&arena, BUDGET);
        assert_int_equal(
            rig_script_call(&place->dirs, "count", "f", NULL, NULL, &arena, &result, NULL), 0);
        assert_string_equal((const char *)result->text.at, "2");
        rig_arena_deinit(&arena);
    }
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(documents_go_in_and_out, make_place, remove_place),
    cmocka_unit_test_setup_teardown(numbers_keep_their_value, make_place, remove_place),
    cmocka_unit_test_setup_teardown(functions_are_no_document, make_place, remove_place),
    cmocka_unit_test_setup_teardown(tables_are_lists_or_maps, make_place, remove_place),
    cmocka_unit_test_setup_teardown(output_is_in_order, make_place, remove_place),
    cmocka_unit_test_setup_teardown(nesting_is_limited, make_place, remove_place),
    cmocka_unit_test_setup_teardown(sandbox_has_no_way_out, make_place, remove_place),
    cmocka_unit_test_setup_teardown(errors_say_where, make_place, remove_place),
    cmocka_unit_test_setup_teardown(protected_calls_work, make_place, remove_place),
    cmocka_unit_test_setup_teardown(huge_error_is_cut, make_place, remove_place),
    cmocka_unit_test_setup_teardown(endless_scripts_end, make_place, remove_place),
    cmocka_unit_test_setup_teardown(small_budgets_are_kept, make_place, remove_place),
    cmocka_unit_test_setup_teardown(slow_scripts_end, make_place, remove_place),
    cmocka_unit_test_setup_teardown(default_time_is_short, make_place, remove_place),
    cmocka_unit_test_setup_teardown(endless_c_functions_are_refused, make_place, remove_place),
    cmocka_unit_test_setup_teardown(memory_is_limited, make_place, remove_place),
    cmocka_unit_test_setup_teardown(arena_is_the_results_budget, make_place, remove_place),
    cmocka_unit_test_setup_teardown(absent_scripts_are_named, make_place, remove_place),
    cmocka_unit_test_setup_teardown(site_comes_first_and_may_leave_out, make_place, remove_place),
    cmocka_unit_test_setup_teardown(require_stays_inside, make_place, remove_place),
    cmocka_unit_test_setup_teardown(patterns_match_as_luas_own, make_place, remove_place),
    cmocka_unit_test_setup_teardown(patterns_are_budgeted, make_place, remove_place),
    cmocka_unit_test_setup_teardown(nothing_stays_between_calls, make_place, remove_place))
