/* SPDX-License-Identifier: Apache-2.0 */
/* core/service.h: named, versioned tables of functions that plugins offer each other.
 *
 * Offers are bound when the offering plugin's init has succeeded; a plugin's init runs after
 * those of its providers, so it finds them there. A service's functions may be called from then
 * until the consumer's `free`, exclusive. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rig_host;

enum rig_need_kind {
    RIG_NEED_ONE,      /* exactly one provider must be loaded */
    RIG_NEED_OPTIONAL, /* one or none */
    RIG_NEED_EACH,     /* any number, in configured order */
};

struct rig_offer {
    const char *service;
    uint32_t version;
    const void *functions; /* the table of plugins/services/<service>.h */
};

struct rig_need {
    const char *service;
    uint32_t version; /* least */
    enum rig_need_kind kind;
};

struct rig_provider {
    const char *plugin;    /* who offers it */
    const void *functions; /* cast to the service's table */
    void *self;            /* first argument of each function */
};

/* The `index`-th provider of a service, in configured order: 0, or RIG_E_ABSENT. */
int rig_service_provider(const struct rig_host *host, const char *service, size_t index,
                         struct rig_provider *provider);
