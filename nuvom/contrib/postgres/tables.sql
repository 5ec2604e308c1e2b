-- The tables of one store, all in one schema; docs/decisions/0025 explains them.
--
-- A job is in exactly one of waiting, running and done. jobs and done are written once; waiting
-- and running stay small, so that what a claim reads does not grow with what has been done.

CREATE TABLE nuvom.store (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    schema_version int NOT NULL,
    control_version bigint NOT NULL DEFAULT 0
);
CREATE SEQUENCE nuvom.job_seq;

CREATE TABLE nuvom.jobs (
    seq bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    priority int NOT NULL,
    created_at float8 NOT NULL,
    keep_secs float8,
    unique_key text COLLATE "C",
    unique_until float8,
    record bytea NOT NULL
);

-- kind: 0 ready, 6 parked, 7 scheduled, 8 ready, but a worker died while it ran.
-- token: of the delivery that settled the job, if one did.
CREATE TABLE nuvom.waiting (
    kind smallint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    priority int NOT NULL,
    seq bigint NOT NULL,
    task text COLLATE "C" NOT NULL,
    created_at float8 NOT NULL,
    run_at float8 NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    attempt int NOT NULL DEFAULT 0,
    deliveries int NOT NULL DEFAULT 0,
    suspect boolean NOT NULL DEFAULT false,
    token int,
    owner text COLLATE "C",
    started_at float8,
    finished_at float8,
    error bytea,
    keep_secs float8,
    PRIMARY KEY (kind, queue, priority, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX waiting_due ON nuvom.waiting (run_at) WHERE kind = 7;
CREATE INDEX waiting_parked ON nuvom.waiting (task) WHERE kind = 6;

-- A lease ends lease_secs after the latest of: the claim, the last renewal by its worker, the start
-- of the server, which nobody could renew anything before.
CREATE TABLE nuvom.running (
    seq bigint PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    priority int NOT NULL,
    task text COLLATE "C" NOT NULL,
    created_at float8 NOT NULL,
    run_at float8 NOT NULL,
    epoch bigint NOT NULL,
    attempt int NOT NULL,
    deliveries int NOT NULL,
    suspect boolean NOT NULL,
    token int NOT NULL,
    owner text COLLATE "C" NOT NULL,
    claimed_at float8 NOT NULL,
    progress text,
    error bytea,
    keep_secs float8
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

-- status: 2 SUCCESS, 3 FAILED, 4 DEAD, 5 CANCELLED.
CREATE TABLE nuvom.done (
    seq bigint PRIMARY KEY,
    status smallint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    run_at float8 NOT NULL,
    epoch bigint NOT NULL,
    attempt int NOT NULL,
    deliveries int NOT NULL,
    suspect boolean NOT NULL,
    token int,
    owner text COLLATE "C",
    started_at float8,
    finished_at float8,
    error_group text COLLATE "C",
    error bytea,
    result bytea,
    keep_secs float8
);
CREATE INDEX done_finished ON nuvom.done USING brin (finished_at) WITH (pages_per_range = 16);
CREATE INDEX done_kept ON nuvom.done (finished_at) WHERE keep_secs IS NOT NULL;
CREATE INDEX done_failed ON nuvom.done (error_group, seq) WHERE error_group IS NOT NULL;
CREATE INDEX done_unsuccessful ON nuvom.done (status, seq) WHERE status <> 2;

CREATE TABLE nuvom.keys (
    task text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    until float8,
    PRIMARY KEY (task, key)
);
CREATE TABLE nuvom.attempts (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seq bigint NOT NULL,
    worker text COLLATE "C",
    body bytea NOT NULL
);
CREATE INDEX attempts_of ON nuvom.attempts (seq);
CREATE TABLE nuvom.queues (name text COLLATE "C" PRIMARY KEY, paused_by text COLLATE "C");
-- beat: when it last said anything; renewed_at: when it last renewed its leases.
CREATE TABLE nuvom.workers (
    id text COLLATE "C" PRIMARY KEY,
    info bytea,
    beat float8 NOT NULL,
    renewed_at float8,
    words text[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- Results of jobs whose queue is in another store.
CREATE TABLE nuvom.outcomes (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text COLLATE "C" PRIMARY KEY,
    is_final boolean NOT NULL,
    epoch bigint NOT NULL,
    finished_at float8,
    record bytea NOT NULL,
    result bytea,
    error bytea
);

-- A crash of the server empties these two, which is right for both: nobody sleeps then, and
-- whose code had begun is not known, so that nobody is charged for it.
CREATE UNLOGGED TABLE nuvom.starts (
    owner text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    refs bigint[] NOT NULL,
    PRIMARY KEY (owner, number)
);
CREATE UNLOGGED TABLE nuvom.sleepers (
    channel text COLLATE "C" PRIMARY KEY,
    waits_for text NOT NULL,
    pid int NOT NULL
);
