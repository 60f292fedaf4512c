/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in until core/http1.c is there. */
#include "core/http1.h"
int rig_http1_server_open(uv_loop_t *l, const struct rig_http1_server_options *o, struct rig_http1_server **s, struct rig_fault *w){(void)l;(void)o;(void)s;(void)w;return -1;}
void rig_http1_server_close(struct rig_http1_server *s, void (*c)(void *), void *x){(void)s;c(x);}
void rig_http1_respond(struct rig_http1_exchange *e, int s, const char *c, struct rig_slice b){(void)e;(void)s;(void)c;(void)b;}
