/* SPDX-License-Identifier: Apache-2.0 */
/* The discovery scanner, on wire bytes built here field by field. Every whole message is read at
 * once, octet by octet, and cut in two at each place: the results must be the same. */
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/fault.h"
#include "plugins/xds_proxy/scanner.h"
#include "tests/harness/test.h"

#define CLUSTER  "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define LISTENER "type.googleapis.com/envoy.config.listener.v3.Listener"

/* ---- a writer of protobuf, field by field ---- */

static void put_varint(struct rig_buf *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        rig_buf_append(out, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
    rig_buf_append(out, &(uint8_t){(uint8_t)value}, 1);
}

static void put_bytes(struct rig_buf *out, unsigned number, struct rig_slice bytes)
{
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len);
    rig_buf_append_slice(out, bytes);
}

static void put_text(struct rig_buf *out, unsigned number, const char *text)
{
    put_bytes(out, number, rig_slice_text(text));
}

static void put_number(struct rig_buf *out, unsigned number, uint64_t value)
{
    put_varint(out, number << 3);
    put_varint(out, value);
}

/* Puts `inner` as field `number` and empties it. */
static void put_message(struct rig_buf *out, unsigned number, struct rig_buf *inner)
{
    put_bytes(out, number, rig_buf_slice(inner));
    rig_buf_deinit(inner);
}

static void put_any(struct rig_buf *out, unsigned number, const char *type_url, const char *value)
{
    struct rig_buf any = {0};
    put_text(&any, 1, type_url);
    put_text(&any, 2, value);
    put_message(out, number, &any);
}

static void put_resource(struct rig_buf *out, const char *version, const char *type_url,
                         const char *name)
{
    struct rig_buf resource = {0};
    put_text(&resource, 1, version);
    if (type_url != NULL)
        put_any(&resource, 2, type_url, "body of the resource");
    put_text(&resource, 3, name);
    put_message(out, 2, &resource);
}

/* ---- reading ---- */

static int feed_in_pieces(struct scan *scan, struct rig_slice message, size_t first, size_t rest)
{
    scan_begin(scan, (uint32_t)message.len);
    size_t done = 0;
    while (done < message.len) {
        size_t len = done == 0 && first > 0 ? first : rest;
        if (len > message.len - done)
            len = message.len - done;
        assert_false(scan_is_whole(scan));
        int err = scan_feed(scan, rig_slice(message.at + done, len));
        if (err < 0)
            return err;
        done += len;
    }
    return 0;
}

struct expected {
    enum scan_peek peek;
    const char *peeked, *version, *type_url, *nonce, *error;
    uint64_t resources, removed, error_code;
    bool has_error;
};

static void assert_text(const struct scan_text *text, const char *expected)
{
    const char *wanted = expected != NULL ? expected : "";
    assert_int_equal(text->buf.len, strlen(wanted));
    assert_memory_equal(text->buf.len > 0 ? (const char *)text->buf.at : "", wanted,
                        strlen(wanted));
    assert_false(text->is_cut);
}

static void assert_scan(const struct scan *scan, const struct expected *expected)
{
    assert_true(scan_is_whole(scan));
    assert_int_equal(scan->peek, expected->peek);
    assert_text(&scan->peeked, expected->peeked);
    assert_text(&scan->version, expected->version);
    assert_text(&scan->type_url, expected->type_url);
    assert_text(&scan->nonce, expected->nonce);
    assert_text(&scan->error, expected->error);
    assert_int_equal(scan->resources, expected->resources);
    assert_int_equal(scan->removed, expected->removed);
    assert_int_equal(scan->has_error, expected->has_error);
    assert_int_equal(scan->error_code, expected->error_code);
}

/* All splits; takes `message`. */
static void assert_reads(enum scan_kind kind, struct rig_buf *message,
                         const struct expected *expected)
{
    struct scan scan;
    scan_init(&scan, kind);
    /* An exact copy, so that the sanitizer sees a read past the end. */
    uint8_t *copy = malloc(message->len > 0 ? message->len : 1);
    assert_non_null(copy);
    if (message->len > 0)
        memcpy(copy, message->at, message->len);
    struct rig_slice whole = rig_slice(copy, message->len);
    for (size_t first = 0; first <= whole.len; first++) {
        assert_int_equal(feed_in_pieces(&scan, whole, first, whole.len), 0);
        assert_scan(&scan, expected);
    }
    assert_int_equal(feed_in_pieces(&scan, whole, 1, 1), 0);
    assert_scan(&scan, expected);
    free(copy);
    scan_deinit(&scan);
    rig_buf_deinit(message);
}

