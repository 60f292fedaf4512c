/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh file of the embedded control plane: a mesh that keeps its promises, or one
 * sentence. */
#include <stdlib.h>
#include <string.h>

#include "plugins/standalone/mesh_file.h"

static void check(const struct mesh *mesh)
{
    if (!identity_is_trust_domain(rig_slice_text(mesh->trust_domain)) || mesh->service_count == 0)
        abort();
    for (size_t i = 0; i < mesh->service_count; i++) {
        const struct mesh_service *service = &mesh->services[i];
        if (!identity_is_name(rig_slice_text(service->name)) || service->port == 0 ||
            service->endpoint_count == 0 || (service->allow.count > 0 && !service->allow.is_given))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesh *mesh = NULL;
    struct rig_fault why = {0};
    int err = mesh_read(rig_slice(data, size), "mesh.yaml", &mesh, &why);
    if ((err < 0) != (mesh == NULL) || (err < 0) != (why.text[0] != '\0'))
        abort();
    if (mesh != NULL)
        check(mesh);
    mesh_free(mesh);
    return 0;
}
