/* SPDX-License-Identifier: Apache-2.0 */
/* YAML by the 1.2.2 specification's examples, and texts that are made to hurt. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/yaml.h"

#define BUDGET (1u << 20)

/* The document that `text` gives, as compact JSON. */
static void reads_as(const char *text, const char *json)
{
    struct rig_arena arena;
    struct rig_buf out = {0};
    struct rig_doc *doc = NULL;
    struct rig_fault why = {""};
    rig_arena_init(&arena, BUDGET);
    int err = rig_yaml_read(rig_slice_text(text), "t.yaml", &arena, &doc, &why);
    if (err != 0)
        fail_msg("%s\n%d %s", text, err, why.text);
    rig_json_write(doc, RIG_JSON_COMPACT, &out);
    assert_string_equal(rig_buf_text(&out), json);
    rig_buf_deinit(&out);
    rig_arena_deinit(&arena);
}

/* `text` fails with `code` in a sentence that starts with "t.yaml:<line>: " and holds `words`. */
static void refuses(const char *text, int code, int line, const char *words)
{
    struct rig_arena arena;
    struct rig_doc *doc = NULL;
    struct rig_fault why = {""};
    char place[32];
    rig_arena_init(&arena, BUDGET);
    int err = rig_yaml_read(rig_slice_text(text), "t.yaml", &arena, &doc, &why);
    snprintf(place, sizeof(place), "t.yaml:%d: ", line);
    if (err != code || strncmp(why.text, place, strlen(place)) != 0 ||
        strstr(why.text, words) == NULL || doc != NULL)
        fail_msg("<%s>\n%d '%s', wanted %d '%s... %s'", text, err, why.text, code, place, words);
    rig_arena_deinit(&arena);
}

static void reads_chapter_two(void **state)
{
    (void)state;
    reads_as("- Mark McGwire\n- Sammy Sosa\n- Ken Griffey\n",
             "[\"Mark McGwire\",\"Sammy Sosa\",\"Ken Griffey\"]"); /* 2.1 */
    reads_as("hr:  65    # Home runs\navg: 0.278 # Batting average\nrbi: 147   # Runs Batted In\n",
             "{\"hr\":65,\"avg\":0.278,\"rbi\":147}"); /* 2.2 */
    reads_as("american:\n- Boston Red Sox\n- Detroit Tigers\nnational:\n- New York Mets\n",
             "{\"american\":[\"Boston Red Sox\",\"Detroit Tigers\"],\"national\":[\"New York "
             "Mets\"]}"); /* 2.3 */
    reads_as(
        "-\n  name: Mark McGwire\n  hr:   65\n-\n  name: Sammy Sosa\n  hr:   63\n",
        "[{\"name\":\"Mark McGwire\",\"hr\":65},{\"name\":\"Sammy Sosa\",\"hr\":63}]"); /* 2.4 */
    reads_as("- [name        , hr]\n- [Mark McGwire, 65]\n",
             "[[\"name\",\"hr\"],[\"Mark McGwire\",65]]"); /* 2.5 */
    reads_as("Mark McGwire: {hr: 65, avg: 0.278}\nSammy Sosa: {\n    hr: 63,\n  }\n",
             "{\"Mark McGwire\":{\"hr\":65,\"avg\":0.278},\"Sammy Sosa\":{\"hr\":63}}"); /* 2.6 */
    reads_as("---\nhr:\n  - Mark McGwire\n  # Following node labeled SS\n  - &SS Sammy Sosa\nrbi:\n"
             "  - *SS # Subsequent occurrence\n  - Ken Griffey\n",
             "{\"hr\":[\"Mark McGwire\",\"Sammy Sosa\"],\"rbi\":[\"Sammy Sosa\",\"Ken "
             "Griffey\"]}"); /* 2.10 */
    reads_as("# ASCII Art\n--- |\n  \\//||\\/||\n  // ||  ||__\n",
             "\"\\\\//||\\\\/||\\n// ||  ||__\\n\""); /* 2.13 */
    reads_as("--- >\n  Mark McGwire's\n  year was crippled\n  by a knee injury.\n",
             "\"Mark McGwire's year was crippled by a knee injury.\\n\""); /* 2.14 */
    reads_as("unicode: \"Sosa did fine.\\u263A\"\ncontrol: \"\\b1998\\t1999\\t2000\\n\"\n"
             "hex esc: \"\\x0d\\x0a is \\r\\n\"\n\nsingle: '\"Howdy!\" he cried.'\n"
             "quoted: ' # Not a ''comment''.'\ntie-fighter: '|\\-*-/|'\n",
             "{\"unicode\":\"Sosa did fine.\xe2\x98\xba\",\"control\":\"\\b1998\\t1999\\t2000\\n\","
             "\"hex esc\":\"\\r\\n is \\r\\n\",\"single\":\"\\\"Howdy!\\\" he cried.\","
             "\"quoted\":\" # Not a 'comment'.\",\"tie-fighter\":\"|\\\\-*-/|\"}"); /* 2.17 */
}

