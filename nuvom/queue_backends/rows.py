"""The contents of a table: rows, the operations that change them, and where each row waits."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from nuvom.core.record import Attempt, JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.views import AuditEntry, Rollup, Total, WorkerInfo
from nuvom.scheduler.record import ScheduleRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FEW = 64  # a heap with fewer dead entries than this is not worth sweeping


class Row(Struct, tag="row", omit_defaults=True, eq=False, gc=False):
    """One job. As an operation it replaces all earlier operations on the job.

    Attributes:
        ref: Its number, in order of enqueueing; never reused.
        record: The current record.
        worker, started_at, finished_at, result, error, progress: As in ``JobSnapshot``.
        attempts: Closed attempts except the success, oldest first.
        lease_until: When its lease ends unless its holder renews it; monotonic.
        claimed_at: When it was last claimed.
        started_epoch, settled_epoch: The delivery that last started, if the table is told about
            starts, and the one that last settled; -1 before.
        heap, key: Where it waits, if anywhere; derived.
    """

    ref: int
    record: JobRecord
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    result: bytes | None = None
    error: StoredError | None = None
    progress: tuple[float, float | None, str] | None = None
    attempts: tuple[Attempt, ...] = ()
    lease_until: float = 0.0
    claimed_at: float | None = None
    started_epoch: int = -1
    settled_epoch: int = -1
    heap: int = -1
    key: float = 0.0


def seen(row: Row) -> JobSnapshot:
    """Return everything known about a job."""
    return JobSnapshot(
        record=row.record,
        result=row.result,
        error=row.error,
        worker=row.worker,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=row.progress,
        claimed_at=row.claimed_at if row.record.status is JobStatus.RUNNING else None,
    )


# ---- operations ------------------------------------------------------------------------------


class Added(Struct, tag="job", omit_defaults=True, gc=False):
    """New jobs; those whose id is already known are ignored."""

    records: list[JobRecord]


class Claimed(Struct, tag="claim", omit_defaults=True, gc=False):
    """Jobs are leased."""

    owner: str
    lease_until: float
    ids: list[str]
    at: float | None = None


class Removed(Struct, tag="removed", omit_defaults=True, gc=False):
    """Jobs that are not RUNNING were removed, with everything stored about them."""

    ids: list[str]


class Kept(Struct, tag="kept", omit_defaults=True, gc=False):
    """A result backend stored something about a job; None makes it forget the job."""

    id: str
    seen: JobSnapshot | None


class Progressed(Struct, tag="progress", omit_defaults=True, gc=False):
    """A running job reported its progress."""

    id: str
    lease_epoch: int
    progress: tuple[float, float | None, str]


class Known(Struct, tag="known", omit_defaults=True, gc=False):
    """What is known of a claiming owner from now on.

    Attributes:
        beat_at, lease_until: When its last heartbeat was, and when the leases that it renewed end.
        worker: Its public details, once announced.
        commands: Those that it has not taken yet, oldest first.
    """

    owner: str
    beat_at: float = -inf
    lease_until: float = -inf
    worker: WorkerInfo | None = None
    commands: tuple[str, ...] = ()


class Paused(Struct, tag="paused", omit_defaults=True, gc=False):
    """A queue was paused, or resumed when ``by`` is None; ``at`` in seconds since the epoch."""

    queue: str
    by: str | None
    at: float | None = None


class Booted(Struct, tag="booted", omit_defaults=True, gc=False):
    """The machine rebooted."""


class Counted(Struct, tag="counted", omit_defaults=True, gc=False):
    """The counts so far; from here on everything is counted."""

    totals: list[Total]


class RolledUp(Struct, tag="rolled_up", omit_defaults=True, gc=False):
    """The roll-ups so far; it replaces all earlier ones."""

    rows: list[Rollup]


class Condensed(Struct, tag="condensed", omit_defaults=True, gc=False):
    """Roll-ups of minutes became such of hours, as they are old at this time."""

    now: float


class Audited(Struct, tag="audited", omit_defaults=True, gc=False):
    """An audit entry was stored or replaced."""

    entry: AuditEntry


class ScheduleStored(Struct, tag="schedule", omit_defaults=True, gc=False):
    """A schedule was added or changed."""

    record: ScheduleRecord


class ScheduleRemoved(Struct, tag="schedule_removed", omit_defaults=True, gc=False):
    """A schedule was removed."""

    name: str


Operation = (
    Row
    | Added
    | Claimed
    | Removed
    | Kept
    | Progressed
    | Known
    | Paused
    | Booted
    | Counted
    | RolledUp
    | Condensed
    | Audited
    | ScheduleStored
    | ScheduleRemoved
)
"""An operation that can be applied to a table and appended to a log."""


# ---- where rows wait -------------------------------------------------------------------------


class Heap:
    """Rows ordered by a key and, for equal keys, by age. A row is in at most one heap.

    Rows mostly arrive in order. Those form a line with constant-time removal from the front; only
    the others go to the actual heap. A row removed from the middle is only unlinked: its entry is
    skipped when its turn comes, or swept once most entries are dead.
    """

    __slots__ = ("_late", "_line", "_number", "count")

    def __init__(self, number: int) -> None:
        self._number = number
        self._line: deque[tuple[float, int, Row]] = deque()
        self._late: list[tuple[float, int, Row]] = []
        self.count = 0

    def put(self, key: float, row: Row) -> None:
        """Add a row that is not in any heap."""
        row.heap, row.key = self._number, key
        self.count += 1
        entry = (key, row.ref, row)
        line = self._line
        if not line or line[-1] < entry:
            line.append(entry)
        else:
            heappush(self._late, entry)

    def remove(self, row: Row) -> None:
        """Remove a row of this heap, whatever its position."""
        row.heap = -1
        self.count -= 1
        if len(self._line) + len(self._late) > 2 * self.count + _FEW:
            self._line = deque(filter(self._holds, self._line))
            self._late = list(filter(self._holds, self._late))
            heapify(self._late)

    def head(self) -> tuple[float, int, Row] | None:
        """Return key, number and row of the first entry without removing it."""
        line, late = self._line, self._late
        while line and not self._holds(line[0]):
            line.popleft()
        while late and not self._holds(late[0]):
            heappop(late)
        if late and not (line and line[0] < late[0]):
            return late[0]
        return line[0] if line else None

    def take(self, most: float, before: tuple[Any, ...] | None = None) -> list[Row]:
        """Remove and return the first rows, at most ``most``.

        Args:
            before: Limits it to rows whose key, or key and number, are lower than this.
        """
        taken: list[Row] = []
        while len(taken) < most:
            entry = self.head()
            if entry is None or (before is not None and entry >= before):
                break
            if self._line and entry is self._line[0]:
                self._line.popleft()
            else:
                heappop(self._late)
            entry[2].heap = -1
            taken.append(entry[2])
        self.count -= len(taken)
        return taken

    def rows(self) -> Iterator[Row]:
        """Yield all rows, mostly in order; one that left and came back may be yielded twice."""
        return (entry[2] for entry in chain(self._line, self._late) if self._holds(entry))

    def __iter__(self) -> Iterator[Row]:
        """Yield all rows, in no particular order."""
        # A row that left and came back may have two entries; yield it once.
        entries = filter(self._holds, (*self._line, *self._late))
        return iter({entry[1]: entry[2] for entry in entries}.values())

    def _holds(self, entry: tuple[float, int, Row]) -> bool:
        return entry[2].heap == self._number and entry[2].key == entry[0]


def take_merged(heaps: Iterable[Heap], most: int) -> list[Row]:
    """Remove and return at most ``most`` first rows of several heaps, merged in order."""
    heads = [(head, heap) for heap in heaps if (head := heap.head())]
    heapify(heads)
    taken: list[Row] = []
    while heads and len(taken) < most:
        # Take from the heap with the first job, up to where another heap comes first.
        heap = heads[0][1]
        before = min(heads[1:3])[0] if len(heads) > 1 else None
        taken += heap.take(most - len(taken), before)
        head = heap.head()
        if head is None:
            heappop(heads)
        else:
            heapreplace(heads, (head, heap))
    return taken


class QueueRows:
    """One queue: its number of jobs by status, and heaps of its ready jobs by task.

    A claim that leaves out some tasks need not look at their jobs.
    """

    __slots__ = ("counts", "paused_at", "paused_by", "ready", "suspects")

    def __init__(self) -> None:
        self.paused_by: str | None = None
        self.paused_at: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all jobs."""
        self.counts = dict.fromkeys(JobStatus, 0)
        self.ready: dict[str, Heap] = {}
        self.suspects: dict[str, Heap] = {}