static void sotw_response_is_read_over_every_split(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_text(&message, 1, "2026-01-01T00:00:00Z/7");
    put_any(&message, 2, CLUSTER, "one");
    put_any(&message, 2, CLUSTER, "two");
    put_number(&message, 3, 1);
    put_text(&message, 4, CLUSTER);
    put_text(&message, 5, "nonce-1");
    put_text(&message, 6, "control plane, not of interest");
    assert_reads(SCAN_RESPONSE, &message,
                 &(struct expected){.peek = SCAN_PEEK_RESOURCE,
                                    .peeked = CLUSTER,
                                    .version = "2026-01-01T00:00:00Z/7",
                                    .type_url = CLUSTER,
                                    .nonce = "nonce-1",
                                    .resources = 2});
}

static void delta_response_is_read_over_every_split(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_text(&message, 1, "system");
    put_resource(&message, "v1", LISTENER, "first");
    put_resource(&message, "v2", LISTENER, "second");
    put_resource(&message, "v3", LISTENER, "third");
    put_text(&message, 4, LISTENER);
    put_text(&message, 5, "n");
    put_text(&message, 6, "gone");
    put_text(&message, 6, "gone too");
    assert_reads(SCAN_DELTA_RESPONSE, &message,
                 &(struct expected){.peek = SCAN_PEEK_RESOURCE,
                                    .peeked = LISTENER,
                                    .version = "system",
                                    .type_url = LISTENER,
                                    .nonce = "n",
                                    .resources = 3,
                                    .removed = 2});
}

static void type_is_known_before_the_resource_has_come(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_text(&message, 1, "v");
    put_any(&message, 2, CLUSTER, "a body");
    struct scan scan;
    scan_init(&scan, SCAN_RESPONSE);
    scan_begin(&scan, (uint32_t)message.len);
    /* version 3, resource tag and length 2, Any type tag and length 2, type URL */
    size_t decisive = 3 + 2 + 2 + strlen(CLUSTER);
    assert_int_equal(scan_feed(&scan, rig_slice(message.at, decisive - 1)), 0);
    assert_int_equal(scan.peek, SCAN_PEEK_NONE);
    assert_int_equal(scan_feed(&scan, rig_slice(message.at + decisive - 1, 1)), 0);
    assert_int_equal(scan.peek, SCAN_PEEK_RESOURCE);
    assert_true(rig_slice_is(scan_type(&scan.peeked), CLUSTER));
    scan_deinit(&scan);
    rig_buf_deinit(&message);
}

static void type_url_before_resources_is_peeked(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_text(&message, 4, LISTENER);
    put_any(&message, 2, CLUSTER, "odd");
    assert_reads(
        SCAN_RESPONSE, &message,
        &(struct expected){
            .peek = SCAN_PEEK_TYPE, .peeked = LISTENER, .type_url = LISTENER, .resources = 1});
}

static void delta_with_removals_only_is_peeked(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_text(&message, 4, CLUSTER);
    put_text(&message, 5, "n2");
    put_text(&message, 6, "outbound|80||gone");
    assert_reads(SCAN_DELTA_RESPONSE, &message,
                 &(struct expected){.peek = SCAN_PEEK_TYPE,
                                    .peeked = CLUSTER,
                                    .type_url = CLUSTER,
                                    .nonce = "n2",
                                    .removed = 1});
}

static void last_type_url_wins(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_any(&message, 2, CLUSTER, "");
    put_text(&message, 4, LISTENER "Longer");
    put_text(&message, 4, CLUSTER);
    assert_reads(
        SCAN_RESPONSE, &message,
        &(struct expected){
            .peek = SCAN_PEEK_RESOURCE, .peeked = CLUSTER, .type_url = CLUSTER, .resources = 1});
}

static void delta_resource_without_body_is_passed_over(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_resource(&message, "v1", NULL, "heartbeat");
    put_resource(&message, "v1", CLUSTER, "with body");
    put_text(&message, 4, CLUSTER);
    assert_reads(
        SCAN_DELTA_RESPONSE, &message,
        &(struct expected){
            .peek = SCAN_PEEK_RESOURCE, .peeked = CLUSTER, .type_url = CLUSTER, .resources = 2});
}

static void delta_without_any_body_waits_for_type_url(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_resource(&message, "v1", NULL, "heartbeat");
    put_bytes(&message, 2, rig_slice(NULL, 0));
    put_text(&message, 4, CLUSTER);
    assert_reads(
        SCAN_DELTA_RESPONSE, &message,
        &(struct expected){
            .peek = SCAN_PEEK_TYPE, .peeked = CLUSTER, .type_url = CLUSTER, .resources = 2});
}