static void plain_scalars_follow_the_core_schema(void **state)
{
    (void)state;
    /* 10.9, without its last line */
    reads_as("A null: null\nBooleans: [ true, True, false, FALSE ]\n"
             "Integers: [ 0, 0o7, 0x3A, -19 ]\nFloats: [ 0., -0.0, .5, +12e03, -2E+05 ]\n",
             "{\"A null\":null,\"Booleans\":[true,true,false,false],\"Integers\":[0,7,58,-19],"
             "\"Floats\":[0,-0.0,0.5,12e03,-2E+05]}");
    reads_as("[~, null, Null, NULL, TRUE, False]", "[null,null,null,null,true,false]");
    reads_as("a:\nb: ~\n", "{\"a\":null,\"b\":null}");
    reads_as("[0xffffffffffffffff, 0o1777777777777777777777, 0xA, 007, -010, +5, 1.10, "
             "10000000000000000001]",
             "[18446744073709551615,18446744073709551615,10,7,-10,5,1.10,10000000000000000001]");
    /* Words of 1.1, and what only looks like a number. */
    reads_as("[yes, no, on, Off, y, 1_000, 12:30:45, 0b11, 0x, 0xfg, 0o8, -0x1, ., +, -, 1e, 1.e+, "
             "e5, .e5, 2001-12-14, nULL, tRUE, 1 2, ..5, 1.2.3, +.5.]",
             "[\"yes\",\"no\",\"on\",\"Off\",\"y\",\"1_000\",\"12:30:45\",\"0b11\",\"0x\",\"0xfg\","
             "\"0o8\",\"-0x1\",\".\",\"+\",\"-\",\"1e\",\"1.e+\",\"e5\",\".e5\",\"2001-12-14\","
             "\"nULL\",\"tRUE\",\"1 2\",\"..5\",\"1.2.3\",\"+.5.\"]");
    reads_as("['null', \"true\", '1', \"\", '', \"0x1\"]",
             "[\"null\",\"true\",\"1\",\"\",\"\",\"0x1\"]");
    reads_as("- |\n  1\n- >-\n  true\n", "[\"1\\n\",\"true\"]");
    refuses("a:\n - .inf\n", RIG_E_RANGE, 2, ".inf");
    refuses("-.Inf", RIG_E_RANGE, 1, "-.Inf");
    refuses("[+.INF]", RIG_E_RANGE, 1, "+.INF");
    refuses("[1,\n.nan]", RIG_E_RANGE, 2, ".nan");
    reads_as("['.inf', .infinity, .Nan, -.nan]", "[\".inf\",\".infinity\",\".Nan\",\"-.nan\"]");
    refuses("a: 0x1ffffffffffffffff", RIG_E_RANGE, 1, "64 bits");
    refuses("a: 0o2000000000000000000000", RIG_E_RANGE, 1, "64 bits");
}

static void tags_of_the_core_schema_are_known(void **state)
{
    (void)state;
    reads_as(
        "[!!str 12, !!str null, !!int '12', !!float 1, !!float '.5', !!bool \"true\", !!null '']",
        "[\"12\",\"null\",12,1,0.5,true,null]");
    reads_as("[! 12, ! null, ! '1']", "[\"12\",\"null\",\"1\"]");
    reads_as("!!map {a: !!seq [!!str x], ! \"b\": ! '1'}", "{\"a\":[\"x\"],\"b\":\"1\"}");
    reads_as("%TAG !y! tag:yaml.org,2002:\n---\n!y!str 1\n", "\"1\"");
    refuses("a: !secret x", RIG_E_SYNTAX, 1, "!secret");
    refuses("a:\n  !!binary aGk=", RIG_E_SYNTAX, 2, "binary");
    refuses("!!set {a, b}", RIG_E_SYNTAX, 1, "set");
    refuses("[1,\n!!int 1.5]", RIG_E_SYNTAX, 2, "int");
    refuses("!!int word", RIG_E_SYNTAX, 1, "int");
    refuses("!!bool 1", RIG_E_SYNTAX, 1, "bool");
    refuses("!!null x", RIG_E_SYNTAX, 1, "null");
    refuses("!!seq {}", RIG_E_SYNTAX, 1, "seq");
    refuses("!!map []", RIG_E_SYNTAX, 1, "map");
    refuses("!!str {}", RIG_E_SYNTAX, 1, "str");
    refuses("{!!int 1: 2}", RIG_E_SYNTAX, 1, "key");
    refuses("!<tag:example.com,2000:x> y", RIG_E_SYNTAX, 1, "example.com");
    refuses("!u!x y", RIG_E_SYNTAX, 1, "");
}

