/* SPDX-License-Identifier: Apache-2.0 */
/* Who is sent what, and when not: the rules of the xDS protocol, SotW and delta. */
#include "tests/harness/test.h"

#include <stdio.h>
#include <string.h>

#include "plugins/standalone/subscription.h"

static struct rig_arena arena;
static struct subscription sub;
static uint64_t nonce;

static int begin(void **state)
{
    (void)state;
    rig_arena_init(&arena, 1024 * 1024);
    sub = (struct subscription){0};
    nonce = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    subscription_deinit(&sub);
    rig_arena_deinit(&arena);
    return 0;
}

/* Sets in place of snapshots: names and versions as "a1 b2", sorted; the text is the version. */
struct fixture {
    struct snapshot_resource items[8];
    struct snapshot_set set;
    char names[8][2];
};

static struct fixture *fixture(const char *text)
{
    struct fixture *made = rig_arena_new(&arena, struct fixture);
    for (const char *at = text; *at != '\0'; at += at[2] == ' ' ? 3 : 2) {
        struct snapshot_resource *item = &made->items[made->set.count];
        made->names[made->set.count][0] = at[0];
        item->name = made->names[made->set.count++];
        snprintf(item->version, sizeof(item->version), "%c", at[1]);
    }
    made->set.items = made->items;
    snprintf(made->set.version, sizeof(made->set.version), "%s", text);
    return made;
}

/* "a b" -> a list of names; "" -> none. */
static size_t list(const char *text, char **names)
{
    size_t count = 0;
    for (const char *at = text; *at != '\0'; at += at[1] == ' ' ? 2 : 1)
        names[count++] = rig_arena_copy(&arena, at, 1);
    return count;
}

/* What is sent, as "a b -c"; "nothing" when nothing is, "empty" for an empty response. */
static const char *answer(const struct fixture *fixed, bool is_delta)
{
    struct subscription_answer out;
    struct rig_buf text = {0};
    assert_int_equal(is_delta ? subscription_answer_delta(&sub, &fixed->set, &arena, &out)
                              : subscription_answer_sotw(&sub, &fixed->set, &arena, &out),
                     0);
    for (size_t i = 0; i < out.item_count; i++)
        rig_buf_printf(&text, "%s%s", text.len > 0 ? " " : "", out.items[i]->name);
    for (size_t i = 0; i < out.removed_count; i++)
        rig_buf_printf(&text, "%s-%s", text.len > 0 ? " " : "", out.removed[i]);
    if (!out.is_due)
        assert_int_equal(text.len, 0);
    const char *said = !out.is_due     ? "nothing"
                       : text.len == 0 ? "empty"
                                       : rig_arena_text(&arena, rig_buf_text(&text));
    if (out.is_due)
        subscription_sent(&sub, &fixed->set, &out, ++nonce);
    rig_buf_deinit(&text);
    return said;
}

/* ---- SotW ---- */

#define FIRST NULL

static enum subscription_event sotw(const char *names, const char *response_nonce,
                                    const char *error)
{
    char *listed[8];
    char empty[] = "";
    Mesh__Discovery__Status status = MESH__DISCOVERY__STATUS__INIT;
    Mesh__Discovery__DiscoveryRequest request = MESH__DISCOVERY__DISCOVERY_REQUEST__INIT;
    enum subscription_event event;
    request.n_resource_names = list(names, listed);
    request.resource_names = listed;
    request.response_nonce =
        response_nonce != FIRST ? rig_arena_text(&arena, response_nonce) : empty;
    if (error != NULL) {
        status.message = rig_arena_text(&arena, error);
        request.error_detail = &status;
    }
    assert_int_equal(subscription_take_sotw(&sub, &request, &event), 0);
    return event;
}

static void sotw_wildcard_gets_all_and_then_changes(void **state)
{
    (void)state;
    struct fixture *one = fixture("a1 b1"), *two = fixture("a1 b2");
    sub.type = SNAPSHOT_CLUSTERS;
    assert_string_equal(answer(one, false), "nothing"); /* nobody has asked */
    assert_int_equal(sotw("", FIRST, NULL), SUBSCRIPTION_ASKED);
    assert_string_equal(answer(one, false), "a b");
    assert_int_equal(sotw("", "1", NULL), SUBSCRIPTION_ACK);
    assert_string_equal(sub.accepted, "a1 b1");
    assert_string_equal(answer(one, false), "nothing");
    assert_string_equal(answer(two, false), "a b");
    assert_int_equal(sotw("", "2", NULL), SUBSCRIPTION_ACK);
    assert_string_equal(answer(two, false), "nothing");
}

