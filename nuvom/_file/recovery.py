"""Taking back jobs from workers that died or went silent, and keeping the log small.

Any process may do it at any time. It works from the table alone; a worker's lock and slot file
only tell whether it lives and what it had started.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nuvom._file import contents, moves
from nuvom._file.cleaning import clean
from nuvom._file.frames import CHANGES
from nuvom._file.rows import Retired, current, encode
from nuvom.core.recovery import LostDelivery, died_error, parked_error, recovered
from nuvom.errors import CorruptRecord
from nuvom.host.crashpoint import crashpoint
from nuvom.host.start_marks import read_slots
from nuvom.host.worker_lock import find_dead, is_gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom._file.places import Holder
    from nuvom._file.rows import Change, Row
    from nuvom._file.store import FileStore
    from nuvom._file.table import Table
    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord
    from nuvom.host.worker_lock import DeadWorker

    Verdict = Callable[[str, int], bool]


class RecoveryPart:
    """The methods of the queue that need no cooperation of the worker concerned."""

    store: FileStore
    settings: Settings
    clock: Clock
    _stalled_until = 0.0

    def reap(self) -> list[JobRecord]:
        """Take back jobs of the dead and the silent, wake due ones; see the contract."""
        corpses = find_dead(self.store.directory)
        try:
            records = self._take_back({corpse.owner: corpse for corpse in corpses})
            crashpoint("file.reap.before_bury")
            for corpse in corpses:
                corpse.forget()
        except BaseException:
            for corpse in corpses:
                corpse.close()
            raise
        clean(self.store)
        return records

    def next_due_secs(self) -> float | None:
        """Return seconds until the next scheduled job is due, or None."""
        now = self.clock.now()

        def look(table: Table) -> float | None:
            table.promote(now)
            return table.next_due()

        due = self.store.turn(look)
        return None if due is None else max(0.0, due - now)

    def _take_back(self, corpses: dict[str, DeadWorker]) -> list[JobRecord]:
        now, asked_at = self.clock.now(), self.clock.monotonic()

        def take(table: Table) -> tuple[_Found, bool]:
            self._note_stall(asked_at)
            arrivals = table.arrivals
            table.promote(now)
            has_due = table.arrivals > arrivals
            found = self._found(table, corpses, now)
            gone = [
                Retired(owner)
                for owner, one in table.holders.items()
                if self._is_over(owner, one, corpses)
            ]
            if gone:
                self.store.note(*gone)
            return found, has_due

        found, has_due = self.store.turn(take)
        if found.changes:
            self.store.flush()
            self.store.bell.notify_all("result")
        if found.changes or has_due:
            self.store.bell.notify_all("work")
        return found.records

    def _found(self, table: Table, corpses: dict[str, DeadWorker], now: float) -> _Found:
        """Take back what was lost, inside a turn."""
        found = _Found(self.store, self.settings.max_deliveries, now)
        for owner, holder in table.holders.items():
            rows, verdict = self._lost_by(owner, holder, corpses)
            found.take(rows, verdict)
        self._give_up_parked(table, found)
        if found.changes:
            self.store.append([(CHANGES, encode(found.changes))])
        return found

    def _lost_by(
        self, owner: str, holder: Holder, corpses: dict[str, DeadWorker]
    ) -> tuple[list[Row], Verdict]:
        """Return the jobs that ``owner`` has lost, and how to tell which had started."""
        rows = list(holder.held.values())
        if owner in corpses:
            return rows, corpses[owner].had_started
        if rows and is_gone(self.store.directory, owner):
            return rows, _charge_all
        mono = self.clock.monotonic()
        if mono < self._stalled_until:
            return [], _charge_all
        silent = [row for row in rows if max(row.state.lease_until, holder.lease_until) <= mono]
        return silent, self._verdict_of_silent(owner) if silent else _charge_all

    def _note_stall(self, asked_at: float) -> None:
        """Where the store was locked for so long that nobody could beat, let all beat first."""
        now, beat_secs = self.clock.monotonic(), min(self.settings.lease_secs / 6, 5.0)
        if now - asked_at > beat_secs:
            self._stalled_until = now + beat_secs

    def _is_over(self, owner: str, holder: Holder, corpses: dict[str, DeadWorker]) -> bool:
        """Return whether a worker is to be shown no more."""
        if owner in corpses:
            return True
        return holder.info is not None and is_gone(self.store.directory, owner)

    def _verdict_of_silent(self, owner: str) -> Verdict:
        slots = read_slots(os.path.join(self.store.directory, "workers", f"{owner}.slots"))
        return _charge_all if slots is None else slots.started

    def _give_up_parked(self, table: Table, found: _Found) -> None:
        limit = found.now - self.settings.parked_ttl_secs
        for row in list(table.parked.values()):
            if (row.state.finished_at or 0.0) <= limit:
                found.give_up(row)


class _Found:
    """What a reaper found, and what becomes of it."""

    def __init__(self, store: FileStore, max_deliveries: int, now: float) -> None:
        self.now = now
        self.changes: list[Change] = []
        self.records: list[JobRecord] = []
        self._store = store
        self._max_deliveries = max_deliveries

    def take(self, rows: list[Row], verdict: Verdict) -> None:
        known = [(row, record) for row in rows if (record := self._record(row)) is not None]
        lost = [LostDelivery(one, verdict(row.id, row.state.epoch)) for row, one in known]
        after = recovered(lost, now=self.now, max_deliveries=self._max_deliveries)
        for (row, _), delivery, record in zip(known, lost, after, strict=True):
            error = died_error(record) if delivery.started else None
            self._add(moves.recovered(row, record, self.now, error), record)

    def give_up(self, row: Row) -> None:
        record = self._record(row)
        if record is not None:
            change = moves.given_up(row, self.now, parked_error(record))
            self._add(change, record.replace(status=change.status, lease_epoch=change.epoch))

    def _add(self, change: Change, record: JobRecord) -> None:
        self.changes.append(change)
        self.records.append(record)

    def _record(self, row: Row) -> JobRecord | None:
        try:
            return current(row, contents.record_data(self._store.log, row))
        except CorruptRecord as error:
            self._store.remove_damaged(row, error)
            return None


def _charge_all(_job_id: str, _epoch: int) -> bool:
    return True
