-- Joins the store's epoch, or begins one where the store has forgotten what was taken.
--
-- KEYS[1]   the epoch: when it began, since when buckets never seen fill from empty (0: they are
--           full), the last time seen, and the run of the server it began in
-- KEYS[2]   the number by which the callers' cluster tells when the store has to begin anew
-- KEYS[3]   the layout of all other keys (see `key.rs`)
-- ARGV[1]   the run of this server; ARGV[2] the epoch the caller knew before, or 0; ARGV[3] the
--           epoch in which the store is known to have forgotten something, or 0; ARGV[4] the
--           number that the caller knows, or 0; ARGV[5] the layout that the caller writes
--
-- Answers the epoch and whether it is new: 0 joined, 1 the first, 2 after a loss; or the number
-- that is kept and 3, where that is higher than the caller's; or the layout and 4, where the
-- caller cannot read it.

local LONGEST_LEASE = 2000000 -- µs
local LONGEST_STEP_BACK = 10000000 -- µs

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local own = tonumber(ARGV[5])
local layout = tonumber(redis.call('GET', KEYS[3]) or own)
if layout > own then return struct.pack('<I8I8', layout, 4) end
local known, number = tonumber(ARGV[2]), tonumber(ARGV[4])
local kept = tonumber(redis.call('GET', KEYS[2]) or '0')
if number > 0 and kept > number then return struct.pack('<I8I8', kept, 3) end
local is_behind = kept < number
local stored = redis.call('GET', KEYS[1])
local began = 0
if stored then
  local since, last
  began, since, last = struct.unpack('<I8I8I8', stored)
  local is_same_run = string.sub(stored, 25) == ARGV[1]
  -- A first epoch that the caller does not know began in the place of the one that it knew.
  local replaced = since == 0 and known ~= 0 and known ~= began
  -- Epochs are times: a later one that is known was begun here and is lost.
  local went_back = known > began
  local has_lost = began == tonumber(ARGV[3])
  if is_same_run and not is_behind and not replaced and not went_back and not has_lost
    and layout == own and last - now <= LONGEST_STEP_BACK then
    redis.call('SET', KEYS[3], ARGV[5])
    return struct.pack('<I8I8', began, 0)
  end
end
-- What was leased before the loss may be spent until it ends: nothing fills before that.
local is_first = not stored and known == 0 and number <= 1
if is_behind then redis.call('SET', KEYS[2], ARGV[4]) end
if now == began or now == known then now = now + 1 end
redis.call('SET', KEYS[3], ARGV[5])
redis.call('SET', KEYS[1], struct.pack('<I8I8I8', now, is_first and 0 or now + LONGEST_LEASE, now) .. ARGV[1])
return struct.pack('<I8I8', now, is_first and 1 or 2)
