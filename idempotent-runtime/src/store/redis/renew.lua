-- Extends the claim on KEYS[1] by another lease.
--
-- ARGV[1] the claim's head: 'R', token (16 bytes)
-- ARGV[2] the lease, in milliseconds
--
-- Returns 1: held, 0: lost.

if redis.call('GETRANGE', KEYS[1], 0, 16) ~= ARGV[1] then
  return 0
end
-- A completion that ran into a full memory has extended the claim further.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
