-- Renews leases: a node says what it holds and what it gives back, and is given more.
--
-- KEYS, ARGV[1], ARGV[2]   as in `bucket.lua`, which stands before this
-- ARGV[3]   the node's name: eight bytes
-- ARGV[4]   renewals, each `bucket rule seq keep back want demand length joined`: `keep` is what
--           the node holds once it has given `back` back; all that it held beyond both was spent.
--           `demand` is in tokens a second, `length` in microseconds. One that is `joined` belongs
--           to the one before: where a level has nothing for a node that holds nothing of it, the
--           others are given nothing more.
--
-- Answers the store's time, then for each renewal: how it went (0 granted, 1 granted before,
-- 2 stale), whether what the node held is void, what it was given, the units used after it, how
-- many nodes lease of the bucket, and their demand together.

local LEASES_MAX = 256 -- of a bucket; one more node is given nothing
local LONGEST = 2000000 -- µs, of a lease
local node, renewals, answer, rule_of = ARGV[3], ARGV[4], { write('<I8', now) }, {}

local function own(b)
  for _, lease in ipairs(live[b] or {}) do
    if lease.node == node then return lease end
  end
end

local function tell(how, lease, ask)
  local count, demand = 0, 0
  for _, other in ipairs(live[ask.b] or {}) do
    if other.held > 0 or other == lease then count, demand = count + 1, demand + other.demand end
  end
  local u = level(ask.b, ask.r)
  answer[#answer + 1] = write('<BBI4I8I2I8', how, lease and lease.fresh or 1,
    lease and lease.granted or 0, u, count, demand)
end

-- Whole tokens for a want: what is there; where that is little, the share of the node's demand.
local function given(b, r, lease, want, u)
  if u >= capacity[r] then return 0 end
  local can = floor((capacity[r] - u) / unit[r])
  local others = 0
  for _, other in ipairs(live[b]) do
    if other ~= lease and other.held > 0 then others = others + other.demand end
  end
  if others > 0 and can < want + floor(capacity[r] / unit[r] / 4) then
    local share = floor(can * lease.demand / (lease.demand + others))
    return math.min(want, can, math.max(share, 1))
  end
  return math.min(want, can)
end

local function renew(ask, is_dry)
  local b, r, lease = ask.b, ask.r, own(ask.b)
  if lease and ask.seq <= lease.seq then
    return tell(ask.seq == lease.seq and 1 or 2, lease, ask)
  end
  local u = level(b, r)
  local keep, back, fresh = 0, 0, 1
  if lease and lease.held > 0 then
    keep = math.min(ask.keep, lease.held)
    back, fresh = math.min(ask.back, lease.held - keep), 0
    out[b] = out[b] - lease.held + keep
    u = math.max(u - back * unit[r], math.min(out[b] * unit[r], LARGEST))
  end
  if not lease then
    live[b] = live[b] or {}
    out[b] = out[b] or 0
    if #live[b] >= LEASES_MAX then return tell(0, nil, ask) end
    lease = { node = node }
    live[b][#live[b] + 1] = lease
  end
  lease.demand = ask.demand
  local g = is_dry and 0 or given(b, r, lease, ask.want, u)
  lease.held, lease.deadline, lease.seq = keep + g, now + math.min(ask.length, LONGEST), ask.seq
  lease.granted, lease.fresh = g, fresh
  out[b] = out[b] + g
  used[b], unit_of[b], at[b] = u + g * unit[r], unit[r], moment(r)
  over[b], rule_of[b] = nil, r
  tell(0, lease, ask)
end

-- Whether a level has nothing for this node, and the node nothing of it.
local function dry(ask)
  local lease = own(ask.b)
  if ask.want == 0 or (lease and lease.held > 0 and ask.keep > 0) then return false end
  return level(ask.b, ask.r) + unit[ask.r] > capacity[ask.r]
end

local asks, from = {}, 1
while from <= #renewals do
  local ask = {}
  ask.b, ask.r, ask.seq, ask.keep, ask.back, ask.want, ask.demand, ask.length, ask.joined, from =
    read('<I2I2I8I4I4I4I4I4B', renewals, from)
  asks[#asks + 1] = ask
end
local first = 1
while first <= #asks do
  local past, is_dry = first, false
  repeat
    is_dry = is_dry or dry(asks[past])
    past = past + 1
  until past > #asks or asks[past].joined == 0
  for i = first, past - 1 do renew(asks[i], is_dry) end
  first = past
end

for b, r in pairs(rule_of) do save(b, r) end
return table.concat(answer)
