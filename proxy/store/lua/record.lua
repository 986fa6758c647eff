-- Records of holds: "slots worst expected tail", by completion id, in a hash for each worker. `slots`: 1 while
-- the hold has its slots, 0 once they were taken from a worker that was gone. The tail is JSON: s the keys of
-- the slots, p those of the purses, each with the time when it may be forgotten.

local function read(record)
  local slots, worst, expected, tail = match(record, '^(%d) (%d+) (%d+) (.*)$')
  return slots == '1', worst, expected, tail
end

local function written(slots, worst, expected, tail)
  return format('%d %.0f %.0f %s', slots, worst, expected, tail)
end

local function free(key)
  if call('DECR', key) <= 0 then call('DEL', key) end
end

local function add(key, worst, expected, spent)
  call('HINCRBY', key, 'w', worst)
  call('HINCRBY', key, 'e', expected)
  if spent ~= '0' then call('HINCRBY', key, 's', spent) end
end
