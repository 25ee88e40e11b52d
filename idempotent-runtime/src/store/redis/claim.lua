-- Claims KEYS[1], or reads what it holds.
--
-- ARGV[1] the claim: 'R', token (16 bytes), fingerprint (16 bytes), operation (its length in 1 byte, its text)
-- ARGV[2] the lease, in milliseconds
--
-- Returns the entry and its remaining time in milliseconds.

local entry = redis.call('GET', KEYS[1])
if not entry or string.sub(entry, 1, 17) == string.sub(ARGV[1], 1, 17) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  entry = ARGV[1]
end
return { entry, redis.call('PTTL', KEYS[1]) }
