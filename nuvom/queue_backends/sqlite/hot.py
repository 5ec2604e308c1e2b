"""The statements that every job goes through: store it, lease it, store its success.

``sqlite3`` releases the GIL at every step, and must not hold a lock on the file while waiting to
get the GIL back. So wherever possible, storing jobs, claiming them and storing a batch of successes
each take one statement of one step, and claimed rows are read back outside the lock. A claim that
returns its own rows takes a step for each and holds the lock until the last one; it is used only if
no job runs in this process. See ``docs/decisions/0001-one-sqlite-file.md``.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache, partial
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.batch import RecordBatch
from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord, StoredError
from nuvom.core.totals import rollups_of
from nuvom.errors import CorruptRecord, PayloadError, QueueFull
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.sqlite.rollups import add_rollups
from nuvom.queue_backends.sqlite.schema import (
    FREE_UNLESS_KEPT,
    NEXT_SEQ,
    READY,
    SCHEDULED,
    become_claimed,
    each_status,
    encode_error,
    set_field,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.queue_backends.sqlite.connection import Database
    from nuvom.queue_backends.sqlite.store import SQLiteStore

# ---- enqueue ---------------------------------------------------------------------------------

LARGE_BYTES = 1024
"""Larger records are stored separately: every change of a row rewrites all of it."""

_valid_queue = lru_cache(partial(valid_name, "a queue"))  # the same few names recur

# Rarely used columns come last and are omitted if no job needs them. For each None or bytes that it
# binds, sqlite3 looks for an adapter, which takes longer than binding. It does not for a bytearray.
_COLUMNS = ("id", "status", "queue", "priority", "task", "created_at", "run_at", "record")
_RARE_COLUMNS = ("keep_secs", "unique_key", "unique_until")
_RECORD = _COLUMNS.index("record")
_TOGETHER = 64
# Stores a chunk of two thousand rows in one step, in two thirds of the time of as many steps. The
# JSON has one number per record: the record's place in the data and, in the lowest bits, its size.
# Two numbers would be parsed again at every access. The record itself contains the job's id.
_SIZE_BITS = LARGE_BYTES.bit_length()
_PLACE, _SIZE = f"(value >> {_SIZE_BITS})", f"(value & {(1 << _SIZE_BITS) - 1})"
_INSERT_BATCH = f"""INSERT INTO jobs
        (seq, id, status, queue, priority, task, created_at, run_at, keep_secs, record)
    SELECT ?11 + key, CAST(substr(?2, {_PLACE} + ?10, 36) AS TEXT), ?3, ?4, ?5, ?6, ?7, ?8, ?9,
        substr(?2, {_PLACE}, {_SIZE})
    FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING"""
_NEXT_SEQ = f"SELECT {NEXT_SEQ}"  # inside a multi-row INSERT, SQLite would copy the rows first
_INSERT_PAYLOAD = "INSERT INTO payloads (seq, record) VALUES (?, ?)"
FREE_KEY = """UPDATE jobs SET unique_key = NULL WHERE task = ?1 AND unique_key = ?2
    AND status IN (2, 3, 4, 5) AND unique_until <= ?3"""
# Nothing if the job was not stored because it already is.
_KEY_HOLDER = """SELECT ?3, id FROM jobs WHERE task = ?1 AND unique_key = ?2
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = ?3)"""
_OF_QUEUE = each_status("SELECT 1 FROM jobs WHERE status = {status} AND queue = ?1", 0, 7, 8)
_WAITING = f"SELECT count(*) FROM ({_OF_QUEUE} LIMIT ?2)"


@cache
def _insert_of(width: int) -> str:
    """Return the statement for one row of the first ``width`` columns."""
    columns, values = (*_COLUMNS, *_RARE_COLUMNS)[:width], ", ".join("?" * width)
    return f"""INSERT INTO jobs (seq, {", ".join(columns)}) VALUES ({NEXT_SEQ}, {values})
        ON CONFLICT DO NOTHING"""


@cache
def _insert_together(size: int, width: int) -> str:
    """Return the statement for ``size`` rows, which stores them in one step."""
    columns = (*_COLUMNS, *_RARE_COLUMNS)[:width]
    values = [f"column{number}" for number in range(2, width + 2)]
    rows = [f"({index}{', ?' * width})" for index in range(size)]
    return f"""INSERT INTO jobs (seq, {", ".join(columns)})
        SELECT first.seq + column1, {", ".join(values)}
        FROM (SELECT {NEXT_SEQ} AS seq) AS first, (VALUES {", ".join(rows)}) WHERE true
        ON CONFLICT DO NOTHING"""


class _PlainRows:
    """A caller's connection, whatever it makes of rows by itself."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement, which begins a transaction if none is open."""
        cursor = self._connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, parameters)


