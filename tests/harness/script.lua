-- SPDX-License-Identifier: Apache-2.0
-- tests/harness/script.lua: what core's sandbox gives a script, for tests under plain lua5.4:
--   local script = dofile("tests/harness/script.lua").load("templates/bootstrap.lua")
local M = {}

local list_meta = {}

local environment = {
  null = setmetatable({}, { __tostring = function() return "null" end }),
  list = function(values) return setmetatable(values or {}, list_meta) end,
  assert = assert, error = error, ipairs = ipairs, math = math, next = next, pairs = pairs,
  pcall = pcall, rawequal = rawequal, rawget = rawget, rawlen = rawlen, rawset = rawset,
  select = select, string = string, table = table, tonumber = tonumber, tostring = tostring,
  type = type, utf8 = utf8,
}

M.list, M.null = environment.list, environment.null

function M.is_list(value) return getmetatable(value) == list_meta end

-- The script's table of functions; a global it sets or misses is an error.
function M.load(path)
  local globals = setmetatable({}, {
    __index = function(_, name)
      if environment[name] == nil then error("no such global: " .. name, 2) end
      return environment[name]
    end,
    __newindex = function(_, name) error("global " .. name .. " is set", 2) end,
  })
  return assert(loadfile(path, "t", globals))()
end

-- A text that is the same for equal values, keys in order.
function M.show(value)
  if type(value) ~= "table" then return string.format("%q", value) end
  local parts = {}
  if M.is_list(value) then
    for _, item in ipairs(value) do parts[#parts + 1] = M.show(item) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do parts[#parts + 1] = key .. "=" .. M.show(value[key]) end
  return "{" .. table.concat(parts, ",") .. "}"
end

function M.equal(got, expected, what)
  local a, b = M.show(got), M.show(expected)
  if a ~= b then error((what or "value") .. ":\n  got      " .. a .. "\n  expected " .. b, 2) end
end

return M
