-- What a call of the backend does, one function each; replaced as a whole by every migration.
--
-- ref is the row number of a job with, in its lowest 16 bits, the token of a delivery. Claims are
-- committed without a flush: the token tells a delivery that a crash has undone from the next one,
-- which has the same epoch.
--
-- Time is the server's; p_now replaces it in tests. The plans of hot functions must not depend on
-- statistics, which are always wrong for a table that fills and empties.

CREATE OR REPLACE FUNCTION nuvom.clock_secs() RETURNS float8 LANGUAGE sql VOLATILE AS $$
    SELECT extract(epoch FROM clock_timestamp())::float8
$$;

-- Take a unique key for a job; false while the job that has it holds on to it.
CREATE OR REPLACE FUNCTION nuvom.take_key(
    p_task text, p_key text, p_seq bigint, p_until float8, p_now float8
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO nuvom.keys AS k (task, key, seq, until) VALUES (p_task, p_key, p_seq, p_until)
        ON CONFLICT (task, key) DO UPDATE SET seq = excluded.seq, until = excluded.until
        WHERE k.seq = excluded.seq
            OR k.until <= p_now AND EXISTS (SELECT FROM nuvom.done d WHERE d.seq = k.seq);
    RETURN found;
END $$;

-- Free the key of a job that has ended, unless it is to be held for longer.
CREATE OR REPLACE FUNCTION nuvom.free_key(p_task text, p_key text, p_seq bigint, p_now float8)
RETURNS void LANGUAGE sql AS $$
    DELETE FROM nuvom.keys WHERE task = p_task AND key = p_key AND seq = p_seq
        AND (until IS NULL OR until <= p_now)
$$;

-- Store a job. Returns the id of the job that holds its key, or null. The same id again is a no-op.
CREATE OR REPLACE FUNCTION nuvom.enqueue(
    p_id text, p_queue text, p_task text, p_priority int, p_created float8, p_run_at float8,
    p_keep float8, p_key text, p_until float8, p_record bytea, p_most int, p_now float8
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    now_ float8 := coalesce(p_now, nuvom.clock_secs());
    s bigint;
    waits int;
BEGIN
    IF p_key IS NOT NULL OR p_most IS NOT NULL THEN
        IF EXISTS (SELECT FROM nuvom.jobs WHERE id = p_id) THEN
            RETURN NULL;
        END IF;
    END IF;
    IF p_most IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('nuvom queue ' || p_queue, 0));
    END IF;
    s := nextval('nuvom.job_seq');
    IF p_key IS NOT NULL AND NOT nuvom.take_key(p_task, p_key, s, p_until, now_) THEN
        RETURN (SELECT nullif(j.id, p_id) FROM nuvom.keys k JOIN nuvom.jobs j ON j.seq = k.seq
            WHERE k.task = p_task AND k.key = p_key);
    END IF;
    IF p_most IS NOT NULL THEN
        SELECT count(*) INTO waits FROM (SELECT FROM nuvom.waiting
            WHERE kind IN (0, 7, 8) AND queue = p_queue LIMIT p_most) AS few;
        IF waits >= p_most THEN
            RAISE EXCEPTION 'the queue is full'
                USING errcode = 'NV001', detail = p_queue, hint = p_most::text;
        END IF;
    END IF;
    INSERT INTO nuvom.jobs (seq, id, queue, task, priority, created_at, keep_secs, unique_key,
            unique_until, record)
        VALUES (s, p_id, p_queue, p_task, p_priority, p_created, p_keep, p_key, p_until, p_record)
        ON CONFLICT (id) DO NOTHING;
    IF found THEN
        INSERT INTO nuvom.waiting (kind, queue, priority, seq, task, created_at, run_at, keep_secs)
            VALUES (CASE WHEN p_run_at > now_ THEN 7 ELSE 0 END,
                p_queue, p_priority, s, p_task, p_created, p_run_at, p_keep);
    END IF;
    RETURN NULL;
END $$;

-- Store many jobs that differ in id and record alone: none has a key, and no queue has a limit.
CREATE OR REPLACE FUNCTION nuvom.enqueue_alike(
    p_ids text[], p_records bytea[], p_queue text, p_task text, p_priority int,
    p_created float8, p_run_at float8, p_keep float8, p_now float8
) RETURNS void LANGUAGE sql AS $$
    WITH new AS (
        INSERT INTO nuvom.jobs (seq, id, queue, task, priority, created_at, keep_secs, record)
        SELECT nextval('nuvom.job_seq'), one.id, p_queue, p_task, p_priority, p_created, p_keep, one.record
        FROM unnest(p_ids, p_records) AS one (id, record)
        ON CONFLICT (id) DO NOTHING RETURNING seq
    )
    INSERT INTO nuvom.waiting (kind, queue, priority, seq, task, created_at, run_at, keep_secs)
    SELECT CASE WHEN p_run_at > coalesce(p_now, nuvom.clock_secs()) THEN 7 ELSE 0 END,
        p_queue, p_priority, seq, p_task, p_created, p_run_at, p_keep FROM new
$$;

-- Make scheduled jobs ready whose time has come.
CREATE OR REPLACE FUNCTION nuvom.promote(p_now float8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE nuvom.waiting SET kind = CASE WHEN suspect THEN 8 ELSE 0 END
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM nuvom.waiting WHERE kind = 7 AND run_at <= p_now
        ORDER BY run_at LIMIT 2000 FOR UPDATE SKIP LOCKED));
END $$;

-- Lease the first jobs of one queue.
CREATE OR REPLACE FUNCTION nuvom.take(
    p_kind smallint, p_queue text, p_most int, p_owner text, p_token int, p_without text[],
    p_starts boolean, p_now float8,
    OUT refs bigint[], OUT epochs bigint[], OUT attempts int[], OUT deliveries int[],
    OUT suspects boolean[], OUT run_ats float8[], OUT sizes int[], OUT records bytea
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH taken AS (
        DELETE FROM nuvom.waiting WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM nuvom.waiting
            WHERE kind = p_kind AND queue = p_queue AND task <> ALL (p_without)
            ORDER BY priority, seq LIMIT p_most FOR UPDATE SKIP LOCKED))
        RETURNING *
    ), leased AS (
        INSERT INTO nuvom.running (seq, queue, priority, task, created_at, run_at, epoch, attempt,
            deliveries, suspect, token, owner, claimed_at, error, keep_secs, started)
        SELECT seq, queue, priority, task, created_at, run_at, epoch + 1, attempt + 1,
            deliveries + 1, suspect, p_token, p_owner, p_now, error, keep_secs, p_starts FROM taken
    )
    SELECT array_agg(seq << 16 | p_token), array_agg(epoch + 1), array_agg(attempt + 1),
        array_agg(deliveries + 1), array_agg(suspect), array_agg(run_at),
        array_agg(length(record)), string_agg(record, '')
    INTO refs, epochs, attempts, deliveries, suspects, run_ats, sizes, records
    FROM (SELECT t.*, j.record FROM taken t
        CROSS JOIN LATERAL (SELECT record FROM nuvom.jobs WHERE seq >= t.seq AND seq <= t.seq) j
        ORDER BY t.priority, t.seq) AS in_order;
