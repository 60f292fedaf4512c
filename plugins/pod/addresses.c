/* SPDX-License-Identifier: Apache-2.0 */
/* plugins/pod/addresses.c: the pod's own addresses, in the order in which Istio tells them. */
#include <string.h>
#include <uv.h>

#include "pod.h"

/* A host with more interfaces than this is no pod; the control plane needs the first few. */
#define ADDRESSES_MAX 64

struct addresses {
    struct rig_arena *arena;
    const char **list;
    size_t count;
};

static void add(struct addresses *in, const char *text)
{
    for (size_t i = 0; i < in->count; i++) {
        if (strcmp(in->list[i], text) == 0)
            return;
    }
    char *copy = in->count < ADDRESSES_MAX ? rig_arena_text(in->arena, text) : NULL;
    if (copy != NULL)
        in->list[in->count++] = copy;
}

static bool is_usable_ipv4(const uint8_t *octets)
{
    bool is_unspecified = memcmp(octets, "\0\0\0\0", 4) == 0;
    bool is_link_local = octets[0] == 169 && octets[1] == 254;
    return octets[0] != 127 && !is_unspecified && !is_link_local && octets[0] < 224;
}

static bool is_usable_ipv6(const struct in6_addr *address)
{
    return !IN6_IS_ADDR_LOOPBACK(address) && !IN6_IS_ADDR_UNSPECIFIED(address) &&
           !IN6_IS_ADDR_LINKLOCAL(address) && !IN6_IS_ADDR_MULTICAST(address);
}

static void add_interface(struct addresses *in, const uv_interface_address_t *interface)
{
    char text[INET6_ADDRSTRLEN];
    const struct in6_addr *ipv6 = &interface->address.address6.sin6_addr;
    const uint8_t *ipv4 = NULL;
    if (interface->is_internal)
        return;
    if (interface->address.address4.sin_family == AF_INET)
        ipv4 = (const uint8_t *)&interface->address.address4.sin_addr;
    else if (IN6_IS_ADDR_V4MAPPED(ipv6))
        ipv4 = &ipv6->s6_addr[12];
    if (ipv4 != NULL ? !is_usable_ipv4(ipv4) : !is_usable_ipv6(ipv6))
        return;
    if (uv_inet_ntop(ipv4 != NULL ? AF_INET : AF_INET6,
                     ipv4 != NULL ? (const void *)ipv4 : (const void *)ipv6, text,
                     sizeof(text)) == 0)
        add(in, text);
}

const char *const *addresses_list(const char *instance_ip, struct rig_arena *arena)
{
    static const char *const loopback[] = {"127.0.0.1", "::1", NULL};
    struct addresses in = {.arena = arena};
    struct in6_addr parsed;
    uv_interface_address_t *interfaces = NULL;
    int count = 0;

    in.list = rig_arena_alloc(arena, (ADDRESSES_MAX + 1) * sizeof(*in.list));
    if (in.list == NULL)
        return loopback;
    if (uv_inet_pton(AF_INET, instance_ip, &parsed) == 0 ||
        uv_inet_pton(AF_INET6, instance_ip, &parsed) == 0)
        add(&in, instance_ip);
    if (uv_interface_addresses(&interfaces, &count) == 0) {
        for (int i = 0; i < count; i++)
            add_interface(&in, &interfaces[i]);
        uv_free_interface_addresses(interfaces, count);
    }
    return in.count > 0 ? in.list : loopback;
}
