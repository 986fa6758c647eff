-- Sums of budgets' windows, a hash for each, in nano-dollars: s spent, w and e what is held (worst and
-- expected), c the ledger's corrections.

-- Return what is left afterwards, and what is held; or -1 and what is left now: there is no room.
local function room(key, limit, strict, worst, expected)
  local sums = call('HMGET', key, 's', 'w', 'e')
  local spent, held_worst, held_expected = tonumber(sums[1] or 0), sums[2] or 0, sums[3] or 0
  local dearest, likely = spent + held_worst + worst, spent + held_expected + expected
  if dearest > limit and (strict == 1 or likely > limit) then
    local left = limit - spent - (strict == 1 and held_worst or held_expected)
    return -1, left > 0 and left or 0
  end
  local left = limit - (strict == 1 and dearest or likely)
  return left > 0 and left or 0, sums
end

-- `ends_ms`: when it may be forgotten, 0: never.
local function hold(key, sums, worst, expected, ends_ms)
  local more_worst, more_expected = (sums[2] or 0) + worst, (sums[3] or 0) + expected
  if sums[1] then
    call('HSET', key, 'w', more_worst, 'e', more_expected)
  else
    call('HSET', key, 's', 0, 'w', more_worst, 'e', more_expected)
    if ends_ms > 0 then call('PEXPIREAT', key, ends_ms) end
  end
end
