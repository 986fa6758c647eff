-- Hold what was taken elsewhere or before a loss, whatever the limits say; what is held already is held once.
-- ARGV: the key of the worker's records; JSON: [[id, worst, expected, tail], ...].

for _, each in ipairs(cjson.decode(ARGV[2])) do
  local id, worst, expected, tail = each[1], each[2], each[3], each[4]
  local record = call('HGET', ARGV[1], id)
  local has_slots, held_worst, held_expected = false, 0, 0
  if record then has_slots, held_worst, held_expected = read(record) end
  local more_worst = math.max(worst - held_worst, 0)
  local more_expected = math.max(expected - held_expected, 0)
  local names = cjson.decode(tail)
  if not has_slots then
    for _, key in ipairs(names.s) do call('INCR', key) end
  end
  for _, purse in ipairs(names.p) do
    local sums = call('HMGET', purse[1], 's', 'w', 'e')
    hold(purse[1], sums, more_worst, more_expected, purse[2])
  end
  call('HSET', ARGV[1], id, written(1, held_worst + more_worst, held_expected + more_expected, tail))
end
return 1
