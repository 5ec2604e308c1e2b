-- What the store knows of the past: totals that survive pruning, roll-ups per minute and what people
-- did; replaced as a whole by every migration. See docs/decisions/0017 and 0038.
--
-- New jobs and successes are counted by triggers, in the transaction of whoever stores them. They
-- are made when totals are first asked for; until then nothing costs. All other ends are counted by
-- the caller, who knows the Change: see "add_totals".
--
-- These functions have the rights of whoever ran "nuvom migrate": a role that works on jobs may
-- neither make triggers nor have been granted a table that was added later.

-- Make the store count from now on. Whoever has an open transaction with new jobs is waited for, but
-- not for long: everyone else who stores a job would wait meanwhile.
CREATE OR REPLACE FUNCTION nuvom.keep_totals(p_took_bounds float8[], p_waited_bounds float8[])
RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    IF nuvom.keeps_totals() THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('nuvom totals', 0));
    IF nuvom.keeps_totals() THEN
        RETURN;
    END IF;
    CREATE TRIGGER totals_of_new_jobs AFTER INSERT ON nuvom.jobs
        REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION nuvom.count_new();
    EXECUTE format('CREATE TRIGGER totals_of_successes AFTER INSERT ON nuvom.done
        REFERENCING NEW TABLE AS new FOR EACH STATEMENT
        EXECUTE FUNCTION nuvom.count_successes(%L, %L)', p_took_bounds, p_waited_bounds);
END $$;

CREATE OR REPLACE FUNCTION nuvom.keeps_totals() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger
        WHERE tgrelid = 'nuvom.done'::regclass AND tgname = 'totals_of_successes')
$$;

CREATE OR REPLACE FUNCTION nuvom.count_new() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO nuvom.totals AS t
    SELECT pg_backend_pid(), 'enqueued', queue, task, '', 0, 0, count(*), 0, 0
    FROM new GROUP BY queue, task
    ON CONFLICT (slot, took, waited, task, queue, outcome, kind)
        DO UPDATE SET count = t.count + excluded.count;
    RETURN NULL;
END $$;

-- The arguments are the bounds of the histograms. A count falls at the first bound that it does not
-- exceed; width_bucket counts the bounds that are not above a value, so all are turned around.
-- A success with an error is a timeout that the task's policy ignores.
CREATE OR REPLACE FUNCTION nuvom.count_successes() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    took_bounds float8[] := TG_ARGV[0];
    waited_bounds float8[] := TG_ARGV[1];
BEGIN
    INSERT INTO nuvom.totals AS t
    SELECT pg_backend_pid(), 'attempt', queue, task, outcome,
        cardinality(took_bounds) - width_bucket(-took, took_bounds),
        cardinality(waited_bounds) - width_bucket(-waited, waited_bounds),
        count(*), sum(took), sum(waited)
    FROM (SELECT n.queue, n.task, CASE WHEN n.error IS NULL THEN 'success' ELSE 'timeout' END AS outcome,
            greatest(0, n.finished_at - n.started_at) AS took,
            greatest(0, n.started_at - greatest(j.created_at, n.run_at)) AS waited
        FROM new n JOIN nuvom.jobs j ON j.seq = n.seq
        WHERE n.status = 2 AND n.started_at > 0 AND n.finished_at IS NOT NULL) AS one
    GROUP BY 3, 4, 5, 6, 7
    ON CONFLICT (slot, took, waited, task, queue, outcome, kind)
        DO UPDATE SET count = t.count + excluded.count, took_secs = t.took_secs + excluded.took_secs,
            waited_secs = t.waited_secs + excluded.waited_secs;
    RETURN NULL;
END $$;

-- Count what a caller has done in this transaction, if totals are kept at all.
CREATE OR REPLACE FUNCTION nuvom.add_totals(p_totals jsonb) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO nuvom.totals AS t
    SELECT pg_backend_pid(), one.* FROM jsonb_to_recordset(p_totals) AS one (kind text, queue text,
        task text, outcome text, took int, waited int, count bigint, took_secs float8,
        waited_secs float8)
    WHERE nuvom.keeps_totals()
    ON CONFLICT (slot, took, waited, task, queue, outcome, kind)
        DO UPDATE SET count = t.count + excluded.count, took_secs = t.took_secs + excluded.took_secs,
            waited_secs = t.waited_secs + excluded.waited_secs
$$;

