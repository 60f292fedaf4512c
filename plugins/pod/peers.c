/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/pod/peers.c: the control plane and the CA: address, the name they must prove, and the
 * file of roots it is proved by. */
#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

#include "core/dial.h"
#include "pod.h"

#define ROOT_INJECTED    "./var/run/secrets/istio/root-cert.pem"
#define ROOT_MOUNTED     "./etc/certs/root-cert.pem"
#define ISTIOD_NAME      "istiod.istio-system.svc"
#define HEADER_PREFIX    "XDS_HEADER_"
#define PLAINTEXT_SUFFIX ":15010" /* istiod's port without TLS */

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static int root_require(const char *path, const char *peer, const char *variable, const char **root,
                        struct rig_fault *why)
{
    if (!is_file(path))
        return rig_fault_set(why, RIG_E_ABSENT,
                             "root CA file for %s does not exist: %s (%s names another)", peer,
                             path, variable);
    *root = path;
    return 0;
}

static int discovery_root(const struct pod_config *config, const char **root, struct rig_fault *why)
{
    *root = NULL;
    if (strcmp(config->xds_root, "SYSTEM") == 0)
        return 0;
    if (config->xds_root[0] != '\0')
        return root_require(config->xds_root, "XDS", "XDS_ROOT_CA", root, why);
    if (is_file(ROOT_MOUNTED))
        return root_require(ROOT_MOUNTED, "XDS", "XDS_ROOT_CA", root, why);
    if (strcmp(config->cert_provider, "none") == 0)
        return rig_fault_set(why, RIG_E_ABSENT,
                             "root CA file for XDS is required but PILOT_CERT_PROVIDER is none: "
                             "set XDS_ROOT_CA");
    return root_require(ROOT_INJECTED, "XDS", "XDS_ROOT_CA", root, why);
}

static int ca_root(const struct pod_config *config, const char **root, struct rig_fault *why)
{
    *root = NULL;
    if (strcmp(config->ca_root, "SYSTEM") == 0)
        return 0;
    if (config->ca_root[0] != '\0')
        return root_require(config->ca_root, "CA", "CA_ROOT_CA", root, why);
    if (strcmp(config->cert_provider, "custom") == 0)
        return root_require(ROOT_MOUNTED, "CA", "CA_ROOT_CA", root, why);
    if (strcmp(config->cert_provider, "none") == 0)
        return rig_fault_set(why, RIG_E_ABSENT,
                             "root CA file for CA is required but PILOT_CERT_PROVIDER is none: "
                             "set CA_ROOT_CA");
    return root_require(ROOT_INJECTED, "CA", "CA_ROOT_CA", root, why);
}

int peers_server_name(const char *address, struct rig_arena *arena, const char **name,
                      struct rig_fault *why)
{
    char host[256];
    uint16_t port = 0;
    int err = rig_dial_split(address, host, sizeof(host), &port, why);
    if (err < 0)
        return err;
    *name = rig_arena_text(arena, strstr(host, "localhost") != NULL ? ISTIOD_NAME : host);
    return *name != NULL ? 0 : rig_fault_set(why, RIG_E_TOO_LARGE, "%s: too long", address);
}

int peers_discovery(const struct pod_config *config, const struct proxy_settings *settings,
                    struct rig_arena *arena, struct workload_peer *peer, struct rig_fault *why)
{
    *peer = (struct workload_peer){.address = settings->discovery_address,
                                   .is_plaintext = settings->is_plaintext};
    int err = peers_server_name(peer->address, arena, &peer->server_name, why);
    if (err < 0)
        return rig_fault_prefix(why, err, "discoveryAddress");
    if (config->istiod_san[0] != '\0')
        peer->server_name = config->istiod_san;
    return peer->is_plaintext ? 0 : discovery_root(config, &peer->root_path, why);
}

int peers_ca(const struct pod_config *config, const struct proxy_settings *settings,
             struct rig_arena *arena, struct workload_peer *peer, struct rig_fault *why)
{
    bool is_own = config->ca_address[0] != '\0';
    *peer = (struct workload_peer){.address =
                                       is_own ? config->ca_address : settings->discovery_address};
    int err = peers_server_name(peer->address, arena, &peer->server_name, why);
    if (err < 0)
        return rig_fault_prefix(why, err, "CA_ADDR");
    if (!is_own && config->istiod_san[0] != '\0')
        peer->server_name = config->istiod_san;
    size_t len = strlen(peer->address);
    size_t suffix_len = strlen(PLAINTEXT_SUFFIX);
    peer->is_plaintext =
        len >= suffix_len && strcmp(peer->address + len - suffix_len, PLAINTEXT_SUFFIX) == 0;
    return peer->is_plaintext ? 0 : ca_root(config, &peer->root_path, why);
}

/* ---- headers ---- */

/* RFC 9110 section 5.6.2, less the names that HTTP/2 forbids (RFC 9113 section 8.2.2). */
static bool is_header_name(const char *name)
{
    static const char *const forbidden[] = {"connection",       "host", "keep-alive",
                                            "proxy-connection", "te",   "transfer-encoding",
                                            "upgrade"};
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        if (strcmp(name, forbidden[i]) == 0)
            return false;
    }
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~");
    return len > 0 && name[len] == '\0';
}

/* RFC 9113 section 8.2.1: no control character, no white space at either end. */
static bool is_header_value(const char *value)
{
    size_t len = strlen(value);
    if (len > 0 && (isspace((unsigned char)value[0]) || isspace((unsigned char)value[len - 1])))
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c >= 0x7f)
            return false;
    }
    return true;
}

int peers_headers(const char *const *environment, struct rig_arena *arena, struct rig_doc **headers,
                  struct rig_fault *why)
{
    *headers = rig_doc_map(arena);
    for (; *environment != NULL; environment++) {
        const char *value = strchr(*environment, '=');
        if (value == NULL || strncmp(*environment, HEADER_PREFIX, strlen(HEADER_PREFIX)) != 0)
            continue;
        const char *start = *environment + strlen(HEADER_PREFIX);
        char *name = rig_arena_copy(arena, start, (size_t)(value - start));
        for (char *c = name; c != NULL && *c != '\0'; c++)
            *c = (char)tolower((unsigned char)*c);
        if (name == NULL || !is_header_name(name))
            return rig_fault_set(why, RIG_E_SYNTAX, "%.*s: no name of an HTTP/2 header",
                                 (int)(value - *environment), *environment);
        if (!is_header_value(value + 1))
            return rig_fault_set(why, RIG_E_SYNTAX, "%.*s: no value of an HTTP/2 header",
                                 (int)(value - *environment), *environment);
        rig_doc_set(arena, *headers, name, rig_doc_text(arena, value + 1));
    }
    return 0;
}
