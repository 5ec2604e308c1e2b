-- Schedules. name is UTF-8, as bytes: any text can be stored, in the order in which pages come.
CREATE TABLE nuvom.schedules (
    name bytea PRIMARY KEY,
    revision bigint NOT NULL,
    due_at float8,
    record bytea NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX schedules_due ON nuvom.schedules (due_at, name) WHERE due_at IS NOT NULL;

-- What calls of the last minute have answered: one whose answer was lost is repeated.
CREATE TABLE nuvom.schedule_calls (
    id text COLLATE "C" PRIMARY KEY,
    made_at float8 NOT NULL,
    written boolean[] NOT NULL
);
CREATE INDEX schedule_calls_made ON nuvom.schedule_calls (made_at);
