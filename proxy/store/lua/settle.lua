-- Put what was used in the place of what was held, if it still is.
--
-- ARGV: the plan; "id now back tokens", then the cost for each purse, then the step of each rate (maybe none).
-- `tokens`: how many more than estimated, or less. back 1: nothing was used at all; back 2: nor was it of a
-- hit, which has no hold. Answers 1, 0: there is no such hold, or -1 and does nothing: what was counted is lost,
-- and whether the sums that will be restored have this cost already nobody can say.

local plan = cjson.decode(ARGV[1])
local words = {}
for word in string.gmatch(ARGV[2], '%S+') do words[#words + 1] = word end
local id, now, back, tokens = words[1], now_of(words[2]), words[3], tonumber(words[4])
local at, rates, slots, purses, word = 7, plan[3], plan[4], plan[5], 4
if call('EXISTS', 'gw:epoch') == 0 then return -1 end

if back == '2' then
  at, rates = at + 5 * rates + 2 * slots + 4 * purses, plan[6]
  slots, purses = 0, 0
else
  local record = call('HGET', plan[1], id)
  if not record then return 0 end
  call('HDEL', plan[1], id)
  local has_slots, worst, expected = read(record)
  local slot = at + 5 * rates
  for _ = 1, slots do
    if has_slots then free(plan[slot]) end
    slot = slot + 2
  end
  for _ = 1, purses do
    word = word + 1
    add(plan[slot], 0 - worst, 0 - expected, words[word])
    slot = slot + 4
  end
end
for i = 1, rates do
  local difference = back == '0' and 0 or -1
  if plan[at + 3] == 1 then difference = tokens end
  if difference ~= 0 then
    correct(plan[at], tonumber(words[word + i] or 0), difference, floor(now / plan[at + 2]), plan[at + 4])
  end
  at = at + 5
end
return 1