/* Envoy waits for an answer before it goes on, even when there is nothing to tell. */
static void sotw_first_request_is_answered_even_with_nothing(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_LISTENERS;
    sotw("", FIRST, NULL);
    assert_string_equal(answer(fixture(""), false), "empty");
    sotw("", "1", NULL);
    assert_string_equal(answer(fixture(""), false), "nothing");
}

static void sotw_refused_set_is_not_sent_again(void **state)
{
    (void)state;
    struct fixture *bad = fixture("a1 b1"), *good = fixture("a1 b2");
    sub.type = SNAPSHOT_CLUSTERS;
    sotw("", FIRST, NULL);
    assert_string_equal(answer(bad, false), "a b");
    assert_int_equal(sotw("", "1", "no such filter"), SUBSCRIPTION_NACK);
    assert_string_equal(sub.last_nack, "no such filter");
    assert_string_equal(sub.accepted, "");
    assert_string_equal(answer(bad, false), "nothing");
    sotw("", FIRST, NULL); /* asks anew on the same stream */
    assert_string_equal(answer(bad, false), "nothing");
    assert_string_equal(answer(good, false), "a b");
    assert_int_equal(sotw("", "2", NULL), SUBSCRIPTION_ACK);
    assert_string_equal(sub.accepted, "a1 b2");
}

static void sotw_stale_requests_change_nothing(void **state)
{
    (void)state;
    struct fixture *one = fixture("a1 b1");
    sub.type = SNAPSHOT_ENDPOINTS;
    sotw("a", FIRST, NULL);
    assert_string_equal(answer(one, false), "a");
    assert_int_equal(sotw("a b", "7", NULL), SUBSCRIPTION_STALE);
    assert_int_equal(sotw("a b", "0", NULL), SUBSCRIPTION_STALE);
    assert_int_equal(sotw("a b", "1x", "bad"), SUBSCRIPTION_STALE);
    assert_int_equal(sotw("a b", "-1", NULL), SUBSCRIPTION_STALE);
    assert_int_equal(sub.acks + sub.nacks, 0);
    assert_string_equal(answer(one, false), "nothing");
}

/* After a reconnect Envoy may show the nonce of another stream. */
static void sotw_foreign_nonce_on_a_fresh_stream_is_answered(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ENDPOINTS;
    assert_int_equal(sotw("a", "99", NULL), SUBSCRIPTION_ASKED);
    assert_string_equal(answer(fixture("a1 b1"), false), "a");
}

static void sotw_added_names_are_answered_alone(void **state)
{
    (void)state;
    struct fixture *one = fixture("a1 b1 c1");
    sub.type = SNAPSHOT_ENDPOINTS;
    sotw("a", FIRST, NULL);
    assert_string_equal(answer(one, false), "a");
    sotw("a b", "1", NULL);
    assert_string_equal(answer(one, false), "b");
    sotw("a b", "2", NULL);
    assert_string_equal(answer(one, false), "nothing");
    sotw("b", "2", NULL); /* fewer: no answer; a is forgotten */
    assert_string_equal(answer(fixture("a2 b1 c1"), false), "nothing");
    sotw("b a", "2", NULL); /* and back, unchanged: Envoy has dropped it meanwhile */
    assert_string_equal(answer(one, false), "a");
}

static void sotw_refused_resource_is_sent_again_only_when_it_changes(void **state)
{
    (void)state;
    struct fixture *one = fixture("a1 b1"), *two = fixture("a1 b2"), *three = fixture("a2 b2");
    sub.type = SNAPSHOT_ROUTES;
    sotw("a", FIRST, NULL);
    assert_string_equal(answer(one, false), "a");
    assert_int_equal(sotw("a b", "1", "bad route"), SUBSCRIPTION_NACK);
    assert_string_equal(answer(one, false), "b");
    sotw("a b", "2", NULL);
    sotw("a b", FIRST, NULL); /* asks for both anew */
    assert_string_equal(answer(one, false), "b");
    assert_string_equal(answer(two, false), "b");
    assert_string_equal(answer(three, false), "a");
    sotw("a b", FIRST, NULL); /* a new version of it is no longer a refused one */
    assert_string_equal(answer(three, false), "a b");
}

