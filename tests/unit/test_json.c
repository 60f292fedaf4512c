/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by RFC 8259: what has to be read, what has to be refused, and what is written. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/json.h"

#define BUDGET (1u << 20)

static struct rig_doc *read_ok(struct rig_arena *arena, const char *text)
{
    struct rig_doc *doc = NULL;
    struct rig_fault why = {""};
    int err = rig_json_read(rig_slice_text(text), "t", arena, &doc, &why);
    if (err != 0)
        fail_msg("%s: %d %s", text, err, why.text);
    return doc;
}

static void written_is(const struct rig_doc *doc, enum rig_json_style style, const char *expected)
{
    struct rig_buf out = {0};
    rig_json_write(doc, style, &out);
    assert_string_equal(rig_buf_text(&out), expected);
    rig_buf_deinit(&out);
}

static void reads_the_rfc_examples(void **state)
{
    (void)state;
    /* RFC 8259, 13 */
    static const char image[] =
        "{\n"
        "  \"Image\": {\n"
        "      \"Width\":  800,\n"
        "      \"Height\": 600,\n"
        "      \"Title\":  \"View from 15th Floor\",\n"
        "      \"Thumbnail\": {\n"
        "          \"Url\":    \"http://www.example.com/image/481989943\",\n"
        "          \"Height\": 125,\n"
        "          \"Width\":  100\n"
        "      },\n"
        "      \"Animated\" : false,\n"
        "      \"IDs\": [116, 943, 234, 38793]\n"
        "    }\n"
        "}";
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    struct rig_doc *doc = read_ok(&arena, image);
    struct rig_doc *in = rig_doc_get(doc, "Image");
    assert_int_equal(in->count, 6);
    assert_string_equal(rig_doc_get_text(in, "Title", NULL), "View from 15th Floor");
    assert_true(rig_doc_get(in, "Animated")->kind == RIG_DOC_BOOL);
    int64_t width = 0;
    assert_int_equal(rig_doc_int64(rig_doc_get(rig_doc_get(in, "Thumbnail"), "Width"), &width), 0);
    assert_int_equal(width, 100);
    assert_int_equal(rig_doc_get(in, "IDs")->count, 4);
    assert_string_equal((const char *)rig_doc_get(in, "IDs")->items[3]->text.at, "38793");
    /* "Here are three small JSON texts containing only values" */
    assert_string_equal((const char *)read_ok(&arena, "\"Hello world!\"")->text.at, "Hello world!");
    assert_string_equal((const char *)read_ok(&arena, "42")->text.at, "42");
    assert_true(read_ok(&arena, "true")->is_true);
    assert_int_equal(read_ok(&arena, " \t\r\n null \t\r\n")->kind, RIG_DOC_NULL);
    rig_arena_deinit(&arena);
}

static void nodes_carry_their_line(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    struct rig_doc *doc = read_ok(&arena, "\n{ \"a\\\"]\" :\n\ntrue,\n\"b\": [\n{\n}, null,\n 1.5,"
                                          "\n[\n]], \"c\\\\\"\n:\n\"x\"}");
    assert_int_equal(doc->line, 2);
    assert_int_equal(doc->members[0].line, 2);
    assert_int_equal(doc->members[0].value->line, 4);
    assert_int_equal(doc->members[1].line, 5);
    struct rig_doc *list = doc->members[1].value;
    assert_int_equal(list->line, 5);
    assert_int_equal(list->items[0]->line, 6);
    assert_int_equal(list->items[1]->line, 7);
    assert_int_equal(list->items[2]->line, 8);
    assert_int_equal(list->items[3]->line, 9);
    assert_int_equal(doc->members[2].line, 10);
    assert_int_equal(doc->members[2].value->line, 12);
    rig_arena_deinit(&arena);
}

static void numbers_keep_their_text(void **state)
{
    (void)state;
    static const char text[] =
        "[1.10,10000000000000000001,-0,0.1e-7,1E400,-0.0,123456789012345678901"
        "234567890.000]";
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    written_is(read_ok(&arena, text), RIG_JSON_COMPACT, text);
    rig_arena_deinit(&arena);
}

