/* SPDX-License-Identifier: Apache-2.0 */
/* keygen: what an ECDSA P-256 key and the request over it cost, by the plugin's
 * own code. Prints the median of N in microseconds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "core/alloc.h"

#include "plugins/workload_certs/csr.h"

static int by_number(const void *a, const void *b) {
  uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
  return left < right ? -1 : left > right;
}

int main(int argc, char **argv) {
  size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
  if (count == 0 || count > 100000) {
    fprintf(stderr, "keygen N\n");
    return 2;
  }
  struct csr_request request = {
      .key_type = csr_key_type_find(rig_slice_text("ecdsa-p256")),
      .spiffe_id = "spiffe://cluster.local/ns/default/sa/app",
  };
  uint64_t *took_ns = rig_alloc(count * sizeof(*took_ns));
  for (size_t i = 0; i < count; i++) {
    struct rig_fault why = {0};
    struct csr csr = {0};
    uint64_t began_ns = uv_hrtime();
    if (csr_make(&request, &csr, &why) < 0) {
      fprintf(stderr, "keygen: %s\n", why.text);
      return 1;
    }
    took_ns[i] = uv_hrtime() - began_ns;
    csr_deinit(&csr);
  }
  qsort(took_ns, count, sizeof(*took_ns), by_number);
  printf("%.1f\n", (double)took_ns[count / 2] / 1000);
  rig_free(took_ns);
  return 0;
}