static void sotw_unknown_names_get_an_empty_answer_once(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ENDPOINTS;
    sotw("x", FIRST, NULL);
    assert_string_equal(answer(fixture("a1"), false), "empty");
    sotw("x", "1", NULL);
    assert_string_equal(answer(fixture("a1"), false), "nothing");
    assert_string_equal(answer(fixture("a1 x1"), false), "x");
    sotw("x y", "2", NULL);
    assert_string_equal(answer(fixture("a1 x1"), false), "empty");
}

/* ---- delta ---- */

struct delta {
    const char *add, *drop, *initial; /* initial: "a1 b2" */
    const char *nonce, *error;
};

static enum subscription_event delta(struct delta given)
{
    char *add[8], *drop[8];
    char empty[] = "";
    Mesh__Discovery__InitialVersion entries[8], *initial[8];
    Mesh__Discovery__Status status = MESH__DISCOVERY__STATUS__INIT;
    Mesh__Discovery__DeltaDiscoveryRequest request = MESH__DISCOVERY__DELTA_DISCOVERY_REQUEST__INIT;
    enum subscription_event event;
    request.n_resource_names_subscribe = list(given.add != NULL ? given.add : "", add);
    request.resource_names_subscribe = add;
    request.n_resource_names_unsubscribe = list(given.drop != NULL ? given.drop : "", drop);
    request.resource_names_unsubscribe = drop;
    request.initial_resource_versions = initial;
    for (const char *at = given.initial; at != NULL && *at != '\0'; at += at[2] == ' ' ? 3 : 2) {
        size_t i = request.n_initial_resource_versions++;
        mesh__discovery__initial_version__init(&entries[i]);
        entries[i].key = rig_arena_copy(&arena, at, 1);
        entries[i].value = rig_arena_copy(&arena, at + 1, 1);
        initial[i] = &entries[i];
    }
    request.response_nonce = given.nonce != NULL ? rig_arena_text(&arena, given.nonce) : empty;
    if (given.error != NULL) {
        status.message = rig_arena_text(&arena, given.error);
        request.error_detail = &status;
    }
    assert_int_equal(subscription_take_delta(&sub, &request, &event), 0);
    return event;
}

static void delta_wildcard_gets_all_and_then_differences(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_CLUSTERS;
    assert_string_equal(answer(fixture("a1"), true), "nothing");
    assert_int_equal(delta((struct delta){0}), SUBSCRIPTION_ASKED);
    assert_string_equal(answer(fixture("a1 b1"), true), "a b");
    assert_int_equal(delta((struct delta){.nonce = "1"}), SUBSCRIPTION_ACK);
    assert_string_equal(answer(fixture("a1 b1"), true), "nothing");
    assert_string_equal(answer(fixture("a1 b2"), true), "b");
    assert_string_equal(answer(fixture("b2 c1"), true), "c -a");
    assert_string_equal(answer(fixture("b2 c1"), true), "nothing");
}

static void delta_star_is_the_wildcard_too(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_CLUSTERS;
    delta((struct delta){.add = "*"});
    assert_string_equal(answer(fixture("a1 b1"), true), "a b");
    delta((struct delta){.drop = "*"});
    assert_string_equal(answer(fixture("a2 b2"), true), "nothing");
    delta((struct delta){.add = "a"});
    assert_string_equal(answer(fixture("a2 b2"), true), "a");
}

/* Endpoints and routes have no wildcard by default: a first request without names wants none. */
static void delta_first_request_is_answered_even_with_nothing(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ENDPOINTS;
    delta((struct delta){0});
    assert_string_equal(answer(fixture("a1"), true), "empty");
    delta((struct delta){.nonce = "1"});
    assert_string_equal(answer(fixture("a1"), true), "nothing");
}

static void delta_reconnect_gets_what_is_new(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_CLUSTERS;
    delta((struct delta){.initial = "a1 b1 c1"});
    assert_string_equal(answer(fixture("a1 b2 d1"), true), "b d -c");
}

static void delta_reconnect_by_name_gets_what_is_new(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ENDPOINTS;
    delta((struct delta){.add = "a b c", .initial = "a1 b1"});
    assert_string_equal(answer(fixture("a1 b2 c1"), true), "b c");
}

static void delta_reconnect_with_everything_known_is_answered_empty(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ENDPOINTS;
    delta((struct delta){.add = "a", .initial = "a1"});
    assert_string_equal(answer(fixture("a1"), true), "empty");
}