-- The counts so far. On the way, those of ended processes are put together: there is no end of them.
CREATE OR REPLACE FUNCTION nuvom.read_totals()
RETURNS TABLE (kind text, queue text, task text, outcome text, took int, waited int, count bigint,
    took_secs float8, waited_secs float8)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF pg_try_advisory_xact_lock(hashtextextended('nuvom totals', 0)) THEN
        WITH gone AS (DELETE FROM nuvom.totals WHERE slot <> 0
                AND NOT EXISTS (SELECT FROM pg_stat_get_activity(slot)) RETURNING *)
        INSERT INTO nuvom.totals AS t
        SELECT 0, kind, queue, task, outcome, took, waited, sum(count), sum(took_secs), sum(waited_secs)
        FROM gone GROUP BY 2, 3, 4, 5, 6, 7
        ON CONFLICT (slot, took, waited, task, queue, outcome, kind)
            DO UPDATE SET count = t.count + excluded.count,
                took_secs = t.took_secs + excluded.took_secs,
                waited_secs = t.waited_secs + excluded.waited_secs;
    END IF;
    RETURN QUERY SELECT t.kind, t.queue, t.task, t.outcome, t.took, t.waited, sum(t.count)::bigint,
            sum(t.took_secs), sum(t.waited_secs)
        FROM nuvom.totals t GROUP BY 1, 2, 3, 4, 5, 6;
END $$;

-- ---- roll-ups --------------------------------------------------------------------------------

-- The bucket of a duration: see "count_successes". These are the ROLLUP_BOUNDS of nuvom.core.views.
CREATE OR REPLACE FUNCTION nuvom.rollup_bucket(p_secs float8) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT 16 - width_bucket(-p_secs, '{-3600,-900,-300,-60,-30,-10,-5,-2.5,-1,-0.5,-0.25,-0.1,-0.05,
        -0.025,-0.01,-0.005}'::float8[])
$$;

-- Add roll-ups in the transaction that settles what they count.
CREATE OR REPLACE FUNCTION nuvom.add_rollups(p_rollups jsonb) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO nuvom.rollups AS r
    SELECT one.at, pg_backend_pid(), one.queue, one.task, one.kind, one.bucket, one.count, one.secs
    FROM jsonb_to_recordset(p_rollups) AS one (at bigint, queue text, task text, kind text,
        bucket int, count bigint, secs float8)
    ON CONFLICT (at, slot, queue, task, kind, bucket)
        DO UPDATE SET count = r.count + excluded.count, secs = r.secs + excluded.secs
$$;

-- Count what a caller has done in this transaction.
CREATE OR REPLACE FUNCTION nuvom.add_counts(p_totals jsonb, p_rollups jsonb)
RETURNS void LANGUAGE sql AS $$
    SELECT nuvom.add_totals(p_totals), nuvom.add_rollups(p_rollups)
$$;

CREATE OR REPLACE FUNCTION nuvom.read_rollups(p_since bigint, p_until bigint, p_step bigint)
RETURNS TABLE (at bigint, queue text, task text, kind text, bucket int, count bigint, secs float8)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.at / p_step * p_step, r.queue, r.task, r.kind, r.bucket, sum(r.count)::bigint, sum(r.secs)
    FROM nuvom.rollups r WHERE r.at >= p_since AND r.at < p_until
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
$$;

-- Put together what processes of the server have counted apart, and the minutes of old hours. Rows
-- that somebody is adding to are left for the next time.
CREATE OR REPLACE FUNCTION nuvom.condense_rollups(
    p_minutes_since bigint, p_hours_since bigint, p_until bigint
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('nuvom rollups', 0)) THEN
        RETURN;
    END IF;
    DELETE FROM nuvom.rollups WHERE at < p_hours_since;
    WITH gone AS (DELETE FROM nuvom.rollups WHERE ctid = ANY (ARRAY(SELECT ctid FROM nuvom.rollups
            WHERE at < p_until AND (slot <> 0 OR at < p_minutes_since AND at % 3600 <> 0)
            FOR UPDATE SKIP LOCKED)) RETURNING *)
    INSERT INTO nuvom.rollups AS r
    SELECT CASE WHEN at < p_minutes_since THEN at / 3600 * 3600 ELSE at END, 0, queue, task, kind,
        bucket, sum(count), sum(secs)
    FROM gone GROUP BY 1, 3, 4, 5, 6
    ON CONFLICT (at, slot, queue, task, kind, bucket)
        DO UPDATE SET count = r.count + excluded.count, secs = r.secs + excluded.secs;
END $$;

-- ---- what people did -------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION nuvom.record_audit(p_id text, p_entry bytea, p_kept int)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO nuvom.audit (id, entry) VALUES (p_id, p_entry)
        ON CONFLICT (id) DO UPDATE SET entry = excluded.entry;
    DELETE FROM nuvom.audit WHERE id <= (SELECT id FROM nuvom.audit ORDER BY id DESC
        OFFSET p_kept LIMIT 1);
END $$;

CREATE OR REPLACE FUNCTION nuvom.read_audit(p_limit int, p_before text)
RETURNS SETOF bytea LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT entry FROM nuvom.audit WHERE p_before IS NULL OR id < p_before
    ORDER BY id DESC LIMIT p_limit
$$;