static void keys_are_text(void **state)
{
    (void)state;
    reads_as("8080: a\ntrue: b\nnull: c\n0x1F: d\n\"\": e\n.inf: f\n'<<': g\n? h\n: i\n",
             "{\"8080\":\"a\",\"true\":\"b\",\"null\":\"c\",\"0x1F\":\"d\",\"\":\"e\",\".inf\":"
             "\"f\",\"<<\":\"g\",\"h\":\"i\"}");
    refuses("a: 1\n? [x]\n: 1\n", RIG_E_SYNTAX, 2, "key");
    refuses("? {x: y}\n: 1\n", RIG_E_SYNTAX, 1, "key");
    refuses("a: &k b\n*k : c\n", RIG_E_SYNTAX, 2, "key");
    refuses("a: 1\n?\n: 2\n", RIG_E_SYNTAX, 2, "key is missing");
    refuses("{: 2}", RIG_E_SYNTAX, 1, "");
    refuses("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n", RIG_E_SYNTAX, 3, "<<");
    refuses("a: 1\nb: 2\na: 3\n", RIG_E_SYNTAX, 3, "\"a\" stands on line 1 already");
    refuses("{a: 1, \"a\": 3}", RIG_E_SYNTAX, 1, "\"a\"");
    refuses("{\"a\": 1,\n\"\\u0061\": 3}", RIG_E_SYNTAX, 2, "\"a\"");
    refuses("x:\n  - y: {1: 2,\n    1: 3}", RIG_E_SYNTAX, 3, "\"1\" stands on line 2 already");
}

static void every_json_text_is_read(void **state)
{
    (void)state;
    /* What libyaml alone refuses or reads as something else: RFC 8259, 7's clef in two escapes,
     * a line separator and DEL in a string, tabs, a key that is not followed by its colon. */
    reads_as("{\"\\uD834\\uDD1E\":\"\xe2\x80\xa8\x7f\xc2\x85\"}",
             "{\"\xf0\x9d\x84\x9e\":\"\xe2\x80\xa8\x7f\xc2\x85\"}");
    reads_as("\"\\uD834\\uDD1E\"", "\"\xf0\x9d\x84\x9e\"");
    reads_as("\t{\t\"a\"\n:\n\t[ ]}", "{\"a\":[]}");
    reads_as("\"a\\/\\u0000\"", "\"a/\\u0000\"");
    reads_as("[1.10,10000000000000000001,1E400]", "[1.10,10000000000000000001,1E400]");
    reads_as("42", "42");
    /* And what starts like JSON and is YAML. */
    reads_as("{a: 'b',\n # c\n \"d\": [e,]}", "{\"a\":\"b\",\"d\":[\"e\"]}");
    reads_as("\"a\": b\n", "{\"a\":\"b\"}");
    reads_as("{a: '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['}",
             "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}");
}

static void nodes_carry_their_line(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\na: 1\nb:\n  - x\n  -\n    c: |\n      t\n    d: e\n",
        "\n{\"a\": 1,\n\"b\":\n [\"x\",\n  {\n  \"c\": \"t\\n\",\n\n  \"d\": \"e\"}]}",
    };
    for (size_t i = 0; i < 2; i++) {
        struct rig_arena arena;
        struct rig_doc *doc;
        struct rig_fault why;
        rig_arena_init(&arena, BUDGET);
        assert_int_equal(rig_yaml_read(rig_slice_text(texts[i]), "t", &arena, &doc, &why), 0);
        assert_int_equal(doc->line, 2);
        assert_int_equal(doc->members[0].line, 2);
        assert_int_equal(doc->members[0].value->line, 2);
        assert_int_equal(doc->members[1].line, 3);
        struct rig_doc *list = doc->members[1].value;
        assert_int_equal(list->line, 4);
        assert_int_equal(list->items[0]->line, 4);
        struct rig_doc *map = list->items[1];
        assert_int_equal(map->members[0].line, 6);
        assert_int_equal(map->members[1].line, 8);
        assert_string_equal(rig_doc_get_text(map, "c", NULL), "t\n");
        rig_arena_deinit(&arena);
    }
}

