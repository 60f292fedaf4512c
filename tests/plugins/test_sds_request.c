/* SPDX-License-Identifier: Apache-2.0 */
/* DiscoveryRequests as octets, written by hand from the field numbers of Envoy's API. */
#include "tests/harness/test.h"

#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "plugins/sds/request.h"

#define BYTES(text) rig_slice(text, sizeof(text) - 1)

static struct rig_slice message_copy(struct rig_slice from, void **block)
{
    *block = malloc(from.len > 0 ? from.len : 1); /* so that a sanitizer sees each octet too far */
    memcpy(*block, from.at, from.len);
    return rig_slice(*block, from.len);
}

static int read_bytes(struct rig_slice from, struct sds_request *request)
{
    void *block;
    struct rig_slice message = message_copy(from, &block);
    int err = sds_request_read(message, request);
    free(block);
    return err;
}

static void first_request_of_envoy_is_understood(void **state)
{
    (void)state;
    struct sds_request request;
    struct rig_slice name;
    size_t cursor = 0;
    /* node{id "n", cluster "c"}, name "default", type_url "T" */
    static const char message[] = "\x12\x06\x0a\x01n\x12\x01"
                                  "c\x1a\x07"
                                  "default\x22\x01T";
    assert_int_equal(sds_request_read(BYTES(message), &request), 0);
    assert_true(request.has_node_id);
    assert_false(request.is_nack);
    assert_int_equal(request.name_count, 1);
    assert_true(rig_slice_is(request.type_url, "T"));
    assert_int_equal(request.response_nonce.len, 0);
    assert_true(sds_request_name(&request, &cursor, &name));
    assert_true(rig_slice_is(name, "default"));
    assert_false(sds_request_name(&request, &cursor, &name));
}

static void ack_and_names_in_order(void **state)
{
    (void)state;
    struct sds_request request;
    struct rig_slice name;
    size_t cursor = 0;
    static const char message[] = "\x0a\x02v7\x1a\x01x\x22\x01T\x1a\x01y\x2a\x02n7";
    assert_int_equal(sds_request_read(BYTES(message), &request), 0);
    assert_false(request.has_node_id);
    assert_true(rig_slice_is(request.version_info, "v7"));
    assert_true(rig_slice_is(request.response_nonce, "n7"));
    assert_int_equal(request.name_count, 2);
    assert_true(sds_request_name(&request, &cursor, &name) && rig_slice_is(name, "x"));
    assert_true(sds_request_name(&request, &cursor, &name) && rig_slice_is(name, "y"));
}

static void nack_carries_code_and_text(void **state)
{
    (void)state;
    struct sds_request request;
    static const char message[] = "\x2a\x01n\x32\x07\x08\x0d\x12\x03"
                                  "bad";
    assert_int_equal(sds_request_read(BYTES(message), &request), 0);
    assert_true(request.is_nack);
    assert_int_equal(request.error_code, 13);
    assert_true(rig_slice_is(request.error_message, "bad"));
    /* An empty Status is an error_detail all the same. */
    assert_int_equal(sds_request_read(BYTES("\x32\x00"), &request), 0);
    assert_true(request.is_nack);
}

static void node_without_an_id_is_none(void **state)
{
    (void)state;
    struct sds_request request;
    assert_int_equal(sds_request_read(BYTES("\x12\x00"), &request), 0);
    assert_false(request.has_node_id);
    assert_int_equal(sds_request_read(BYTES("\x12\x02\x0a\x00"), &request), 0);
    assert_false(request.has_node_id);
    assert_int_equal(sds_request_read(BYTES("\x12\x03\x12\x01"
                                            "c"),
                                      &request),
                     0);
    assert_false(request.has_node_id);
}

static void unknown_fields_of_every_kind_are_skipped(void **state)
{
    (void)state;
    struct sds_request request;
    static const char message[] = "\xf8\x01\x96\x01"                     /* 31: varint */
                                  "\x79\x01\x02\x03\x04\x05\x06\x07\x08" /* 15: fixed64 */
                                  "\x7d\x01\x02\x03\x04"                 /* 15: fixed32 */
                                  "\x3a\x02zz"                           /* 7: locator */
                                  "\x10\x05"                             /* 2 with another type */
                                  "\x22\x01T";
    assert_int_equal(sds_request_read(BYTES(message), &request), 0);
    assert_true(rig_slice_is(request.type_url, "T"));
    assert_int_equal(sds_request_read(BYTES(""), &request), 0);
    assert_int_equal(request.name_count, 0);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    struct sds_request request;
    static const struct {
        const char *at;
        size_t len;
    } bad[] = {
        {"\x1a", 1}, /* length is missing */
        {"\x1a\x05"
         "defa",
         6},                                                      /* shorter than it says */
        {"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},     /* 2^64-1 octets */
        {"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* over ten octets */
        {"\x02\x00", 2},                                          /* field number 0 */
        {"\x0b\x0c", 2},                                          /* a group */
        {"\x0f", 1},                                              /* wire type 7 */
        {"\x79\x01\x02", 3},                                      /* fixed64 cut short */
        {"\x12\x02\x0a\x05", 4},                                  /* node cut short inside */
        {"\x32\x01\x08", 3},                                      /* status cut short inside */
        {"\xf8\xff\xff\xff\xff\x0f\x00", 7},                      /* tag over 32 bits */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(read_bytes(rig_slice(bad[i].at, bad[i].len), &request), RIG_E_PROTOCOL);
}

static void every_cut_of_a_message_is_survived(void **state)
{
    (void)state;
    static const char message[] = "\x0a\x02v7\x12\x06\x0a\x01n\x12\x01"
                                  "c\x1a\x07"
                                  "default\x22\x01T\x2a\x02n7\x32\x07\x08\x0d\x12\x03"
                                  "bad";
    struct sds_request request;
    unsigned good = 0;
    for (size_t len = 0; len < sizeof(message); len++)
        good += read_bytes(rig_slice(message, len), &request) == 0;
    assert_int_equal(good, 7); /* between fields, and nowhere else */
}

RIG_TEST_MAIN(cmocka_unit_test(first_request_of_envoy_is_understood),
              cmocka_unit_test(ack_and_names_in_order),
              cmocka_unit_test(nack_carries_code_and_text),
              cmocka_unit_test(node_without_an_id_is_none),
              cmocka_unit_test(unknown_fields_of_every_kind_are_skipped),
              cmocka_unit_test(what_is_no_message_is_refused),
              cmocka_unit_test(every_cut_of_a_message_is_survived))
