-- Whether a job was claimed by a worker with a free slot for it, so that its code started at once.
-- Otherwise the table "starts" tells.
ALTER TABLE nuvom.running ADD COLUMN started boolean NOT NULL DEFAULT false;
