-- Free what a worker holds that is gone. ARGV: its name; the key of its records; 1: its money too; now.
-- Answers the keys of the purses of which it still holds money; -1: it lives.

local now, until_us = now_of(ARGV[4]), call('ZSCORE', 'gw:workers', ARGV[1])
if until_us and tonumber(until_us) >= now then return -1 end
local kept, seen = {}, {}
local records = call('HGETALL', ARGV[2])
for i = 1, #records, 2 do
  local id = records[i]
  local has_slots, worst, expected, tail = read(records[i + 1])
  local names = cjson.decode(tail)
  if has_slots then
    for _, key in ipairs(names.s) do free(key) end
  end
  if ARGV[3] == '1' or #names.p == 0 then
    for _, purse in ipairs(names.p) do add(purse[1], 0 - worst, 0 - expected, '0') end
    call('HDEL', ARGV[2], id)
  else
    call('HSET', ARGV[2], id, '0 ' .. worst .. ' ' .. expected .. ' ' .. tail)
    for _, purse in ipairs(names.p) do
      if not seen[purse[1]] then kept[#kept + 1] = purse[1] end
      seen[purse[1]] = true
    end
  end
end
if #kept == 0 then call('ZREM', 'gw:workers', ARGV[1]) end
return kept
