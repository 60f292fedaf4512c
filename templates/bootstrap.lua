-- SPDX-License-Identifier: Apache-2.0
-- templates/bootstrap.lua: the document Envoy starts with, in the shape of Istio 1.21.
--
-- render(ctx) returns envoy.config.bootstrap.v3.Bootstrap as proto-JSON. ctx, made by the plugin
-- `bootstrap`:
--   envoy        { major, minor } of the Envoy it is for
--   node         { id, cluster, locality, metadata }; metadata.PROXY_CONFIG is the effective one
--   xds_type     "GRPC" or "DELTA_GRPC"
--   localhost, wildcard, dns_lookup_family   by the pod's address family
--   ip_addresses list of the pod's addresses
--   admin_port, status_port, envoy_status_port, envoy_prometheus_port
--   xds_socket, sds_socket   paths
--   outlier_log_path         or nil
--   histogram_buckets        map prefix -> list of numbers, or nil
--   zipkin, statsd           { address, port_value }, or nil
local M = {}

local TYPE = "type.googleapis.com/"
local HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

-- ---- runtime ----

-- Istio 1.21 was made for Envoy 1.29. Some of what it writes has become the default since, and is
-- complained about in the log.
local function is_new(envoy)
  return envoy.major > 1 or envoy.minor >= 32
end

local function add_old_flags(flags, envoy)
  if is_new(envoy) then return end
  flags["envoy.restart_features.use_eds_cache_for_ads"] = true
  flags["overload.global_downstream_max_connections"] = "2147483647"
end

local function runtime_flags(ctx)
  local flags = {
    ["re2.max_program_size.error_level"] = "32768",
    ["envoy.deprecated_features:envoy.config.listener.v3.Listener."
      .. "hidden_envoy_deprecated_use_original_dst"] = true,
    ["envoy.reloadable_features.http_reject_path_with_fragment"] = false,
  }
  add_old_flags(flags, ctx.envoy)
  for key, value in pairs(ctx.node.metadata.PROXY_CONFIG.runtimeValues or {}) do
    if value == "" then
      flags[key] = nil
    elseif value == "true" or value == "false" then
      flags[key] = value == "true"
    else
      flags[key] = value
    end
  end
  return flags
end

-- ---- statistics ----

