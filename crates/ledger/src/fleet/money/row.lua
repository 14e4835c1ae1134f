-- Rows of money, and the list of the rows that count the same for a budget. It stands before the
-- scripts of money.
--
-- A row is its epoch, what is posted, pending and adjusted, a byte of earlier versions, a zero, and
-- a byte for each percent that has fired. Earlier versions ended with their byte, a bit for each
-- place of the budget's thresholds that had fired, and listed no row.

-- The row in this epoch, and whether it is listed. One of another epoch is forgotten: recovery
-- writes those that count.
local function row_of(value, epoch)
  if value then
    local of, posted, pending, adjusted, places = struct.unpack('<I8i8i8i8B', value)
    if of == epoch then
      return { posted, pending, adjusted, string.sub(value, 35), places }, #value > 33
    end
  end
  return { 0, 0, 0, '', 0 }, false
end

-- `expires` in milliseconds since 1970; 0: it keeps the end it has.
local function save_row(key, epoch, a, expires)
  local value = struct.pack('<I8i8i8i8BB', epoch, a[1], a[2], a[3], a[5], 0) .. a[4]
  if expires == 0 then
    redis.call('SET', key, value, 'KEEPTTL')
  else
    redis.call('SET', key, value, 'PXAT', expires)
  end
end

-- Notes that a percent, a byte, has fired; answers whether it is new.
local function mark(a, percent)
  if string.find(a[4], percent, 1, true) then return false end
  a[4] = a[4] .. percent
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
    redis.call('ZADD', list, expires == 0 and '+inf' or expires, name)
    -- The rows of one list are all of lifetimes or none is: the others end with the last of them.
    if expires == 0 then return end
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local over = redis.call('ZRANGE', list, '-inf', now, 'BYSCORE', 'LIMIT', 0, 16)
    if #over > 0 then redis.call('ZREM', list, unpack(over)) end
    local last = redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')[2]
    if last and last ~= 'inf' then
      redis.call('PEXPIRE', list, math.max(tonumber(last) - now, 1))
    end
  end
end

