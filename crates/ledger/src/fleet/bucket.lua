-- What every script that draws on buckets goes on with, behind `epoch.lua`: the rules and the
-- buckets.
--
-- KEYS[1]   the epoch; KEYS[2…] the buckets
-- ARGV[1]   the epoch the caller knows
-- ARGV[2]   rules, each `refill unit capacity tick` (see `coarse.rs`)
--
-- A script answers nothing if the caller knows another epoch.
--
-- A bucket is `used unit at` and, for each node that leases of it, `node deadline seq held demand
-- granted fresh`. Numbers are integers below 2^53, which Lua keeps exactly. They travel as eight
-- bytes, since Lua writes only 14 digits; a node's name is eight bytes that are never a number.

local SLACK = 1000 -- ms
local LARGEST = 4503599627370496 -- 2^52
local HEAD, LEASE = 24, 37 -- bytes

local floor = math.floor

local refill, unit, capacity, tick = {}, {}, {}, {}
for r = 1, #ARGV[2] / 32 do
  refill[r], unit[r], capacity[r], tick[r] = read('<I8I8I8I8', ARGV[2], r * 32 - 31)
end

-- Leases of a bucket. Those whose end has come are `over`, in the order of their ends.
local function leases_of(value)
  local live, over = {}, {}
  for from = HEAD + 1, #value, LEASE do
    local deadline, seq, held, demand, granted, fresh = read('<I8I8I4I4I4B', value, from + 8)
    local lease = {
      node = string.sub(value, from, from + 7), deadline = deadline, seq = seq, held = held,
      demand = demand, granted = granted, fresh = fresh,
    }
    local list = deadline <= now and over or live
    list[#list + 1] = lease
  end
  table.sort(over, function(a, b) return a.deadline < b.deadline end)
  return live, over
end

-- What a bucket used, in units of which token, when; its leases, and the tokens out on those that
-- live. Nothing of one that was not seen in this epoch: what it was before is not known.
local used, unit_of, at, live, over, out = {}, {}, {}, {}, {}, {}
local found = redis.call('MGET', unpack(KEYS, 2))
for b = 1, #KEYS - 1 do
  local value = found[b]
  if value then
    local u, n, a = read('<I8I8I8', value)
    if a >= began and a - now <= LONGEST_STEP_BACK then
      used[b], unit_of[b], at[b] = u, n, a
      if #value > HEAD then
        live[b], over[b] = leases_of(value)
        out[b] = 0
        for _, lease in ipairs(live[b]) do out[b] = out[b] + lease.held end
      end
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

-- Units used at `to` of what was used at `from`, while so many tokens were out. The clamp: what
-- nodes hold does not refill, so that what they hold and what is left are one bucket together.
local function drained(u, r, from, to, tokens)
  local t = tick[r]
  local elapsed = (to - to % t) / t - math.ceil(from / t)
  -- A product beyond 53 bits is rounded, and still more than what was used.
  if elapsed > 0 then u = math.max(u - refill[r] * elapsed, 0) end
  return math.max(u, math.min(tokens * unit[r], LARGEST))
end

-- Units used now, in the units of a rule. What a lease held at its end was burnt: it counts as
-- used then, and refills.
local function level(b, r)
  local u, n, a = used[b], unit_of[b], at[b]
  if not u then
    if since == 0 then return 0 end
    u, n, a = capacity[r], unit[r], since
  end
  if n ~= unit[r] then u = rescaled(u, n, unit[r]) end
  local tokens = out[b] or 0
  if over[b] and #over[b] > 0 then
    for _, lease in ipairs(over[b]) do tokens = tokens + lease.held end
    for _, lease in ipairs(over[b]) do
      if lease.deadline > a then
        u, a = drained(u, r, a, lease.deadline, tokens), lease.deadline
      end
      tokens = tokens - lease.held
    end
  end
  return drained(u, r, a, now, tokens)
end

-- The moment that a level which was computed now stands for.
local function moment(r)
  return math.max(now - now % tick[r], began, since)
end

-- Writes a bucket that a rule was applied to. One that would be full again may be forgotten, but
-- not its leases.
local function save(b, r)
  local value, longest = { write('<I8I8I8', used[b], unit_of[b], at[b]) }, 0
  for _, lease in ipairs(live[b] or {}) do
    longest = math.max(longest, lease.deadline - now)
    value[#value + 1] = lease.node
    value[#value + 1] = write('<I8I8I4I4I4B', lease.deadline, lease.seq, lease.held,
      lease.demand, lease.granted, lease.fresh)
  end
  value = table.concat(value)
  if refill[r] == 0 then
    redis.call('SET', KEYS[b + 1], value)
  else
    local micros = math.ceil(used[b] / refill[r]) * tick[r] + longest
    redis.call('SET', KEYS[b + 1], value, 'PX', math.ceil(micros / 1000) + SLACK)
  end
end

