/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/services/secret_source.h: certificates, keys and roots by name; offered by
 * `workload_certs` and by any other source, served by `sds`. */
#pragma once

#include <stdint.h>

#include "core/buf.h"
#include "core/fault.h"
#include "core/secret.h"

#define SECRET_SOURCE_SERVICE "secret_source"
#define SECRET_SOURCE_VERSION 1u

enum secret_kind {
    SECRET_KEY_PAIR, /* certificate_chain and private_key */
    SECRET_ROOTS,    /* trusted_ca */
};

/* Borrowed from the source until it next calls a watch, or the loop goes on. */
struct secret {
    enum secret_kind kind;
    struct rig_slice certificate_chain;   /* PEM, leaf first */
    const struct rig_secret *private_key; /* PEM */
    struct rig_slice trusted_ca;          /* PEM */
    int64_t not_after_s;                  /* wall time, of the leaf; 0 for roots */
    uint64_t generation;                  /* grows when the content changes */
};

struct secret_watch {
    const char *name; /* keeps */
    /* The secret of this name changed, or has become available, or (err < 0) cannot be made at
     * present: `why` says so, and the source goes on trying. Never inside watch(). */
    void (*on_change)(struct secret_watch *watch, int err, const struct rig_fault *why);
    void *ctx;
    struct secret_watch *next; /* the source's */
};

struct secret_source_v1 {
    /* 0 and the secret; RIG_E_PENDING while it is being made (`why`: what kept it so far);
     * RIG_E_UNKNOWN when this source does not know the name; another code when there is none
     * now and none is being made. `why` may be NULL. */
    int (*current)(void *self, struct rig_slice name, struct secret *out, struct rig_fault *why);
    /* Storage is the watcher's, until unwatch. */
    void (*watch)(void *self, struct secret_watch *watch);
    void (*unwatch)(void *self, struct secret_watch *watch);
};
