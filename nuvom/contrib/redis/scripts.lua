-- What a call of the backend does: one script each, for any number of jobs. A script runs alone on
-- the server, so that each is one step that nobody sees half of. docs/decisions/0026 explains the keys.
--
-- "--@ name" begins a script; the part named "common" is put before each of them. No rule of a job's
-- life is here: "apply" writes what nuvom.core.transitions decided, if the job is still as it was.
--
-- KEYS[1] is what all keys of a store begin with. ARGV[1] is the time in a test, empty where the
-- server's counts; a script's own arguments follow it.
--
-- Keys, each after KEYS[1]:
--   store          hash: id, version, control (changes with each cancel, pause and command), seq
--   j:ID           what was enqueued: JOB, then the record, which no script reads
--   ready:QUEUE    zset of seq + id by priority; suspect:QUEUE: those that a worker died on
--   queues:ready:, queues:suspect:   sets of the queues that have such jobs
--   later, parked  zset of ids by the time at which they are due, or were parked; parked:TASK: set;
--                  parked_tasks: hash of how many there are
--   w              hash by id: STATE of a waiting job that was claimed before; a fresh one has none
--   run            hash by id: STATE of a claimed job
--   d:ID, a:ID     STATE of a job that has ended; list of its closed attempts
--   held:OWNER     set of the ids that a worker has claimed; owners: set of workers that have one
--   started:OWNER  set of the deliveries (seq + token) whose user code has started
--   beats          zset of workers by their last heartbeat, which renewed their leases
--   workers        hash of what workers announced; seen: zset of them by when they were heard last
--   keys           hash by task and unique key: until, seq, id
--   all, failed    zset of ids by seq: every job; those that ended other than by success
--   old:KIND       zset of ended ids by the time from which they may be pruned: see "shelve"
--   group:NAME, times:NAME   zset of the ids of one group of failures by seq, and by their end
--   counts         hash by queue and kind; queues: set of all queues that ever had jobs
--   paused         hash of queues by whom, paused_at: and when; progress: hash by id; groups: zset by the last failure
--   words:OWNER    list of commands
--   stage:TOKEN, bulks, refused:TOKEN   jobs on their way, zset of those committed, what was refused
--   sleepers       set of workers that wait to be told of a job
--   o:ID, outcomes results of jobs whose queue is in another store
--   schedules      hash by name: revision, then the record, which no script reads
--   schedules:names, schedules:due   zset of all names; of those that have a due_at, by that
--   changed:CALL   for a minute: what a call that changed schedules has answered
--   totals         hash by TOTAL: how often it happened; took, waited: hashes of seconds. They are kept
--                  once the store has a field "totals": the bounds of their histograms
--   rollups        zset of hours in which something was counted; rollups:HOUR: hash of counts ("n" and
--                  ROLLUP) and of seconds ("s" and ROLLUP). The store's "condensed" is the hour from
--                  which on they are by minute
--   audit, audit:entries   zset of ids in order; hash by id of what people did

--@ common
local P = KEYS[1]
local call, pack, unpack_ = redis.call, struct.pack, struct.unpack
local sub, byte = string.sub, string.byte

local now
if ARGV[1] ~= '' then
  now = tonumber(ARGV[1])
else
  local time = call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end

-- JOB: seq, where the record begins, priority, run_at, created_at, keep (seconds; -1 none),
-- until (of the unique key; -1 none), then queue, task and "task \0 unique key", each with its length.
local function read_job(data)
  local s, n, p, r, c, keep, till, q, task, key = unpack_('>I8I4i4ddddBc0I4c0I4c0', data)
  return {s = s, n = n, p = p, r = r, c = c, keep = keep, till = till, q = q, task = task, key = key}
end

local function job_of(id)
  local data = call('GET', P .. 'j:' .. id)
  return data and read_job(data)
end

-- STATE: seq, token, epoch (these 14 bytes are the fence); status, suspect, attempt, deliveries,
-- run_at, started_at (of a claimed job: when it was claimed), finished_at; owner, queue; failure
-- group, error, each with its length; result. A time of -1 is none, as is a token of 0.
local FENCE, FINISHED, TIMES, NAMES = 14, 41, 48, 49
local NO_TEXTS = pack('>I4I4', 0, 0)

local function read_state(v)
  local s, k, e, st, u, a, d, r, b, f, o, q, g, err, at =
    unpack_('>I8I2I4BBI4I4dddBc0Bc0I4c0I4c0', v)
  return {s = s, k = k, e = e, st = st, u = u, a = a, d = d, r = r, b = b, f = f, o = o, q = q,
    g = g, err = err, result = sub(v, at)}
end

local function names_of(v)  -- owner and queue, as they are packed, and as texts
  local n = byte(v, NAMES)
  local m = byte(v, NAMES + 1 + n)
  local last = NAMES + 1 + n + m
  return sub(v, NAMES, last), sub(v, NAMES + 1, NAMES + n), sub(v, last - m + 1, last)
end

