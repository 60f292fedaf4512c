std = "lua54"
max_line_length = 100

-- What core/script_lib.c gives a script, and no more.
local function fields(...)
  local all = {}
  for _, name in ipairs({ ... }) do all[name] = {} end
  return { fields = all }
end

stds.sandbox = {
  read_globals = {
    "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
    "rawlen", "require", "select", "setmetatable", "tonumber", "tostring", "type", "xpcall",
    "_VERSION", "list", "null",
    string = fields("byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match",
      "pack", "packsize", "rep", "reverse", "sub", "unpack", "upper"),
    table = fields("concat", "insert", "move", "pack", "remove", "sort", "unpack"),
    math = fields("abs", "acos", "asin", "atan", "ceil", "cos", "deg", "exp", "floor", "fmod",
      "huge", "log", "max", "maxinteger", "min", "mininteger", "modf", "pi", "rad", "sin", "sqrt",
      "tan", "tointeger", "type", "ult"),
    utf8 = fields("char", "charpattern", "codepoint", "codes", "len", "offset"),
  },
}
files["scripts"] = { std = "sandbox" }
files["templates"] = { std = "sandbox" }
files["examples"] = { std = "sandbox" }
