-- Frees KEYS[1] if it holds a record, or if it is claimed and ARGV[1] is '1'.
--
-- Returns 'freed', 'absent', 'running' or 'foreign', and its remaining time in milliseconds. The last two leave it
-- unchanged.

local left = redis.call('PTTL', KEYS[1])
if left == -2 then
  return { 'absent', left }
end
local state = redis.call('GETRANGE', KEYS[1], 0, 0)
if state ~= 'R' and state ~= 'S' then
  return { 'foreign', left }
elseif state == 'R' and ARGV[1] ~= '1' then
  return { 'running', left }
end
redis.call('DEL', KEYS[1])
return { 'freed', left }
