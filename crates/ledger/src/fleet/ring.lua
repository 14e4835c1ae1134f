-- One step of what is known of a credential at its upstream: `rules::quota::Principal::step`, by
-- the store's clock, behind `epoch.lua`. Its names are those of the rules, where the reasons stand.
--
-- KEYS[1]   the epoch; KEYS[2] the state; KEYS[3] to KEYS[5] places by class, the lowest first;
--           KEYS[6] calls by slot; KEYS[7] the calls that wait, by flow
-- ARGV[1]   the epoch the caller knows
-- ARGV[2]   the edition: its revision, and `quota window burst reserve block slot span`
-- ARGV[3]   the node and its news (see `ring.rs`)
--
-- Answers what the step answers (see `ring.rs`). Nothing, if the caller knows another epoch.
-- Numbers are integers below 2^53, which Lua keeps exactly; times are in milliseconds.

local NEVER = 9007199254740991
local WAITING_MAX, GRANTS_MAX, KEPT_MAX = 16384, 256, 1024
local AWAY, GONE, PROBE, BLOCKED_MAX, EDITION_LASTS = 1000, 60000, 30000, 86400000, 600000
local SLACK = 120000
local BULK, INTERACTIVE = 0, 2

local max, min = math.max, math.min
local byte, char, find, sub = string.byte, string.char, string.find, string.sub
local call = redis.call
local micros = now

local function over(a, b) return (a - a % b) / b end
local function ceil(a, b) return over(a + b - 1, b) end
local function text(n) return string.format('%.0f', n) end
local now = over(micros, 1000)
local revision = read('<I8', ARGV[2])
local numbers = sub(ARGV[2], 9)
local quota, window, burst, reserve, block, slot, span = read('<I8I8I8I8I8I8I8', numbers)