local function fresh_state(j)
  return pack('>I8I2I4BBI4I4ddd', j.s, 0, 0, 0, 0, 0, 0, j.r, -1, -1)
    .. pack('>BBc0', 0, #j.q, j.q) .. NO_TEXTS
end

local function last_beat(owner) return call('ZSCORE', P .. 'beats', owner) or '0' end
local function member_of(s, id) return pack('>I8', s) .. id end
local function count(q, kind, n) call('HINCRBY', P .. 'counts', kind .. q, n) end


local function add_all(command, key, list)  -- Lua cannot unpack a long list
  for at = 1, #list, 2000 do
    call(command, key, unpack(list, at, math.min(at + 1999, #list)))
  end
end

-- Wake one worker that waits for jobs. Whoever was killed in its sleep hears nothing.
local function ring()
  local name = call('SPOP', P .. 'sleepers')
  while name and call('PUBLISH', P .. 'wake:' .. name, '1') == 0 do
    name = call('SPOP', P .. 'sleepers')
  end
end

local function ring_results() call('PUBLISH', P .. 'results', '1') end

-- ---- unique keys ----

local function has_ended(id)
  return call('EXISTS', P .. 'd:' .. id) == 1 or call('EXISTS', P .. 'j:' .. id) == 0
end

local function holder_of(key)  -- the id of the job that holds a key, and its seq
  local v = call('HGET', P .. 'keys', key)
  if not v then return nil end
  local till, s = unpack_('>dI8', v)
  local id = sub(v, 17)
  if till <= now and has_ended(id) then return nil end
  return id, s, till
end

local function take_key(id, j)  -- nil once it is this job's, else the id of the job that has it
  local holder, s = holder_of(j.key)
  if holder and s ~= j.s then return holder end
  call('HSET', P .. 'keys', j.key, pack('>dI8', j.till, j.s) .. id)
end

local function is_held(j)  -- whether an ended job still has its key
  if j.key == '' or j.till <= now then return false end
  local v = call('HGET', P .. 'keys', j.key)
  return v and select(2, unpack_('>dI8', v)) == j.s
end

local function free_key(j)
  if j.key == '' then return end
  local v = call('HGET', P .. 'keys', j.key)
  if v and select(2, unpack_('>dI8', v)) == j.s then call('HDEL', P .. 'keys', j.key) end
end

-- ---- where jobs are ----

local function add_ready(q, is_suspect, pairs_)
  local kind = is_suspect and 'suspect:' or 'ready:'
  add_all('ZADD', P .. kind .. q, pairs_)
  return call('SADD', P .. 'queues:' .. kind, q)
end

-- Put a waiting job where it belongs; v is its state, nil for a fresh one.
local function place_waiting(id, j, v)
  local x = v and read_state(v) or {r = j.r, a = 0, u = 0, st = 0}
  if v then call('HSET', P .. 'w', id, v) end
  if x.st == 6 then
    call('ZADD', P .. 'parked', x.f, id)
    call('SADD', P .. 'parked:' .. j.task, id)
    call('HINCRBY', P .. 'parked_tasks', j.task, 1)
    count(j.q, 6, 1)
  elseif x.r > now then
    call('ZADD', P .. 'later', x.r, id)
    count(j.q, x.a > 0 and 't' or 's', 1)
  else
    add_ready(j.q, x.u == 1, {j.p, member_of(j.s, id)})
  end
end

local function remove_waiting(id, j, x)
  call('HDEL', P .. 'w', id)
  if x.st == 6 then
    call('ZREM', P .. 'parked', id)
    call('SREM', P .. 'parked:' .. j.task, id)
    if call('HINCRBY', P .. 'parked_tasks', j.task, -1) == 0 then
      call('HDEL', P .. 'parked_tasks', j.task)
    end
    count(j.q, 6, -1)
  elseif call('ZREM', P .. 'later', id) == 1 then
    count(j.q, x.a > 0 and 't' or 's', -1)
  else
    local kind = x.u == 1 and 'suspect:' or 'ready:'
    call('ZREM', P .. kind .. j.q, member_of(j.s, id))
    if call('EXISTS', P .. kind .. j.q) == 0 then call('SREM', P .. 'queues:' .. kind, j.q) end
  end
end

local function remove_running(id, v)
  local _, owner, q = names_of(v)
  call('HDEL', P .. 'run', id)
  call('HDEL', P .. 'progress', id)
  call('SREM', P .. 'held:' .. owner, id)
  call('SREM', P .. 'started:' .. owner, sub(v, 1, 10))
  count(q, 1, -1)
end

-- Note from when an ended job may be pruned: a success by its end (s) or by a lifetime of its own
-- (k), others by their end (f); one whose unique key is still held first waits for that (u).
local function shelve(id, j, st, finished)
  if is_held(j) then
    call('ZADD', P .. 'old:u', j.till, id)
  elseif st ~= 2 then
    call('ZADD', P .. 'old:f', finished, id)
  elseif j.keep >= 0 then
    call('ZADD', P .. 'old:k', finished + j.keep, id)
  else
    call('ZADD', P .. 'old:s', finished, id)
  end
end

local function place_ended(id, j, v)
  local x = read_state(v)
  call('SET', P .. 'd:' .. id, v)
  if not is_held(j) then free_key(j) end
  shelve(id, j, x.st, x.f)
  count(j.q, x.st, 1)
  if x.st ~= 2 then call('ZADD', P .. 'failed', j.s, id) end
  if x.g ~= '' then
    call('ZADD', P .. 'group:' .. x.g, j.s, id)
    call('ZADD', P .. 'times:' .. x.g, x.f, id)
    call('ZADD', P .. 'groups', call('ZRANGE', P .. 'times:' .. x.g, -1, -1, 'WITHSCORES')[2], x.g)
  end
end

local function remove_ended(id, j, v)
  local x = read_state(v)
  call('DEL', P .. 'd:' .. id)
  for kind in string.gmatch('skfu', '.') do call('ZREM', P .. 'old:' .. kind, id) end
  count(j.q, x.st, -1)
  if x.st ~= 2 then call('ZREM', P .. 'failed', id) end
  if x.g ~= '' then
    call('ZREM', P .. 'group:' .. x.g, id)
    call('ZREM', P .. 'times:' .. x.g, id)
    local last = call('ZRANGE', P .. 'times:' .. x.g, -1, -1, 'WITHSCORES')[2]
    if last then call('ZADD', P .. 'groups', last, x.g) else call('ZREM', P .. 'groups', x.g) end
  end
end

local function forget(id, j)  -- all that is left of a job that is in no place any more
  call('DEL', P .. 'j:' .. id, P .. 'a:' .. id)
  call('ZREM', P .. 'all', id)
  free_key(j)
end

local function state_of(id, j)  -- wherever the job is
  return call('HGET', P .. 'run', id) or call('GET', P .. 'd:' .. id)
    or call('HGET', P .. 'w', id) or fresh_state(j)
end

local function promote()  -- make scheduled jobs ready whose time has come
  local due = call('ZRANGEBYSCORE', P .. 'later', '-inf', now, 'LIMIT', 0, 500)
  for _, id in ipairs(due) do
    local j, v = job_of(id), call('HGET', P .. 'w', id)
    call('ZREM', P .. 'later', id)
    if j then
      count(j.q, v and read_state(v).a > 0 and 't' or 's', -1)
      place_waiting(id, j, v)
    end
  end
  return #due
end

-- ---- totals ----

-- TOTAL: index of the bounds of its duration and its wait, then kind, outcome and queue, each with
-- its length, and task. All that is not counted here comes from the caller: see "apply".
local function bounds_of_totals() return call('HGET', P .. 'store', 'totals') end  -- false: none are kept

local function total_of(kind, outcome, q, task, took, waited)
  return pack('>BBBc0Bc0Bc0', took, waited, #kind, kind, #outcome, outcome, #q, q) .. task
end

local function add_total(total, n, took, waited)
  call('HINCRBY', P .. 'totals', total, n)
  if took > 0 then call('HINCRBYFLOAT', P .. 'took', total, string.format('%.17g', took)) end
  if waited > 0 then call('HINCRBYFLOAT', P .. 'waited', total, string.format('%.17g', waited)) end
end

-- ---- roll-ups ----

-- ROLLUP: the minute's number, bucket + 1, then kind and queue, each with its length, and task. What is
-- counted comes from the caller: a list of ROLLUP, count and seconds.
local function add_rollups(list)
  for at = 1, #list, 3 do
    local minute = unpack_('>I4', list[at])
    local hour = string.format('%d', (minute - minute % 60) * 60)
    local key = P .. 'rollups:' .. hour
    if call('HINCRBY', key, 'n' .. list[at], list[at + 1]) == tonumber(list[at + 1]) then
      call('ZADD', P .. 'rollups', hour, hour)
    end
    call('HINCRBYFLOAT', key, 's' .. list[at], list[at + 2])
  end
end

-- ---- storing new jobs ----

-- Store jobs, given as id and JOB without its seq; returns id and holder of each refused one.
local function add(jobs)
  local refused, all, ready, later, queues = {}, {}, {}, {}, {}
  local new = bounds_of_totals() and {}
  local head, j
  local s = call('HINCRBY', P .. 'store', 'seq', #jobs / 2) - #jobs / 2
  for at = 1, #jobs, 2 do
    local id, data = jobs[at], jobs[at + 1]
    s = s + 1
    -- Jobs of one call are mostly alike but for id and record.
    local first = sub(data, 1, unpack_('>I4', data) - 8)
    if first ~= head then
      head, j = first, read_job(pack('>I8', s) .. data)
    end
    j.s = s
    local holder
    if j.key ~= '' and call('EXISTS', P .. 'j:' .. id) == 0 then holder = take_key(id, j) end
    if holder then
      refused[#refused + 1] = id
      refused[#refused + 1] = holder
    elseif call('SET', P .. 'j:' .. id, pack('>I8', s) .. data, 'NX') then
      all[#all + 1] = s
      all[#all + 1] = id
      queues[j.q] = true
      if new then
        local total = total_of('enqueued', '', j.q, j.task, 0, 0)
        new[total] = (new[total] or 0) + 1
      end
      if j.r > now then
        later[#later + 1] = j.r
        later[#later + 1] = id
        count(j.q, 's', 1)
      else
        local list = ready[j.q] or {}
        ready[j.q] = list
        list[#list + 1] = j.p
        list[#list + 1] = member_of(s, id)
      end
    end
  end
  add_all('ZADD', P .. 'all', all)
  add_all('ZADD', P .. 'later', later)
  for q, list in pairs(ready) do
    if add_ready(q, false, list) == 0 then queues[q] = nil end  -- it had jobs before
  end
  for q in pairs(queues) do call('SADD', P .. 'queues', q) end
  for total, n in pairs(new or {}) do add_total(total, n, 0, 0) end
  return refused
end

local function waiting_in(q)  -- PENDING jobs of a queue
  local n = call('ZCARD', P .. 'ready:' .. q) + call('ZCARD', P .. 'suspect:' .. q)
  for _, kind in ipairs({'s', 't'}) do n = n + (call('HGET', P .. 'counts', kind .. q) or 0) end
  return n
end

-- The name of a queue that so many more jobs would make too long; nil when all fit.
local function full_queue(more, most)
  for q, n in pairs(more) do
    if waiting_in(q) + n > most then return q end
  end
end

local function arguments(from)
  local got = {}
  for at = from, #ARGV do got[#got + 1] = ARGV[at] end
  return got
end

-- The next list among the arguments, which begins with its length; and where the one after it begins.
local function listed(at)
  local got, n = {}, tonumber(ARGV[at])
  for place = at + 1, at + n do got[#got + 1] = ARGV[place] end
  return got, at + n + 1
end

local function set_of(list)
  local got = {}
  for _, one in ipairs(list) do got[one] = true end
  return got
end

-- What is stored of schedules, by name. Lua cannot unpack a long list.
local function records_of(names)
  local got = {}
  for at = 1, #names, 2000 do
    local part = call('HMGET', P .. 'schedules', unpack(names, at, math.min(at + 1999, #names)))
    for _, v in ipairs(part) do got[#got + 1] = v end
  end
  return got
end

-- What readers get of a job: id, JOB and record, STATE, progress.
local function add_seen(rows, id)
  local data = call('GET', P .. 'j:' .. id)
  if not data then return end
  local v = state_of(id, read_job(data))
  rows[#rows + 1] = {id, data, v, call('HGET', P .. 'progress', id) or ''}
end

-- ============================================================================================

--@ open
-- Who the store is. ARGV: an id for a new store, empty where this process has used one before.
if ARGV[2] ~= '' and call('HSETNX', P .. 'store', 'id', ARGV[2]) == 1 then
  call('HSET', P .. 'store', 'version', 1, 'control', 0, 'seq', 0)
end
local got = call('HMGET', P .. 'store', 'id', 'version', 'control')
local time = call('TIME')
return {got[1] or '', tonumber(got[2] or 0), tonumber(got[3] or 0), time[1], time[2]}

--@ enqueue
-- ARGV: most jobs of a queue ('' no limit), then id and JOB of each. All or nothing. Returns the name
-- of a full queue or '', then id and holder of each job whose unique key is taken.
local jobs = arguments(3)
if ARGV[2] ~= '' then
  local more, here, taken = {}, {}, {}
  for at = 1, #jobs, 2 do
    local id, j = jobs[at], read_job(pack('>I8', 0) .. jobs[at + 1])
    local is_new = not here[id] and call('EXISTS', P .. 'j:' .. id) == 0
    local is_free = j.key == '' or not (taken[j.key] or holder_of(j.key))
    if is_new and is_free then
      more[j.q] = (more[j.q] or 0) + 1
      taken[j.key] = j.key ~= ''
    end
    here[id] = true
  end
  local full = full_queue(more, tonumber(ARGV[2]))
  if full then return {full} end
end
local refused = add(jobs)
ring()
return {'', unpack(refused)}

--@ enqueue_plain
-- Do as "enqueue" with one job that is due, has no unique key and is for a queue without a limit, in
-- half the time: nearly all jobs that are stored one by one are like that. ARGV: id, JOB.
local id, data = ARGV[2], ARGV[3]
local s = call('HINCRBY', P .. 'store', 'seq', 1)
local place = pack('>I8', s)
if call('SET', P .. 'j:' .. id, place .. data, 'NX') then
  local _, p, _, _, _, _, q, task = unpack_('>I4i4ddddBc0I4c0', data)
  call('ZADD', P .. 'all', s, id)
  call('ZADD', P .. 'ready:' .. q, p, place .. id)
  if call('SADD', P .. 'queues:ready:', q) == 1 then call('SADD', P .. 'queues', q) end
  if bounds_of_totals() then add_total(total_of('enqueued', '', q, task, 0, 0), 1, 0, 0) end
end
ring()

--@ stage
-- Keep a part of a large number of jobs, until "commit" says that all are here. ARGV: token, jobs.
local key = P .. 'stage:' .. ARGV[2]
add_all('RPUSH', key, arguments(3))
call('EXPIRE', key, 3600)  -- whose caller dies before the commit
return 1

--@ commit
-- From now on the staged jobs are enqueued, by whoever. ARGV: token, most, then queue and number of
-- jobs, for each queue. Returns whether the jobs are here, and the name of a full queue or ''.
local token, more = ARGV[2], {}
if call('ZSCORE', P .. 'bulks', token) then return {1, ''} end  -- a repeated call
for at = 4, #ARGV, 2 do more[ARGV[at]] = tonumber(ARGV[at + 1]) end
local full = ARGV[3] ~= '' and full_queue(more, tonumber(ARGV[3]))
if full then
  call('DEL', P .. 'stage:' .. token)
  return {1, full}
end
local is_here = call('PERSIST', P .. 'stage:' .. token)
if is_here == 1 then call('ZADD', P .. 'bulks', now, token) end
return {is_here, ''}

--@ unstage
-- Store a part of the jobs that were staged. ARGV: token, number. Returns how many are left.
local key, token = P .. 'stage:' .. ARGV[2], ARGV[2]
local part = call('LPOP', key, 2 * tonumber(ARGV[3]))
if part then
  local refused = add(part)
  if #refused > 0 then
    add_all('RPUSH', P .. 'refused:' .. token, refused)
    call('EXPIRE', P .. 'refused:' .. token, 600)
  end
  ring()
end
local left = call('LLEN', key) / 2
if left == 0 then call('ZREM', P .. 'bulks', token) end
return left

--@ refused
-- Of staged jobs: id and holder of each whose unique key was taken. ARGV: token.
return call('LRANGE', P .. 'refused:' .. ARGV[2], 0, -1)

--@ claim
-- ARGV: most, owner, token, suspects, turn, whether queues are named, whether the code of all jobs
-- starts at once; then three lists: the queues, those left out, tasks left out. Returns the records,
-- last what a claim changes in each of them.
local most, owner, token = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local named, at = listed(9)
local excluded, without
excluded, at = listed(at)
without, at = listed(at)
local skipped = set_of(excluded)
for _, q in ipairs(call('HKEYS', P .. 'paused')) do skipped[q] = true end
local unwanted, is_choosy = set_of(without), #without > 0
local first = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')[2]
if first and tonumber(first) <= now then promote() end

local function served(kind)
  local names = named
  if ARGV[7] == '0' then
    names = call('SMEMBERS', P .. 'queues:' .. kind)
    table.sort(names)
  end
  local turned, k = {}, ARGV[7] == '0' and #names > 0 and tonumber(ARGV[6]) % #names or 0
  for place = 1, #names do
    local q = names[(place + k - 1) % #names + 1]
    if not skipped[q] then turned[#turned + 1] = q end
  end
  return turned
end

local MOST_LOOKED_AT = 10000  -- jobs of unwanted tasks, so that a claim takes a few milliseconds

local function take_wanted(key, left)
  local got, start = {}, 0
  while #got < 2 * left and start < MOST_LOOKED_AT do
    local part = call('ZRANGE', key, start, start + 199, 'WITHSCORES')
    for place = 1, #part, 2 do
      local j = #got < 2 * left and job_of(sub(part[place], 9))
      if j and not unwanted[j.task] then
        got[#got + 1] = part[place]
        got[#got + 1] = part[place + 1]
      end
    end
    if #part < 400 then break end
    start = start + 200
  end
  for place = 1, #got, 2 do call('ZREM', key, got[place]) end
  return got
end

local function take(kind, q, left)
  local key = P .. kind .. q
  local got = is_choosy and take_wanted(key, left) or not is_choosy and call('ZPOPMIN', key, left)
  if call('EXISTS', key) == 0 then call('SREM', P .. 'queues:' .. kind, q) end
  return got
end

local records, heads, marks = {}, {}, {}
local has_states = call('EXISTS', P .. 'w') == 1

-- A fresh job differs from others in seq and run_at alone, which are copied as they are.
local function lend(members, q, suspect)
  local ids, places, claimed, taken, used = {}, {}, {}, {}, {}
  for place = 1, #members, 2 do
    local id = sub(members[place], 9)
    ids[#ids + 1] = id
    places[#places + 1] = P .. 'j:' .. id
  end
  if #ids == 0 then return end
  local jobs = call('MGET', unpack(places))
  local states = has_states and call('HMGET', P .. 'w', unpack(ids)) or {}
  local names = pack('>Bc0Bc0', #owner, owner, #q, q)
  local first, last = token .. pack('>I4BBI4I4', 1, 1, suspect, 1, 1), pack('>dd', now, -1) .. names
  local first_head, fresh_last = token .. pack('>I4BI4I4', 1, suspect, 1, 1), last .. NO_TEXTS
  for place, id in ipairs(ids) do
    local data, v = jobs[place], states[place]
    if data then  -- else somebody, or an eviction policy, has deleted it
      local s, n = sub(data, 1, 8), #records + 1
      if v then
        local x = read_state(v)
        local e, a, d = x.e + 1, x.a + 1, x.d + 1
        claimed[2 * #taken + 2] = s .. token .. pack('>I4BBI4I4d', e, 1, suspect, a, d, x.r) .. last
          .. pack('>I4I4c0', 0, #x.err, x.err)
        heads[n] = s .. token .. pack('>I4BI4I4d', e, suspect, a, d, x.r)
        used[#used + 1] = id
      else
        local run_at = sub(data, 17, 24)
        claimed[2 * #taken + 2] = s .. first .. run_at .. fresh_last
        heads[n] = s .. first_head .. run_at
      end
      claimed[2 * #taken + 1] = id
      taken[#taken + 1] = id
      marks[n] = s .. token
      records[n] = sub(data, unpack_('>I4', data, 9) + 1)
    end
  end
  if #taken == 0 then return end
  call('HSET', P .. 'run', unpack(claimed))
  call('SADD', P .. 'held:' .. owner, unpack(taken))
  if #used > 0 then call('HDEL', P .. 'w', unpack(used)) end
  count(q, 1, #taken)
end

if tonumber(ARGV[5]) > 0 then
  for _, q in ipairs(served('suspect:')) do
    lend(take('suspect:', q, 1), q, 1)
    if #records > 0 then break end
  end
end
for _, q in ipairs(served('ready:')) do
  if #records >= most then break end
  lend(take('ready:', q, most - #records), q, 0)
end
if #records == 0 then return {} end
call('SADD', P .. 'owners', owner)
if ARGV[8] == '1' then
  add_all('SADD', P .. 'started:' .. owner, marks)
end
records[#records + 1] = table.concat(heads)
return records

--@ give_back
-- Undo claims that no caller has received: see transitions.released. ARGV: owner, token.
local n = 0
for _, id in ipairs(call('SMEMBERS', P .. 'held:' .. ARGV[2])) do
  local v = call('HGET', P .. 'run', id)
  if v and sub(v, 9, 10) == ARGV[3] then
    local x, j = read_state(v), job_of(id)
    remove_running(id, v)
    if j then
      place_waiting(id, j, sub(v, 1, 8) .. pack('>I2I4BBI4I4ddd', 0, x.e, 0, x.u, x.a - 1, x.d - 1,
        x.r, -1, -1) .. sub(v, NAMES))
      n = n + 1
    end
  end
end
if n > 0 then ring() end
return n

--@ finish
-- Close attempts that plainly succeeded. ARGV: the new states up to their times, one after the other;
-- a byte for each, 1 where more than the end has to be written (a unique key, a lifetime of its own); a
-- list of what all of them together add to roll-ups; then id and result of each. Returns a digit for
-- each: 1 also where this very delivery was accepted before. Returns nothing, and does nothing, where
-- there are several and some of them cannot be closed: the roll-ups are of all.
local find, heads, have_more = string.find, ARGV[2], ARGV[3]
local ids, out = {}, {}
local rollups, first = listed(4)
for at = first, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
local bounds, sums = bounds_of_totals(), {}
bounds = bounds and cmsgpack.unpack(bounds)

local function place_in(list, secs)  -- of the first bound that is not exceeded
  for place, bound in ipairs(list) do
    if secs <= bound then return place - 1 end
  end
  return #list
end

local function count_success(j, new)
  local run_at, began, ended = unpack_('>ddd', new, NAMES - 24)
  if not j or began <= 0 then return end
  local took, waited = math.max(0, ended - began), math.max(0, began - math.max(j.c, run_at))
  local total = total_of('attempt', 'success', j.q, j.task, place_in(bounds[1], took), place_in(bounds[2], waited))
  local sum = sums[total] or {0, 0, 0}
  sums[total] = {sum[1] + 1, sum[2] + took, sum[3] + waited}
end

local states = call('HMGET', P .. 'run', unpack(ids))
if #ids > 1 then
  local once = {}
  for place, id in ipairs(ids) do
    local at = (place - 1) * TIMES
    local is_open = states[place] and find(states[place], sub(heads, at + 1, at + FENCE), 1, true) == 1
    if once[id] or not is_open then return '' end
    once[id] = true
  end
end
local gone, ends, old, groups, seen = {}, {}, {}, {}, {}
local names, group = nil, nil  -- of the job before: mostly the same owner and queue
for place, id in ipairs(ids) do
  local v, at = states[place], (place - 1) * TIMES
  local fence = sub(heads, at + 1, at + FENCE)
  if v and find(v, fence, 1, true) == 1 then
    if not seen[id] then
      seen[id] = true
      if not names or sub(v, NAMES, NAMES + #names - 1) ~= names then
        local owner, q
        names, owner, q = names_of(v)
        group = groups[names] or {owner = owner, q = q, ids = {}, marks = {}}
        groups[names] = group
      end
      local members = group.ids
      members[#members + 1] = id
      group.marks[#members] = sub(v, 1, 10)
      gone[#gone + 1] = id
      local new = sub(heads, at + 1, at + TIMES) .. names .. NO_TEXTS .. ARGV[first + 2 * place - 1]
      if bounds then count_success(job_of(id), new) end
      local j = byte(have_more, place) == 1 and job_of(id)
      if j then
        call('HDEL', P .. 'run', id)  -- first: then the server takes the rest though it is full
        place_ended(id, j, new)
        count(group.q, 2, -1)  -- counted below
      else
        local n = #ends
        ends[n + 1], ends[n + 2] = P .. 'd:' .. id, new
        old[n + 1], old[n + 2] = unpack_('>d', heads, at + FINISHED), id
      end
    end
    out[place] = '1'
  else
    local was = call('GETRANGE', P .. 'd:' .. id, 0, FENCE - 1)
    if was == '' then was = sub(call('HGET', P .. 'w', id) or '', 1, FENCE) end
    out[place] = was == fence and '1' or '0'
  end
end
if #gone > 0 then
  call('HDEL', P .. 'run', unpack(gone))
  if call('EXISTS', P .. 'progress') == 1 then call('HDEL', P .. 'progress', unpack(gone)) end
  if #ends > 0 then
    call('MSET', unpack(ends))
    call('ZADD', P .. 'old:s', unpack(old))
  end
  for _, one in pairs(groups) do
    call('SREM', P .. 'held:' .. one.owner, unpack(one.ids))
    call('SREM', P .. 'started:' .. one.owner, unpack(one.marks))
    count(one.q, 1, -#one.ids)
    count(one.q, 2, #one.ids)
  end
  for total, sum in pairs(sums) do add_total(total, unpack(sum)) end
  add_rollups(rollups)
  ring_results()
end
return table.concat(out)

--@ apply
-- Write each Change of nuvom.core.transitions whose job is still as it was. ARGV for each: id, fence,
-- status before, epoch and new state up to its times, flags, failure group, error, result, closed
-- attempt, the last heartbeat that its worker must not have followed up ('' where that does not matter),
-- a list of children (id and JOB), a list of what it adds to totals (TOTAL, count, seconds it took and
-- had waited), and one of what it adds to roll-ups. Flags: e keeps the error, s settles, a starts anew. Returns a digit
-- for each: 1 also for one that settles and was accepted before.
local function matching(id, j, fence, status)  -- the state of a job that is as it was
  local v
  if status == 1 then
    v = call('HGET', P .. 'run', id)
    return v and sub(v, 1, FENCE) == fence and v
  end
  if status == 0 or status == 6 then
    if call('HEXISTS', P .. 'run', id) == 1 or call('EXISTS', P .. 'd:' .. id) == 1 then return end
    v = call('HGET', P .. 'w', id) or fresh_state(j)
  else
    v = call('GET', P .. 'd:' .. id)
  end
  local is_same = v and sub(v, 1, 8) == sub(fence, 1, 8) and sub(v, 11, 14) == sub(fence, 11, 14)
  return is_same and byte(v, 15) == status and v
end

local function remove(id, j, v, status)
  if status == 1 then
    remove_running(id, v)
  elseif status == 0 or status == 6 then
    remove_waiting(id, j, read_state(v))
  else
    remove_ended(id, j, v)
  end
end

local function renewed(v, status, fence, new, flags, texts)
  local x = read_state(v)
  local token, owner = pack('>I2', x.k), x.o
  if status == 1 then token = '\0\0' end
  if string.find(flags, 's') then token = sub(fence, 9, 10) end
  if string.find(flags, 'a') then token, owner = '\0\0', '' end
  local err = string.find(flags, 'e') and x.err or texts.err
  return sub(fence, 1, 8) .. token .. new .. pack('>Bc0Bc0', #owner, owner, #x.q, x.q)
    .. pack('>I4c0I4c0', #texts.group, texts.group, #err, err) .. texts.result, x.o
end

local out, at = {}, 2
local has_ready, has_ended, has_cancelled = false, false, false
local is_counting = bounds_of_totals()
while at <= #ARGV do
  local id, fence, status, new, flags = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4]
  local texts, closed = {group = ARGV[at + 5], err = ARGV[at + 6], result = ARGV[at + 7]}, ARGV[at + 8]
  local children, totals, rollups
  local beat = ARGV[at + 9]
  children, at = listed(at + 10)
  totals, at = listed(at)
  rollups, at = listed(at)
  local j = job_of(id)
  local v = j and matching(id, j, fence, status)
  if v and beat ~= '' and beat ~= last_beat(read_state(v).o) then v = nil end
  if v and string.find(flags, 'a') and j.key ~= '' and take_key(id, j) then v = nil end
  if v then
    local then_, owner = renewed(v, status, fence, new, flags, texts)
    local st = byte(new, 5)
    remove(id, j, v, status)
    if closed ~= '' then call('RPUSH', P .. 'a:' .. id, pack('>Bc0', #owner, owner) .. closed) end
    if st == 0 or st == 6 then
      place_waiting(id, j, then_)
      has_ready = has_ready or st == 0
    else
      place_ended(id, j, then_)
      has_ended = true
      has_cancelled = has_cancelled or st == 5
    end
    if #children > 0 then
      add(children)
      has_ready = true
    end
    for place = 1, is_counting and #totals or 0, 4 do
      add_total(totals[place], totals[place + 1], tonumber(totals[place + 2]), tonumber(totals[place + 3]))
    end
    add_rollups(rollups)
    out[#out + 1] = '1'
  else
    local was = call('GETRANGE', P .. 'd:' .. id, 0, FENCE - 1)
    if was == '' then was = sub(call('HGET', P .. 'w', id) or '', 1, FENCE) end
    out[#out + 1] = string.find(flags, 's') and was == fence and '1' or '0'
  end
end
if has_cancelled then call('HINCRBY', P .. 'store', 'control', 1) end
if has_ready then ring() end
if has_ended then ring_results() end
return table.concat(out)

--@ report_progress
-- ARGV: id, fence, progress.
local v = call('HGET', P .. 'run', ARGV[2])
if not v or sub(v, 1, FENCE) ~= ARGV[3] then return 0 end
call('HSET', P .. 'progress', ARGV[2], ARGV[4])
return 1

--@ beat
-- A worker's heartbeat, which renews all its leases. Returns the time, then id and epoch of what it
-- still holds. ARGV: owner.
call('ZADD', P .. 'beats', now, ARGV[2])
call('ZADD', P .. 'seen', now, ARGV[2])
local time = call('TIME')
local out = {time[1], time[2]}
for _, id in ipairs(call('SMEMBERS', P .. 'held:' .. ARGV[2])) do
  local v = call('HGET', P .. 'run', id)
  if v then
    out[#out + 1] = id
    out[#out + 1] = unpack_('>I4', v, 11)
  end
end
return out

--@ find_lost
-- Promote due jobs; return deliveries whose lease has ended or whose worker is known to be dead, then
-- jobs that were parked for too long. ARGV: length of a lease, parked before, list of dead workers.
local lease, parked_before = tonumber(ARGV[2]), ARGV[3]
local dead = set_of((listed(4)))
if promote() > 0 then ring() end
-- Nobody could renew a lease before the server had started.
local began = 0
if ARGV[1] == '' then
  local ok, text = pcall(call, 'INFO', 'server')
  local up = ok and string.match(text, 'uptime_in_seconds:(%d+)')
  if up then began = now - tonumber(up) end
end
local lost, parked = {}, {}
for _, owner in ipairs(call('SMEMBERS', P .. 'owners')) do
  local told = last_beat(owner)
  local beat = math.max(tonumber(told), began)
  if #lost < 1000 and (dead[owner] or now - lease >= beat) then
    local ids = call('SMEMBERS', P .. 'held:' .. owner)
    if #ids == 0 then call('SREM', P .. 'owners', owner) end
    for _, id in ipairs(ids) do
      local v, data = call('HGET', P .. 'run', id), call('GET', P .. 'j:' .. id)
      if not v then
        call('SREM', P .. 'held:' .. owner, id)
      elseif not data then
        remove_running(id, v)
      elseif (dead[owner] or now - lease >= math.max(unpack_('>d', v, 33), beat)) then
        local mark = call('SISMEMBER', P .. 'started:' .. owner, sub(v, 1, 10))
        lost[#lost + 1] = {id, data, v, '', mark, told}
      end
    end
  end
end
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'parked', '-inf', parked_before, 'LIMIT', 0, 500)) do
  add_seen(parked, id)
end
return {lost, parked}

--@ forget_workers
-- Forget workers that have ended, and those silent for long. ARGV: silent since before, workers.
local ids = arguments(3)
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'seen', '-inf', '(' .. ARGV[2])) do ids[#ids + 1] = id end
for _, id in ipairs(ids) do
  call('HDEL', P .. 'workers', id)
  call('ZREM', P .. 'beats', id)
  call('ZREM', P .. 'seen', id)
  call('DEL', P .. 'words:' .. id)
  if call('EXISTS', P .. 'held:' .. id) == 0 then
    call('DEL', P .. 'started:' .. id)
    call('SREM', P .. 'owners', id)
  end
end
return #ids

--@ pause
-- ARGV: queue, '=' and by whom; '' resumes it. Returns whether it was paused.
local was = call('HEXISTS', P .. 'paused', ARGV[2])
if ARGV[3] ~= '' then
  call('HSET', P .. 'paused', ARGV[2], sub(ARGV[3], 2))
  call('HSET', P .. 'paused_at', ARGV[2], string.format('%.17g', now))
  call('SADD', P .. 'queues', ARGV[2])
else
  call('HDEL', P .. 'paused', ARGV[2])
  call('HDEL', P .. 'paused_at', ARGV[2])
  ring()
end
call('HINCRBY', P .. 'store', 'control', 1)
return was

--@ remove_ready
-- Remove ready jobs of a queue. ARGV: queue, number. Returns how many.
local n = 0
for _, kind in ipairs({'ready:', 'suspect:'}) do
  local got = call('ZPOPMIN', P .. kind .. ARGV[2], tonumber(ARGV[3]))
  for place = 1, #got, 2 do
    local id = sub(got[place], 9)
    local j = job_of(id)
    call('HDEL', P .. 'w', id)
    if j then forget(id, j) end
    n = n + 1
  end
  if call('EXISTS', P .. kind .. ARGV[2]) == 0 then call('SREM', P .. 'queues:' .. kind, ARGV[2]) end
end
return n

--@ remove_others
-- Remove scheduled and parked jobs of a queue, or of all. ARGV: later or parked, queue, how many to
-- pass over, number to look at. Returns how many were removed, and how many were looked at.
local start, n = tonumber(ARGV[4]), 0
local ids = call('ZRANGE', P .. ARGV[2], start, start + tonumber(ARGV[5]) - 1)
for _, id in ipairs(ids) do
  local j = job_of(id)
  if j and (ARGV[3] == '' or ARGV[3] == j.q) then
    remove_waiting(id, j, read_state(call('HGET', P .. 'w', id) or fresh_state(j)))
    forget(id, j)
    n = n + 1
  end
end
return {n, #ids}

--@ prune
-- ARGV: end of successes before, end of others before, number. Returns how many were removed.
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'old:u', '-inf', now, 'LIMIT', 0, 500)) do
  local j, v = job_of(id), call('GET', P .. 'd:' .. id)
  call('ZREM', P .. 'old:u', id)
  if j and v then
    local x = read_state(v)
    shelve(id, j, x.st, x.f)
  end
end
local n, most = 0, tonumber(ARGV[4])
for kind, before in pairs({s = ARGV[2], f = ARGV[3], k = string.format('%.17g', now)}) do
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'old:' .. kind, '-inf', '(' .. before, 'LIMIT', 0, most - n)) do
    local j, v = job_of(id), call('GET', P .. 'd:' .. id)
    call('ZREM', P .. 'old:' .. kind, id)
    if j and v then
      remove_ended(id, j, v)
      forget(id, j)
      n = n + 1
    end
  end
end
return n

--@ announce
-- ARGV: worker, what it says of itself.
call('HSET', P .. 'workers', ARGV[2], ARGV[3])
call('ZADD', P .. 'seen', now, ARGV[2])
return 1

--@ announced
-- What each worker says of itself, the age of its heartbeat, how many jobs it holds. ARGV: the dead.
local dead, out = set_of(arguments(2)), {}
local got = call('HGETALL', P .. 'workers')
for place = 1, #got, 2 do
  local id = got[place]
  if not dead[id] then
    local age = now - tonumber(call('ZSCORE', P .. 'seen', id) or 0)
    out[#out + 1] = {got[place + 1], string.format('%.17g', age), call('SCARD', P .. 'held:' .. id)}
  end
end
return out

--@ push_command
-- ARGV: worker, word.
call('HINCRBY', P .. 'store', 'control', 1)
if call('HEXISTS', P .. 'workers', ARGV[2]) == 0 then return 0 end
call('RPUSH', P .. 'words:' .. ARGV[2], ARGV[3])
return 1

--@ take_commands
-- ARGV: worker.
local got = call('LRANGE', P .. 'words:' .. ARGV[2], 0, -1)
call('DEL', P .. 'words:' .. ARGV[2])
return got

--@ get
-- ARGV: id.
local rows = {}
add_seen(rows, ARGV[2])
return rows

--@ attempts
-- ARGV: id. Each is the worker with its length, then what was closed.
return call('LRANGE', P .. 'a:' .. ARGV[2], 0, -1)

--@ page
-- Jobs by seq, the latest first, of those in a part of the list that are wanted. ARGV: all or failed,
-- seq below which to look ('' none), id below which where that is not known, number to look at,
-- queue or '', task ('=' and its name) or '', list of statuses. Returns the seq below which to go on
-- ('' at the end) and the id of that job, then the jobs.
local below = ARGV[3] ~= '' and '(' .. ARGV[3] or '+inf'
if ARGV[4] ~= '' then
  local s = call('ZSCORE', P .. 'all', ARGV[4])
  if not s then  -- it was removed; ids are in order of time, but those of one moment in any order
    local low, high = 0, call('ZCARD', P .. 'all')
    while low < high do
      local place = math.floor((low + high) / 2)
      if call('ZREVRANGE', P .. 'all', place, place)[1] > ARGV[4] then low = place + 1 else high = place end
    end
    local ids = call('ZREVRANGE', P .. 'all', math.max(0, low - 100), low, 'WITHSCORES')
    for place = #ids - 1, 1, -2 do
      if ids[place] < ARGV[4] then s = tostring(tonumber(ids[place + 1]) + 1) end
    end
  end
  below = '(' .. (s or '0')
end
local wanted, is_choosy = set_of((listed(8))), ARGV[8] ~= '0'
local got = call('ZREVRANGEBYSCORE', P .. ARGV[2], below, '-inf', 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[5]))
local is_part = #got == 2 * tonumber(ARGV[5])
local rows = {is_part and got[#got] or '', is_part and got[#got - 1] or ''}
for place = 1, #got, 2 do
  local j = (ARGV[6] ~= '' or ARGV[7] ~= '') and job_of(got[place])
  local fits = not j or (ARGV[6] == '' or ARGV[6] == j.q) and (ARGV[7] == '' or sub(ARGV[7], 2) == j.task)
  if fits then
    add_seen(rows, got[place])
    local row = rows[#rows]
    if is_choosy and type(row) == 'table' and row[1] == got[place]
        and not wanted[tostring(byte(row[3], 15))] then rows[#rows] = nil end
  end
end
return rows

--@ find_ids
-- Ids with an ending, in a part of the list. ARGV: ending, how many to pass over, number to look at.
-- Returns how many were looked at, then the ids.
local start, ending = tonumber(ARGV[3]), ARGV[2]
local ids = call('ZREVRANGE', P .. 'all', start, start + tonumber(ARGV[4]) - 1)
local out = {#ids}
for _, id in ipairs(ids) do
  if ending == '' or sub(id, -#ending) == ending then out[#out + 1] = id end
end
return out

--@ stats
-- Returns for each queue: name, ready, then by kind s t 1 2 3 4 5 6, the time since which the longest
-- waiting job is ready, who paused it, and when or ''.
while promote() == 500 do end
local function oldest(q)  -- among the first few of each priority: in each, jobs are in order of time
  local least
  for _, kind in ipairs({'ready:', 'suspect:'}) do
    local key, priority, rounds = P .. kind .. q, '-inf', 0
    local got = call('ZRANGEBYSCORE', key, priority, '+inf', 'WITHSCORES', 'LIMIT', 0, 20)
    while #got > 0 and rounds < 50 do
      for place = 1, #got, 2 do
        local id = sub(got[place], 9)
        local j, v = job_of(id), call('HGET', P .. 'w', id)
        local since = j and math.max(j.c, v and read_state(v).r or j.r)
        if since and (not least or since < least) then least = since end
      end
      rounds = rounds + 1
      got = call('ZRANGEBYSCORE', key, '(' .. got[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 20)
    end
  end
  return least and string.format('%.17g', least) or ''
end
local out = {}
for _, q in ipairs(call('SMEMBERS', P .. 'queues')) do
  local row = {q, call('ZCARD', P .. 'ready:' .. q) + call('ZCARD', P .. 'suspect:' .. q)}
  for kind in string.gmatch('st123456', '.') do
    row[#row + 1] = tonumber(call('HGET', P .. 'counts', kind .. q) or 0)
  end
  row[#row + 1] = oldest(q)
  row[#row + 1] = call('HGET', P .. 'paused', q)
  row[#row + 1] = call('HGET', P .. 'paused_at', q) or ''
  out[#out + 1] = row
end
return out

--@ error_groups
-- ARGV: number, number of times. Returns for each group: name, jobs, time of the first and the last,
-- its newest job, times of the latest ones.
local out = {}
for _, name in ipairs(call('ZREVRANGE', P .. 'groups', 0, tonumber(ARGV[2]) - 1)) do
  local id = call('ZRANGE', P .. 'group:' .. name, -1, -1)[1]
  local row = {name, call('ZCARD', P .. 'group:' .. name)}
  row[3] = call('ZRANGE', P .. 'times:' .. name, 0, 0, 'WITHSCORES')[2]
  row[4] = call('ZRANGE', P .. 'times:' .. name, -1, -1, 'WITHSCORES')[2]
  local seen = {}
  if id then add_seen(seen, id) end
  if seen[1] then
    row[5] = seen[1]
    row[6] = {}
    local times = call('ZREVRANGE', P .. 'times:' .. name, 0, tonumber(ARGV[3]) - 1, 'WITHSCORES')
    for place = 2, #times, 2 do row[6][place / 2] = times[place] end
    out[#out + 1] = row
  end
end
return out

--@ failed_ids
-- ARGV: group.
return call('ZREVRANGE', P .. 'group:' .. ARGV[2], 0, -1)

--@ parked_tasks
return call('HGETALL', P .. 'parked_tasks')

--@ parked
-- PARKED jobs of tasks. ARGV: number, tasks.
local rows = {}
for _, task in ipairs(arguments(3)) do
  if #rows < tonumber(ARGV[2]) then
    for _, id in ipairs(call('SRANDMEMBER', P .. 'parked:' .. task, tonumber(ARGV[2]) - #rows)) do
      add_seen(rows, id)
    end
  end
end
return rows

--@ keep_totals
-- ARGV: the bounds of their histograms, as MessagePack.
return call('HSETNX', P .. 'store', 'totals', ARGV[2])

--@ totals
return {call('HGETALL', P .. 'totals'), call('HGETALL', P .. 'took'), call('HGETALL', P .. 'waited')}

--@ rollups
-- The roll-ups of hours, with their seconds. ARGV: the first hour, the last one, how many. Returns the
-- hour to go on with ('' at the end), then the hashes.
local hours = call('ZRANGEBYSCORE', P .. 'rollups', ARGV[2], ARGV[3], 'LIMIT', 0, tonumber(ARGV[4]) + 1)
local out = {hours[tonumber(ARGV[4]) + 1] or ''}
for place = 1, math.min(#hours, tonumber(ARGV[4])) do out[place + 1] = call('HGETALL', P .. 'rollups:' .. hours[place]) end
return out

--@ condense_rollups
-- Combine the minutes of the first hour that is not condensed yet, and forget the oldest hour. ARGV:
-- since when minutes are kept, and hours. Returns whether there was one of either.
local old = call('ZRANGEBYSCORE', P .. 'rollups', '-inf', '(' .. ARGV[3], 'LIMIT', 0, 1)[1]
if old then
  call('DEL', P .. 'rollups:' .. old)
  call('ZREM', P .. 'rollups', old)
end
local from = call('HGET', P .. 'store', 'condensed') or '-inf'
local hour = call('ZRANGEBYSCORE', P .. 'rollups', from, '(' .. ARGV[2], 'LIMIT', 0, 1)[1]
if not hour then
  call('HSET', P .. 'store', 'condensed', ARGV[2])
  return old and 1 or 0
end
local key, sums = P .. 'rollups:' .. hour, {}
local all = call('HGETALL', key)
for at = 1, #all, 2 do
  local minute = unpack_('>I4', all[at], 2)
  local field = sub(all[at], 1, 1) .. pack('>I4', minute - minute % 60) .. sub(all[at], 6)
  sums[field] = (sums[field] or 0) + tonumber(all[at + 1])
end
call('DEL', key)
for field, sum in pairs(sums) do call('HSET', key, field, string.format('%.17g', sum)) end
call('HSET', P .. 'store', 'condensed', string.format('%d', tonumber(hour) + 3600))
return 1

--@ record_audit
-- ARGV: id, entry, how many are kept.
call('ZADD', P .. 'audit', 0, ARGV[2])
call('HSET', P .. 'audit:entries', ARGV[2], ARGV[3])
for _, id in ipairs(call('ZRANGE', P .. 'audit', 0, -tonumber(ARGV[4]) - 1)) do
  call('ZREM', P .. 'audit', id)
  call('HDEL', P .. 'audit:entries', id)
end
return 1

--@ audit
-- The newest entries. ARGV: an id that all are older than, or '+'; how many.
local out = call('ZREVRANGEBYLEX', P .. 'audit', ARGV[2], '-', 'LIMIT', 0, ARGV[3])
for place, id in ipairs(out) do out[place] = call('HGET', P .. 'audit:entries', id) end
return out

--@ has_ready
if #call('ZRANGEBYSCORE', P .. 'later', '-inf', now, 'LIMIT', 0, 1) > 0 then return 1 end
for _, kind in ipairs({'ready:', 'suspect:'}) do
  for _, q in ipairs(call('SMEMBERS', P .. 'queues:' .. kind)) do
    if call('HEXISTS', P .. 'paused', q) == 0 then return 1 end
  end
end
return 0

--@ next_due
-- The time until the next scheduled job is due, or ''.
local got = call('ZRANGEBYSCORE', P .. 'later', '(' .. string.format('%.17g', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return got[2] and string.format('%.17g', tonumber(got[2]) - now) or ''

--@ bulks
-- Large numbers of jobs whose caller may have died after the commit. ARGV: committed before.
return call('ZRANGEBYSCORE', P .. 'bulks', '-inf', ARGV[2])

--@ ring
ring()
return 1

--@ ring_results
ring_results()
return 1

--@ sleep
-- ARGV: name of a sleeper.
return call('SADD', P .. 'sleepers', ARGV[2])

--@ wake
-- ARGV: name of a sleeper.
return call('SREM', P .. 'sleepers', ARGV[2])

--@ change_schedules
-- Write changes of schedules in order, each only if its schedule has the revision that was seen, and
-- store the jobs of those that were written. ARGV: an id of the call, which is repeated if its answer is
-- lost; then for each: name, the revision that was seen (all zeros: none), the new one and the record
-- ('' removes it), due_at or '', a list of jobs (id and JOB). Returns a digit for each: 1 if it was written.
local answered = call('GET', P .. 'changed:' .. ARGV[2])
if answered then return answered end
local function earliest()
  return tonumber(call('ZRANGE', P .. 'schedules:due', 0, 0, 'WITHSCORES')[2] or math.huge)
end
local before, out, new, at = earliest(), {}, {}, 3
while at <= #ARGV do
  local name, seen, after, due, jobs = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], nil
  jobs, at = listed(at + 4)
  local v = call('HGET', P .. 'schedules', name)
  local is_same = v and sub(v, 1, 8) == seen or not v and seen == string.rep('\0', 8) and after ~= ''
  out[#out + 1] = is_same and '1' or '0'
  if is_same then
    for _, one in ipairs(jobs) do new[#new + 1] = one end
    if after == '' then
      call('HDEL', P .. 'schedules', name)
      call('ZREM', P .. 'schedules:names', name)
    else
      call('HSET', P .. 'schedules', name, after)
      if not v then call('ZADD', P .. 'schedules:names', 0, name) end
    end
    if due ~= '' then
      call('ZADD', P .. 'schedules:due', due, name)
    elseif v then
      call('ZREM', P .. 'schedules:due', name)
    end
  end
end
local answer = table.concat(out)
call('SET', P .. 'changed:' .. ARGV[2], answer, 'EX', 60)
if #new > 0 then
  add(new)
  ring()
end
if earliest() < before then call('PUBLISH', P .. 'schedules', '1') end
return answer

--@ schedules_after
-- Schedules by name. ARGV: the first name as ZRANGEBYLEX takes it, number.
local names = call('ZRANGEBYLEX', P .. 'schedules:names', ARGV[2], '+', 'LIMIT', 0, tonumber(ARGV[3]))
return records_of(names)

--@ due_schedules
-- Schedules that are due, the earliest first. ARGV: the time, number.
local names = call('ZRANGEBYSCORE', P .. 'schedules:due', '-inf', ARGV[2], 'LIMIT', 0, tonumber(ARGV[3]))
return records_of(names)

--@ next_schedule
-- The earliest time at which a schedule is due or '', and the server's.
local first = call('ZRANGE', P .. 'schedules:due', 0, 0, 'WITHSCORES')[2]
return {first or '', unpack(call('TIME'))}

--@ keep_outcome
-- Results of jobs whose queue is in another store: an outcome replaces the stored one unless that is
-- final and of the same or a later delivery. ARGV: id, is final, epoch, whether it replaces any, outcome.
local key = P .. 'o:' .. ARGV[2]
local was = call('GET', key)
local epoch = tonumber(ARGV[4])
if was then
  local is_final, before = unpack_('>BI4', was)
  if was == pack('>BI4', is_final, before) .. ARGV[6] then return 1 end  -- a repeated call
  if is_final == 1 and ARGV[5] == '0' and before >= epoch then return 0 end
  epoch = math.max(epoch, before)
else
  call('ZADD', P .. 'outcomes', call('HINCRBY', P .. 'store', 'outcomes', 1), ARGV[2])
end
call('SET', key, pack('>BI4', tonumber(ARGV[3]), epoch) .. ARGV[6])
ring_results()
return 1

--@ outcome
-- ARGV: id.
return call('GET', P .. 'o:' .. ARGV[2]) or ''

--@ outcomes
-- A part of all outcomes, the latest first. ARGV: how many to pass over, number.
local start, out = tonumber(ARGV[2]), {}
for _, id in ipairs(call('ZREVRANGE', P .. 'outcomes', start, start + tonumber(ARGV[3]) - 1)) do
  out[#out + 1] = call('GET', P .. 'o:' .. id) or ''
end
return out

--@ forget_job
-- Remove an outcome, and the job if it has ended. ARGV: id.
local n = call('DEL', P .. 'o:' .. ARGV[2]) + call('ZREM', P .. 'outcomes', ARGV[2])
local j, v = job_of(ARGV[2]), call('GET', P .. 'd:' .. ARGV[2])
if j and v then
  remove_ended(ARGV[2], j, v)
  forget(ARGV[2], j)
  n = n + 1
end
return n
