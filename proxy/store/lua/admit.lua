-- Compare with everything, then take from everything, or from nothing.
--
-- ARGV: the plan; "id tokens worst expected open now" (id -: no hold; open 1: whatever Redis has forgotten);
-- the cache key, or nothing: if it is there the request takes what a hit takes.
-- Answers {0, ...} admitted and {2, ...} a hit: step and left of each rate, then left of each slot and purse;
-- {1, which, ...} refused; {3} closed: what was counted here is lost, and not yet restored.

local plan = cjson.decode(ARGV[1])
local id, tokens, worst, expected, open, given = match(ARGV[2], '^(%S+) (%d+) (%d+) (%d+) (%d) (%d+)$')
if open == '0' and call('EXISTS', 'gw:epoch') == 0 then return {3} end
local now, answer = now_of(given), {0}
local at, rates, slots, purses = 7, plan[3], plan[4], plan[5]
if ARGV[3] ~= '' and call('EXISTS', ARGV[3]) == 1 then
  at, rates, slots, purses = at + 5 * rates + 2 * slots + 4 * purses, plan[6], 0, 0
  answer[1], tokens, id = 2, 0, '-'
end

local first, windows, filled = at, {}, 1
for i = 1, rates do
  local key, amount = plan[at], plan[at + 1]
  local weight = plan[at + 3] == 1 and tonumber(tokens) or 1
  local kept = window(key, floor(now / plan[at + 2]))
  local left = amount - kept.total - weight
  if left < 0 then return {1, i, kept.total, fits_after(key, kept, weight, amount), now} end
  windows[i] = kept
  answer[filled + 1], answer[filled + 2] = kept.step, left
  filled, at = filled + 2, at + 5
end
for i = 1, slots do
  local left = plan[at + 1] - (call('GET', plan[at]) or 0)
  if left < 1 then return {1, rates + i} end
  filled, at = filled + 1, at + 2
  answer[filled] = left - 1
end
local sums = {}
for i = 1, purses do
  local left, held = room(plan[at], plan[at + 1], plan[at + 2], worst, expected)
  if left < 0 then return {1, rates + slots + i, held} end
  filled, at, sums[i] = filled + 1, at + 4, held
  answer[filled] = left
end

at = first
for i = 1, rates do
  take(plan[at], windows[i], plan[at + 3] == 1 and tonumber(tokens) or 1, plan[at + 4])
  at = at + 5
end
for _ = 1, slots do
  call('INCR', plan[at])
  at = at + 2
end
for i = 1, purses do
  hold(plan[at], sums[i], worst, expected, plan[at + 3])
  at = at + 4
end
if id ~= '-' then call('HSET', plan[1], id, '1 ' .. worst .. ' ' .. expected .. ' ' .. plan[2]) end
return answer