-- The state: numbers by their letter, and what follows a letter: `f` the tag behind the last place
-- of a flow of which no call waits, `n` a node. `c` calls count, in no slot before `o` and none
-- after `w`; `y` counted once. The slots themselves are read only where they matter.
local state = {
  u = 0, a = 0, m = 0, v = 0, q = 0, g = 0, b = 0, p = 0, l = -1, t = 0, h = 0,
  c = 0, o = 0, w = 0, y = 0, i = 0, j = 0,
}
local finish, nodes, gone = {}, {}, {}
local raw = call('HGETALL', KEYS[2])
local known = {}
for i = 1, #raw, 2 do known[raw[i]] = raw[i + 1] end
local function forget(name)
  if known[name] then
    known[name] = nil
    gone[#gone + 1] = name
  end
end
local stored = known.r
if #raw == 0 or known.e ~= ARGV[1] then
  -- Calls of an epoch that was lost are not known: as if a whole quota had gone when it was.
  call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
  known, stored = {}, nil
  -- Turns are not leased: none that was given before the epoch is used after it began.
  if since > 0 then
    state.c, state.o = quota, over(over(began, 1000), slot)
    state.w = state.o
    call('HSET', KEYS[6], state.o, quota)
  end
else
  for name, value in pairs(known) do
    local kind = byte(name)
    if #name == 1 then
      if state[name] then state[name] = tonumber(value) end
    elseif kind == 102 then finish[sub(name, 2)] = tonumber(value) -- f
    else -- n
      local seen, number, is_out = read('<I8I8B', value)
      nodes[tonumber(sub(name, 2))] =
        { seen = seen, number = number, is_out = is_out == 1, kept = sub(value, 18) }
    end
  end
end
local counts = {}
for class = BULK, INTERACTIVE do counts[class] = call('ZCARD', KEYS[3 + class]) end
local waiting = counts[0] + counts[1] + counts[2]

-- The calls of a flow: 16 bytes for each, and 16 for each of its places.
local flows = {}
local function flow_of(name)
  local flow = flows[name]
  if not flow then
    local value = call('HGET', KEYS[7], name)
    flow = { finish = finish[name] or 0, n = 0, tickets = '', places = '', is_stored = value }
    if value then
      local n = (#value - 8) / 32
      flow.finish, flow.n = read('<I8', value), n
      flow.tickets, flow.places = sub(value, 9, 8 + 16 * n), sub(value, 9 + 16 * n)
    end
    flows[name] = flow
  end
  return flow
end
local function class_of(name) return byte(name) - 48 end
-- Where a ticket stands among those of its flow, in bytes.
local function stands(flow, ticket)
  local at = find(flow.tickets, ticket, 1, true)
  while at and (at - 1) % 16 ~= 0 do at = find(flow.tickets, ticket, at + 1, true) end
  return at
end
local function remove(name, ordinal)
  local class = class_of(name)
  local removed = call('ZREM', KEYS[3 + class], write('>I8', ordinal) .. name)
  counts[class], waiting = counts[class] - removed, waiting - removed
end
-- Takes a call out: those behind it move up, and the last place goes.
local function leave(name, flow, at)
  flow.tickets = sub(flow.tickets, 1, at - 1) .. sub(flow.tickets, at + 16)
  local ordinal, tag = read('>I8I8', flow.places, 16 * flow.n - 15)
  flow.places = sub(flow.places, 1, -17)
  flow.finish, flow.n, flow.is_changed = tag, flow.n - 1, true
  remove(name, ordinal)
end

-- The news.
local at = 1
local function take(format)
  local value
  value, at = read('<' .. format, ARGV[3], at)
  return value
end
local function take_flow()
  local class, length = take('B'), take('I2')
  at = at + length
  return class, sub(ARGV[3], at - length, at - 1)
end
local node, number, heard = take('I8'), take('I8'), take('I8')

local me = nodes[node] or { seen = 0, number = 0, is_out = false, kept = '' }
nodes[node] = me
local is_late, forgotten = number < me.number, me.is_out
if is_late then
  forgotten = false
else
  me.seen, me.number, me.is_out = now, number, false
  local kept, from = {}, 1
  while from <= #me.kept do
    local _, given = read('<I8I8', me.kept, from)
    if given > heard then kept[#kept + 1] = sub(me.kept, from, from + 24) end
    from = from + 25
  end
  me.kept = table.concat(kept)
end
local silent, is_anybody = {}, false
for other, of in pairs(nodes) do
  if now - of.seen > GONE then
    nodes[other] = nil
    forget('n' .. text(other))
  elseif now - of.seen > AWAY and not of.is_out then
    of.is_out, silent[other], is_anybody = true, true, true
  end
end
if is_anybody then
  local all = call('HGETALL', KEYS[7])
  for i = 1, #all, 2 do
    local name = all[i]
    local flow, from = flow_of(name), 1
    while from <= #flow.tickets do
      if silent[read('>I8', flow.tickets, from)] then leave(name, flow, from)
      else from = from + 16 end
    end
  end
end

-- The edition: the newest that nodes bring, of two of one document the stricter.
local current = over(now, slot)
local is_ours = true
if stored and stored ~= numbers then
  local of = {}
  of.quota, of.window, of.burst, of.reserve, of.block, of.slot, of.span =
    read('<I8I8I8I8I8I8I8', stored)
  local precedes = revision > state.i
    or (revision == state.i and quota * of.window < of.quota * window)
  if not precedes and now - state.j <= EDITION_LASTS then
    is_ours, numbers = false, stored
    quota, window, burst, reserve, block, slot, span =
      of.quota, of.window, of.burst, of.reserve, of.block, of.slot, of.span
    current = over(now, slot)
  else
    local unknown = of.quota * ceil(max(span * slot - of.span * of.slot, 0), of.window)
    unknown = min(unknown, state.y)
    if of.slot ~= slot then
      call('DEL', KEYS[6])
      if state.c > 0 then call('HSET', KEYS[6], current, state.c) end
      state.o, state.w = current, current
    end
    if unknown > 0 then
      call('HINCRBY', KEYS[6], current, unknown)
      if state.c == 0 then state.o = current end
      state.c, state.w = state.c + unknown, current
    end
    if of.window ~= window then state.u, state.a = burst * window, now end
    state.i = revision
  end
elseif stored then
  state.i = max(state.i, revision)
else
  state.i = revision
end
if is_ours then state.j = now end

-- The slots from one to another, and what they hold.
local function held(from, to)
  local slots = {}
  for name = from, to do slots[#slots + 1] = name end
  return slots, call('HMGET', KEYS[6], unpack(slots))
end
local oldest = current - span
if state.c > 0 and state.w < oldest then
  call('DEL', KEYS[6])
  state.y, state.c = state.y + state.c, 0
elseif state.c > 0 and state.o < oldest then
  local slots, calls = held(state.o, oldest - 1)
  for i = 1, #slots do
    local past = tonumber(calls[i]) or 0
    state.c, state.y = state.c - past, state.y + past
  end
  call('HDEL', KEYS[6], unpack(slots))
  state.o = oldest
end
if state.c == 0 then state.o = current end
local used, counted_now = state.c, 0
local function refill(millis, slow)
  local units = quota * millis
  if slow then return over(units, 2) end
  return units
end
state.u = max(state.u - refill(min(max(now - state.a, 0), window), now <= state.m), 0)
state.a = max(state.a, now)
if now >= state.t then state.l = -1 end

for _ = 1, is_late and 0 or take('I2') do
  local given, probe = take('I8'), take('B')
  local left, lasts, counted = take('I8'), take('I8'), take('I8')
  local kind, wait = take('B'), take('I8')
  if kind > 0 then
    if kind == 1 then wait = block else wait = min(wait, BLOCKED_MAX) end
    state.b, state.p = max(state.b, now + wait), 0
  elseif probe == 2 then
    if state.b > 0 then state.p = 0 end
  elseif state.b == 0 or probe == 1 then
    if state.b > 0 and now >= state.b then
      state.b, state.p = 0, 0
      state.u, state.a, state.m = burst * window, now, now + over(window, 10)
    end
    if left ~= NEVER then
      left = max(left - max(state.g - given, 0), 0)
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

-- How long a refill takes, which is at half its rate for `slow` milliseconds.
local function refilled(units, slow)
  local by_then = over(quota * slow, 2)
  if units <= by_then then return ceil(2 * units, quota) end
  return slow + ceil(units - by_then, quota)
end

local function wait_of(calls, is_high)
  local limit, earlier = limit_of(is_high), max(calls, 1) - 1
  local turns, rest = over(earlier, limit), earlier % limit + 1
  local wanted = max(state.u + rest * window - burst * window, 0)
  local pace = refilled(wanted, max(state.m - now, 0))
  local wait = turns * (span + 1) * slot + max(ring_wait(rest, limit), pace)
  if state.l >= 0 and state.l < calls then wait = max(wait, state.t - now) end
  local blocked = max(state.b - now, 0)
  if state.b > 0 then blocked = blocked + refilled(earlier * window, over(window, 10)) end
  return max(wait, blocked)
end

local function ahead(tag)
  local count = 0
  for class = BULK, INTERACTIVE do
    count = count + call('ZCOUNT', KEYS[3 + class], '-inf', text(tag))
  end
  return count
end

-- Where the grant of a call is kept.
local function kept_at(seq)
  for from = 1, #me.kept, 25 do
    if read('<I8', me.kept, from) == seq then return from end
  end
end

local refused, granted, count = {}, {}, 0
for _ = 1, is_late and 0 or take('I2') do
  local seq, asks = take('I8'), take('B')
  local class, agent = take_flow()
  local name = char(48 + class) .. agent
  local flow = flow_of(name)
  local place = stands(flow, write('>I8I8', node, seq))
  if place then
    if asks == 1 then
      local _, tag = read('>I8I8', flow.places, place)
      refused[#refused + 1] =
        write('<I8I8', seq, max(wait_of(ahead(tag), class == INTERACTIVE), 1))
    end
    leave(name, flow, place)
  end
  local from = kept_at(seq)
  while from do
    me.kept = sub(me.kept, 1, from - 1) .. sub(me.kept, from + 25)
    from = kept_at(seq)
  end
end

for _ = 1, is_late and 0 or take('I2') do
  local seq, cost, patience = take('I8'), take('I8'), take('I8')
  local agent_max, class_max = take('I8'), take('I8')
  local class, agent = take_flow()
  local name = char(48 + class) .. agent
  local flow, ticket, from = flow_of(name), write('>I8I8', node, seq), kept_at(seq)
  if from then
    local _, given, when, probe = read('<I8I8I8B', me.kept, from)
    granted[#granted + 1] = write('<I8I8BI8', seq, given, probe, max(now - when, 0))
  elseif not stands(flow, ticket) then
    local tag, of_agent = max(flow.finish, state.v), 0
    for other = BULK, INTERACTIVE do of_agent = of_agent + flow_of(char(48 + other) .. agent).n end
    local has_room = of_agent < agent_max and counts[class] < class_max and waiting < WAITING_MAX
    local wait = wait_of(ahead(tag) + 1, class == INTERACTIVE)
    if wait > patience or not has_room then
      refused[#refused + 1] = write('<I8I8', seq, max(wait, 1))
    else
      state.q = state.q + 1
      flow.finish, flow.n, flow.is_changed = tag + cost, flow.n + 1, true
      flow.tickets = flow.tickets .. ticket
      flow.places = flow.places .. write('>I8I8', state.q, tag)
      call('ZADD', KEYS[3 + class], text(tag), write('>I8', state.q) .. name)
      counts[class], waiting = counts[class] + 1, waiting + 1
    end
  end
end

-- The first place of a class: its tag, its member, and its flow.
local function head(class)
  local first = call('ZRANGE', KEYS[3 + class], 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  return { tag = tonumber(first[2]), member = first[1], name = sub(first[1], 9) }
end
local function earlier(one, other)
  if not one or not other then return one or other end
  local is_later = one.tag > other.tag or (one.tag == other.tag and one.member > other.member)
  return is_later and other or one
end

local due = is_late and NEVER
while not due do
  local high, low = head(INTERACTIVE), earlier(head(BULK), head(1))
  local first = earlier(high, low)
  local until_then = max(state.b, state.p)
  if not first then
    due = NEVER
  elseif until_then > now then
    due = until_then - now
  else
    local wait, limit = wait_of(1, true), limit_of(false)
    local place = first
    if used >= limit then place = high end
    local flow = place and flow_of(place.name)
    if wait > 0 then
      due = wait
    elseif not place then
      due = ring_wait(1, limit)
    elseif read('>I8', flow.tickets) ~= node then
      due = 0
    else
      local _, seq = read('>I8I8', flow.tickets)
      local ordinal = read('>I8', flow.places)
      flow.tickets, flow.places = sub(flow.tickets, 17), sub(flow.places, 17)
      flow.n, flow.is_changed = flow.n - 1, true
      remove(place.name, ordinal)
      state.v = max(state.v, place.tag)
      used, counted_now = used + 1, counted_now + 1
      state.u = state.u + window
      if state.l >= 0 then state.l = max(state.l - 1, 0) end
      state.g = state.g + 1
      local probe = state.b > 0 and 1 or 0
      state.p = probe == 1 and now + PROBE or 0
      if #me.kept >= KEPT_MAX * 25 then me.kept = sub(me.kept, 26) end
      me.kept = me.kept .. write('<I8I8I8B', seq, state.g, now, probe)
      granted[#granted + 1] = write('<I8I8BI8', seq, state.g, probe, 0)
      count = count + 1
      if count >= GRANTS_MAX then due = 0 end
    end
  end
end

-- Flows that have no claim left are forgotten. Without calls virtual time begins anew.
if waiting == 0 then state.v = 0 end
local fields, calls = { 'e', ARGV[1], 'r', numbers }, {}
local emptied = {}
for name, flow in pairs(flows) do
  finish[name] = flow.n == 0 and flow.finish or nil
  if flow.n > 0 then forget('f' .. name) end
  if flow.is_changed and flow.n > 0 then
    calls[#calls + 1] = name
    calls[#calls + 1] = write('<I8', flow.finish) .. flow.tickets .. flow.places
  elseif flow.is_changed and flow.is_stored then
    emptied[#emptied + 1] = name
  end
end
for name, tag in pairs(finish) do
  if waiting == 0 or tag <= state.v then
    finish[name] = nil
    forget('f' .. name)
  end
end

state.c = used
if counted_now > 0 then
  call('HINCRBY', KEYS[6], current, counted_now)
  state.w = current
end
local function keep(name, written)
  if known[name] ~= written then
    fields[#fields + 1] = name
    fields[#fields + 1] = written
  end
end
for name, value in pairs(state) do keep(name, text(value)) end
for name, tag in pairs(finish) do keep('f' .. name, text(tag)) end
for other, of in pairs(nodes) do
  keep('n' .. text(other), write('<I8I8B', of.seen, of.number, of.is_out and 1 or 0) .. of.kept)
end
local function in_parts(command, key, items)
  for i = 1, #items, 1000 do call(command, key, unpack(items, i, min(i + 999, #items))) end
end
in_parts('HDEL', KEYS[2], gone)
in_parts('HSET', KEYS[2], fields)
in_parts('HDEL', KEYS[7], emptied)
in_parts('HSET', KEYS[7], calls)
-- What no window holds any more need not be known.
local lasts = max((span + 1) * slot, state.b - now, state.p - now) + SLACK
for key = 2, 7 do call('PEXPIRE', KEYS[key], text(lasts)) end

return write('<I8BI8I8I8I8I8B', now, forgotten and 1 or 0, due, max(state.b - now, 0), used,
    ceil(state.h, 1000), waiting, is_ours and 0 or 1) .. (is_ours and '' or numbers)
  .. write('<I2', #refused) .. table.concat(refused)
  .. write('<I2', #granted) .. table.concat(granted)