static void strings_are_unescaped(void **state)
{
    (void)state;
    /* RFC 8259, 7: the G clef character (U+1D11E) may be represented as "\uD834\uDD1E". */
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    struct rig_doc *doc =
        read_ok(&arena, "[\"\\uD834\\uDD1E\", \"\\\"\\\\\\/\\b\\f\\n\\r\\t\", \"a\\u0000b\", "
                        "\"\\u005C\", \"\xf0\x9d\x84\x9e\", \"\x7f\"]");
    assert_string_equal((const char *)doc->items[0]->text.at, "\xf0\x9d\x84\x9e");
    assert_string_equal((const char *)doc->items[1]->text.at, "\"\\/\b\f\n\r\t");
    assert_int_equal(doc->items[2]->text.len, 3);
    assert_memory_equal(doc->items[2]->text.at, "a\0b", 4);
    assert_string_equal((const char *)doc->items[3]->text.at, "\\");
    assert_true(rig_slice_equal(doc->items[0]->text, doc->items[4]->text));
    assert_string_equal((const char *)doc->items[5]->text.at, "\x7f");
    rig_arena_deinit(&arena);
}

static void last_of_repeated_keys_wins(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    static const char text[] = "{\"a\":1,\"b\":2,\n\"a\":{\"x\":1,\"x\":[]},\"\\u0062\":3}";
    struct rig_doc *doc = read_ok(&arena, text);
    written_is(doc, RIG_JSON_COMPACT, "{\"a\":{\"x\":[]},\"b\":3}");

    struct rig_fault why;
    assert_int_equal(rig_json_read_unique(rig_slice_text(text), "t", &arena, &doc, &why),
                     RIG_E_SYNTAX);
    assert_null(doc);
    assert_non_null(strstr(why.text, "t:2: "));
    assert_non_null(strstr(why.text, "\"x\""));
    rig_arena_deinit(&arena);
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "undefined",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "]",
        "[1]]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\":1",
        "{\"a\" 1}",
        "{,}",
        "{} {}",
        "1 2",
        "// c\n1",
        "1 // c",
        "/* c */ 1",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "-.5",
        "1e",
        "1e+",
        "0x10",
        "1_000",
        "--1",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12G4\"",
        "\"\\'\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "\"\x01\"",
        "\"\x1f\"",
        /* lone and swapped surrogates */
        "\"\\uD834\"",
        "\"\\uDD1E\"",
        "\"\\uD834x\"",
        "\"\\uD834\\u0041\"",
        "\"\\uDD1E\\uD834\"",
        "\"\\uD834\\uD834\"",
        /* not UTF-8: a lone continuation, overlong forms, a surrogate, over U+10FFFF, cut short */
        "\"\x80\"",
        "\"\xc0\xaf\"",
        "\"\xe0\x80\xaf\"",
        "\"\xf0\x80\x80\xaf\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xf8\x88\x80\x80\x80\"",
        "\"\xe2\x82\"",
        "\"\xff\"",
        "{\"\xff\":1}",
        "\xff",
        "[\"a\",\xe2\x82\xac]",
        "\xef\xbb\xbf{}" /* RFC 8259, 8.1: a BOM must not be added */,
        "\xa0[]",
        "\f[]",
        "\v1",
    };
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct rig_doc *doc = NULL;
        struct rig_fault why = {""};
        int err = rig_json_read(rig_slice_text(texts[i]), "t", &arena, &doc, &why);
        if (err != RIG_E_SYNTAX || doc != NULL || strncmp(why.text, "t:", 2) != 0)
            fail_msg("case %zu, <%s>: %d '%s'", i, texts[i], err, why.text);
    }
    struct rig_doc *doc = NULL;
    assert_int_equal(rig_json_read(rig_slice("1\0", 2), "t", &arena, &doc, NULL), RIG_E_SYNTAX);
    assert_int_equal(rig_json_read(rig_slice("[\0]", 3), "t", &arena, &doc, NULL), RIG_E_SYNTAX);
    assert_int_equal(rig_json_read(rig_slice(NULL, 0), "t", &arena, &doc, NULL), RIG_E_SYNTAX);
    rig_arena_deinit(&arena);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\\n\\uD834\\uDD1E\":[1.5e3,true,false,null,{}],\"\xe2\x82\xac\":\"\"}";
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    read_ok(&arena, text);
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        /* An allocation of its own: reading over the end would be seen. */
        char *cut = malloc(len > 0 ? len : 1);
        assert_non_null(cut);
        memcpy(cut, text, len);
        struct rig_doc *doc = NULL;
        assert_int_equal(rig_json_read(rig_slice(cut, len), "t", &arena, &doc, NULL), RIG_E_SYNTAX);
        free(cut);
    }
    rig_arena_deinit(&arena);
}