static void nothing_is_a_null_node(void **state)
{
    (void)state;
    reads_as("", "null");
    reads_as("# only a comment\n\n", "null");
    reads_as("---\n", "null");
    reads_as("---\n...\n", "null");
    struct rig_arena arena;
    struct rig_doc *doc = NULL;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(rig_yaml_read(rig_slice(NULL, 0), "t", &arena, &doc, NULL), 0);
    assert_int_equal(doc->kind, RIG_DOC_NULL);
    rig_arena_deinit(&arena);
}

static void refuses_what_is_not_yaml(void **state)
{
    (void)state;
    refuses("a: 1\nb: [1, 2\nc: 3\n", RIG_E_SYNTAX, 3, "");
    refuses("a: 'x\n", RIG_E_SYNTAX, 2, "");
    refuses("a:\n\t- b\n", RIG_E_SYNTAX, 2, "");
    refuses("a: 1\n  b: 2\n", RIG_E_SYNTAX, 2, "");
    refuses("a: b: c\n", RIG_E_SYNTAX, 1, "");
    refuses("a: 1\n- b\n", RIG_E_SYNTAX, 2, "");
    refuses("[1]]", RIG_E_SYNTAX, 1, "");
    refuses("a: \"\\q\"", RIG_E_SYNTAX, 1, "");
    refuses("a: \"\\uD834\"", RIG_E_SYNTAX, 1, ""); /* a lone surrogate */
    refuses("a: \"\\U00110000\"", RIG_E_SYNTAX, 1, "");
    refuses("a: @b", RIG_E_SYNTAX, 1, "");
    refuses("a: *b", RIG_E_SYNTAX, 1, "*b");
    refuses("%YAML 3.0\n---\na\n", RIG_E_SYNTAX, 1, "");
    refuses("a: 1\n---\nb: 2\n", RIG_E_SYNTAX, 2, "second document");
    refuses("--- a\n--- b\n", RIG_E_SYNTAX, 2, "second document");
    /* Not UTF-8, and characters that YAML 1.2, 5.1 leaves out. */
    refuses("a: 1\nb: \x80\n", RIG_E_SYNTAX, 2, "");
    refuses("a: \xc0\xaf\n", RIG_E_SYNTAX, 1, "");
    refuses("a: 1\n\nb: \xed\xa0\x80\n", RIG_E_SYNTAX, 3, "");
    refuses("a: \xf4\x90\x80\x80\n", RIG_E_SYNTAX, 1, "");
    refuses("a: \xe2\x82", RIG_E_SYNTAX, 1, "");
    refuses("a: \x01\n", RIG_E_SYNTAX, 1, "");
    refuses("\xff\xfe"
            "a",
            RIG_E_SYNTAX, 1, "");
    struct rig_arena arena;
    struct rig_doc *doc;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(rig_yaml_read(rig_slice("a\0b", 3), "t", &arena, &doc, NULL), RIG_E_SYNTAX);
    rig_arena_deinit(&arena);
}

static void aliases_are_copies(void **state)
{
    (void)state;
    reads_as("a: &x {k: [1]}\nb: *x\nc: &x 2\nd: *x\n",
             "{\"a\":{\"k\":[1]},\"b\":{\"k\":[1]},\"c\":2,\"d\":2}"); /* 7.1: redefined */
    reads_as("&k a: *k\n", "{\"a\":\"a\"}");
    refuses("a: &x [1,\n *x]", RIG_E_SYNTAX, 2, "inside its own anchor");
    refuses("&x a: &y {b: *y}", RIG_E_SYNTAX, 1, "inside its own anchor");
    struct rig_arena arena;
    struct rig_doc *doc;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(rig_yaml_read(RIG_SLICE("[&x {k: v}, *x]"), "t", &arena, &doc, NULL), 0);
    assert_ptr_not_equal(doc->items[0], doc->items[1]);
    rig_doc_set(&arena, doc->items[0], "k", rig_doc_text(&arena, "w"));
    assert_string_equal(rig_doc_get_text(doc->items[1], "k", NULL), "v");
    rig_arena_deinit(&arena);
}

