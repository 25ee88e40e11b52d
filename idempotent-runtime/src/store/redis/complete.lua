-- Replaces the claim on KEYS[1] with a record.
--
-- ARGV[1] the token (16 bytes)
-- ARGV[2] the record
-- ARGV[3] the ttl, in milliseconds
--
-- Returns 1: stored, by this call or an earlier one, 0: lost, -1: out of memory, and the claim holds for the ttl.

-- A claim is no longer than this: state, token, fingerprint, operation.
local head = redis.call('GETRANGE', KEYS[1], 0, 288)
local state, token = string.sub(head, 1, 1), string.sub(head, 2, 17)
if token ~= ARGV[1] or (state ~= 'R' and state ~= 'S') then
  return 0
elseif state == 'S' then
  return 1
end

local entry = 'S' .. string.sub(head, 2) .. ARGV[2]
local reply = redis.pcall('SET', KEYS[1], entry, 'PX', ARGV[3])
if not reply.err then
  return 1
elseif not string.find(reply.err, 'OOM command', 1, true) then -- Redis 6 puts the line in front
  return reply
end

-- The memory is full. This needs none, and keeps duplicates out whatever happens next.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if #ARGV[2] > 64 then
  return -1
end
-- A record of about the claim's size, such as the runtime's note that a response could not be stored. When out of
-- memory, the server refuses only a script's first write.
redis.call('SET', KEYS[1], entry, 'PX', ARGV[3])
return 1
