-- Raises members of one bounded list to their scores, and drops what falls off its end.
-- KEYS: the items in order, the scores by member. ARGV[1]: the bound. Then pairs: a member, and its descending score (8 bytes,
-- big-endian: the lesser is the higher). Answers how many were raised.
local items, states = KEYS[1], KEYS[2]
local set = 0
for i = 2, #ARGV, 2 do
    local member, new = ARGV[i], ARGV[i + 1]
    local old = redis.call('HGET', states, member)
    local higher = not old
    if old then
        if #old ~= 8 then
            return redis.error_reply('CORRUPT the score of a member has another length')
        end
        -- As numbers: the order of strings in Lua is that of the locale, and a number holds 32 bits exactly.
        local h, l = struct.unpack('>I4I4', old)
        local H, L = struct.unpack('>I4I4', new)
        higher = H < h or H == h and L < l
    end
    if higher then
        if old then
            redis.call('ZREM', items, old .. member)
        end
        redis.call('ZADD', items, 0, new .. member)
        redis.call('HSET', states, member, new)
        set = set + 1
    end
end
local over = redis.call('ZCARD', items) - tonumber(ARGV[1])
if over > 0 then
    for _, item in ipairs(redis.call('ZRANGE', items, -over, -1)) do
        redis.call('HDEL', states, string.sub(item, 9))
    end
    redis.call('ZREMRANGEBYRANK', items, -over, -1)
end
return set
