-- SPDX-License-Identifier: Apache-2.0
-- The bootstrap template: what each member of its context changes. Whole documents are compared
-- with Istio's own in tests/integration/bootstrap.
local harness = dofile("tests/harness/script.lua")
local bootstrap = harness.load("templates/bootstrap.lua")
local list, equal = harness.list, harness.equal

local HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

local function ctx(changes)
  local out = {
    envoy = { major = 1, minor = 29 },
    node = { id = "sidecar~1.2.3.4~a.b~c", cluster = "a.b", locality = {},
             metadata = { PROXY_CONFIG = {} } },
    xds_type = "GRPC", localhost = "127.0.0.1", wildcard = "0.0.0.0",
    dns_lookup_family = "V4_ONLY", ip_addresses = list { "1.2.3.4", "5.6.7.8" },
    admin_port = 15000, status_port = 15020, envoy_status_port = 15021,
    envoy_prometheus_port = 15090, xds_socket = "etc/istio/proxy/XDS",
    sds_socket = "./var/run/secrets/workload-spiffe-uds/socket",
  }
  for key, value in pairs(changes or {}) do out[key] = value end
  return out
end

local function with_config(config, annotations)
  local out = ctx()
  out.node.metadata = { PROXY_CONFIG = config, ANNOTATIONS = annotations }
  return bootstrap.render(out)
end

local function find(items, name)
  for _, item in ipairs(items) do
    if item.name == name then return item end
  end
end

local function flags(document) return document.layered_runtime.layers[1].static_layer end

local function patterns(document, kind)
  local found = list {}
  for _, pattern in ipairs(document.stats_config.stats_matcher.inclusion_list.patterns) do
    local text = kind == "regex" and pattern.safe_regex and pattern.safe_regex.regex
      or pattern[kind]
    if text then found[#found + 1] = text end
  end
  return found
end

-- The node goes through untouched, and nothing optional is there unasked.
local plain = bootstrap.render(ctx())
equal(plain.node, ctx().node)
for _, name in ipairs { "tracing", "stats_sinks", "cluster_manager" } do
  assert(plain[name] == nil, name)
end
assert(plain.stats_config.histogram_bucket_settings == nil)
equal(#plain.static_resources.clusters, 4)

-- Guards that a new Envoy no longer has are left out for it, by version and not by digits.
equal(flags(plain)["envoy.restart_features.use_eds_cache_for_ads"], true)
equal(flags(plain)["overload.global_downstream_max_connections"], "2147483647")
for _, version in ipairs { { major = 1, minor = 40 }, { major = 2, minor = 0 } } do
  local new = flags(bootstrap.render(ctx { envoy = version }))
  assert(new["envoy.restart_features.use_eds_cache_for_ads"] == nil)
  assert(new["overload.global_downstream_max_connections"] == nil)
  equal(new["re2.max_program_size.error_level"], "32768")
  local xds = find(bootstrap.render(ctx { envoy = version }).static_resources.clusters, "xds-grpc")
  assert(xds.max_requests_per_connection == nil)
  equal(xds.typed_extension_protocol_options[HTTP_OPTIONS].common_http_protocol_options,
    { max_requests_per_connection = 1 })
end
assert(flags(bootstrap.render(ctx { envoy = { major = 1, minor = 9 } }))
  ["envoy.restart_features.use_eds_cache_for_ads"])

equal(find(plain.static_resources.clusters, "xds-grpc").max_requests_per_connection, 1)

-- runtimeValues: empty deletes, true and false are booleans, the rest is text.
local values = flags(with_config { runtimeValues = {
  ["re2.max_program_size.error_level"] = "", a = "true", b = "false", c = "12", d = "True" } })
assert(values["re2.max_program_size.error_level"] == nil)
equal({ values.a, values.b, values.c, values.d }, { true, false, "12", "True" })

-- The address family and the sockets.
local ipv6 = bootstrap.render(ctx { localhost = "::1", wildcard = "::",
                                    dns_lookup_family = "V6_ONLY", xds_type = "DELTA_GRPC",
                                    zipkin = { address = "z", port_value = 9411 } })
equal(ipv6.admin.address.socket_address, { address = "::1", port_value = 15000 })
equal(ipv6.static_resources.listeners[1].address.socket_address,
  { address = "::", port_value = 15090, protocol = "TCP" })
equal(ipv6.static_resources.listeners[2].address.socket_address.port_value, 15021)
equal(ipv6.dynamic_resources.ads_config.api_type, "DELTA_GRPC")
local zipkin = find(ipv6.static_resources.clusters, "zipkin")
equal({ zipkin.dns_lookup_family, zipkin.dns_refresh_rate }, { "V6_ONLY", "30s" })
equal(ipv6.tracing.http.typed_config.collector_cluster, "zipkin")
equal(find(plain.static_resources.clusters, "xds-grpc").load_assignment.endpoints[1]
  .lb_endpoints[1].endpoint.address, { pipe = { path = "etc/istio/proxy/XDS" } })

-- Statistics: the annotation replaces the ProxyConfig's list, the required ones always follow.
local config = { proxyStatsMatcher = {
  inclusionPrefixes = list { "p1" }, inclusionSuffixes = list { "s1" },
  inclusionRegexps = list { ".*r1" } } }
equal(patterns(with_config(config), "prefix"), list { "reporter=", "p1", "cluster_manager",
  "listener_manager", "server", "cluster.xds-grpc", "wasm", "component", "istio" })
local annotated = with_config(config, {
  ["sidecar.istio.io/statsInclusionPrefixes"] = "p2,http.{pod_ip}_",
  ["sidecar.istio.io/statsInclusionRegexps"] = "r2" })
equal(patterns(annotated, "prefix"), list { "reporter=", "p2", "http.1.2.3.4_", "http.5.6.7.8_",
  "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm", "component",
  "istio" })
equal(#patterns(with_config { proxyStatsMatcher = { inclusionPrefixes = harness.null } },
  "prefix"), 8)
equal(patterns(annotated, "suffix"),
  list { "s1", "rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied" })
equal(patterns(annotated, "regex"), list { "r2", [[vhost\.*\.route\.*]] })

-- Extra tags come once each, after the field's own.
local tags = with_config({ extraStatTags = list { "one", "two" } },
  { ["sidecar.istio.io/extraStatTags"] = "two,three" }).stats_config.stats_tags
local names = list {}
for i = 8, 12 do names[#names + 1] = tags[i].tag_name end
equal(names, list { "mongo_prefix", "one", "two", "three", "cache" })
equal(tags[9].regex, [[(one=\.=(.*?);\.;)]])

-- Buckets are sorted by prefix; the rest of the optional members.
local full = bootstrap.render(ctx {
  histogram_buckets = { b = list { 1, 2 }, a = list { 3 } },
  statsd = { address = "10.1.1.1", port_value = 9125 }, outlier_log_path = "/dev/stdout" })
equal(full.stats_config.histogram_bucket_settings, list {
  { match = { prefix = "a" }, buckets = list { 3 } },
  { match = { prefix = "b" }, buckets = list { 1, 2 } } })
equal(full.stats_sinks[1].typed_config.address.socket_address,
  { address = "10.1.1.1", port_value = 9125 })
equal(full.cluster_manager, { outlier_detection = { event_log_path = "/dev/stdout" } })
print("ok")
