"""Workers' announcements and what people ask for, in the SQLite store.

Cancel, retry, pause, purge, prune, and commands to workers. Each change that a worker should
notice soon raises the control counter in the store's mapped file.
"""

from __future__ import annotations

import json
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from nuvom.core.clock import boot_id
from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord
from nuvom.core.views import WorkerInfo, seen_worker
from nuvom.host.crashpoint import crashpoint
from nuvom.host.worker_lock import is_alive
from nuvom.queue_backends.sqlite.insertion import FREE_KEY
from nuvom.queue_backends.sqlite.pruning import IS_OLD, MOST_READ, OldJobs
from nuvom.queue_backends.sqlite.schema import (
    CANCELLED,
    DEAD,
    FAILED,
    PARKED,
    READY,
    RUNNING,
    STATUS,
    each_status,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from nuvom.core.record import JobStatus
    from nuvom.queue_backends.sqlite.pruning import Limits
    from nuvom.queue_backends.sqlite.store import Store

_STATUS = "SELECT seq, status FROM jobs WHERE id = ?"
_RECORD = """SELECT coalesce(j.record, p.record)
    FROM jobs j LEFT JOIN payloads p ON p.seq = j.seq WHERE j.seq = ?"""
_CANCEL = """UPDATE jobs SET status = 5, lease_epoch = lease_epoch + 1, finished_at = ?2,
    started_at = CASE status WHEN 1 THEN NULL ELSE started_at END, progress = NULL, suspect = 0,
    unique_key = CASE WHEN unique_until > ?2 THEN unique_key END WHERE seq = ?1"""
_RETRY = """UPDATE OR IGNORE jobs SET status = 0, lease_epoch = lease_epoch + 1, attempt = 0,
    deliveries = 0, suspect = 0, run_at = 0, started_at = NULL, finished_at = NULL, owner = NULL,
    result = NULL, error = NULL, error_fp = NULL, unique_key = ?2 WHERE seq = ?1"""
_CLOSE_ATTEMPT = """INSERT INTO attempts
    (seq, number, outcome, lease_epoch, worker, finished_at)
    SELECT seq, attempt, 'cancelled', lease_epoch, owner, ?2 FROM jobs WHERE seq = ?1"""
_PAUSE = """INSERT INTO queues (name, paused_by, paused_at) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET paused_by = ?2, paused_at = ?3"""
_RESUME = """UPDATE queues SET paused_by = NULL, paused_at = NULL
    WHERE name = ?1 AND paused_by IS NOT NULL"""
_WAITING = each_status("SELECT seq FROM jobs WHERE status = {status}", 0, 6, 7, 8)
_PURGED = each_status("SELECT seq FROM jobs WHERE status = {status} AND queue = ?1", 0, 6, 7, 8)
_UNPARK = """UPDATE jobs SET status = CASE suspect WHEN 1 THEN 8 ELSE 0 END
    WHERE status = 6 AND task IN (SELECT value FROM json_each(?1))"""
_ANY_PARKED = "SELECT 1 FROM jobs WHERE status = 6 LIMIT 1"
_HAS_PARKED = """SELECT 1 FROM jobs WHERE status = 6
    AND task IN (SELECT value FROM json_each(?1)) LIMIT 1"""
_ANNOUNCE = """INSERT INTO workers (id, info, beat, boot) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET info = ?2, beat = ?3, boot = ?4"""
_WORKERS = """SELECT w.info, w.beat, w.boot,
    (SELECT count(*) FROM jobs j WHERE j.status = 1 AND j.owner = w.id) FROM workers w"""
_PROGRESS = """UPDATE jobs SET progress = ?3
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""
_DELETE = """DELETE FROM jobs WHERE seq IN (SELECT value FROM json_each(?1))
    AND status IN ({statuses}) RETURNING seq, queue"""
_DELETE_WAITING = _DELETE.format(statuses="0, 6, 7, 8")
_DELETE_FINAL = _DELETE.format(statuses="2, 3, 4, 5")
_DELETE_ANY = _DELETE.format(statuses="0, 1, 2, 3, 4, 5, 6, 7, 8")
_DELETE_OLD = f"""DELETE FROM jobs WHERE seq IN (SELECT value FROM json_each(?4))
    AND {IS_OLD} RETURNING seq, queue"""  # noqa: S608  # constants only
_DELETE_REST = (
    "DELETE FROM payloads WHERE seq IN (SELECT value FROM json_each(?1))",
    "DELETE FROM attempts WHERE seq IN (SELECT value FROM json_each(?1))",
)
_KEEP_QUEUES = """INSERT INTO queues (name) SELECT value FROM json_each(?1) WHERE true
    ON CONFLICT DO NOTHING"""  # ``stats`` lists those that had jobs, too
_SPEND = "UPDATE spent SET seq = ?1 WHERE seq < ?1"  # see nuvom/_sqlite/schema.py
_CHUNK = 1000
_RETRYABLE = (FAILED, DEAD, CANCELLED)
_CANCELLABLE = frozenset(range(len(STATUS))) - {2, 3, 4, 5}
_WORKER = msgspec.msgpack.Decoder(WorkerInfo)
_WORDS = frozenset({"quiet", "resume", "stop", "stacks"})


class ControlPart:
    """The methods of the queue that people and workers use to steer."""

    store: Store
    _old_jobs: OldJobs | None = None

    # ---- jobs ---------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobStatus | None:
        """Cancel a job that is not final; see the contract."""

        def change(connection: sqlite3.Connection) -> JobStatus | None:
            row = connection.execute(_STATUS, (job_id,)).fetchone()
            if row is None:
                return None
            seq, code = row
            if code in _CANCELLABLE:
                if code == RUNNING:
                    connection.execute(_CLOSE_ATTEMPT, (seq, self.store.clock.now()))
                connection.execute(_CANCEL, (seq, self.store.clock.now()))
            return STATUS[code]

        bell = self.store.bell  # before the change: what fails must not have changed anything
        before = self.store.db.transaction(change)
        crashpoint("sqlite.cancel.after_commit")
        bell.bump()
        bell.notify_all("result")
        return before

    def retry(self, job_id: str) -> JobStatus | None:
        """Make a failed or cancelled job PENDING again; see the contract.

        A job whose unique key another one holds by now stays as it is.
        """

        def change(connection: sqlite3.Connection) -> JobStatus | None:
            row = connection.execute(_STATUS, (job_id,)).fetchone()
            if row is None:
                return None
            seq, code = row
            if code in _RETRYABLE:
                record = JobRecord.decode(connection.execute(_RECORD, (seq,)).fetchone()[0])
                now = self.store.clock.now()
                connection.execute(FREE_KEY, (record.func_name, record.unique_key, now))
                connection.execute(_RETRY, (seq, record.unique_key))
            return STATUS[code]

        bell = self.store.bell
        before = self.store.db.transaction(change)
        bell.notify_one("work")
        return before

    def report_progress(
        self, job: JobRecord, done: float, total: float | None, message: str
    ) -> bool:
        """Keep a running job's progress; see the contract."""
        progress = json.dumps([done, total, message])
        self.store.has_progress = True
        return self.store.db.write(
            lambda connection: (
                connection.execute(_PROGRESS, (job.ref, job.lease_epoch, progress)).rowcount == 1
            ),
            flush=False,
        )

    # ---- queues -------------------------------------------------------------------------

    def pause(self, queue: str, by: str) -> None:
        """Let no job of ``queue`` be claimed; see the contract."""
        valid_name("a queue", queue)
        bell, now = self.store.bell, self.store.clock.now()
        self.store.db.write(lambda connection: connection.execute(_PAUSE, (queue, by, now)))
        bell.bump()

    def resume(self, queue: str) -> bool:
        """Undo ``pause``; see the contract."""
        bell = self.store.bell
        count = self.store.db.write(
            lambda connection: connection.execute(_RESUME, (queue,)).rowcount
        )
        bell.bump()
        bell.notify_one("work")
        return count > 0

    def purge(self, queue: str) -> int:
        """Remove the waiting jobs of ``queue``; see the contract."""
        return self._delete(_PURGED, (queue,))

    def clear(self) -> None:
        """Remove all waiting jobs; see the contract."""
        self._delete(_WAITING, ())

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        """Remove final jobs that are old; see the contract.

        In a process that runs a worker it reads a limited number of jobs, since the worker's
        beats wait for it, and the next call goes on from there.
        """
        if self._old_jobs is None:
            self._old_jobs = OldJobs(self.store.db)
        limits = (success_before, failed_before, self.store.clock.now())
        most_read = MOST_READ if self.store.presences else inf
        seqs = self._old_jobs.find(limits, limit, most_read=most_read)
        return sum(
            self.store.db.transaction(
                partial(_delete_old, limits=limits, seqs=seqs[start : start + _CHUNK])
            )
            for start in range(0, len(seqs), _CHUNK)
        )

    def _delete(self, query: str, parameters: tuple[object, ...]) -> int:
        def delete(connection: sqlite3.Connection) -> int:
            seqs = [seq for (seq,) in connection.execute(query, parameters)]
            return _delete_rows(connection, _DELETE_WAITING, seqs)

        return self.store.db.transaction(delete)

    # ---- workers ------------------------------------------------------------------------

    def announce(self, worker: WorkerInfo) -> None:
        """Show a worker; see the contract."""
        self.store.presence(worker.id)
        row = (
            worker.id,
            msgspec.msgpack.encode(worker),
            self.store.clock.monotonic(),
            boot_id(),
        )
        self.store.db.write(lambda connection: connection.execute(_ANNOUNCE, row), flush=False)

    def retire(self, owner: str) -> None:
        """Forget a worker that stopped in good order; see the contract."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM workers WHERE id = ?", (owner,))
            connection.execute("DELETE FROM commands WHERE worker = ?", (owner,))

        self.store.db.transaction(forget, flush=False)
        crashpoint("sqlite.retire.before_leave")
        self.store.leave(owner)

    def workers(self) -> list[WorkerInfo]:
        """Return the announced workers; see the contract."""
        now = self.store.clock.monotonic()
        found: list[WorkerInfo] = []
        for info, beat, boot, running in self.store.db.read(_WORKERS):
            worker = _WORKER.decode(info)
            if boot != boot_id() or not is_alive(self.store.db.directory, worker.id):
                continue
            aged = replace(worker, beat_age_secs=max(0.0, now - beat), running=running)
            seen = seen_worker(aged, self.store.settings.lease_secs)
            found += [seen] if seen is not None else []
        return sorted(found, key=lambda worker: worker.started_at)

    def command(self, owner: str, word: str) -> bool:
        """Leave a word for a worker; see the contract. Raises: ValueError: no such word."""
        if word not in _WORDS:
            raise ValueError(f"{word!r} is no command; known are {', '.join(sorted(_WORDS))}")
        if not any(worker.id == owner for worker in self.workers()):
            return False

        def leave(connection: sqlite3.Connection) -> bool:
            known = connection.execute("SELECT 1 FROM workers WHERE id = ?", (owner,)).fetchone()
            if known:
                connection.execute(
                    "INSERT INTO commands (worker, word) VALUES (?, ?)", (owner, word)
                )
            return known is not None

        bell = self.store.bell
        was_left = self.store.db.transaction(leave, flush=False)
        bell.bump()
        return was_left

    def commands(self, owner: str) -> list[str]:
        """Take the words left for ``owner``; see the contract."""
        query = "SELECT word FROM commands WHERE worker = ? ORDER BY number"
        if not self.store.db.read(query, (owner,)):
            return []

        def take(connection: sqlite3.Connection) -> list[str]:
            words = [word for (word,) in connection.execute(query, (owner,))]
            connection.execute("DELETE FROM commands WHERE worker = ?", (owner,))
            return words

        return self.store.db.transaction(take, flush=False)

    def control_version(self) -> int:
        """Return a number that changes with every control write; see the contract."""
        return self.store.bell.version()

    def unpark(self, tasks: Iterable[str]) -> int:
        """Make PARKED jobs of ``tasks`` PENDING; see the contract."""
        if self.store.db.read_one(_ANY_PARKED) is None:  # as nearly always: no need for the names
            return 0
        names = json.dumps(sorted(tasks))
        if self.store.db.read_one(_HAS_PARKED, (names,)) is None:
            return 0
        return self.store.db.write(
            lambda connection: connection.execute(_UNPARK, (names,)).rowcount
        )


def delete_final(connection: sqlite3.Connection, seqs: list[int]) -> int:
    """Remove jobs that have ended, with all that belongs to them; return how many."""
    return _delete_rows(connection, _DELETE_FINAL, seqs)


def delete_any(connection: sqlite3.Connection, seqs: list[int]) -> int:
    """Remove what a store of results alone keeps of jobs; return how many."""
    return _delete_rows(connection, _DELETE_ANY, seqs)


def _delete_old(connection: sqlite3.Connection, limits: Limits, seqs: list[int]) -> int:
    # They were found without a lock: by now one may have been retried, and have ended anew.
    return _delete_by(connection, _DELETE_OLD, (*limits, json.dumps(seqs)))


def _delete_rows(connection: sqlite3.Connection, statement: str, seqs: list[int]) -> int:
    return _delete_by(connection, statement, (json.dumps(seqs),))


def _delete_by(
    connection: sqlite3.Connection, statement: str, parameters: tuple[object, ...]
) -> int:
    # What the statement leaves, since it has another status by now, keeps payload and history.
    rows = connection.execute(statement, parameters).fetchall()
    gone = [seq for seq, _ in rows]
    for rest in _DELETE_REST:
        connection.execute(rest, (json.dumps(gone),))
    connection.execute(_KEEP_QUEUES, (json.dumps(sorted({queue for _, queue in rows})),))
    connection.execute(_SPEND, (max(gone, default=0),))
    return len(gone)


assert (READY, PARKED) == (0, 6)  # noqa: S101  # the literals in the statements above
