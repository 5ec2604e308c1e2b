"""The queue that lives in this process and ends with it: no file, nothing counted beyond its jobs.

For tests, scripts and embedded workers. What each method promises is in ``leased.py``; reading
and control are in ``nuvom/_memory/``, and so is the store that lays the jobs in order.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from nuvom._memory.control import MemoryControl
from nuvom.queue_backends.base import Capability
from nuvom.record import JobStatus
from nuvom.recovery import LostDelivery, died_error, parked_error, recovered
from nuvom.tally import Ran

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom._memory.shelf import Row
    from nuvom._memory.store import Holder, QueueState
    from nuvom.outcome import Settlement
    from nuvom.record import JobRecord

_PENDING, _RUNNING = JobStatus.PENDING, JobStatus.RUNNING
_DEAD, _PARKED = JobStatus.DEAD, JobStatus.PARKED
_SILENT_LEASES = 20  # a worker without a beat for so many leases is taken for dead


class MemoryJobQueue(MemoryControl):
    """A queue in memory. Built as ``cls(settings)`` or ``cls()``; see ``MemoryCore``.

    No other process sees it, so only the end of its lease shows that a worker is gone.
    """

    name: ClassVar[str] = "memory"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    # ---- enqueueing -----------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        with self.store.lock:
            return self.store.add(job)

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        listed = list(jobs)  # whatever makes them does not run under the lock
        with self.store.lock:
            return self.store.add_all(listed)

    def qsize(self) -> int:
        with self.store.lock:
            return sum(queue.counts[_PENDING] for queue in self.store.queues.values())

    # ---- delivery -------------------------------------------------------------------------

    def claim(
        self,
        n: int,
        owner: str,
        queues: Sequence[str] | None = None,
        *,
        exclude: Sequence[str] = (),
        without: Iterable[str] = (),
        suspects: int = 1,
    ) -> list[JobRecord]:
        store = self.store
        unwanted = frozenset(without)
        rows: list[Row] = []
        with store.lock:
            holder = store.holder(owner)
            store.promote()
            turns = self._turns(queues, exclude)
            for turn in turns:
                rows += store.pick(min(n, suspects) - len(rows), turn, unwanted, suspects=True)
            for turn in turns:
                rows += store.pick(n - len(rows), turn, unwanted, suspects=False)
            return self._leased_to(holder, rows)

    def _turns(
        self, queues: Sequence[str] | None, exclude: Sequence[str]
    ) -> list[list[QueueState]]:
        """Return what to claim from, turn by turn; queues in one turn are served as if one."""
        known = self.store.queues
        if queues is None:
            served = [queue for name, queue in known.items() if name not in exclude]
            return [[queue for queue in served if queue.paused_by is None]]
        named = [known[name] for name in queues if name in known and name not in exclude]
        return [[queue] for queue in named if queue.paused_by is None]

    def _leased_to(self, holder: Holder, rows: list[Row]) -> list[JobRecord]:
        lease_until = self._clock.monotonic() + self._lease_secs
        claimed = []
        for row in rows:
            before = row.record
            record = replace(
                before,
                status=_RUNNING,
                attempt=before.attempt + 1,
                deliveries=before.deliveries + 1,
                lease_epoch=before.lease_epoch + 1,
            )
            self.store.change(row, record)
            holder.held[record.id] = row
            row.holder = holder
            row.worker = holder.name
            row.lease_until = lease_until
            row.started_at = row.finished_at = row.progress = None
            claimed.append(record)
        return claimed

    def mark_started(self, job: JobRecord) -> None:
        with self.store.lock:
            row = self._held(job)
            if row is not None:
                row.started_epoch = job.lease_epoch
                row.started_at = self._clock.now()

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        with self.store.lock:
            now = self._clock.now()
            answers = [self._settle(settlement, now) for settlement in settlements]
            self.store.tell_readers()
            return answers

    def _settle(self, settlement: Settlement, now: float) -> bool:
        claimed = settlement.record
        row = self._held(claimed)
        if row is None:
            return self._has_settled(claimed)
        record = row.record
        row.settled_epoch = record.lease_epoch
        row.started_at = settlement.started_at or row.started_at
        row.finished_at = settlement.finished_at or now
        row.result = settlement.result
        row.error = settlement.error
        if settlement.status is not _PARKED:  # then no user code ran
            self._close_attempt(row, settlement.outcome, settlement.error)
            self._count(row, settlement.status, settlement.outcome, _ran(settlement))
        self._let_go(row)
        self._put(
            row,
            replace(
                record,
                status=settlement.status,
                attempt=record.attempt if settlement.keeps_attempt else record.attempt - 1,
                deliveries=record.deliveries - 1,
                run_at=settlement.run_at if settlement.status is _PENDING else record.run_at,
                suspect=False,
            ),
        )
        for child in settlement.children:
            # However full its queue is: a refusal would make a finished job run again.
            self.store.add(child, limited=False)
        return True

    def _has_settled(self, claimed: JobRecord) -> bool:
        """Tell whether this attempt was closed before: its reply may have been lost."""
        row = self.store.rows.get(claimed.id)
        return row is not None and (
            row.settled_epoch == row.record.lease_epoch == claimed.lease_epoch
        )

    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        with self.store.lock:
            return [self._release(job) for job in jobs]

    def _release(self, job: JobRecord) -> bool:
        row = self._held(job)
        if row is None:
            return False
        record = row.record
        if row.started_epoch == record.lease_epoch:
            row.finished_at = self._clock.now()
            self._close_attempt(row, "released")
        self._let_go(row)
        attempt, deliveries = record.attempt - 1, record.deliveries - 1
        self._put(row, record.replace(status=_PENDING, attempt=attempt, deliveries=deliveries))
        return True

    def extend(self, owner: str) -> dict[str, int]:
        with self.store.lock:
            holder = self.store.holders.get(owner)
            if holder is None:
                return {}
            now = holder.beat_at = self._clock.monotonic()
            for row in holder.held.values():
                row.lease_until = now + self._lease_secs
            return {job_id: row.record.lease_epoch for job_id, row in holder.held.items()}

    def reap(self) -> list[JobRecord]:
        with self.store.lock:
            now = self._clock.monotonic()
            reaped = []
            for holder in list(self.store.holders.values()):
                reaped += self._reap_from(holder, now)
                is_gone = holder.beat_at + _SILENT_LEASES * self._lease_secs < now
                if not holder.held and (holder.info is None or is_gone):
                    del self.store.holders[holder.name]
            for row in self.store.parked.take(inf, (now, inf)):
                epoch = row.record.lease_epoch + 1
                dead = row.record.replace(status=_DEAD, lease_epoch=epoch)
                self._end(row, dead, parked_error(dead))
                reaped.append(dead)
            self.store.promote()
            return reaped

    def _reap_from(self, holder: Holder, now: float) -> list[JobRecord]:
        rows = [row for row in holder.held.values() if row.lease_until <= now]
        lost = [LostDelivery(r.record, r.started_epoch == r.record.lease_epoch) for r in rows]
        wall_now = self._clock.now()
        records = recovered(lost, now=wall_now, max_deliveries=self._max_deliveries)
        for row, delivery, record in zip(rows, lost, records, strict=True):
            row.finished_at = wall_now
            if delivery.started:
                row.error = died_error(record)
                self._close_attempt(row, "lost", row.error)
                # Its death is counted below, with all others.
                self._count(row, _PENDING if record.status is _PENDING else _RUNNING, "lost")
            self._let_go(row)
            if record.status is _DEAD:
                self._end(row, record, row.error)
            else:
                self._put(row, record)
        return records

    def next_due_secs(self) -> float | None:
        with self.store.lock:
            return self._next_due_secs()

    def _next_due_secs(self) -> float | None:
        self.store.promote()
        entry = self.store.scheduled.head()
        return None if entry is None else max(0.0, entry[0] - self._clock.now())

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        with self.store.lock:
            row = self._held(job)
            if row is not None:
                row.progress = (done, total, message)
            return row is not None

    # ---- waiting --------------------------------------------------------------------------

    def wait_for_work(self, timeout: float, recheck: Callable[[], bool] | None = None) -> bool:
        store = self.store
        with store.lock:
            seen = store.arrivals
            store.waiting_for_work += 1
        try:
            if (recheck or self._has_ready)():  # without the lock: it may claim
                return True
            with store.lock:
                if store.arrivals == seen:
                    due_secs = self._next_due_secs()
                    secs = timeout if due_secs is None else min(timeout, due_secs)
                    self._clock.wait(store.work, secs)
                    store.promote()
                return store.arrivals != seen
        finally:
            with store.lock:
                store.waiting_for_work -= 1

    def _has_ready(self) -> bool:
        with self.store.lock:
            self.store.promote()
            return any(queue.has_ready for queue in self.store.queues.values())

    def notify(self) -> None:
        with self.store.lock:
            self.store.tell_workers()

    def interrupt(self) -> None:
        self.notify()


def _ran(settlement: Settlement) -> Ran | None:
    """Return how long the attempt took and had waited; None where nothing ran."""
    began = settlement.started_at
    if not began:
        return None
    record = settlement.record
    return Ran(settlement.finished_at - began, began - max(record.created_at, record.run_at))
