-- Frees KEYS[1] if it is claimed by this token.
--
-- ARGV[1] the claim's head: 'R', token (16 bytes)

if redis.call('GETRANGE', KEYS[1], 0, 16) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 0
