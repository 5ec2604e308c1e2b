"""The statements that every job passes: to lease it to a worker, and to store that it succeeded.

``sqlite3`` gives up the GIL at every step, and a lock on the file must not be held while waiting
for it. So a claim is one statement of one step and is read back outside the lock, and a batch of
successes is another. A claim that returns its own rows takes a step for each of them and holds the
lock until the last; it is used where no job runs in this process.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import JobRecord, StoredError
from nuvom.errors import CorruptRecord, PayloadError
from nuvom.queue_backends.sqlite.schema import (
    FREE_UNLESS_KEPT,
    become_claimed,
    encode_error,
    set_field,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.queue_backends.sqlite.store import SQLiteStore

BULK = 64
"""A claim of so many costs less to flush than to switch flushing off and on."""

FEW = 8
"""At most so many jobs are claimed by a statement that returns them."""

_CLAIM = """UPDATE jobs SET status = 1, owner = ?1, claim_token = ?2, lease_until = ?3,
    lease_epoch = lease_epoch + 1, attempt = attempt + 1, deliveries = deliveries + 1
    WHERE seq IN (SELECT seq FROM jobs WHERE status = {status} AND queue = ?4 {wanted}
        ORDER BY priority, seq LIMIT ?5)"""
_WITHOUT = "AND task NOT IN (SELECT value FROM json_each(?6))"
_RUNS = "AND NOT EXISTS (SELECT 1 FROM queues WHERE name = ?4 AND paused_by IS NOT NULL)"
_RETURNING = " RETURNING seq, lease_epoch, attempt, deliveries, suspect, priority, run_at, record"
_CLAIM_READY = _CLAIM.format(status=0, wanted="")
_CLAIM_READY_WITHOUT = _CLAIM.format(status=0, wanted=_WITHOUT)
_CLAIM_FEW = _CLAIM.format(status=0, wanted=_RUNS) + _RETURNING
_CLAIM_FEW_WITHOUT = _CLAIM.format(status=0, wanted=f"{_RUNS} {_WITHOUT}") + _RETURNING
_CLAIM_SUSPECT = _CLAIM.format(status=8, wanted=_WITHOUT)

_PARTS = 1 << 30  # of a second: a time in them is an exact integer, which JSON keeps
# All claimed rows in one row, so that reading them is one step too: their records end to end, and
# their numbers as JSON. The short form is for jobs that nobody has claimed before.
_READ_BACK = """SELECT json_group_array(seq), CAST(group_concat(record, '') AS BLOB),
    max(max(lease_epoch, attempt, deliveries, suspect)) = 1
        AND min(priority) = max(priority) AND count(record) = count(*)
    FROM jobs WHERE status = 1 AND claim_token = ?1"""
_READ_BACK_EACH = f"""SELECT json_group_array(json_array(seq, lease_epoch, attempt, deliveries,
        suspect, priority, CAST(run_at * {_PARTS} AS INTEGER), coalesce(length(record), -1))),
    CAST(group_concat(record, '') AS BLOB)
    FROM jobs WHERE status = 1 AND claim_token = ?1"""
_READ_PAYLOADS = """SELECT seq, record FROM payloads
    WHERE seq IN (SELECT value FROM json_each(?1))"""
_SET_ASIDE = """UPDATE jobs SET status = 3, lease_epoch = lease_epoch + 1, finished_at = ?3,
    error = ?4, error_fp = ?5, unique_key = NULL
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""

# One statement of one step for a whole batch. Its text depends on the number of jobs, so there is
# one for each power of two, prepared once, and what is left of it is filled with rows that match
# no job. It has to begin with UPDATE, or sqlite3 would not tell how many rows were changed.
_SUCCESSES = """UPDATE jobs SET status = 2, deliveries = deliveries - 1,
    started_at = done.column4, finished_at = done.column5, {more} result = done.column3,
    claim_token = NULL, lease_until = NULL
    FROM (VALUES {rows}) AS done
    WHERE jobs.seq = done.column1 AND jobs.lease_epoch = done.column2 AND jobs.status = 1"""
