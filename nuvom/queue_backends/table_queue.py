"""The queue on a table: what the memory and the file store have in common.

Each method is a turn: look at the table, then apply the changes. The store decides how to take a
turn, what else to do with an operation, and how to wake sleepers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from contextlib import suppress
from functools import wraps
from heapq import nlargest
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from msgspec.structs import replace

from nuvom.core import transitions
from nuvom.core.ids import valid_name
from nuvom.core.record import FINAL, JobStatus
from nuvom.core.transitions import FAILURES, WAITING, Change, LostDelivery
from nuvom.core.views import (
    RECENT_FAILURES,
    ErrorGroup,
    JobScan,
    QueueStats,
    error_group,
    failure_group,
)
from nuvom.errors import NuvomError
from nuvom.queue_backends.rows import (
    Added,
    Audited,
    Claimed,
    Condensed,
    Counted,
    Heap,
    Known,
    Paused,
    Progressed,
    Removed,
    seen,
)
from nuvom.queue_backends.store import StoreQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from nuvom.core.clock import Waitable
    from nuvom.core.record import Attempt, JobRecord, JobSnapshot
    from nuvom.core.transitions import Recovery
    from nuvom.core.views import AuditEntry, Rollup, Total, WorkerInfo
    from nuvom.queue_backends.rows import Holder, Operation, QueueRows, Row
    from nuvom.queue_backends.table import Table
    from nuvom.scheduler.store import ScheduleWaiter

T = TypeVar("T")
P = ParamSpec("P")
Q = TypeVar("Q", bound="TableQueue")


def in_turn(
    *, durable: bool = False
) -> Callable[[Callable[Concatenate[Q, Table, P], T]], Callable[Concatenate[Q, P], T]]:
    """Have a method called in a turn, with the table; see ``TableQueue.turn``."""

    def decorate(
        method: Callable[Concatenate[Q, Table, P], T],
    ) -> Callable[Concatenate[Q, P], T]:
        @wraps(method)
        def call(self: Q, /, *args: P.args, **options: P.kwargs) -> T:
            return self.turn(lambda table: method(self, table, *args, **options), durable=durable)

        return call

    return decorate


class TableQueue(StoreQueue):
    """A queue on a ``Table``."""

    max_queue_size: int | None = None

    # ---- abstract methods -----------------------------------------------------------------

    @abstractmethod
    def turn(self, action: Callable[[Table], T], *, durable: bool = False) -> T:
        """Call ``action`` with exclusive access to the table and return its result.

        Args:
            durable: Return only once the changes are as durable as the settings say.
        """

    @abstractmethod
    def do(self, table: Table, operation: Operation | Change) -> None:
        """Apply an operation, inside a turn."""

    @abstractmethod
    def tell_workers(self, *, everyone: bool = False) -> None:
        """Wake one sleeping worker, or all, because of this turn's changes."""

    @abstractmethod
    def tell_readers(self) -> None:
        """Wake everyone who waits for results because of this turn's changes."""

    @abstractmethod
    def tell_control(self) -> None:
        """Change ``control_version`` because of this turn's changes, and wake all workers."""

    @abstractmethod
    def tell_schedulers(self) -> None:
        """Wake all sleeping schedulers because of this turn's changes."""

    def tidy(self) -> None:
        """Give back room that is not needed any more, outside of a turn."""

    @abstractmethod
    def schedule_waiter(self) -> AbstractContextManager[ScheduleWaiter]:
        """Return what ``BaseScheduleStore.waiter`` promises."""

    @abstractmethod
    def waiter(self) -> AbstractContextManager[Waitable]:
        """Return what ``BaseResultBackend.waiter`` promises."""

    @abstractmethod
    def lost_by(self, owner: str, holder: Holder) -> list[LostDelivery]:
        """Return the deliveries that a worker has lost, inside a turn: all if it is dead."""

    # ---- enqueue --------------------------------------------------------------------------

    def enqueue(self, job: JobRecord) -> str | None:
        """Store a job; see the contract."""
        return self.turn(lambda table: self._add(table, (job,)), durable=True).get(job.id)

    def enqueue_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all jobs or none; see the contract."""
        listed = list(jobs)  # the iterable may itself use this store, so consume it before the turn
        return self.turn(lambda table: self._add(table, listed), durable=True)

    def _add(self, table: Table, jobs: Sequence[JobRecord]) -> dict[str, str]:
        admitted, refused = table.admit(jobs, self.now, most=self.max_queue_size)
        if admitted:
            self.tell_workers()  # also for a scheduled job: it may be due before all others
            self.do(table, Added(admitted))
        return refused

    @in_turn()
    def qsize(self, table: Table) -> int:
        """Return how many jobs are PENDING."""
        return sum(queue.counts[JobStatus.PENDING] for queue in table.queues.values())

    # ---- deliveries -----------------------------------------------------------------------

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
        """Lease at most ``n`` due jobs to ``owner``; see the contract."""
        valid_name("worker id", owner)
        unwanted = frozenset(without)
        claimed: list[JobRecord] = []

        def lease(table: Table) -> None:
            self.promote(table)
            served = _served(table, queues, exclude)
            rows: list[Row] = []
            table.unfinished += 1  # picked jobs are in no heap
            for part in served:
                most = min(n, suspects) - len(rows)
                rows += table.pick(most, part, unwanted, suspects=True)
            for part in served:
                rows += table.pick(n - len(rows), part, unwanted, suspects=False)
            if rows:
                # Recorded before the leases begin: no leased job may be missing there.
                claimed.extend(transitions.claimed(row.record, row.ref) for row in rows)
                until, ids = self.clock.monotonic() + self.lease_secs, [job.id for job in claimed]
                self.do(table, Claimed(owner, until, ids, self.clock.now()))
            table.unfinished -= 1

        try:
            self.turn(lease)
            self.book(owner, claimed)
        except BaseException:  # no caller will receive them
            if claimed:
                with suppress(NuvomError):  # their leases will end
                    self.release(claimed)
            raise
        return claimed

    def book(self, owner: str, claimed: list[JobRecord]) -> None:
        """Prepare to mark the start of claimed jobs."""

    @in_turn(durable=True)
    def apply(self, table: Table, changes: Sequence[Change]) -> list[bool]:
        """Write changes, each only if its job is unchanged; see the contract."""
        self._tell(changes)
        return [self._write(table, one) for one in changes]

    def _write(self, table: Table, change: Change) -> bool:
        before = change.before
        row = table.row_as(before)
        if row is None:
            return change.settles and table.has_settled(before)
        if change.starts_anew and not table.is_key_free(row, self.now):
            return False
        if change.children:
            ended = row if change.status in FINAL else None
            children, _ = table.admit(change.children, self.now, ended=ended)
            change = replace(change, children=tuple(children))
        self.do(table, change)
        return True

    def _tell(self, changes: Sequence[Change]) -> None:
        ended = [one for one in changes if one.status in FINAL]
        if ended:
            self.tell_readers()
        if not all(one.settles for one in ended):  # a cancelled job's worker should learn of it
            self.tell_control()
        ready = [one for one in changes if one.status is JobStatus.PENDING or one.children]
        if ready:
            self.tell_workers(everyone=not all(one.settles for one in ready))

    @in_turn()
    def recover(self, table: Table, recovery: Recovery) -> list[JobRecord]:
        """Take back lost jobs, give up on others, and promote due ones; see the contract."""
        return self.take_back(table, recovery)

    def take_back(self, table: Table, recovery: Recovery) -> list[JobRecord]:
        """Recover the jobs of dead and silent workers, inside a turn."""
        self.promote(table)
        changes: list[Change] = []
        for owner, holder in tuple(table.holders.items()):
            changes += recovery.take_back(self.lost_by(owner, holder))
        parked = [
            seen(row)
            for row in table.parked.values()
            if (row.finished_at or 0.0) <= recovery.parked_before
        ]
        changes += recovery.give_up(parked)
        self._tell(changes)
        for change in changes:
            self.do(table, change)
        return [change.after for change in changes]

    def promote(self, table: Table) -> None:
        """Make due jobs ready and wake workers for them, inside a turn."""
        if table.scheduled.count and table.promote(self.now()):
            self.tell_workers(everyone=True)

    @in_turn()
    def extend(self, table: Table, owner: str) -> dict[str, int]:
        """Renew the leases of ``owner`` and record its heartbeat; see the contract."""
        holder = table.holders.get(owner)
        if holder is None:
            return {}
        now = self.clock.monotonic()
        self.note(table, owner, beat_at=now, lease_until=now + self.lease_secs)
        return {job_id: row.record.lease_epoch for job_id, row in holder.held.items()}

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Store a running job's progress; see the contract."""

        def report(table: Table) -> bool:
            if table.held(job) is None:
                return False
            self.do(table, Progressed(job.id, job.lease_epoch, (done, total, message)))
            return True

        return self.turn(report)

    # ---- control --------------------------------------------------------------------------

    @in_turn(durable=True)
    def set_paused(self, table: Table, queue: str, by: str | None) -> bool:
        """Pause or resume a queue; see the contract."""
        known = table.queues.get(queue)
        was_paused = known is not None and known.paused_by is not None
        if was_paused or by is not None:
            self.tell_control()
            self.do(table, Paused(queue, by, None if by is None else self.now()))
        return was_paused

    @in_turn(durable=True)
    def remove_waiting(self, table: Table, queue: str | None) -> int:
        """Remove PENDING and PARKED jobs; see the contract."""
        records = (row.record for row in table.rows.values())
        return self._remove(
            table,
            [one.id for one in records if one.status in WAITING and queue in (None, one.queue)],
        )

    @in_turn(durable=True)
    def prune(
        self, table: Table, *, success_before: float, failed_before: float, limit: int = 1000
    ) -> int:
        """Remove old final jobs; see the contract."""
        rows = table.old(success_before, failed_before, self.now(), limit)
        return self._remove(table, [row.record.id for row in rows])

    def _remove(self, table: Table, ids: list[str]) -> int:
        if ids:
            self.do(table, Removed(ids))
        return len(ids)

    # ---- workers --------------------------------------------------------------------------

    @in_turn()
    def announce(self, table: Table, worker: WorkerInfo) -> None:
        """Make a worker visible; see the contract."""
        owner = valid_name("worker id", worker.id)
        self.note(table, owner, worker=worker, beat_at=self.clock.monotonic())

    @in_turn()
    def retire(self, table: Table, owner: str) -> None:
        """Forget a worker that stopped cleanly; see the contract."""
        self.note(table, owner, worker=None, commands=())

    def note(self, table: Table, owner: str, **known: object) -> None:
        """Record fields of ``Known``, inside a turn."""
        holder = table.holders.get(owner)
        before = Known(owner) if holder is None else holder.known
        self.do(table, replace(before, **known))

    @in_turn()
    def announced(self, table: Table) -> list[WorkerInfo]:
        """Return the announced workers; see the contract."""
        now = self.clock.monotonic()
        return [
            replace(
                one.known.worker,
                beat_age_secs=max(0.0, now - one.known.beat_at),
                running=len(one.held),
            )
            for one in table.holders.values()
            if one.known.worker is not None
        ]

    @in_turn()
    def push_command(self, table: Table, owner: str, word: str) -> bool:
        """Send a command to a worker; see the contract."""
        holder = table.holders.get(owner)
        if holder is None or holder.known.worker is None:
            return False
        self.tell_control()
        self.note(table, owner, commands=(*holder.known.commands, word))
        return True

    @in_turn()
    def commands(self, table: Table, owner: str) -> list[str]:
        """Take the commands sent to ``owner``; see the contract."""
        holder = table.holders.get(owner)
        taken = () if holder is None else holder.known.commands
        if taken:
            self.note(table, owner, commands=())
        return list(taken)

    # ---- inspection -----------------------------------------------------------------------

    @in_turn()
    def get(self, table: Table, job_id: str) -> JobSnapshot | None:
        """Return one job with its result, or None."""
        row = table.rows.get(job_id)
        return None if row is None else seen(row)

    @in_turn()
    def find_ids(self, table: Table, suffix: str, limit: int = 6) -> list[str]:
        """Return ids that end in ``suffix``, newest first."""
        return list(islice((one for one in reversed(table.rows) if one.endswith(suffix)), limit))

    @in_turn()
    def page(
        self,
        table: Table,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[JobSnapshot]:
        """Return jobs, newest first; see the contract."""
        fits = _fitting(statuses, queue, task)
        return [seen(row) for row in islice(filter(fits, _older_than(table, before)), limit)]

    @in_turn()
    def closed_attempts(self, table: Table, job_id: str) -> list[Attempt]:
        """Return the attempts closed by changes; see the contract."""
        row = table.rows.get(job_id)
        return [] if row is None else list(row.attempts)

    @in_turn()
    def parked(self, table: Table, tasks: Collection[str], limit: int) -> list[JobSnapshot]:
        """Return PARKED jobs of ``tasks``; see the contract."""
        fitting = (row for row in table.parked.values() if row.record.func_name in tasks)
        return [seen(row) for row in islice(fitting, limit)]

    @in_turn()
    def scan(
        self,
        table: Table,
        *,
        statuses: Iterable[JobStatus] = (),
        queue: str | None = None,
        task: str | None = None,
        before: str | None = None,
        limit: int = 100,
        within: int = 10_000,
    ) -> JobScan:
        """Do as ``page`` within a number of stored jobs; see the contract."""
        fits, looked_at, last = _fitting(statuses, queue, task), 0, before
        found: list[JobSnapshot] = []
        for row in islice(_older_than(table, before), within):
            looked_at, last = looked_at + 1, row.record.id
            if fits(row):
                found.append(seen(row))
            if len(found) == limit:
                break
        is_end = looked_at < within and len(found) < limit
        return JobScan(found, None if is_end else last, looked_at)

    @property
    def parked_tasks(self) -> dict[str, int]:
        """Return the names of tasks with PARKED jobs, and the number of those jobs."""
        return self.turn(
            lambda table: dict(Counter(row.record.func_name for row in table.parked.values()))
        )

    @in_turn()
    def next_due_secs(self, table: Table) -> float | None:
        """Return seconds until the next scheduled job is due, or None if there is none."""
        self.promote(table)
        head = table.scheduled.head()
        return None if head is None else max(0.0, head[0] - self.now())

    @in_turn()
    def has_ready(self, table: Table) -> bool:
        """Return whether a job could start now; see the contract."""
        self.promote(table)
        return any(
            heap.count
            for queue in table.queues.values()
            if queue.paused_by is None
            for heap in chain(queue.ready.values(), queue.suspects.values())
        )

    @in_turn()
    def stats(self, table: Table, most: int | None = None) -> list[QueueStats]:
        """Return counts for each queue, by name; the table keeps them.

        With ``most`` it looks for the oldest among so many ready jobs of a queue.
        """
        self.promote(table)
        later: Counter[tuple[str, bool]] = Counter(
            (row.record.queue, row.record.attempt > 0) for row in table.scheduled
        )
        return [
            _stats(name, queue, (later[name, False], later[name, True]), most)
            for name, queue in sorted(table.queues.items())
        ]

    @in_turn()
    def error_groups(self, table: Table, limit: int = 50) -> list[ErrorGroup]:
        """Return failures grouped by fingerprint, latest first."""
        groups: dict[str, list[Row]] = {}
        for row in _failures(table):
            groups.setdefault(_fingerprint(row), []).append(row)
        found = [_group(fingerprint, rows) for fingerprint, rows in groups.items()]
        return sorted(found, key=attrgetter("last_at"), reverse=True)[:limit]

    @in_turn()
    def failed_ids(self, table: Table, fingerprint: str) -> list[str]:
        """Return ids of the FAILED and DEAD jobs in a group, newest first."""
        return [row.record.id for row in _failures(table) if _fingerprint(row) == fingerprint]

    @in_turn(durable=True)
    def keep_totals(self, table: Table) -> None:
        """Count from now on; see the contract."""
        if table.tally is None:
            self.do(table, Counted([]))

    @in_turn()
    def totals(self, table: Table) -> list[Total]:
        """Return the counts so far; see the contract."""
        return [] if table.tally is None else table.tally.totals()

    @in_turn()
    def rollups(self, table: Table, since: float, until: float, step: int) -> list[Rollup]:
        """Return what was counted in each step; see the contract."""
        return table.rollups.between(since, until, step)

    @in_turn()
    def condense_history(self, table: Table) -> None:
        """Combine the minutes of old hours; see the contract."""
        self.do(table, Condensed(self.now()))

    @in_turn(durable=True)
    def record_audit(self, table: Table, entry: AuditEntry) -> None:
        """Store an audit entry; see the contract."""
        self.do(table, Audited(entry))

    @in_turn()
    def audit(self, table: Table, limit: int = 100, before: str | None = None) -> list[AuditEntry]:
        """Return audit entries, newest first; see the contract."""
        ids = (one for one in table.audit if before is None or one < before)
        return [table.audit[one] for one in nlargest(limit, ids)]


def _served(
    table: Table, queues: Sequence[str] | None, exclude: Sequence[str]
) -> list[list[QueueRows]]:
    """Return the queues to claim from in parts; the queues of one part are served as one."""
    known = table.queues
    if queues is None:
        return [[q for n, q in known.items() if n not in exclude and q.paused_by is None]]
    named = [known[name] for name in queues if name in known and name not in exclude]
    return [[queue] for queue in named if queue.paused_by is None]


def _older_than(table: Table, before: str | None) -> Iterator[Row]:
    """Yield jobs, newest first; with ``before``, only those older than that id."""
    rows = reversed(table.rows.values())
    if before is None:
        return rows
    known = table.rows.get(before)
    if known is None:  # removed since; ids of this package sort by creation time
        return (row for row in rows if row.record.id < before)
    return (row for row in rows if row.ref < known.ref)


def _fitting(
    statuses: Iterable[JobStatus], queue: str | None, task: str | None
) -> Callable[[Row], bool]:
    """Return whether a row belongs to a page; see the contract."""
    wanted = frozenset(statuses)
    return lambda row: (
        (not wanted or row.record.status in wanted)
        and queue in (None, row.record.queue)
        and task in (None, row.record.func_name)
    )


def _failures(table: Table) -> list[Row]:
    """Return FAILED and DEAD jobs, newest first."""
    found = (row for row in table.failed if row.record.status in FAILURES)
    return sorted(found, key=attrgetter("ref"), reverse=True)


def _stats(name: str, queue: QueueRows, later: tuple[int, int], most: int | None) -> QueueStats:
    counts, (scheduled, retrying) = queue.counts, later
    heaps = chain(queue.ready.values(), queue.suspects.values())
    ready = (row.record for row in islice(chain.from_iterable(map(Heap.rows, heaps)), most))
    return QueueStats(
        queue=name,
        ready=counts[JobStatus.PENDING] - scheduled - retrying,
        scheduled=scheduled,
        retrying=retrying,
        running=counts[JobStatus.RUNNING],
        parked=counts[JobStatus.PARKED],
        success=counts[JobStatus.SUCCESS],
        failed=counts[JobStatus.FAILED],
        dead=counts[JobStatus.DEAD],
        cancelled=counts[JobStatus.CANCELLED],
        oldest_ready_at=min((max(one.created_at, one.run_at) for one in ready), default=None),
        paused_by=queue.paused_by,
        paused_at=queue.paused_at,
    )


def _fingerprint(row: Row) -> str:
    return failure_group(row.record.status, row.record.func_name, row.error)


def _group(fingerprint: str, rows: list[Row]) -> ErrorGroup:
    """Return a group of failures, which are given newest first."""
    newest, oldest = rows[0], rows[-1]
    return error_group(
        newest.record.status,
        newest.error,
        fingerprint=fingerprint,
        func_name=newest.record.func_name,
        count=len(rows),
        first_at=oldest.finished_at or 0.0,
        last_at=newest.finished_at or 0.0,
        example_id=newest.record.id,
        recent=tuple(row.finished_at or 0.0 for row in rows[:RECENT_FAILURES]),
    )
