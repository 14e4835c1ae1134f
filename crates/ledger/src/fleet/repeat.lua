-- A step of a request that may be a repeat, in the arithmetic of `rules::repeat`.
--
-- KEYS[1]   the epoch; KEYS[2] what is known of the request: a hash of `p` (its fingerprint), `s`
--           (spare), `u` (unknown), `a` (the answer: whole or not, and its status), and of each
--           flight by its eight bytes (departed or not, and until when its node is believed to
--           live); KEYS[3] its sealed answer
-- ARGV[1]   the step: ask, depart, renew, land, or again (it may have landed before)
-- ARGV[2]   the flight; ARGV[3] the window in ms; ARGV[4] the lease in µs
-- ARGV[5…]  ask: the fingerprint, and `key`, `first` or `again`; land: `void`, `unknown`,
--           or `answered`, its status and, where it is kept, the sealed answer
--
-- Answers a letter: to ask `G`o, `W`ait, `A`nswered (with status and answer), `S`tatus alone,
-- `U`nknown, `O`ther or `F`ull; else `Y`es or `N`o. Nothing where there is no epoch.

local FLIGHTS_MAX = 1024

local read, write = struct.unpack, struct.pack
local step, id, window, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('GET', KEYS[1])
if not stored then return '' end
local _, since = read('<I8I8', stored)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local print, spare, unknown, answer = nil, 0, 0, nil
local flights, count, is_there, has_expired = {}, 0, false, false
-- In whatever order they come, so counts are added up.
local found = redis.call('HGETALL', KEYS[2])
for i = 1, #found, 2 do
  local name, value = found[i], found[i + 1]
  is_there = true
  if name == 'p' then print = value
  elseif name == 's' then spare = spare + tonumber(value)
  elseif name == 'u' then unknown = unknown + tonumber(value)
  elseif name == 'a' then answer = value
  else
    local departed, till = read('<BI8', value)
    if till > now then
      flights[name] = { departed, till }
      count = count + 1
    else
      if departed == 1 then unknown = unknown + 1 else spare = spare + 1 end
      redis.call('HDEL', KEYS[2], name)
      has_expired = true
    end
  end
end

local function is_empty() return count == 0 and unknown == 0 and not answer end
local function settle() if is_empty() then spare = 0 end end

local function note(departed)
  redis.call('HSET', KEYS[2], id, write('<BI8', departed, now + lease))
end

local function save()
  settle()
  if is_empty() then
    redis.call('DEL', KEYS[2], KEYS[3])
    return
  end
  redis.call('HSET', KEYS[2], 'p', print, 's', spare, 'u', unknown)
  if answer then redis.call('HSET', KEYS[2], 'a', answer) end
  redis.call('PEXPIRE', KEYS[2], window)
  redis.call('PEXPIRE', KEYS[3], window)
end

-- What was learnt of dead nodes stays, whatever becomes of this step.
if has_expired then save() end

if step == 'ask' then
  local asked = ARGV[6]
  if print ~= ARGV[5] then
    if not is_empty() then return 'O' end
    -- What the store forgot may be what this try repeats.
    if asked == 'again' and since ~= 0 and now - since < window * 1000 then return 'U' end
    redis.call('DEL', KEYS[2], KEYS[3])
    print, spare = ARGV[5], 0
  end
  if asked ~= 'first' and spare == 0 then
    if count > 0 then return 'W' end
    if unknown > 0 then return 'U' end
    if answer then
      local whole, status = read('<BI2', answer)
      local kept = whole == 1 and redis.call('GET', KEYS[3])
      if kept then return 'A' .. write('<I2', status) .. kept end
      return 'S' .. write('<I2', status)
    end
  end
  if count >= FLIGHTS_MAX then return 'F' end
  if asked ~= 'first' and spare > 0 then spare = spare - 1 end
  note(0)
  count = count + 1
  save()
  return 'G'
end

local flight = flights[id]
if step == 'depart' then
  if not flight then return 'N' end
  note(1)
  save()
  return 'Y'
end
if step == 'renew' then
  if not flight then return 'N' end
  note(flight[1])
  save()
  return 'Y'
end

-- It lands. One that is not there departed and was given up: it comes late.
if not is_there then return 'N' end
local how = ARGV[5]
if flight then
  redis.call('HDEL', KEYS[2], id)
  count = count - 1
elseif step == 'land' and unknown > 0 and how ~= 'unknown' and how ~= 'grounded' then
  unknown = unknown - 1
else
  return 'N'
end
if how == 'void' or how == 'grounded' then
  spare = spare + 1
elseif how == 'unknown' then
  unknown = unknown + 1
else
  answer = write('<BI2', ARGV[7] and 1 or 0, tonumber(ARGV[6]))
  if ARGV[7] then redis.call('SET', KEYS[3], ARGV[7]) else redis.call('DEL', KEYS[3]) end
end
save()
return 'Y'
