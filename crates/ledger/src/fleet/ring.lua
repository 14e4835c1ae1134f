-- One step of what is known of a credential at its upstream: `rules::quota::Principal::step`, by
-- the store's clock, behind `epoch.lua`. Its names are those of the rules, where the reasons stand.
--
-- KEYS[1]   the epoch; KEYS[2] the state; KEYS[3], KEYS[4] who waits: with the reserve, without;
--           KEYS[5] calls by slot
-- ARGV[1]   the epoch the caller knows
-- ARGV[2]   the rule: `quota window burst reserve block slot span`
-- ARGV[3]   the node and its news (see `ring.rs`)
--
-- Answers what the step answers (see `ring.rs`). Nothing, if the caller knows another epoch.
-- Numbers are integers below 2^53, which Lua keeps exactly; times are in milliseconds.

local NEVER = 9007199254740991
local WAITING_MAX, GRANTS_MAX = 16384, 256
local AWAY, GONE, PROBE, BLOCKED_MAX = 1000, 60000, 30000, 86400000
local SLACK = 120000

local max, min = math.max, math.min
local micros = now

local function over(a, b) return (a - a % b) / b end
local function ceil(a, b) return over(a + b - 1, b) end
local function text(n) return string.format('%.0f', n) end
local now = over(micros, 1000)
local quota, window, burst, reserve, block, slot, span = read('<I8I8I8I8I8I8I8', ARGV[2])

-- The state: numbers by their letter, tags by flow, when nodes were seen. `c` calls count, in no
-- slot before `o`; the slots themselves are read only where they matter.
local state = { u = 0, a = 0, m = 0, v = 0, g = 0, b = 0, p = 0, l = -1, t = 0, h = 0, c = 0, o = 0 }
local finish, nodes, gone = {}, {}, {}
local raw = redis.call('HGETALL', KEYS[2])
local known = {}
for i = 1, #raw, 2 do known[raw[i]] = raw[i + 1] end
local function forget(name)
  known[name] = nil
  gone[#gone + 1] = name
end
local rule = known.r
if #raw == 0 or known.e ~= ARGV[1] then
  -- Calls of an epoch that was lost are not known: as if a whole quota had gone when it was.
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
  known, rule = {}, nil
  -- Turns are not leased: none that was given before the epoch is used after it began.
  if since > 0 then
    state.c, state.o = quota, over(over(began, 1000), slot)
    redis.call('HSET', KEYS[5], state.o, quota)
  end
else
  local byte, sub = string.byte, string.sub
  for name, value in pairs(known) do
    local kind = byte(name)
    if kind == 102 then finish[sub(name, 2)] = tonumber(value) -- f
    elseif kind == 110 then nodes[tonumber(sub(name, 2))] = tonumber(value) -- n
    elseif state[name] then state[name] = tonumber(value) end
  end
end
local waiting = redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4])

-- The news.
local at = 1
local function take(format)
  local value
  value, at = read('<' .. format, ARGV[3], at)
  return value
end
local node = take('I8')

local before, forgotten = nodes[node], false
nodes[node] = now
for other, seen in pairs(nodes) do
  if now - seen > GONE then
    nodes[other] = nil
    forget('n' .. text(other))
  end
end
if before and now - before > AWAY then forgotten = true end

local current = over(now, slot)
if rule and rule ~= ARGV[2] then
  local _, old_window, _, _, _, old_slot = read('<I8I8I8I8I8I8', rule)
  if old_slot ~= slot then
    redis.call('DEL', KEYS[5])
    if state.c > 0 then redis.call('HSET', KEYS[5], current, state.c) end
    state.o = current
  end
  if old_window ~= window then state.u, state.a = burst * window, now end
