-- Takes what many plans draw on: each plan whole or not at all, one after the other.
--
-- KEYS, ARGV[1], ARGV[2]   as in `bucket.lua`, which stands before this
-- ARGV[3]   plans, each a count of draws and its draws `bucket rule price shadow`
--
-- Answers the store's time, then for each plan whether it was granted and, for each of its draws,
-- the units that were used before it.
--
-- Where money is asked for too, `hold.lua` stands before this; otherwise `money` is nil.

if money and not money.begin(began) then return 'R' end

local plans, from, answer, rule_of = ARGV[3], 1, { write('<I8', now) }, {}
if money then answer[2] = money.number end
while from <= #plans do
  local count, granted, before, undo = 0, true, {}, {}
  local verdict, held, known = nil, nil, false
  if money then
    verdict, from, held = money.hold(plans, from)
    granted, known = money.is_fine(verdict), money.is_known(verdict)
  end
  count, from = read('<I2', plans, from)
  for d = 1, count do
    local b, r, price, shadow
    b, r, price, shadow, from = read('<I2I2I8B', plans, from)
    local u = level(b, r)
    before[d] = write('<I8', u)
    if known then
      -- Its first asking has taken it.
    elseif u + price <= capacity[r] then
      undo[#undo + 1] = { b, used[b], unit_of[b], at[b], rule_of[b] }
      used[b], unit_of[b], at[b] = u + price, unit[r], moment(r)
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
  if verdict then money.close(verdict, granted) end
  answer[#answer + 1] = granted and '\1' or '\0'
  if money then answer[#answer + 1] = held end
  answer[#answer + 1] = table.concat(before)
end

for b, r in pairs(rule_of) do save(b, r) end
if money then money.finish(now) end
return table.concat(answer)
