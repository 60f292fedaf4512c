/* SPDX-License-Identifier: Apache-2.0 */
/* Which tokens are believed, and whose they are. */
#include "tests/harness/test.h"

#include <string.h>

#include "core/secret.h"

#include "plugins/standalone/authority.h"
#include "plugins/standalone/jws.h"
#include "plugins/standalone/token.h"

#define NOW ((int64_t)1700000000) /* 2023-11-14T22:13:20Z */

static EVP_PKEY *key;

static int make_key(void **state)
{
    (void)state;
    return authority_key_new(&key, NULL);
}

static int free_key(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

/* Signs these claims and has them checked for the audience istio-ca at NOW. */
static int check(const char *claims, struct identity *identity, struct rig_fault *why)
{
    struct rig_secret token = {0};
    assert_int_equal(jws_sign(key, rig_slice_text(claims), &token, why), 0);
    int err = token_check(key, rig_secret_slice(&token), TOKEN_AUDIENCE, NOW, identity, why);
    rig_secret_deinit(&token);
    return err;
}

static void assert_taken(const char *claims)
{
    struct identity identity;
    struct rig_fault why = {0};
    int err = check(claims, &identity, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    assert_string_equal(identity.namespace, "shop");
    assert_string_equal(identity.service_account, "orders");
}

static void assert_refused(const char *claims, const char *sentence)
{
    struct identity identity = {0};
    struct rig_fault why = {0};
    assert_true(check(claims, &identity, &why) < 0);
    assert_string_equal(why.text, sentence);
    assert_string_equal(identity.namespace, "");
}

#define ISS  "\"iss\":\"outrigger-standalone\","
#define SUB  "\"sub\":\"system:serviceaccount:shop:orders\","
#define AUD  "\"aud\":[\"istio-ca\"],"
#define TIME "\"iat\":1699999000,\"exp\":1700000001"

static void made_token_is_taken(void **state)
{
    (void)state;
    struct identity identity, read;
    struct rig_secret token = {0};
    struct rig_fault why = {0};
    assert_int_equal(identity_set(&identity, RIG_SLICE("shop"), RIG_SLICE("orders")), 0);
    struct token_grant grant = {&identity, TOKEN_AUDIENCE, NOW, NOW + 3600};
    assert_int_equal(token_make(key, &grant, &token, &why), 0);
    int err = token_check(key, rig_secret_slice(&token), TOKEN_AUDIENCE, NOW + 3599, &read, &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, 0);
    assert_true(identity_equal(&identity, &read));

    assert_int_equal(
        token_check(key, rig_secret_slice(&token), TOKEN_AUDIENCE, NOW + 3600, &read, &why),
        RIG_E_AUTH);
    assert_string_equal(why.text, "the token expired at 2023-11-14T23:13:20Z");
    rig_secret_deinit(&token);
}

static void made_token_is_for_its_audience_only(void **state)
{
    (void)state;
    struct identity identity, read;
    struct rig_secret token = {0};
    struct rig_fault why = {0};
    assert_int_equal(identity_set(&identity, RIG_SLICE("shop"), RIG_SLICE("orders")), 0);
    struct token_grant grant = {&identity, "vault", NOW, NOW + 3600};
    assert_int_equal(token_make(key, &grant, &token, &why), 0);
    assert_int_equal(token_check(key, rig_secret_slice(&token), TOKEN_AUDIENCE, NOW, &read, &why),
                     RIG_E_AUTH);
    assert_string_equal(why.text, "the token is not for the audience istio-ca");
    assert_int_equal(token_check(key, rig_secret_slice(&token), "vault", NOW, &read, &why), 0);
    rig_secret_deinit(&token);
}

static void foreign_key_is_refused(void **state)
{
    (void)state;
    EVP_PKEY *foreign;
    struct identity identity, read;
    struct rig_secret token = {0};
    struct rig_fault why = {0};
    assert_int_equal(authority_key_new(&foreign, &why), 0);
    assert_int_equal(identity_set(&identity, RIG_SLICE("shop"), RIG_SLICE("orders")), 0);
    struct token_grant grant = {&identity, TOKEN_AUDIENCE, NOW, NOW + 3600};
    assert_int_equal(token_make(foreign, &grant, &token, &why), 0);
    assert_int_equal(token_check(key, rig_secret_slice(&token), TOKEN_AUDIENCE, NOW, &read, &why),
                     RIG_E_AUTH);
    assert_non_null(strstr(why.text, "the token's signature is not by this key"));
    rig_secret_deinit(&token);
    EVP_PKEY_free(foreign);
}

static void audience_too_long_makes_no_token(void **state)
{
    (void)state;
    static char audience[JWS_BYTES_MAX];
    struct identity identity;
    struct rig_secret token = {0};
    struct rig_fault why = {0};
    memset(audience, 'a', sizeof(audience) - 1);
    assert_int_equal(identity_set(&identity, RIG_SLICE("shop"), RIG_SLICE("orders")), 0);
    struct token_grant grant = {&identity, audience, NOW, NOW + 3600};
    assert_int_equal(token_make(key, &grant, &token, &why), RIG_E_TOO_LARGE);
    rig_secret_deinit(&token);
}

static void claims_that_are_taken(void **state)
{
    (void)state;
    assert_taken("{" ISS SUB AUD TIME "}");
    assert_taken("{" ISS SUB "\"aud\":\"istio-ca\"," TIME "}");
    assert_taken("{" ISS SUB "\"aud\":[\"a\",3,\"istio-ca\"]," TIME "}");
    assert_taken("{" ISS SUB AUD TIME ",\"nbf\":1700000060}");
    assert_taken("{" ISS SUB AUD "\"iat\":1700000060,\"exp\":1700000100}");
    assert_taken("{" ISS SUB AUD "\"exp\":1700000001}");
}

static void claims_that_are_refused(void **state)
{
    (void)state;
    assert_refused("{" SUB AUD TIME "}", "the token's issuer is not outrigger-standalone");
    assert_refused("{\"iss\":\"joe\"," SUB AUD TIME "}",
                   "the token's issuer is not outrigger-standalone");
    assert_refused("{\"iss\":[\"outrigger-standalone\"]," SUB AUD TIME "}",
                   "the token's issuer is not outrigger-standalone");

    const char *audience = "the token is not for the audience istio-ca";
    assert_refused("{" ISS SUB TIME "}", audience);
    assert_refused("{" ISS SUB "\"aud\":[]," TIME "}", audience);
    assert_refused("{" ISS SUB "\"aud\":\"istio-ca2\"," TIME "}", audience);
    assert_refused("{" ISS SUB "\"aud\":{\"istio-ca\":1}," TIME "}", audience);

    assert_refused("{" ISS SUB AUD "\"exp\":1700000000}",
                   "the token expired at 2023-11-14T22:13:20Z");
    assert_refused("{" ISS SUB AUD "\"exp\":0}", "the token expired at 1970-01-01T00:00:00Z");
    assert_refused("{" ISS SUB AUD "\"iat\":1699999000}", "the token never expires");
    assert_refused("{" ISS SUB AUD TIME ",\"nbf\":1700000061}",
                   "the token is valid from 2023-11-14T22:14:21Z only");
    assert_refused("{" ISS SUB AUD "\"iat\":1700000061,\"exp\":1700000100}",
                   "the token is valid from 2023-11-14T22:14:21Z only");

    const char *number = "a time in the token is not a whole number";
    assert_refused("{" ISS SUB AUD "\"exp\":\"1700000001\"}", number);
    assert_refused("{" ISS SUB AUD "\"exp\":1e30}", number);
    assert_refused("{" ISS SUB AUD TIME ",\"nbf\":true}", number);
}

/* A service account of 64 characters. */
#define LONG_SUBJECT                                                                               \
    "\"system:serviceaccount:shop:"                                                                \
    "a123456789a123456789a123456789a123456789a123456789a1234567890123\""

static void subjects_that_are_refused(void **state)
{
    (void)state;
    static const char *const subjects[] = {
        "\"\"",
        "7",
        "\"orders\"",
        "\"system:serviceaccount:\"",
        "\"system:serviceaccount:shop\"",
        "\"system:serviceaccount:shop:\"",
        "\"system:serviceaccount::orders\"",
        "\"system:serviceaccount:shop:orders:x\"",
        "\"system:serviceaccount:shop:orders/../admin\"",
        "\"system:serviceaccount:Shop:orders\"",
        "\"system:serviceaccount:shop:orders\\u0000\"",
        LONG_SUBJECT,
    };
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
        char claims[512];
        snprintf(claims, sizeof(claims), "{" ISS "\"sub\":%s," AUD TIME "}", subjects[i]);
        assert_refused(claims, "the token's subject is no service account");
    }
    assert_refused("{" ISS AUD TIME "}", "the token's subject is no service account");
}

static void payload_that_is_no_map_is_refused(void **state)
{
    (void)state;
    assert_refused("[]", "the token's payload is no map of claims");
    assert_refused("null", "the token's payload is no map of claims");
    struct identity identity;
    struct rig_fault why = {0};
    assert_true(check("{", &identity, &why) < 0);
    assert_true(check("", &identity, &why) < 0);
}

RIG_TEST_MAIN(cmocka_unit_test_setup_teardown(made_token_is_taken, make_key, free_key),
              cmocka_unit_test_setup_teardown(made_token_is_for_its_audience_only, make_key,
                                              free_key),
              cmocka_unit_test_setup_teardown(foreign_key_is_refused, make_key, free_key),
              cmocka_unit_test_setup_teardown(audience_too_long_makes_no_token, make_key, free_key),
              cmocka_unit_test_setup_teardown(claims_that_are_taken, make_key, free_key),
              cmocka_unit_test_setup_teardown(claims_that_are_refused, make_key, free_key),
              cmocka_unit_test_setup_teardown(subjects_that_are_refused, make_key, free_key),
              cmocka_unit_test_setup_teardown(payload_that_is_no_map_is_refused, make_key,
                                              free_key))