static void body_without_type_is_blind(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_bytes(&message, 2, rig_slice(NULL, 0));
    put_any(&message, 2, CLUSTER, "");
    put_text(&message, 4, CLUSTER);
    assert_reads(SCAN_RESPONSE, &message,
                 &(struct expected){.peek = SCAN_PEEK_BLIND, .type_url = CLUSTER, .resources = 2});

    put_resource(&message, "v", "", "n");
    put_text(&message, 4, CLUSTER);
    assert_reads(SCAN_DELTA_RESPONSE, &message,
                 &(struct expected){.peek = SCAN_PEEK_BLIND, .type_url = CLUSTER, .resources = 1});
}

static void fields_may_come_in_any_order(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    struct rig_buf any = {0};
    put_text(&message, 5, "nonce");
    put_text(&any, 2, "value before type");
    put_text(&any, 1, CLUSTER);
    put_message(&message, 2, &any);
    put_text(&message, 1, "version");
    put_text(&message, 4, CLUSTER);
    assert_reads(SCAN_RESPONSE, &message,
                 &(struct expected){.peek = SCAN_PEEK_RESOURCE,
                                    .peeked = CLUSTER,
                                    .version = "version",
                                    .type_url = CLUSTER,
                                    .nonce = "nonce",
                                    .resources = 1});

    struct rig_buf resource = {0};
    put_text(&message, 6, "removed first");
    put_text(&resource, 3, "name first");
    put_any(&resource, 2, CLUSTER, "x");
    put_text(&resource, 1, "version last");
    put_message(&message, 2, &resource);
    put_text(&message, 5, "nonce");
    put_text(&message, 4, CLUSTER);
    assert_reads(SCAN_DELTA_RESPONSE, &message,
                 &(struct expected){.peek = SCAN_PEEK_RESOURCE,
                                    .peeked = CLUSTER,
                                    .type_url = CLUSTER,
                                    .nonce = "nonce",
                                    .resources = 1,
                                    .removed = 1});
}

