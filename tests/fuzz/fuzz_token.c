/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer may send before and with a certificate request. The input is a token as it comes
 * (never valid: nobody signs it), the claims of a well signed one, and a request to be signed. */
#include <stdlib.h>

#include "core/secret.h"

#include "plugins/standalone/authority.h"
#include "plugins/standalone/jws.h"
#include "plugins/standalone/token.h"

static struct authority authority;

static EVP_PKEY *key(void)
{
    if (authority.key != NULL)
        return authority.key;
    EVP_PKEY *made;
    struct rig_buf root = {0};
    if (authority_key_new(&made, NULL) < 0 || authority_root_make(made, 0, &root, NULL) < 0 ||
        authority_init(&authority, made, rig_buf_slice(&root), 0, NULL) < 0)
        abort();
    rig_buf_deinit(&root);
    return made;
}

static void check_token(struct rig_slice token)
{
    struct identity identity;
    struct rig_fault why = {0};
    if (token_check(key(), token, TOKEN_AUDIENCE, 0, &identity, &why) == 0 || why.text[0] == '\0')
        abort();
}

static void check_claims(struct rig_slice claims)
{
    struct identity identity;
    struct rig_secret token = {0};
    if (jws_sign(key(), claims, &token, NULL) < 0)
        abort();
    if (token_check(key(), rig_secret_slice(&token), TOKEN_AUDIENCE, 0, &identity, NULL) == 0 &&
        (!identity_is_name(rig_slice_text(identity.namespace)) ||
         !identity_is_name(rig_slice_text(identity.service_account))))
        abort();
    rig_secret_deinit(&token);
}

static void check_request(struct rig_slice pem)
{
    struct rig_buf leaf = {0};
    struct authority_issued issued;
    struct authority_request request = {pem, "spiffe://td/ns/a/sa/b", 60, 0};
    int err = authority_sign(&authority, &request, &leaf, &issued, NULL);
    if ((err == 0) != (leaf.len > 0))
        abort();
    rig_buf_deinit(&leaf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig_slice input = rig_slice(data, size);
    check_token(input);
    check_claims(input);
    check_request(input);
    return 0;
}