_ROW = "(?, ?, ?, ?, ?)"
_SUCCESS_ALONE = """UPDATE jobs SET status = 2, deliveries = deliveries - 1,
    started_at = ?4, finished_at = ?5, result = ?3, claim_token = NULL, lease_until = NULL
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""
_NO_JOB = (0, 0, 0, 0, 0)  # to bind None takes sqlite3 ten times as long
_MOST = 4096  # SQLite takes 32,766 parameters
_WITH_REST = f"progress = NULL, error = NULL, suspect = 0, {FREE_UNLESS_KEPT.format(now='?1')},"

_decode_seqs = msgspec.json.Decoder(list[int]).decode
_decode_rows = msgspec.json.Decoder(list[list[int]]).decode
_encode_json = msgspec.json.Encoder().encode


class Claim:
    """One claim, from one or several queues, under one token.

    Attributes:
        count: How many jobs it holds; unknown after an error.
        queue: Where the last of them came from.
        has_begun: Something may have been claimed.
    """

    def __init__(self, store: SQLiteStore, owner: str, without: Iterable[str]) -> None:
        self._store = store
        self._owner = owner
        self._without = _encode_json(sorted(without)).decode()
        self.token = int.from_bytes(os.urandom(8), "big") >> 1  # SQLite's integers are signed
        self.count = 0
        self.queue: str | None = None
        self.has_begun = False
        self._rows: list[tuple[Any, ...]] = []

    def take_few(self, most: int, queue: str) -> None:
        """Claim at most ``most`` jobs of a queue that is not paused, and have them read already."""
        statement = _CLAIM_FEW if self._without == "[]" else _CLAIM_FEW_WITHOUT

        def claim(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return connection.execute(statement, self._values(statement, queue, most)).fetchall()

        self.has_begun = True
        self._rows = self._store.db.write(claim, flush=False)
        self._store.has_unflushed_claim |= bool(self._rows)
        self.count, self.queue = len(self._rows), queue

    def take_ready(self, most: int, queues: list[str]) -> None:
        """Claim from ``queues`` in turn until this claim holds ``most`` jobs."""
        self._take(_CLAIM_READY if self._without == "[]" else _CLAIM_READY_WITHOUT, most, queues)

    def take_suspect(self, queues: list[str]) -> None:
        """Claim one job that was running when a worker died."""
        self._take(_CLAIM_SUSPECT, 1, queues)

    def _take(self, statement: str, most: int, queues: list[str]) -> None:
        for queue in queues:
            left = most - self.count
            if left <= 0:
                return
            flush = left >= BULK or self._store.claims_flush
            claim = partial(self._execute, statement, queue, left)
            self.has_begun = True
            count = self._store.db.write(claim, flush=flush)
            if count:
                self.count, self.queue = self.count + count, queue
            self._store.has_unflushed_claim |= not flush

    def read_back(self) -> list[JobRecord]:
        """Return the claimed jobs in the order in which they are to run.

        Those whose records are damaged end as FAILED, and are not among them.
        """
        if self._rows:
            return self._decoded(self._rows)
        return self._read_first() or self._decoded(self._read_rows())

    def _read_first(self) -> list[JobRecord]:
        """Return the claimed jobs if each is sound and was never claimed before, else none."""
        ((numbers, records, is_first),) = self._store.db.read(_READ_BACK, (self.token,))
        if not is_first:
            return []
        seqs = _decode_seqs(numbers)
        try:
            jobs = JobRecord.decode_all(records, len(seqs))
        except PayloadError:  # the long way tells which one is damaged
            return []
        for job, seq in zip(jobs, seqs, strict=True):
            become_claimed(job, seq)
        return jobs

    def _read_rows(self) -> list[tuple[Any, ...]]:
        """Return what ``_RETURNING`` names of each claimed job."""
        ((numbers, records),) = self._store.db.read(_READ_BACK_EACH, (self.token,))
        rows: list[tuple[Any, ...]] = []
        start = 0
        for *row, run_at, length in _decode_rows(numbers):
            end = start + max(0, length)
            rows.append((*row, run_at / _PARTS, None if length < 0 else records[start:end]))
            start = end
        return rows

    def _decoded(self, rows: list[tuple[Any, ...]]) -> list[JobRecord]:
        large: dict[int, bytes] = {}
        if stand_apart := [row[0] for row in rows if row[-1] is None]:
            seqs = _encode_json(stand_apart).decode()
            large.update(self._store.db.read(_READ_PAYLOADS, (seqs,)))
        jobs = []
        for row in sorted(rows, key=_in_order):
            seq, epoch, attempt, deliveries, suspect, _, run_at, record = row
            try:
                job = JobRecord.decode(large.get(seq, b"") if record is None else record)
            except PayloadError as error:
                self._set_aside(seq, epoch, error)
            else:
                become_claimed(job, seq, (epoch, attempt, deliveries), is_suspect=bool(suspect))
                set_field(job, "run_at", run_at)  # a retry has set another one
                jobs.append(job)
        return jobs

    def _execute(
        self, statement: str, queue: str, most: int, connection: sqlite3.Connection
    ) -> int:
        return connection.execute(statement, self._values(statement, queue, most)).rowcount

    def _values(self, statement: str, queue: str, most: int) -> list[object]:
        # The lease starts now, and not before the wait for another process's lock.
        until = self._store.clock.monotonic() + self._store.settings.lease_secs
        values = [self._owner, self.token, until, queue, most]
        if statement not in (_CLAIM_READY, _CLAIM_FEW):
            values.append(self._without)
        return values

    def _set_aside(self, seq: int, epoch: int, error: PayloadError) -> None:
        """End a job whose record is damaged as FAILED; its bytes stay where they are."""
        stored = StoredError(CorruptRecord.__name__, error.what)
        values = (seq, epoch, self._store.clock.now(), encode_error(stored), stored.type)
        self._store.db.write(lambda connection: connection.execute(_SET_ASIDE, values))
        self._store.wakeup.notify_all("result")


def _in_order(row: tuple[Any, ...]) -> tuple[bool, int, int]:
    seq, is_suspect, priority = row[0], row[4], row[5]
    return not is_suspect, priority, seq


def store_successes(store: SQLiteStore, successes: Sequence[Settlement]) -> int:
    """Store SUCCESS with its result for all; return how many were not fenced."""
    bound: list[object] = []
    has_rest = store.has_progress  # more to clear than a plain job leaves at its first attempt
    for one in successes:  # all that is asked of them at once: they do not fit into the caches
        record = one.record
        # sqlite3 looks for an adapter of bytes at each binding; a bytearray has none.
        result = None if one.result is None else bytearray(one.result)
        bound += (record.ref, record.lease_epoch, result, one.started_at, one.finished_at)
        if record.unique_key is not None or record.attempt > 1 or record.lease_epoch > 1:
            has_rest = True
    count = 0
    for start in range(0, len(bound), _MOST * len(_NO_JOB)):
        rows = bound[start : start + _MOST * len(_NO_JOB)]
        jobs = len(rows) // len(_NO_JOB)
        size = 1 << (jobs - 1).bit_length()
        rows += _NO_JOB * (size - jobs)
        if has_rest:
            rows.insert(0, store.clock.now())
        count += store.db.write(partial(_changed, _successes(size, has_rest=has_rest), rows))
    return count


def _changed(statement: str, values: list[object], connection: sqlite3.Connection) -> int:
    return connection.execute(statement, values).rowcount


@cache
def _successes(size: int, *, has_rest: bool) -> str:
    if size == 1 and not has_rest:  # an eighth less time than with a table of one row
        return _SUCCESS_ALONE
    rows = ", ".join([_ROW] * size)
    return _SUCCESSES.format(more=_WITH_REST if has_rest else "", rows=rows)
