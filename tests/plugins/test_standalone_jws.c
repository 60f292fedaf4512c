/* SPDX-License-Identifier: Apache-2.0 */
/* ES256 signatures and base64url, by the examples of RFC 7515 and RFC 4648. */
#include "tests/harness/test.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>

#include "core/buf.h"
#include "core/secret.h"

#include "plugins/standalone/authority.h"
#include "plugins/standalone/jws.h"

/* RFC 7515 appendix A.3. */
#define A3_HEADER "eyJhbGciOiJFUzI1NiJ9"
#define A3_PAYLOAD                                                                                 \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "f"                                                                                            \
    "Q"
#define A3_SIGNATURE                                                                               \
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
#define A3_TEXT "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"
#define A3_X    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define A3_Y    "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"

static EVP_PKEY *a3_key(void)
{
    struct rig_buf point = {0};
    rig_buf_append(&point, "\x04", 1);
    assert_int_equal(jws_base64url_decode(RIG_SLICE(A3_X), &point), 0);
    assert_int_equal(jws_base64url_decode(RIG_SLICE(A3_Y), &point), 0);
    assert_int_equal(point.len, 65);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.at, point.len),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_PKEY_CTX_free(ctx);
    rig_buf_deinit(&point);
    return key;
}

static int verify(EVP_PKEY *key, const char *token)
{
    struct rig_buf payload = {0};
    struct rig_fault why = {0};
    int err = jws_verify(key, rig_slice_text(token), &payload, &why);
    assert_true((err < 0) == (why.text[0] != '\0'));
    if (err < 0)
        assert_int_equal(payload.len, 0);
    rig_buf_deinit(&payload);
    return err;
}

