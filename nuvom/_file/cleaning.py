"""Keeping the log small: what still counts of the oldest segment is written anew, then it goes.

A step writes a bounded number of jobs, so that nobody waits for long; whoever reaps takes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom._file import contents
from nuvom._file.frames import NOTE, TOTALS, WHOLE
from nuvom._file.rows import Announced, Beat, Commanded, Note, Paused, encode, encode_totals
from nuvom.errors import CorruptRecord
from nuvom.host.crashpoint import crashpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom._file.store import FileStore
    from nuvom._file.table import Table

_STEP_ROWS = 1000
_ROW_BYTES = 300  # what the log holds about a job besides its record and result, about


def clean(store: FileStore) -> None:
    """Take one step where more than half of the log is superfluous."""
    oldest = store.turn(lambda table: _write_anew(store, table))
    if oldest is None:
        return
    # Also with durability "normal": what was written anew must not vanish with the new segment
    # when the old one is gone.
    store.log.sync()
    crashpoint("file.clean.before_drop")
    store.turn(lambda _: _drop(store, oldest))


def _write_anew(store: FileStore, table: Table) -> int | None:
    """Write some of the oldest segment anew; return its number when nothing of it counts now."""
    oldest = store.log.oldest_full()
    if oldest is None or not _is_wasteful(store, table):
        return None
    rows = table.in_segment(oldest)[:_STEP_ROWS]
    entries = []
    for row in rows:
        try:
            entries.append((WHOLE, contents.whole(store.log, row)))
        except CorruptRecord as error:
            store.remove_damaged(row, error)
    if not rows:
        entries = [(NOTE, encode(note)) for note in _notes(table)]
        if table.tally is not None:
            entries.append((TOTALS, encode_totals(table.tally.totals())))
    if entries:
        store.append(entries)
    return None if rows else oldest


def _drop(store: FileStore, number: int) -> None:
    if store.log.oldest_full() == number:  # else another process was faster
        store.log.drop(number)


def _is_wasteful(store: FileStore, table: Table) -> bool:
    needed = table.live_bytes + _ROW_BYTES * len(table.rows)
    return store.log.size() > 2 * needed + 2 * store.log.segment_bytes


def _notes(table: Table) -> Iterator[Note]:
    """Yield notes that say all that is known besides jobs."""
    for queue in table.queues.values():
        if queue.paused_by is not None:
            yield Paused(queue.name, queue.paused_by)
    for owner, holder in table.holders.items():
        if holder.info is not None:
            yield Announced(holder.info, holder.beat_at)
        yield Beat(owner, holder.beat_at, holder.lease_until)
        if holder.commands:
            yield Commanded(owner, "")  # who knows the words already must not have them twice
        for word in holder.commands:
            yield Commanded(owner, word)