static void put_unknown_fields(struct rig_buf *out)
{
    put_number(out, 15, UINT64_MAX);
    put_varint(out, 16 << 3 | 1);
    rig_buf_append(out, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    put_varint(out, 17 << 3 | 5);
    rig_buf_append(out, "\x22\x01\x22\x01", 4);
    put_text(out, 536870911, "the highest field number");
    put_bytes(out, 3, rig_slice(NULL, 0));
}

static void unknown_fields_are_skipped(void **state)
{
    (void)state;
    struct rig_buf message = {0}, any = {0};
    put_unknown_fields(&message);
    put_unknown_fields(&any);
    put_text(&any, 1, CLUSTER);
    put_unknown_fields(&any);
    put_message(&message, 2, &any);
    put_unknown_fields(&message);
    put_text(&message, 4, CLUSTER);
    put_unknown_fields(&message);
    assert_reads(
        SCAN_RESPONSE, &message,
        &(struct expected){
            .peek = SCAN_PEEK_RESOURCE, .peeked = CLUSTER, .type_url = CLUSTER, .resources = 1});
}

static void another_wire_type_is_an_unknown_field(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_number(&message, 1, 300);
    put_number(&message, 2, 1);
    put_varint(&message, 4 << 3 | 5);
    rig_buf_append(&message, "abcd", 4);
    put_varint(&message, 5 << 3 | 1);
    rig_buf_append(&message, "abcdefgh", 8);
    put_text(&message, 4, CLUSTER);
    assert_reads(
        SCAN_RESPONSE, &message,
        &(struct expected){.peek = SCAN_PEEK_TYPE, .peeked = CLUSTER, .type_url = CLUSTER});
}

static void sotw_nack_is_read(void **state)
{
    (void)state;
    struct rig_buf message = {0}, node = {0}, error = {0};
    put_text(&node, 1, "sidecar~10.0.0.1~a.b~b.svc.cluster.local");
    put_text(&node, 4, "looks like a type URL, is not");
    put_text(&message, 1, "v-accepted");
    put_message(&message, 2, &node);
    put_text(&message, 3, "name-1");
    put_text(&message, 4, CLUSTER);
    put_text(&message, 5, "nonce-9");
    put_number(&error, 1, 13);
    put_text(&error, 2, "Error adding cluster");
    put_any(&error, 3, "type.googleapis.com/detail", "x");
    put_message(&message, 6, &error);
    assert_reads(SCAN_REQUEST, &message,
                 &(struct expected){.version = "v-accepted",
                                    .type_url = CLUSTER,
                                    .nonce = "nonce-9",
                                    .has_error = true,
                                    .error_code = 13,
                                    .error = "Error adding cluster"});
}

static void delta_nack_and_ack_are_read(void **state)
{
    (void)state;
    struct rig_buf message = {0}, error = {0};
    put_text(&message, 2, LISTENER);
    put_text(&message, 3, "subscribe");
    put_text(&message, 4, "unsubscribe");
    put_text(&message, 6, "nonce-10");
    put_number(&error, 1, 13);
    put_text(&error, 2, "no such filter");
    put_message(&message, 7, &error);
    assert_reads(SCAN_DELTA_REQUEST, &message,
                 &(struct expected){.type_url = LISTENER,
                                    .nonce = "nonce-10",
                                    .has_error = true,
                                    .error_code = 13,
                                    .error = "no such filter"});

    put_text(&message, 2, LISTENER);
    put_text(&message, 6, "nonce-11");
    assert_reads(SCAN_DELTA_REQUEST, &message,
                 &(struct expected){.type_url = LISTENER, .nonce = "nonce-11"});
}

static void empty_error_detail_is_a_nack(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    put_bytes(&message, 6, rig_slice(NULL, 0));
    put_text(&message, 5, "n");
    assert_reads(SCAN_REQUEST, &message, &(struct expected){.nonce = "n", .has_error = true});
}

static void empty_message_is_whole_at_once(void **state)
{
    (void)state;
    struct rig_buf message = {0};
    assert_reads(SCAN_RESPONSE, &message, &(struct expected){0});
}

static void next_message_forgets_the_one_before(void **state)
{
    (void)state;
    struct rig_buf first = {0}, second = {0};
    put_text(&first, 1, "v");
    put_any(&first, 2, CLUSTER, "x");
    put_text(&first, 5, "n");
    put_text(&second, 4, LISTENER);
    struct scan scan;
    scan_init(&scan, SCAN_RESPONSE);
    assert_int_equal(feed_in_pieces(&scan, rig_buf_slice(&first), 0, 7), 0);
    assert_int_equal(feed_in_pieces(&scan, rig_buf_slice(&second), 0, 7), 0);
    assert_scan(&scan, &(struct expected){
                           .peek = SCAN_PEEK_TYPE, .peeked = LISTENER, .type_url = LISTENER});
    scan_deinit(&scan);
    rig_buf_deinit(&first);
    rig_buf_deinit(&second);
}

static void long_strings_are_cut(void **state)
{
    (void)state;
    char text[SCAN_TEXT_MAX + 2];
    memset(text, 'x', sizeof(text));
    struct rig_buf message = {0};
    put_bytes(&message, 1, rig_slice(text, SCAN_TEXT_MAX));
    put_bytes(&message, 5, rig_slice(text, SCAN_TEXT_MAX + 1));
    put_bytes(&message, 4, rig_slice(text, SCAN_TEXT_MAX + 1));
    struct scan scan;
    scan_init(&scan, SCAN_RESPONSE);
    assert_int_equal(feed_in_pieces(&scan, rig_buf_slice(&message), 100, 100), 0);
    assert_int_equal(scan_slice(&scan.version).len, SCAN_TEXT_MAX);
    assert_false(scan.version.is_cut);
    assert_int_equal(scan_slice(&scan.nonce).len, SCAN_TEXT_MAX);
    assert_true(scan.nonce.is_cut);
    assert_int_equal(scan_type(&scan.type_url).len, 0);
    assert_int_equal(scan_type(&scan.peeked).len, 0);
    scan_deinit(&scan);
    rig_buf_deinit(&message);
}

static void longest_message_is_skipped_by_length(void **state)
{
    (void)state;
    struct rig_buf head = {0}, tail = {0};
    put_varint(&head, 2 << 3 | 2);
    struct rig_buf any = {0};
    put_text(&any, 1, CLUSTER);
    put_varint(&any, 2 << 3 | 2);
    put_text(&tail, 4, CLUSTER);
    /* 5 octets of length inside, 5 outside, and the tag: the value fills 2^32 - 1. */
    uint64_t value = UINT32_MAX - tail.len - 1 - 5 - any.len - 5;
    put_varint(&head, any.len + 5 + value);
    rig_buf_append_slice(&head, rig_buf_slice(&any));
    put_varint(&head, value);
    assert_int_equal(head.len + value + tail.len, UINT32_MAX);

    static const uint8_t block[65536];
    struct scan scan;
    scan_init(&scan, SCAN_RESPONSE);
    scan_begin(&scan, UINT32_MAX);
    assert_int_equal(scan_feed(&scan, rig_buf_slice(&head)), 0);
    for (uint64_t left = value; left > 0;) {
        size_t len = left < sizeof(block) ? (size_t)left : sizeof(block);
        assert_int_equal(scan_feed(&scan, rig_slice(block, len)), 0);
        left -= len;
    }
    assert_int_equal(scan_feed(&scan, rig_buf_slice(&tail)), 0);
    assert_scan(&scan, &(struct expected){.peek = SCAN_PEEK_RESOURCE,
                                          .peeked = CLUSTER,
                                          .type_url = CLUSTER,
                                          .resources = 1});
    scan_deinit(&scan);
    rig_buf_deinit(&head);
    rig_buf_deinit(&any);
    rig_buf_deinit(&tail);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *at;
        size_t len;
    } cases[] = {
#define BAD(what, octets) {what, octets, sizeof(octets) - 1}
        BAD("field number 0", "\x02\x01x"),
        BAD("a group", "\x0b\x0c"),
        BAD("end of a group", "\x0c\x00"),
        BAD("wire type 6", "\x0e\x00"),
        BAD("wire type 7", "\x0f\x00"),
        BAD("a tag over 32 bits", "\xf8\xff\xff\xff\xff\x01\x01"),
        BAD("a tag alone", "\x0a"),
        BAD("half a tag", "\x8a"),
        BAD("half a length", "\x0a\x80"),
        BAD("half a number", "\x18\x80"),
        BAD("a string past the end", "\x0a\x03xy"),
        BAD("a string of 2^64 - 1", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"),
        BAD("a number of 11 octets", "\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
        BAD("a number over 64 bits", "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        BAD("half of 8 octets", "\x79\x01\x02\x03\x04"),
        BAD("half of 4 octets", "\x7d\x01\x02"),
        BAD("an Any that ends in a tag", "\x12\x01\x0a\x0a\x00"),
        BAD("an Any whose type runs out of it", "\x12\x03\x0a\x02x\x0a\x00"),
        BAD("a resource past the end", "\x12\x7f\x0a\x01x"),
#undef BAD
    };
    struct scan scan;
    scan_init(&scan, SCAN_RESPONSE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig_slice message = rig_slice(cases[i].at, cases[i].len);
        for (size_t first = 1; first <= message.len; first++) {
            int err = feed_in_pieces(&scan, message, first, message.len);
            if (err != RIG_E_PROTOCOL)
                fail_msg("%s, cut at %zu: %d", cases[i].what, first, err);
            assert_false(scan_is_whole(&scan));
        }
        assert_int_equal(scan_feed(&scan, RIG_SLICE("x")), RIG_E_PROTOCOL);
    }
    scan_deinit(&scan);
}

static void message_after_a_refused_one_is_read(void **state)
{
    (void)state;
    struct scan scan;
    scan_init(&scan, SCAN_RESPONSE);
    assert_int_equal(feed_in_pieces(&scan, RIG_SLICE("\x0b"), 1, 1), RIG_E_PROTOCOL);
    assert_int_equal(feed_in_pieces(&scan, RIG_SLICE("\x2a\x01z"), 1, 1), 0);
    assert_text(&scan.nonce, "z");
    scan_deinit(&scan);
}

RIG_TEST_MAIN(
    cmocka_unit_test(sotw_response_is_read_over_every_split),
    cmocka_unit_test(delta_response_is_read_over_every_split),
    cmocka_unit_test(type_is_known_before_the_resource_has_come),
    cmocka_unit_test(type_url_before_resources_is_peeked),
    cmocka_unit_test(delta_with_removals_only_is_peeked), cmocka_unit_test(last_type_url_wins),
    cmocka_unit_test(delta_resource_without_body_is_passed_over),
    cmocka_unit_test(delta_without_any_body_waits_for_type_url),
    cmocka_unit_test(body_without_type_is_blind), cmocka_unit_test(fields_may_come_in_any_order),
    cmocka_unit_test(unknown_fields_are_skipped),
    cmocka_unit_test(another_wire_type_is_an_unknown_field), cmocka_unit_test(sotw_nack_is_read),
    cmocka_unit_test(delta_nack_and_ack_are_read), cmocka_unit_test(empty_error_detail_is_a_nack),
    cmocka_unit_test(empty_message_is_whole_at_once),
    cmocka_unit_test(next_message_forgets_the_one_before), cmocka_unit_test(long_strings_are_cut),
    cmocka_unit_test(longest_message_is_skipped_by_length),
    cmocka_unit_test(what_is_no_message_is_refused),
    cmocka_unit_test(message_after_a_refused_one_is_read))
