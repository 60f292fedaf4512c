/* SPDX-License-Identifier: Apache-2.0 */
/* DiscoveryResponses with secrets, octet by octet as Envoy's API numbers its fields. */
#include "tests/harness/test.h"

#include <string.h>

#include "plugins/sds/response.h"

#define TYPE_LEN 68 /* of SDS_TYPE_URL: 0x44 */

static void key_pair_is_a_tls_certificate(void **state)
{
    (void)state;
    struct rig_secret key = {0};
    struct rig_buf out = {0};
    rig_secret_set(&key, RIG_SLICE("KEY"));
    const struct sds_resource resource = {.name = "default",
                                          .secret = {.kind = SECRET_KEY_PAIR,
                                                     .certificate_chain = RIG_SLICE("CHAIN"),
                                                     .private_key = &key}};
    static const char expected[] = "\x0a\x02v1"            /* 1 version_info */
                                   "\x12\x63"              /* 2 resources: Any */
                                   "\x0a\x44" SDS_TYPE_URL /* 1 type_url */
                                   "\x12\x1b"              /* 2 value: Secret */
                                   "\x0a\x07"
                                   "default"  /* 1 name */
                                   "\x12\x10" /* 2 tls_certificate */
                                   "\x0a\x07\x12\x05"
                                   "CHAIN" /* 1 certificate_chain{inline_bytes} */
                                   "\x12\x05\x12\x03"
                                   "KEY"                   /* 2 private_key{inline_bytes} */
                                   "\x22\x44" SDS_TYPE_URL /* 4 type_url */
                                   "\x2a\x02n1";           /* 5 nonce */
    assert_int_equal(strlen(SDS_TYPE_URL), TYPE_LEN);
    sds_response_pack(&resource, 1, "v1", "n1", &out);
    assert_int_equal(out.len, sizeof(expected) - 1);
    assert_memory_equal(out.at, expected, out.len);
    rig_buf_deinit(&out);
    rig_secret_deinit(&key);
}

static void roots_are_a_validation_context(void **state)
{
    (void)state;
    struct rig_buf out = {0};
    const struct sds_resource resource = {
        .name = "ROOTCA", .secret = {.kind = SECRET_ROOTS, .trusted_ca = RIG_SLICE("ROOTS")}};
    static const char expected[] = "\x0a\x02v2"
                                   "\x12\x5b"
                                   "\x0a\x44" SDS_TYPE_URL "\x12\x13"
                                   "\x0a\x06"
                                   "ROOTCA"
                                   "\x22\x09" /* 4 validation_context */
                                   "\x0a\x07\x12\x05"
                                   "ROOTS" /* 1 trusted_ca{inline_bytes} */
                                   "\x22\x44" SDS_TYPE_URL "\x2a\x02n2";
    sds_response_pack(&resource, 1, "v2", "n2", &out);
    assert_int_equal(out.len, sizeof(expected) - 1);
    assert_memory_equal(out.at, expected, out.len);
    rig_buf_deinit(&out);
}

static void two_secrets_go_in_one_response(void **state)
{
    (void)state;
    struct rig_buf one = {0};
    struct rig_buf two = {0};
    const struct sds_resource resources[] = {
        {.name = "ROOTCA", .secret = {.kind = SECRET_ROOTS, .trusted_ca = RIG_SLICE("A")}},
        {.name = "other", .secret = {.kind = SECRET_ROOTS, .trusted_ca = RIG_SLICE("B")}}};
    sds_response_pack(resources, 1, "v", "n", &one);
    sds_response_pack(resources, 2, "v", "n", &two);
    /* "other" is one octet shorter than "ROOTCA"; head and tail of the message come once. */
    size_t any = one.len - 3 - (2 + TYPE_LEN) - 3;
    assert_int_equal(two.len, one.len + any - 1);
    assert_memory_equal(one.at, two.at, 3 + any);
    rig_buf_deinit(&one);
    rig_buf_deinit(&two);
}

RIG_TEST_MAIN(cmocka_unit_test(key_pair_is_a_tls_certificate),
              cmocka_unit_test(roots_are_a_validation_context),
              cmocka_unit_test(two_secrets_go_in_one_response))
