"""The queue that lives in this process and ends with it: no file, nothing counted beyond its jobs.

For tests, scripts and embedded workers. What each method promises is in ``leased.py``; reading
and control are in ``nuvom/_memory/``, and so is the store that lays the jobs in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from nuvom._memory.control import MemoryControl
from nuvom._memory.core import with_closed
from nuvom.core.record import FINAL, JobStatus
from nuvom.core.recovery import LostDelivery, died_error, parked_error, recovered
from nuvom.core.tally import Ran
from nuvom.queue_backends.base import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom._memory.shelf import QueueState, Row
    from nuvom._memory.store import Holder
    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobRecord

_PENDING, _RUNNING = JobStatus.PENDING, JobStatus.RUNNING
_DEAD, _PARKED = JobStatus.DEAD, JobStatus.PARKED


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
            self.store.ensure_sound()
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
        claimed: list[JobRecord] = []
        try:
            with store.lock:
                holder = store.holder(owner)
                store.promote()
                turns = self._turns(queues, exclude)
                store.unfinished += 1
                for turn in turns:
                    rows += store.pick(min(n, suspects) - len(rows), turn, unwanted, suspects=True)
                for turn in turns:
                    rows += store.pick(n - len(rows), turn, unwanted, suspects=False)
                self._lease(rows, holder, claimed)
                store.unfinished -= 1
            return claimed
        except BaseException:  # nobody got them
            self.release(claimed)
            raise

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

    def _lease(self, rows: list[Row], holder: Holder, claimed: list[JobRecord]) -> None:
        """Let a holder have jobs, which are on no shelf any more.

        Args:
            claimed: Gets the record of each job before its lease begins, so that no leased one
                is missing there when an exception comes in between.
        """
        lease_until = self._clock.monotonic() + self._lease_secs
        queues, held, owner = self.store.queues, holder.held, holder.name
        for row in rows:
            before = row.record
            record = replace(
                before,
                status=_RUNNING,
                attempt=before.attempt + 1,
                deliveries=before.deliveries + 1,
                lease_epoch=before.lease_epoch + 1,
            )
            claimed.append(record)
            row.record = record
            row.holder = holder
            row.worker = owner
            row.lease_until = lease_until
            row.started_at = row.finished_at = None
            held[record.id] = row
            counts = queues[record.queue].counts
            counts[_PENDING] -= 1
            counts[_RUNNING] += 1

    def mark_started(self, job: JobRecord) -> None:
        with self.store.lock:
            row = self._held(job)
            if row is not None:
                row.started_epoch = job.lease_epoch

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        with self.store.lock:
            self.store.ensure_sound()
            self.store.tell_readers()
            now = self._clock.now()
            return [self._settle(settlement, now) for settlement in settlements]

    def _settle(self, settlement: Settlement, now: float) -> bool:
        row = self._held(settlement.record)
        if row is None:
            return self._has_settled(settlement.record)
        store, before, holder = self.store, row.record, row.holder
        record = _settled(before, settlement)
        started_at, finished_at = settlement.started_at or None, settlement.finished_at or now
        attempts, lease_until = row.attempts, row.lease_until
        if record.status is _PARKED:  # no user code ran
            lease_until = self._clock.monotonic() + self._parked_ttl_secs
        else:
            outcome, error = settlement.outcome, settlement.error
            attempts = with_closed(row, outcome, started_at, finished_at, error=error)
        # However full their queues are: a refusal would make a finished job run again.
        given = settlement.children
        ended = row if record.status in FINAL else None
        children = store.rows_for(given, {}, limited=False, ended=ended) if given else {}
        if children or record.status is _PENDING:
            store.tell_workers()
        store.unfinished += 1
        for child in children.values():
            store.derive(child)
        row.record = record
        row.holder = None
        row.settled_epoch = record.lease_epoch
        row.lease_until = lease_until
        row.started_at = started_at
        row.finished_at = finished_at
        row.result = settlement.result
        row.error = settlement.error
        row.progress = None
        row.attempts = attempts
        store.rows.update(children)
        store.moved(row, before, holder)
        store.unfinished -= 1
        if store.tally is not None:
            store.count_enqueued(children)
            if record.status is not _PARKED:
                self._count(row, record.status, settlement.outcome, _ran(settlement))
        return True

    def _has_settled(self, claimed: JobRecord) -> bool:
        """Tell whether this attempt was closed before: its reply may have been lost."""
        row = self.store.rows.get(claimed.id)
        return row is not None and (
            row.settled_epoch == row.record.lease_epoch == claimed.lease_epoch
        )

    def release(self, jobs: Sequence[JobRecord]) -> list[bool]:
        with self.store.lock:
            self.store.ensure_sound()
            return [self._release(job) for job in jobs]

    def _release(self, job: JobRecord) -> bool:
        row = self._held(job)
        if row is None:
            return False
        record, finished_at, attempts = row.record, None, None
        if row.started_epoch == record.lease_epoch:
            finished_at = self._clock.now()
            attempts = with_closed(row, "released", None, finished_at)
        waiting = record.replace(
            status=_PENDING, attempt=record.attempt - 1, deliveries=record.deliveries - 1
        )
        self._change(row, waiting, finished_at=finished_at, attempts=attempts)
        return True

    def extend(self, owner: str) -> dict[str, int]:
        with self.store.lock:
            self.store.ensure_sound()
            holder = self.store.holders.get(owner)
            if holder is None:
                return {}
            now = holder.beat_at = self._clock.monotonic()
            for row in holder.held.values():
                row.lease_until = now + self._lease_secs
            return {job_id: row.record.lease_epoch for job_id, row in holder.held.items()}

    def reap(self) -> list[JobRecord]:
        store = self.store
        with store.lock:
            store.promote()
            now = self._clock.monotonic()
            reaped = []
            for holder in list(store.holders.values()):
                reaped += self._reap_from(holder, now)
                if not holder.held and holder.info is None:
                    del store.holders[holder.name]
            while (entry := store.parked.head()) is not None and entry[0] <= now:
                row = entry[2]
                epoch = row.record.lease_epoch + 1
                dead = row.record.replace(status=_DEAD, lease_epoch=epoch)
                self._end(row, dead, error=parked_error(dead))
                reaped.append(dead)
            return reaped

    def _reap_from(self, holder: Holder, now: float) -> list[JobRecord]:
        rows = [row for row in holder.held.values() if row.lease_until <= now]
        lost = [LostDelivery(r.record, r.started_epoch == r.record.lease_epoch) for r in rows]
        wall_now = self._clock.now()
        records = recovered(lost, now=wall_now, max_deliveries=self._max_deliveries)
        # A suspect comes last: while it is still held, its holder's other jobs are not charged,
        # also by the next call, if an exception ends this one in between.
        changes = sorted(zip(rows, lost, records, strict=True), key=_starts_as_suspect)
        for row, delivery, record in changes:
            error, attempts = None, row.attempts
            if delivery.started:
                error = died_error(record)
                attempts = with_closed(row, "lost", None, wall_now, error=error)
            if record.status is _DEAD:
                self._end(row, record, error=error, attempts=attempts)
            else:
                self._change(row, record, finished_at=wall_now, error=error, attempts=attempts)
            if delivery.started:  # a death was counted by ``_end``, as all others are
                self._count(row, _PENDING if record.status is _PENDING else _RUNNING, "lost")
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
        store, token = self.store, object()
        try:
            with store.lock:
                store.waiting_for_work.add(token)
                seen = store.arrivals
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
            store.waiting_for_work.discard(token)

    def _has_ready(self) -> bool:
        with self.store.lock:
            self.store.promote()
            return any(queue.has_ready for queue in self.store.queues.values())

    def notify(self) -> None:
        with self.store.lock:
            self.store.tell_workers()

    def interrupt(self) -> None:
        self.notify()


def _settled(record: JobRecord, settlement: Settlement) -> JobRecord:
    """Return what a claimed job becomes by a settlement."""
    status = settlement.status
    return replace(
        record,
        status=status,
        attempt=record.attempt if settlement.keeps_attempt else record.attempt - 1,
        deliveries=record.deliveries - 1,
        run_at=settlement.run_at if status is _PENDING else record.run_at,
        suspect=False,
    )


def _starts_as_suspect(one: tuple[Row, LostDelivery, JobRecord]) -> bool:
    return one[1].started and one[1].record.suspect


def _ran(settlement: Settlement) -> Ran | None:
    """Return how long the attempt took and had waited; None where nothing ran."""
    began = settlement.started_at
    if not began:
        return None
    record = settlement.record
    return Ran(settlement.finished_at - began, began - max(record.created_at, record.run_at))
