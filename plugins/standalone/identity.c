/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/identity.c: see identity.h. */
#include "identity.h"

#include <stdio.h>
#include <string.h>

#define SUBJECT_PREFIX "system:serviceaccount:"

static bool is_lower_or_digit(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool identity_is_name(struct rig_slice text)
{
    if (text.len == 0 || text.len > IDENTITY_NAME_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        bool is_end = i == 0 || i + 1 == text.len;
        if (!is_lower_or_digit(text.at[i]) && (is_end || text.at[i] != '-'))
            return false;
    }
    return true;
}

bool identity_is_trust_domain(struct rig_slice text)
{
    if (text.len == 0 || text.len > IDENTITY_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (!is_lower_or_digit(c) && c != '.' && c != '-' && c != '_')
            return false;
    }
    return true;
}

int identity_set(struct identity *identity, struct rig_slice namespace,
                 struct rig_slice service_account)
{
    if (!identity_is_name(namespace) || !identity_is_name(service_account))
        return RIG_E_RANGE;
    *identity = (struct identity){0};
    memcpy(identity->namespace, namespace.at, namespace.len);
    memcpy(identity->service_account, service_account.at, service_account.len);
    return 0;
}

/* The text before `separator`; `rest` becomes what follows it, or is left alone when there is no
 * separator. */
static struct rig_slice split(struct rig_slice *rest, const char *separator)
{
    size_t len = strlen(separator);
    for (size_t i = 0; i + len <= rest->len; i++) {
        if (memcmp(rest->at + i, separator, len) == 0) {
            struct rig_slice head = rig_slice(rest->at, i);
            *rest = rig_slice(rest->at + i + len, rest->len - i - len);
            return head;
        }
    }
    return rig_slice(rest->at, 0);
}

static struct rig_slice skip(struct rig_slice text, const char *prefix)
{
    size_t len = strlen(prefix);
    return rig_slice(text.at + len, text.len - len);
}

int identity_of_subject(struct rig_slice subject, struct identity *identity)
{
    if (!rig_slice_starts(subject, SUBJECT_PREFIX))
        return RIG_E_SYNTAX;
    struct rig_slice rest = skip(subject, SUBJECT_PREFIX);
    struct rig_slice namespace = split(&rest, ":");
    return identity_set(identity, namespace, rest) < 0 ? RIG_E_SYNTAX : 0;
}

int identity_of_spiffe_id(struct rig_slice id, const char *trust_domain, struct identity *identity,
                          struct rig_fault *why)
{
    const char *form = "is not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT";
    if (!rig_slice_starts(id, "spiffe://"))
        return rig_fault_set(why, RIG_E_SYNTAX, "\"%.*s\" %s", RIG_SLICE_ARG(id), form);
    struct rig_slice rest = skip(id, "spiffe://");
    struct rig_slice domain = split(&rest, "/ns/");
    struct rig_slice namespace = split(&rest, "/sa/");
    if (!identity_is_trust_domain(domain) || identity_set(identity, namespace, rest) < 0)
        return rig_fault_set(why, RIG_E_SYNTAX, "\"%.*s\" %s", RIG_SLICE_ARG(id), form);
    if (!rig_slice_is(domain, trust_domain))
        return rig_fault_set(why, RIG_E_SYNTAX,
                             "\"%.*s\" is of the trust domain %.*s; this mesh is %s",
                             RIG_SLICE_ARG(id), RIG_SLICE_ARG(domain), trust_domain);
    return 0;
}

void identity_spiffe_id(const struct identity *identity, const char *trust_domain,
                        char id[IDENTITY_ID_MAX + 1])
{
    snprintf(id, IDENTITY_ID_MAX + 1, "spiffe://%s/ns/%s/sa/%s", trust_domain, identity->namespace,
             identity->service_account);
}

bool identity_equal(const struct identity *a, const struct identity *b)
{
    return strcmp(a->namespace, b->namespace) == 0 &&
           strcmp(a->service_account, b->service_account) == 0;
}
