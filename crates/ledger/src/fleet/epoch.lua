-- What every script that counts begins with: the store's time, and whether it holds the epoch that
-- the caller knows. If not, the script answers nothing.
--
-- KEYS[1]   the epoch: when it began, since when what was never seen is counted as used up, and the
--           last time seen
-- ARGV[1]   the epoch the caller knows

local LONGEST_STEP_BACK = 10000000 -- µs

local read, write = struct.unpack, struct.pack
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2] -- µs
local stored = redis.call('GET', KEYS[1])
if not stored then return '' end
local began, since, last = read('<I8I8I8', stored)
if began ~= tonumber(ARGV[1]) or last - now > LONGEST_STEP_BACK then return '' end
if now < last then
  now = last
elseif now > last then
  redis.call('SETRANGE', KEYS[1], 16, write('<I8', now))
end

