-- When a queue was paused; what readers get of failure groups, and pages within a part of the jobs.
ALTER TABLE nuvom.queues ADD COLUMN paused_at float8;
DROP FUNCTION IF EXISTS nuvom.pause(text, text);
DROP FUNCTION IF EXISTS nuvom.page(smallint[], text, text, text, int);
DROP FUNCTION IF EXISTS nuvom.error_groups(int);
