-- SPDX-License-Identifier: Apache-2.0
-- The intruder's bootstrap: what the control plane does not tell it, it has found out by itself.
--
-- The shipped document, and in it a listener on INTRUDER_PORT that leads straight to greeter's
-- Envoy (GREETER_PORT), with the intruder's own, valid certificate. Both come as node metadata.
--
-- Envoy sets up static clusters in no fixed order: it may ask for the certificate before the
-- cluster sds-grpc is there, and then waits up to a second before it asks again.
local shipped = require "shipped.bootstrap"

local TYPE = "type.googleapis.com/"
local M = {}

local function secret(name)
  return {
    name = name,
    sds_config = {
      resource_api_version = "V3",
      api_config_source = {
        api_type = "GRPC",
        transport_api_version = "V3",
        set_node_on_first_message_only = true,
        grpc_services = list { { envoy_grpc = { cluster_name = "sds-grpc" } } },
      },
    },
  }
end

local function address(port)
  return { socket_address = { address = "127.0.0.1", port_value = tonumber(port) } }
end

local function greeter_cluster(ctx)
  local endpoint = { endpoint = { address = address(ctx.node.metadata.GREETER_PORT) } }
  return {
    name = "greeter",
    type = "STATIC",
    connect_timeout = "1s",
    load_assignment = {
      cluster_name = "greeter",
      endpoints = list { { lb_endpoints = list { endpoint } } },
    },
    transport_socket = {
      name = "envoy.transport_sockets.tls",
      typed_config = {
        ["@type"] = TYPE .. "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context = {
          tls_certificate_sds_secret_configs = list { secret "default" },
          validation_context_sds_secret_config = secret "ROOTCA",
        },
      },
    },
  }
end

local function greeter_listener(ctx)
  local router = TYPE .. "envoy.extensions.filters.http.router.v3.Router"
  local manager = {
    ["@type"] = TYPE .. "envoy.extensions.filters.network.http_connection_manager.v3"
      .. ".HttpConnectionManager",
    stat_prefix = "intruder",
    route_config = {
      virtual_hosts = list {
        {
          name = "greeter",
          domains = list { "*" },
          routes = list { { match = { prefix = "/" }, route = { cluster = "greeter" } } },
        },
      },
    },
    http_filters = list {
      { name = "envoy.filters.http.router", typed_config = { ["@type"] = router } },
    },
  }
  local filter = { name = "envoy.filters.network.http_connection_manager", typed_config = manager }
  return {
    name = "intruder",
    address = address(ctx.node.metadata.INTRUDER_PORT),
    filter_chains = list { { filters = list { filter } } },
  }
end

function M.render(ctx)
  local document = shipped.render(ctx)
  local static = document.static_resources
  static.clusters[#static.clusters + 1] = greeter_cluster(ctx)
  static.listeners[#static.listeners + 1] = greeter_listener(ctx)
  return document
end

return M
