"""Taking back jobs from workers that died or went silent, in the SQLite store.

Works from the rows of jobs alone; a worker's lock and slot file only tell whether it lives and
what it had started. Who is charged follows the table of counters in ``docs/guarantees.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nuvom._presence import find_dead, is_gone
from nuvom._slotfile import read_slots
from nuvom._sqlite.rows import SNAPSHOT_COLUMNS, SNAPSHOT_FROM, encode_error, snapshot
from nuvom._sqlite.schema import DEAD, READY, SCHEDULED, SUSPECT
from nuvom.crashpoint import crashpoint
from nuvom.record import JobRecord, StoredError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from nuvom._sqlite.store import Store

_WAKE = """UPDATE jobs SET status = CASE suspect WHEN 1 THEN 8 ELSE 0 END
    WHERE status = 7 AND run_at <= ?1"""
_IS_DUE = "SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1 LIMIT 1"
_OWNERS = "SELECT DISTINCT owner FROM jobs WHERE status = 1"
_EXPIRED = "SELECT DISTINCT owner FROM jobs WHERE status = 1 AND lease_until < ?1"
_HELD = """SELECT seq, id, lease_epoch, deliveries, suspect FROM jobs
    WHERE status = 1 AND owner = ?1 AND (?2 IS NULL OR lease_until < ?2)"""
_TAKE_BACK = """UPDATE jobs SET status = ?3, lease_epoch = lease_epoch + 1,
    attempt = attempt - ?4, deliveries = ?5, suspect = ?6, run_at = ?7, error = ?8,
    error_fp = ?9, finished_at = ?10, progress = NULL,
    unique_key = CASE WHEN ?3 = 4 AND NOT coalesce(unique_until > ?7, 0) THEN NULL
        ELSE unique_key END
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""
_HISTORY = """INSERT INTO attempts (seq, number, outcome, lease_epoch, worker, finished_at, error)
    SELECT seq, attempt, ?2, lease_epoch, owner, ?3, ?4 FROM jobs WHERE seq = ?1"""
_PARKED_OUT = """UPDATE jobs SET status = 4, lease_epoch = lease_epoch + 1, error = ?2,
    error_fp = ?3, finished_at = ?4, unique_key = NULL
    WHERE status = 6 AND run_at < ?1 RETURNING seq"""
_FORGET_WORKER = "DELETE FROM workers WHERE id = ?1"
_NEXT = "SELECT min(run_at) FROM jobs WHERE status = 7"
_BY_SEQ = f"SELECT {SNAPSHOT_COLUMNS} {SNAPSHOT_FROM} WHERE j.seq = ?"  # constants only

_DIED = "WorkerDied"
_PARKED = "UnknownTask"


class _Held(NamedTuple):
    seq: int
    job_id: str
    epoch: int
    deliveries: int
    is_suspect: int


class RecoveryPart:
    """The methods of the queue that need no cooperation of the worker concerned."""

    store: Store
    _stalled_until = 0.0

    def reap(self) -> list[JobRecord]:
        """Take back jobs of the dead and the silent, wake due ones; see the contract."""
        self._wake_due()
        recovered: list[int] = []
        for corpse in find_dead(self.store.db.directory):
            with corpse:
                crashpoint("sqlite.reap.before_commit")
                recovered += self._take_back(corpse.owner, corpse.verdict)
                crashpoint("sqlite.reap.after_commit")
                corpse.bury()
        now = self.store.clock.monotonic()
        for (owner,) in self.store.db.read(_OWNERS):
            # Not "is dead": whoever died just now, or is being buried by another reaper, left a
            # slot file that tells what had started.
            if is_gone(self.store.db.directory, owner):
                recovered += self._take_back(owner, lambda _job, _epoch: True)
        silent = self.store.db.read(_EXPIRED, (now,)) if now >= self._stalled_until else []
        for (owner,) in silent:
            recovered += self._take_back(owner, self._verdict_of_silent(owner), silent_since=now)
        recovered += self._expire_parked()
        return [self._record(seq) for seq in recovered]

    def next_due_secs(self) -> float | None:
        """Return seconds until a scheduled job is due, None when there is none."""
        row = self.store.db.read_one(_NEXT)
        if row is None or row[0] is None:
            return None
        return max(0.0, float(row[0]) - self.store.clock.now())

    def _wake_due(self) -> None:
        now = self.store.clock.now()
        if self.store.db.read_one(_IS_DUE, (now,)) is not None:
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
            rows = connection.execute(_HELD, (owner, silent_since)).fetchall()
            held = [_Held(*row) for row in rows]
            started = [one for one in held if verdict(one.job_id, one.epoch)]
            suspects = [one for one in started if one.is_suspect]
            charged = {one.seq for one in (suspects or started)}
            for one in held:
                self._return_one(
                    connection, one, has_started=one in started, is_charged=one.seq in charged
                )
            if silent_since is None:
                connection.execute(_FORGET_WORKER, (owner,))
            return [one.seq for one in held]

        return self.store.db.transaction(recover)

    def _has_stalled(self, asked_at: float) -> bool:
        """Whether the store was locked for so long that nobody could beat: then all may first."""
        now, lease_secs = self.store.clock.monotonic(), self.store.settings.lease_secs
        if now - asked_at <= lease_secs / 2:
            return False
        self._stalled_until = now + min(lease_secs / 6, 5.0)
        return True

    def _return_one(
        self, connection: sqlite3.Connection, one: _Held, *, has_started: bool, is_charged: bool
    ) -> None:
        now = self.store.clock.now()
        deliveries = one.deliveries if is_charged else one.deliveries - 1
        is_dead = is_charged and deliveries >= self.store.settings.max_deliveries
        is_suspect = has_started or bool(one.is_suspect)
        waits = deliveries if is_charged and deliveries > 1 else 0  # the first recovery is at once
        code = DEAD if is_dead else SCHEDULED if waits else SUSPECT if is_suspect else READY
        error = encode_error(_death(deliveries)) if has_started else None
        if has_started:
            connection.execute(_HISTORY, (one.seq, "lost", now, error))
        connection.execute(
            _TAKE_BACK,
            (
                one.seq,
                one.epoch,
                code,
                0 if is_dead else 1,
                deliveries,
                int(is_suspect and not is_dead),
                now + waits,
                error,
                _DIED if is_dead else None,
                now if is_dead else None,
            ),
        )

    def _expire_parked(self) -> list[int]:
        now = self.store.clock.now()
        oldest = now - self.store.settings.parked_ttl_secs
        if self.store.db.read_one("SELECT 1 FROM jobs WHERE status = 6 LIMIT 1") is None:
            return []
        error = encode_error(StoredError(_PARKED, "no worker knew the task for too long"))
        return [
            seq
            for (seq,) in self.store.db.transaction(
                lambda connection: connection.execute(
                    _PARKED_OUT, (oldest, error, _PARKED, now)
                ).fetchall()
            )
        ]

    def _record(self, seq: int) -> JobRecord:
        (row,) = self.store.db.read(_BY_SEQ, (seq,))
        return snapshot(row).record


def _death(deliveries: int) -> StoredError:
    return StoredError(
        _DIED, f"the worker process died while the job was running (delivery {deliveries})"
    )