/* Reads hostile text within a budget of 4 MiB and ten seconds, sanitizers and all. */
static void refuses_bomb(struct rig_buf *text, int code)
{
    struct rig_arena arena;
    struct rig_doc *doc;
    struct rig_fault why = {""};
    uint64_t start = rig_clock_ms();
    rig_arena_init(&arena, 4u << 20);
    int err = rig_yaml_read(rig_buf_slice(text), "bomb", &arena, &doc, &why);
    if (err != code || strncmp(why.text, "bomb:", 5) != 0)
        fail_msg("%.60s: %d '%s'", rig_buf_text(text), err, why.text);
    assert_null(doc);
    assert_true(rig_clock_ms() - start < 10000);
    rig_arena_deinit(&arena);
    rig_buf_deinit(text);
}

static void billion_laughs_end_fast(void **state)
{
    (void)state;
    struct rig_buf text = {0};
    rig_buf_append_text(&text, "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for (int i = 1; i < 10; i++) {
        rig_buf_printf(&text, "a%d: &a%d [", i, i);
        for (int k = 0; k < 9; k++)
            rig_buf_printf(&text, "%s*a%d", k > 0 ? ", " : "", i - 1);
        rig_buf_append_text(&text, "]\n");
    }
    refuses_bomb(&text, RIG_E_TOO_LARGE);
    /* One large node, taken very often. */
    rig_buf_append_text(&text, "a: &a ");
    for (int i = 0; i < 10000; i++)
        rig_buf_append_text(&text, "x");
    rig_buf_append_text(&text, "\nb: [");
    for (int i = 0; i < 100000; i++)
        rig_buf_append_text(&text, "*a,");
    rig_buf_append_text(&text, "]\n");
    refuses_bomb(&text, RIG_E_TOO_LARGE);
}

static void nesting_is_limited(void **state)
{
    (void)state;
    static const char *const units[] = {"[", "{a: ", "- ", "? ", "{? "};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        struct rig_buf text = {0};
        while (text.len < 1000000)
            rig_buf_append_text(&text, units[i]);
        /* A container as a key is wrong already. */
        refuses_bomb(&text, strchr(units[i], '?') == NULL ? RIG_E_TOO_LARGE : RIG_E_SYNTAX);
    }
    for (int depth = RIG_DOC_DEPTH_MAX; depth <= RIG_DOC_DEPTH_MAX + 1; depth++) {
        char text[4 * RIG_DOC_DEPTH_MAX + 8] = "";
        for (int i = 0; i < depth; i++)
            strcat(text, "[");
        strcat(text, "x");
        for (int i = 0; i < depth; i++)
            strcat(text, "]");
        struct rig_arena arena;
        struct rig_doc *doc;
        rig_arena_init(&arena, BUDGET);
        assert_int_equal(rig_yaml_read(rig_slice_text(text), "t", &arena, &doc, NULL),
                         depth > RIG_DOC_DEPTH_MAX ? RIG_E_TOO_LARGE : 0);
        rig_arena_deinit(&arena);
    }
    /* Twice 40 levels, put into each other by an alias. */
    struct rig_buf text = {0};
    rig_buf_append_text(&text, "a: &a ");
    for (int i = 0; i < 40; i++)
        rig_buf_append_text(&text, "[");
    for (int i = 0; i < 40; i++)
        rig_buf_append_text(&text, "]");
    rig_buf_append_text(&text, "\nb: ");
    for (int i = 0; i < 40; i++)
        rig_buf_append_text(&text, "[");
    rig_buf_append_text(&text, "*a");
    for (int i = 0; i < 40; i++)
        rig_buf_append_text(&text, "]");
    refuses_bomb(&text, RIG_E_TOO_LARGE);
}

