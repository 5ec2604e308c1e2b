"""What people and programs read of a store: jobs, counts, failures, workers."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import ceil
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.contrib.postgres.arrays import floats
from nuvom.contrib.postgres.migration import VERSION
from nuvom.contrib.postgres.rows import (
    CODES,
    escaped,
    snapshot,
    unescaped,
    unpack_attempt,
    unpack_entry,
    unpack_error,
    unpack_worker,
)
from nuvom.contrib.postgres.wakeup import POLL_SECS
from nuvom.core.record import Attempt, JobSnapshot, JobStatus
from nuvom.core.views import (
    RECENT_FAILURES,
    TOOK_BOUNDS,
    WAITED_BOUNDS,
    AuditEntry,
    ErrorGroup,
    JobScan,
    QueueStats,
    Rollup,
    StorePromise,
    StoreSize,
    Total,
    WorkerInfo,
    error_group,
)
from nuvom.queue_backends.server import ServerQueue

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable

    from nuvom.contrib.postgres.database import PostgresDatabase

# Our connections set the second one for themselves; an application's begin with ``reset_val``.
_SETTINGS = """SELECT current_setting('fsync'), reset_val FROM pg_settings
    WHERE name = 'synchronous_commit'"""
_NAMES = {code: str(status).lower() for status, code in CODES.items()}
_ENDED = -1  # instead of a kind: how many ended jobs successes were looked for among
_COUNTED = {0: ("ready",), 7: ("ready", "retrying", "scheduled"), 8: ("ready",)}


class PostgresReads(ServerQueue):
    """The reading half of the queue."""

    db: PostgresDatabase

    def qsize(self) -> int:
        """Return the number of waiting jobs."""
        return sum(stats.waiting for stats in self.stats())

    def get(self, job_id: str) -> JobSnapshot | None:
        """Return one job, or None."""
        rows = self.db.rows("get", job_id)
        return snapshot(rows[0]) if rows else None

    def find_ids(self, suffix: str, limit: int = 6) -> list[str]:
        """Return ids that end in ``suffix``, newest first."""
        return [job_id for (job_id,) in self.db.rows("find_ids", suffix, limit)]

    def page(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first; see the contract."""
        return self._page(statuses, queue, task, before, limit, None)

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
        """Do as ``page`` within a number of stored jobs; see the contract."""
        ends = self.db.rows("part_end", before, within)
        if not ends:
            return JobScan([], None, 0)
        ((lowest, last_id, count),) = ends
        found = self._page(statuses, queue, task, before, limit, lowest)
        if len(found) == limit:
            return JobScan(found, found[-1].record.id, count)
        return JobScan(found, None if count < within else last_id, count)

    def _page(self, statuses: Iterable[JobStatus], *narrowed: Any) -> list[JobSnapshot]:
        queue, task, *place = narrowed
        kinds = [CODES[status] for status in statuses]
        if CODES[JobStatus.PENDING] in kinds:
            kinds += [7, 8]
        rows = self.db.rows("page", kinds or None, queue, escaped(task), *place)
        return [snapshot(row) for row in rows]

    def closed_attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts closed by changes, oldest first."""
        return [
            msgspec.structs.replace(unpack_attempt(body), worker=worker)
            for body, worker in self.db.rows("attempts_of", job_id)
        ]

    def stats(self, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue, by name."""
        found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        looked_at: Counter[int] = Counter()
        if most is None:
            rows = self.db.rows("stats", self.now())
        else:
            rows = self.db.rows("stats_within", self.now(), most)
        for queue, kind, again, later, count, oldest in rows:
            looked_at[kind] += count
            if kind == _ENDED:
                continue
            counts, name = found[queue], _NAMES.get(kind, "pending")
            if name == "pending":
                name = ("retrying" if again else "scheduled") if later else "ready"
            if name == "ready":
                counts["oldest_ready_at"] = min(oldest, counts.get("oldest_ready_at", oldest))
            counts[name] = counts.get(name, 0) + count
        for queue, paused_by, paused_at in self.db.rows("known_queues"):
            found[queue] |= {"paused_by": unescaped(paused_by), "paused_at": paused_at}
        at_least = () if most is None else _more(looked_at, most)
        return [QueueStats(queue=name, at_least=at_least, **found[name]) for name in sorted(found)]

    def revision(self) -> Hashable:
        """Return what changes with each write to the server; see the contract."""
        return str(self.db.call("revision"))

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped, latest first."""
        groups = []
        for row in self.db.rows("error_groups", limit, RECENT_FAILURES):
            group, count, first_at, last_at, job_id, task, status, data, recent = row
            fields: dict[str, Any] = {"fingerprint": unescaped(group), "count": count}
            fields |= {"func_name": unescaped(task), "example_id": job_id}
            fields |= {"first_at": first_at or 0.0, "last_at": last_at or 0.0}
            fields["recent"] = tuple(recent)
            error = None if data is None else unpack_error(data)
            groups.append(error_group(JobStatus(_NAMES[status].upper()), error, **fields))
        return groups

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return ids of the FAILED and DEAD jobs in a group, newest first."""
        return [job_id for (job_id,) in self.db.rows("failed_ids", escaped(fingerprint))]

    @property
    def parked_tasks(self) -> dict[str, int]:
        """The names of tasks with PARKED jobs, and the number of those jobs."""
        return {unescaped(task): count for task, count in self.db.rows("parked_tasks")}

    def parked(self, tasks: Collection[str], limit: int) -> list[JobSnapshot]:
        """Return PARKED jobs of ``tasks``; see ``StoreQueue``."""
        rows = self.db.rows("parked", [escaped(task) for task in tasks], limit)
        return [snapshot(row) for row in rows]

    def announced(self) -> list[WorkerInfo]:
        """Return the announced workers that are not known to be dead; see ``StoreQueue``."""
        return [
            msgspec.structs.replace(
                unpack_worker(info), beat_age_secs=max(0.0, age), running=running
            )
            for info, age, running in self.db.rows("announced", self.known_dead(), self.db.test_now)
        ]

    def next_due_secs(self) -> float | None:
        """Return seconds until the next scheduled job is due, or None."""
        now = self.now()
        due = self.db.call("next_due", now)
        return None if due is None else float(due) - now

    def store_size(self) -> StoreSize:
        """Return the size of the tables; the server does not tell about its disk."""
        return StoreSize(self.db.call("used_bytes"), 0, 0)

    def keep_totals(self) -> None:
        """Make the store count from now on; see the contract."""
        bounds = ([-one for one in reversed(bounds)] for bounds in (TOOK_BOUNDS, WAITED_BOUNDS))
        self.db.rows("keep_totals", *map(floats, bounds))

    def totals(self) -> list[Total]:
        """Return the counts so far; see the contract."""
        return [
            Total(kind, queue, unescaped(task), *rest)
            for kind, queue, task, *rest in self.db.rows("read_totals")
        ]

    def rollups(self, since: float, until: float, step: int) -> list[Rollup]:
        """Return what was counted in each step; see the contract."""
        times = int(since // step * step), ceil(until), step
        return [
            Rollup(at, queue, unescaped(task), *rest)
            for at, queue, task, *rest in self.db.rows("read_rollups", *times)
        ]

    def audit(self, limit: int = 100, before: str | None = None) -> list[AuditEntry]:
        """Return audit entries, newest first; see the contract."""
        return [unpack_entry(entry) for (entry,) in self.db.rows("read_audit", limit, before)]

    def promises(self) -> list[StorePromise]:
        """Return what a crash of the server loses, and how workers wake up; see the contract."""
        row = self.db.attempt(lambda one: one.execute(_SETTINGS).fetchone())
        fsync, commit = row or ("", "")
        # A connection to tables of another version is refused.
        found = [StorePromise(f"schema version {VERSION}", "the tables fit this Nuvom")]
        found.append(_after_a_crash(fsync, self.db.commit))
        if commit == "off" and self.db.commit == "on":
            means = "a crash of the server may lose a job that was stored in your own transaction"
            fix = "Set synchronous_commit to on for the role of your application."
            found.append(StorePromise("synchronous_commit off", means, "warn", fix))
        if self.db.is_pooled:
            means = f"idle workers look for jobs every {POLL_SECS * 1000:g} ms: nothing wakes them"
            fix = "To have workers woken at once, let their postgres_dsn lead to the server itself."
            found.append(StorePromise("connection pooler", means, "warn", fix))
        return found


def _more(looked_at: Counter[int], most: int) -> tuple[str, ...]:
    """Return the names of counts that have stopped."""
    found = {"success"} if looked_at[_ENDED] >= 2 * most else set()
    for kind, count in looked_at.items():
        if kind != _ENDED and count >= most:
            found.update(_COUNTED.get(kind) or (_NAMES[kind],))
    return tuple(sorted(found))


def _after_a_crash(fsync: str, commit: str) -> StorePromise:
    if fsync == "off":
        means = "a crash of the server's machine may damage the whole database"
        return StorePromise("fsync off", means, "fail", "Set fsync to on.")
    if commit == "off":
        means = "a crash of the server may lose the last moments"
        return StorePromise("durability normal", means)
    return StorePromise("durability full", "an acknowledged job survives a crash of the server")
