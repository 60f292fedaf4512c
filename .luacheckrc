std = "lua54"
max_line_length = 100
files["scripts"] = { globals = {}, read_globals = { "list", "null" } }
files["templates"] = { globals = {}, read_globals = { "list", "null" } }
