-- Takes what many plans draw on: each plan whole or not at all, one after the other.
--
-- KEYS[1]   the epoch; KEYS[2…] the buckets
-- ARGV[1]   the epoch the caller knows
-- ARGV[2]   rules, each `refill unit capacity tick` (see `coarse.rs`)
-- ARGV[3]   plans, each a count of draws and its draws `bucket rule price shadow`
--
-- Answers the store's time, then for each plan whether it was granted and, for each of its draws,
-- the units that were used before it. Nothing, if the caller knows another epoch.
--
-- Numbers are integers below 2^53, which Lua keeps exactly. They travel as eight bytes, since Lua
-- writes only 14 digits.

local LONGEST_STEP_BACK = 10000000 -- µs
local SLACK = 1000 -- ms
local LARGEST = 4503599627370496 -- 2^52

local read, write = struct.unpack, struct.pack
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('GET', KEYS[1])
if not stored then return '' end
local began, since, last = read('<I8I8I8', stored)
if began ~= tonumber(ARGV[1]) or last - now > LONGEST_STEP_BACK then return '' end
if now < last then
  now = last
elseif now > last then
  redis.call('SETRANGE', KEYS[1], 16, write('<I8', now))
end

local refill, unit, capacity, tick = {}, {}, {}, {}
for r = 1, #ARGV[2] / 32 do
  refill[r], unit[r], capacity[r], tick[r] = read('<I8I8I8I8', ARGV[2], r * 32 - 31)
end

-- What a bucket used, in units of which token, when. Nothing of one that was not seen in this
-- epoch: what it was before is not known.
local used, unit_of, at = {}, {}, {}
local found = redis.call('MGET', unpack(KEYS, 2))
for b = 1, #KEYS - 1 do
  if found[b] then
    local u, n, a = read('<I8I8I8', found[b])
    if a >= began and a - now <= LONGEST_STEP_BACK then
      used[b], unit_of[b], at[b] = u, n, a
    end
  end
end

-- used · to / from, rounded up: a change of a rule never gives a token away.
local function rescaled(u, from, to)
  local rest = u % from
  local whole = (u - rest) / from * to
  if rest * to < LARGEST then
    local product = rest * to
    local over = product % from
    whole = whole + (product - over) / from + (over > 0 and 1 or 0)
  else
    -- By doubling, from the highest bit of `to` down: no step leaves 53 bits.
    local quotient, over = 0, 0
    for bit = 51, 0, -1 do
      quotient, over = quotient * 2, over * 2
      if over >= from then quotient, over = quotient + 1, over - from end
      if to % 2 ^ (bit + 1) >= 2 ^ bit then
        over = over + rest
        if over >= from then quotient, over = quotient + 1, over - from end
      end
    end
    whole = whole + quotient + (over > 0 and 1 or 0)
  end
  return math.min(whole, LARGEST)
end

-- Units used now, in the units of a rule.
local function level(b, r)
  local u, n, a = used[b], unit_of[b], at[b]
  if not u then
    if since == 0 then return 0 end
    u, n, a = capacity[r], unit[r], since
  end
  if n ~= unit[r] then u = rescaled(u, n, unit[r]) end
  local t = tick[r]
  local elapsed = (now - now % t) / t - math.ceil(a / t)
  if elapsed <= 0 then return u end
  -- A product beyond 53 bits is rounded, and still more than what was used.
  return math.max(u - refill[r] * elapsed, 0)
end

local plans, from, answer, rule_of = ARGV[3], 1, { write('<I8', now) }, {}
while from <= #plans do
  local count, granted, before, undo = 0, true, {}, {}
  count, from = read('<I2', plans, from)
  for d = 1, count do
    local b, r, price, shadow
    b, r, price, shadow, from = read('<I2I2I8B', plans, from)
    local u = level(b, r)
    before[d] = write('<I8', u)
    if u + price <= capacity[r] then
      undo[#undo + 1] = { b, used[b], unit_of[b], at[b], rule_of[b] }
      used[b], unit_of[b], at[b] = u + price, unit[r], math.max(now - now % tick[r], began)
      rule_of[b] = r
    elseif shadow == 0 then
      granted = false
    end
  end
  if not granted then
    for i = #undo, 1, -1 do
      local b = undo[i][1]
      used[b], unit_of[b], at[b], rule_of[b] = undo[i][2], undo[i][3], undo[i][4], undo[i][5]
    end
  end
  answer[#answer + 1] = granted and '\1' or '\0'
  answer[#answer + 1] = table.concat(before)
end

-- A bucket that would be full again may be forgotten.
for b, r in pairs(rule_of) do
  local value = write('<I8I8I8', used[b], unit_of[b], at[b])
  if refill[r] == 0 then
    redis.call('SET', KEYS[b + 1], value)
  else
    local ticks = math.ceil(used[b] / refill[r])
    redis.call('SET', KEYS[b + 1], value, 'PX', math.ceil(ticks * tick[r] / 1000) + SLACK)
  end
end
return table.concat(answer)
