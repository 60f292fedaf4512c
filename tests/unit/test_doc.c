/* SPDX-License-Identifier: Apache-2.0 */
/* The document tree: makers, look-ups, order, repeated keys, integers, budgets. */
#include "tests/harness/test.h"

#include <stdio.h>

#include "core/doc.h"
#include "core/fault.h"

static void map_keeps_order_and_replaces(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, 1 << 20);
    struct rig_doc *map = rig_doc_map(&arena);
    const char *keys[] = {"b", "a", "", "d", "c", "e"};
    for (size_t i = 0; i < 6; i++)
        rig_doc_set(&arena, map, keys[i], rig_doc_int(&arena, (int64_t)i));
    rig_doc_set(&arena, map, "a", rig_doc_text(&arena, "new"));
    rig_doc_remove(map, "d");
    rig_doc_remove(map, "unknown");
    const char *left[] = {"b", "a", "", "c", "e"};
    assert_int_equal(map->count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal((const char *)map->members[i].key.at, left[i]);
    assert_string_equal(rig_doc_get_text(map, "a", NULL), "new");
    assert_null(rig_doc_get(map, "d"));
    assert_non_null(rig_doc_get(map, ""));
    rig_arena_deinit(&arena);
}

static void readers_give_the_fallback(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, 1 << 20);
    struct rig_doc *map = rig_doc_map(&arena);
    rig_doc_set(&arena, map, "text", rig_doc_text(&arena, "word"));
    rig_doc_set(&arena, map, "yes", rig_doc_bool(&arena, true));
    assert_string_equal(rig_doc_get_text(map, "yes", "else"), "else");
    assert_string_equal(rig_doc_get_text(NULL, "text", "else"), "else");
    assert_true(rig_doc_get_bool(map, "yes", false));
    assert_true(rig_doc_get_bool(map, "text", true));
    assert_false(rig_doc_get_bool(map, "absent", false));
    assert_null(rig_doc_get(rig_doc_get(map, "text"), "text"));
    rig_arena_deinit(&arena);
}

static void integers_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
        int64_t value;
    } cases[] = {
        {"0", 0, 0},
        {"-0", 0, 0},
        {"42", 0, 42},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", RIG_E_RANGE, 0},
        {"-9223372036854775808", 0, INT64_MIN},
        {"-9223372036854775809", RIG_E_RANGE, 0},
        {"10000000000000000001000", RIG_E_RANGE, 0},
        {"1.0", 0, 1},
        {"1.50", RIG_E_RANGE, 0},
        {"1.50e1", 0, 15},
        {"1e3", 0, 1000},
        {"1E+18", 0, 1000000000000000000},
        {"1e19", RIG_E_RANGE, 0},
        {"1200e-2", 0, 12},
        {"1201e-2", RIG_E_RANGE, 0},
        {"0e99999999999999999999", 0, 0},
        {"1e99999999999999999999", RIG_E_RANGE, 0},
        {"1e-99999999999999999999", RIG_E_RANGE, 0},
        {"0.000000000000000000000000000000000000000000000001e48", 0, 1},
    };
    struct rig_arena arena;
    rig_arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig_doc *doc = rig_doc_number(&arena, rig_slice_text(cases[i].text));
        int64_t value = 0;
        int err = rig_doc_int64(doc, &value);
        if (err != cases[i].err || value != cases[i].value)
            fail_msg("%s gives %d, %lld", cases[i].text, err, (long long)value);
        assert_string_equal((const char *)doc->text.at, cases[i].text);
    }
    int64_t value = 0;
    assert_int_equal(rig_doc_int64(rig_doc_text(&arena, "1"), &value), RIG_E_RANGE);
    assert_int_equal(rig_doc_int64(NULL, &value), RIG_E_RANGE);
    assert_int_equal(rig_doc_int64(rig_doc_int(&arena, INT64_MIN), &value), 0);
    assert_true(value == INT64_MIN);
    rig_arena_deinit(&arena);
}

static void no_number_becomes_a_string(void **state)
{
    (void)state;
    static const char *const texts[] = {"",    "-",   "+1", "01",  "-01", ".5",    "5.",   "1e",
                                        "1e+", "0x1", "1 ", "NaN", "1,2", "1.2.3", "1e2.5"};
    struct rig_arena arena;
    rig_arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (rig_doc_number(&arena, rig_slice_text(texts[i]))->kind != RIG_DOC_STRING)
            fail_msg("'%s' is taken for a number", texts[i]);
    rig_arena_deinit(&arena);
}

