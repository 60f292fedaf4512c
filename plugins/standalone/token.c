/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/token.c: claims -> token and back. Nothing of a token is believed, or shown
 * in a sentence, before its signature has been checked. */
#include "token.h"

#include "core/arena.h"
#include "core/clock.h"
#include "core/doc.h"
#include "core/json.h"

#include "jws.h"

#define ARENA_BYTES_MAX ((size_t)1024 * 1024)

static struct rig_doc *claims_of(struct rig_arena *arena, const struct token_grant *grant)
{
    const struct identity *identity = grant->identity;
    struct rig_doc *claims = rig_doc_map(arena);
    struct rig_doc *audiences = rig_doc_list(arena);
    rig_doc_push(arena, audiences, rig_doc_text(arena, grant->audience));
    rig_doc_set(arena, claims, "iss", rig_doc_text(arena, TOKEN_ISSUER));
    rig_doc_set(
        arena, claims, "sub",
        rig_doc_text(arena, rig_arena_printf(arena, "system:serviceaccount:%s:%s",
                                             identity->namespace, identity->service_account)));
    rig_doc_set(arena, claims, "aud", audiences);
    rig_doc_set(arena, claims, "iat", rig_doc_int(arena, grant->issued_s));
    rig_doc_set(arena, claims, "exp", rig_doc_int(arena, grant->expires_s));

    /* What Kubernetes adds; read by people and tools, not by token_check. */
    struct rig_doc *kubernetes = rig_doc_map(arena);
    struct rig_doc *account = rig_doc_map(arena);
    rig_doc_set(arena, account, "name", rig_doc_text(arena, identity->service_account));
    rig_doc_set(arena, kubernetes, "namespace", rig_doc_text(arena, identity->namespace));
    rig_doc_set(arena, kubernetes, "serviceaccount", account);
    rig_doc_set(arena, claims, "kubernetes.io", kubernetes);
    return claims;
}

int token_make(EVP_PKEY *key, const struct token_grant *grant, struct rig_secret *token,
               struct rig_fault *why)
{
    struct rig_arena arena;
    struct rig_buf payload = {0};
    rig_arena_init(&arena, ARENA_BYTES_MAX);
    struct rig_doc *claims = claims_of(&arena, grant);
    int err = RIG_E_TOO_LARGE;
    if (!rig_arena_is_spent(&arena)) {
        rig_json_write(claims, RIG_JSON_COMPACT, &payload);
        err = jws_sign(key, rig_buf_slice(&payload), token, why);
    }
    if (err == 0 && token->len > JWS_BYTES_MAX)
        err = RIG_E_TOO_LARGE;
    if (err == RIG_E_TOO_LARGE)
        rig_fault_set(why, err, "the audience makes a token longer than %d octets", JWS_BYTES_MAX);
    rig_buf_deinit(&payload);
    rig_arena_deinit(&arena);
    return err;
}

/* RFC 7519 section 4.1.3: one text, or a list of them. */
static bool has_audience(const struct rig_doc *claims, const char *audience)
{
    const struct rig_doc *aud = rig_doc_get(claims, "aud");
    if (aud == NULL)
        return false;
    if (aud->kind == RIG_DOC_STRING)
        return rig_slice_is(aud->text, audience);
    for (size_t i = 0; aud->kind == RIG_DOC_LIST && i < aud->count; i++)
        if (aud->items[i]->kind == RIG_DOC_STRING && rig_slice_is(aud->items[i]->text, audience))
            return true;
    return false;
}

/* False when the claim is there and not a whole number. */
static bool read_time(const struct rig_doc *claims, const char *name, int64_t fallback,
                      int64_t *at_s)
{
    const struct rig_doc *node = rig_doc_get(claims, name);
    *at_s = fallback;
    return node == NULL || (node->kind == RIG_DOC_NUMBER && rig_doc_int64(node, at_s) == 0);
}

static int check_times(const struct rig_doc *claims, int64_t now_s, struct rig_fault *why)
{
    char text[RIG_CLOCK_TEXT_BYTES];
    int64_t expires_s, not_before_s, issued_s;
    if (!read_time(claims, "exp", INT64_MIN, &expires_s) ||
        !read_time(claims, "nbf", INT64_MIN, &not_before_s) ||
        !read_time(claims, "iat", INT64_MIN, &issued_s))
        return rig_fault_set(why, RIG_E_SYNTAX, "a time in the token is not a whole number");
    if (expires_s == INT64_MIN)
        return rig_fault_set(why, RIG_E_AUTH, "the token never expires");
    if (expires_s <= now_s) {
        rig_clock_text(expires_s, text);
        return rig_fault_set(why, RIG_E_AUTH, "the token expired at %s", text);
    }
    int64_t from_s = not_before_s > issued_s ? not_before_s : issued_s;
    if (from_s > now_s + TOKEN_SKEW_S) {
        rig_clock_text(from_s, text);
        return rig_fault_set(why, RIG_E_AUTH, "the token is valid from %s only", text);
    }
    return 0;
}

static int check_claims(const struct rig_doc *claims, const char *audience, int64_t now_s,
                        struct identity *identity, struct rig_fault *why)
{
    if (claims == NULL || claims->kind != RIG_DOC_MAP)
        return rig_fault_set(why, RIG_E_SYNTAX, "the token's payload is no map of claims");
    if (strcmp(rig_doc_get_text(claims, "iss", ""), TOKEN_ISSUER) != 0)
        return rig_fault_set(why, RIG_E_AUTH, "the token's issuer is not %s", TOKEN_ISSUER);
    if (!has_audience(claims, audience))
        return rig_fault_set(why, RIG_E_AUTH, "the token is not for the audience %s", audience);
    int err = check_times(claims, now_s, why);
    if (err < 0)
        return err;
    const struct rig_doc *subject = rig_doc_get(claims, "sub");
    if (subject == NULL || subject->kind != RIG_DOC_STRING ||
        identity_of_subject(subject->text, identity) < 0)
        return rig_fault_set(why, RIG_E_AUTH, "the token's subject is no service account");
    return 0;
}

int token_check(EVP_PKEY *key, struct rig_slice token, const char *audience, int64_t now_s,
                struct identity *identity, struct rig_fault *why)
{
    struct rig_buf payload = {0};
    struct rig_arena arena;
    struct rig_doc *claims = NULL;
    rig_arena_init(&arena, ARENA_BYTES_MAX);
    int err = jws_verify(key, token, &payload, why);
    if (err == 0)
        err = rig_json_read(rig_buf_slice(&payload), "claims", &arena, &claims, why);
    if (err == 0)
        err = check_claims(claims, audience, now_s, identity, why);
    rig_arena_deinit(&arena);
    rig_buf_deinit(&payload);
    return err;
}
