-- SPDX-License-Identifier: Apache-2.0
-- The template of the embedded control plane: which resources each member of its context makes.
-- What is in them is decoded and checked in tests/integration/standalone.
local harness = dofile("tests/harness/script.lua")
local standalone = harness.load("templates/standalone.lua")
local list, equal = harness.list, harness.equal

local function service(changes)
  local out = {
    host = "orders.shop", protocol = "http", spiffe_id = "spiffe://td/ns/shop/sa/orders",
    address = "10.0.0.5", port = 15006, workload_port = 9090,
    endpoints = list { { address = "10.0.0.5", port = 15006 } },
  }
  for key, value in pairs(changes or {}) do out[key] = value end
  return out
end

local function render(inbound, outbound)
  return standalone.resources {
    trust_domain = "td", inbound = list(inbound or {}), outbound = list(outbound or {}),
  }
end

local function names(resources)
  local found = {}
  for i, item in ipairs(resources) do found[i] = item.name or item.cluster_name end
  return table.concat(found, " ")
end

local function summary(out)
  return table.concat({ names(out.clusters), names(out.endpoints), names(out.listeners),
    names(out.routes) }, "; ")
end

local function first_filter(out) return out.listeners[1].filter_chains[1].filters[1] end

-- Nothing to serve and nobody to call: four empty lists, which are lists.
local empty = render()
for _, key in ipairs { "clusters", "endpoints", "listeners", "routes" } do
  assert(harness.is_list(empty[key]) and #empty[key] == 0, key)
end

local inbound = "inbound|15006||orders.shop"
local outbound = "outbound|8080||orders.shop"
equal(summary(render({ service() })), inbound .. "; ; " .. inbound .. "; " .. inbound)
equal(summary(render({ service { protocol = "tcp" } })), inbound .. "; ; " .. inbound .. "; ")
equal(summary(render(nil, { service { port = 8080 } })),
  outbound .. "; " .. outbound .. "; " .. outbound .. "; " .. outbound)
equal(summary(render(nil, { service { port = 8080, protocol = "tcp" } })),
  outbound .. "; " .. outbound .. "; " .. outbound .. "; ")

-- Who may call: no list is everybody of the mesh, an empty list nobody.
local function http_rules(allow)
  local filters = first_filter(render({ service { allow = allow } })).typed_config.http_filters
  return #filters == 2 and filters[1].typed_config.rules or nil
end
equal(http_rules(nil), nil)
equal(http_rules(list {}), { action = "ALLOW" })
local some = http_rules(list { "spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/c" })
equal(#some.policies.allow.principals, 2)
equal(some.policies.allow.principals[2].authenticated.principal_name.exact,
  "spiffe://td/ns/a/sa/c")
equal(first_filter(render({ service { protocol = "tcp", allow = list {} } })).name,
  "envoy.filters.network.rbac")
equal(first_filter(render({ service { protocol = "tcp" } })).name,
  "envoy.filters.network.tcp_proxy")

-- A caller's own filters are no guard: rules belong to the side that serves.
equal(#first_filter(render(nil, { service { port = 8080, allow = list {} } }))
  .typed_config.http_filters, 1)

-- A client certificate is always demanded, and the server is always known by its own identity.
local tls = render({ service() }).listeners[1].filter_chains[1].transport_socket.typed_config
equal(tls.require_client_certificate, true)
equal(tls.common_tls_context.combined_validation_context.default_validation_context
  .match_typed_subject_alt_names[1].matcher, { prefix = "spiffe://td/" })
local peer = render(nil, { service { port = 8080 } }).clusters[1].transport_socket.typed_config
equal(peer.common_tls_context.combined_validation_context.default_validation_context
  .match_typed_subject_alt_names[1].matcher, { exact = "spiffe://td/ns/shop/sa/orders" })
print("ok")
