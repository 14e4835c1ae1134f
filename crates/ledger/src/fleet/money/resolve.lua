-- Ends holds, and changes rows: many entries in one call, one after the other. Each is known by
-- its id, and done once.
--
-- `row.lua` stands before it.
--
-- KEYS[1]   the epoch; KEYS[2] the mark of the epoch in which money is open; KEYS[3] what was
--           seen of this node; KEYS[4] the open holds of their node; then the rows, the records,
--           and the lists of rows
-- ARGV[1]   the epoch the caller knows
-- ARGV[2]   the numbers of rows and records, the number of the last call of this node that was
--           answered, the milliseconds for which what is over is remembered, those for which what
--           operators decided is, and what stands for the node
-- ARGV[3]   budgets, each `amount expires count percents(8)`
-- ARGV[4]   entries, each `record check kind count` and its parts `row budget cost`
-- ARGV[5]   the rows, as `row.lua` lists them
--
-- Answers this call's number, and for each entry what became of it, and for each of its parts the
-- percents that it was the first to reach, with a count before them; the row follows where there
-- is one, or an operator adjusts. Nothing, if the caller knows another epoch or money is not open;
-- `R` when the store has lost a call of this node that it had answered.

local read, write = struct.unpack, struct.pack
local LARGEST = 9007199254740991 -- 2^53 - 1
local SETTLE, VOID, ESTIMATE, ADJUST, LOOK = 1, 2, 3, 4, 5
local RESERVED, SETTLED, VOIDED, ESTIMATED, ADJUSTED, LOOKED = 1, 2, 3, 4, 5, 6
local STATE = { SETTLED, VOIDED, ESTIMATED, ADJUSTED, LOOKED }
local DONE, KNOWN, UNKNOWN, CONFLICT, ELSEWHERE, RANGE, RETURNED = 0, 1, 2, 3, 4, 5, 6

local stored = redis.call('GET', KEYS[1])
if not stored then return '' end
local epoch = read('<I8', stored)
if epoch ~= tonumber(ARGV[1]) then return '' end
local rows, count_of_records, answered, kept_for, kept_long, node = read('<I2I2I8I8I8c8', ARGV[2])
local found = redis.call('MGET', unpack(KEYS, 2, 4 + rows + count_of_records))
if not found[1] or read('<I8', found[1]) ~= epoch then return '' end
local seen = 0
if found[2] then
  local of, last = read('<I8I8', found[2])
  if of == epoch then seen = last end
end
if seen < answered then return 'R' end

local account, listed, touched, records, over = {}, {}, {}, {}, {}
local list = lister(KEYS, ARGV[5], 4 + rows + count_of_records)

local function row(r)
  if not account[r] then account[r], listed[r] = row_of(found[3 + r], epoch) end
  return account[r]
end

local function within(amount) return math.max(math.min(amount, LARGEST), -LARGEST) end

-- Marks the percents that are reached, and answers those that are new.
local function fire(a, limit, percents)
  if percents == '' then return '' end
  if a[5] > 0 then
    for place = 1, #percents do
      if a[5] % (2 ^ place) >= 2 ^ (place - 1) then mark(a, string.sub(percents, place, place)) end
    end
    a[5] = 0
  end
  local granted, new = within(limit + a[3]), ''
  local rest = granted % 100
  local hundredth = (granted - rest) / 100
  for place = 1, #percents do
    local percent = string.byte(percents, place)
    if a[1] >= hundredth * percent + math.ceil(rest * percent / 100) then
      local byte = string.char(percent)
      if mark(a, byte) then new = new .. byte end
    end
  end
  return new
end

-- What is kept of a hold or an end: how it stands, what each part held, what each part fired, and
-- whether this node ended it. Records of an earlier version, and those that were told again, say
-- neither of the last two.
local function record_of(value, check)
  local held, fired = {}, {}
  if not value then return 0, held, fired, false end
  local of, state, asked, parts, at = read('<I8Bc8B', value)
  if of ~= epoch then return 0, held, fired, false end
  if state == RESERVED or state == ESTIMATED then
    for p = 1, parts do
      local length
      held[p], length, at = read('<i8I2', value, at)
      at = at + length
    end
  end
  local is_own = #value >= at + parts + 7 and string.sub(value, -8) == node
  if is_own then
    for p = 1, parts do fired[p], at = read('<Bc0', value, at) end
  end
  return asked == check and state or -1, held, fired, is_own, at
