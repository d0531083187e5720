-- Sets records, each unless what is stored has its version or a newer one.
-- KEYS: records. ARGV[1]: how long tombstones stay, in milliseconds. ARGV[i + 1]: what to store at KEYS[i]: a flag
-- (0 alive, 1 tombstone), generation (4 bytes) and offset (8 bytes), big-endian, then the value. Answers how many were set.
local set = 0
for i, key in ipairs(KEYS) do
    local new = ARGV[i + 1]
    local old = redis.call('GETRANGE', key, 0, 12)
    local newer = old == ''
    if not newer then
        if #old ~= 13 then
            return redis.error_reply('CORRUPT a record is shorter than its header')
        end
        -- As numbers: the order of strings in Lua is that of the locale, and a number holds 32 bits exactly.
        local g, h, l = struct.unpack('>I4I4I4', old, 2)
        local G, H, L = struct.unpack('>I4I4I4', new, 2)
        newer = G > g or G == g and (H > h or H == h and L > l)
    end
    if newer then
        if string.byte(new) == 0 then
            redis.call('SET', key, new)
        else
            redis.call('SET', key, new, 'PX', ARGV[1])
        end
        set = set + 1
    end
end
return set
