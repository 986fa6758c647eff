-- What the scripts of limits and budgets begin with. `now` is Redis's own, in microseconds, unless one is given:
-- no clock of a worker matters.

local call, match, format, floor = redis.call, string.match, string.format, math.floor

local function now_of(given)
  if given ~= '0' then return tonumber(given) end
  local at = call('TIME')
  return at[1] * 1000000 + at[2]
end