end

local entries, from, answer = ARGV[4], 1, {}
while from <= #entries do
  local record, check, kind, count
  record, check, kind, count, from = read('<I2c8BB', entries, from)
  local value = records[record] or found[3 + rows + record]
  local state, held, fired, is_own = record_of(value, check)
  local verdict
  if state == STATE[kind] then
    verdict = is_own and KNOWN or ELSEWHERE
  elseif state == RESERVED then
    verdict = kind >= ADJUST and CONFLICT or DONE
  elseif state == ESTIMATED then
    verdict = kind == SETTLE and DONE or kind == VOID and RETURNED or CONFLICT
  elseif state == 0 then
    -- A hold that may still be on its way must find that it is over.
    verdict = (kind == SETTLE or kind == ESTIMATE) and UNKNOWN or DONE
  else
    verdict = CONFLICT
  end
  local does = verdict == DONE or verdict == RETURNED
  if does and state ~= 0 and #held ~= count then verdict, does = CONFLICT, false end
  local told, kept, has_fired = {}, {}, false
  for p = 1, count do
    local r, b, cost
    r, b, cost, from = read('<I2I2i8', entries, from)
    local percents = verdict == KNOWN and fired[p] or ''
    if kind == ADJUST and does and within(row(r)[3] + cost) ~= row(r)[3] + cost then
      verdict, does = RANGE, false
    end
    if does and (state ~= 0 or kind >= ADJUST) then
      local a = row(r)
      local limit, expires, length = read('<i8I8B', ARGV[3], b * 25 - 24)
      if kind == ADJUST then
        a[3] = a[3] + cost
      elseif kind ~= LOOK then
        if state == RESERVED then a[2] = math.max(a[2] - held[p], 0) end
        if state == ESTIMATED then a[1] = within(a[1] - held[p]) end
        if kind == ESTIMATE then cost = held[p] end
        if kind ~= VOID then a[1] = within(a[1] + cost) end
      end
      if kind ~= VOID then
        percents = fire(a, limit, string.sub(ARGV[3], b * 25 - 7, b * 25 - 8 + length))
      end
      touched[r] = expires
    end
    if percents ~= '' or kind == ADJUST then
      local a = row(r)
      has_fired = has_fired or percents ~= ''
      kept[p] = write('<Bc0', #percents, percents)
      told[p] = kept[p] .. write('<i8i8i8', a[1], a[2], a[3])
    else
      kept[p], told[p] = '\0', '\0'
    end
  end
  kept, told = table.concat(kept) .. node, table.concat(told)
  if does and (kind ~= LOOK or has_fired) then
    local keeps = kept_for
    if kind == ESTIMATE then
      local _, _, _, _, at = record_of(value, check)
      value = write('<I8B', epoch, ESTIMATED) .. string.sub(value, 10, at - 1) .. kept
    else
      value = write('<I8Bc8B', epoch, STATE[kind], check, count) .. kept
    end
    if kind == ESTIMATE or kind == ADJUST then keeps = kept_long end
    records[record] = value
    redis.call('SET', KEYS[4 + rows + record], value, 'PX', keeps)
    over[#over + 1] = string.sub(KEYS[4 + rows + record], -32)
  end
  answer[#answer + 1] = string.char(verdict) .. told
end

for r, expires in pairs(touched) do
  save_row(KEYS[4 + r], epoch, account[r], expires)
  if not listed[r] then list(r, KEYS[4 + r], expires) end
end
if #over > 0 then redis.call('ZREM', KEYS[4], unpack(over)) end
redis.call('SET', KEYS[3], write('<I8I8', epoch, seen + 1))
return write('<I8', seen + 1) .. table.concat(answer)
