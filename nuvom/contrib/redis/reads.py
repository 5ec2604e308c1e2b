"""What people and programs read of a store: jobs, counts, failures, workers, its settings."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.contrib.redis.rows import (
    CODES,
    attempt_of,
    number,
    pack,
    rollups_from,
    snapshot,
    texts,
    total_of,
    unpack_entry,
    unpack_worker,
)
from nuvom.core.record import Attempt, JobSnapshot, JobStatus
from nuvom.core.totals import RollupSums
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
from nuvom.errors import BackendUnavailable
from nuvom.queue_backends.server import ServerQueue

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator

    from nuvom.contrib.redis.store import RedisStore

_HOUR, _HOURS_AT_ONCE = 3600, 24
_LOOKED_AT = 500  # entries of a list that one script looks at
_UNSUCCESSFUL = frozenset({JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED})
_COUNTED = ("scheduled", "retrying", "running", "success", "failed", "dead", "cancelled", "parked")
# What an acknowledged job survives, by appendfsync.
_FLUSHES = {
    "always": "survives a crash of the server",
    "everysec": "survives a crash of the server, unless it is of the last second",
    "no": "survives a crash of the server's process; a power cut loses the last half minute",
}
_EVICTS = (
    "the server deletes jobs when its memory is full",
    "Set maxmemory-policy to noeviction; then a call fails, and no job is lost.",
)
_FORGETS = (
    "an acknowledged job is lost when the server crashes: it keeps its data in memory only",
    "Set appendonly yes, unless jobs may be lost.",
)


class RedisReads(ServerQueue):
    """The reading half of the queue."""

    store: RedisStore

    def qsize(self) -> int:
        """Return the number of waiting jobs."""
        return sum(stats.waiting for stats in self.stats())

    def get(self, job_id: str) -> JobSnapshot | None:
        """Return one job, or None."""
        rows = self.store.run("get", job_id.encode())
        return snapshot(rows[0]) if rows else None

    def find_ids(self, suffix: str, limit: int = 6) -> list[str]:
        """Return ids that end in ``suffix``, newest first."""
        found: list[str] = []
        start = 0
        while len(found) < limit:
            part = (suffix.encode(), number(start), number(10 * _LOOKED_AT))
            looked_at, *ids = self.store.run("find_ids", *part)
            found += [one.decode() for one in ids]
            if not looked_at:
                break
            start += looked_at
        return found[:limit]

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
        wanted: dict[str, Any] = {
            "statuses": statuses,
            "queue": queue,
            "task": task,
            "before": before,
        }
        return self.scan(**wanted, limit=limit, within=inf).jobs

    def scan(
        self,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
        within: float = 10_000,
    ) -> JobScan:
        """Do as ``page`` within a number of stored jobs; see the contract."""
        wanted = frozenset(statuses)
        is_rare = bool(wanted) and wanted <= _UNSUCCESSFUL
        narrowed = (
            (queue or "").encode(),
            b"" if task is None else b"=" + task.encode(),
            *texts([str(CODES[status]) for status in wanted]),
        )
        part = _LOOKED_AT if wanted or queue or task else min(limit, _LOOKED_AT)
        found: list[JobSnapshot] = []
        below, start, end, looked_at = b"", (before or "").encode(), b"", 0
        while len(found) < limit:
            if looked_at >= within:
                return JobScan(found, end.decode(), looked_at)
            size = int(min(part, within - looked_at))
            place = (b"failed" if is_rare else b"all", below, start, number(size))
            below, end, *rows = self.store.run("page", *place, *narrowed)
            found += map(snapshot, rows)
            looked_at += size
            if not below and len(found) <= limit:
                return JobScan(found, None, looked_at)
            start = b""
        return JobScan(found[:limit], found[limit - 1].record.id, looked_at)

    def every_job(self) -> Iterator[JobSnapshot]:
        """Yield all jobs, newest first."""
        before = None
        while page := self.page(before=before, limit=_LOOKED_AT):
            yield from page
            before = page[-1].record.id

    def closed_attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts closed by changes, oldest first."""
        return [attempt_of(data) for data in self.store.run("attempts", job_id.encode())]

    def stats(self, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue, by name; the server keeps all of them."""
        del most
        found = []
        for queue, ready, *counts, oldest, paused_by, paused_at in self.store.run("stats"):
            named: dict[str, Any] = dict(zip(_COUNTED, counts, strict=True))
            if oldest:
                named["oldest_ready_at"] = float(oldest)
            if paused_by is not None:
                named["paused_by"] = paused_by.decode()
            if paused_at:
                named["paused_at"] = float(paused_at)
            found.append(QueueStats(queue=queue.decode(), ready=ready, **named))
        return sorted(found, key=lambda one: one.queue)

    def error_groups(self, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped, latest first."""
        groups = []
        most = (number(limit), number(RECENT_FAILURES))
        for name, count, first_at, last_at, row, recent in self.store.run("error_groups", *most):
            newest = snapshot(row)
            fields: dict[str, Any] = {"fingerprint": name.decode(), "count": count}
            fields |= {"func_name": newest.record.func_name, "example_id": newest.record.id}
            fields |= {"first_at": float(first_at), "last_at": float(last_at)}
            fields["recent"] = tuple(map(float, recent))
            groups.append(error_group(newest.status, newest.error, **fields))
        return groups

    def revision(self) -> Hashable:
        """Return the server's count of changes since its last snapshot; see the contract."""
        told = self._told("persistence")
        return told.get("rdb_last_save_time"), told.get("rdb_changes_since_last_save")

    def failed_ids(self, fingerprint: str) -> list[str]:
        """Return ids of the FAILED and DEAD jobs in a group, newest first."""
        return [one.decode() for one in self.store.run("failed_ids", fingerprint.encode())]

    @property
    def parked_tasks(self) -> dict[str, int]:
        """The names of tasks with PARKED jobs, and the number of those jobs."""
        values = iter(self.store.run("parked_tasks"))
        return {task.decode(): int(jobs) for task, jobs in zip(values, values, strict=True)}

    def parked(self, tasks: Collection[str], limit: int) -> list[JobSnapshot]:
        """Return PARKED jobs of ``tasks``; see ``StoreQueue``."""
        rows = self.store.run("parked", number(limit), *(task.encode() for task in tasks))
        return [snapshot(row) for row in rows]

    def announced(self) -> list[WorkerInfo]:
        """Return the announced workers that are not known to be dead; see ``StoreQueue``."""
        found = []
        dead = [owner.encode() for owner in self.known_dead()]
        for info, age, running in self.store.run("announced", *dead):
            raw = {"beat_age_secs": max(0.0, float(age)), "running": running}
            found.append(msgspec.structs.replace(unpack_worker(info), **raw))
        return found

    def next_due_secs(self) -> float | None:
        """Return seconds until the next scheduled job is due, or None."""
        secs = self.store.run("next_due")
        return float(secs) if secs else None

    # ---- the server -------------------------------------------------------------------------

    def store_size(self) -> StoreSize:
        """Return the memory that the server uses, for all that it holds; of its disk, nothing."""
        return StoreSize(int(self._told("memory").get("used_memory", 0)), 0, 0)

    def keep_totals(self) -> None:
        """Make the store count from now on; see the contract."""
        self.store.run("keep_totals", pack((TOOK_BOUNDS, WAITED_BOUNDS)))

    def totals(self) -> list[Total]:
        """Return the counts so far; see the contract."""
        counts, *sums = self.store.run("totals")
        took, waited = (dict(zip(one[::2], one[1::2], strict=True)) for one in sums)
        return [
            total_of(key, count, took.get(key, b"0"), waited.get(key, b"0"))
            for key, count in zip(counts[::2], counts[1::2], strict=True)
        ]

    def rollups(self, since: float, until: float, step: int) -> list[Rollup]:
        """Return what was counted in each step; see the contract. Added up here, not there."""
        found: list[Rollup] = []
        start = since // step * step
        first, last = number(start // _HOUR * _HOUR), number(until)
        while first:
            first, *hashes = self.store.run("rollups", first, last, number(_HOURS_AT_ONCE))
            found += (one for data in hashes for one in rollups_from(data))
        return RollupSums(found).between(start, until, step)

    def audit(self, limit: int = 100, before: str | None = None) -> list[AuditEntry]:
        """Return audit entries, newest first; see the contract."""
        first = b"+" if before is None else b"(" + before.encode()
        return [unpack_entry(one) for one in self.store.run("audit", first, number(limit))]

    def promises(self) -> list[StorePromise]:
        """Return whether the server may delete jobs, and what its crash loses; see the contract."""
        policy = self._told("memory").get("maxmemory_policy", "unknown")
        found = StorePromise(f"maxmemory-policy {policy}", "the server never deletes a job")
        if policy != "noeviction":
            found = StorePromise(found.setting, _EVICTS[0], "fail", _EVICTS[1])
        return [found, self._after_a_crash()]

    def _after_a_crash(self) -> StorePromise:
        if self._told("persistence").get("aof_enabled") != "1":
            return StorePromise("appendonly no", _FORGETS[0], "warn", _FORGETS[1])
        flush = "unknown"
        with suppress(BackendUnavailable):  # a user may not be allowed to read it
            flush = self.store.command(b"CONFIG", b"GET", b"appendfsync")[1].decode()
        setting = f"appendonly yes, appendfsync {flush}"
        if flush not in _FLUSHES:
            means = "what a crash of the server loses could not be read"
            return StorePromise(setting, means, "warn", "Allow +config|get, or ask its operator.")
        means = f"an acknowledged job {_FLUSHES[flush]}"
        if flush == "no":
            return StorePromise(setting, means, "warn", "Set appendfsync everysec, or always.")
        return StorePromise(setting, means)

    def _told(self, section: str) -> dict[str, str]:
        """Return a section of what the server tells of itself."""
        text = self.store.command(b"INFO", section.encode()).decode()
        pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
        return {name: value for name, _, value in pairs}
