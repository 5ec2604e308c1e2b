"""The jobs and results of one process, and where each job lies at the moment.

Knows how jobs move between the shelves, not why: what a claim, a settlement or a cancel means
is in ``queue_backends/memory.py``. Whoever calls a method here holds ``lock``.

An exception may strike anywhere in a call (docs/decisions/0019-interruptions.md). So the truth is
in ``rows`` and in the attributes of each ``Row`` alone, and it is changed in one step: attributes
are set in a row without a call in between, rows come and go by one call of C code. Shelves,
counts, keys, failures and what each worker holds are derived from it. A change

1. computes all that it needs,
2. wakes those who wait for it, who go on once the lock is free: if the change is interrupted,
   somebody may have been woken for nothing, but nobody sleeps on,
3. adds 1 to ``unfinished``, changes the truth and what is derived, and takes the 1 off again.

Whoever uses what is derived calls ``ensure_sound`` or ``promote`` first. Where a change was left
unfinished, all that is derived is made anew from the rows. Totals are not: a change is counted
after it was made, so none is counted twice, but an exception in between loses the count.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from math import inf
from operator import attrgetter
from threading import Condition, RLock
from typing import TYPE_CHECKING, Any

from nuvom._memory.shelf import QueueState, Row, Shelf, take_merged
from nuvom.core.ids import valid_name
from nuvom.core.record import FINAL, JobRecord, JobStatus
from nuvom.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.core.tally import Tally
    from nuvom.core.views import WorkerInfo

_PENDING, _PARKED, _SUCCESS = JobStatus.PENDING, JobStatus.PARKED, JobStatus.SUCCESS
_FAILURES = frozenset({JobStatus.FAILED, JobStatus.DEAD})


class Holder:
    """Somebody who claims: the jobs held, and, once announced, what is shown of the worker."""

    __slots__ = ("beat_at", "commands", "held", "info", "name")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.held: dict[str, Row] = {}
        self.info: WorkerInfo | None = None
        self.beat_at = now
        self.commands: list[str] = []


class MemoryStore:
    """Everything that the memory backends of one runtime know.

    Attributes:
        work, outcomes: Notified when a job became ready, and when one ended.
        arrivals, endings: How often that happened.
        waiting_for_work: An object for each call that waits for ``work``.
        rows: All jobs, oldest first.
        kept: What a result backend was told about jobs; its affair.
        failures: FAILED and DEAD jobs by id.
        tally: What was counted, once somebody wants it; else None.
        unfinished: How many changes began and have not ended. Anything but 0 at the start of a
            call means that an exception left one. (A signal handler that enqueues in the midst
            of a change sees that, too. It repairs and sets 0, the change ends at -1, and the
            next call repairs again. A claim or a prune so interrupted may take fewer jobs.)
    """

    def __init__(self, clock: Clock, max_queue_size: int | None) -> None:
        self.lock = RLock()  # a signal handler may stop a worker while its own thread is in here
        self.work = Condition(self.lock)
        self.outcomes = Condition(self.lock)
        self.arrivals = 0
        self.endings = 0
        self.waiting_for_work: set[object] = set()
        self.rows: dict[str, Row] = {}
        self.kept: dict[str, Any] = {}
        self.queues: dict[str, QueueState] = {}
        self.holders: dict[str, Holder] = {}
        self.tally: Tally | None = None
        self.unfinished = 0
        self._clock = clock
        self._max_queue_size = max_queue_size
        self._last_seq = 0
        self._reset()

    # ---- what is derived ------------------------------------------------------------------

    def _reset(self) -> None:
        self.scheduled = Shelf()  # by run_at
        self.parked = Shelf()  # by the moment at which they are given up
        self.succeeded = Shelf()  # by finished_at
        self.expiring = Shelf()  # successes with a lifetime of their own, by its end
        self.failed = Shelf()  # FAILED, DEAD and CANCELLED, by finished_at
        self.failures: dict[str, Row] = {}
        self._keys: dict[tuple[str, str], Row] = {}
        for queue in self.queues.values():
            queue.reset()
        for holder in self.holders.values():
            holder.held = {}

    def ensure_sound(self) -> None:
        """Make all that is derived anew where a change was left unfinished."""
        if self.unfinished:
            self.tell_workers()  # jobs that became due in the meantime are made ready here
            self._reset()
            rows = sorted(self.rows.values(), key=attrgetter("seq"))
            self.rows = {row.record.id: row for row in rows}
            for row in rows:
                row.shelf = None
                self.derive(row)
            self.unfinished = 0

    def derive(self, row: Row) -> None:
        """Count a row, and lay it where it belongs; a new one gets its place in the order."""
        record = row.record
        if not row.seq:
            row.seq = self._last_seq = self._last_seq + 1
        if record.queue not in self.queues:
            self.queues[record.queue] = QueueState(record.queue)
        queue = self.queues[record.queue]
        queue.counts[record.status] += 1
        if record.unique_key is not None and self._may_have_key(row):
            self._keys[_key_of(record)] = row
        if row.holder is None:
            self._lay(row, queue)
        else:
            row.holder.held[record.id] = row

    def moved(self, row: Row, before: JobRecord, holder: Holder | None) -> None:
        """Derive what follows from the change of a row, which nobody holds now.

        Args:
            before: The record that it had.
            holder: Who held it, if anybody.
        """
        record = row.record
        queue = self.queues[record.queue]
        queue.counts[before.status] -= 1
        queue.counts[record.status] += 1
        if holder is not None:
            holder.held.pop(record.id, None)
        if row.shelf is not None:
            row.shelf.remove(row)
        self._lay(row, queue)

    def _lay(self, row: Row, queue: QueueState) -> None:
        """Lay a row of a queue that is on no shelf where its status belongs."""
        record = row.record
        status = record.status
        if status is _PENDING:  # where claims find it, now or once it is due
            if record.run_at and record.run_at > self._clock.now():
                self.scheduled.put(record.run_at, row)
            else:
                queue.shelf_for(record).put(record.priority, row)
        elif status is _PARKED:
            self.parked.put(row.lease_until, row)
        elif status is not _SUCCESS:  # from here on: where ``prune`` finds it
            self.failed.put(row.finished_at or 0.0, row)
            if status in _FAILURES:
                self.failures[record.id] = row
        elif record.result_ttl_secs is None:
            self.succeeded.put(row.finished_at or 0.0, row)
        else:
            self.expiring.put((row.finished_at or 0.0) + record.result_ttl_secs, row)

    def lay_back(self, row: Row) -> None:
        """Lay a row that was taken from a shelf where it was."""
        self._lay(row, self.queues[row.record.queue])

    def promote(self) -> None:
        """Make scheduled jobs ready that have become due; all that is derived is sound then."""
        if self.unfinished:
            self.ensure_sound()
        if not self.scheduled.count:
            return
        due, head = (self._clock.now(), inf), self.scheduled.head()
        if head is None or head[:2] >= due:
            return
        self.tell_workers()
        self.unfinished += 1
        for row in self.scheduled.take(inf, due):
            self._lay(row, self.queues[row.record.queue])
        self.unfinished -= 1

    # ---- in and out -----------------------------------------------------------------------

    def add(self, job: JobRecord) -> str | None:
        """Store a job and return None, or return the id of the job that has its unique key.

        Raises: InvalidId; QueueFull.
        """
        if self.unfinished:
            self.ensure_sound()
        if job.id in self.rows:
            return None
        valid_name("job id", job.id)
        if job.queue not in self.queues:
            valid_name("queue", job.queue)
        if job.unique_key is not None and (holder := self._key_holder(job)) is not None:
            return holder.record.id
        if self._max_queue_size is not None:
            self._check_room(job.queue, {}, self._max_queue_size)
        record = job if job.status is _PENDING else job.replace(status=_PENDING)
        row = Row(0, record)
        self.tell_workers()  # of a scheduled job, too: it may be due before all others
        self.unfinished += 1
        self.derive(row)
        self.rows[job.id] = row
        self.unfinished -= 1
        if self.tally is not None:
            self.tally.enqueued(job.queue, job.func_name)
        return None

    def add_all(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs or none; return the refused ones, as ``enqueue_many`` does."""
        self.ensure_sound()
        refused: dict[str, str] = {}
        rows = self.rows_for(jobs, refused)
        if rows:
            self.tell_workers()
            self.unfinished += 1
            for row in rows.values():
                self.derive(row)
            self.rows.update(rows)
            self.unfinished -= 1
            self.count_enqueued(rows)
        return refused

    def rows_for(
        self,
        jobs: Iterable[JobRecord],
        refused: dict[str, str],
        *,
        limited: bool = True,
        ended: Row | None = None,
    ) -> dict[str, Row]:
        """Return rows for the jobs that are new; nothing is stored yet.

        Args:
            refused: Gets the ids of refused jobs, with those of the jobs that have their keys.
            ended: A job that ends in the same step, though its status does not show it yet.
        Raises: InvalidId; QueueFull, unless ``limited`` is False.
        """
        rows: dict[str, Row] = {}
        keys: dict[tuple[str, str], str] = {}
        sizes: dict[str, int] = {}
        for job in jobs:
            if job.id in self.rows or job.id in rows:
                continue
            valid_name("job id", job.id)
            if job.queue not in self.queues:
                valid_name("queue", job.queue)
            if job.unique_key is not None:
                holder = self._key_holder(job, ended)
                existing = keys.get(_key_of(job)) if holder is None else holder.record.id
                if existing is not None:
                    refused[job.id] = existing
                    continue
                keys[_key_of(job)] = job.id
            if limited and self._max_queue_size is not None:
                self._check_room(job.queue, sizes, self._max_queue_size)
            record = job if job.status is _PENDING else job.replace(status=_PENDING)
            rows[job.id] = Row(0, record)
        return rows

    def _check_room(self, queue: str, sizes: dict[str, int], most: int) -> None:
        """Add one job to the ``sizes`` of the queues. Raises: QueueFull."""
        state = self.queues.get(queue)
        size = sizes.get(queue, 0 if state is None else state.counts[_PENDING])
        if size >= most:
            raise QueueFull(queue, size, most)
        sizes[queue] = size + 1

    def count_enqueued(self, rows: dict[str, Row]) -> None:
        """Count new jobs, where somebody wants that."""
        if self.tally is not None:
            for row in rows.values():
                self.tally.enqueued(row.record.queue, row.record.func_name)

    def remove(self, rows: Collection[Row]) -> None:
        """Forget jobs that are not RUNNING, results included: all of them or none."""
        ids = [row.record.id for row in rows]
        dicts: list[dict[str, Any]] = [self.rows] * len(ids) + [self.kept] * len(ids)
        removal = map(dict.pop, dicts, ids + ids, repeat(None))
        self.unfinished += 1
        deque(removal, maxlen=0)  # one call of C code makes all the calls of ``dict.pop``
        for row in rows:
            record = row.record
            self.queues[record.queue].counts[record.status] -= 1
            if row.shelf is not None:
                row.shelf.remove(row)
            if record.unique_key is not None and self._keys.get(_key_of(record)) is row:
                del self._keys[_key_of(record)]
            self.failures.pop(record.id, None)
        self.unfinished -= 1

    def queue(self, name: str) -> QueueState:
        """Return the queue of this name, which is new if there was none. Raises: InvalidId."""
        state = self.queues.get(name)
        if state is None:
            state = self.queues[valid_name("queue", name)] = QueueState(name)
        return state

    def holder(self, name: str) -> Holder:
        """Return the worker of this id. Raises: InvalidId."""
        holder = self.holders.get(name)
        if holder is None:
            valid_name("worker id", name)
            holder = self.holders[name] = Holder(name, self._clock.monotonic())
        return holder

    # ---- keys -----------------------------------------------------------------------------

    def is_key_free(self, row: Row) -> bool:
        """Tell whether a row has no unique key, or one that no other job has."""
        return row.record.unique_key is None or self._key_holder(row.record) in (None, row)

    def take_key(self, row: Row) -> None:
        """Let a row have its unique key, if it has one."""
        if row.record.unique_key is not None:
            self._keys[_key_of(row.record)] = row

    def is_key_reserved(self, row: Row) -> bool:
        """Return whether an ended job still has its unique key."""
        is_mine = self._keys.get(_key_of(row.record)) is row
        return is_mine and reserved_until(row.record) > self._clock.now()

    def _may_have_key(self, row: Row) -> bool:
        """Tell whether a row has its key: a live job, or the last one that ended with it."""
        return row.record.status not in FINAL or self._key_holder(row.record) is None

    def _key_holder(self, job: JobRecord, ended: Row | None = None) -> Row | None:
        row = self._keys.get(_key_of(job))
        if row is None or (row.record.status not in FINAL and row is not ended):
            return row
        return row if reserved_until(row.record) > self._clock.now() else None

    # ---- taking ---------------------------------------------------------------------------

    def pick(
        self, most: int, queues: Sequence[QueueState], without: Container[str], *, suspects: bool
    ) -> list[Row]:
        """Take the first ready jobs of ``queues`` together, at most ``most``."""
        shelves = [
            shelf
            for queue in queues
            for task, shelf in (queue.suspects if suspects else queue.ready).items()
            if shelf.count and task not in without
        ]
        return shelves[0].take(most) if len(shelves) == 1 else take_merged(shelves, most)

    # ---- waking ---------------------------------------------------------------------------

    def tell_workers(self) -> None:
        """Wake whoever waits for work."""
        self.arrivals += 1
        if self.waiting_for_work:
            self.work.notify_all()

    def tell_readers(self) -> None:
        """Wake whoever waits for results."""
        self.endings += 1
        self.outcomes.notify_all()


def reserved_until(record: JobRecord) -> float:
    """Return the moment until which a job has its unique key even after it ended."""
    return record.created_at + (record.unique_for or -inf)


def _key_of(record: JobRecord) -> tuple[str, str]:
    return record.func_name, record.unique_key or ""
