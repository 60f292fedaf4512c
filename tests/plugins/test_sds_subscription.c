/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a stream (Istio's sdsservice_test.go tells most of these stories). */
#include "tests/harness/test.h"

#include <stdio.h>
#include <string.h>

#include "plugins/sds/request.h"
#include "plugins/sds/subscription.h"

/* A request as its octets; names are separated by spaces. */
static struct sds_request request_of(const char *names, const char *nonce, bool is_nack)
{
    static uint8_t octets[512];
    size_t len = 0;
    struct sds_request request;
    while (*names != '\0') {
        size_t word = strcspn(names, " ");
        octets[len++] = 0x1a;
        octets[len++] = (uint8_t)word;
        memcpy(octets + len, names, word);
        len += word;
        names += word + (names[word] == ' ');
    }
    if (nonce[0] != '\0') {
        octets[len++] = 0x2a;
        octets[len++] = (uint8_t)strlen(nonce);
        memcpy(octets + len, nonce, strlen(nonce));
        len += strlen(nonce);
    }
    if (is_nack) {
        octets[len++] = 0x32;
        octets[len++] = 0;
    }
    assert_int_equal(sds_request_read(rig_slice(octets, len), &request), 0);
    return request;
}

/* Names that are due, in order, each followed by a space; they are marked as answered. */
static const char *answer(struct subscriptions *it, const char *nonce)
{
    static char text[256];
    text[0] = '\0';
    for (struct subscription *each = it->first; each != NULL; each = each->next) {
        if (each->is_due) {
            strcat(text, each->name);
            strcat(text, " ");
        }
        each->is_due = false;
    }
    if (text[0] != '\0')
        snprintf(it->nonce, sizeof(it->nonce), "%s", nonce);
    return text;
}

static const char *subscribed(const struct subscriptions *it)
{
    static char text[256];
    text[0] = '\0';
    for (struct subscription *each = it->first; each != NULL; each = each->next) {
        strcat(text, each->name);
        strcat(text, " ");
    }
    return text;
}

static enum request_kind take(struct subscriptions *it, const char *names, const char *nonce,
                              bool is_nack)
{
    struct sds_request request = request_of(names, nonce, is_nack);
    enum request_kind kind = subscriptions_judge(it, &request);
    subscriptions_apply(it, kind, &request);
    return kind;
}

static void name_added_with_an_ack_is_answered_alone(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    assert_int_equal(take(&it, "default", "", false), REQUEST_SUBSCRIBE);
    assert_string_equal(answer(&it, "n1"), "default ");
    assert_int_equal(take(&it, "default ROOTCA", "n1", false), REQUEST_ACK);
    assert_string_equal(answer(&it, "n2"), "ROOTCA ");
    assert_int_equal(take(&it, "default ROOTCA", "n2", false), REQUEST_ACK);
    assert_string_equal(answer(&it, "n3"), "");
    subscriptions_deinit(&it);
}

static void request_without_nonce_replaces_the_set(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "ROOTCA", "", false);
    assert_string_equal(answer(&it, "n1"), "ROOTCA ");
    take(&it, "ROOTCA", "n1", false);
    assert_int_equal(take(&it, "default", "", false), REQUEST_SUBSCRIBE);
    assert_string_equal(answer(&it, "n2"), "default ");
    assert_string_equal(subscribed(&it), "default ");
    subscriptions_deinit(&it);
}

static void asked_twice_without_nonce_is_answered_twice(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "ROOTCA", "", false);
    assert_string_equal(answer(&it, "n1"), "ROOTCA ");
    take(&it, "ROOTCA", "", false);
    assert_string_equal(answer(&it, "n2"), "ROOTCA ");
    subscriptions_deinit(&it);
}

static void foreign_nonce_on_a_fresh_stream_is_answered(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    assert_int_equal(take(&it, "default ROOTCA", "of-another-stream", false), REQUEST_SUBSCRIBE);
    assert_string_equal(answer(&it, "n1"), "default ROOTCA ");
    subscriptions_deinit(&it);
}

static void stale_nonce_changes_nothing(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "default", "", false);
    answer(&it, "n1");
    assert_int_equal(take(&it, "default ROOTCA", "n0", false), REQUEST_STALE);
    assert_string_equal(answer(&it, "n2"), "");
    assert_string_equal(subscribed(&it), "default ");
    subscriptions_deinit(&it);
}

static void nack_changes_nothing(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "default", "", false);
    answer(&it, "n1");
    assert_int_equal(take(&it, "default ROOTCA", "n1", true), REQUEST_NACK);
    assert_string_equal(answer(&it, "n2"), "");
    assert_string_equal(subscribed(&it), "default ");
    assert_int_equal(take(&it, "", "", true), REQUEST_NACK);
    subscriptions_deinit(&it);
}

static void no_names_unsubscribe_and_a_later_request_starts_anew(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "default ROOTCA", "", false);
    answer(&it, "n1");
    assert_int_equal(take(&it, "", "n1", false), REQUEST_UNSUBSCRIBE);
    assert_null(it.first);
    assert_int_equal(take(&it, "default", "n1", false), REQUEST_SUBSCRIBE);
    assert_string_equal(answer(&it, "n2"), "default ");
    subscriptions_deinit(&it);
}

static void name_removed_with_an_ack_gives_no_answer(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "default ROOTCA", "", false);
    answer(&it, "n1");
    assert_int_equal(take(&it, "ROOTCA", "n1", false), REQUEST_ACK);
    assert_string_equal(answer(&it, "n2"), "");
    assert_string_equal(subscribed(&it), "ROOTCA ");
    subscriptions_deinit(&it);
}

static void repeated_names_count_once(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "default default default", "", false);
    assert_string_equal(answer(&it, "n1"), "default ");
    assert_string_equal(subscribed(&it), "default ");
    subscriptions_deinit(&it);
}

static void kept_name_keeps_what_it_was_sent(void **state)
{
    (void)state;
    struct subscriptions it = {0};
    take(&it, "default", "", false);
    answer(&it, "n1");
    it.first->sent_generation = 7;
    take(&it, "default ROOTCA", "n1", false);
    assert_int_equal(subscriptions_find(&it, RIG_SLICE("default"))->sent_generation, 7);
    assert_int_equal(subscriptions_find(&it, RIG_SLICE("ROOTCA"))->sent_generation, 0);
    assert_null(subscriptions_find(&it, RIG_SLICE("defaul")));
    subscriptions_deinit(&it);
}

RIG_TEST_MAIN(cmocka_unit_test(name_added_with_an_ack_is_answered_alone),
              cmocka_unit_test(request_without_nonce_replaces_the_set),
              cmocka_unit_test(asked_twice_without_nonce_is_answered_twice),
              cmocka_unit_test(foreign_nonce_on_a_fresh_stream_is_answered),
              cmocka_unit_test(stale_nonce_changes_nothing), cmocka_unit_test(nack_changes_nothing),
              cmocka_unit_test(no_names_unsubscribe_and_a_later_request_starts_anew),
              cmocka_unit_test(name_removed_with_an_ack_gives_no_answer),
              cmocka_unit_test(repeated_names_count_once),
              cmocka_unit_test(kept_name_keeps_what_it_was_sent))
