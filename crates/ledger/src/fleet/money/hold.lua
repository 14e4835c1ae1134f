-- Holds what plans may cost, in the same step as `take.lua` takes what they draw on. It stands
-- behind `row.lua` and before that script and `bucket.lua`, which see the buckets alone of its keys.
--
-- KEYS      behind the buckets: the rows, the holds' records, then the mark of the epoch in
--           which money is open, what was seen of this node, its open holds by deadline, and the
--           lists of rows
-- ARGV[4]   the numbers of buckets, rows and records, the number of the last call of this node
--           that was answered, and the microseconds until an open hold is overdue
-- ARGV[5]   budgets, each `amount expires` (ms since 1970; 0: never)
-- ARGV[6]   the rows, as `row.lua` lists them
-- ARGV[3]   each plan begins with a count of holds; if there are any, `record check` and its
--           holds `row budget amount shadow` follow
--
-- This call's number stands behind the time in the answer. The whole call answers `R` when the
-- store has lost a call of this node that it had answered.

local money, all = {}, KEYS
local KEYS = { unpack(all, 1, 1 + struct.unpack('<I2', ARGV[4])) }
-- Something to look at where there is no bucket.
if #KEYS == 1 then KEYS[2] = all[1] .. ':none' end
do
  local read, write = struct.unpack, struct.pack
  local LARGEST = 9007199254740991 -- 2^53 - 1
  local NEW, KNOWN, SHORT, MISMATCH, SETTLED, CLOSED, VOIDED = 0, 1, 2, 3, 4, 5, 6
  local RESERVED = 1
  -- By the state of the record: reserved, settled, void, estimated, adjusted.
  local VERDICT = { KNOWN, SETTLED, VOIDED, SETTLED, MISMATCH }
  local buckets, rows, records, answered, grace = read('<I2I2I2I8I8', ARGV[4])
  local mark_at = rows + records + 1
  local epoch, seen, is_open, found
  local account, listed, touched, kept, undo, new = {}, {}, {}, {}, {}, {}
  local list = lister(all, ARGV[6], buckets + mark_at + 3)

  function money.begin(began)
    found = redis.call('MGET', unpack(all, 2 + buckets, buckets + mark_at + 2))
    epoch, seen = began, 0
    if found[mark_at + 1] then
      local of, last = read('<I8I8', found[mark_at + 1])
      if of == epoch then seen = last end
    end
    is_open = found[mark_at] and read('<I8', found[mark_at]) == epoch
    money.number = write('<I8', seen + 1)
    return seen >= answered
  end

  local function row(r)
    if not account[r] then account[r], listed[r] = row_of(found[r], epoch) end
    return account[r]
  end

  -- What is left of an amount, or nothing where a number leaves the range of amounts.
  local function left(amount, a)
    local rest = amount + a[3]
    if rest > LARGEST or rest < -LARGEST then return nil end
    rest = rest - a[1]
    if rest > LARGEST or rest < -LARGEST then return nil end
    rest = rest - a[2]
    if rest > LARGEST or rest < -LARGEST then return nil end
    return rest
  end

  -- Answers what became of the plan's holds (nothing where it has none), where its draws begin,
  -- and the holds' part of the answer.
  function money.hold(plans, from)
    local count
    count, from = read('<B', plans, from)
    if count == 0 then return nil, from, '' end
    local record, check, of
    record, check, from = read('<I2c8', plans, from)
    local verdict, before, blob = NEW, {}, {}
    local value = kept[record] or found[rows + record]
    if value then
      local state, asked
      of, state, asked = read('<I8Bc8', value)
      if of == epoch then
        verdict = asked == check and VERDICT[state] or MISMATCH
      end
    end
    if not is_open then verdict = CLOSED end
    undo = {}
    for h = 1, count do
      local r, b, amount, shadow
      r, b, amount, shadow, from = read('<I2I2i8B', plans, from)
      local a = row(r)
      before[h] = write('<i8i8i8', a[1], a[2], a[3])
      if verdict == NEW or verdict == SHORT then
        local limit, expires = read('<i8I8', ARGV[5], b * 16 - 15)
        local rest = left(limit, a)
        local fits = shadow == 1 or (rest and amount <= rest and amount >= 0)
        if shadow == 1 then amount = math.max(amount, 0) end
        if amount ~= 0 and not (fits and a[2] + amount <= LARGEST) then
          verdict, amount = SHORT, 0
        end
        undo[h] = { a, a[2], r, touched[r] }
        a[2], touched[r] = a[2] + amount, expires
        local name = all[1 + buckets + r]
        blob[h] = write('<i8I2', amount, #name) .. name
      end
    end
    money.record = record
    money.value = write('<I8Bc8B', epoch, RESERVED, check, count) .. table.concat(blob)
    return verdict, from, write('<B', verdict) .. table.concat(before)
  end

  -- Ends the plan that `hold` looked at: keeps its holds or takes them back.
  function money.close(verdict, granted)
    if verdict == NEW and granted then
      kept[money.record] = money.value
      new[#new + 1] = money.record
      return
    end
    for h = #undo, 1, -1 do
      local u = undo[h]
      u[1][2], touched[u[3]] = u[2], u[4]
    end
  end

  function money.is_known(verdict)
    return verdict == KNOWN or verdict == SETTLED or verdict == VOIDED
  end

  function money.is_fine(verdict)
    return verdict == nil or verdict == NEW or money.is_known(verdict)
  end

  function money.finish(now)
    for r, expires in pairs(touched) do
      local key = all[1 + buckets + r]
      save_row(key, epoch, account[r], expires)
      if not listed[r] then list(r, key, expires) end
    end
    local overdue = {}
    for _, record in ipairs(new) do
      local name = all[1 + buckets + rows + record]
      redis.call('SET', name, kept[record])
      overdue[#overdue + 1] = now + grace
      overdue[#overdue + 1] = string.sub(name, -32)
    end
    if #overdue > 0 then redis.call('ZADD', all[buckets + mark_at + 3], unpack(overdue)) end
    redis.call('SET', all[buckets + mark_at + 2], write('<I8', epoch) .. money.number)
  end
end

