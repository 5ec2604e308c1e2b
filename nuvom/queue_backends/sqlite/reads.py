"""All that readers ask of the SQLite store: jobs, pages, attempts, counts, failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nuvom.core.record import Attempt, JobSnapshot, JobStatus, StoredError
from nuvom.core.views import ErrorGroup, QueueStats
from nuvom.queue_backends.sqlite.schema import (
    CODES,
    SNAPSHOT_COLUMNS,
    SNAPSHOT_FROM,
    STATUS,
    SUCCESS,
    decode_error,
    each_status,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.queue_backends.sqlite.store import Store

_ONE = f"SELECT {SNAPSHOT_COLUMNS}, j.result {SNAPSHOT_FROM} WHERE j.id = ?"  # constants only
# Where that job was removed since, ids decide: those of this package sort by when they were made.
_BEFORE = "(SELECT seq FROM jobs WHERE id = ?1)"
_PAGE = f"""SELECT {SNAPSHOT_COLUMNS} {SNAPSHOT_FROM}
    WHERE j.seq < coalesce({_BEFORE}, 9223372036854775807)
    AND (?1 IS NULL OR {_BEFORE} IS NOT NULL OR j.id < ?1)
    {{where}} ORDER BY j.seq DESC LIMIT ?2"""  # constants only
_FIND = """SELECT id FROM jobs WHERE ?1 = '' OR substr(id, -length(?1)) = ?1
    ORDER BY seq DESC LIMIT ?2"""
_ATTEMPTS = """SELECT number, outcome, lease_epoch, worker, started_at, finished_at, error
    FROM attempts WHERE seq = (SELECT seq FROM jobs WHERE id = ?) ORDER BY rowid"""
# A success keeps no row of its own in attempts: the job's row tells it.
_COUNTS = """SELECT queue, CASE WHEN status = 7 AND run_at <= ?1 THEN 0 ELSE status END AS code,
    attempt > 0 AS has_run, count(*), min(max(created_at, run_at))
    FROM jobs GROUP BY queue, code, has_run"""
_GROUPS = """SELECT error_fp, max(seq), count(*), min(finished_at), max(finished_at) FROM jobs
    WHERE error_fp IS NOT NULL GROUP BY error_fp ORDER BY max(finished_at) DESC LIMIT ?"""
_GROUP_HEAD = "SELECT id, task, error, status FROM jobs WHERE seq = ?"
_GROUP_IDS = "SELECT id FROM jobs WHERE error_fp = ? ORDER BY seq DESC"
_PARKED = "SELECT task, count(*) FROM jobs WHERE status = 6 GROUP BY task ORDER BY task"
_WAITING = each_status("SELECT count(*) FROM jobs WHERE status = {status}", 0, 7, 8)
_HAS_READY = f"""{each_status("SELECT 1 FROM jobs WHERE status = {status}", 0, 8)}
    UNION ALL SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1 LIMIT 1"""  # noqa: S608  # constants only
_FIELDS = {
    JobStatus.RUNNING: "running",
    JobStatus.SUCCESS: "success",
    JobStatus.FAILED: "failed",
    JobStatus.DEAD: "dead",
    JobStatus.CANCELLED: "cancelled",
    JobStatus.PARKED: "parked",
}
_READY_CODES = (0, 8)


class ReadingPart:
    """The methods of the queue that only read."""

    store: Store

    def qsize(self) -> int:
        """Return how many jobs are PENDING."""
        return sum(count for (count,) in self.store.db.read(_WAITING))

    def get(self, job_id: str) -> JobSnapshot | None:
        """Return one job with its result, or None."""
        row = self.store.db.read_one(_ONE, (job_id,))
        if row is None:
            return None
        return snapshot(row, row[-1] if row[1] == SUCCESS else None)

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
        codes = [code for status in statuses for code in CODES[status]]
        where, parameters = "", [before, limit]
        for clause, value in (
            ("AND j.status IN (SELECT value FROM json_each(?))", json.dumps(codes)),
            ("AND j.queue = ?", queue),
            ("AND j.task = ?", task),
        ):
            if value not in (None, "[]"):
                where += f" {clause.replace('?', f'?{len(parameters) + 1}')}"
                parameters.append(value)
        return [snapshot(row) for row in self.store.db.read(_PAGE.format(where=where), parameters)]

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the closed attempts that are kept, and the success; oldest first."""
        found = [_attempt(row) for row in self.store.db.read(_ATTEMPTS, (job_id,))]
        kept = self.get(job_id)
        if kept is not None and kept.status is JobStatus.SUCCESS:
            found.append(
                Attempt(
                    number=kept.record.attempt,
                    outcome="success" if kept.error is None else "timeout",  # that is ignored
                    lease_epoch=kept.record.lease_epoch,
                    worker=kept.worker,
                    started_at=kept.started_at,
                    finished_at=kept.finished_at,
                    error=kept.error,
                )
            )
        return found

    def stats(self) -> list[QueueStats]:
        """Return counts for each queue, by name.

        Reads every row once; a worker never calls it.
        """
        counts: dict[str, dict[str, Any]] = {}
        for queue, code, has_run, count, oldest in self.store.db.read(
            _COUNTS, (self.store.clock.now(),)
        ):
            fields = counts.setdefault(queue, {})
            name = _FIELDS.get(STATUS[code])
            if name is None:
                is_ready = code in _READY_CODES
                name = "ready" if is_ready else "retrying" if has_run else "scheduled"
                if is_ready:
                    known = fields.get("oldest_ready_at")
                    fields["oldest_ready_at"] = oldest if known is None else min(known, oldest)
            fields[name] = fields.get(name, 0) + count
        for queue, by in self.store.db.read("SELECT name, paused_by FROM queues"):
            counts.setdefault(queue, {})["paused_by"] = by
        return [QueueStats(queue=queue, **counts[queue]) for queue in sorted(counts)]

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""
        groups = []
        for fingerprint, seq, count, first, last in self.store.db.read(_GROUPS, (limit,)):
            head = self.store.db.read_one(_GROUP_HEAD, (seq,))
            if head is None:  # pruned meanwhile
                continue
            error = decode_error(head[2]) or StoredError(STATUS[head[3]], "")
            groups.append(
                ErrorGroup(
                    fingerprint=fingerprint,
                    func_name=head[1],
                    type=error.type,
                    message=error.message,
                    count=count,
                    first_at=first or 0.0,
                    last_at=last or 0.0,
                    example_id=head[0],
                )
            )
        return groups

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return the FAILED and DEAD jobs of a group, newest first."""
        return [job_id for (job_id,) in self.store.db.read(_GROUP_IDS, (fingerprint,))]

    @property
    def parked_tasks(self) -> dict[str, int]:
        """Names of tasks that jobs are PARKED for, with their number."""
        return {str(task): int(count) for task, count in self.store.db.read(_PARKED)}

    def _has_ready(self) -> bool:
        return self.store.db.read_one(_HAS_READY, (self.store.clock.now(),)) is not None


def _attempt(row: tuple[Any, ...]) -> Attempt:
    number, outcome, epoch, worker, started_at, finished_at, error = row
    return Attempt(
        number=number,
        outcome=outcome,
        lease_epoch=epoch,
        worker=worker,
        started_at=started_at,
        finished_at=finished_at,
        error=decode_error(error),
    )