static void delta_names_are_added_and_dropped(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ROUTES;
    delta((struct delta){.add = "a"});
    assert_string_equal(answer(fixture("a1 b1"), true), "a");
    delta((struct delta){.add = "b"});
    assert_string_equal(answer(fixture("a1 b1"), true), "b");
    delta((struct delta){.drop = "a"});
    assert_string_equal(answer(fixture("a2 b1"), true), "nothing");
    delta((struct delta){.add = "b"}); /* the server may not trust its own memory here */
    assert_string_equal(answer(fixture("a2 b1"), true), "b");
    delta((struct delta){.add = "b", .nonce = "3"}); /* an ACK may carry a subscription */
    assert_string_equal(answer(fixture("a2 b1"), true), "b");
}

static void delta_unknown_names_are_told_as_removed(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ENDPOINTS;
    delta((struct delta){.add = "x"});
    assert_string_equal(answer(fixture("a1"), true), "-x");
    delta((struct delta){.nonce = "1"});
    assert_string_equal(answer(fixture("a1"), true), "nothing");
    assert_string_equal(answer(fixture("a1 x1"), true), "x");
    assert_string_equal(answer(fixture("a1"), true), "-x");
}

static void delta_refused_resource_is_sent_again_only_when_it_changes(void **state)
{
    (void)state;
    struct fixture *one = fixture("a1 b1");
    sub.type = SNAPSHOT_CLUSTERS;
    delta((struct delta){0});
    assert_string_equal(answer(one, true), "a b");
    assert_int_equal(delta((struct delta){.nonce = "1", .error = "bad cluster"}),
                     SUBSCRIPTION_NACK);
    assert_string_equal(sub.last_nack, "bad cluster");
    assert_string_equal(answer(one, true), "nothing");
    delta((struct delta){.add = "a"});
    assert_string_equal(answer(one, true), "empty");
    assert_string_equal(answer(fixture("a2 b1"), true), "a");
    delta((struct delta){.nonce = "3"});
    delta((struct delta){.add = "a b"});
    assert_string_equal(answer(fixture("a2 b1"), true), "a");
}

static void delta_verdict_is_about_its_own_response(void **state)
{
    (void)state;
    sub.type = SNAPSHOT_ENDPOINTS;
    delta((struct delta){.add = "a"});
    assert_string_equal(answer(fixture("a1 b1"), true), "a");
    delta((struct delta){.add = "b"});
    assert_string_equal(answer(fixture("a1 b1"), true), "b");
    assert_int_equal(delta((struct delta){.nonce = "1", .error = "bad"}), SUBSCRIPTION_NACK);
    assert_int_equal(delta((struct delta){.nonce = "2"}), SUBSCRIPTION_ACK);
    assert_int_equal(delta((struct delta){.nonce = "9"}), SUBSCRIPTION_STALE);
    assert_int_equal(delta((struct delta){.nonce = "x"}), SUBSCRIPTION_STALE);
    delta((struct delta){.add = "a b"});
    assert_string_equal(answer(fixture("a1 b1"), true), "b");
}

static void too_many_names_end_the_stream(void **state)
{
    (void)state;
    size_t count = SUBSCRIPTION_NAMES_MAX + 1;
    struct rig_arena large;
    char empty[] = "";
    enum subscription_event event;
    Mesh__Discovery__DiscoveryRequest request = MESH__DISCOVERY__DISCOVERY_REQUEST__INIT;
    rig_arena_init(&large, 16 * 1024 * 1024);
    char **names = rig_arena_alloc(&large, count * sizeof(*names));
    for (size_t i = 0; i < count; i++)
        names[i] = rig_arena_printf(&large, "%zu", i);
    request.response_nonce = empty;
    request.resource_names = names;
    request.n_resource_names = count;
    sub.type = SNAPSHOT_ENDPOINTS;
    assert_int_equal(subscription_take_sotw(&sub, &request, &event), RIG_E_TOO_LARGE);
    subscription_deinit(&sub);
    sub = (struct subscription){.type = SNAPSHOT_ENDPOINTS};
    request.n_resource_names = count - 1;
    assert_int_equal(subscription_take_sotw(&sub, &request, &event), 0);
    rig_arena_deinit(&large);
}

