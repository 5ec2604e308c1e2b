"""The read queries of the SQLite store: jobs, pages, attempts, counts, failures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import Attempt, JobSnapshot, JobStatus
from nuvom.core.views import RECENT_FAILURES, ErrorGroup, JobScan, QueueStats, error_group
from nuvom.queue_backends.sqlite.schema import (
    CANCELLED,
    CODES,
    DEAD,
    FAILED,
    PARKED,
    READY,
    RUNNING,
    SCHEDULED,
    SNAPSHOT,
    SNAPSHOT_WITH_RESULT,
    STATUS,
    SUCCESS,
    SUSPECT,
    decode_error,
    each_status,
    snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Sequence

    from nuvom.queue_backends.sqlite.connection import Database
    from nuvom.queue_backends.sqlite.store import SQLiteStore

_ALL = 2**63 - 1  # greater than any number of a job
_PAGE = 1000  # jobs to look at first for a page that is narrowed, and
_WIDER = 4  # how many times as many the next time
_OLDEST = 50  # ready jobs of a queue and priority among which the oldest is looked for

_ONE = f"{SNAPSHOT_WITH_RESULT} WHERE j.id = ?1"
# If that job was removed since, compare ids: those of this package sort by creation time, but
# those of one moment in any order, so some are looked at. Better show a job twice than miss it.
_BELOW = """SELECT coalesce((SELECT seq FROM jobs WHERE id = ?1),
    (SELECT 1 + max(seq) FROM (SELECT seq FROM jobs WHERE id < ?1 ORDER BY id DESC LIMIT 100)),
    0)"""
_FITS = """(?1 IS NULL OR j.queue = ?1) AND (?2 IS NULL OR j.task = ?2)"""
# Jobs of any status: first which numbers a walk through the newest ?2 comes to.
_ENDS = """SELECT max(seq), min(seq), count(*)
    FROM (SELECT seq FROM jobs WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2)"""
_WALK = f"""{SNAPSHOT} WHERE j.seq < ?4 AND j.seq >= ?5 AND {_FITS}
    AND (?6 = '[]' OR j.status IN (SELECT value FROM json_each(?6)))
    ORDER BY j.seq DESC LIMIT ?3"""
# Jobs of a queue (or all) and of statuses that have an index: the newest ?5 of each status, of
# which the newest are chosen together.
_OTHER = """SELECT seq FROM (SELECT seq FROM jobs WHERE status = {status} AND status > 2
    AND seq < ?4 AND (?1 IS NULL OR queue = ?1) ORDER BY seq DESC LIMIT ?5)"""
# The planner would walk through the table, which is in order, instead of the few that run.
_RUNNING = """SELECT seq FROM jobs INDEXED BY jobs_running WHERE status = 1 AND seq < ?4
    AND (?1 IS NULL OR queue = ?1)"""
# The index of ready jobs is by queue and priority: go from one pair to the next.
_READY_PARTS = """WITH RECURSIVE parts(queue, priority) AS (
        SELECT * FROM (
            SELECT queue, priority FROM jobs WHERE status = 0 ORDER BY queue, priority LIMIT 1)
        UNION ALL
        SELECT j.queue, j.priority FROM parts, jobs AS j WHERE j.seq = coalesce(
            (SELECT seq FROM jobs WHERE status = 0 AND queue = parts.queue
                AND priority > parts.priority ORDER BY priority LIMIT 1),
            (SELECT seq FROM jobs WHERE status = 0 AND queue > parts.queue
                ORDER BY queue, priority LIMIT 1)))"""
_READY = f"""SELECT seq FROM ({_READY_PARTS} SELECT j.seq FROM parts, jobs AS j
    WHERE (?1 IS NULL OR parts.queue = ?1) AND j.seq IN (
        SELECT seq FROM jobs WHERE status = 0 AND queue = parts.queue
            AND priority = parts.priority AND seq < ?4 ORDER BY seq DESC LIMIT ?5))"""
_CHOSEN = "SELECT seq FROM ({chosen}) ORDER BY seq DESC LIMIT ?5"
_CHOOSE = f"""{SNAPSHOT} WHERE j.seq IN ({_CHOSEN}) AND {_FITS}
    ORDER BY j.seq DESC LIMIT ?3"""
_LAST_CHOSEN = f"SELECT max(seq), min(seq), count(*) FROM ({_CHOSEN})"
_ID = "SELECT id FROM jobs WHERE seq = ?1"
_FIND = """SELECT id FROM jobs WHERE ?1 = '' OR substr(id, -length(?1)) = ?1
    ORDER BY seq DESC LIMIT ?2"""
_ATTEMPTS = """SELECT number, outcome, lease_epoch, worker, started_at, finished_at, error
    FROM attempts WHERE seq = (SELECT seq FROM jobs WHERE id = ?1) ORDER BY rowid"""
_COUNTS = """SELECT queue, CASE WHEN status IN (0, 8) OR status = 7 AND run_at <= ?1 THEN 'ready'
        WHEN status = 7 THEN CASE attempt WHEN 0 THEN 'scheduled' ELSE 'retrying' END
        ELSE status END AS kind, count(*), min(max(created_at, run_at))
    FROM jobs GROUP BY queue, kind"""
# Counts that stop at ?1. Ready jobs are counted by queue; of each part, the first ones tell
# how long the oldest job has waited.
_SOME_READY = f"""{_READY_PARTS} SELECT queue,
        (SELECT count(*) FROM (SELECT 1 FROM jobs AS j WHERE j.status = 0
            AND j.queue = parts.queue AND j.priority = parts.priority LIMIT ?1)),
        (SELECT min(max(created_at, run_at)) FROM (SELECT created_at, run_at FROM jobs AS j
            WHERE j.status = 0 AND j.queue = parts.queue AND j.priority = parts.priority
            ORDER BY seq LIMIT {_OLDEST}))
    FROM parts"""
_SOME_DUE = """SELECT queue, attempt > 0, max(created_at, run_at) FROM jobs
    WHERE status = 7 AND run_at <= ?2 LIMIT ?1"""
_SOME_RUNNING = """SELECT queue, count(*) FROM (
        SELECT queue FROM jobs WHERE status = 1 LIMIT ?1) GROUP BY queue"""
_SOME_OTHERS = """SELECT queue, attempt > 0 AS again, count(*) FROM (
        SELECT queue, attempt FROM jobs WHERE status = {status} AND status > 2
        ORDER BY seq DESC LIMIT ?1)
    GROUP BY queue, again"""
# Successes have no index, which would cost each job something: look at both ends of the table.
# One row with all of them is read in half the time of as many rows.
_SUCCESSES = """SELECT json_group_array(queue) FROM (SELECT queue FROM (
        SELECT queue, status FROM jobs WHERE seq < ?2 ORDER BY seq {order} LIMIT 5 * ?1 / 4)
    WHERE status = 2 LIMIT ?1)"""
_NEWEST_SUCCESSES = _SUCCESSES.format(order="DESC")
_OLDEST_SUCCESSES = _SUCCESSES.format(order="ASC")
# Groups by the index alone, then the oldest and the newest job of each; times of the latest groups.
_GROUPS = f"""WITH groups AS (
        SELECT error_fp, count(*) AS count, min(seq) AS first, max(seq) AS last
        FROM jobs WHERE error_fp IS NOT NULL GROUP BY error_fp),
    latest AS (
        SELECT groups.error_fp, count, oldest.finished_at, newest.finished_at AS last_at,
            newest.id, newest.task, newest.status, newest.error
        FROM groups JOIN jobs AS newest ON newest.seq = last
            JOIN jobs AS oldest ON oldest.seq = first
        ORDER BY last_at DESC LIMIT ?1)
    SELECT *, (SELECT json_group_array(finished_at) FROM (SELECT finished_at FROM jobs
        WHERE error_fp = latest.error_fp AND finished_at IS NOT NULL
        ORDER BY seq DESC LIMIT {RECENT_FAILURES}))
    FROM latest ORDER BY last_at DESC"""
_GROUP_IDS = "SELECT id FROM jobs WHERE error_fp = ?1 ORDER BY seq DESC"
_PARKED_TASKS = "SELECT task, count(*) FROM jobs WHERE status = 6 GROUP BY task ORDER BY task"
_PARKED = f"""{SNAPSHOT} WHERE j.status = 6
    AND j.task IN (SELECT value FROM json_each(?1)) LIMIT ?2"""
_WAITING = each_status("SELECT count(*) FROM jobs WHERE status = {status}", 0, 7, 8)
_HAS_READY = f"""{each_status("SELECT 1 FROM jobs WHERE status = {status}", 0, 8)}
    UNION ALL SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1 LIMIT 1"""
_NEXT_DUE = "SELECT min(run_at) FROM jobs WHERE status = 7 AND run_at > ?1"

_decode_names = msgspec.json.Decoder(list[str]).decode


def read_job(db: Database, job_id: str) -> JobSnapshot | None:
    """Return one job with its result, or None."""
    rows = db.read(_ONE, (job_id,))
    return snapshot(rows[0]) if rows else None


class _Wanted:
    """Which jobs a page is to have.

    Attributes:
        codes: The codes of the statuses, as JSON; empty for all.
        chosen: SQL that chooses them by the indexes of their statuses; empty if some has none.
    """

    def __init__(self, statuses: Iterable[JobStatus], queue: str | None, task: str | None) -> None:
        self.queue, self.task = queue, task
        codes = [code for status in statuses for code in CODES[status]]
        self.codes = json.dumps(codes)
        # Ready jobs are in the order of priorities: those of a task are found sooner by a walk.
        has_index = codes and SUCCESS not in codes and (task is None or READY not in codes)
        self.chosen = " UNION ALL ".join(map(choice_of, codes)) if has_index else ""


def choice_of(code: int) -> str:
    """Return SQL that chooses the newest jobs of a status by its index."""
    return {READY: _READY, RUNNING: _RUNNING}.get(code) or _OTHER.format(status=code)


class _Bounded:
    """Counts jobs by queue and kind, each up to a limit."""

    def __init__(self, store: SQLiteStore, most: int) -> None:
        self._store = store
        self._most = most
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._oldest: dict[str, float] = {}
        self._at_least: dict[str, set[str]] = defaultdict(set)

    def counts(self, *, with_successes: bool = True) -> dict[str, dict[str, Any]]:
        """Return the fields of ``QueueStats`` by queue."""
        self._count_ready()
        self._count("running", self._read(_SOME_RUNNING))
        for code in (FAILED, DEAD, CANCELLED, PARKED):
            self._count(STATUS[code].lower(), self._read(_SOME_OTHERS.format(status=code)))
        self._count_later()
        if with_successes:
            self._count_successes()
        found: dict[str, dict[str, Any]] = {}
        for queue, counted in self._counts.items():
            found[queue] = {
                **counted,
                "oldest_ready_at": self._oldest.get(queue),
                "at_least": tuple(sorted(self._at_least[queue] | self._at_least[""])),
            }
        return found

    def _read(self, sql: str, *more: object) -> list[tuple[Any, ...]]:
        return self._store.db.read(sql, (self._most, *more))

    def _count(self, kind: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for queue, *_, count in rows:
            self._counts[queue][kind] += count
        if sum(row[-1] for row in rows) >= self._most:
            self._at_least[""].add(kind)

    def _count_ready(self) -> None:
        for queue, count, oldest in self._read(_SOME_READY):
            self._counts[queue]["ready"] += count
            self._waits(queue, oldest)
            if count >= self._most:
                self._at_least[queue].add("ready")
        suspects = self._read(_SOME_OTHERS.format(status=SUSPECT))
        self._count("ready", suspects)

    def _count_later(self) -> None:
        """Count scheduled jobs, and those that are due already as ready."""
        rows, due = self._read(_SOME_OTHERS.format(status=SCHEDULED)), 0
        later = Counter({(queue, again): count for queue, again, count in rows})
        is_more = later.total() >= self._most
        for queue, again, since in self._read(_SOME_DUE, self._store.clock.now()):
            due += 1
            later[queue, again] -= 1
            self._counts[queue]["ready"] += 1
            self._waits(queue, since)
        for (queue, again), count in later.items():
            self._counts[queue]["retrying" if again else "scheduled"] += max(0, count)
        if is_more:
            self._at_least[""] |= {"scheduled", "retrying"}
        if due >= self._most:
            self._at_least[""].add("ready")

    def _count_successes(self) -> None:
        """Count in the newest rows and, if there are more, in the oldest."""
        found = Counter(self._queues(_NEWEST_SUCCESSES, _ALL))
        is_more = found.total() >= self._most
        if not is_more:
            ends = self._store.db.read(_ENDS, (_ALL, 5 * self._most // 4))
            is_more = bool(ends) and ends[0][2] == 5 * self._most // 4
            lowest = ends[0][1] if is_more else 0
            found.update(self._queues(_OLDEST_SUCCESSES, lowest) if is_more else ())
        for queue, count in found.items():
            self._counts[queue]["success"] = count
        if is_more:
            self._at_least[""].add("success")

    def _queues(self, sql: str, below: int) -> list[str]:
        rows = self._read(sql, below)
        return _decode_names(rows[0][0]) if rows else []

    def _waits(self, queue: str, since: float) -> None:
        self._oldest[queue] = min(since, self._oldest.get(queue, since))


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
        wanted = _Wanted(statuses, queue, task)
        below, within = self._below(before), limit if task is None else _PAGE
        found: list[JobSnapshot] = []
        while below and len(found) < limit:
            size = within if wanted.chosen else _ALL
            jobs, below, _ = self._look(wanted, below, limit - len(found), size)
            found += jobs
            within *= _WIDER
        return found

    def scan(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
        within: int = 10_000,
    ) -> JobScan:
        """Do as ``page`` within a number of stored jobs; see the contract.

        Jobs of statuses that have an index are found without looking at others.
        """
        wanted = _Wanted(statuses, queue, task)
        if wanted.chosen:
            within = limit if task is None else min(within, _PAGE)
        jobs, below, looked_at = self._look(wanted, self._below(before), limit, within)
        if not below:
            return JobScan(jobs, None, looked_at)
        rows = self.store.db.read(_ID, (below,))
        return JobScan(jobs, rows[0][0] if rows else None, looked_at)

    def _below(self, before: str | None) -> int:
        """Return the number that jobs before that one are below."""
        if before is None:
            return _ALL
        row = self.store.db.read_one(_BELOW, (before,))
        return 0 if row is None else int(row[0])

    def _look(
        self, wanted: _Wanted, below: int, limit: int, within: int
    ) -> tuple[list[JobSnapshot], int, int]:
        """Return jobs, the number below which to go on or 0, and how many were looked at."""
        read, fits = self.store.db.read, (wanted.queue, wanted.task, limit)
        top, lowest, count = below, 0, 0
        if wanted.chosen:
            rows = read(_CHOOSE.format(chosen=wanted.chosen), (*fits, below, within))
            last = _LAST_CHOSEN.format(chosen=wanted.chosen)
            ends = read(last, (wanted.queue, None, None, below, within))
        else:
            ends = read(_ENDS, (below, within)) if within < _ALL else []
            rows = read(_WALK, (*fits, below, ends[0][1] or 0 if ends else 0, wanted.codes))
        if ends:
            top, lowest, count = ends[0]
        jobs = [snapshot(row) for row in rows]
        if len(jobs) == limit:
            last_seq = jobs[-1].record.ref
            return jobs, last_seq, min(count, 1 + top - last_seq)
        return jobs, lowest if count == within else 0, count

    def closed_attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts closed by changes, oldest first."""
        names = ("number", "outcome", "lease_epoch", "worker", "started_at", "finished_at")
        return [
            Attempt(**dict(zip(names, row, strict=False)), error=decode_error(row[-1]))
            for row in self.store.db.read(_ATTEMPTS, (job_id,))
        ]

    def stats(self, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue, by name; see the contract.

        Without ``most`` it reads every row once; a worker never calls it so.
        """
        counts: dict[str, dict[str, Any]] = defaultdict(dict)
        if most is None:
            rows = self.store.db.read(_COUNTS, (self.store.clock.now(),))
            for queue, kind, count, oldest in rows:
                counts[queue][kind if isinstance(kind, str) else STATUS[kind].lower()] = count
                if kind == "ready":
                    counts[queue]["oldest_ready_at"] = oldest
        else:
            counts.update(_Bounded(self.store, most).counts())
        return self._with_pauses(counts)

    def backlog(self, most: int | None = None) -> list[QueueStats]:
        """Return counts without successes, by the indexes alone; see the contract."""
        bounded = _Bounded(self.store, _ALL if most is None else most)
        return self._with_pauses(bounded.counts(with_successes=False))

    def _with_pauses(self, counts: dict[str, dict[str, Any]]) -> list[QueueStats]:
        known = self.store.db.read("SELECT name, paused_by, paused_at FROM queues")
        for queue, by, at in known:
            counts.setdefault(queue, {}).update(paused_by=by, paused_at=None if by is None else at)
        return [QueueStats(queue=queue, **counts[queue]) for queue in sorted(counts)]

    def revision(self) -> Hashable:
        """Return a value that changes with each commit, of any process."""
        return self.store.db.changes()

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""
        groups = []
        for row in self.store.db.read(_GROUPS, (limit,)):
            fingerprint, count, first_at, last_at, example_id, task, code, data, recent = row
            status = STATUS[code]
            fields = {"fingerprint": fingerprint, "func_name": task, "count": count}
            fields |= {"first_at": first_at or 0.0, "last_at": last_at or 0.0}
            fields |= {"example_id": example_id, "recent": tuple(map(float, json.loads(recent)))}
            groups.append(error_group(status, decode_error(data), **fields))
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
