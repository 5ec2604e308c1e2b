"""Roll-ups per minute in a SQLite file: how workers add to them, and how old ones are combined.

Triggers would run for each job. Instead, a process sums up its plain successes and adds the sums in
the transaction that settles the next ones, at most once a second: a transaction of several
statements takes twice as long as one that only settles a few jobs, and holds the file's lock while
other threads run. A process that is killed takes the successes of up to a second with it, or those
since its last heartbeat. All other ends are added in their own transaction.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from math import inf
from typing import TYPE_CHECKING

from nuvom.core.totals import RollupSums, kept_since
from nuvom.core.views import Rollup

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.queue_backends.sqlite.connection import Database

_HELD_SECS = 1.0
_COUNTED_AT_ONCE = 64  # so long are their results kept in memory
_MOST_ROWS = 64  # in one statement
_SECS = 3600
_COMBINE = """ON CONFLICT DO UPDATE SET
    count = count + excluded.count, secs = secs + excluded.secs"""
_READ = """SELECT at / ?3 * ?3 AS step, queue, task, kind, bucket, sum(count), sum(secs)
    FROM rollups WHERE at >= ?1 AND at < ?2 GROUP BY step, queue, task, kind, bucket"""
_OLD_HOURS = f"""SELECT DISTINCT at / {_SECS} * {_SECS} FROM rollups
    WHERE at >= ?1 AND at < ?2 AND at % {_SECS} <> 0"""
_CONDENSE = f"""INSERT INTO rollups (at, queue, task, kind, bucket, count, secs)
    SELECT ?1, queue, task, kind, bucket, sum(count), sum(secs) FROM rollups
    WHERE at > ?1 AND at < ?1 + {_SECS} GROUP BY queue, task, kind, bucket {_COMBINE}"""
_FORGET_MINUTES = f"DELETE FROM rollups WHERE at > ?1 AND at < ?1 + {_SECS}"
_FORGET_HOURS = "DELETE FROM rollups WHERE at < ?1"
_CONDENSED = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'condensed'"
_NOTE_CONDENSED = "INSERT OR REPLACE INTO meta (name, value) VALUES ('condensed', ?1)"


class RowRollups:
    """The roll-ups of one file, and the successes of this process that are not among them yet."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._lock = threading.Lock()
        self._held = RollupSums()
        self._uncounted: list[Settlement] = []
        self._due_at = -inf

    def count(self, successes: Iterable[Settlement]) -> None:
        """Count plain successes that are stored already; many at once take less for each."""
        with self._lock:
            self._uncounted += successes
            if len(self._uncounted) >= _COUNTED_AT_ONCE:
                self._count()

    def _count(self) -> None:
        self._held.succeeded(self._uncounted)
        self._uncounted.clear()

    def is_due(self) -> bool:
        """Return whether it is time to write what is held."""
        return self._clock.monotonic() >= self._due_at

    @contextmanager
    def taken(self) -> Iterator[RollupSums]:
        """Lend what is held to whoever writes it; it is held again if that fails."""
        taken = RollupSums()
        try:
            with self._lock:
                self._count()
                taken, self._held = self._held, taken
                self._due_at = self._clock.monotonic() + _HELD_SECS
            yield taken
        except BaseException:
            with self._lock:
                self._held.add(taken)
            raise

    def write(self) -> None:
        """Write what is held, in a transaction of its own; nothing if nothing is held."""
        if self._held.sums or self._uncounted:
            with self.taken() as held:
                self._db.transaction(partial(add_rollups, rollups=held), flush=False)

    def read(self, since: float, until: float, step: int) -> list[Rollup]:
        """Return what was counted in each step; see ``LeasedJobQueue.rollups``."""
        self.write()
        times = (since // step * step, until, step)
        return [Rollup(*row) for row in self._db.read(_READ, times)]

    def condense(self) -> None:
        """Combine the minutes of old hours. Each hour is a short transaction."""
        minutes_since, hours_since = kept_since(self._clock.now())
        row = self._db.read_one(_CONDENSED)
        condensed = hours_since if row is None else row[0]
        for (hour,) in self._db.read(_OLD_HOURS, (condensed, minutes_since)):
            self._db.transaction(partial(_condense, hour=hour), flush=False)
        if condensed != minutes_since:
            self._db.execute(_FORGET_HOURS, (hours_since,), flush=False)
            self._db.execute(_NOTE_CONDENSED, (str(minutes_since),), flush=False)


def add_rollups(connection: sqlite3.Connection, rollups: RollupSums) -> None:
    """Add roll-ups in the caller's transaction."""
    rows = [(*key, int(count), secs) for key, (count, secs) in rollups.sums.items()]
    for first in range(0, len(rows), _MOST_ROWS):
        some = rows[first : first + _MOST_ROWS]
        connection.execute(_adding(len(some)), [*chain.from_iterable(some)])


@cache
def _adding(size: int) -> str:
    """Return the statement that adds so many rows in one step."""
    rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * size)
    return f"""INSERT INTO rollups (at, queue, task, kind, bucket, count, secs)
        VALUES {rows} {_COMBINE}"""


def _condense(connection: sqlite3.Connection, hour: int) -> None:
    connection.execute(_CONDENSE, (hour,))
    connection.execute(_FORGET_MINUTES, (hour,))