class Inserter:
    """Writes rows for new jobs.

    Args:
        max_queue_size: Maximum number of waiting jobs in one queue; None for no limit.
    """

    def __init__(self, db: Database, clock: Clock, max_queue_size: int | None) -> None:
        self._db = db
        self._clock = clock
        self._max_queue_size = max_queue_size

    def store(self, jobs: list[JobRecord]) -> list[str | None]:
        """Store the jobs of concurrent callers in one transaction.

        Returns: for each, None or the id of the job that holds its unique key.
        """
        if len(jobs) == 1 and self._is_plain(jobs[0]):
            row = self._row(jobs[0])
            if row[_RECORD] is not None:
                self._db.execute(_insert_of(len(row)), row)
                return [None]
        elif len(jobs) <= _TOGETHER and (together := self._together(jobs)) is not None:
            self._db.execute(*together)
            return [None] * len(jobs)
        refused = self._db.transaction(lambda connection: self._insert_each(connection, jobs))
        return [refused.get(job.id) for job in jobs]

    def store_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all ``jobs`` in one transaction; return the holders of keys already taken."""
        if isinstance(jobs, RecordBatch) and self._is_plain(jobs.like):
            _valid_queue(jobs.like.queue)
            self._db.transaction(lambda connection: self._insert_batch(connection, jobs))
            return {}
        # A caller's generator may use this store, so it must not run inside a transaction.
        many = jobs if isinstance(jobs, RecordBatch) else list(jobs)
        return self._db.transaction(lambda connection: self._insert_each(connection, many))

    def store_in(self, caller: sqlite3.Connection, jobs: list[JobRecord]) -> dict[str, str]:
        """Store all ``jobs`` in the caller's transaction; return the holders of keys taken."""
        return self._insert_each(_PlainRows(caller), jobs)

    def insert_children(self, connection: sqlite3.Connection, jobs: Sequence[JobRecord]) -> None:
        """Store jobs in the caller's transaction; a taken key or a full queue drops none."""
        for first in range(0, len(jobs), _TOGETHER):
            some = jobs[first : first + _TOGETHER]
            if len(some) > 1 and (together := self._together(some)) is not None:
                connection.execute(*together)
                continue
            for job in some:
                self._insert_one(connection, job)

    def _together(self, jobs: Sequence[JobRecord]) -> tuple[str, list[Any]] | None:
        """Return one statement that stores all of ``jobs``, or None if it takes several."""
        if not all(map(self._is_plain, jobs)):
            return None
        rows = [self._row(job) for job in jobs]
        if any(row[_RECORD] is None for row in rows):
            return None
        width = max(map(len, rows))
        evened = (row + (None,) * (width - len(row)) for row in rows)
        return _insert_together(len(rows), width), [*chain.from_iterable(evened)]

    def _insert_batch(self, connection: sqlite3.Connection, batch: RecordBatch) -> None:
        row = self._row(batch.like.replace(id="batch"))
        constants = (*row[1:_RECORD], batch.like.result_ttl_secs)
        for records in batch.chunks():
            sizes = [*map(len, records)]
            if max(sizes) > LARGE_BYTES:
                self._insert_each(connection, map(JobRecord.decode, records))
                continue
            (first,) = connection.execute(_NEXT_SEQ).fetchone()
            starts = accumulate(sizes, initial=1)
            places = [
                start << _SIZE_BITS | size for start, size in zip(starts, sizes, strict=False)
            ]
            shared = (*constants, batch.id_at, first)
            connection.execute(
                _INSERT_BATCH, (_encode_json(places).decode(), b"".join(records), *shared)
            )
            crashpoint("sqlite.enqueue_many.in_transaction")

    def _is_plain(self, job: JobRecord) -> bool:
        return job.unique_key is None and self._max_queue_size is None

    def _insert_each(
        self, connection: sqlite3.Connection | _PlainRows, jobs: Iterable[JobRecord]
    ) -> dict[str, str]:
        """Return the holders of keys already taken, by the ids of the jobs they refuse."""
        limit = self._max_queue_size
        waiting: dict[str, int] = {}
        refused: dict[str, str] = {}
        for job in jobs:
            if not self._insert_one(connection, job):
                refused.update(
                    connection.execute(_KEY_HOLDER, (job.func_name, job.unique_key, job.id))
                )
            elif limit is not None:
                if job.queue not in waiting:
                    counted = connection.execute(_WAITING, (job.queue, limit + 1)).fetchone()
                    waiting[job.queue] = counted[0] - 1
                if waiting[job.queue] >= limit:
                    raise QueueFull(job.queue, waiting[job.queue], limit)
                waiting[job.queue] += 1
        return refused

    def _insert_one(self, connection: sqlite3.Connection | _PlainRows, job: JobRecord) -> bool:
        """Return whether the job was stored."""
        if job.unique_key is not None:
            now = self._clock.now()
            connection.execute(FREE_KEY, (job.func_name, job.unique_key, now))
        row = self._row(job)
        cursor = connection.execute(_insert_of(len(row)), row)
        if cursor.rowcount == 0:
            return False
        if row[_RECORD] is None:
            connection.execute(_INSERT_PAYLOAD, (cursor.lastrowid, job.encode()))
        return True

    def _row(self, job: JobRecord) -> tuple[Any, ...]:
        valid_name("a job id", job.id)
        _valid_queue(job.queue)
        data = job.encode()
        row = (
            job.id,
            SCHEDULED if job.run_at and job.run_at > self._clock.now() else READY,
            job.queue,
            job.priority,
            job.func_name,
            job.created_at,
            job.run_at,
            bytearray(data) if len(data) <= LARGE_BYTES else None,
        )
        if job.result_ttl_secs is None and job.unique_key is None:
            return row
        until = None if job.unique_for is None else job.created_at + job.unique_for
        return (*row, job.result_ttl_secs, job.unique_key, until)


