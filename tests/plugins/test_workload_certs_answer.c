/* SPDX-License-Identifier: Apache-2.0 */
/* What a CA may answer, good and bad, judged before it is served. */
#include "tests/harness/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "core/buf.h"
#include "plugins/workload_certs/answer.h"

#define NOW_S INT64_C(1700000000)
#define ID    "spiffe://cluster.local/ns/shop/sa/cart"

/* ---- a small CA ---- */

struct party {
    EVP_PKEY *key;
    X509 *cert;
    char *pem;
    char *name;
};

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static char *pem_of(X509 *cert)
{
    char *data;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    long len = BIO_get_mem_data(bio, &data);
    char *text = strndup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

/* A certificate for a new key, signed by `issuer` (NULL: by itself), that ends `left_s` from
 * NOW_S. `san`: a leaf; NULL: an authority. */
static struct party party_new(const char *name, const struct party *issuer, const char *san,
                              int64_t left_s)
{
    struct party it = {.key = EVP_EC_gen("P-256"), .cert = X509_new(), .name = strdup(name)};
    const struct party *by = issuer != NULL ? issuer : &it;
    X509_set_version(it.cert, X509_VERSION_3);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(it.cert), 0xbeef1234u);
    ASN1_TIME_set(X509_getm_notBefore(it.cert), NOW_S - 120);
    ASN1_TIME_set(X509_getm_notAfter(it.cert), NOW_S + left_s);
    X509_NAME *subject = X509_NAME_new();
    X509_NAME *issuer_name = X509_NAME_new();
    if (san == NULL)
        X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_NAME_add_entry_by_txt(issuer_name, "O", MBSTRING_ASC, (const uint8_t *)by->name, -1, -1,
                               0);
    X509_set_subject_name(it.cert, subject);
    X509_set_issuer_name(it.cert, issuer_name);
    X509_NAME_free(subject);
    X509_NAME_free(issuer_name);
    X509_set_pubkey(it.cert, it.key);
    if (san == NULL)
        add_extension(it.cert, by->cert, NID_basic_constraints, "critical,CA:TRUE");
    else
        add_extension(it.cert, by->cert, NID_subject_alt_name, san);
    assert_true(X509_sign(it.cert, by->key, EVP_sha256()) > 0);
    it.pem = pem_of(it.cert);
    return it;
}

static void party_free(struct party *it)
{
    EVP_PKEY_free(it->key);
    X509_free(it->cert);
    free(it->pem);
    free(it->name);
}

static struct party root, other_root, between, leaf;

static int set_up(void **state)
{
    (void)state;
    root = party_new("root", NULL, NULL, 1000000);
    other_root = party_new("other root", NULL, NULL, 1000000);
    between = party_new("between", &root, NULL, 1000000);
    leaf = party_new("leaf", &between, "critical,URI:" ID, 3600);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    party_free(&root);
    party_free(&other_root);
    party_free(&between);
    party_free(&leaf);
    return 0;
}

/* ---- reading ---- */

static int read_answer_for(const struct party *whose, const char *const *texts, size_t count,
                           struct answer *answer, struct rig_fault *why)
{
    struct rig_slice elements[80];
    unsigned char *der = NULL;
    for (size_t i = 0; i < count; i++)
        elements[i] = rig_slice_text(texts[i]);
    int len = i2d_PUBKEY(whose->key, &der);
    const struct answer_expectation expected = {
        .public_der = rig_slice(der, (size_t)len), .spiffe_id = ID, .now_s = NOW_S};
    *answer = (struct answer){0};
    *why = (struct rig_fault){0};
    int err = answer_read(elements, count, &expected, answer, why);
    OPENSSL_free(der);
    if (err < 0) {
        assert_int_equal(answer->chain_pem.len, 0);
        assert_true(strlen(why->text) > 0);
    }
    return err;
}

#define READ(answer, why, ...)                                                                     \
    read_answer_for(&leaf, (const char *const[]){__VA_ARGS__},                                     \
                    sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), answer, why)

static void assert_buf(const struct rig_buf *buf, const char *text)
{
    assert_int_equal(buf->len, strlen(text));
    assert_memory_equal(buf->at, text, buf->len);
}