local function split(text)
  local parts = list {}
  for part in string.gmatch(text or "", "[^,]+") do parts[#parts + 1] = part end
  return parts
end

local function annotation(ctx, name)
  local annotations = ctx.node.metadata.ANNOTATIONS
  return annotations and annotations["sidecar.istio.io/" .. name]
end

-- An IPv4 or IPv6 address and a port, in the spelling of stat names (10.0.0.1_80, [__]_80).
local ADDRESS = [=[((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))]=]

local function stats_tags(ctx)
  local tags = list {
    { tag_name = "cluster_name", regex = [[^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)]] },
    { tag_name = "tcp_prefix", regex = [[^tcp\.((.*?)\.)\w+?$]] },
    { tag_name = "response_code", regex = [[_rq(_(\d{3}))$]] },
    { tag_name = "response_code_class", regex = [[_rq(_(\dxx))$]] },
    { tag_name = "http_conn_manager_listener_prefix",
      regex = [[^listener(?=\.).*?\.http\.(]] .. ADDRESS .. [[\.)]] },
    { tag_name = "http_conn_manager_prefix", regex = [[^http\.(]] .. ADDRESS .. [[\.)]] },
    { tag_name = "listener_address", regex = [[^listener\.(]] .. ADDRESS .. [[\.)]] },
    { tag_name = "mongo_prefix",
      regex = [[^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$]] },
  }
  local seen = {}
  local function add_extra(names)
    for _, name in ipairs(names or {}) do
      if not seen[name] then
        seen[name] = true
        tags[#tags + 1] = { tag_name = name, regex = "(" .. name .. [[=\.=(.*?);\.;)]] }
      end
    end
  end
  add_extra(ctx.node.metadata.PROXY_CONFIG.extraStatTags)
  add_extra(split(annotation(ctx, "extraStatTags")))
  for _, tag in ipairs {
    { tag_name = "cache", regex = [[(cache\.(.+?)\.)]] },
    { tag_name = "component", regex = [[(component\.(.+?)\.)]] },
    { tag_name = "tag", regex = [[(tag\.(.+?);\.)]] },
    { tag_name = "wasm_filter", regex = [[(wasm_filter\.(.+?)\.)]] },
    { tag_name = "authz_enforce_result", regex = [[rbac(\.(allowed|denied))]] },
    { tag_name = "authz_dry_run_action", regex = [[(\.istio_dry_run_(allow|deny)_)]] },
    { tag_name = "authz_dry_run_result", regex = [[(\.shadow_(allowed|denied))]] },
  } do
    tags[#tags + 1] = tag
  end
  return tags
end

-- "{pod_ip}" stands for one pattern for each of the pod's addresses.
local function add_patterns(ctx, patterns, texts, wrap)
  for _, text in ipairs(texts) do
    if string.find(text, "{pod_ip}", 1, true) then
      for _, address in ipairs(ctx.ip_addresses) do
        patterns[#patterns + 1] = wrap((string.gsub(text, "{pod_ip}", address)))
      end
    else
      patterns[#patterns + 1] = wrap(text)
    end
  end
end

-- The annotation replaces the list of the ProxyConfig; what readiness and dashboards live on is
-- always there.
local function chosen(ctx, name, member, required)
  local texts = list {}
  local matcher = ctx.node.metadata.PROXY_CONFIG.proxyStatsMatcher or {}
  local text = annotation(ctx, name)
  local given = matcher[member]
  if given == nil or given == null then given = {} end
  for _, value in ipairs(text and split(text) or given) do
    texts[#texts + 1] = value
  end
  for _, value in ipairs(required) do texts[#texts + 1] = value end
  return texts
end

local function stats_patterns(ctx)
  local function prefix(text) return { prefix = text } end
  local function suffix(text) return { suffix = text } end
  local function regex(text) return { safe_regex = { regex = text } } end
  local patterns = list { prefix "reporter=" }
  add_patterns(ctx, patterns, chosen(ctx, "statsInclusionPrefixes", "inclusionPrefixes",
    { "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm" }), prefix)
  add_patterns(ctx, patterns, chosen(ctx, "statsInclusionSuffixes", "inclusionSuffixes",
    { "rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied" }), suffix)
  add_patterns(ctx, patterns, chosen(ctx, "statsInclusionRegexps", "inclusionRegexps",
    { [[vhost\.*\.route\.*]] }), regex)
  patterns[#patterns + 1] = prefix "component"
  patterns[#patterns + 1] = prefix "istio"
  return patterns
end

local function histogram_buckets(ctx)
  if not ctx.histogram_buckets then return nil end
  local prefixes = {}
  for prefix in pairs(ctx.histogram_buckets) do prefixes[#prefixes + 1] = prefix end
  table.sort(prefixes)
  local settings = list {}
  for _, prefix in ipairs(prefixes) do
    settings[#settings + 1] = {
      match = { prefix = prefix },
      buckets = ctx.histogram_buckets[prefix],
    }
  end
  return settings
end

local function stats_sinks(ctx)
  if not ctx.statsd then return nil end
  return list {
    {
      name = "envoy.stat_sinks.statsd",
      typed_config = {
        ["@type"] = TYPE .. "envoy.config.metrics.v3.StatsdSink",
        address = { socket_address = ctx.statsd },
      },
    },
  }
end

-- ---- clusters ----

local function load_assignment(name, address)
  return {
    cluster_name = name,
    endpoints = list { { lb_endpoints = list { { endpoint = { address = address } } } } },
  }
end

local function local_cluster(ctx, name, port)
  return {
    name = name,
    type = "STATIC",
    connect_timeout = "0.250s",
    lb_policy = "ROUND_ROBIN",
    load_assignment = load_assignment(name, {
      socket_address = { protocol = "TCP", address = ctx.localhost, port_value = port },
    }),
  }
end

local function pipe_cluster(name, path)
  return {
    name = name,
    type = "STATIC",
    connect_timeout = "1s",
    lb_policy = "ROUND_ROBIN",
    typed_extension_protocol_options = {
      [HTTP_OPTIONS] = {
        ["@type"] = TYPE .. HTTP_OPTIONS,
        explicit_http_config = { http2_protocol_options = {} },
      },
    },
    load_assignment = load_assignment(name, { pipe = { path = path } }),
  }
end

local function limit_to_one_request(cluster, envoy)
  if is_new(envoy) then
    local options = cluster.typed_extension_protocol_options[HTTP_OPTIONS]
    options.common_http_protocol_options = { max_requests_per_connection = 1 }
  else
    cluster.max_requests_per_connection = 1
  end
end

local function xds_cluster(ctx)
  local cluster = pipe_cluster("xds-grpc", ctx.xds_socket)
  local function threshold(priority)
    return {
      priority = priority,
      max_connections = 100000,
      max_pending_requests = 100000,
      max_requests = 100000,
    }
  end
  cluster.circuit_breakers = { thresholds = list { threshold "DEFAULT", threshold "HIGH" } }
  cluster.upstream_connection_options = { tcp_keepalive = { keepalive_time = 300 } }
  limit_to_one_request(cluster, ctx.envoy)
  return cluster
end

local function dns_cluster(ctx, name, address)
  return {
    name = name,
    type = "STRICT_DNS",
    respect_dns_ttl = true,
    dns_lookup_family = ctx.dns_lookup_family,
    connect_timeout = "1s",
    lb_policy = "ROUND_ROBIN",
    load_assignment = load_assignment(name, { socket_address = address }),
  }
end

local function clusters(ctx)
  local all = list {
    local_cluster(ctx, "prometheus_stats", ctx.admin_port),
    local_cluster(ctx, "agent", ctx.status_port),
    pipe_cluster("sds-grpc", ctx.sds_socket),
    xds_cluster(ctx),
  }
  if ctx.zipkin then
    local zipkin = dns_cluster(ctx, "zipkin", ctx.zipkin)
    zipkin.dns_refresh_rate = "30s"
    all[#all + 1] = zipkin
  end
  return all
end

-- ---- listeners ----

local function http_filter(name, type_name)
  return { name = name, typed_config = { ["@type"] = TYPE .. type_name } }
end

-- One path of one port, sent to one cluster.
local function listener(ctx, port, stat_prefix, path, cluster)
  local route = { match = { prefix = path }, route = { cluster = cluster } }
  local manager = {
    ["@type"] = TYPE .. "envoy.extensions.filters.network.http_connection_manager.v3"
      .. ".HttpConnectionManager",
    codec_type = "AUTO",
    stat_prefix = stat_prefix,
    route_config = {
      virtual_hosts = list {
        { name = "backend", domains = list { "*" }, routes = list { route } },
      },
    },
    http_filters = list {
      http_filter("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
    },
  }
  return {
    address = {
      socket_address = { protocol = "TCP", address = ctx.wildcard, port_value = port },
    },
    filter_chains = list {
      {
        filters = list {
          { name = "envoy.filters.network.http_connection_manager", typed_config = manager },
        },
      },
    },
  }
end

-- ---- the rest ----

local function admin(ctx)
  return {
    access_log = list {
      {
        name = "envoy.access_loggers.file",
        typed_config = {
          ["@type"] = TYPE .. "envoy.extensions.access_loggers.file.v3.FileAccessLog",
          path = "/dev/null",
        },
      },
    },
    profile_path = "/var/lib/istio/data/envoy.prof",
    address = {
      socket_address = { address = ctx.localhost, port_value = ctx.admin_port },
    },
  }
end

-- A timeout of 0: Envoy waits for its configuration as long as it takes.
local function dynamic_resources(ctx)
  local function over_ads()
    return { ads = {}, initial_fetch_timeout = "0s", resource_api_version = "V3" }
  end
  return {
    lds_config = over_ads(),
    cds_config = over_ads(),
    ads_config = {
      api_type = ctx.xds_type,
      set_node_on_first_message_only = true,
      transport_api_version = "V3",
      grpc_services = list { { envoy_grpc = { cluster_name = "xds-grpc" } } },
    },
  }
end

local function tracing(ctx)
  if not ctx.zipkin then return nil end
  return {
    http = {
      name = "envoy.tracers.zipkin",
      typed_config = {
        ["@type"] = TYPE .. "envoy.config.trace.v3.ZipkinConfig",
        collector_cluster = "zipkin",
        collector_endpoint = "/api/v2/spans",
        collector_endpoint_version = "HTTP_JSON",
        trace_id_128bit = true,
        shared_span_context = false,
      },
    },
  }
end

local function cluster_manager(ctx)
  if not ctx.outlier_log_path then return nil end
  return { outlier_detection = { event_log_path = ctx.outlier_log_path } }
end

-- Written as a TypedStruct, as Istio does: an Envoy without the extension says so by name.
local function internal_listener()
  return {
    name = "envoy.bootstrap.internal_listener",
    typed_config = {
      ["@type"] = TYPE .. "udpa.type.v1.TypedStruct",
      type_url = TYPE .. "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
      value = { buffer_size_kb = 64 },
    },
  }
end

function M.render(ctx)
  return {
    node = ctx.node,
    layered_runtime = {
      layers = list {
        { name = "global config", static_layer = runtime_flags(ctx) },
        { name = "admin", admin_layer = {} },
      },
    },
    bootstrap_extensions = list { internal_listener() },
    stats_config = {
      use_all_default_tags = false,
      stats_tags = stats_tags(ctx),
      histogram_bucket_settings = histogram_buckets(ctx),
      stats_matcher = { inclusion_list = { patterns = stats_patterns(ctx) } },
    },
    admin = admin(ctx),
    dynamic_resources = dynamic_resources(ctx),
    static_resources = {
      clusters = clusters(ctx),
      listeners = list {
        listener(ctx, ctx.envoy_prometheus_port, "stats", "/stats/prometheus", "prometheus_stats"),
        listener(ctx, ctx.envoy_status_port, "agent", "/healthz/ready", "agent"),
      },
    },
    tracing = tracing(ctx),
    stats_sinks = stats_sinks(ctx),
    cluster_manager = cluster_manager(ctx),
  }
end

return M
