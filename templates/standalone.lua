-- SPDX-License-Identifier: Apache-2.0
-- templates/standalone.lua: what the embedded control plane tells an Envoy, in the JSON form of
-- Envoy's own documentation. Which services a workload serves and calls is decided in C; here
-- are the shapes. Fields and types must be among those of plugins/standalone/proto/.
local M = {}

local EXTENSIONS = "type.googleapis.com/envoy.extensions."
local HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

local function typed(name, fields)
  fields["@type"] = EXTENSIONS .. name
  return fields
end

local function socket(address, port)
  return { socket_address = { address = address, port_value = port } }
end

local function ads()
  return { ads = {}, initial_fetch_timeout = "0s", resource_api_version = "V3" }
end

-- ---- mutual TLS: certificates and roots come from the agent beside the Envoy ----

local function secret(name)
  return {
    name = name,
    sds_config = {
      api_config_source = {
        api_type = "GRPC",
        transport_api_version = "V3",
        set_node_on_first_message_only = true,
        grpc_services = { { envoy_grpc = { cluster_name = "sds-grpc" } } },
      },
      initial_fetch_timeout = "0s",
      resource_api_version = "V3",
    },
  }
end

local function tls(peer, alpn)
  return {
    alpn_protocols = alpn,
    tls_certificate_sds_secret_configs = { secret("default") },
    combined_validation_context = {
      default_validation_context = {
        match_typed_subject_alt_names = { { san_type = "URI", matcher = peer } },
      },
      validation_context_sds_secret_config = secret("ROOTCA"),
    },
  }
end

-- Any identity of the mesh gets a connection; who may call is decided behind it, so that a caller
-- who may not is told so.
local function server_tls(ctx, service)
  return {
    name = "envoy.transport_sockets.tls",
    typed_config = typed("transport_sockets.tls.v3.DownstreamTlsContext", {
      common_tls_context = tls({ prefix = "spiffe://" .. ctx.trust_domain .. "/" },
        service.protocol == "http" and { "h2", "http/1.1" } or nil),
      require_client_certificate = true,
    }),
  }
end

local function client_tls(service)
  return {
    name = "envoy.transport_sockets.tls",
    typed_config = typed("transport_sockets.tls.v3.UpstreamTlsContext", {
      common_tls_context = tls({ exact = service.spiffe_id },
        service.protocol == "http" and { "h2" } or nil),
      sni = service.host,
    }),
  }
end

-- ---- who may call; without a list everybody of the mesh may ----

local function rules(service)
  if #service.allow == 0 then
    return { action = "ALLOW" } -- a list of nobody
  end
  local principals = {}
  for i, id in ipairs(service.allow) do
    principals[i] = { authenticated = { principal_name = { exact = id } } }
  end
  return {
    action = "ALLOW",
    policies = { allow = { permissions = { { any = true } }, principals = principals } },
  }
end

-- ---- filters ----

local function http_filters(service, is_inbound)
  local filters = {}
  if is_inbound and service.allow then
    filters[1] = {
      name = "envoy.filters.http.rbac",
      typed_config = typed("filters.http.rbac.v3.RBAC", { rules = rules(service) }),
    }
  end
  filters[#filters + 1] = {
    name = "envoy.filters.http.router",
    typed_config = typed("filters.http.router.v3.Router", {}),
  }
  return filters
end

local function http_manager(name, service, is_inbound)
  local manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager", {
    stat_prefix = name,
    rds = { config_source = ads(), route_config_name = name },
    http_filters = http_filters(service, is_inbound),
    normalize_path = true,
  })
  if is_inbound then
    manager.forward_client_cert_details = "SANITIZE_SET"
    manager.set_current_client_cert_details = { subject = true, uri = true }
  end
  return { name = "envoy.filters.network.http_connection_manager", typed_config = manager }
end

local function filters(name, service, is_inbound)
  if service.protocol == "http" then
    return { http_manager(name, service, is_inbound) }
  end
  local chain = {}
  if is_inbound and service.allow then
    chain[1] = {
      name = "envoy.filters.network.rbac",
      typed_config = typed("filters.network.rbac.v3.RBAC", {
        rules = rules(service), stat_prefix = name,
      }),
    }
  end
  chain[#chain + 1] = {
    name = "envoy.filters.network.tcp_proxy",
    typed_config = typed("filters.network.tcp_proxy.v3.TcpProxy", {
      stat_prefix = name, cluster = name,
    }),
  }
  return chain
end

-- ---- resources ----

local function route(name)
  return {
    name = name,
    virtual_hosts = { {
      name = name,
      domains = { "*" },
      -- Envoy would cut requests off after 15 s; how long one may take is the caller's affair.
      routes = { { match = { prefix = "/" }, route = { cluster = name, timeout = "0s" } } },
    } },
  }
end

local function add_inbound(out, ctx, service)
  local name = "inbound|" .. service.port .. "||" .. service.host
  table.insert(out.clusters, {
    name = name,
    type = "STATIC",
    connect_timeout = "5s",
    load_assignment = {
      cluster_name = name,
      endpoints = { { lb_endpoints = {
        { endpoint = { address = socket("127.0.0.1", service.workload_port) } },
      } } },
    },
  })
  table.insert(out.listeners, {
    name = name,
    address = socket(service.address, service.port),
    traffic_direction = "INBOUND",
    filter_chains = { {
      transport_socket = server_tls(ctx, service),
      filters = filters(name, service, true),
    } },
  })
  if service.protocol == "http" then
    table.insert(out.routes, route(name))
  end
end

local function add_outbound(out, service)
  local name = "outbound|" .. service.port .. "||" .. service.host
  local cluster = {
    name = name,
    type = "EDS",
    eds_cluster_config = { eds_config = ads() },
    connect_timeout = "5s",
    transport_socket = client_tls(service),
  }
  if service.protocol == "http" then
    cluster.typed_extension_protocol_options = {
      [HTTP_OPTIONS] = typed("upstreams.http.v3.HttpProtocolOptions", {
        explicit_http_config = { http2_protocol_options = {} },
      }),
    }
  end
  local endpoints = {}
  for i, endpoint in ipairs(service.endpoints) do
    endpoints[i] = { endpoint = { address = socket(endpoint.address, endpoint.port) } }
  end
  table.insert(out.clusters, cluster)
  table.insert(out.endpoints, { cluster_name = name, endpoints = { { lb_endpoints = endpoints } } })
  table.insert(out.listeners, {
    name = name,
    address = socket("127.0.0.1", service.port),
    traffic_direction = "OUTBOUND",
    filter_chains = { { filters = filters(name, service, false) } },
  })
  if service.protocol == "http" then
    table.insert(out.routes, route(name))
  end
end

-- ctx: trust_domain; inbound: what this workload serves (host, protocol, address, port,
-- workload_port, allow or nil); outbound: what it calls (host, protocol, port, spiffe_id,
-- endpoints of address and port). Answers four lists of resources.
function M.resources(ctx)
  local out = { clusters = list {}, endpoints = list {}, listeners = list {}, routes = list {} }
  for _, service in ipairs(ctx.inbound) do
    add_inbound(out, ctx, service)
  end
  for _, service in ipairs(ctx.outbound) do
    add_outbound(out, service)
  end
  return out
end

return M
