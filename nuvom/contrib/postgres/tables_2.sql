-- Counts that outlive the jobs they count: see totals.sql. slot is the process of the server that
-- counts, so that nobody waits for a row of another one; 0 holds what ended processes have left.
CREATE TABLE nuvom.totals (
    slot int NOT NULL,
    kind text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    took int NOT NULL,
    waited int NOT NULL,
    count bigint NOT NULL,
    took_secs float8 NOT NULL,
    waited_secs float8 NOT NULL,
    PRIMARY KEY (slot, took, waited, task, queue, outcome, kind)
) WITH (fillfactor = 50);