END $$;

-- Lease due jobs: at most one that a worker died on first, then ready ones queue by queue. p_starts:
-- the code of all of them starts at once.
CREATE OR REPLACE FUNCTION nuvom.claim(
    p_most int, p_owner text, p_token int, p_queues text[], p_exclude text[], p_without text[],
    p_suspects int, p_turn int, p_starts boolean, p_now float8,
    OUT refs bigint[], OUT epochs bigint[], OUT attempts int[], OUT deliveries int[],
    OUT suspects boolean[], OUT run_ats float8[], OUT sizes int[], OUT records bytea
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    now_ float8 := coalesce(p_now, nuvom.clock_secs());
    paused text[] := ARRAY(SELECT name FROM nuvom.queues WHERE paused_by IS NOT NULL);
    served text[];
    kind_ smallint;
    q text;
    part record;
    wanted int;
BEGIN
    -- A claim that a crash of the server undoes is as if it had never been made.
    PERFORM set_config('synchronous_commit', 'off', true);
    IF EXISTS (SELECT FROM nuvom.waiting WHERE kind = 7 AND run_at <= now_) THEN
        PERFORM nuvom.promote(now_);
    END IF;
    FOREACH kind_ IN ARRAY ARRAY[8, 0] LOOP
        CONTINUE WHEN kind_ = 8 AND (p_suspects < 1
            OR NOT EXISTS (SELECT FROM nuvom.waiting WHERE kind = 8));
        served := p_queues;
        IF served IS NULL THEN
            WITH RECURSIVE named (name) AS (
                (SELECT queue FROM nuvom.waiting WHERE kind = kind_ ORDER BY queue LIMIT 1)
                UNION ALL
                SELECT (SELECT w.queue FROM nuvom.waiting w WHERE w.kind = kind_ AND w.queue > named.name
                    ORDER BY w.queue LIMIT 1)
                FROM named WHERE named.name IS NOT NULL
            )
            SELECT array_agg(name ORDER BY name) INTO served FROM named WHERE name IS NOT NULL;
            wanted := p_turn % greatest(1, cardinality(served));
            served := served[wanted + 1:] || served[:wanted];
        END IF;
        FOREACH q IN ARRAY coalesce(served, '{}') LOOP
            wanted := CASE WHEN kind_ = 8 THEN 1 - coalesce(cardinality(refs), 0)
                ELSE p_most - coalesce(cardinality(refs), 0) END;
            EXIT WHEN wanted <= 0;
            CONTINUE WHEN q = ANY (paused) OR q = ANY (p_exclude);
            SELECT * INTO part FROM nuvom.take(kind_, q, wanted, p_owner, p_token, p_without, p_starts,
                now_);
            CONTINUE WHEN part.refs IS NULL;
            refs := refs || part.refs;
            epochs := epochs || part.epochs;
            attempts := attempts || part.attempts;
            deliveries := deliveries || part.deliveries;
            suspects := suspects || part.suspects;
            run_ats := run_ats || part.run_ats;
            sizes := sizes || part.sizes;
            records := coalesce(records, '') || part.records;
        END LOOP;
    END LOOP;
END $$;

-- Close attempts that plainly succeeded; returns how many. Refs come in ascending order, so that
-- all callers lock rows in the same order.
CREATE OR REPLACE FUNCTION nuvom.finish(
    p_refs bigint[], p_epochs bigint[], p_started float8[], p_finished float8[], p_results bytea[],
    p_is_keyed boolean, p_now float8
) RETURNS int LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    n int;
    rollups jsonb;
BEGIN
    WITH gone AS (
        DELETE FROM nuvom.running r
        USING unnest(p_refs, p_epochs, p_started, p_finished, p_results)
            AS one (ref, epoch, started_at, finished_at, result)
        -- Not "=": then the plan could also read the whole table and search the arrays.
        WHERE r.seq >= one.ref >> 16 AND r.seq <= one.ref >> 16
            AND r.token = one.ref & 65535 AND r.epoch = one.epoch
        RETURNING r.*, one.started_at, one.finished_at, one.result
    ), ended AS (
        INSERT INTO nuvom.done (seq, status, queue, task, run_at, epoch, attempt, deliveries, suspect,
            token, owner, started_at, finished_at, result, keep_secs)
        SELECT seq, 2, queue, task, run_at, epoch, attempt, deliveries - 1, false, token,
            owner, started_at, finished_at, result, keep_secs FROM gone
    ), times AS (  -- as RollupSums.succeeded counts them
        SELECT floor(finished_at / 60)::bigint * 60 AS at, queue, task, started_at > 0 AS has_run,
            greatest(0, finished_at - started_at) AS took,
            greatest(0, started_at - greatest(created_at, run_at)) AS waited FROM gone
    ), counts AS (
        SELECT at, queue, task, 'success' AS kind,
            CASE WHEN has_run THEN nuvom.rollup_bucket(took) ELSE -1 END AS bucket,
            count(*) AS count, coalesce(sum(took) FILTER (WHERE has_run), 0) AS secs
        FROM times GROUP BY 1, 2, 3, 5
        UNION ALL
        SELECT at, queue, '', 'waited', nuvom.rollup_bucket(waited), count(*), sum(waited)
        FROM times WHERE has_run GROUP BY 1, 2, 5
    )
    SELECT (SELECT count(*) FROM gone), jsonb_agg(to_jsonb(counts)) INTO n, rollups FROM counts;
    IF n > 0 THEN
        PERFORM nuvom.add_rollups(rollups);
    END IF;
    IF p_is_keyed THEN
        PERFORM nuvom.free_key(j.task, j.unique_key, j.seq, coalesce(p_now, nuvom.clock_secs()))
        FROM unnest(p_refs) AS one (ref) JOIN nuvom.jobs j ON j.seq = one.ref >> 16
        WHERE j.unique_key IS NOT NULL AND EXISTS (SELECT FROM nuvom.done d WHERE d.seq = j.seq);
    END IF;
    RETURN n;
END $$;

-- Which deliveries have settled their job, and were the last to change it.
CREATE OR REPLACE FUNCTION nuvom.have_settled(p_refs bigint[], p_epochs bigint[])
RETURNS boolean[] LANGUAGE sql AS $$
    SELECT array_agg(
        EXISTS (SELECT FROM nuvom.done d
            WHERE d.seq = one.ref >> 16 AND d.epoch = one.epoch AND d.token = one.ref & 65535)
        OR EXISTS (SELECT FROM nuvom.jobs j JOIN nuvom.waiting w ON w.kind IN (0, 6, 7, 8)
                AND w.queue = j.queue AND w.priority = j.priority AND w.seq = j.seq
            WHERE j.seq = one.ref >> 16 AND w.epoch = one.epoch AND w.token = one.ref & 65535)
        ORDER BY place)
    FROM unnest(p_refs, p_epochs) WITH ORDINALITY AS one (ref, epoch, place)
$$;

-- Apply one Change of nuvom.core.transitions, if its job is still as it was. Returns 1 if it was
-- applied, 2 if it is a worker's report and this very delivery has been settled before, else 0.
CREATE OR REPLACE FUNCTION nuvom.change(
    p_ref bigint, p_epoch bigint, p_before smallint, p_status smallint, p_new_epoch bigint,
    p_attempt int, p_deliveries int, p_suspect boolean, p_run_at float8, p_started float8,
    p_finished float8, p_result bytea, p_error bytea, p_keeps_error boolean, p_group text,
    p_closed bytea, p_settles boolean, p_anew boolean, p_now float8
) RETURNS int LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    now_ float8 := coalesce(p_now, nuvom.clock_secs());
    token_ int := p_ref & 65535;
    j nuvom.jobs;
    was record;
BEGIN
    SELECT * INTO j FROM nuvom.jobs WHERE seq = p_ref >> 16;
    IF NOT found THEN
        RETURN 0;
    END IF;
    IF p_anew AND j.unique_key IS NOT NULL THEN
        PERFORM FROM nuvom.done WHERE seq = j.seq AND status = p_before AND epoch = p_epoch FOR UPDATE;
        IF NOT found OR NOT nuvom.take_key(j.task, j.unique_key, j.seq, j.unique_until, now_) THEN
            RETURN 0;
        END IF;
    END IF;
    IF p_before = 1 THEN
        DELETE FROM nuvom.running WHERE seq = j.seq AND token = token_ AND epoch = p_epoch
            RETURNING owner, error, NULL::int AS token INTO was;
    ELSIF p_before IN (2, 3, 4, 5) THEN
        DELETE FROM nuvom.done WHERE seq = j.seq AND status = p_before AND epoch = p_epoch
            RETURNING owner, error, token INTO was;
    ELSE
        DELETE FROM nuvom.waiting WHERE queue = j.queue AND priority = j.priority AND seq = j.seq
                AND kind = ANY (CASE p_before WHEN 6 THEN '{6}' ELSE '{0,7,8}' END::smallint[])
                AND epoch = p_epoch
            RETURNING owner, error, token INTO was;
    END IF;
    IF NOT found THEN
        RETURN CASE WHEN p_settles AND (nuvom.have_settled(ARRAY[p_ref], ARRAY[p_epoch]))[1]
            THEN 2 ELSE 0 END;
    END IF;
    IF p_closed IS NOT NULL THEN
        INSERT INTO nuvom.attempts (seq, worker, body) VALUES (j.seq, was.owner, p_closed);
    END IF;
    was.error := CASE WHEN p_keeps_error THEN was.error ELSE p_error END;
    was.token := CASE WHEN p_settles THEN token_ WHEN NOT p_anew THEN was.token END;
    was.owner := CASE WHEN NOT p_anew THEN was.owner END;
    IF p_status IN (2, 3, 4, 5) THEN
        INSERT INTO nuvom.done VALUES (j.seq, p_status, j.queue, j.task, p_run_at, p_new_epoch, p_attempt,
            p_deliveries, p_suspect, was.token, was.owner, p_started, p_finished, p_group,
            was.error, p_result, j.keep_secs);
        IF j.unique_key IS NOT NULL THEN
            PERFORM nuvom.free_key(j.task, j.unique_key, j.seq, now_);
        END IF;
    ELSE
        INSERT INTO nuvom.waiting VALUES (
            CASE WHEN p_status = 6 THEN 6 WHEN p_run_at > now_ THEN 7 WHEN p_suspect THEN 8 ELSE 0 END,
            j.queue, j.priority, j.seq, j.task, j.created_at, p_run_at, p_new_epoch, p_attempt,
            p_deliveries, p_suspect, was.token, was.owner, p_started, p_finished, was.error,
            j.keep_secs);
    END IF;
    RETURN 1;
END $$;

-- After the commit of whoever made a job ready: wake one sleeping worker, or, for results, everyone
-- who waits for one. NOTIFY takes a lock over the commit, so nobody is notified who is awake.
CREATE OR REPLACE FUNCTION nuvom.ring(p_for text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    sleeper record;
BEGIN
    IF NOT EXISTS (SELECT FROM nuvom.sleepers WHERE waits_for = p_for) THEN
        RETURN;
    END IF;
    LOOP
        DELETE FROM nuvom.sleepers WHERE channel = (SELECT channel FROM nuvom.sleepers
                WHERE waits_for = p_for LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING channel, pid INTO sleeper;
        EXIT WHEN NOT found;
        -- Whoever was killed in its sleep has left its row.
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_stat_get_activity(sleeper.pid));
        PERFORM pg_notify(sleeper.channel, '');
        EXIT WHEN p_for = 'work';
    END LOOP;
END $$;

-- Deliveries whose lease has ended, or whose worker is known to be dead.
CREATE OR REPLACE FUNCTION nuvom.lost(p_lease_secs float8, p_dead text[], p_now float8)
RETURNS SETOF nuvom.running LANGUAGE sql AS $$
    SELECT r.* FROM nuvom.running r LEFT JOIN nuvom.workers w ON w.id = r.owner
    WHERE r.owner = ANY (p_dead) OR coalesce(p_now, nuvom.clock_secs()) - p_lease_secs >= greatest(
        r.claimed_at, w.renewed_at,
        CASE WHEN p_now IS NULL THEN extract(epoch FROM pg_postmaster_start_time())::float8 END)
    ORDER BY r.seq LIMIT 1000 FOR UPDATE OF r SKIP LOCKED
$$;

-- Every job with its state.
CREATE OR REPLACE VIEW nuvom.seen AS
SELECT j.seq, j.id, j.queue, j.task, j.record, at.*
FROM nuvom.jobs j CROSS JOIN LATERAL (
    SELECT 1::smallint AS kind, r.seq << 16 | r.token AS ref, r.epoch, r.attempt, r.deliveries,
        r.suspect, r.run_at, r.owner, r.claimed_at AS started_at, NULL::float8 AS finished_at,
        r.progress, r.error, NULL::bytea AS result
    FROM nuvom.running r WHERE r.seq = j.seq
    UNION ALL
    SELECT d.status, d.seq << 16 | coalesce(d.token, 0), d.epoch, d.attempt, d.deliveries,
        d.suspect, d.run_at, d.owner, d.started_at, d.finished_at, NULL, d.error, d.result
    FROM nuvom.done d WHERE d.seq = j.seq
    UNION ALL
    SELECT w.kind, w.seq << 16 | coalesce(w.token, 0), w.epoch, w.attempt, w.deliveries,
        w.suspect, w.run_at, w.owner, w.started_at, w.finished_at, NULL, w.error, NULL
    FROM nuvom.waiting w WHERE w.kind = ANY ('{0,6,7,8}'::smallint[])
        AND w.queue = j.queue AND w.priority = j.priority AND w.seq = j.seq
) AS at;

-- Store a job in a transaction of its own, then wake a worker: only one that went to sleep before
-- the commit may have missed the job, and only after the commit can it be seen to sleep.
CREATE OR REPLACE PROCEDURE nuvom.enqueue_now(
    p_id text, p_queue text, p_task text, p_priority int, p_created float8, p_run_at float8,
    p_keep float8, p_key text, p_until float8, p_record bytea, p_most int, p_now float8,
    p_commit text, INOUT holder text
) LANGUAGE plpgsql AS $$
BEGIN
    IF p_commit IS NOT NULL THEN  -- else the connection has it already
        PERFORM set_config('synchronous_commit', p_commit, true);
    END IF;
    holder := nuvom.enqueue(p_id, p_queue, p_task, p_priority, p_created, p_run_at, p_keep, p_key,
        p_until, p_record, p_most, p_now);
    COMMIT;
    PERFORM nuvom.ring('work');
END $$;

CREATE OR REPLACE PROCEDURE nuvom.finish_now(
    p_refs bigint[], p_epochs bigint[], p_started float8[], p_finished float8[], p_results bytea[],
    p_is_keyed boolean, p_locks bigint[], p_now float8, p_commit text, INOUT n int
) LANGUAGE plpgsql AS $$
BEGIN
    IF p_commit IS NOT NULL THEN  -- else the connection has it already
        PERFORM set_config('synchronous_commit', p_commit, true);
    END IF;
    PERFORM pg_advisory_xact_lock(one.key) FROM unnest(p_locks) AS one (key);
    n := nuvom.finish(p_refs, p_epochs, p_started, p_finished, p_results, p_is_keyed, p_now);
    COMMIT;
    PERFORM nuvom.ring('results');
END $$;

-- Undo claims that no caller has received; see ``transitions.released``.
CREATE OR REPLACE FUNCTION nuvom.give_back(p_owner text, p_token int, p_now float8)
RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    now_ float8 := coalesce(p_now, nuvom.clock_secs());
    n int;
BEGIN
    WITH gone AS (DELETE FROM nuvom.running WHERE owner = p_owner AND token = p_token RETURNING *)
    INSERT INTO nuvom.waiting (kind, queue, priority, seq, task, created_at, run_at, epoch, attempt,
        deliveries, suspect, owner, error, keep_secs)
    SELECT CASE WHEN run_at > now_ THEN 7 WHEN suspect THEN 8 ELSE 0 END, queue, priority, seq, task,
        created_at, run_at, epoch, attempt - 1, deliveries - 1, suspect, owner, error, keep_secs
    FROM gone;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;

-- A worker's heartbeat, which renews all its leases; returns what it still holds.
CREATE OR REPLACE FUNCTION nuvom.beat(p_owner text, p_now float8, OUT ids text[], OUT epochs bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    now_ float8 := coalesce(p_now, nuvom.clock_secs());
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO nuvom.workers (id, beat, renewed_at) VALUES (p_owner, now_, now_)
        ON CONFLICT (id) DO UPDATE SET beat = now_, renewed_at = now_;
    SELECT array_agg(j.id), array_agg(r.epoch) INTO ids, epochs
    FROM nuvom.running r JOIN nuvom.jobs j ON j.seq = r.seq WHERE r.owner = p_owner;
END $$;

-- ---- recovery ------------------------------------------------------------------------------

-- Deliveries that are lost, and whether their code had started; none is locked by another reaper.
CREATE OR REPLACE FUNCTION nuvom.take_lost(p_lease_secs float8, p_dead text[], p_now float8)
RETURNS TABLE (ref bigint, record bytea, epoch bigint, attempt int, deliveries int, suspect boolean,
    run_at float8, owner text, has_started boolean)
LANGUAGE sql AS $$
    -- A heartbeat that comes now waits, and then learns what its worker has lost.
    SELECT FROM nuvom.workers w
    WHERE (w.renewed_at IS NULL OR w.renewed_at <= coalesce(p_now, nuvom.clock_secs()) - p_lease_secs)
        AND EXISTS (SELECT FROM nuvom.running r WHERE r.owner = w.id)
    ORDER BY w.id FOR UPDATE;
    SELECT r.seq << 16 | r.token, j.record, r.epoch, r.attempt, r.deliveries, r.suspect, r.run_at,
        r.owner, r.started OR EXISTS (SELECT FROM nuvom.starts s
            WHERE s.owner = r.owner AND r.seq << 16 | r.token = ANY (s.refs))
    FROM nuvom.lost(p_lease_secs, p_dead, p_now) r JOIN nuvom.jobs j ON j.seq = r.seq
$$;

CREATE OR REPLACE FUNCTION nuvom.outdated(p_parked_before float8)
RETURNS SETOF nuvom.seen LANGUAGE sql AS $$
    SELECT * FROM nuvom.seen WHERE seq IN (SELECT seq FROM nuvom.waiting
        WHERE kind = 6 AND finished_at <= p_parked_before LIMIT 1000 FOR UPDATE SKIP LOCKED)
$$;

-- Forget workers that have ended, and those silent since p_beat_before.
CREATE OR REPLACE FUNCTION nuvom.forget_workers(p_ids text[], p_beat_before float8)
RETURNS void LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM nuvom.workers
        WHERE id = ANY (p_ids) OR beat < p_beat_before RETURNING id)
    DELETE FROM nuvom.starts WHERE owner = ANY (p_ids) OR owner IN (SELECT id FROM gone)
$$;

-- ---- control -------------------------------------------------------------------------------

-- Flushed, whatever the setting: a process that has seen this number refuses a store with less.
CREATE OR REPLACE FUNCTION nuvom.bump() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE nuvom.store SET control_version = control_version + 1;
END $$;

-- Pause a queue, or resume it where p_by is null; returns whether it was paused.
CREATE OR REPLACE FUNCTION nuvom.pause(p_queue text, p_by text, p_now float8) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    was text;
BEGIN
    SELECT paused_by INTO was FROM nuvom.queues WHERE name = p_queue FOR UPDATE;
    IF p_by IS NOT NULL OR found THEN
        INSERT INTO nuvom.queues (name, paused_by, paused_at)
            VALUES (p_queue, p_by, CASE WHEN p_by IS NOT NULL THEN p_now END)
            ON CONFLICT (name) DO UPDATE
            SET paused_by = excluded.paused_by, paused_at = excluded.paused_at;
    END IF;
    PERFORM nuvom.bump();
    RETURN was IS NOT NULL;
END $$;

-- Remove everything else that is known of jobs whose row is gone; returns how many there were.
CREATE OR REPLACE FUNCTION nuvom.remove(p_seqs bigint[]) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (DELETE FROM nuvom.jobs WHERE seq = ANY (p_seqs)
        RETURNING seq, queue, task, unique_key),
    keys AS (DELETE FROM nuvom.keys k USING gone
        WHERE k.task = gone.task AND k.key = gone.unique_key AND k.seq = gone.seq)
    INSERT INTO nuvom.queues (name) SELECT DISTINCT queue FROM gone ON CONFLICT DO NOTHING;
    DELETE FROM nuvom.attempts WHERE seq = ANY (p_seqs);
    RETURN coalesce(cardinality(p_seqs), 0);
END $$;

CREATE OR REPLACE FUNCTION nuvom.remove_waiting(p_queue text) RETURNS int LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM nuvom.waiting WHERE p_queue IS NULL OR queue = p_queue RETURNING seq)
    SELECT nuvom.remove((SELECT array_agg(seq) FROM gone))
$$;

CREATE OR REPLACE FUNCTION nuvom.prune(
    p_success_before float8, p_failed_before float8, p_limit int, p_now float8
) RETURNS int LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM nuvom.done WHERE seq = ANY (ARRAY(SELECT d.seq FROM nuvom.done d
        WHERE (d.finished_at < greatest(p_success_before, p_failed_before)
                OR d.keep_secs IS NOT NULL)
            AND d.finished_at < CASE WHEN d.status = 2
                THEN coalesce(p_now - d.keep_secs, p_success_before) ELSE p_failed_before END
            AND NOT EXISTS (SELECT FROM nuvom.jobs j JOIN nuvom.keys k
                    ON k.task = j.task AND k.key = j.unique_key AND k.seq = j.seq
                WHERE j.seq = d.seq AND k.until > p_now)
        ORDER BY d.seq LIMIT p_limit FOR UPDATE SKIP LOCKED)) RETURNING seq)
    SELECT nuvom.remove((SELECT array_agg(seq) FROM gone))
