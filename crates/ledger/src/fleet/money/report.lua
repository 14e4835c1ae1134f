-- Tells the store what a node has spent and holds, in an epoch that does not know it yet. When
-- all nodes that ever held money have told, or are excused, money is open. `row.lua` stands before it.
--
-- KEYS[1]   the epoch; KEYS[2] the mark of the epoch in which money is open; KEYS[3] the nodes,
--           each with how far it has told and how many nodes it has on its disk; KEYS[4] what was
--           seen of this node; KEYS[5] its open holds by deadline; then the rows, the records, and
--           the lists of rows
-- ARGV[1]   the epoch the caller knows; ARGV[2] the node
-- ARGV[3]   the piece of its report, from 1, and whether it is the last; 0 only asks; then the
--           numbers of rows and records
-- ARGV[4]   the nodes it has on its disk, each a length and a name
-- ARGV[5]   rows, each `posted adjusted expires places fired`, with a count before the last
-- ARGV[6]   records: the epoch's place (8), then `state check count` and what the state keeps;
--           each behind its length, the milliseconds it is kept (0: until it is over), its
--           deadline, and its holds `row amount`
-- ARGV[7]   the rows, as `row.lua` lists them
--
-- Answers whether money is open, how far this node has told, whether that was all, the number of
-- the last call seen of it, and every node with whether it has told all (2: it is excused;
-- 3: and it has all these names on its disk). Nothing, if the caller knows another epoch.

local read, write = struct.unpack, struct.pack
local LARGEST = 9007199254740991 -- 2^53 - 1
local EXCUSED = 2
local stored = redis.call('GET', KEYS[1])
if not stored then return '' end
local epoch = read('<I8', stored)
if epoch ~= tonumber(ARGV[1]) then return '' end
local piece, is_last, rows, count_of_records = read('<I8BI2I2', ARGV[3])
local told, is_whole = 0, 0
local mine = redis.call('HGET', KEYS[3], ARGV[2])
if mine then
  local of, t, w = read('<I8I8B', mine)
  -- One that was excused may have told a part before.
  if of == epoch then told, is_whole = t, w == EXCUSED and 0 or w end
end

local seen = 0
local value = redis.call('GET', KEYS[4])
if value then
  local of, last = read('<I8I8', value)
  if of == epoch then seen = last end
end

local function within(amount) return math.max(math.min(amount, LARGEST), -LARGEST) end

if piece > 0 and piece == told + 1 and is_whole == 0 then
  if piece == 1 then redis.call('DEL', KEYS[5]) end
  local account, listed, at = {}, {}, 1
  for r = 1, rows do
    local a, p, j, expires, places, fired
    a, listed[r] = row_of(redis.call('GET', KEYS[5 + r]), epoch)
    p, j, expires, places, fired, at = read('<i8i8I8BBc0', ARGV[5], at)
    for place = 1, #fired do mark(a, string.sub(fired, place, place)) end
    a[1], a[3], a[5], a[6] = within(a[1] + p), within(a[3] + j), bit.bor(a[5], places), expires
    account[r] = a
  end
  at = 1
  local record = 0
  while at <= #ARGV[6] do
    local length, kept_for, deadline, holds
    length, kept_for, deadline, holds, at = read('<I4I8I8B', ARGV[6], at)
    for _ = 1, holds do
      local r, amount
      r, amount, at = read('<I2i8', ARGV[6], at)
      account[r][2] = within(account[r][2] + amount)
    end
    record = record + 1
    local name = KEYS[5 + rows + record]
    local value = write('<I8', epoch) .. string.sub(ARGV[6], at, at + length - 1)
    at = at + length
    if kept_for > 0 then
      redis.call('SET', name, value, 'PX', kept_for)
    else
      redis.call('SET', name, value)
      redis.call('ZADD', KEYS[5], deadline, string.sub(name, -32))
    end
  end
  local list = lister(KEYS, ARGV[7], 5 + rows + count_of_records)
  for r = 1, rows do
    local a = account[r]
    save_row(KEYS[5 + r], epoch, a, a[6])
    if not listed[r] then list(r, KEYS[5 + r], a[6]) end
  end
  told, is_whole = piece, is_last
  seen = seen + 1
  redis.call('SET', KEYS[4], write('<I8I8', epoch, seen))
end

local known, at, names = ARGV[4], 1, 0
while at <= #known do
  local name
  name, at = read('<Bc0', known, at)
  redis.call('HSETNX', KEYS[3], name, write('<I8I8BI2', 0, 0, 0, 0))
  names = names + 1
end
if told > 0 then
  redis.call('HSET', KEYS[3], ARGV[2], write('<I8I8BI2', epoch, told, is_whole, names))
end
local is_missing, list, nodes = false, {}, redis.call('HGETALL', KEYS[3])
for n = 1, #nodes, 2 do
  local of, _, whole, has = read('<I8I8BI2', nodes[n + 1])
  if of ~= epoch and whole ~= EXCUSED then whole = 0 end
  is_missing = is_missing or whole == 0
  if whole == 1 and has == #nodes / 2 then whole = 3 end
  list[#list + 1] = write('<BBc0', whole, #nodes[n], nodes[n])
end
local mark = redis.call('GET', KEYS[2])
local is_open = mark and read('<I8', mark) == epoch
if not is_open and not is_missing and is_whole == 1 then
  redis.call('SET', KEYS[2], write('<I8', epoch))
  is_open = true
end
return write('<BI8BI8', is_open and 1 or 0, told, is_whole, seen) .. table.concat(list)