static void fault_has_line_and_column(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    struct rig_doc *doc;
    struct rig_fault why;
    /* The euro sign is one column. */
    assert_int_equal(rig_json_read(RIG_SLICE("{\n\n  \"\xe2\x82\xac\": nope\n}"), "PROXY_CONFIG",
                                   &arena, &doc, &why),
                     RIG_E_SYNTAX);
    assert_ptr_equal(strstr(why.text, "PROXY_CONFIG:3:8: "), why.text);
    rig_arena_deinit(&arena);
}

static void nesting_is_limited(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    for (int depth = RIG_DOC_DEPTH_MAX; depth <= RIG_DOC_DEPTH_MAX + 1; depth++) {
        char text[4 * RIG_DOC_DEPTH_MAX] = "";
        for (int i = 0; i < depth; i++)
            text[i] = '[';
        for (int i = 0; i < depth; i++)
            text[depth + i] = ']';
        struct rig_doc *doc;
        struct rig_fault why;
        int err = rig_json_read(rig_slice_text(text), "t", &arena, &doc, &why);
        assert_int_equal(err, depth > RIG_DOC_DEPTH_MAX ? RIG_E_TOO_LARGE : 0);
        if (err < 0)
            assert_ptr_equal(strstr(why.text, "t:1:65: "), why.text);
    }
    /* Brackets in strings, and many side by side, do not count. */
    struct rig_buf wide = {0};
    rig_buf_append_text(&wide, "[\"");
    for (int i = 0; i < 200; i++)
        rig_buf_append_text(&wide, "[\\\"{");
    rig_buf_append_text(&wide, "\"");
    for (int i = 0; i < 200; i++)
        rig_buf_append_text(&wide, ",[{}]");
    rig_buf_append_text(&wide, "]");
    assert_int_equal(read_ok(&arena, rig_buf_text(&wide))->count, 201);
    rig_buf_deinit(&wide);
    rig_arena_deinit(&arena);
}

static int read_bomb(const char *unit, size_t octets, size_t budget)
{
    struct rig_buf text = {0};
    while (text.len < octets)
        rig_buf_append_text(&text, unit);
    struct rig_arena arena;
    rig_arena_init(&arena, budget);
    struct rig_doc *doc;
    struct rig_fault why = {""};
    int err = rig_json_read(rig_buf_slice(&text), "t", &arena, &doc, &why);
    assert_null(doc);
    assert_true(why.text[0] != '\0');
    rig_arena_deinit(&arena);
    rig_buf_deinit(&text);
    return err;
}

static void bombs_end_at_the_budget(void **state)
{
    (void)state;
    assert_int_equal(read_bomb("[", 4u << 20, 8u << 20), RIG_E_TOO_LARGE);
    assert_int_equal(read_bomb("{\"a\":", 4u << 20, 8u << 20), RIG_E_TOO_LARGE);
    assert_int_equal(read_bomb("[1],", 4u << 20, 1u << 20), RIG_E_TOO_LARGE);
    /* The text fits, what yyjson would need for it does not. */
    struct rig_buf text = {0};
    rig_buf_append_text(&text, "[0");
    while (text.len < 600000)
        rig_buf_append_text(&text, ",0");
    rig_buf_append_text(&text, "]");
    struct rig_arena arena;
    struct rig_doc *doc;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(rig_json_read(rig_buf_slice(&text), "t", &arena, &doc, NULL), RIG_E_TOO_LARGE);
    rig_arena_deinit(&arena);
    /* And with room enough it is read. */
    rig_arena_init(&arena, 64u << 20);
    assert_int_equal(rig_json_read(rig_buf_slice(&text), "t", &arena, &doc, NULL), 0);
    assert_int_equal(doc->count, 300000);
    rig_arena_deinit(&arena);
    rig_buf_deinit(&text);
}

