-- Reads what KEYS[1] holds.
--
-- Answers the entry, nil if there is none, and what is left of its time, in milliseconds.

return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }
