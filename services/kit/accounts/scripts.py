"""The scripts of the accounts; one call each, all or nothing, fit for Redis 6.2.

Every key has the tenant as its hash tag, KEYS[1] is their common prefix:

    account:ID    hash: limits (JSON), tokens and cost booked at the limits, used_*, out_* (drawn and not
                  settled), cap_*, calls, closed, and d:DRAW for every draw
    accounts      sorted set of account ids by the time at which they are given up, in ms
    quota:...     hash of one window of one limit: used, and gen, which tells this window from the next
    places:...    sorted set of the accounts that hold a place, by the same time

An entry of `limits`: k (key), n (name), s (subject), t (kind), m (most), w (ms), g (the window's gen), b
(what this account has booked in that window). Never more than b is given back, only to the window it is from.
"""

_COMMON = """
local P = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function window(limit)
  local known = redis.call('HMGET', limit.k, 'used', 'gen')
  return tonumber(known[1]) or 0, known[2]
end

local function change(limit, amount, id)
  if limit.t == 'p' then return end
  local used, gen = window(limit)
  if amount > 0 then
    if not gen then
      gen = id .. now
      redis.call('HSET', limit.k, 'used', 0, 'gen', gen)
      redis.call('PEXPIRE', limit.k, limit.w)
    end
    if limit.g ~= gen then limit.g, limit.b = gen, 0 end
    limit.b = limit.b + amount
    redis.call('HINCRBY', limit.k, 'used', amount)
  elseif amount < 0 and gen and limit.g == gen then
    local back = math.min(-amount, limit.b)
    limit.b = limit.b - back
    redis.call('HINCRBY', limit.k, 'used', -back)
  end
end

local function number(value) return tonumber(value) or 0 end

local function load(id)
  local key = P .. 'account:' .. id
  local raw = redis.call('HMGET', key, 'limits', 'tokens', 'cost', 'used_t', 'used_c', 'out_t', 'out_c',
    'closed', 'out_n')
  if not raw[1] then return nil end
  return {id = id, key = key, limits = cjson.decode(raw[1]), t = number(raw[2]), c = number(raw[3]),
    used_t = number(raw[4]), used_c = number(raw[5]), out_t = number(raw[6]), out_c = number(raw[7]),
    closed = raw[8] == '1', out_n = number(raw[9])}
end

local function save(a)
  redis.call('HSET', a.key, 'limits', cjson.encode(a.limits), 'tokens', a.t, 'cost', a.c, 'used_t', a.used_t,
    'used_c', a.used_c, 'out_t', a.out_t, 'out_c', a.out_c, 'closed', a.closed and '1' or '0',
    'out_n', a.out_n)
end

local function book(a, t, c)
  for _, limit in ipairs(a.limits) do
    if limit.t == 't' then change(limit, t - a.t, a.id) end
    if limit.t == 'c' then change(limit, c - a.c, a.id) end
  end
  a.t, a.c = t, c
end

local function leave(a)
  for _, limit in ipairs(a.limits) do
    if limit.t == 'p' then redis.call('ZREM', limit.k, a.id) end
  end
  redis.call('ZREM', P .. 'accounts', a.id)
end

local function renew(a, ttl)
  redis.call('ZADD', P .. 'accounts', 'XX', now + ttl, a.id)
  for _, limit in ipairs(a.limits) do
    if limit.t == 'p' then
      redis.call('ZADD', limit.k, 'XX', now + ttl, a.id)
      redis.call('PEXPIRE', limit.k, ttl + 86400000)
    end
  end
  redis.call('PEXPIRE', P .. 'accounts', ttl + 86400000)
  redis.call('PEXPIRE', a.key, ttl + 86400000)
end
"""

# ARGV: id, ttl ms, limits (JSON), tokens, cost, cap tokens, cap cost, cap calls (empty for none).
# Answers {1, used and ms left of each limit} or {0, place of the limit, used, ms left}.
OPEN = (
    _COMMON
    + """
local id, ttl, limits = ARGV[1], tonumber(ARGV[2]), cjson.decode(ARGV[3])
local wanted = {t = tonumber(ARGV[4]), c = tonumber(ARGV[5]), r = 1, p = 1}
for _, lost in ipairs(redis.call('ZRANGEBYSCORE', P .. 'accounts', '-inf', now, 'LIMIT', 0, 16)) do
  local a = load(lost)
  redis.call('ZREM', P .. 'accounts', lost)
  if a then
    leave(a)
    a.out_t, a.out_c, a.out_n, a.closed = 0, 0, 0, true
    book(a, a.used_t, a.used_c)
    save(a)
    redis.call('HSET', a.key, 'lost', '1')
  end
end
local found = {}
for place, limit in ipairs(limits) do
  local used
  if limit.t == 'p' then
    redis.call('ZREMRANGEBYSCORE', limit.k, '-inf', now)
    used = redis.call('ZCARD', limit.k)
  else
    used = window(limit)
  end
  local left = math.max(0, redis.call('PTTL', limit.k))
  if limit.t == 'p' then left = 0 elseif left == 0 then left = limit.w end
  if used + wanted[limit.t] > limit.m then return {0, place, used, left} end
  found[#found + 1] = used + wanted[limit.t]
  found[#found + 1] = left
end
local a = {id = id, key = P .. 'account:' .. id, limits = limits, t = 0, c = 0, used_t = 0, used_c = 0,
  out_t = 0, out_c = 0, out_n = 0, closed = false}
for _, limit in ipairs(limits) do
  limit.g, limit.b = '', 0
  if limit.t == 'r' then change(limit, 1, id) end
  if limit.t == 'p' then
    redis.call('ZADD', limit.k, now + ttl, id)
    redis.call('PEXPIRE', limit.k, ttl + 86400000)
  end
end
book(a, wanted.t, wanted.c)
save(a)
redis.call('HSET', a.key, 'cap_t', ARGV[6], 'cap_c', ARGV[7], 'cap_n', ARGV[8], 'calls', 0)
redis.call('ZADD', P .. 'accounts', now + ttl, id)
redis.call('PEXPIRE', a.key, ttl + 86400000)
redis.call('PEXPIRE', P .. 'accounts', ttl + 86400000)
return {1, found}
"""
)

# ARGV: id, draw, ttl ms, tokens, cost. Answers {1}, {2, cap}, {3} for an account that is unknown, or
# {0, name, subject, kind and most of the limit, used, ms left}.
DRAW = (
    _COMMON
    + """
local a = load(ARGV[1])
if not a or a.closed then return {3} end
local t, c = tonumber(ARGV[4]), tonumber(ARGV[5])
local raw = redis.call('HMGET', a.key, 'cap_t', 'cap_c', 'cap_n', 'calls')
local need_t, need_c = a.used_t + a.out_t + t, a.used_c + a.out_c + c
if raw[3] ~= '' and raw[4] + 1 > tonumber(raw[3]) then return {2, 'max_model_calls'} end
if raw[1] ~= '' and need_t > tonumber(raw[1]) then return {2, 'max_tokens'} end
if raw[2] ~= '' and need_c > tonumber(raw[2]) then return {2, 'max_cost_micro_usd'} end
for _, limit in ipairs(a.limits) do
  local more = 0
  if limit.t == 't' then more = need_t - a.t elseif limit.t == 'c' then more = need_c - a.c end
  if more > 0 then
    local used = window(limit)
    if used + more > limit.m then
      return {0, limit.n, limit.s, limit.t, limit.m, limit.w, used, math.max(0, redis.call('PTTL', limit.k))}
    end
  end
end
book(a, math.max(a.t, need_t), math.max(a.c, need_c))
a.out_t, a.out_c, a.out_n = a.out_t + t, a.out_c + c, a.out_n + 1
save(a)
redis.call('HSET', a.key, 'd:' .. ARGV[2], t .. ':' .. c)
redis.call('HINCRBY', a.key, 'calls', 1)
renew(a, tonumber(ARGV[3]))
return {1}
"""
)

# ARGV: id, draw, tokens, cost. Answers 1, or 0 for a draw that is settled or unknown.
SETTLE = (
    _COMMON
    + """
local a = load(ARGV[1])
if not a then return 0 end
local draw = redis.call('HGET', a.key, 'd:' .. ARGV[2])
if not draw then return 0 end
redis.call('HDEL', a.key, 'd:' .. ARGV[2])
local split = string.find(draw, ':')
if redis.call('HEXISTS', a.key, 'lost') == 0 then
  a.out_t = a.out_t - tonumber(string.sub(draw, 1, split - 1))
  a.out_c = a.out_c - tonumber(string.sub(draw, split + 1))
  a.out_n = a.out_n - 1
end
a.used_t, a.used_c = a.used_t + tonumber(ARGV[3]), a.used_c + tonumber(ARGV[4])
local t, c = a.used_t + a.out_t, a.used_c + a.out_c
if not a.closed then t, c = math.max(a.t, t), math.max(a.c, c) end
book(a, t, c)
if a.closed and a.out_n == 0 and redis.call('HEXISTS', a.key, 'lost') == 0 then
  redis.call('DEL', a.key)
else
  save(a)
end
return 1
"""
)

# ARGV: id, and `void` where nobody heard of its opening: then the request is given back, too. Answers 1, or 0
# for an account that is closed or unknown.
CLOSE = (
    _COMMON
    + """
local a = load(ARGV[1])
if not a or a.closed then return 0 end
a.closed = true
leave(a)
book(a, a.used_t + a.out_t, a.used_c + a.out_c)
if ARGV[2] == 'void' then
  for _, limit in ipairs(a.limits) do
    if limit.t == 'r' then change(limit, -1, a.id) end
  end
end
if a.out_n == 0 then redis.call('DEL', a.key) else save(a) end
return 1
"""
)

# ARGV: ttl ms, ids. Answers how many are still open.
RENEW = (
    _COMMON
    + """
local open = 0
for place = 2, #ARGV do
  local a = load(ARGV[place])
  if a and not a.closed then
    renew(a, tonumber(ARGV[1]))
    open = open + 1
  end
end
return open
"""
)