/* In the delta variant names add up over requests; so long ones do sooner than many. */
static void too_many_octets_of_names_end_the_stream(void **state)
{
    (void)state;
    static char name[SUBSCRIPTION_NAME_BYTES_MAX + 1];
    char *names[] = {name};
    char empty[] = "";
    enum subscription_event event;
    Mesh__Discovery__DeltaDiscoveryRequest request = MESH__DISCOVERY__DELTA_DISCOVERY_REQUEST__INIT;
    request.response_nonce = empty;
    request.n_resource_names_subscribe = 1;
    sub.type = SNAPSHOT_ENDPOINTS;
    size_t most = SUBSCRIPTION_OCTETS_MAX / SUBSCRIPTION_NAME_BYTES_MAX;
    int err = 0;
    size_t taken = 0;
    while (err == 0 && taken <= most) {
        memset(name, 'a', sizeof(name) - 1);
        int len = snprintf(name, 16, "%zu", taken);
        name[len] = 'a';
        request.resource_names_subscribe = names;
        err = subscription_take_delta(&sub, &request, &event);
        taken += err == 0;
        /* What is given up makes room again. */
        if (taken == most / 2) {
            request.n_resource_names_subscribe = 0;
            request.n_resource_names_unsubscribe = 1;
            request.resource_names_unsubscribe = names;
            assert_int_equal(subscription_take_delta(&sub, &request, &event), 0);
            request.n_resource_names_unsubscribe = 0;
            request.n_resource_names_subscribe = 1;
            assert_int_equal(subscription_take_delta(&sub, &request, &event), 0);
        }
    }
    assert_int_equal(err, RIG_E_TOO_LARGE);
    assert_in_range(taken, most - 1, most);
}

static void too_long_names_end_the_stream(void **state)
{
    (void)state;
    static char name[SUBSCRIPTION_NAME_BYTES_MAX + 2];
    char *names[] = {name};
    char empty[] = "";
    enum subscription_event event;
    Mesh__Discovery__DeltaDiscoveryRequest request = MESH__DISCOVERY__DELTA_DISCOVERY_REQUEST__INIT;
    memset(name, 'a', SUBSCRIPTION_NAME_BYTES_MAX + 1);
    request.response_nonce = empty;
    request.resource_names_subscribe = names;
    request.n_resource_names_subscribe = 1;
    sub.type = SNAPSHOT_ENDPOINTS;
    assert_int_equal(subscription_take_delta(&sub, &request, &event), RIG_E_TOO_LARGE);
}

RIG_TEST_MAIN(
    cmocka_unit_test_setup_teardown(sotw_wildcard_gets_all_and_then_changes, begin, end),
    cmocka_unit_test_setup_teardown(sotw_first_request_is_answered_even_with_nothing, begin, end),
    cmocka_unit_test_setup_teardown(sotw_refused_set_is_not_sent_again, begin, end),
    cmocka_unit_test_setup_teardown(sotw_stale_requests_change_nothing, begin, end),
    cmocka_unit_test_setup_teardown(sotw_foreign_nonce_on_a_fresh_stream_is_answered, begin, end),
    cmocka_unit_test_setup_teardown(sotw_added_names_are_answered_alone, begin, end),
    cmocka_unit_test_setup_teardown(sotw_refused_resource_is_sent_again_only_when_it_changes, begin,
                                    end),
    cmocka_unit_test_setup_teardown(sotw_unknown_names_get_an_empty_answer_once, begin, end),
    cmocka_unit_test_setup_teardown(delta_wildcard_gets_all_and_then_differences, begin, end),
    cmocka_unit_test_setup_teardown(delta_star_is_the_wildcard_too, begin, end),
    cmocka_unit_test_setup_teardown(delta_first_request_is_answered_even_with_nothing, begin, end),
    cmocka_unit_test_setup_teardown(delta_reconnect_gets_what_is_new, begin, end),
    cmocka_unit_test_setup_teardown(delta_reconnect_by_name_gets_what_is_new, begin, end),
    cmocka_unit_test_setup_teardown(delta_reconnect_with_everything_known_is_answered_empty, begin,
                                    end),
    cmocka_unit_test_setup_teardown(delta_names_are_added_and_dropped, begin, end),
    cmocka_unit_test_setup_teardown(delta_unknown_names_are_told_as_removed, begin, end),
    cmocka_unit_test_setup_teardown(delta_refused_resource_is_sent_again_only_when_it_changes,
                                    begin, end),
    cmocka_unit_test_setup_teardown(delta_verdict_is_about_its_own_response, begin, end),
    cmocka_unit_test_setup_teardown(too_many_names_end_the_stream, begin, end),
    cmocka_unit_test_setup_teardown(too_many_octets_of_names_end_the_stream, begin, end),
    cmocka_unit_test_setup_teardown(too_long_names_end_the_stream, begin, end))
