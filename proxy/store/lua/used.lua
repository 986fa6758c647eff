-- Say how limits and budgets stand. ARGV: now; JSON: [[key, step_us], ...] (0: slots), [purse key, ...].
-- Answers now, then for each of the first the total and the step in which some is free again (-1: none is
-- used), then for each purse what is spent and held.

local now, asked = now_of(ARGV[1]), cjson.decode(ARGV[2])
local answer = {now}
for _, each in ipairs(asked[1]) do
  local total, frees = 0, -1
  if each[2] == 0 then
    total = tonumber(call('GET', each[1]) or 0)
  else
    local kept = window(each[1], floor(now / each[2]))
    total, frees = kept.total, fits_after(each[1], kept, 1, kept.total)
  end
  answer[#answer + 1], answer[#answer + 2] = total, frees
end
for _, key in ipairs(asked[2]) do
  local sums = call('HMGET', key, 's', 'w')
  answer[#answer + 1], answer[#answer + 2] = tonumber(sums[1] or 0), tonumber(sums[2] or 0)
end
return answer