# ---- claim -----------------------------------------------------------------------------------

BULK = 64
"""For a claim of this size, a flush costs less than switching flushing off and on."""

FEW = 8
"""Maximum number of jobs claimed by a statement that returns them."""

_CLAIM = """UPDATE jobs SET status = 1, owner = ?1, claim_token = ?2, lease_until = ?3,
    lease_epoch = lease_epoch + 1, attempt = attempt + 1, deliveries = deliveries + 1,
    started_at = ?6
    WHERE seq IN (SELECT seq FROM jobs WHERE status = {status} AND queue = ?4 {wanted}
        ORDER BY priority, seq LIMIT ?5)"""
_WITHOUT = "AND task NOT IN (SELECT value FROM json_each(?7))"
_RUNS = "AND NOT EXISTS (SELECT 1 FROM queues WHERE name = ?4 AND paused_by IS NOT NULL)"
_RETURNING = " RETURNING seq, lease_epoch, attempt, deliveries, suspect, priority, run_at, record"
_CLAIM_READY = _CLAIM.format(status=0, wanted="")
_CLAIM_READY_WITHOUT = _CLAIM.format(status=0, wanted=_WITHOUT)
_CLAIM_FEW = _CLAIM.format(status=0, wanted=f"{_RUNS} {_WITHOUT}") + _RETURNING
_CLAIM_SUSPECT = _CLAIM.format(status=8, wanted=_WITHOUT)