end
-- The slots from one to another, and what they hold.
local function held(from, to)
  local numbers = {}
  for number = from, to do numbers[#numbers + 1] = number end
  return numbers, redis.call('HMGET', KEYS[5], unpack(numbers))
end
local oldest = current - span
if state.c > 0 and state.o + span < oldest then
  redis.call('DEL', KEYS[5])
  state.c = 0
elseif state.c > 0 and state.o < oldest then
  local numbers, calls = held(state.o, oldest - 1)
  for i = 1, #numbers do state.c = state.c - (calls[i] or 0) end
  redis.call('HDEL', KEYS[5], unpack(numbers))
  state.o = oldest
end
if state.c == 0 then state.o = current end
local used, counted_now = state.c, 0
local refill = quota * min(max(now - state.a, 0), window)
if now <= state.m then refill = over(refill, 2) end
state.u, state.a = max(state.u - refill, 0), max(state.a, now)
if now >= state.t then state.l = -1 end

for _ = 1, take('I2') do
  local number, probe = take('I8'), take('B')
  local left, lasts, counted, blocked = take('I8'), take('I8'), take('I8'), take('I8')
  if blocked ~= NEVER then
    if blocked == 0 then blocked = block else blocked = min(blocked, BLOCKED_MAX) end
    state.b, state.p = max(state.b, now + blocked), 0
  elseif probe == 2 then
    if state.b > 0 then state.p = 0 end
  elseif state.b == 0 or probe == 1 then
    if state.b > 0 and now >= state.b then
      state.b, state.p = 0, 0
      state.u, state.a, state.m = burst * window, now, now + over(window, 10)
    end
    if left ~= NEVER then
      left = max(left - max(state.g - number, 0), 0)
      if state.l >= 0 then
        state.l = min(state.l, left)
      elseif lasts > 0 then
        state.l, state.t = left, now + min(lasts, window)
      end
    end
    if counted ~= NEVER then
      local others = min(max(counted - used, 0), quota)
      state.h = over(state.h * 7 + others * 1000, 8)
    end
  end
end

local function drop(of, seq)
  local member = write('>I8I8', of, seq)
  waiting = waiting - redis.call('ZREM', KEYS[3], member) - redis.call('ZREM', KEYS[4], member)
end
for _ = 1, take('I2') do drop(node, take('I8')) end

local slots, slot_calls
local function ring_wait(calls, limit)
  if used + calls <= limit then return 0 end
  if not slots then slots, slot_calls = held(state.o, current) end
  local left, wait = used, 0
  for i = 1, #slots do
    local gone_then = tonumber(slot_calls[i]) or 0
    if slots[i] == current then gone_then = gone_then + counted_now end
    if left + calls <= limit then break end
    if gone_then > 0 then
      left = left - gone_then
      wait = max((slots[i] + span + 1) * slot - now, 0)
    end
  end
  return wait
end

local function limit_of(is_high)
  local limit = max(quota - ceil(state.h, 1000), 0)
  return max(limit - (is_high and 0 or reserve), 1)
end

local function wait_of(calls, is_high)
  local limit, earlier = limit_of(is_high), max(calls, 1) - 1
  local turns, rest = over(earlier, limit), earlier % limit + 1
  local pace = ceil(max(state.u + rest * window - burst * window, 0), quota)
  local wait = turns * (span + 1) * slot + max(ring_wait(rest, limit), pace)
  if state.l >= 0 and state.l < calls then wait = max(wait, state.t - now) end
  return max(wait, state.b - now, 0)
end

local refused = {}
for _ = 1, take('I2') do
  local seq, cost, high = take('I8'), take('I8'), take('B')
  local patience, queue_max, length = take('I8'), take('I8'), take('I2')
  local flow = string.sub(ARGV[3], at, at + length - 1)
  at = at + length
  local tag, wait = max(finish[flow] or 0, state.v), nil
  if tag - state.v >= queue_max * cost or waiting >= WAITING_MAX then
    wait = max(wait_of(waiting + 1, high == 1), 1)
  else
    local ahead = redis.call('ZCOUNT', KEYS[3], '-inf', text(tag))
      + redis.call('ZCOUNT', KEYS[4], '-inf', text(tag))
    wait = wait_of(ahead + 1, high == 1)
    if wait <= patience then wait = nil end
  end
  if wait then
    refused[#refused + 1] = write('<I8I8', seq, wait)
  else
    drop(node, seq)
    finish[flow] = tag + cost
    redis.call('ZADD', KEYS[4 - high], text(tag), write('>I8I8', node, seq))
    waiting = waiting + 1
  end
end

-- The first of a lane whose node is there: its tag, node, number, and member.
local function head(key)
  while true do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    local of, seq = read('>I8I8', first[1])
    if nodes[of] and now - nodes[of] <= AWAY then
      return { tag = tonumber(first[2]), member = first[1], node = of, seq = seq, key = key }
    end
    waiting = waiting - redis.call('ZREM', key, first[1])
  end
end

local granted, due = {}, nil
while not due do
  local high, low = head(KEYS[3]), head(KEYS[4])
  local first = high or low
  if high and low then
    local is_later = high.tag > low.tag or (high.tag == low.tag and high.member > low.member)
    first = is_later and low or high
  end
  local held = max(state.b, state.p)
  if not first then
    due = NEVER
  elseif held > now then
    due = held - now
  else
    local wait, limit = wait_of(1, true), limit_of(false)
    local ticket = first
    if used >= limit then ticket = high end
    if wait > 0 then
      due = wait
    elseif not ticket then
      due = ring_wait(1, limit)
    elseif ticket.node ~= node then
      due = 0
    else
      waiting = waiting - redis.call('ZREM', ticket.key, ticket.member)
      state.v = max(state.v, ticket.tag)
      used, counted_now = used + 1, counted_now + 1
      state.u = state.u + window
      if state.l >= 0 then state.l = max(state.l - 1, 0) end
      state.g = state.g + 1
      local is_probe = state.b > 0
      state.p = is_probe and now + PROBE or 0
      granted[#granted + 1] = write('<I8I8B', ticket.seq, state.g, is_probe and 1 or 0)
      if #granted >= GRANTS_MAX then due = 0 end
    end
  end
end

if waiting == 0 then state.v = 0 end
for flow, tag in pairs(finish) do
  if waiting == 0 or tag <= state.v then
    finish[flow] = nil
    forget('f' .. flow)
  end
end

state.c = used
if counted_now > 0 then redis.call('HINCRBY', KEYS[5], current, counted_now) end
local fields = { 'e', ARGV[1], 'r', ARGV[2] }
local function keep(name, value)
  local written = text(value)
  if known[name] ~= written then
    fields[#fields + 1] = name
    fields[#fields + 1] = written
  end
end
for name, value in pairs(state) do keep(name, value) end
for flow, tag in pairs(finish) do keep('f' .. flow, tag) end
for other, seen in pairs(nodes) do keep('n' .. text(other), seen) end
for i = 1, #gone, 1000 do
  redis.call('HDEL', KEYS[2], unpack(gone, i, min(i + 999, #gone)))
end
for i = 1, #fields, 1000 do
  redis.call('HSET', KEYS[2], unpack(fields, i, min(i + 999, #fields)))
end
-- What no window holds any more need not be known.
local lasts = max((span + 1) * slot, state.b - now, state.p - now) + SLACK
for key = 2, 5 do redis.call('PEXPIRE', KEYS[key], text(lasts)) end

return write('<I8BI8I8I8I8I8I2', now, forgotten and 1 or 0, due, max(state.b - now, 0), used,
    ceil(state.h, 1000), waiting, #refused)
  .. table.concat(refused) .. write('<I2', #granted) .. table.concat(granted)
