-- The requests of one wrk run, and its result in one line: requests per second, the latencies p50,
-- p99 and p99.9 in microseconds, errors.

local body = '{"id":281474976710656,"note":"' .. string.rep("n", 68) .. '"}'
local random = math.random
local load, counter, recent

local function key()
   return string.format("%08x-%04x-4%03x-8%03x-%06x%06x", random(0, 0xffffffff), random(0, 0xffff),
      random(0, 0xfff), random(0, 0xfff), random(0, 0xffffff), random(0, 0xffffff))
end

-- The session belongs to the key, because one contender finds a response by both.
local function with(key)
   local headers = { ["content-type"] = "application/json" }
   local client = "AA"
   if key then
      headers["idempotency-key"] = key
      client = key:sub(1, 2)
   end
   headers["cookie"] = "session=AAAAAAAAAAAAAAAAAAA" .. client .. "A"
   return wrk.format("POST", nil, headers, body)
end

function init(arguments)
   load, counter, recent = arguments[1], 0, {}
   -- A run must not meet the keys of the run before it; replays must.
   local fresh = load == "first" or load == "mix"
   local seed = io.open("/dev/urandom", "rb")
   local a, b, c, d = seed:read(4):byte(1, 4)
   seed:close()
   math.randomseed(fresh and ((a * 256 + b) * 256 + c) * 256 + d or 7)
   if load == "no-key" then
      recent[1] = with(nil)
   elseif load == "hot" or load == "replay" then
      for index = 1, load == "hot" and 1 or 1000 do
         recent[index] = with(key())
      end
   end
end

function request()
   counter = counter + 1
   if load == "no-key" or load == "hot" then
      return recent[1]
   elseif load == "replay" then
      return recent[counter % #recent + 1]
   elseif load == "mix" and counter % 10 == 0 then
      -- Sent about a thousand requests ago: its response is there.
      return recent[(counter - 1001) % 2000] or with(key())
   end
   local made = with(key())
   if load == "mix" then
      recent[counter % 2000] = made
   end
   return made
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format("measured %.1f %.0f %.0f %.0f %d\n",
      summary.requests / summary.duration * 1e6, latency:percentile(50), latency:percentile(99),
      latency:percentile(99.9),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
