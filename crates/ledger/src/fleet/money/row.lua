-- Rows of money, and the list of the rows that count the same for a budget. It stands before the
-- scripts of money.
--
-- A row is its epoch, what is posted, pending and adjusted, and the percents that have fired: bit
-- `p` of sixteen bytes for `p` percent. Earlier versions kept one byte of the places in the budget's
-- thresholds instead, which is read as the last of the sixteen, and listed no row.

-- The row in this epoch, and whether it is listed. One of another epoch is forgotten: recovery
-- writes those that count.
local function row_of(value, epoch)
  if value then
    local of, posted, pending, adjusted, places = struct.unpack('<I8i8i8i8B', value)
    if of == epoch then
      if #value > 33 then return { posted, pending, adjusted, string.sub(value, 33) }, true end
      return { posted, pending, adjusted, string.rep('\0', 15) .. string.char(places) }, false
    end
  end
  return { 0, 0, 0, string.rep('\0', 16) }, false
end

-- `expires` in milliseconds since 1970; 0: it keeps the end it has.
local function save_row(key, epoch, a, expires)
  local value = struct.pack('<I8i8i8i8', epoch, a[1], a[2], a[3]) .. a[4]
  if expires == 0 then
    redis.call('SET', key, value, 'KEEPTTL')
  else
    redis.call('SET', key, value, 'PXAT', expires)
  end
end

-- Notes that a percent has fired; answers whether it is new.
local function mark(a, percent)
  local at, bit = math.floor(percent / 8) + 1, 2 ^ (percent % 8)
  local byte = string.byte(a[4], at)
  if byte % (bit * 2) >= bit then return false end
  a[4] = string.sub(a[4], 1, at - 1) .. string.char(byte + bit) .. string.sub(a[4], at + 1)
  return true
end

-- Lists rows until they are forgotten: `heads` has `list length name` of each row, where list 0 is
-- none and a name is given only where the key does not say it; `lists_at` is where the lists
-- stand in `keys`. What is over is taken out of a list a little faster than rows come.
local function lister(keys, heads, lists_at)
  local all
  return function(r, key, expires)
    if not all then
      local from
      all, from = {}, 1
      while from <= #heads do
        local list, name
        list, name, from = struct.unpack('<I2I2c0', heads, from)
        all[#all + 1] = { list, name }
      end
    end
    local list, name = all[r][1], all[r][2]
    if list == 0 then return end
    if name == '' then name = string.sub(key, string.find(key, '}:', 1, true) + 2) end
    list = keys[lists_at + list]
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local over = redis.call('ZRANGE', list, '-inf', now, 'BYSCORE', 'LIMIT', 0, 16)
    if #over > 0 then redis.call('ZREM', list, unpack(over)) end
    redis.call('ZADD', list, expires == 0 and '+inf' or expires, name)
    -- The rows of one list are all of lifetimes or none is: the others end with the last of them.
    local last = redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')[2]
    if expires ~= 0 and last ~= 'inf' then
      redis.call('PEXPIRE', list, math.max(tonumber(last) - now, 1))
    end
  end
end

