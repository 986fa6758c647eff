-- Ask whether what was counted is there again. ARGV: who asks; how long it may take to restore it, in
-- milliseconds; the name of a new epoch, which begins with this if it is not empty.
-- Answers the epoch, or nothing; whether it falls to the asker to restore it; how many workers have come.

if ARGV[3] ~= '' then call('SET', 'gw:epoch', ARGV[3], 'NX') end
local epoch = call('GET', 'gw:epoch') or ''
if epoch ~= '' then call('DEL', 'gw:restoring') end
local restores = epoch == '' and call('SET', 'gw:restoring', ARGV[1], 'NX', 'PX', ARGV[2])
return {epoch, restores and 1 or 0, call('ZCARD', 'gw:workers')}
