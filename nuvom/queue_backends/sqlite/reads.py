"""The read queries of the SQLite store: jobs, pages, attempts, counts, failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nuvom.core.record import Attempt, JobSnapshot, JobStatus, StoredError
from nuvom.core.views import ErrorGroup, QueueStats
from nuvom.queue_backends.sqlite.schema import (
    CODES,
    SNAPSHOT,
    SNAPSHOT_WITH_RESULT,
    STATUS,
    decode_error,
    each_status,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from nuvom.queue_backends.sqlite.connection import Database
    from nuvom.queue_backends.sqlite.store import SQLiteStore

_ONE = f"{SNAPSHOT_WITH_RESULT} WHERE j.id = ?1"
# If that job was removed since, compare ids: those of this package sort by creation time.
_BEFORE = "(SELECT seq FROM jobs WHERE id = ?1)"
_PAGE = f"""{SNAPSHOT}
    WHERE j.seq < coalesce({_BEFORE}, 9223372036854775807)
    AND (?1 IS NULL OR {_BEFORE} IS NOT NULL OR j.id < ?1)
    AND (?3 = '[]' OR j.status IN (SELECT value FROM json_each(?3)))
    AND (?4 IS NULL OR j.queue = ?4) AND (?5 IS NULL OR j.task = ?5)
    ORDER BY j.seq DESC LIMIT ?2"""
_FIND = """SELECT id FROM jobs WHERE ?1 = '' OR substr(id, -length(?1)) = ?1
    ORDER BY seq DESC LIMIT ?2"""
_ATTEMPTS = """SELECT number, outcome, lease_epoch, worker, started_at, finished_at, error
    FROM attempts WHERE seq = (SELECT seq FROM jobs WHERE id = ?1) ORDER BY rowid"""
_COUNTS = """SELECT queue, CASE WHEN status IN (0, 8) OR status = 7 AND run_at <= ?1 THEN 'ready'
        WHEN status = 7 THEN CASE attempt WHEN 0 THEN 'scheduled' ELSE 'retrying' END
        ELSE status END AS kind, count(*), min(max(created_at, run_at))
    FROM jobs GROUP BY queue, kind"""
_GROUPS = """WITH groups AS (
        SELECT max(seq) AS seq, count(*) AS count, min(finished_at) AS first,
            max(finished_at) AS last
        FROM jobs WHERE error_fp IS NOT NULL GROUP BY error_fp ORDER BY last DESC LIMIT ?1)
    SELECT error_fp, id, task, error, status, count, first, last
    FROM groups JOIN jobs USING (seq) ORDER BY last DESC"""
_GROUP_IDS = "SELECT id FROM jobs WHERE error_fp = ?1 ORDER BY seq DESC"
_PARKED_TASKS = "SELECT task, count(*) FROM jobs WHERE status = 6 GROUP BY task ORDER BY task"
_PARKED = f"""{SNAPSHOT} WHERE j.status = 6
    AND j.task IN (SELECT value FROM json_each(?1)) LIMIT ?2"""
_WAITING = each_status("SELECT count(*) FROM jobs WHERE status = {status}", 0, 7, 8)
_HAS_READY = f"""{each_status("SELECT 1 FROM jobs WHERE status = {status}", 0, 8)}
    UNION ALL SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1 LIMIT 1"""
_NEXT_DUE = "SELECT min(run_at) FROM jobs WHERE status = 7 AND run_at > ?1"


def read_job(db: Database, job_id: str) -> JobSnapshot | None:
    """Return one job with its result, or None."""
    rows = db.read(_ONE, (job_id,))
    return snapshot(rows[0]) if rows else None


class RowReads:
    """The methods of the queue that only read."""

    store: SQLiteStore

    def qsize(self) -> int:
        """Return how many jobs are PENDING."""
        return sum(count for (count,) in self.store.db.read(_WAITING))

    def get(self, job_id: str) -> JobSnapshot | None:
        """Return one job with its result, or None."""
        return read_job(self.store.db, job_id)

    def find_ids(self, suffix: str, limit: int = 6) -> list[str]:
        """Return ids that end in ``suffix``, newest first."""
        return [job_id for (job_id,) in self.store.db.read(_FIND, (suffix, limit))]

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first, without their results; see the contract."""
        codes = json.dumps([code for status in statuses for code in CODES[status]])
        rows = self.store.db.read(_PAGE, (before, limit, codes, queue, task))
        return [snapshot(row) for row in rows]

    def closed_attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts closed by changes, oldest first."""
        names = ("number", "outcome", "lease_epoch", "worker", "started_at", "finished_at")
        return [
            Attempt(**dict(zip(names, row, strict=False)), error=decode_error(row[-1]))
            for row in self.store.db.read(_ATTEMPTS, (job_id,))
        ]

    def stats(self, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue, by name.

        Reads every row once; a worker never calls it.
        """
        counts: dict[str, dict[str, Any]] = {}
        rows = self.store.db.read(_COUNTS, (self.store.clock.now(),))
        for queue, kind, count, oldest in rows:
            fields = counts.setdefault(queue, {})
            fields[kind if isinstance(kind, str) else STATUS[kind].lower()] = count
            if kind == "ready":
                fields["oldest_ready_at"] = oldest
        for queue, by in self.store.db.read("SELECT name, paused_by FROM queues"):
            counts.setdefault(queue, {})["paused_by"] = by
        return [QueueStats(queue=queue, **counts[queue]) for queue in sorted(counts)]

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""
        groups = []
        for row in self.store.db.read(_GROUPS, (limit,)):
            fingerprint, example_id, task, data, code, count, first, last = row
            error = decode_error(data) or StoredError(STATUS[code], "")
            groups.append(
                ErrorGroup(
                    fingerprint=fingerprint,
                    func_name=task,
                    type=error.type,
                    message=error.message,
                    count=count,
                    first_at=first or 0.0,
                    last_at=last or 0.0,
                    example_id=example_id,
                )
            )
        return groups

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return ids of the FAILED and DEAD jobs in a group, newest first."""
        return [job_id for (job_id,) in self.store.db.read(_GROUP_IDS, (fingerprint,))]

    @property
    def parked_tasks(self) -> dict[str, int]:
        """Return the names of tasks with PARKED jobs, and the number of those jobs."""
        return {str(task): int(count) for task, count in self.store.db.read(_PARKED_TASKS)}

    def parked(self, tasks: Collection[str], limit: int) -> list[JobSnapshot]:
        """Return PARKED jobs of ``tasks``, at most ``limit``."""
        rows = self.store.db.read(_PARKED, (json.dumps(sorted(tasks)), limit))
        return [snapshot(row) for row in rows]

    def next_due_secs(self) -> float | None:
        """Return seconds until the next scheduled job is due, or None if there is none."""
        now = self.store.clock.now()
        row = self.store.db.read_one(_NEXT_DUE, (now,))
        return None if row is None or row[0] is None else float(row[0]) - now

    def _has_ready(self) -> bool:
        return self.store.db.read_one(_HAS_READY, (self.store.clock.now(),)) is not None