$$;

-- ---- workers -------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION nuvom.announce(p_id text, p_info bytea, p_now float8)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO nuvom.workers (id, info, beat)
    VALUES (p_id, p_info, coalesce(p_now, nuvom.clock_secs()))
    ON CONFLICT (id) DO UPDATE SET info = excluded.info, beat = excluded.beat
$$;

CREATE OR REPLACE FUNCTION nuvom.announced(p_dead text[], p_now float8)
RETURNS TABLE (info bytea, age float8, running bigint) LANGUAGE sql AS $$
    SELECT w.info, coalesce(p_now, nuvom.clock_secs()) - w.beat,
        (SELECT count(*) FROM nuvom.running r WHERE r.owner = w.id)
    FROM nuvom.workers w WHERE w.info IS NOT NULL AND w.id <> ALL (p_dead)
$$;

CREATE OR REPLACE FUNCTION nuvom.push_command(p_id text, p_word text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nuvom.bump();
    UPDATE nuvom.workers SET words = words || p_word WHERE id = p_id AND info IS NOT NULL;
    RETURN found;
END $$;

CREATE OR REPLACE FUNCTION nuvom.take_commands(p_id text) RETURNS text[] LANGUAGE sql AS $$
    WITH left_here AS (SELECT id, words FROM nuvom.workers
        WHERE id = p_id AND words <> '{}' FOR UPDATE)
    UPDATE nuvom.workers w SET words = '{}' FROM left_here WHERE w.id = left_here.id
    RETURNING left_here.words
$$;

CREATE OR REPLACE FUNCTION nuvom.report_progress(p_ref bigint, p_epoch bigint, p_progress text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE nuvom.running SET progress = p_progress
    WHERE seq = p_ref >> 16 AND token = p_ref & 65535 AND epoch = p_epoch;
    RETURN found;
END $$;

-- ---- reading -------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION nuvom.get(p_id text) RETURNS SETOF nuvom.seen LANGUAGE sql STABLE AS $$
    SELECT * FROM nuvom.seen WHERE id = p_id
$$;

CREATE OR REPLACE FUNCTION nuvom.find_ids(p_suffix text, p_limit int)
RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT id FROM nuvom.jobs WHERE right(id, length(p_suffix)) = p_suffix
    ORDER BY seq DESC LIMIT p_limit
$$;

-- The number that jobs before this one are below; null if all are wanted. If that job was removed since,
-- ids tell, which are in order of time, but those of one moment in any order, so some are looked at.
CREATE OR REPLACE FUNCTION nuvom.end_before(p_id text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_id IS NOT NULL THEN coalesce(
        (SELECT seq FROM nuvom.jobs WHERE id = p_id),
        (SELECT 1 + max(n.seq) FROM (
            SELECT seq FROM nuvom.jobs WHERE id < p_id ORDER BY id DESC LIMIT 100) AS n),
        0) END
$$;

-- The tables that hold jobs of these kinds say which they are: there may be few among many.
-- Jobs, the newest first; p_lowest ends the walk through them, unless it is null.
CREATE OR REPLACE FUNCTION nuvom.page(
    p_kinds smallint[], p_queue text, p_task text, p_before text, p_limit int, p_lowest bigint
) RETURNS SETOF nuvom.seen LANGUAGE plpgsql STABLE AS $$
DECLARE
    last bigint := nuvom.end_before(p_before);
BEGIN
    IF p_kinds IS NULL THEN
        RETURN QUERY SELECT * FROM nuvom.seen s
            WHERE (last IS NULL OR s.seq < last) AND (p_queue IS NULL OR s.queue = p_queue)
                AND (p_lowest IS NULL OR s.seq >= p_lowest) AND (p_task IS NULL OR s.task = p_task)
            ORDER BY s.seq DESC LIMIT p_limit;
        RETURN;
    END IF;
    RETURN QUERY SELECT s.* FROM nuvom.seen s WHERE s.seq IN (
        (SELECT d.seq FROM nuvom.done d WHERE d.status = ANY (p_kinds)
                AND (p_lowest IS NULL OR d.seq >= p_lowest)
                AND (last IS NULL OR d.seq < last) AND (p_queue IS NULL OR d.queue = p_queue)
                AND (p_task IS NULL OR d.task = p_task)
            ORDER BY d.seq DESC LIMIT p_limit)
        UNION ALL
        (SELECT r.seq FROM nuvom.running r WHERE 1 = ANY (p_kinds)
                AND (p_lowest IS NULL OR r.seq >= p_lowest)
                AND (last IS NULL OR r.seq < last) AND (p_queue IS NULL OR r.queue = p_queue)
                AND (p_task IS NULL OR r.task = p_task)
            ORDER BY r.seq DESC LIMIT p_limit)
        UNION ALL
        (SELECT w.seq FROM nuvom.waiting w WHERE w.kind = ANY (p_kinds)
                AND (p_lowest IS NULL OR w.seq >= p_lowest)
                AND (last IS NULL OR w.seq < last) AND (p_queue IS NULL OR w.queue = p_queue)
                AND (p_task IS NULL OR w.task = p_task)
            ORDER BY w.seq DESC LIMIT p_limit))
        ORDER BY s.seq DESC LIMIT p_limit;
END $$;

-- The last of the next p_within jobs of a page, and how many they are.
CREATE OR REPLACE FUNCTION nuvom.part_end(p_before text, p_within int)
RETURNS TABLE (seq bigint, id text, jobs bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
    last bigint := nuvom.end_before(p_before);
BEGIN
    RETURN QUERY SELECT e.seq, j.id, e.jobs
        FROM (SELECT min(n.seq) AS seq, count(*) AS jobs FROM (SELECT j.seq FROM nuvom.jobs j
            WHERE last IS NULL OR j.seq < last ORDER BY j.seq DESC LIMIT p_within) AS n) AS e
        JOIN nuvom.jobs j ON j.seq = e.seq;
END $$;

CREATE OR REPLACE FUNCTION nuvom.stats(p_now float8)
RETURNS TABLE (queue text, kind smallint, was_tried boolean, is_later boolean, jobs bigint,
    oldest float8)
LANGUAGE sql STABLE AS $$
    SELECT queue, kind, attempt > 0, run_at > p_now, count(*), min(greatest(created_at, run_at))
        FROM nuvom.waiting GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT queue, 1::smallint, false, false, count(*), NULL FROM nuvom.running GROUP BY 1
    UNION ALL
    SELECT queue, status, false, false, count(*), NULL FROM nuvom.done GROUP BY 1, 2
$$;

-- As stats, with at most p_most jobs of each kind. Successes are looked for among the newest ended
-- jobs alone; kind -1 is how many those are.
CREATE OR REPLACE FUNCTION nuvom.stats_within(p_now float8, p_most int)
RETURNS TABLE (queue text, kind smallint, was_tried boolean, is_later boolean, jobs bigint,
    oldest float8)
LANGUAGE sql STABLE AS $$
    SELECT w.queue, k.kind, w.attempt > 0, w.run_at > p_now, count(*),
        min(greatest(w.created_at, w.run_at))
        FROM unnest('{0,6,7,8}'::smallint[]) AS k (kind), LATERAL (
            SELECT * FROM nuvom.waiting w WHERE w.kind = k.kind LIMIT p_most) AS w GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT r.queue, 1::smallint, false, false, count(*), NULL
        FROM (SELECT r.queue FROM nuvom.running r LIMIT p_most) AS r GROUP BY 1
    UNION ALL
    SELECT d.queue, k.status, false, false, count(*), NULL
        FROM unnest('{3,4,5}'::smallint[]) AS k (status), LATERAL (
            SELECT d.queue FROM nuvom.done d WHERE d.status = k.status AND d.status <> 2
            LIMIT p_most) AS d GROUP BY 1, 2
    UNION ALL
    SELECT d.queue, 2::smallint, false, false, count(*), NULL
        FROM (SELECT d.queue FROM (
                SELECT d.queue, d.status FROM nuvom.done d ORDER BY d.seq DESC LIMIT 2 * p_most) AS d
            WHERE d.status = 2 LIMIT p_most) AS d GROUP BY 1
    UNION ALL
    SELECT '', -1::smallint, false, false, count(*), NULL
        FROM (SELECT FROM nuvom.done LIMIT 2 * p_most) AS looked_at
$$;

-- Groups by the index alone, then the oldest and the newest job of each, and times of the latest.
CREATE OR REPLACE FUNCTION nuvom.error_groups(p_limit int, p_times int)
RETURNS TABLE (error_group text, jobs bigint, first_at float8, last_at float8, id text, task text,
    status smallint, error bytea, recent float8[])
LANGUAGE sql STABLE AS $$
    SELECT g.error_group, g.jobs, g.first_at, g.last_at, j.id, j.task, g.status, g.error,
        ARRAY(SELECT d.finished_at FROM nuvom.done d
            WHERE d.error_group = g.error_group AND d.finished_at IS NOT NULL
            ORDER BY d.seq DESC LIMIT p_times)
    FROM (SELECT s.error_group, s.jobs, s.newest, o.finished_at AS first_at,
            n.finished_at AS last_at, n.status, n.error
        FROM (SELECT error_group, count(*) AS jobs, min(seq) AS oldest, max(seq) AS newest
            FROM nuvom.done WHERE error_group IS NOT NULL GROUP BY 1) AS s
        JOIN nuvom.done n ON n.seq = s.newest JOIN nuvom.done o ON o.seq = s.oldest
        ORDER BY n.finished_at DESC LIMIT p_limit) AS g
    JOIN nuvom.jobs j ON j.seq = g.newest
    ORDER BY g.last_at DESC
$$;

-- Changes with each transaction of the server that has written.
CREATE OR REPLACE FUNCTION nuvom.revision() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT pg_current_snapshot()::text
$$;

CREATE OR REPLACE FUNCTION nuvom.failed_ids(p_group text)
RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT j.id FROM nuvom.done d JOIN nuvom.jobs j ON j.seq = d.seq
    WHERE d.error_group = p_group ORDER BY d.seq DESC
$$;

CREATE OR REPLACE FUNCTION nuvom.parked(p_tasks text[], p_limit int)
RETURNS SETOF nuvom.seen LANGUAGE sql STABLE AS $$
    SELECT * FROM nuvom.seen WHERE seq IN (SELECT seq FROM nuvom.waiting
        WHERE kind = 6 AND task = ANY (p_tasks) LIMIT p_limit)
$$;

CREATE OR REPLACE FUNCTION nuvom.parked_tasks()
RETURNS TABLE (task text, jobs bigint) LANGUAGE sql STABLE AS $$
    SELECT task, count(*) FROM nuvom.waiting WHERE kind = 6 GROUP BY 1
$$;

CREATE OR REPLACE FUNCTION nuvom.known_queues()
RETURNS SETOF nuvom.queues LANGUAGE sql STABLE AS $$
    SELECT * FROM nuvom.queues
$$;

CREATE OR REPLACE FUNCTION nuvom.attempts_of(p_id text)
RETURNS TABLE (body bytea, worker text) LANGUAGE sql STABLE AS $$
    SELECT a.body, a.worker FROM nuvom.attempts a JOIN nuvom.jobs j ON j.seq = a.seq
    WHERE j.id = p_id ORDER BY a.number
$$;

CREATE OR REPLACE FUNCTION nuvom.has_ready(p_now float8) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM nuvom.waiting WHERE kind IN (0, 8)
            AND queue NOT IN (SELECT name FROM nuvom.queues WHERE paused_by IS NOT NULL))
        OR EXISTS (SELECT FROM nuvom.waiting WHERE kind = 7 AND run_at <= p_now)
$$;

CREATE OR REPLACE FUNCTION nuvom.next_due(p_now float8) RETURNS float8 LANGUAGE sql STABLE AS $$
    SELECT min(run_at) FROM nuvom.waiting WHERE kind = 7 AND run_at > p_now
$$;

CREATE OR REPLACE FUNCTION nuvom.may_vacuum() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN current_setting('server_version_num')::int >= 170000
        THEN has_table_privilege(oid, 'MAINTAIN') ELSE pg_has_role(relowner, 'USAGE') END
    FROM pg_class WHERE oid = 'nuvom.waiting'::regclass
$$;

CREATE OR REPLACE FUNCTION nuvom.used_bytes() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
    WHERE c.relkind = 'r'
        AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'nuvom.jobs'::regclass)
$$;

-- ---- results of jobs whose queue is in another store ----------------------------------------

-- An outcome replaces the stored one unless that is final and of the same or a later delivery.
CREATE OR REPLACE FUNCTION nuvom.keep_outcome(
    p_id text, p_is_final boolean, p_epoch bigint, p_finished float8, p_record bytea,
    p_result bytea, p_error bytea, p_is_sure boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO nuvom.outcomes AS o (id, is_final, epoch, finished_at, record, result, error)
    VALUES (p_id, p_is_final, p_epoch, p_finished, p_record, p_result, p_error)
    ON CONFLICT (id) DO UPDATE SET is_final = excluded.is_final,
        epoch = greatest(o.epoch, excluded.epoch), finished_at = excluded.finished_at,
        record = excluded.record, result = excluded.result, error = excluded.error
    WHERE NOT o.is_final OR p_is_sure OR o.epoch < excluded.epoch;
    RETURN found;
END $$;

CREATE OR REPLACE FUNCTION nuvom.outcome(p_id text)
RETURNS SETOF nuvom.outcomes LANGUAGE sql STABLE AS $$
    SELECT * FROM nuvom.outcomes WHERE id = p_id
$$;

CREATE OR REPLACE FUNCTION nuvom.all_outcomes()
RETURNS SETOF nuvom.outcomes LANGUAGE sql STABLE AS $$
    SELECT * FROM nuvom.outcomes ORDER BY seq DESC
$$;

CREATE OR REPLACE FUNCTION nuvom.all_seen() RETURNS SETOF nuvom.seen LANGUAGE sql STABLE AS $$
    SELECT * FROM nuvom.seen ORDER BY seq DESC
$$;

CREATE OR REPLACE FUNCTION nuvom.forget_job(p_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    gone bigint[];
BEGIN
    WITH ended AS (DELETE FROM nuvom.done d USING nuvom.jobs j
        WHERE j.id = p_id AND d.seq = j.seq RETURNING d.seq)
    SELECT array_agg(seq) INTO gone FROM ended;
    PERFORM nuvom.remove(gone);
    DELETE FROM nuvom.outcomes WHERE id = p_id;
    RETURN found OR gone IS NOT NULL;
END $$;

-- ---- schedules -------------------------------------------------------------------------------

-- These functions have the rights of whoever ran "nuvom migrate": see totals.sql.

-- Write changes of schedules, each only if its schedule has the revision that was seen, and store the
-- jobs of those that were written. p_records: null removes. p_due: infinity is none. p_jobs: for each
-- job the place of its change, then what "enqueue" takes before the record. Returns the first of those
-- that are due earlier than before, if any.
CREATE OR REPLACE FUNCTION nuvom.change_schedules(
    p_call text, p_names bytea[], p_seen bigint[], p_revisions bigint[], p_due float8[],
    p_records bytea[], p_jobs jsonb, p_job_records bytea[], p_locks bigint[], p_now float8,
    OUT written boolean[], OUT first_due float8, OUT first_name bytea, OUT has_jobs boolean
) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    now_ float8 := nuvom.clock_secs();
    was_due float8;
    one record;
BEGIN
    -- A call that is repeated waits until the first one has ended.
    PERFORM pg_advisory_xact_lock(hashtextextended('nuvom schedules ' || p_call, 0));
    SELECT c.written INTO written FROM nuvom.schedule_calls c WHERE c.id = p_call;
    IF found THEN  -- it may have been cut before it woke anybody
        first_due := '-infinity';
        first_name := '';
        has_jobs := true;
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(lock.key) FROM unnest(p_locks) AS lock (key);
    FOR one IN  -- by name: all callers lock rows in the same order
        SELECT * FROM unnest(p_names, p_seen, p_revisions, p_due, p_records)
            WITH ORDINALITY AS change (name, seen, revision, due_at, record, place)
        ORDER BY name, place
    LOOP
        one.due_at := nullif(one.due_at, 'infinity');
        was_due := NULL;
        IF one.seen = 0 THEN
            INSERT INTO nuvom.schedules SELECT one.name, one.revision, one.due_at, one.record
                WHERE one.record IS NOT NULL
                ON CONFLICT DO NOTHING;
        ELSE
            SELECT s.due_at INTO was_due FROM nuvom.schedules s
                WHERE s.name = one.name AND s.revision = one.seen FOR UPDATE;
            IF found AND one.record IS NULL THEN
                DELETE FROM nuvom.schedules s WHERE s.name = one.name;
            ELSIF found THEN
                UPDATE nuvom.schedules s
                SET revision = one.revision, due_at = one.due_at, record = one.record
                WHERE s.name = one.name;
            END IF;
        END IF;
        written[one.place] := found;
        IF found AND one.due_at < coalesce(was_due, 'infinity')
            AND (first_due IS NULL OR one.due_at < first_due)
        THEN
            first_due := one.due_at;
            first_name := one.name;
        END IF;
    END LOOP;
    FOR one IN
        SELECT job, record FROM ROWS FROM (jsonb_array_elements(p_jobs), unnest(p_job_records))
            AS new (job, record) WHERE written[(job->>0)::int]
    LOOP
        PERFORM nuvom.enqueue(one.job->>1, one.job->>2, one.job->>3, (one.job->>4)::int,
            (one.job->>5)::float8, (one.job->>6)::float8, (one.job->>7)::float8, one.job->>8,
            (one.job->>9)::float8, one.record, NULL, p_now);
        has_jobs := true;
    END LOOP;
    DELETE FROM nuvom.schedule_calls WHERE ctid = ANY (ARRAY(SELECT ctid FROM nuvom.schedule_calls
        WHERE made_at < now_ - 60 FOR UPDATE SKIP LOCKED));
    INSERT INTO nuvom.schedule_calls VALUES (p_call, now_, written);
END $$;

-- Whether no other schedule is due before this one. Asked after the commit, so that of two who have
-- changed schedules at once, whoever looks later knows; and of schedules that are due at the same
-- time, one is the first.
CREATE OR REPLACE FUNCTION nuvom.is_first_due(p_due float8, p_name bytea)
RETURNS boolean LANGUAGE sql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT NOT EXISTS (SELECT FROM nuvom.schedules
        WHERE due_at <= p_due AND (due_at, name) < (p_due, p_name))
$$;

-- Do so in a transaction of its own, then wake those who sleep: see "enqueue_now".
CREATE OR REPLACE PROCEDURE nuvom.change_schedules_now(
    p_call text, p_names bytea[], p_seen bigint[], p_revisions bigint[], p_due float8[],
    p_records bytea[], p_jobs text, p_job_records bytea[], p_locks bigint[], p_now float8,
    p_commit text, INOUT written boolean[]
) LANGUAGE plpgsql AS $$
DECLARE
    answer record;
BEGIN
    IF p_commit IS NOT NULL THEN  -- else the connection has it already
        PERFORM set_config('synchronous_commit', p_commit, true);
    END IF;
    SELECT * INTO answer FROM nuvom.change_schedules(p_call, p_names, p_seen, p_revisions, p_due,
        p_records, p_jobs::jsonb, p_job_records, p_locks, p_now);
    written := answer.written;
    COMMIT;
    IF answer.first_due IS NOT NULL AND nuvom.is_first_due(answer.first_due, answer.first_name) THEN
        PERFORM nuvom.ring('schedules');
    END IF;
    IF answer.has_jobs THEN
        PERFORM nuvom.ring('work');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION nuvom.schedule(p_name bytea) RETURNS SETOF bytea LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT record FROM nuvom.schedules WHERE name = p_name
$$;

CREATE OR REPLACE FUNCTION nuvom.schedules_after(p_name bytea, p_limit int)
RETURNS SETOF bytea LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
    SELECT record FROM nuvom.schedules WHERE name > p_name ORDER BY name LIMIT p_limit
$$;

CREATE OR REPLACE FUNCTION nuvom.due_schedules(p_now float8, p_limit int)
RETURNS SETOF bytea LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
    SELECT record FROM nuvom.schedules WHERE due_at <= p_now
    ORDER BY due_at, name LIMIT p_limit
$$;

-- The earliest time at which a schedule is due, and the server's.
CREATE OR REPLACE FUNCTION nuvom.next_schedule(OUT due_at float8, OUT now float8)
LANGUAGE sql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT (SELECT min(s.due_at) FROM nuvom.schedules s WHERE s.due_at IS NOT NULL),
        nuvom.clock_secs()
$$;

-- ---- start marks and sleep -------------------------------------------------------------------

CREATE OR REPLACE FUNCTION nuvom.mark(p_owner text, p_number bigint, p_refs bigint[])
RETURNS void LANGUAGE sql AS $$
    INSERT INTO nuvom.starts (owner, number, refs) VALUES (p_owner, p_number, p_refs)
$$;

CREATE OR REPLACE FUNCTION nuvom.unmark(p_owner text, p_before bigint) RETURNS void LANGUAGE sql AS $$
    DELETE FROM nuvom.starts WHERE owner = p_owner AND number < p_before
$$;

CREATE OR REPLACE FUNCTION nuvom.last_mark(p_owner text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(number), 0) FROM nuvom.starts WHERE owner = p_owner
$$;

CREATE OR REPLACE FUNCTION nuvom.fall_asleep(p_channel text, p_for text) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO nuvom.sleepers (channel, waits_for, pid) VALUES (p_channel, p_for, pg_backend_pid())
    ON CONFLICT (channel) DO NOTHING
$$;

CREATE OR REPLACE FUNCTION nuvom.wake_up(p_channel text) RETURNS void LANGUAGE sql AS $$
    DELETE FROM nuvom.sleepers WHERE channel = p_channel
$$;

CREATE OR REPLACE FUNCTION nuvom.who()
RETURNS TABLE (id text, schema_version int, control_version bigint, now float8)
LANGUAGE sql STABLE AS $$
    SELECT id::text, schema_version, control_version, nuvom.clock_secs() FROM nuvom.store
$$;
