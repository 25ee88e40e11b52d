-- Reads what KEYS[1] holds.
--
-- Returns the entry, or nil if there is none, and its remaining time in milliseconds.

return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }
