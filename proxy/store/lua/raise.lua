-- Hold more of each purse, or of none.
--
-- ARGV: the plan; "id worst expected open now"; "worst expected": what it holds already, should that be lost.
-- Answers {0}, {1, which purse, left} or {3} closed.

local plan = cjson.decode(ARGV[1])
local id, worst, expected, open = match(ARGV[2], '^(%S+) (%d+) (%d+) (%d)')
if open == '0' and call('EXISTS', 'gw:epoch') == 0 then return {3} end
local record = call('HGET', plan[1], id)
local has_slots, held_worst, held_expected, tail = false, 0, 0, plan[2]
if record then
  has_slots, held_worst, held_expected, tail = read(record)
else
  local lost_worst, lost_expected = match(ARGV[3], '^(%d+) (%d+)$')
  worst, expected = worst + lost_worst, expected + lost_expected
end
local first, sums = 7 + 5 * plan[3] + 2 * plan[4], {}
local at = first
for i = 1, plan[5] do
  local left, held = room(plan[at], plan[at + 1], plan[at + 2], worst, expected)
  if left < 0 then return {1, i, held} end
  sums[i], at = held, at + 4
end
at = first
for i = 1, plan[5] do
  hold(plan[at], sums[i], worst, expected, plan[at + 3])
  at = at + 4
end
call('HSET', plan[1], id, written(has_slots and 1 or 0, held_worst + worst, held_expected + expected, tail))
return {0}
