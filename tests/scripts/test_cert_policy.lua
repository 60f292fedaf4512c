-- SPDX-License-Identifier: Apache-2.0
-- The shipped certificate policy does what Istio's variables say, and nothing else.
local policy = dofile("scripts/cert_policy.lua")

local function ctx(options, labels)
  return { namespace = "shop", service_account = "cart", trust_domain = "cluster.local",
           spiffe_id = "spiffe://cluster.local/ns/shop/sa/cart", labels = labels or {},
           options = options }
end

local cases = {
  { key = "rsa-2048", ttl = "86400s", grace_ratio = 0.5 },
  { key = "ecdsa-p384", ttl = "10s", grace_ratio = 0.25 },
  { key = "rsa-4096", ttl = "3600s", grace_ratio = 0 },
}
for _, options in ipairs(cases) do
  for _, labels in ipairs({ {}, { tier = "edge", fips = "true" } }) do
    local input = ctx(options, labels)
    local request = policy.request(input)
    assert(request.key == options.key and request.ttl == options.ttl)
    assert(policy.grace_ratio(input) == options.grace_ratio)
    local fields = 0
    for _ in pairs(request) do fields = fields + 1 end
    assert(fields == 2, "a field that C does not know would be ignored silently")
  end
end

for name in pairs(policy) do
  assert(name == "request" or name == "grace_ratio", "nobody calls " .. name)
end
print("ok")
