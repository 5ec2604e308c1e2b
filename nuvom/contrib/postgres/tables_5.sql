-- What happened per minute: see totals.sql, also about slot. at is the start of the minute, in seconds.
CREATE TABLE nuvom.rollups (
    at bigint NOT NULL,
    slot int NOT NULL,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    bucket int NOT NULL,
    count bigint NOT NULL,
    secs float8 NOT NULL,
    PRIMARY KEY (at, slot, queue, task, kind, bucket)
) WITH (fillfactor = 50);

-- What people did.
CREATE TABLE nuvom.audit (
    id text COLLATE "C" PRIMARY KEY,
    entry bytea NOT NULL
);

-- When a queue was paused; and functions whose parameters or answers have changed.
ALTER TABLE nuvom.queues ADD COLUMN IF NOT EXISTS paused_at float8;
DROP FUNCTION IF EXISTS nuvom.pause(text, text);
DROP FUNCTION IF EXISTS nuvom.page(smallint[], text, text, text, int);
DROP FUNCTION IF EXISTS nuvom.error_groups(int);