class Holder:
    """A claiming owner, known by its worker's id.

    Attributes:
        held: The jobs that it has a lease on; derived.
        known: What else is known of it.
    """

    __slots__ = ("held", "known")

    def __init__(self, owner: str) -> None:
        self.held: dict[str, Row] = {}
        self.known = Known(owner)


class ScheduleRows:
    """All schedules of a store, and the order in which they become due.

    Attributes:
        records: By name.
    """

    def __init__(self) -> None:
        self.records: dict[str, ScheduleRecord] = {}
        self._due: list[tuple[float, str, int]] = []  # with entries of former revisions

    def put(self, record: ScheduleRecord) -> None:
        """Add a schedule or replace the one of its name."""
        self.records[record.name] = record
        if record.due_at is not None:
            heappush(self._due, (record.due_at, record.name, record.revision))
        if len(self._due) > 2 * len(self.records) + _FEW:
            self.repair()

    def remove(self, name: str) -> None:
        """Remove a schedule if there is one of this name."""
        self.records.pop(name, None)

    def repair(self) -> None:
        """Derive the order anew."""
        self._due = [
            (one.due_at, one.name, one.revision)
            for one in self.records.values()
            if one.due_at is not None
        ]
        heapify(self._due)

    def head(self) -> ScheduleRecord | None:
        """Return the schedule that becomes due first."""
        while self._due:
            entry = self._due[0]
            record = self.records.get(entry[1])
            if record is not None and entry == (record.due_at, record.name, record.revision):
                return record
            heappop(self._due)
        return None

    def due(self, now: float, limit: int) -> list[ScheduleRecord]:
        """Return the first schedules that are due."""
        found: list[ScheduleRecord] = []
        taken: list[tuple[float, str, int]] = []
        while len(found) < limit and (head := self.head()) is not None:
            if head.due_at is None or head.due_at > now:
                break
            entry = heappop(self._due)
            if taken and taken[-1] == entry:  # of a schedule that was removed and is as before
                continue
            found.append(head)
            taken.append(entry)
        for entry in taken:
            heappush(self._due, entry)
        return found
