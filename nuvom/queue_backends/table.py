"""The state of the memory and the file store, as rows in this process.

Only ``Table.apply`` changes the rows. It takes plain data, which the file store also appends to its
log. The rows are the source of truth. Where each row waits, which keys are taken and which worker
holds which job are derived from them, and rebuilt after an exception cuts a change short. Callers
of this module hold the store's lock.
"""

from __future__ import annotations

from collections import defaultdict, deque
from itertools import chain, repeat
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from msgspec.structs import replace

from nuvom.core import transitions
from nuvom.core.ids import valid_name
from nuvom.core.record import FINAL, JobRecord, JobSnapshot, JobStatus
from nuvom.core.totals import RollupSums, RunningTotals
from nuvom.core.transitions import Change
from nuvom.core.views import AUDIT_KEPT, AuditEntry
from nuvom.errors import QueueFull
from nuvom.queue_backends.rows import (
    Added,
    Audited,
    Booted,
    Claimed,
    Condensed,
    Counted,
    Heap,
    Holder,
    Kept,
    Known,
    Paused,
    Progressed,
    QueueRows,
    Removed,
    RolledUp,
    Row,
    ScheduleRemoved,
    ScheduleRows,
    ScheduleStored,
    take_merged,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from nuvom.queue_backends.rows import Operation

_PENDING, _RUNNING, _PARKED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PARKED
_SUCCESS = JobStatus.SUCCESS
_ATTEMPTS_KEPT = 100  # for each job: a task may snooze for years

Key = tuple[str, str]  # task and unique key


class Table:
    """All jobs and workers of a store.

    Attributes:
        rows: All jobs by id, oldest first.
        kept: What a result backend has stored about jobs; opaque here.
        parked: PARKED jobs by id; derived, as the heaps are.
        schedules: All schedules.
        tally: The totals, once requested; else None.
        rollups: What ended in each minute.
        audit: The newest audit entries by id.
        is_fresh_boot: No job has settled since the machine rebooted.
        unfinished: How many changes have begun and not ended. Anything but 0 at the start of a
            call means that an exception interrupted one: call ``repair``. (A signal handler in the
            middle of a change repairs too; the change ends at -1, and the next call repairs again.)
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.kept: dict[str, JobSnapshot] = {}
        self.queues: defaultdict[str, QueueRows] = defaultdict(QueueRows)
        self.holders: dict[str, Holder] = {}
        self.schedules = ScheduleRows()
        self.tally: RunningTotals | None = None
        self.rollups = RollupSums()
        self.audit: dict[str, AuditEntry] = {}
        self.is_fresh_boot = False
        self.unfinished = 0
        self._last_ref = 0
        self._reset()
        self._appliers: dict[type, Callable[[Any, int], None]] = {
            Added: self._add,
            Change: self._change,
            Claimed: self._claim,
            Row: self._put,
            Removed: self._remove,
            Kept: self._keep,
            Progressed: self._progress,
            Known: self._know,
            Paused: self._pause,
            Booted: self._boot,
            Counted: self._count,
            RolledUp: self._roll_up,
            Condensed: self._condense,
            Audited: self._audit,
            ScheduleStored: self._schedule,
            ScheduleRemoved: self._unschedule,
        }

    # ---- derived state --------------------------------------------------------------------

    def _reset(self) -> None:
        self._heaps: list[Heap] = []
        self.scheduled = self._new_heap()  # by run_at; may include jobs that are already due
        self.succeeded = self._new_heap()  # by finished_at
        self.expiring = self._new_heap()  # successes with their own lifetime, by its end
        self.failed = self._new_heap()  # FAILED, DEAD and CANCELLED, by finished_at
        self.parked: dict[str, Row] = {}
        self._keys: dict[Key, Row] = {}
        for queue in self.queues.values():
            queue.reset()
        for holder in self.holders.values():
            holder.held = {}

    def repair(self) -> None:
        """Rebuild all derived state from the rows."""
        self._reset()
        rows = sorted(self.rows.values(), key=attrgetter("ref"))
        self.rows = {row.record.id: row for row in rows}
        for row in rows:
            self._derive(row)
        self.schedules.repair()
        self.unfinished = 0

    def _derive(self, row: Row) -> None:
        """Count a row and put it where it belongs."""
        record = row.record
        row.heap = -1
        self.queues[record.queue].counts[record.status] += 1
        if record.unique_key is not None:
            self._take_key(row)
        self._place(row)

    def _moved(self, row: Row, before: JobRecord, worker: str | None) -> None:
        """Update the derived state after a change of a row.

        Args:
            before, worker: Its record and worker before the change.
        """
        job_id, status = before.id, before.status
        counts = self.queues[before.queue].counts
        counts[status] -= 1
        counts[row.record.status] += 1
        if row.heap >= 0:
            self._heaps[row.heap].remove(row)
        if status is _RUNNING:
            self._let_go(worker or "", job_id)
        elif status is _PARKED:
            self.parked.pop(job_id, None)
        self._place(row)

    def _let_go(self, owner: str, job_id: str = "") -> None:
        """Take a job from its holder; forget a holder that is left with nothing."""
        holder = self.holders.get(owner)
        if holder is not None:
            holder.held.pop(job_id, None)
            if not holder.held and holder.known.worker is None:
                del self.holders[owner]

    def _holder(self, owner: str) -> Holder:
        holder = self.holders.get(owner)
        if holder is None:
            holder = self.holders[owner] = Holder(owner)
        return holder

    def _place(self, row: Row) -> None:
        """Put a row that is in no heap where its status belongs."""
        record = row.record
        status = record.status
        if status is _PENDING and not record.run_at:
            self._make_ready(row)
        elif status is _PENDING:
            self.scheduled.put(record.run_at, row)
        elif status is _RUNNING:
            self._holder(row.worker or "").held[record.id] = row
        elif status is _PARKED:
            self.parked[record.id] = row
        elif status is not _SUCCESS:  # from here on: heaps that ``old`` reads
            self.failed.put(row.finished_at or 0.0, row)
        elif record.result_ttl_secs is None:
            self.succeeded.put(row.finished_at or 0.0, row)
        else:
            self.expiring.put((row.finished_at or 0.0) + record.result_ttl_secs, row)

    def _make_ready(self, row: Row) -> None:
        record = row.record
        queue = self.queues[record.queue]
        heaps = queue.suspects if record.suspect else queue.ready
        heap = heaps.get(record.func_name)
        if heap is None:
            heap = heaps[record.func_name] = self._new_heap()
        heap.put(record.priority, row)

    def _new_heap(self) -> Heap:
        heap = Heap(len(self._heaps))
        self._heaps.append(heap)
        return heap

    def _take_key(self, row: Row) -> None:
        """Give a row its unique key, unless a row that is alive, or ended later, has it."""
        known = self._keys.get(_key_of(row.record))
        is_final = row.record.status in FINAL
        if known is None or (
            known.record.status in FINAL and (not is_final or row.ref > known.ref)
        ):
            self._keys[_key_of(row.record)] = row

    def promote(self, now: float) -> bool:
        """Make scheduled jobs that are now due ready; return whether there were any."""
        head = self.scheduled.head()
        if head is None or head[0] > now:
            return False
        self.unfinished += 1
        for row in self.scheduled.take(inf, (now, inf)):
            self._make_ready(row)
        self.unfinished -= 1
        return True

    # ---- applying -------------------------------------------------------------------------

    def apply(self, operation: Operation | Change, place: int = 0) -> None:
        """Apply an operation. If an exception interrupts it, it is either done or not done.

        Args:
            place: Its place in a log: new rows are numbered from there.
        """
        self._appliers[type(operation)](operation, place)

    def _new_rows(self, records: Iterable[JobRecord], place: int) -> dict[str, Row]:
        """Return rows, already counted and placed, for the records whose id is new."""
        rows: dict[str, Row] = {}
        if place > self._last_ref:
            self._last_ref = place - 1
        for record in records:
            if record.id in self.rows:
                continue
            waiting = record if record.status is _PENDING else record.replace(status=_PENDING)
            ref = self._last_ref = self._last_ref + 1  # no call: a signal handler may take one too
            row = rows[record.id] = Row(ref, waiting)
            self._derive(row)
        return rows

    def _add(self, added: Added, place: int) -> None:
        self.unfinished += 1
        rows = self._new_rows(added.records, place)
        self.rows.update(rows)
        self.unfinished -= 1
        if self.tally is not None:
            for row in rows.values():
                self.tally.enqueued(row.record.queue, row.record.func_name)

    def _claim(self, claim: Claimed, _: int) -> None:
        owner, lease_until = claim.owner, claim.lease_until
        self.unfinished += 1
        for job_id in claim.ids:
            row = self.rows.get(job_id)
            if row is None:  # the entry that added it is damaged
                continue
            before, worker = row.record, row.worker
            record = transitions.claimed(before, row.ref)
            row.record = record
            row.worker = owner
            row.lease_until = lease_until
            row.claimed_at = claim.at
            row.started_at = row.finished_at = row.progress = None
            self._moved(row, before, worker)
        self.unfinished -= 1

    def _change(self, change: Change, place: int) -> None:
        row = self.rows[change.before.id]
        before, record = row.record, change.after
        error = row.error if change.error is UNSET else change.error
        attempts, closed = row.attempts, change.closed
        if closed is not None:
            attempts = (*attempts[1 - _ATTEMPTS_KEPT :], replace(closed, worker=row.worker))
        self.unfinished += 1
        children = self._new_rows(change.children, place)
        # No calls from here to the children, so that no exception can come in between.
        row.record = record
        row.started_at = change.started_at
        row.finished_at = change.finished_at
        row.result = change.result
        row.error = error
        row.progress = None
        row.attempts = attempts
        if change.settles:
            row.settled_epoch = change.lease_epoch
            self.is_fresh_boot = False
        self.rows.update(children)
        self._moved(row, before, row.worker)
        if change.starts_anew:
            row.worker = None
        if record.unique_key is not None:
            for new in (row, *children.values()):  # the row's old key may be free now
                if new.record.unique_key is not None:
                    self._take_key(new)
        self.unfinished -= 1
        self.rollups.changed(change)
        if self.tally is not None:
            self.tally.changed(change)
            for one in change.children:
                self.tally.enqueued(one.queue, one.func_name)

    def _put(self, row: Row, _: int) -> None:
        self._last_ref = max(self._last_ref, row.ref)
        self.rows[row.record.id] = row
        self._derive(row)

    def _remove(self, removed: Removed, _: int) -> None:
        ids = removed.ids
        rows = [row for job_id in ids if (row := self.rows.get(job_id)) is not None]
        dicts: list[dict[str, Any]] = [self.rows] * len(ids) + [self.kept] * len(ids)
        removal = map(dict.pop, dicts, ids + ids, repeat(None))
        self.unfinished += 1
        deque(removal, maxlen=0)  # a single call into C, so that all are removed or none
        for row in rows:
            record = row.record
            self.queues[record.queue].counts[record.status] -= 1
            if row.heap >= 0:
                self._heaps[row.heap].remove(row)
            if self._keys.get(_key_of(record)) is row:
                del self._keys[_key_of(record)]
            self.parked.pop(record.id, None)
        self.unfinished -= 1

    def _keep(self, kept: Kept, _: int) -> None:
        if kept.seen is None:
            self.kept.pop(kept.id, None)
        else:
            self.kept[kept.id] = kept.seen

    def _progress(self, one: Progressed, _: int) -> None:
        row = self.rows.get(one.id)
        if row is not None and row.record.lease_epoch == one.lease_epoch:
            row.progress = one.progress

    def _know(self, known: Known, _: int) -> None:
        self._holder(known.owner).known = known
        self._let_go(known.owner)

    def _pause(self, paused: Paused, _: int) -> None:
        queue = self.queues[paused.queue]
        queue.paused_by, queue.paused_at = paused.by, paused.at

    def _boot(self, *_: object) -> None:
        self.is_fresh_boot = True

    def _count(self, counted: Counted, _: int) -> None:
        self.tally = RunningTotals(counted.totals)

    def _roll_up(self, rolled: RolledUp, _: int) -> None:
        self.rollups = RollupSums(rolled.rows)

    def _condense(self, condensed: Condensed, _: int) -> None:
        self.rollups.condense(condensed.now)

    def _audit(self, audited: Audited, _: int) -> None:
        self.audit[audited.entry.id] = audited.entry
        if len(self.audit) > AUDIT_KEPT:
            del self.audit[min(self.audit)]

    def _schedule(self, scheduled: ScheduleStored, _: int) -> None:
        self.unfinished += 1
        self.schedules.put(scheduled.record)
        self.unfinished -= 1

    def _unschedule(self, unscheduled: ScheduleRemoved, _: int) -> None:
        self.schedules.remove(unscheduled.name)

    def snapshot(self) -> Iterator[Operation]:
        """Yield operations that turn an empty table into a copy of this one."""
        if self.is_fresh_boot:
            yield Booted()
        for name, queue in self.queues.items():
            yield Paused(name, queue.paused_by, queue.paused_at)
        yield from self.rows.values()
        yield from (Kept(job_id, seen) for job_id, seen in self.kept.items())
        yield from (holder.known for holder in self.holders.values())
        yield from map(ScheduleStored, self.schedules.records.values())
        if self.tally is not None:
            yield Counted(self.tally.totals())
        if self.rollups.sums:
            yield RolledUp(self.rollups.rows())
        yield from map(Audited, self.audit.values())

    # ---- queries --------------------------------------------------------------------------

    def row_as(self, before: JobRecord) -> Row | None:
        """Return the row of a job if it still matches ``before``."""
        row = self.rows.get(before.id)
        if row is None:
            return None
        record = row.record
        if record.lease_epoch != before.lease_epoch or record.ref != before.ref:
            return None
        return row if record.status is before.status else None

    def held(self, claimed: JobRecord) -> Row | None:
        """Return the row of a claimed job if this delivery still holds its lease."""
        return self.row_as(transitions.as_claimed(claimed))

    def has_settled(self, claimed: JobRecord) -> bool:
        """Return whether this delivery was settled before: the reply may have been lost."""
        row = self.rows.get(claimed.id)
        if row is None or row.record.ref != claimed.ref:
            return False
        return row.settled_epoch == row.record.lease_epoch == claimed.lease_epoch

    def is_key_free(self, row: Row, now: Callable[[], float]) -> bool:
        """Return whether a row has no unique key, or one that no other job holds."""
        record = row.record
        return record.unique_key is None or self._key_holder(record, now) in (None, row)

    def _key_holder(
        self, job: JobRecord, now: Callable[[], float], ended: Row | None = None
    ) -> Row | None:
        row = self._keys.get(_key_of(job))
        if row is None or (row.record.status not in FINAL and row is not ended):
            return row
        return row if _reserved_until(row.record) > now() else None

    def admit(
        self,
        jobs: Sequence[JobRecord],
        now: Callable[[], float],
        *,
        most: int | None = None,
        ended: Row | None = None,
    ) -> tuple[list[JobRecord], dict[str, str]]:
        """Return which jobs to add, and the holders of the keys that refuse the others.

        Args:
            now: Called for the time if keys need it.
            most: How many jobs may wait in a queue.
            ended: A job that ends in the same step, although its status does not show it yet.
        Raises: InvalidId; QueueFull.
        """
        admitted: dict[str, JobRecord] = {}
        refused: dict[str, str] = {}
        keys: dict[Key, str] = {}
        sizes: dict[str, int] = {}
        for job in jobs:
            if job.id in self.rows or job.id in admitted:
                continue
            valid_name("job id", job.id)
            if job.queue not in self.queues:
                valid_name("queue", job.queue)
            if job.unique_key is not None:
                holder = self._key_holder(job, now, ended)
                existing = keys.get(_key_of(job)) if holder is None else holder.record.id
                if existing is not None:
                    refused[job.id] = existing
                    continue
                keys[_key_of(job)] = job.id
            if most is not None:
                self._check_room(job.queue, sizes, most)
            admitted[job.id] = job
        return list(admitted.values()), refused

    def _check_room(self, queue: str, sizes: dict[str, int], most: int) -> None:
        """Add one job to its queue's entry in ``sizes``. Raises: QueueFull."""
        known = self.queues.get(queue)
        size = sizes.get(queue, 0 if known is None else known.counts[_PENDING])
        if size >= most:
            raise QueueFull(queue, size, most)
        sizes[queue] = size + 1

    def pick(
        self, most: int, queues: Iterable[QueueRows], without: Container[str], *, suspects: bool
    ) -> list[Row]:
        """Remove at most ``most`` first ready jobs of several queues from their heaps."""
        heaps = [
            heap
            for queue in queues
            for task, heap in (queue.suspects if suspects else queue.ready).items()
            if heap.count and task not in without
        ]
        return heaps[0].take(most) if len(heaps) == 1 else take_merged(heaps, most)

    def old(self, success_before: float, failed_before: float, now: float, limit: int) -> list[Row]:
        """Return final jobs to remove, whose keys are not reserved."""
        found: list[Row] = []
        spared: list[Row] = []
        self.unfinished += 1
        for heap, before in (
            (self.succeeded, success_before),
            (self.failed, failed_before),
            (self.expiring, now),
        ):
            while rows := heap.take(limit - len(found), (before,)):
                for row in rows:
                    (spared if self._is_reserved(row, now) else found).append(row)
        for row in chain(found, spared):
            self._place(row)
        self.unfinished -= 1
        return found

    def _is_reserved(self, row: Row, now: float) -> bool:
        is_mine = self._keys.get(_key_of(row.record)) is row
        return is_mine and _reserved_until(row.record) > now


def _key_of(record: JobRecord) -> Key:
    return record.func_name, record.unique_key or ""


def _reserved_until(record: JobRecord) -> float:
    """Return the time until which a job holds its unique key even after it ended."""
    return record.created_at + (record.unique_for or -inf)
