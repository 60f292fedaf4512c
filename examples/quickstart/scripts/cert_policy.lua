-- SPDX-License-Identifier: Apache-2.0
-- The quickstart's certificate policy: keys on P-256; lifetime and renewal as shipped.
local shipped = require "shipped.cert_policy"

local M = { grace_ratio = shipped.grace_ratio }

function M.request(ctx)
  local answer = shipped.request(ctx)
  answer.key = "ecdsa-p256"
  return answer
end

return M
