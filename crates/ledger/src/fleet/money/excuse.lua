-- Goes on without what a node has spent, in one step: what the node tells meanwhile stays.
--
-- KEYS[1]   the epoch; KEYS[2] the nodes, each with how far it has told
-- ARGV[1]   the epoch the caller knows; ARGV[2] the node
--
-- Answers `1` when the node is excused, and `0` when it has told all: it would count twice.
-- Nothing, if the caller knows another epoch. One that has told a part keeps its place: should it
-- come back it finds that an earlier life of it has told, and everybody tells again.

local read, write = struct.unpack, struct.pack
local EXCUSED = 2
local stored = redis.call('GET', KEYS[1])
if not stored or read('<I8', stored) ~= tonumber(ARGV[1]) then return '' end
local epoch = read('<I8', stored)
local of, told = 0, 0
local known = redis.call('HGET', KEYS[2], ARGV[2])
if known then
  local o, t, whole = read('<I8I8B', known)
  if o == epoch and whole == 1 then return '0' end
  if o == epoch then of, told = o, t end
end
redis.call('HSET', KEYS[2], ARGV[2], write('<I8I8BI2', of, told, EXCUSED, 0))
return '1'
