/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/standalone/identity.h: who a workload is: namespace and service account, and the SPIFFE
 * id made of them. All characters are checked, so an id that came through here cannot carry a
 * separator of a URI, of a path or of a certificate field. */
#pragma once

#include <stdbool.h>

#include "core/buf.h"
#include "core/fault.h"

#define IDENTITY_NAME_MAX   63  /* a Kubernetes name: RFC 1123 label */
#define IDENTITY_DOMAIN_MAX 255 /* SPIFFE-ID 2.1: trust domain name */
#define IDENTITY_ID_MAX                                                                            \
    (sizeof("spiffe:///ns//sa/") - 1 + IDENTITY_DOMAIN_MAX + 2 * IDENTITY_NAME_MAX)

struct identity {
    char namespace[IDENTITY_NAME_MAX + 1];
    char service_account[IDENTITY_NAME_MAX + 1];
};

/* Lower-case letters, digits and '-', a letter or digit at both ends, at most 63. */
bool identity_is_name(struct rig_slice text);

/* Lower-case letters, digits, '.', '-' and '_', at most 255. */
bool identity_is_trust_domain(struct rig_slice text);

/* Copies both names; RIG_E_RANGE when one of them is not a name. */
int identity_set(struct identity *identity, struct rig_slice namespace,
                 struct rig_slice service_account);

/* The subject of a token, "system:serviceaccount:NS:SA"; RIG_E_SYNTAX. */
int identity_of_subject(struct rig_slice subject, struct identity *identity);

/* "spiffe://TD/ns/NS/sa/SA" of this very trust domain; RIG_E_SYNTAX and a sentence. */
int identity_of_spiffe_id(struct rig_slice id, const char *trust_domain, struct identity *identity,
                          struct rig_fault *why);

void identity_spiffe_id(const struct identity *identity, const char *trust_domain,
                        char id[IDENTITY_ID_MAX + 1]);

bool identity_equal(const struct identity *a, const struct identity *b);
