-- Tidies the list of a node's open holds: takes out what is not open any more, and puts what was
-- charged for its node out of the way of who charges.
--
-- KEYS[1]   the epoch; KEYS[2] the list; then the records of holds that stand in it
-- ARGV[1]   the epoch the caller knows; ARGV[2] where what was charged stands
--
-- Nothing is changed if the caller knows another epoch.

local RESERVED, ESTIMATED = 1, 4
local stored = redis.call('GET', KEYS[1])
if not stored or struct.unpack('<I8', stored) ~= tonumber(ARGV[1]) then return '' end
local found = redis.call('MGET', unpack(KEYS, 3))
for r = 1, #KEYS - 2 do
  local of, state, name = 0, 0, string.sub(KEYS[2 + r], -32)
  if found[r] then of, state = struct.unpack('<I8B', found[r]) end
  if of ~= tonumber(ARGV[1]) or state ~= RESERVED and state ~= ESTIMATED then
    redis.call('ZREM', KEYS[2], name)
  elseif state == ESTIMATED then
    redis.call('ZADD', KEYS[2], 'XX', ARGV[2], name)
  end
end
return ''