_PARTS = 1 << 30  # per second: times in this unit are exact integers, which JSON preserves
# All claimed rows in one row, so that reading them takes one step too: their records concatenated,
# and their numbers as JSON. The short form is for jobs that were never claimed before.
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
    started_at = NULL, error = ?4, error_fp = ?5, unique_key = NULL
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""

# One statement of one step for a whole batch. Its text depends on the number of jobs, so there is
# one for each power of two, prepared once. Unused parameters are filled with rows that match no
# job. It must begin with UPDATE, or sqlite3 would not report how many rows changed.
_SUCCESSES = """UPDATE jobs SET status = 2, deliveries = deliveries - 1,
    started_at = done.column4, finished_at = done.column5, {more} result = done.column3,
    claim_token = NULL, lease_until = NULL
    FROM (VALUES {rows}) AS done
    WHERE jobs.seq = done.column1 AND jobs.lease_epoch = done.column2 AND jobs.status = 1"""
_ROW = "(?, ?, ?, ?, ?)"
_SUCCESS_ALONE = """UPDATE jobs SET status = 2, deliveries = deliveries - 1,
    started_at = ?4, finished_at = ?5, result = ?3, claim_token = NULL, lease_until = NULL
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""
_NO_JOB = (0, 0, 0, 0, 0)  # binding None takes sqlite3 ten times as long
_MOST = 4096  # SQLite allows 32,766 parameters
_WITH_REST = f"progress = NULL, error = NULL, suspect = 0, {FREE_UNLESS_KEPT.format(now='?1')},"

_decode_seqs = msgspec.json.Decoder(list[int]).decode
_decode_rows = msgspec.json.Decoder(list[list[int]]).decode
_encode_json = msgspec.json.Encoder().encode


class Claim:
    """One claim, from one or several queues, under one token.

    Attributes:
        count: How many jobs it holds; unknown after an error.
        queue: The queue of the last one.
        has_begun: Some jobs may have been claimed.
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
        """Claim and read back, in one go, at most ``most`` jobs of a queue that is not paused."""
        self.has_begun = True
        self._rows = self._store.db.write(
            lambda one: one.execute(*self._bound(_CLAIM_FEW, queue, most)).fetchall(), flush=False
        )
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
            claim = partial(self._claim, statement, queue, left)
            self.has_begun = True
            if count := self._store.db.write(claim, flush=flush):
                self.count, self.queue = self.count + count, queue
            self._store.has_unflushed_claim |= not flush

    def _claim(self, statement: str, queue: str, most: int, connection: sqlite3.Connection) -> int:
        return connection.execute(*self._bound(statement, queue, most)).rowcount

    def _bound(self, statement: str, queue: str, most: int) -> tuple[str, list[object]]:
        """Return a statement with its parameters."""
        # The lease starts now, not before the wait for another process's lock.
        until = self._store.clock.monotonic() + self._store.settings.lease_secs
        claimed_at = -self._store.clock.now()  # negative: the code has not started yet
        values = [self._owner, self.token, until, queue, most, claimed_at]
        if statement is not _CLAIM_READY:
            values.append(self._without)
        return statement, values

    def read_back(self) -> list[JobRecord]:
        """Return the claimed jobs in the order to run them.

        Excludes jobs with damaged records, which end as FAILED.
        """
        if self._rows:
            return self._decoded(self._rows)
        ((numbers, records, is_first),) = self._store.db.read(_READ_BACK, (self.token,))
        seqs = _decode_seqs(numbers)
        try:
            jobs = JobRecord.decode_all(records, len(seqs)) if is_first else []
        except PayloadError:  # reading each finds out which
            jobs = []
        for job, seq in zip(jobs, seqs, strict=False):
            become_claimed(job, seq)
        return jobs or self._decoded(self._read_rows())

    def _read_rows(self) -> list[tuple[Any, ...]]:
        """Return the columns in ``_RETURNING`` of each claimed job."""
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
        for row in sorted(rows, key=_in_order) if len(rows) > 1 else rows:
            seq, epoch, attempt, deliveries, suspect, _, run_at, record = row
            try:
                job = JobRecord.decode(large.get(seq, b"") if record is None else record)
            except PayloadError as error:
                self._set_aside(seq, epoch, error)
            else:
                become_claimed(job, seq, (epoch, attempt, deliveries), is_suspect=bool(suspect))
                set_field(job, "run_at", run_at)  # a retry has changed it
                jobs.append(job)
        return jobs

    def _set_aside(self, seq: int, epoch: int, error: PayloadError) -> None:
        """End a job with a damaged record as FAILED; its bytes stay where they are."""
        stored = StoredError(CorruptRecord.__name__, error.what)
        values = (seq, epoch, self._store.clock.now(), encode_error(stored), stored.type)
        self._store.db.execute(_SET_ASIDE, values)
        self._store.wakeup.notify_all("result")