static void good_chain_is_joined_and_its_last_element_is_the_root(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    struct rig_buf chain = {0};
    assert_int_equal(READ(&answer, &why, leaf.pem, between.pem, root.pem), 0);
    rig_buf_printf(&chain, "%s%s%s", leaf.pem, between.pem, root.pem);
    assert_buf(&answer.chain_pem, rig_buf_text(&chain));
    char *trimmed = strndup(root.pem, strlen(root.pem) - 1);
    assert_buf(&answer.roots_pem, trimmed);
    free(trimmed);
    assert_int_equal(answer.not_after_s, NOW_S + 3600);
    assert_int_equal(answer.not_before_s, NOW_S - 120);
    assert_string_equal(answer.serial, "BEEF1234");
    assert_string_equal(answer.remark.text, "");
    rig_buf_deinit(&chain);
    answer_deinit(&answer);
}

static void fewer_than_two_elements_are_refused(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    assert_int_equal(read_answer_for(&leaf, NULL, 0, &answer, &why), RIG_E_PROTOCOL);
    assert_non_null(strstr(why.text, "0 elements"));
    assert_int_equal(READ(&answer, &why, leaf.pem), RIG_E_PROTOCOL);
    assert_non_null(strstr(why.text, "1 elements"));
}

static void more_than_64_elements_are_refused(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    const char *texts[65];
    for (size_t i = 0; i < 65; i++)
        texts[i] = i == 0 ? leaf.pem : root.pem;
    assert_int_equal(read_answer_for(&leaf, texts, 65, &answer, &why), RIG_E_TOO_LARGE);
    assert_int_equal(read_answer_for(&leaf, texts, 64, &answer, &why), 0);
    answer_deinit(&answer);
}

static void more_than_a_megabyte_is_refused(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    size_t room = (1u << 20) + 2;
    char *text = malloc(room);
    memset(text, '\n', room - 1);
    text[room - 1] = '\0';
    assert_int_equal(READ(&answer, &why, leaf.pem, text), RIG_E_TOO_LARGE);
    free(text);
}

static void what_is_no_certificate_is_refused_with_its_place(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    static const char broken[] = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    static const char key[] = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    assert_int_equal(READ(&answer, &why, "no PEM", root.pem), RIG_E_SYNTAX);
    assert_non_null(strstr(why.text, "element 1 of 2"));
    assert_int_equal(READ(&answer, &why, leaf.pem, ""), RIG_E_SYNTAX);
    assert_non_null(strstr(why.text, "element 2 of 2"));
    assert_int_equal(READ(&answer, &why, leaf.pem, broken, root.pem), RIG_E_SYNTAX);
    assert_non_null(strstr(why.text, "element 2 of 3"));
    assert_int_equal(READ(&answer, &why, leaf.pem, key), RIG_E_SYNTAX);
    /* A good block does not excuse a broken one behind it. */
    struct rig_buf both = {0};
    rig_buf_printf(&both, "%s%s", root.pem, broken);
    assert_int_equal(READ(&answer, &why, leaf.pem, rig_buf_text(&both)), RIG_E_SYNTAX);
    rig_buf_deinit(&both);
}

/* OpenSSL would ask the terminal for a passphrase, and stop the loop until somebody types one. */
static void encrypted_pem_is_refused_without_a_question(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    struct rig_buf encrypted = {0};
    const char *body = strchr(leaf.pem, '\n') + 1;
    rig_buf_printf(&encrypted,
                   "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n"
                   "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n%s",
                   body);
    char typed[8] = "";
    int ends[2], input = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "secret\n", 7), 7);
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    int err = READ(&answer, &why, rig_buf_text(&encrypted), root.pem);
    ssize_t left = read(STDIN_FILENO, typed, sizeof(typed));
    dup2(input, STDIN_FILENO);
    close(input);
    close(ends[0]);
    assert_int_equal(err, RIG_E_SYNTAX);
    assert_int_equal(left, 7);
    rig_buf_deinit(&encrypted);
}

static void certificate_of_another_key_is_refused(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    const char *texts[] = {leaf.pem, between.pem, root.pem};
    assert_int_equal(read_answer_for(&other_root, texts, 3, &answer, &why), RIG_E_PROTOCOL);
    assert_non_null(strstr(why.text, "another key"));
    /* Chain in the wrong order: the first certificate is not ours. */
    assert_int_equal(READ(&answer, &why, root.pem, between.pem, leaf.pem), RIG_E_PROTOCOL);
}