static void much_of_anything_ends_in_time(void **state)
{
    (void)state;
    struct rig_buf text = {0};
    for (int i = 0; i < 100000; i++)
        rig_buf_printf(&text, "k%d: v\n", i);
    refuses_bomb(&text, RIG_E_TOO_LARGE);
    for (int i = 0; i < 300; i++)
        rig_buf_printf(&text, "- &a%d x\n", i);
    refuses_bomb(&text, RIG_E_TOO_LARGE); /* too many anchors */
    rig_buf_append_text(&text, "a: \"");
    for (int i = 0; i < 1000000; i++)
        rig_buf_append_text(&text, "\\n");
    refuses_bomb(&text, RIG_E_SYNTAX); /* the quote never comes */
    rig_buf_append_text(&text, "[");
    for (int i = 0; i < 300000; i++)
        rig_buf_append_text(&text, "{},");
    refuses_bomb(&text, RIG_E_TOO_LARGE);
    for (int i = 0; i < 100000; i++)
        rig_buf_append_text(&text, "---\n");
    refuses_bomb(&text, RIG_E_SYNTAX);
}

static void survives_any_budget(void **state)
{
    (void)state;
    static const char text[] =
        "a: &x {k: [1, 0x10, .5, yes], l: \"s\"}\nb: *x\n&c c: [[*x], ~, true]\n";
    int read = 0, refused = 0;
    for (size_t budget = 0; budget < 16000; budget += 16) {
        struct rig_arena arena;
        struct rig_doc *doc;
        struct rig_fault why = {""};
        rig_arena_init(&arena, budget);
        int err = rig_yaml_read(rig_slice_text(text), "t", &arena, &doc, &why);
        assert_true(err == 0 || err == RIG_E_TOO_LARGE);
        assert_true((doc != NULL) == (err == 0));
        assert_true((why.text[0] != '\0') == (err != 0));
        read += err == 0;
        refused += err != 0;
        rig_arena_deinit(&arena);
    }
    assert_true(read > 0 && refused > 0);
}

static void every_truncation_is_safe(void **state)
{
    (void)state;
    static const char text[] =
        "a: &x {k: [1, \"\\u263A\", 'q'], l: |\n  t\n}\n? b\n: *x\n- \xe2\x82\xac";
    for (size_t len = 0; len < sizeof(text); len++) {
        char *cut = malloc(len > 0 ? len : 1);
        assert_non_null(cut);
        memcpy(cut, text, len);
        struct rig_arena arena;
        struct rig_doc *doc;
        rig_arena_init(&arena, BUDGET);
        int err = rig_yaml_read(rig_slice(cut, len), "t", &arena, &doc, NULL);
        assert_true((doc != NULL) == (err == 0));
        rig_arena_deinit(&arena);
        free(cut);
    }
}

static void files_are_read_up_to_their_limit(void **state)
{
    (void)state;
    char path[] = "/tmp/rig_yaml_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a: 1\nb: [\n", 10), 10);
    struct rig_arena arena;
    struct rig_doc *doc;
    struct rig_fault why;
    char place[64];
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(rig_yaml_read_file(path, 10, &arena, &doc, &why), RIG_E_SYNTAX);
    snprintf(place, sizeof(place), "%s:3: ", path);
    assert_ptr_equal(strstr(why.text, place), why.text);
    assert_int_equal(rig_yaml_read_file(path, 9, &arena, &doc, &why), RIG_E_TOO_LARGE);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(ftruncate(fd, 5), 0);
    assert_int_equal(rig_yaml_read_file(path, 9, &arena, &doc, &why), 0);
    assert_string_equal((const char *)rig_doc_get(doc, "a")->text.at, "1");
    close(fd);
    unlink(path);
    assert_int_equal(rig_yaml_read_file(path, 9, &arena, &doc, &why), UV_ENOENT);
    assert_non_null(strstr(why.text, path));
    assert_null(doc);
    rig_arena_deinit(&arena);
}

RIG_TEST_MAIN(cmocka_unit_test(reads_chapter_two),
              cmocka_unit_test(plain_scalars_follow_the_core_schema),
              cmocka_unit_test(tags_of_the_core_schema_are_known), cmocka_unit_test(keys_are_text),
              cmocka_unit_test(every_json_text_is_read), cmocka_unit_test(nodes_carry_their_line),
              cmocka_unit_test(nothing_is_a_null_node), cmocka_unit_test(refuses_what_is_not_yaml),
              cmocka_unit_test(aliases_are_copies), cmocka_unit_test(billion_laughs_end_fast),
              cmocka_unit_test(nesting_is_limited), cmocka_unit_test(much_of_anything_ends_in_time),
              cmocka_unit_test(survives_any_budget), cmocka_unit_test(every_truncation_is_safe),
              cmocka_unit_test(files_are_read_up_to_their_limit))