static struct rig_doc *repeating_map(struct rig_arena *arena)
{
    struct rig_doc *map = rig_doc_map(arena);
    const char *keys[] = {"a", "b", "ab", "b", "a", "a", "c"};
    for (size_t i = 0; i < 7; i++) {
        struct rig_doc_member *member =
            rig_doc_append(arena, map, rig_slice_text(keys[i]), rig_doc_int(arena, (int64_t)i));
        member->line = (uint32_t)i + 1;
    }
    return map;
}

static void repeated_keys_are_found_and_joined(void **state)
{
    (void)state;
    struct rig_arena arena;
    rig_arena_init(&arena, 1 << 20);
    struct rig_doc *map = repeating_map(&arena);
    const struct rig_doc_member *repeated = rig_doc_repeated(&arena, map);
    assert_non_null(repeated);
    assert_int_equal(repeated->line, 4);

    rig_doc_join_repeated(&arena, map);
    const char *keys[] = {"a", "b", "ab", "c"};
    const char *values[] = {"5", "3", "2", "6"};
    assert_int_equal(map->count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal((const char *)map->members[i].key.at, keys[i]);
        assert_string_equal((const char *)map->members[i].value->text.at, values[i]);
    }
    assert_null(rig_doc_repeated(&arena, map));
    rig_arena_deinit(&arena);
}

static void copy_is_deep(void **state)
{
    (void)state;
    struct rig_arena first, second;
    rig_arena_init(&first, 1 << 20);
    rig_arena_init(&second, 1 << 20);
    struct rig_doc *map = rig_doc_map(&first);
    struct rig_doc *list = rig_doc_list(&first);
    rig_doc_push(&first, list, rig_doc_text(&first, "x"));
    rig_doc_push(&first, list, rig_doc_null(&first));
    rig_doc_push(&first, list, rig_doc_bool(&first, true));
    rig_doc_set(&first, map, "list", list);
    map->members[0].line = 7;
    list->items[0]->line = 8;
    struct rig_doc *copy = rig_doc_copy(&second, map);
    rig_arena_deinit(&first); /* a shared octet would be seen by the sanitizer */
    assert_int_equal(copy->members[0].line, 7);
    struct rig_doc *copied = rig_doc_get(copy, "list");
    assert_int_equal(copied->count, 3);
    assert_int_equal(copied->items[0]->line, 8);
    assert_string_equal((const char *)copied->items[0]->text.at, "x");
    assert_int_equal(copied->items[1]->kind, RIG_DOC_NULL);
    assert_true(copied->items[2]->is_true);
    assert_int_equal(rig_doc_depth(copy), 2);
    rig_arena_deinit(&second);
}

/* At every budget from nothing on: no crash, and what is not whole is reported. */
static void builder_survives_any_budget(void **state)
{
    (void)state;
    bool was_spent = false;
    for (size_t budget = 0; budget < 4000; budget += 16) {
        struct rig_arena arena, target;
        rig_arena_init(&arena, budget);
        rig_arena_init(&target, budget / 2);
        struct rig_doc *map = rig_doc_map(&arena);
        for (int i = 0; i < 6; i++) {
            char key[16];
            snprintf(key, sizeof(key), "k%d", i);
            struct rig_doc *list = rig_doc_list(&arena);
            rig_doc_push(&arena, list, rig_doc_int(&arena, i));
            rig_doc_set(&arena, map, key, list);
        }
        rig_doc_join_repeated(&arena, map);
        was_spent |= rig_arena_is_spent(&arena);
        if (!rig_arena_is_spent(&arena))
            assert_int_equal(map->count, 6);
        struct rig_doc *copy = rig_doc_copy(&target, map);
        assert_true((copy == NULL) == (map == NULL || rig_arena_is_spent(&target)));
        rig_arena_deinit(&arena);
        rig_arena_deinit(&target);
    }
    assert_true(was_spent);
}

RIG_TEST_MAIN(cmocka_unit_test(map_keeps_order_and_replaces),
              cmocka_unit_test(readers_give_the_fallback), cmocka_unit_test(integers_are_exact),
              cmocka_unit_test(no_number_becomes_a_string),
              cmocka_unit_test(repeated_keys_are_found_and_joined), cmocka_unit_test(copy_is_deep),
              cmocka_unit_test(builder_survives_any_budget))
