/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/sds/response.c: secrets packed into protobuf, the inner message first. */
#include "response.h"

#include "core/alloc.h"
#include "core/secret.h"
#include "mesh_proto/discovery.pb-c.h"
#include "mesh_proto/secret.pb-c.h"

static ProtobufCBinaryData octets(struct rig_slice slice)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)slice.at, .len = slice.len};
}

/* Any.value, returned owned: it holds the key, so whoever frees it wipes it. */
static ProtobufCBinaryData secret_pack(const struct sds_resource *resource)
{
    const struct secret *from = &resource->secret;
    Mesh__Secret__DataSource chain = MESH__SECRET__DATA_SOURCE__INIT;
    Mesh__Secret__DataSource key = MESH__SECRET__DATA_SOURCE__INIT;
    Mesh__Secret__DataSource roots = MESH__SECRET__DATA_SOURCE__INIT;
    Mesh__Secret__TlsCertificate certificate = MESH__SECRET__TLS_CERTIFICATE__INIT;
    Mesh__Secret__CertificateValidationContext validation =
        MESH__SECRET__CERTIFICATE_VALIDATION_CONTEXT__INIT;
    Mesh__Secret__Secret secret = MESH__SECRET__SECRET__INIT;
    secret.name = (char *)resource->name;
    if (from->kind == SECRET_KEY_PAIR) {
        chain.inline_bytes = octets(from->certificate_chain);
        key.inline_bytes = octets(rig_secret_slice(from->private_key));
        certificate.certificate_chain = &chain;
        certificate.private_key = &key;
        secret.type_case = MESH__SECRET__SECRET__TYPE_TLS_CERTIFICATE;
        secret.tls_certificate = &certificate;
    } else {
        roots.inline_bytes = octets(from->trusted_ca);
        validation.trusted_ca = &roots;
        secret.type_case = MESH__SECRET__SECRET__TYPE_VALIDATION_CONTEXT;
        secret.validation_context = &validation;
    }
    size_t len = mesh__secret__secret__get_packed_size(&secret);
    uint8_t *data = rig_alloc(len);
    mesh__secret__secret__pack(&secret, data);
    return (ProtobufCBinaryData){.data = data, .len = len};
}

void sds_response_pack(const struct sds_resource *resources, size_t count, const char *version,
                       const char *nonce, struct rig_buf *out)
{
    Mesh__Discovery__Any *values = rig_alloc(count * sizeof(*values));
    Mesh__Discovery__Any **pointers = rig_alloc(count * sizeof(*pointers));
    for (size_t i = 0; i < count; i++) {
        mesh__discovery__any__init(&values[i]);
        values[i].type_url = (char *)SDS_TYPE_URL;
        values[i].value = secret_pack(&resources[i]);
        pointers[i] = &values[i];
    }
    Mesh__Discovery__DiscoveryResponse response = MESH__DISCOVERY__DISCOVERY_RESPONSE__INIT;
    response.version_info = (char *)version;
    response.type_url = (char *)SDS_TYPE_URL;
    response.nonce = (char *)nonce;
    response.n_resources = count;
    response.resources = pointers;
    size_t len = mesh__discovery__discovery_response__get_packed_size(&response);
    mesh__discovery__discovery_response__pack(&response, rig_buf_reserve(out, len));
    rig_buf_commit(out, len);
    for (size_t i = 0; i < count; i++) {
        rig_wipe(values[i].value.data, values[i].value.len);
        rig_free(values[i].value.data);
    }
    rig_free(pointers);
    rig_free(values);
}
