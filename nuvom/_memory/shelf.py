"""Where the jobs of the memory store lie, in order, until somebody takes them from the front.

Ready jobs of one task, scheduled jobs, parked jobs and each kind of finished job lie on a shelf
of their own; a job is on one at most. Used by ``store.py`` only, under the store's lock.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import Attempt, JobRecord, JobStatus, StoredError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Entry = tuple[float, int, "Row"]  # key, place in the order of enqueueing, job

_FEW = 64  # a shelf with fewer dead entries than this is not worth sweeping


class Row(msgspec.Struct, eq=False, gc=False):
    """One job as the store keeps it; ``record`` is replaced at each change of status.

    Its attributes are changed in a row without a call in between; see ``store.py``.

    Attributes:
        seq: Its place in the order of enqueueing; 0 until it is stored.
        shelf, key: Where it lies, if anywhere; derived from the others.
        holder: The ``Holder`` that has a lease on it, while it is RUNNING.
        lease_until: When, on the monotonic clock, its lease ends; of a PARKED job, when it is
            given up.
        started_epoch, settled_epoch: The ``lease_epoch`` of the delivery that last started,
            and of the one that last settled; -1 before.
        worker, started_at, finished_at, result, error, progress: As in ``JobSnapshot``.
        attempts: Closed attempts, oldest first.
    """

    seq: int
    record: JobRecord
    shelf: Shelf | None = None
    key: float = 0.0
    holder: Any = None
    lease_until: float = 0.0
    started_epoch: int = -1
    settled_epoch: int = -1
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    result: bytes | None = None
    error: StoredError | None = None
    progress: tuple[float, float | None, str] | None = None
    attempts: tuple[Attempt, ...] = ()


class Shelf:
    """Rows in the order of a key and, where keys are equal, of their enqueueing.

    Rows arrive mostly in order; those stand in a line, which is taken from in constant time.
    Only the others go to a heap. Removing a row from the middle only unties it; its entry is
    passed over when its turn comes, or swept away once most entries are dead.
    """

    __slots__ = ("_late", "_line", "count")

    def __init__(self) -> None:
        self._line: deque[Entry] = deque()
        self._late: list[Entry] = []
        self.count = 0

    def put(self, key: float, row: Row) -> None:
        """Lay down a row that is on no shelf."""
        row.shelf, row.key = self, key
        self.count += 1
        entry = (key, row.seq, row)
        line = self._line
        if not line or line[-1] < entry:
            line.append(entry)
        else:
            heappush(self._late, entry)

    def remove(self, row: Row) -> None:
        """Take a row of this shelf away, wherever it lies."""
        row.shelf = None
        self.count -= 1
        if len(self._line) + len(self._late) > 2 * self.count + _FEW:
            self._sweep()

    def head(self) -> Entry | None:
        """Return the first entry and leave it."""
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
            before: Only those whose ``(key, seq)`` is lower than this.
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
            row = entry[2]
            row.shelf = None
            taken.append(row)
        self.count -= len(taken)
        return taken

    def __iter__(self) -> Iterator[Row]:
        """Yield all rows, in no particular order."""
        entries = filter(self._holds, (*self._line, *self._late))
        # A row that left and came back may have two entries; it is yielded once.
        return iter({entry[1]: entry[2] for entry in entries}.values())

    def _holds(self, entry: Entry) -> bool:
        row = entry[2]
        return row.shelf is self and row.key == entry[0]

    def _sweep(self) -> None:
        self._line = deque(filter(self._holds, self._line))
        self._late = list(filter(self._holds, self._late))
        heapify(self._late)


class QueueState:
    """One queue: how many jobs it has of each status, and its ready ones.

    Attributes:
        ready: Shelves by task, so that a claim without some tasks need not look at their jobs.
        suspects: Ready jobs during which a worker died.
    """

    __slots__ = ("counts", "name", "paused_by", "ready", "suspects")

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused_by: str | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all jobs."""
        self.counts = dict.fromkeys(JobStatus, 0)
        self.ready: dict[str, Shelf] = {}
        self.suspects: dict[str, Shelf] = {}

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


def take_merged(shelves: Iterable[Shelf], most: int) -> list[Row]:
    """Remove and return the first rows of shelves that count as one, at most ``most``."""
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
