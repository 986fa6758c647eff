-- Count what was let through while Redis was away, once. ARGV: the name of this count; now; JSON:
-- [[key, step_us, idle_ms, weight], ...].

if not call('SET', ARGV[1], 1, 'NX', 'EX', 3600) then return 0 end
local now = now_of(ARGV[2])
for _, each in ipairs(cjson.decode(ARGV[3])) do
  take(each[1], window(each[1], floor(now / each[2])), each[4], each[3])
end
return 1