def _in_order(row: tuple[Any, ...]) -> tuple[bool, int, int]:
    seq, is_suspect, priority = row[0], row[4], row[5]
    return not is_suspect, priority, seq


# ---- finish ----------------------------------------------------------------------------------


def store_successes(
    store: SQLiteStore, successes: Sequence[Settlement]
) -> list[tuple[Sequence[Settlement], int]]:
    """Store SUCCESS and the result for each, and count them.

    Returns: them, in parts, with the number of those that were stored now. If that is not all, none
        of the part is counted: the others were stored before, or fenced.
    """
    parts = (successes[start : start + _MOST] for start in range(0, len(successes), _MOST))
    return [(part, _store_part(store, part)) for part in parts]


def _store_part(store: SQLiteStore, successes: Sequence[Settlement]) -> int:
    update, rollups = _update_of(store, successes), store.rollups
    if not rollups.is_due():
        stored = store.db.execute(*update)
        if stored == len(successes):
            rollups.count(successes)
        return stored
    mine = rollups_of(successes)

    def store_and_count(connection: sqlite3.Connection) -> int:
        stored = connection.execute(*update).rowcount
        if stored == len(successes):
            add_rollups(connection, mine)
        add_rollups(connection, held)
        return stored

    with rollups.taken() as held:
        return store.db.transaction(store_and_count)


def _update_of(store: SQLiteStore, successes: Sequence[Settlement]) -> tuple[str, list[object]]:
    """Return the statement that stores ``successes``, and its parameters."""
    bound: list[object] = []
    has_rest = store.has_progress  # more to clear than after a plain job's first attempt
    for one in successes:  # check everything in one pass: they do not fit into the caches
        record = one.record
        # sqlite3 looks for an adapter for bytes at each binding, but not for a bytearray.
        result = None if one.result is None else bytearray(one.result)
        bound += (record.ref, record.lease_epoch, result, one.started_at, one.finished_at)
        if record.unique_key is not None or record.lease_epoch > 1:
            has_rest = True
    size = 1 << (len(successes) - 1).bit_length()
    bound += _NO_JOB * (size - len(successes))
    if has_rest:
        bound.insert(0, store.clock.now())
    return _successes(size, has_rest=has_rest), bound


@cache
def _successes(size: int, *, has_rest: bool) -> str:
    if size == 1 and not has_rest:  # an eighth less time than with a table of one row
        return _SUCCESS_ALONE
    rows = ", ".join([_ROW] * size)
    return _SUCCESSES.format(more=_WITH_REST if has_rest else "", rows=rows)