static void rfc7515_example_verifies(void **state)
{
    (void)state;
    EVP_PKEY *key = a3_key();
    struct rig_buf payload = {0};
    struct rig_fault why = {0};
    int err = jws_verify(key, RIG_SLICE(A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE), &payload, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    assert_string_equal(rig_buf_text(&payload), A3_TEXT);
    rig_buf_deinit(&payload);
    EVP_PKEY_free(key);
}

static void every_changed_character_is_refused(void **state)
{
    (void)state;
    EVP_PKEY *key = a3_key();
    char token[] = A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE;
    for (size_t i = 0; i + 1 < sizeof(token); i++) {
        char kept = token[i];
        token[i] = kept == 'A' ? 'B' : 'A';
        assert_true(verify(key, token) < 0);
        token[i] = kept;
    }
    assert_int_equal(verify(key, token), 0);
    EVP_PKEY_free(key);
}

static void other_forms_are_refused(void **state)
{
    (void)state;
    EVP_PKEY *key = a3_key();
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "a",
        A3_HEADER "." A3_PAYLOAD,
        A3_HEADER "." A3_PAYLOAD ".",
        A3_HEADER ".." A3_SIGNATURE,
        "." A3_PAYLOAD "." A3_SIGNATURE,
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE "=",
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE ".",
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE "." A3_SIGNATURE,
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE A3_SIGNATURE,
        A3_HEADER "." A3_PAYLOAD ". " A3_SIGNATURE,
        /* {"alg":"none"} */
        "eyJhbGciOiJub25lIn0." A3_PAYLOAD ".",
        "eyJhbGciOiJub25lIn0." A3_PAYLOAD "." A3_SIGNATURE,
        /* {"alg":"HS256"} */
        "eyJhbGciOiJIUzI1NiJ9." A3_PAYLOAD "." A3_SIGNATURE,
        /* {"alg":"es256"}, [], 1 */
        "eyJhbGciOiJlczI1NiJ9." A3_PAYLOAD "." A3_SIGNATURE,
        "W10." A3_PAYLOAD "." A3_SIGNATURE,
        "MQ." A3_PAYLOAD "." A3_SIGNATURE,
        /* R = S = 0 */
        A3_HEADER
        "." A3_PAYLOAD
        ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAA",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_true(verify(key, bad[i]) < 0);
    EVP_PKEY_free(key);
}

static void none_is_not_an_algorithm(void **state)
{
    (void)state;
    EVP_PKEY *key = a3_key();
    struct rig_buf payload = {0};
    struct rig_fault why = {0};
    assert_int_equal(jws_verify(key, RIG_SLICE("eyJhbGciOiJub25lIn0." A3_PAYLOAD "." A3_SIGNATURE),
                                &payload, &why),
                     RIG_E_AUTH);
    assert_string_equal(why.text, "the token is not signed by ES256");
    EVP_PKEY_free(key);
}

/* RFC 7515 section 4.1.11: what "crit" names must be understood. */
static void critical_header_is_refused(void **state)
{
    (void)state;
    EVP_PKEY *key = a3_key();
    struct rig_buf text = {0}, payload = {0};
    struct rig_fault why = {0};
    jws_base64url_encode(RIG_SLICE("{\"alg\":\"ES256\",\"crit\":[\"b64\"],\"b64\":true}"), &text);
    rig_buf_append_text(&text, "." A3_PAYLOAD "." A3_SIGNATURE);
    assert_int_equal(jws_verify(key, rig_buf_slice(&text), &payload, &why), RIG_E_AUTH);
    assert_string_equal(why.text, "the token's header asks for an extension");
    rig_buf_deinit(&text);
    EVP_PKEY_free(key);
}

static void own_signature_verifies_with_its_key_only(void **state)
{
    (void)state;
    EVP_PKEY *key, *other;
    struct rig_secret token = {0};
    struct rig_buf payload = {0};
    struct rig_fault why = {0};
    assert_int_equal(authority_key_new(&key, &why), 0);
    assert_int_equal(authority_key_new(&other, &why), 0);
    /* Often enough to meet an R or S that begins with a zero octet. */
    for (int i = 0; i < 600; i++) {
        assert_int_equal(jws_sign(key, RIG_SLICE("{\"a\":1}"), &token, &why), 0);
        rig_buf_clear(&payload);
        assert_int_equal(jws_verify(key, rig_secret_slice(&token), &payload, &why), 0);
        assert_string_equal(rig_buf_text(&payload), "{\"a\":1}");
    }
    rig_buf_clear(&payload);
    assert_int_equal(jws_verify(other, rig_secret_slice(&token), &payload, &why), RIG_E_AUTH);
    rig_secret_deinit(&token);
    rig_buf_deinit(&payload);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

static void long_text_is_refused_before_it_is_read(void **state)
{
    (void)state;
    EVP_PKEY *key = a3_key();
    struct rig_buf token = {0}, payload = {0};
    struct rig_fault why = {0};
    for (size_t i = 0; i < JWS_BYTES_MAX + 1; i++)
        rig_buf_append(&token, "A", 1);
    assert_int_equal(jws_verify(key, rig_buf_slice(&token), &payload, &why), RIG_E_TOO_LARGE);
    rig_buf_deinit(&token);
    EVP_PKEY_free(key);
}

/* RFC 4648 section 10, without padding; and octets that use both letters base64 lacks. */
static void base64url_by_the_book(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "-_-_"},
    };
    struct rig_buf out = {0};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        rig_buf_clear(&out);
        jws_base64url_encode(rig_slice_text(pairs[i][0]), &out);
        assert_string_equal(rig_buf_text(&out), pairs[i][1]);
        rig_buf_clear(&out);
        assert_int_equal(jws_base64url_decode(rig_slice_text(pairs[i][1]), &out), 0);
        assert_string_equal(rig_buf_text(&out), pairs[i][0]);
    }
    rig_buf_deinit(&out);
}

static void base64url_takes_one_form_only(void **state)
{
    (void)state;
    static const char *const bad[] = {"A", "Zg==", "Zm8=", "Zh", "Zm9", "+/+/", "Zm 9v", "Zm9v\n"};
    struct rig_buf out = {0};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(jws_base64url_decode(rig_slice_text(bad[i]), &out), RIG_E_SYNTAX);
    rig_buf_deinit(&out);
}

RIG_TEST_MAIN(cmocka_unit_test(rfc7515_example_verifies),
              cmocka_unit_test(every_changed_character_is_refused),
              cmocka_unit_test(other_forms_are_refused), cmocka_unit_test(none_is_not_an_algorithm),
              cmocka_unit_test(critical_header_is_refused),
              cmocka_unit_test(own_signature_verifies_with_its_key_only),
              cmocka_unit_test(long_text_is_refused_before_it_is_read),
              cmocka_unit_test(base64url_by_the_book),
              cmocka_unit_test(base64url_takes_one_form_only))