static void long_string_fits_a_tight_arena(void **state)
{
    (void)state;
    struct rig_buf text = {0};
    rig_buf_append_text(&text, "\"");
    while (text.len < 900000)
        rig_buf_append_text(&text, "0123456789");
    rig_buf_append_text(&text, "\"");
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    assert_int_equal(read_ok(&arena, rig_buf_text(&text))->text.len, text.len - 2);
    rig_arena_deinit(&arena);
    rig_buf_deinit(&text);
}

static void many_keys_are_not_quadratic(void **state)
{
    (void)state;
    struct rig_buf text = {0};
    rig_buf_append_text(&text, "{\"k\":0");
    for (int i = 0; i < 200000; i++)
        rig_buf_printf(&text, ",\"k%d\":%d", i % 100000, i);
    rig_buf_append_text(&text, "}");
    struct rig_arena arena;
    rig_arena_init(&arena, 64u << 20);
    struct rig_doc *doc = read_ok(&arena, rig_buf_text(&text));
    assert_int_equal(doc->count, 100001);
    assert_string_equal((const char *)doc->members[1].value->text.at, "100000");
    rig_arena_deinit(&arena);
    rig_buf_deinit(&text);
}

static void writes_compact_and_pretty(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    struct rig_doc *doc = read_ok(&arena, "{\"a\":[1,{}, [] ],\"b\":{\"c\":null}}");
    written_is(doc, RIG_JSON_COMPACT, "{\"a\":[1,{},[]],\"b\":{\"c\":null}}");
    written_is(doc, RIG_JSON_PRETTY,
               "{\n  \"a\": [\n    1,\n    {},\n    []\n  ],\n  \"b\": {\n    \"c\": null\n  }\n}");
    written_is(NULL, RIG_JSON_COMPACT, "null");
    rig_arena_deinit(&arena);
}

static void writes_only_the_needed_escapes(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, BUDGET);
    struct rig_doc *doc =
        rig_doc_string(&arena, rig_slice("\"\\/\b\f\n\r\t\0\x1f\x7f\xe2\x82\xac", 14));
    written_is(doc, RIG_JSON_COMPACT, "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xe2\x82\xac\"");
    /* The Unicode standard's U+FFFD for what is not UTF-8. */
    written_is(rig_doc_text(&arena, "a\xffz\xe2\x82"), RIG_JSON_COMPACT,
               "\"a\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\"");
    written_is(rig_doc_text(&arena, "\xed\xa0\x80"), RIG_JSON_COMPACT,
               "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    rig_arena_deinit(&arena);
}

RIG_TEST_MAIN(
    cmocka_unit_test(reads_the_rfc_examples), cmocka_unit_test(nodes_carry_their_line),
    cmocka_unit_test(numbers_keep_their_text), cmocka_unit_test(strings_are_unescaped),
    cmocka_unit_test(last_of_repeated_keys_wins), cmocka_unit_test(refuses_what_is_not_json),
    cmocka_unit_test(every_truncation_is_refused), cmocka_unit_test(fault_has_line_and_column),
    cmocka_unit_test(nesting_is_limited), cmocka_unit_test(bombs_end_at_the_budget),
    cmocka_unit_test(long_string_fits_a_tight_arena), cmocka_unit_test(many_keys_are_not_quadratic),
    cmocka_unit_test(writes_compact_and_pretty), cmocka_unit_test(writes_only_the_needed_escapes))
