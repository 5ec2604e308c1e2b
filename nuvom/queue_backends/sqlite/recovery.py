"""Taking back jobs from workers that died or went silent, in the SQLite store.

Works from the rows of jobs alone; a worker's lock and slot file only tell whether it lives and
what it had started. Who is charged follows the table of counters in ``docs/guarantees.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.core.record import JobRecord, JobStatus
from nuvom.core.recovery import LostDelivery, died_error, parked_error, recovered
from nuvom.host.crashpoint import crashpoint
from nuvom.host.start_marks import read_slots
from nuvom.host.worker_lock import find_dead, is_gone
from nuvom.queue_backends.sqlite.schema import (
    DEAD,
    READY,
    SCHEDULED,
    SNAPSHOT_COLUMNS,
    SNAPSHOT_FROM,
    SUSPECT,
    encode_error,
    snapshot,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from nuvom.queue_backends.sqlite.store import Store

_WAKE = """UPDATE jobs SET status = CASE suspect WHEN 1 THEN 8 ELSE 0 END
    WHERE status = 7 AND run_at <= ?1"""
# Each worker asks this four times a second, and mostly hears three times no.
_WHAT_THERE_IS = """SELECT EXISTS (SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1),
    EXISTS (SELECT 1 FROM jobs WHERE status = 1),
    EXISTS (SELECT 1 FROM jobs WHERE status = 6 AND coalesce(finished_at, run_at) <= ?2)"""
_OWNERS = "SELECT DISTINCT owner FROM jobs WHERE status = 1"
_EXPIRED = "SELECT DISTINCT owner FROM jobs WHERE status = 1 AND lease_until <= ?1"
_HELD = """SELECT seq, id, task, lease_epoch, attempt, deliveries, suspect, run_at FROM jobs
    WHERE status = 1 AND owner = ?1 AND (?2 IS NULL OR lease_until <= ?2)"""
_TAKE_BACK = """UPDATE jobs SET status = ?3, lease_epoch = ?4, attempt = ?5, deliveries = ?6,
    suspect = ?7, run_at = ?8, error = ?9, error_fp = ?10, started_at = NULL, finished_at = ?11,
    progress = NULL, unique_key = CASE WHEN ?3 <> 4 OR unique_until > ?11 THEN unique_key END
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""
# Of a delivery that had not started. It names neither ``error`` nor ``suspect``: both stay, and
# no trigger of the totals takes it for a loss.
_GIVE_BACK = """UPDATE jobs SET status = ?3, lease_epoch = ?4, attempt = ?5, deliveries = ?6,
    started_at = NULL, finished_at = ?7, progress = NULL
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""
_HISTORY = """INSERT INTO attempts (seq, number, outcome, lease_epoch, worker, finished_at, error)
    SELECT seq, attempt, 'lost', lease_epoch, owner, ?2, ?3 FROM jobs WHERE seq = ?1"""
_PARKED_TOO_LONG = """SELECT seq, id, task FROM jobs
    WHERE status = 6 AND coalesce(finished_at, run_at) <= ?1"""
_PARKED_OUT = """UPDATE jobs SET status = 4, lease_epoch = lease_epoch + 1, error = ?2,
    error_fp = ?3, finished_at = ?4, progress = NULL,
    unique_key = CASE WHEN unique_until > ?4 THEN unique_key END WHERE seq = ?1 AND status = 6"""
_FORGET_WORKER = "DELETE FROM workers WHERE id = ?1"
_NEXT = "SELECT min(run_at) FROM jobs WHERE status = 7 AND run_at > ?1"
_BY_SEQ = f"SELECT {SNAPSHOT_COLUMNS} {SNAPSHOT_FROM} WHERE j.seq = ?"  # constants only

_READY = {False: READY, True: SUSPECT}


class RecoveryPart:
    """The methods of the queue that need no cooperation of the worker concerned."""

    store: Store
    _stalled_until = 0.0

    def reap(self) -> list[JobRecord]:
        """Take back jobs of the dead and the silent, wake due ones; see the contract."""
        found: list[int] = []
        for corpse in find_dead(self.store.db.directory, self.store.owners_here()):
            with corpse:
                crashpoint("sqlite.reap.before_commit")
                found += self._take_back(corpse.owner, corpse.had_started)
                crashpoint("sqlite.reap.after_commit")
                corpse.forget()
        wall = self.store.clock.now()
        times = wall, wall - self.store.settings.parked_ttl_secs
        is_due, is_running, is_outdated = self.store.db.read_one(_WHAT_THERE_IS, times) or (0, 0, 0)
        if is_due:
            self._wake_due()
        if is_running:
            found += self._take_back_from_gone()
        if is_outdated:
            found += self._expire_parked()
        return [record for seq in found if (record := self._record(seq)) is not None]

    def _take_back_from_gone(self) -> list[int]:
        """Take back from owners without a trace, and from the silent."""
        found: list[int] = []
        now = self.store.clock.monotonic()
        for (owner,) in self.store.db.read(_OWNERS):
            # Not "is dead": whoever died just now, or is being buried by another reaper, left a
            # slot file that tells what had started.
            if is_gone(self.store.db.directory, owner):
                found += self._take_back(owner, lambda _job, _epoch: True)
        silent = self.store.db.read(_EXPIRED, (now,)) if now >= self._stalled_until else []
        for (owner,) in silent:
            found += self._take_back(owner, self._verdict_of_silent(owner), silent_since=now)
        return found

    def next_due_secs(self) -> float | None:
        """Return seconds until a scheduled job is due, None when there is none."""
        now = self.store.clock.now()
        row = self.store.db.read_one(_NEXT, (now,))
        return None if row is None or row[0] is None else float(row[0]) - now

    def _wake_due(self) -> None:
        now = self.store.clock.now()
        self.store.db.write(lambda connection: connection.execute(_WAKE, (now,)), flush=False)

    def _verdict_of_silent(self, owner: str) -> Callable[[str, int], bool]:
        slots = read_slots(f"{self.store.db.directory / 'workers' / owner}.slots")
        return (lambda _job, _epoch: True) if slots is None else slots.started

    def _take_back(
        self,
        owner: str,
        verdict: Callable[[str, int], bool],
        *,
        silent_since: float | None = None,
    ) -> list[int]:
        """Recover what ``owner`` holds (of a silent one only what has expired)."""

        def recover(connection: sqlite3.Connection) -> list[int]:
            if silent_since is not None and self._has_stalled(silent_since):
                return []
            lost = [_lost(row, verdict) for row in connection.execute(_HELD, (owner, silent_since))]
            now = self.store.clock.now()
            most = self.store.settings.max_deliveries
            after = recovered([one for _, one in lost], now=now, max_deliveries=most)
            for (seq, one), record in zip(lost, after, strict=True):
                _return(connection, seq, one, record, now=now)
            if silent_since is None:
                connection.execute(_FORGET_WORKER, (owner,))
            return [seq for seq, _ in lost]

        return self.store.db.transaction(recover)

    def _has_stalled(self, asked_at: float) -> bool:
        """Whether the store was locked for so long that nobody could beat: then all may first."""
        now = self.store.clock.monotonic()
        beat_secs = min(self.store.settings.lease_secs / 6, 5.0)
        if now - asked_at <= beat_secs:
            return False
        self._stalled_until = now + beat_secs
        return True

    def _expire_parked(self) -> list[int]:
        now = self.store.clock.now()
        oldest = now - self.store.settings.parked_ttl_secs

        def expire(connection: sqlite3.Connection) -> list[int]:
            rows = connection.execute(_PARKED_TOO_LONG, (oldest,)).fetchall()
            for seq, job_id, task in rows:
                error = parked_error(JobRecord(job_id, task))
                values = (seq, encode_error(error), error.fingerprint, now)
                connection.execute(_PARKED_OUT, values)
            return [seq for seq, _, _ in rows]

        return self.store.db.transaction(expire)

    def _record(self, seq: int) -> JobRecord | None:
        row = self.store.db.read_one(_BY_SEQ, (seq,))
        return None if row is None else snapshot(row).record  # None: removed meanwhile


def _lost(row: tuple[Any, ...], verdict: Callable[[str, int], bool]) -> tuple[int, LostDelivery]:
    """Return a held row as what the decision about it needs, with its number."""
    seq, job_id, task, epoch, attempt, deliveries, suspect, run_at = row
    record = JobRecord(
        job_id,
        task,
        run_at=run_at,
        status=JobStatus.RUNNING,
        attempt=attempt,
        deliveries=deliveries,
        lease_epoch=epoch,
        suspect=bool(suspect),
    )
    return seq, LostDelivery(record, verdict(job_id, epoch))


def _return(
    connection: sqlite3.Connection, seq: int, lost: LostDelivery, record: JobRecord, *, now: float
) -> None:
    """Store what a lost delivery has become, and close its attempt if it had started."""
    is_dead = record.status is JobStatus.DEAD
    code = DEAD if is_dead else SCHEDULED if record.run_at > now else _READY[record.suspect]
    counters = (record.lease_epoch, record.attempt, record.deliveries)
    if not lost.started:
        connection.execute(_GIVE_BACK, (seq, lost.record.lease_epoch, code, *counters, now))
        return
    error = died_error(record)
    connection.execute(_HISTORY, (seq, now, encode_error(error)))
    connection.execute(
        _TAKE_BACK,
        (
            seq,
            lost.record.lease_epoch,
            code,
            *counters,
            int(record.suspect),
            record.run_at,
            encode_error(error),
            error.fingerprint if is_dead else None,
            now,
        ),
    )
