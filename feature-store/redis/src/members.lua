-- Sets members of one list, each unless what is stored has its version or a newer one.
-- KEYS: the items in order, the states by member, when members were removed. ARGV[1]: how long tombstones stay, in seconds.
-- Then pairs: a member, and its state: generation (4 bytes), offset (8 bytes) and descending score (8 bytes, none for a
-- member that goes), big-endian. Answers how many were set.
local items, states, graves = KEYS[1], KEYS[2], KEYS[3]
local was_empty = redis.call('EXISTS', items) == 0
local set, now = 0, nil
for i = 2, #ARGV, 2 do
    local member, new = ARGV[i], ARGV[i + 1]
    local old = redis.call('HGET', states, member)
    local newer = not old
    if old then
        if #old ~= 12 and #old ~= 20 then
            return redis.error_reply('CORRUPT the state of a member has another length')
        end
        -- As numbers: the order of strings in Lua is that of the locale, and a number holds 32 bits exactly.
        local g, h, l = struct.unpack('>I4I4I4', old)
        local G, H, L = struct.unpack('>I4I4I4', new)
        newer = G > g or G == g and (H > h or H == h and L > l)
    end
    if newer then
        if old and #old == 20 then
            redis.call('ZREM', items, string.sub(old, 13) .. member)
        end
        if #new == 20 then
            redis.call('ZADD', items, 0, string.sub(new, 13) .. member)
            if old and #old == 12 then
                redis.call('ZREM', graves, member)
            end
        else
            now = now or tonumber(redis.call('TIME')[1])
            redis.call('ZADD', graves, now, member)
        end
        redis.call('HSET', states, member, new)
        set = set + 1
    end
end
if now then
    -- Twice as many old tombstones go as new ones come, so that they do not pile up.
    local old = redis.call('ZRANGEBYSCORE', graves, '-inf', '(' .. (now - tonumber(ARGV[1])), 'LIMIT', 0, 2 * set)
    for _, member in ipairs(old) do
        redis.call('ZREM', graves, member)
        redis.call('HDEL', states, member)
    end
end
-- Of a list without items only tombstones remain, which go together one day.
if redis.call('EXISTS', items) == 0 then
    redis.call('EXPIRE', states, ARGV[1])
    redis.call('EXPIRE', graves, ARGV[1])
elseif was_empty then
    redis.call('PERSIST', states)
    redis.call('PERSIST', graves)
end
return set
