"""Changes and removals of SQLite rows: all writes except enqueue, claim and success."""

from __future__ import annotations

import json
from functools import cache
from itertools import compress
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from nuvom.core.clock import boot_id
from nuvom.core.record import FINAL, JobRecord, JobStatus
from nuvom.core.totals import RollupSums
from nuvom.core.transitions import LostDelivery
from nuvom.core.views import WorkerInfo, beat_secs
from nuvom.host.crashpoint import crashpoint
from nuvom.host.start_marks import read_slots
from nuvom.host.worker_lock import find_dead, is_alive, is_gone
from nuvom.queue_backends.sqlite.hot import FREE_KEY, Inserter
from nuvom.queue_backends.sqlite.rollups import add_rollups
from nuvom.queue_backends.sqlite.schema import (
    CODES,
    FREE_UNLESS_KEPT,
    READY,
    SCHEDULED,
    SNAPSHOT,
    SUSPECT,
    each_status,
    encode_error,
    snapshot,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from nuvom.core.transitions import Change, Recovery
    from nuvom.queue_backends.sqlite.connection import Database
    from nuvom.queue_backends.sqlite.store import SQLiteStore

# A lease that ends at 0 was released. The epoch is unchanged, so nothing else distinguishes such a
# delivery from a settled one.
_CHANGE = """UPDATE {how} jobs SET status = :code, lease_epoch = :lease_epoch, attempt = :attempt,
    deliveries = :deliveries, run_at = :run_at, started_at = :started_at,
    finished_at = :finished_at, result = :result, error_fp = :fingerprint, progress = NULL,
    claim_token = NULL, lease_until = :lease_until {more}
    WHERE seq = :seq AND lease_epoch = :old_epoch AND status IN ({old})"""
_SETTLED = """SELECT seq, lease_epoch FROM jobs WHERE seq IN (SELECT value FROM json_each(?1))
    AND status <> 1 AND lease_until IS NOT 0"""
_HISTORY = """INSERT INTO attempts
    (seq, number, outcome, lease_epoch, worker, started_at, finished_at, error)
    SELECT seq, ?2, ?3, ?4, owner, ?5, ?6, ?7 FROM jobs WHERE seq = ?1"""

# Each worker runs this four times a second, and mostly all three answers are no.
_WHAT_THERE_IS = """SELECT EXISTS (SELECT 1 FROM jobs WHERE status = 7 AND run_at <= ?1),
    EXISTS (SELECT 1 FROM jobs WHERE status = 1),
    EXISTS (SELECT 1 FROM jobs WHERE status = 6 AND coalesce(finished_at, run_at) <= ?2)"""
_PROMOTE = """UPDATE jobs SET status = CASE suspect WHEN 1 THEN 8 ELSE 0 END
    WHERE status = 7 AND run_at <= ?1"""
_OWNERS = "SELECT owner, min(lease_until) FROM jobs WHERE status = 1 GROUP BY owner"
_HELD = f"{SNAPSHOT} WHERE j.status = 1 AND j.owner = ?1 AND (?2 IS NULL OR j.lease_until <= ?2)"
_PARKED_TOO_LONG = f"{SNAPSHOT} WHERE j.status = 6 AND coalesce(j.finished_at, j.run_at) <= ?1"

_PROGRESS = "UPDATE jobs SET progress = ?3 WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"
_PAUSE = """INSERT INTO queues (name, paused_by, paused_at) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET paused_by = ?2, paused_at = ?3"""
_RESUME = """UPDATE queues SET paused_by = NULL, paused_at = NULL
    WHERE name = ?1 AND paused_by IS NOT NULL"""
_ANNOUNCE = """INSERT INTO workers (id, info, beat, boot) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET info = ?2, beat = ?3, boot = ?4"""
_WORKERS = """SELECT w.info, w.beat, (SELECT count(*) FROM jobs j
    WHERE j.status = 1 AND j.owner = w.id) FROM workers w WHERE w.boot = ?1"""
_COMMAND = "INSERT INTO commands (worker, word) SELECT id, ?2 FROM workers WHERE id = ?1"
_TAKE_COMMANDS = "DELETE FROM commands WHERE worker = ?1 RETURNING number, word"
_FORGET_WORKER = "DELETE FROM workers WHERE id = ?1"

_WAITING = each_status(
    "SELECT seq FROM jobs WHERE status = {status} AND (?1 IS NULL OR queue = ?1)", 0, 6, 7, 8
)
_REMOVE_REST = (
    "DELETE FROM payloads WHERE seq IN (SELECT value FROM json_each(?1))",
    "DELETE FROM attempts WHERE seq IN (SELECT value FROM json_each(?1))",
)
_KEEP_QUEUES = """INSERT INTO queues (name) SELECT value FROM json_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""  # ``stats`` also lists queues that had jobs
_SPEND = "UPDATE spent SET seq = ?1 WHERE seq < ?1"  # see schema.py

# Which rows may be removed. Parameters: the time before which a success must have ended, that for
# any other job, and the current time.
_IS_OLD = """(status = 2
        AND finished_at < CASE WHEN keep_secs IS NULL THEN ?1 ELSE ?3 - keep_secs END
    OR status IN (3, 4, 5) AND finished_at < ?2)
    AND NOT coalesce(unique_key IS NOT NULL AND unique_until > ?3, 0)"""
_BLOCK = 1000
_MOST_READ = 100_000  # rows in one call of a worker: about 30 ms
_READ = f"""SELECT max(seq), count(*), min(created_at), max(created_at),
        json_group_array(seq) FILTER (WHERE {_IS_OLD})
    FROM (SELECT seq, status, finished_at, keep_secs, unique_key, unique_until, created_at
        FROM jobs WHERE seq > ?4 ORDER BY seq LIMIT {_BLOCK})"""
_OUTLIVED = f"""SELECT seq FROM jobs
    WHERE keep_secs IS NOT NULL AND created_at + keep_secs <= ?3 AND {_IS_OLD} LIMIT ?4"""
_REMOVE_OLD = f"seq IN (SELECT value FROM json_each(?4)) AND {_IS_OLD}"

_decode_seqs = msgspec.json.Decoder(list[int]).decode
_decode_worker = msgspec.msgpack.Decoder(WorkerInfo).decode

Limits = tuple[float, float, float]


class RowChanges:
    """The queue's methods that write rows, except the hot path."""

    store: SQLiteStore
    _inserter: Inserter
    _old_jobs: OldJobs
    _stalled_until = 0.0

    # ---- changes of jobs ----------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Write changes, each only if its job is unchanged; see the contract."""
        wakeup = self.store.wakeup  # before the change: a call that fails must not change anything
        now = self.store.clock.now()
        crashpoint("sqlite.apply.before_commit")
        done = self.store.db.transaction(
            lambda connection: self._write_all(connection, changes, now)
        )
        crashpoint("sqlite.apply.after_commit")
        applied = list(compress(changes, done))
        if any(change.status is JobStatus.CANCELLED for change in applied):
            wakeup.bump()
        self._notify(applied)
        self.store.workers.free((one.before.id, one.before.lease_epoch) for one in changes)
        if any(change.settles for change in changes):
            if not self.store.is_boot_noted:
                self.store.note_settled()
            if not all(done):
                known = self._were_settled([change.before for change in changes])
                pairs = zip(changes, done, known, strict=True)
                done = [was_done or (one.settles and before) for one, was_done, before in pairs]
        return done

    def _write_all(
        self, connection: sqlite3.Connection, changes: Sequence[Change], now: float
    ) -> list[bool]:
        """Write changes in the caller's transaction; return for each whether it was applied."""
        done, rollups = list[bool](), RollupSums()
        for change in changes:
            done.append(self._write(connection, change, now))
            if done[-1]:
                rollups.changed(change)
        add_rollups(connection, rollups)
        return done

    def _write(self, connection: sqlite3.Connection, change: Change, now: float) -> bool:
        """Write one change in the caller's transaction; return whether it was applied."""
        before = change.before
        if change.starts_anew:
            connection.execute(FREE_KEY, (before.func_name, before.unique_key, now))
        statement = _statement_of(
            before.status,
            sets_error=change.error is not UNSET,
            ends=change.status in FINAL,
            starts_anew=change.starts_anew,
        )
        if not connection.execute(statement, _values_of(change, now)).rowcount:
            return False
        if (closed := change.closed) is not None:
            row = (closed.number, closed.outcome, closed.lease_epoch, closed.started_at)
            error = encode_error(closed.error)
            connection.execute(_HISTORY, (before.ref, *row, closed.finished_at, error))
        crashpoint("sqlite.apply.before_children")
        self._inserter.insert_children(connection, change.children)
        return True

    def _were_settled(self, records: Sequence[JobRecord]) -> list[bool]:
        """Return which deliveries were settled, in this call or an earlier one, and not fenced.

        All other writers raise the epoch or release the lease.
        """
        seqs = json.dumps([record.ref for record in records])
        settled = set(self.store.db.read(_SETTLED, (seqs,)))
        return [(record.ref, record.lease_epoch) in settled for record in records]

    def _notify(self, applied: Sequence[Change]) -> None:
        if any(change.status in FINAL for change in applied):
            self.store.wakeup.notify_all("result")
        if any(change.children or change.status is JobStatus.PENDING for change in applied):
            self.store.wakeup.notify_one("work")

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Store a running job's progress; see the contract."""
        values = (job.ref, job.lease_epoch, json.dumps([done, total, message]))
        self.store.has_progress = True
        return self.store.db.execute(_PROGRESS, values, flush=False) == 1

    # ---- recovery -----------------------------------------------------------------------

    def recover(self, recovery: Recovery) -> list[JobRecord]:
        """Take back lost jobs, give up on others, and promote due ones; see the contract."""
        found: list[Change] = []
        for dead in find_dead(self.store.db.directory, self.store.workers.living()):
            with dead:
                crashpoint("sqlite.reap.before_commit")
                found += self._take_back(recovery, dead.owner, dead.had_started)
                crashpoint("sqlite.reap.after_commit")
                dead.forget()
        times = recovery.now, recovery.parked_before
        is_due, is_running, is_outdated = self.store.db.read_one(_WHAT_THERE_IS, times) or (0, 0, 0)
        if is_due:
            self._promote()
            self.store.wakeup.notify_one("work")
        if is_running:
            found += self._take_back_from_gone(recovery)
        if is_outdated:
            found += self._give_up(recovery)
        self._notify(found)
        return [change.after for change in found]

    def _promote(self) -> None:
        """Make due jobs ready."""
        self.store.db.execute(_PROMOTE, (self.store.clock.now(),), flush=False)

    def _take_back_from_gone(self, recovery: Recovery) -> list[Change]:
        """Take back jobs from owners that left no trace, and from silent ones."""
        found: list[Change] = []
        now, directory = self.store.clock.monotonic(), self.store.db.directory
        for owner, lease_until in self.store.db.read(_OWNERS):
            # Not "is dead": an owner that has just died, or that another reaper is forgetting, left
            # a slot file that shows what had started.
            has_gone = is_gone(directory, owner)
            if has_gone or (lease_until <= now and now >= self._stalled_until):
                started = read_slots(f"{directory / 'workers' / owner}.slots").started
                silent_since = None if has_gone else now
                found += self._take_back(recovery, owner, started, silent_since=silent_since)
        return found

    def _take_back(
        self,
        recovery: Recovery,
        owner: str,
        had_started: Callable[[str, int], bool],
        *,
        silent_since: float | None = None,
    ) -> list[Change]:
        """Recover the jobs of ``owner``; if it is silent, only those with expired leases."""

        def take_back(connection: sqlite3.Connection) -> list[Change]:
            if silent_since is None:
                connection.execute(_FORGET_WORKER, (owner,))
            elif self._has_stalled(silent_since):
                return []
            rows = connection.execute(_HELD, (owner, silent_since))
            held = [snapshot(row).record for row in rows]
            return recovery.take_back(
                [LostDelivery(one, had_started(one.id, one.lease_epoch)) for one in held]
            )

        return self._change(take_back, recovery.now)

    def _change(
        self, decide: Callable[[sqlite3.Connection], list[Change]], now: float
    ) -> list[Change]:
        """Decide on changes and write them in one transaction."""

        def change(connection: sqlite3.Connection) -> list[Change]:
            changes = decide(connection)
            self._write_all(connection, changes, now)
            return changes

        return self.store.db.transaction(change)

    def _has_stalled(self, asked_at: float) -> bool:
        """Whether the store was locked too long for any heartbeat; if so, all may beat first."""
        now = self.store.clock.monotonic()
        secs = beat_secs(self.store.settings.lease_secs)
        if now - asked_at <= secs:
            return False
        self._stalled_until = now + secs
        return True

    def _give_up(self, recovery: Recovery) -> list[Change]:
        def give_up(connection: sqlite3.Connection) -> list[Change]:
            rows = connection.execute(_PARKED_TOO_LONG, (recovery.parked_before,))
            return recovery.give_up([snapshot(row) for row in rows])

        return self._change(give_up, recovery.now)

    # ---- queues -------------------------------------------------------------------------

    def set_paused(self, queue: str, by: str | None) -> bool:
        """Pause a queue, or resume it; see the contract."""
        wakeup = self.store.wakeup
        if by is not None:
            self.store.db.execute(_PAUSE, (queue, by, self.store.clock.now()))
            wakeup.bump()
            return True
        was_paused = self.store.db.execute(_RESUME, (queue,)) > 0
        wakeup.bump()
        wakeup.notify_one("work")
        return was_paused

    def remove_waiting(self, queue: str | None) -> int:
        """Remove the waiting jobs of a queue, or all; see the contract."""
        return self.store.db.transaction(lambda one: remove(one, f"seq IN ({_WAITING})", (queue,)))

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        """Remove old final jobs; see the contract.

        In a process that runs a worker this reads a limited number of jobs, since the worker's
        heartbeats wait for it. The next call continues from there.
        """
        limits = (success_before, failed_before, self.store.clock.now())
        most_read = _MOST_READ if self.store.workers.living() else inf
        seqs = self._old_jobs.find(limits, limit, most_read)
        if not seqs:
            return 0
        # They were found without a lock: one may have been retried since, and have ended again.
        values = (*limits, json.dumps(seqs))
        return self.store.db.transaction(lambda one: remove(one, _REMOVE_OLD, values))

    # ---- workers ------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        """Make a worker visible; see the contract."""
        self.store.workers.lock_of(worker.id)
        info, beat = msgspec.msgpack.encode(worker), self.store.clock.monotonic()
        row = (worker.id, info, beat, boot_id())
        self.store.db.execute(_ANNOUNCE, row, flush=False)

    def retire(self, owner: str) -> None:
        """Forget a worker that stopped cleanly; see the contract."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute(_FORGET_WORKER, (owner,))
            connection.execute(_TAKE_COMMANDS, (owner,)).fetchall()

        self.store.db.transaction(forget, flush=False)
        crashpoint("sqlite.retire.before_leave")
        self.store.workers.leave(owner)

    def announced(self) -> list[WorkerInfo]:
        """Return the announced workers that are not known to be dead; see the contract."""
        now = self.store.clock.monotonic()
        return [
            msgspec.structs.replace(worker, beat_age_secs=max(0.0, now - beat), running=running)
            for info, beat, running in self.store.db.read(_WORKERS, (boot_id(),))
            if is_alive(self.store.db.directory, (worker := _decode_worker(info)).id)
        ]

    def push_command(self, owner: str, word: str) -> bool:
        """Send a command to a worker; see the contract."""
        wakeup = self.store.wakeup
        was_left = self.store.db.execute(_COMMAND, (owner, word), flush=False) > 0
        wakeup.bump()
        return was_left

    def commands(self, owner: str) -> list[str]:
        """Take the commands sent to ``owner``; see the contract."""
        taken = self.store.db.write(
            lambda connection: connection.execute(_TAKE_COMMANDS, (owner,)).fetchall(), flush=False
        )
        return [word for _, word in sorted(taken)]

    def control_version(self) -> int:
        """Return a number that changes with every control write; see the contract."""
        return self.store.wakeup.version()


_COPIED = (
    *("lease_epoch", "attempt", "deliveries", "suspect", "run_at"),
    *("started_at", "finished_at", "result"),
)


@cache
def _statement_of(old: JobStatus, *, sets_error: bool, ends: bool, starts_anew: bool) -> str:
    """Return the statement that writes a change.

    The totals' triggers treat an UPDATE that names ``error`` or ``suspect`` as the end of an
    attempt, so an UPDATE that changes neither must not name them. Without a new error or an end,
    ``suspect`` is unchanged.
    """
    more = {
        ", error = :error": sets_error,
        ", suspect = :suspect": sets_error or ends,
        f", {FREE_UNLESS_KEPT.format(now=':now')}": ends,
        ", owner = NULL, unique_key = :unique_key": starts_anew,
    }
    return _CHANGE.format(
        how="OR IGNORE" if starts_anew else "",  # another job may hold the key
        more="".join(text for text, is_set in more.items() if is_set),
        old=", ".join(map(str, CODES[old])),
    )


def _values_of(change: Change, now: float) -> dict[str, object]:
    """Return the parameters of the statement that writes a change."""
    before = change.before
    code, is_pending = CODES[change.status][0], change.status is JobStatus.PENDING
    if is_pending:
        waits = change.run_at > now
        code = SCHEDULED if waits else SUSPECT if change.suspect else READY
    is_given_back = (
        before.status is JobStatus.RUNNING
        and is_pending
        and change.lease_epoch == before.lease_epoch
        and not change.settles
    )
    return {
        **{name: getattr(change, name) for name in _COPIED},
        "seq": before.ref,
        "old_epoch": before.lease_epoch,
        "code": code,
        "error": encode_error(change.error or None),
        "fingerprint": change.fingerprint,
        "lease_until": 0 if is_given_back else None,
        "unique_key": before.unique_key,
        "now": now,
    }


def remove(connection: sqlite3.Connection, where: str, parameters: Sequence[Any]) -> int:
    """Remove jobs with everything that belongs to them; return how many.

    Args:
        where: A condition on ``jobs``. Jobs that it does not match keep payload and history.
    """
    statement = f"DELETE FROM jobs WHERE {where} RETURNING seq, queue"
    rows = connection.execute(statement, parameters).fetchall()
    seqs = [seq for seq, _ in rows]
    for rest in _REMOVE_REST:
        connection.execute(rest, (json.dumps(seqs),))
    connection.execute(_KEEP_QUEUES, (json.dumps(sorted({queue for _, queue in rows})),))
    connection.execute(_SPEND, (max(seqs, default=0),))
    return len(seqs)


class OldJobs:
    """Finds jobs that are old enough to remove, and remembers how far it has read.

    There is no index on when jobs ended: each settlement would have to write to it. Jobs are read
    block by block in order of their numbers, which is the order of enqueueing. A job cannot end
    before it was created, so the old ones come before the first block in which all are young. Only
    results with their own ``result_ttl_secs`` may be old after that block; an index finds those.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._at = 0  # the last number read

    def find(self, limits: Limits, most: int, most_read: float) -> list[int]:
        """Return at most ``most`` old jobs; fewer if all, or ``most_read`` rows, were read."""
        found = {seq for (seq,) in self._db.read(_OUTLIVED, (*limits, most))}
        is_from_start, read = self._at == 0, 0
        while read < most_read:
            last, seqs = self._read(limits)
            found.update(seqs)
            if len(found) >= most:  # the next call reads this block again
                break
            read += _BLOCK
            self._at = last
            if last == 0 and is_from_start:
                break
            is_from_start = is_from_start or last == 0
        return sorted(found)[:most]

    def _read(self, limits: Limits) -> tuple[int, list[int]]:
        """Return the last number of the next block, or 0 to start anew, and its old jobs."""
        success_before, failed_before, now = limits
        row = self._db.read_one(_READ, (*limits, self._at))
        last, count, oldest, youngest, seqs = row or (None, 0, None, None, "[]")
        # A time in the future is wrong and says nothing.
        are_young = count and max(success_before, failed_before) <= oldest <= youngest <= now
        return 0 if count < _BLOCK or are_young else last, _decode_seqs(seqs)
