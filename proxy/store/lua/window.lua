-- Windows of rate limits, as proxy/store/windows.py has them.
--
-- A string for each: the total, the oldest and the newest step that count, and what was let through in the
-- newest. A hash beside it has the older steps: the weight of each, and the step that came after it. So a
-- request costs a GET and a SET, and a step that counts no more is found without a search.

local STEPS = 600
local HEAD = '<dddd'

local function after(key, step)
  local weight, following = match(call('HGET', key .. ':steps', step), '^(%d+) (%d+)$')
  return tonumber(weight), tonumber(following)
end

-- Forget what counts no more in `step`. For a clock that went back it is still the newest step.
local function window(key, step)
  local head = call('GET', key)
  if not head then return {total = 0, step = step} end
  local total, oldest, newest, last = struct.unpack(HEAD, head)
  if newest > step then step = newest end
  local gone = step - STEPS
  if newest < gone then
    call('DEL', key, key .. ':steps')
    return {total = 0, step = step}
  end
  if oldest < gone then
    local dropped = {}
    repeat
      local weight, following = after(key, oldest)
      total = total - weight
      dropped[#dropped + 1] = oldest
      oldest = following
    until oldest >= gone
    call('HDEL', key .. ':steps', unpack(dropped))
    call('SET', key, struct.pack(HEAD, total, oldest, newest, last), 'KEEPTTL')
  end
  return {total = total, step = step, oldest = oldest, newest = newest, last = last}
end

-- `idle_ms`: how long any of it may count; 0 keeps it, for a clock that is not Redis's own.
local function keep(key, kept, idle_ms)
  local head = struct.pack(HEAD, kept.total, kept.oldest, kept.newest, kept.last)
  if idle_ms > 0 then call('SET', key, head, 'PX', idle_ms) else call('SET', key, head) end
end

local function take(key, kept, weight, idle_ms)
  local step, newest = kept.step, kept.newest
  kept.total = kept.total + weight
  if newest == step then
    kept.last = kept.last + weight
  else
    if newest then
      call('HSET', key .. ':steps', newest, format('%.0f %.0f', kept.last, step))
      if idle_ms > 0 then call('PEXPIRE', key .. ':steps', idle_ms) end
    else
      kept.oldest = step
    end
    kept.newest, kept.last = step, weight
  end
  keep(key, kept, idle_ms)
end

-- Make what was let through in `step` more or less; more counts now if that step has gone.
local function correct(key, step, difference, now_step, idle_ms)
  local kept = window(key, now_step)
  if kept.newest == step then
    if difference < -kept.last then difference = -kept.last end
    kept.total, kept.last = kept.total + difference, kept.last + difference
    keep(key, kept, idle_ms)
    return
  end
  local older = kept.newest and call('HGET', key .. ':steps', step)
  if older then
    local weight, following = match(older, '^(%d+) (%d+)$')
    if difference < -weight then difference = -weight end
    call('HSET', key .. ':steps', step, format('%.0f %s', weight + difference, following))
    kept.total = kept.total + difference
    keep(key, kept, idle_ms)
  elseif difference > 0 then
    take(key, kept, difference, idle_ms)
  end
end

-- Return the step in which `weight` would fit again if nothing else came; -1: it never will.
local function fits_after(key, kept, weight, amount)
  if weight > amount then return -1 end
  local over, step = kept.total + weight - amount, kept.oldest
  while step do
    local passed, following = kept.last, nil
    if step ~= kept.newest then passed, following = after(key, step) end
    over = over - passed
    if over <= 0 then return step + STEPS + 1 end
    step = following
  end
  return -1
end
