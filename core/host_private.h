/* SPDX-License-Identifier: Apache-2.0 */
/* core/host_private.h: the host's inside, shared by host.c and admin.c only. */
#pragma once

#include "host.h"
#include "http1.h"

#define HOST_MARKS_MAX     32
#define HOST_LISTENERS_MAX 4

struct host_plugin {
    struct loaded loaded;
    struct options options;
    void *self;
    bool is_inited;
    bool is_started;
};

struct rig_host {
    uv_loop_t loop;
    uv_signal_t signals[2]; /* SIGTERM, SIGINT */
    unsigned own_handles;   /* of these, still closing at the end */
    uv_async_t wake;        /* the next step of an orderly end, outside everybody's callbacks */
    struct rig_arena arena;
    char role[48];
    enum host_phase phase;
    bool is_held;
    bool has_exit_status;
    int exit_status;
    int failure_status;
    struct host_plugin *plugins; /* in starting order once configured */
    size_t count;
    size_t stopping; /* plugins not stopped yet, counted down from the last */
    bool is_waiting; /* for the callback of the plugin that is being stopped */
    size_t closing;  /* admin listeners not closed yet */
    void (*on_admin_closed)(struct rig_host *host);
    const char *const *script_dirs;
    struct rig_script_dirs scripts;
    uint64_t began_us;
    struct {
        char event[40];
        uint64_t at_us;
    } marks[HOST_MARKS_MAX];
    size_t mark_count;
    struct rig_http1_server *listeners[HOST_LISTENERS_MAX];
    size_t listener_count;
};

/* admin.c: closes all listeners; `on_closed` once, later or now. */
void admin_close(struct rig_host *host, void (*on_closed)(struct rig_host *host));

const char *host_phase_text(enum host_phase phase);
