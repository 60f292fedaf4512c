/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/token_command.c: makes a token with the key of a state directory; the
 * control plane need not run. */
#include "token_command.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/secret.h"

#include "state.h"
#include "token.h"

struct token_config {
    const char *namespace;
    const char *service_account;
    const char *audience;
    const char *state_dir;
    uint64_t ttl_ms;
};

static int complain(const struct rig_fault *why, int status)
{
    fprintf(stderr, "outrigger token: %s\n", why->text);
    return status;
}

static int read_identity(const struct token_config *config, struct identity *identity,
                         struct rig_fault *why)
{
    if (config->service_account == NULL)
        return rig_fault_set(why, RIG_E_USAGE, "--service-account is missing");
    if (identity_set(identity, rig_slice_text(config->namespace),
                     rig_slice_text(config->service_account)) < 0)
        return rig_fault_set(why, RIG_E_RANGE,
                             "--namespace and --service-account take names of lower-case letters, "
                             "digits and '-', 63 at most");
    return 0;
}

static int make(const struct token_config *config, const struct identity *identity,
                struct rig_secret *token, struct rig_fault *why)
{
    struct state state;
    int err = state_init(&state, config->state_dir, why);
    if (err < 0)
        return err;
    int64_t now_s = rig_clock_wall_s();
    struct token_grant grant = {
        .identity = identity,
        .audience = config->audience,
        .issued_s = now_s,
        .expires_s = now_s + (int64_t)(config->ttl_ms / 1000),
    };
    err = token_make(state.token_key, &grant, token, why);
    state_deinit(&state);
    return err;
}

static int run_token(const void *given, int word_count, char *const *words)
{
    const struct token_config *config = given;
    struct identity identity;
    struct rig_secret token = {0};
    struct rig_fault why = {0};
    if (word_count != 1 || strcmp(words[0], "create") != 0) {
        rig_fault_set(&why, RIG_E_USAGE, "the one thing it does is: token create");
        return complain(&why, 2);
    }
    if (read_identity(config, &identity, &why) < 0)
        return complain(&why, 2);
    if (make(config, &identity, &token, &why) < 0)
        return complain(&why, 1);
    bool is_written = fwrite(token.at, 1, token.len, stdout) == token.len &&
                      fputc('\n', stdout) != EOF && fflush(stdout) == 0;
    rig_secret_deinit(&token);
    if (!is_written) {
        rig_fault_set(&why, UV_EIO, "the token could not be written");
        return complain(&why, 1);
    }
    return 0;
}

#define ROW(kind, member, key, fallback, flag, about)                                              \
    RIG_OPT(kind, struct token_config, member, key, fallback, NULL, flag, about)

static const struct rig_option options[] = {
    ROW(STRING, namespace, "namespace", "default", "namespace", "Namespace of the workload"),
    ROW(STRING, service_account, "serviceAccount", NULL, "service-account",
        "Service account of the workload"),
    ROW(STRING, audience, "audience", TOKEN_AUDIENCE, "audience",
        "Whom the token is for; the control plane takes " TOKEN_AUDIENCE " only"),
    RIG_OPT_IN(DURATION_MS, struct token_config, ttl_ms, "ttl", "12h", 1e3, 31536e6, NULL, "ttl",
               "How long the token is valid"),
    ROW(STRING, state_dir, "stateDir", STATE_DIR_DEFAULT, "state-dir",
        "Directory with the control plane's keys; made when it is not there"),
    {0},
};

const struct rig_command token_commands[] = {
    {
        .name = "token",
        .usage = "create --service-account SA [--namespace NS] [--audience A] [--ttl 12h]",
        .about = "Makes a token by which a workload shows the control plane who it is",
        .examples = "outrigger token create --namespace shop --service-account orders "
                    "--audience istio-ca --ttl 12h > istio-token",
        .config_size = sizeof(struct token_config),
        .options = options,
        .run = run_token,
    },
    {0},
};