static void certificate_that_has_ended_is_refused(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    static const struct {
        int64_t left_s;
        int err;
    } cases[] = {{-3600, RIG_E_PROTOCOL}, {0, RIG_E_PROTOCOL}, {1, 0}};
    for (size_t i = 0; i < 3; i++) {
        struct party it = party_new("leaf", &root, "critical,URI:" ID, cases[i].left_s);
        const char *texts[] = {it.pem, root.pem};
        assert_int_equal(read_answer_for(&it, texts, 2, &answer, &why), cases[i].err);
        if (cases[i].err < 0)
            assert_non_null(strstr(why.text, "2023-11-14T22:13:20Z")); /* NOW_S */
        answer_deinit(&answer);
        party_free(&it);
    }
}

static void another_identity_is_remarked_and_served(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    struct party it =
        party_new("leaf", &root, "critical,URI:spiffe://cluster.local/ns/x/sa/y", 3600);
    const char *texts[] = {it.pem, root.pem};
    assert_int_equal(read_answer_for(&it, texts, 2, &answer, &why), 0);
    assert_non_null(strstr(answer.remark.text, "identity"));
    answer_deinit(&answer);
    party_free(&it);
}

static void a_chain_to_nowhere_is_remarked_and_served(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    assert_int_equal(READ(&answer, &why, leaf.pem, between.pem, other_root.pem), 0);
    assert_non_null(strstr(answer.remark.text, "does not lead to its root"));
    answer_deinit(&answer);
}

static void both_roots_of_a_bundle_are_kept(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    struct rig_buf both = {0};
    rig_buf_printf(&both, "%s%s", other_root.pem, root.pem);
    assert_int_equal(READ(&answer, &why, leaf.pem, between.pem, rig_buf_text(&both)), 0);
    assert_string_equal(answer.remark.text, "");
    assert_int_equal(answer.roots_pem.len, both.len - 1);
    assert_memory_equal(answer.roots_pem.at, both.at, both.len - 1);
    rig_buf_deinit(&both);
    answer_deinit(&answer);
}

static void line_ends_are_made_uniform(void **state)
{
    (void)state;
    struct answer answer;
    struct rig_fault why;
    struct rig_buf dos = {0};
    struct rig_buf chain = {0};
    for (const char *at = leaf.pem; *at != '\0'; at++)
        rig_buf_append(&dos, *at == '\n' ? "\r\n" : at, *at == '\n' ? 2 : 1);
    char *bare = strndup(between.pem, strlen(between.pem) - 1);
    assert_int_equal(READ(&answer, &why, rig_buf_text(&dos), bare, root.pem), 0);
    rig_buf_printf(&chain, "%s%s%s", leaf.pem, between.pem, root.pem);
    assert_buf(&answer.chain_pem, rig_buf_text(&chain));
    free(bare);
    rig_buf_deinit(&dos);
    rig_buf_deinit(&chain);
    answer_deinit(&answer);
}

/* Istio's table (secretcache_test.go, ConcatCerts). */
static void join_puts_a_line_end_between_and_none_behind(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *joined;
    } cases[] = {{"", "", ""},
                 {"a", "", "a"},
                 {"a", "b", "a\nb"},
                 {"a\n", "b", "a\nb"},
                 {"a\n", "b\n", "a\nb\n"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig_buf out = {0};
        const struct rig_slice two[] = {rig_slice_text(cases[i].a), rig_slice_text(cases[i].b)};
        answer_join(two, 2, &out);
        assert_buf(&out, cases[i].joined);
        rig_buf_deinit(&out);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_chain_is_joined_and_its_last_element_is_the_root),
        cmocka_unit_test(fewer_than_two_elements_are_refused),
        cmocka_unit_test(more_than_64_elements_are_refused),
        cmocka_unit_test(more_than_a_megabyte_is_refused),
        cmocka_unit_test(what_is_no_certificate_is_refused_with_its_place),
        cmocka_unit_test(encrypted_pem_is_refused_without_a_question),
        cmocka_unit_test(certificate_of_another_key_is_refused),
        cmocka_unit_test(certificate_that_has_ended_is_refused),
        cmocka_unit_test(another_identity_is_remarked_and_served),
        cmocka_unit_test(a_chain_to_nowhere_is_remarked_and_served),
        cmocka_unit_test(both_roots_of_a_bundle_are_kept),
        cmocka_unit_test(line_ends_are_made_uniform),
        cmocka_unit_test(join_puts_a_line_end_between_and_none_behind),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
