-- Ends holds, and changes rows: many entries in one call, one after the other. Each is known by
-- its id, and done once.
--
-- KEYS[1]   the epoch; KEYS[2] the mark of the epoch in which money is open; KEYS[3] what was
--           seen of this node; KEYS[4] the open holds of their node; then the rows and the records
-- ARGV[1]   the epoch the caller knows
-- ARGV[2]   the number of rows, the number of the last call of this node that was answered, and
--           the milliseconds for which what is over is remembered
-- ARGV[3]   budgets, each `amount expires count percents(8)`
-- ARGV[4]   entries, each `record check kind count` and its parts `row budget cost`
--
-- Answers this call's number, and for each entry what became of it, and for each of its parts the thresholds that it was
-- the first to reach. Nothing, if the caller knows another epoch or money is not open; `R` when
-- the store has lost a call of this node that it had answered.

local read, write = struct.unpack, struct.pack
local LARGEST = 9007199254740991 -- 2^53 - 1
local SETTLE, VOID, ESTIMATE, ADJUST = 1, 2, 3, 4
local RESERVED, SETTLED, VOIDED, ESTIMATED, ADJUSTED = 1, 2, 3, 4, 5
local STATE = { SETTLED, VOIDED, ESTIMATED, ADJUSTED }
local DONE, KNOWN, UNKNOWN, CONFLICT = 0, 1, 2, 3

local stored = redis.call('GET', KEYS[1])
if not stored then return '' end
local epoch = read('<I8', stored)
if epoch ~= tonumber(ARGV[1]) then return '' end
local rows, answered, kept_for = read('<I2I8I8', ARGV[2])
local found = redis.call('MGET', unpack(KEYS, 2))
if not found[1] or read('<I8', found[1]) ~= epoch then return '' end
local seen = 0
if found[2] then
  local of, last = read('<I8I8', found[2])
  if of == epoch then seen = last end
end
if seen < answered then return 'R' end

local account, touched, records, over = {}, {}, {}, {}

local function row(r)
  if not account[r] then
    local posted, pending, adjusted, fired = 0, 0, 0, 0
    if found[3 + r] then
      local of, a, b, c, d = read('<I8i8i8i8B', found[3 + r])
      if of == epoch then posted, pending, adjusted, fired = a, b, c, d end
    end
    account[r] = { posted, pending, adjusted, fired }
  end
  return account[r]
end

local function within(amount) return math.max(math.min(amount, LARGEST), -LARGEST) end

-- Sets the bits of the thresholds that are reached, and answers those that are new.
local function fire(a, limit, percents)
  local granted, new = within(limit + a[3]), 0
  local rest = granted % 100
  local hundredth = (granted - rest) / 100
  for place = 1, #percents do
    local percent, bit = string.byte(percents, place), 2 ^ (place - 1)
    if a[1] >= hundredth * percent + math.ceil(rest * percent / 100)
      and a[4] % (bit * 2) < bit then
      a[4], new = a[4] + bit, new + bit
    end
  end
  return new
end

local entries, from, answer = ARGV[4], 1, {}
while from <= #entries do
  local record, check, kind, count
  record, check, kind, count, from = read('<I2c8BB', entries, from)
  local value, state, held, fired = records[record] or found[3 + rows + record], 0, {}, ''
  if value then
    local of, s, asked, parts, at = read('<I8Bc8B', value)
    if of == epoch then
      state = asked == check and s or -1
      if s == RESERVED or s == ESTIMATED then
        for p = 1, parts do
          local length
          held[p], length, at = read('<i8I2', value, at)
          at = at + length
        end
      else
        fired = string.sub(value, at)
      end
    end
  end
  local verdict
  if state == STATE[kind] then
    verdict = KNOWN
  elseif state == RESERVED then
    verdict = kind == ADJUST and CONFLICT or DONE
  elseif state == ESTIMATED then
    verdict = (kind == SETTLE or kind == VOID) and DONE or CONFLICT
  elseif state == 0 then
    -- A hold that may still be on its way must find that it is over.
    verdict = (kind == VOID or kind == ADJUST) and DONE or UNKNOWN
  else
    verdict = CONFLICT
  end
  if verdict == DONE and state ~= 0 and #held ~= count then verdict = CONFLICT end
  local masks = {}
  for p = 1, count do
    local r, b, cost
    r, b, cost, from = read('<I2I2i8', entries, from)
    local mask = verdict == KNOWN and string.byte(fired, p) or 0
    if verdict == DONE and (state ~= 0 or kind == ADJUST) then
      local a = row(r)
      local limit, expires, percents = read('<i8I8B', ARGV[3], b * 25 - 24)
      percents = string.sub(ARGV[3], b * 25 - 7, b * 25 - 8 + percents)
      if kind == ADJUST then
        a[3] = within(a[3] + cost)
      else
        if state == RESERVED then a[2] = math.max(a[2] - held[p], 0) end
        if state == ESTIMATED then a[1] = within(a[1] - held[p]) end
        if kind == ESTIMATE then cost = held[p] end
        if kind ~= VOID then a[1] = within(a[1] + cost) end
      end
      mask = kind == VOID and 0 or fire(a, limit, percents)
      touched[r] = expires
    end
    masks[p] = string.char(mask)
  end
  masks = table.concat(masks)
  if verdict == DONE then
    if kind == ESTIMATE then
      records[record] = write('<I8B', epoch, ESTIMATED) .. string.sub(value, 10)
    else
      records[record] = write('<I8Bc8B', epoch, STATE[kind], check, count) .. masks
    end
    over[#over + 1] = string.sub(KEYS[4 + rows + record], -32)
  end
  answer[#answer + 1] = string.char(verdict) .. masks
end

for r, expires in pairs(touched) do
  local a = account[r]
  local value = write('<I8i8i8i8B', epoch, a[1], a[2], a[3], a[4])
  if expires == 0 then
    redis.call('SET', KEYS[4 + r], value, 'KEEPTTL')
  else
    redis.call('SET', KEYS[4 + r], value, 'PXAT', expires)
  end
end
for record, value in pairs(records) do
  redis.call('SET', KEYS[4 + rows + record], value, 'PX', kept_for)
end
if #over > 0 then redis.call('ZREM', KEYS[4], unpack(over)) end
redis.call('SET', KEYS[3], write('<I8I8', epoch, seen + 1))
return write('<I8', seen + 1) .. table.concat(answer)
