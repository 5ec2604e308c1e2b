"""Waiting jobs in order, from which only the front is ever taken.

Jobs arrive mostly in order; those stand in a line, which costs next to nothing at both ends. The
few that do not go to a heap. A job that leaves from the middle gets another token, and its entry
is passed over when its turn comes. Used by ``table.py`` only.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom._file.rows import Row

Entry = tuple[float, int, int, "Row"]  # key, seq, token, job


class Line:
    """Jobs by a key and, where keys are equal, by their order of enqueueing."""

    __slots__ = ("_late", "_straight")

    def __init__(self) -> None:
        self._straight: deque[Entry] = deque()
        self._late: list[Entry] = []

    def put(self, key: float, row: Row) -> None:
        """Add a job, which counts as long as its token stays as it is."""
        entry = (key, row.seq, row.token, row)
        straight = self._straight
        if not straight or straight[-1] < entry:
            straight.append(entry)
        else:
            heappush(self._late, entry)

    def head(self) -> Entry | None:
        """Return the first entry that counts, and leave it."""
        straight, late = self._straight, self._late
        while straight and straight[0][2] != straight[0][3].token:
            straight.popleft()
        while late and late[0][2] != late[0][3].token:
            heappop(late)
        if late and not (straight and straight[0] < late[0]):
            return late[0]
        return straight[0] if straight else None

    def pop(self) -> Row:
        """Remove the entry that ``head`` has just returned; return its job."""
        straight, late = self._straight, self._late
        if late and not (straight and straight[0] < late[0]):
            return heappop(late)[3]
        return straight.popleft()[3]

    def __iter__(self) -> Iterator[Row]:
        """Yield the jobs that count, in no order."""
        for entries in (self._straight, self._late):
            yield from (row for _, _, token, row in entries if token == row.token)


def first(lines: list[Line], most: int) -> list[Row]:
    """Take the first jobs of all lines together, at most ``most``."""
    taken: list[Row] = []
    if len(lines) == 1:
        line = lines[0]
        while len(taken) < most and line.head() is not None:
            taken.append(line.pop())
        return taken
    heads = [(head, line) for line in lines if (head := line.head()) is not None]
    while heads and len(taken) < most:
        best = min(range(len(heads)), key=lambda index: heads[index][0][:2])
        line = heads[best][1]
        taken.append(line.pop())
        head = line.head()
        if head is None:
            del heads[best]
        else:
            heads[best] = (head, line)
    return taken
