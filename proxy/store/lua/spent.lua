-- Lift sums to what the ledger says. ARGV: for how many milliseconds a sum that nobody knew is kept, 0: for
-- ever; JSON: [[key, spent, corrected], ...].

for _, each in ipairs(cjson.decode(ARGV[2])) do
  local key, spent, corrected = each[1], each[2], each[3]
  local sums = call('HMGET', key, 's', 'c')
  local known = (sums[1] or 0) + corrected - (sums[2] or 0)
  call('HSET', key, 's', math.max(known, spent), 'c', corrected)
  if not sums[1] and ARGV[1] ~= '0' then call('PEXPIRE', key, ARGV[1]) end
end
return 1
