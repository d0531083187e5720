-- Replaces a guard, unless it is not the expected one any more. KEYS: the guard. ARGV: the expected one, the new one.
-- Answers 1 when it was replaced or has been already.
local found = redis.call('GET', KEYS[1])
if found == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2])
    return 1
end
return found == ARGV[2] and 1 or 0
