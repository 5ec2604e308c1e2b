"""The jobs and results of one process, and where each job lies at the moment.

Knows how jobs move between the shelves, not why: what a claim, a settlement or a cancel means
is in ``queue_backends/memory.py``. Whoever calls a method here holds ``lock``.
"""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from itertools import takewhile
from math import inf
from threading import Condition, RLock
from typing import TYPE_CHECKING, Any

from nuvom._memory.shelf import Row, Shelf
from nuvom.errors import QueueFull
from nuvom.names import valid_name
from nuvom.record import FINAL, JobRecord, JobStatus

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from nuvom.clock import Clock
    from nuvom.tally import Tally
    from nuvom.views import WorkerInfo

_PENDING, _SUCCESS = JobStatus.PENDING, JobStatus.SUCCESS
_FAILURES = frozenset({JobStatus.FAILED, JobStatus.DEAD})


class QueueState:
    """One queue: how many jobs it has of each status, and its ready ones.

    Attributes:
        ready: Shelves by task, so that a claim without some tasks need not look at their jobs.
        suspects: Ready jobs during which a worker died.
    """

    __slots__ = ("counts", "name", "paused_by", "ready", "suspects")

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = dict.fromkeys(JobStatus, 0)
        self.ready: dict[str, Shelf] = {}
        self.suspects: dict[str, Shelf] = {}
        self.paused_by: str | None = None

    @property
    def has_ready(self) -> bool:
        """Whether some job could start now, were the queue not paused."""
        return any(shelf.count for part in (self.ready, self.suspects) for shelf in part.values())

    def shelf_for(self, record: JobRecord) -> Shelf:
        """Return the shelf on which a ready job lies."""
        shelves = self.suspects if record.suspect else self.ready
        shelf = shelves.get(record.func_name)
        if shelf is None:
            shelf = shelves[record.func_name] = Shelf()
        return shelf


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
        rows: All jobs, oldest first.
        kept: What a result backend was told about jobs; its affair.
        failures: FAILED and DEAD jobs by id.
        tally: What was counted, once somebody wants it; else None.
    """

    def __init__(self, clock: Clock, max_queue_size: int | None) -> None:
        self.lock = RLock()  # a signal handler may stop a worker while its own thread is in here
        self.work = Condition(self.lock)
        self.outcomes = Condition(self.lock)
        self.arrivals = 0
        self.endings = 0
        self.rows: dict[str, Row] = {}
        self.kept: dict[str, Any] = {}
        self.queues: dict[str, QueueState] = {}
        self.holders: dict[str, Holder] = {}
        self.scheduled = Shelf()  # by run_at
        self.parked = Shelf()  # by the moment at which they are given up
        self.succeeded = Shelf()  # by finished_at
        self.expiring = Shelf()  # successes with a lifetime of their own, by its end
        self.failed = Shelf()  # FAILED, DEAD and CANCELLED, by finished_at
        self.failures: dict[str, Row] = {}
        self.waiting_for_work = 0
        self.tally: Tally | None = None
        self._clock = clock
        self._max_queue_size = max_queue_size
        self._keys: dict[tuple[str, str], Row] = {}
        self._last_seq = 0

    # ---- in and out -----------------------------------------------------------------------

    def add(self, job: JobRecord, *, limited: bool = True) -> str | None:
        """Store a job and return None, or return the id of the job that has its unique key.

        Raises: InvalidId; QueueFull, unless ``limited`` is False.
        """
        if job.id in self.rows:
            return None
        valid_name("job id", job.id)
        holder = self._key_holder(job)
        if holder is not None:
            return holder.record.id
        queue = self.queue(job.queue)
        if limited and self._max_queue_size is not None:
            size = queue.counts[_PENDING]
            if size >= self._max_queue_size:
                raise QueueFull(job.queue, size, self._max_queue_size)
        self._last_seq += 1
        record = job if job.status is _PENDING else job.replace(status=_PENDING)
        row = self.rows[job.id] = Row(self._last_seq, record)
        self.take_key(row)
        queue.counts[_PENDING] += 1
        self.make_waiting(row)
        if self.tally is not None:
            self.tally.enqueued(job.queue, job.func_name)
        return None

    def add_all(self, jobs: Sequence[JobRecord]) -> dict[str, str]:
        """Store all jobs or none; return the refused ones, as ``enqueue_many`` does."""
        refused: dict[str, str] = {}
        known, last = set(self.queues), self._last_seq
        try:
            for job in jobs:
                existing = self.add(job)
                if existing is not None:
                    refused[job.id] = existing
        except BaseException:
            for row in list(takewhile(lambda row: row.seq > last, reversed(self.rows.values()))):
                self.remove(row)
                if self.tally is not None:
                    self.tally.enqueued(row.record.queue, row.record.func_name, -1)
            for name in self.queues.keys() - known:
                del self.queues[name]
            raise
        return refused

    def remove(self, row: Row) -> None:
        """Forget a job that is not RUNNING, results included."""
        record = row.record
        del self.rows[record.id]
        self.queues[record.queue].counts[record.status] -= 1
        if row.shelf is not None:
            row.shelf.remove(row)
        if record.unique_key is not None and self._keys.get(_key_of(record)) is row:
            del self._keys[_key_of(record)]
        self.failures.pop(record.id, None)
        self.kept.pop(record.id, None)

    def queue(self, name: str) -> QueueState:
        """Return the queue of this name. Raises: InvalidId."""
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

    def take_key(self, row: Row) -> bool:
        """Let a row have its unique key, if it has one; False when another live job has it."""
        if row.record.unique_key is None:
            return True
        if self._key_holder(row.record) not in (None, row):
            return False
        self._keys[_key_of(row.record)] = row
        return True

    def key_reserved_until(self, row: Row) -> float | None:
        """Return the moment until which an ended job keeps its unique key, if it does."""
        until = reserved_until(row.record)
        is_mine = self._keys.get(_key_of(row.record)) is row
        return until if is_mine and until > self._clock.now() else None

    def _key_holder(self, job: JobRecord) -> Row | None:
        if job.unique_key is None:
            return None
        row = self._keys.get(_key_of(job))
        if row is None or row.record.status not in FINAL:
            return row
        return row if reserved_until(row.record) > self._clock.now() else None

    # ---- from shelf to shelf --------------------------------------------------------------

    def change(self, row: Row, record: JobRecord) -> None:
        """Give a row its new record, and take it from where it lies."""
        counts = self.queues[record.queue].counts
        counts[row.record.status] -= 1
        counts[record.status] += 1
        row.record = record
        if row.shelf is not None:
            row.shelf.remove(row)

    def make_waiting(self, row: Row) -> None:
        """Lay a PENDING job down where claims find it, now or once it is due."""
        record = row.record
        if record.run_at and record.run_at > self._clock.now():
            self.scheduled.put(record.run_at, row)
        else:
            self.queues[record.queue].shelf_for(record).put(record.priority, row)
        # Also for a scheduled job: whoever sleeps until the next one may have to rise earlier.
        self.tell_workers()

    def make_final(self, row: Row) -> None:
        """Lay a job that ended where ``prune`` finds it."""
        record, finished_at = row.record, row.finished_at or 0.0
        if record.status is not _SUCCESS:
            self.failed.put(finished_at, row)
            if record.status in _FAILURES:
                self.failures[record.id] = row
        elif record.result_ttl_secs is None:
            self.succeeded.put(finished_at, row)
        else:
            self.expiring.put(finished_at + record.result_ttl_secs, row)

    def promote(self) -> None:
        """Make scheduled jobs ready that have become due."""
        if not self.scheduled.count:
            return
        for row in self.scheduled.take(inf, (self._clock.now(), inf)):
            self.make_waiting(row)

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
        if len(shelves) == 1:
            return shelves[0].take(most)
        heads = [(head, shelf) for shelf in shelves if (head := shelf.head())]
        heapify(heads)
        taken: list[Row] = []
        while heads and len(taken) < most:
            # From the shelf that has the first job, up to where another shelf comes first.
            shelf = heads[0][1]
            before = min(heads[1:3])[0] if len(heads) > 1 else None
            taken += shelf.take(most - len(taken), before)
            head = shelf.head()
            if head is None:
                heappop(heads)
            else:
                heapreplace(heads, (head, shelf))
        return taken

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
