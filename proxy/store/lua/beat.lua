-- Say that a worker lives. ARGV: its name; for how many microseconds from now; now.
-- Answers now, whether it was taken for gone, how many workers there are, the epoch, and those that are gone.

local now = now_of(ARGV[3])
local new = call('ZADD', 'gw:workers', now + ARGV[2], ARGV[1])
local gone = call('ZRANGEBYSCORE', 'gw:workers', '-inf', format('(%.0f', now))
return {now, new, call('ZCARD', 'gw:workers') - #gone, call('GET', 'gw:epoch') or '', gone}
