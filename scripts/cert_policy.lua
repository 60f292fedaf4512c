-- SPDX-License-Identifier: Apache-2.0
-- cert_policy: which certificate this workload asks for, and when it is renewed.
--
-- ctx: namespace, service_account, trust_domain, spiffe_id (text), labels (table of the pod's
-- labels), options (what the variables say: key, ttl, grace_ratio). A site's own cert_policy.lua
-- takes the place of this one; a function or a field it leaves out means the option.
local M = {}

-- key: "rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256" or "ecdsa-p384"; ttl: as "24h".
-- (WORKLOAD_RSA_KEY_SIZE, ECC_SIGNATURE_ALGORITHM, ECC_CURVE; SECRET_TTL)
function M.request(ctx)
  return { key = ctx.options.key, ttl = ctx.options.ttl }
end

-- Share of the lifetime, 0 to 1, that is left when the certificate is renewed.
-- (SECRET_GRACE_PERIOD_RATIO)
function M.grace_ratio(ctx)
  return ctx.options.grace_ratio
end

return M
