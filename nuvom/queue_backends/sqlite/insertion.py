"""Storing new jobs in the SQLite store, one or many in a transaction.

``sqlite3`` gives up the GIL at every step, and a lock on the file must never be held while
waiting for it. So jobs are stored by one statement of one step wherever that can be: see
``docs/decisions/0001-one-sqlite-file.md``.
"""

from __future__ import annotations

from functools import cache, lru_cache, partial
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.batch import RecordBatch
from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord
from nuvom.errors import QueueFull
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.sqlite.schema import NEXT_SEQ, READY, SCHEDULED, each_status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from nuvom.core.clock import Clock
    from nuvom.queue_backends.sqlite.connection import Database

LARGE_BYTES = 1024
"""A larger record stands apart: it would be rewritten with every change of its row."""

_valid_queue = lru_cache(partial(valid_name, "a queue"))  # the same few come again and again
_encode_json = msgspec.json.Encoder().encode

# What few jobs have comes last, and is left out where nobody has it: sqlite3 looks for an adapter
# of None, and of bytes, at each binding, which takes longer than the binding; a bytearray has none.
_COLUMNS = ("id", "status", "queue", "priority", "task", "created_at", "run_at", "record")
_RARE_COLUMNS = ("keep_secs", "unique_key", "unique_until")
_RECORD = _COLUMNS.index("record")
_TOGETHER = 64
# A chunk of two thousand rows in one step, which takes two thirds of the time of as many steps.
# The JSON has one number for each record, which has its id in it: the record's place in the data,
# and in the lowest bits its size. As two numbers they would be parsed anew at every look.
_SIZE_BITS = LARGE_BYTES.bit_length()
_PLACE, _SIZE = f"(value >> {_SIZE_BITS})", f"(value & {(1 << _SIZE_BITS) - 1})"
_INSERT_BATCH = f"""INSERT INTO jobs
        (seq, id, status, queue, priority, task, created_at, run_at, keep_secs, record)
    SELECT ?11 + key, CAST(substr(?2, {_PLACE} + ?10, 36) AS TEXT), ?3, ?4, ?5, ?6, ?7, ?8, ?9,
        substr(?2, {_PLACE}, {_SIZE})
    FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING"""
_NEXT_SEQ = f"SELECT {NEXT_SEQ}"  # within an INSERT of many it would have the rows copied first
_INSERT_PAYLOAD = "INSERT INTO payloads (seq, record) VALUES (?, ?)"
FREE_KEY = """UPDATE jobs SET unique_key = NULL WHERE task = ?1 AND unique_key = ?2
    AND status IN (2, 3, 4, 5) AND unique_until <= ?3"""
_KEY_HOLDER = """SELECT id FROM jobs WHERE task = ?1 AND unique_key = ?2
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


class Inserter:
    """Writes rows for new jobs.

    Args:
        max_queue_size: Jobs that may wait in one queue; None for any number.
    """

    def __init__(self, db: Database, clock: Clock, max_queue_size: int | None) -> None:
        self._db = db
        self._clock = clock
        self._max_queue_size = max_queue_size

    def store(self, jobs: list[JobRecord]) -> list[str | None]:
        """Store the jobs of callers that came together, in one transaction.

        Returns: for each, None or the id of the job that holds its unique key.
        """
        if len(jobs) == 1 and self._is_plain(jobs[0]):
            row = self._row(jobs[0])
            if row[_RECORD] is not None:
                self._db.insert(_insert_of(len(row)), row)
                return [None]
        elif len(jobs) <= _TOGETHER and (together := self._together(jobs)) is not None:
            self._db.insert(*together)
            return [None] * len(jobs)
        return self._db.transaction(lambda connection: self._insert_each(connection, jobs))

    def store_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all ``jobs`` in one transaction; return the holders of keys that were taken."""
        if isinstance(jobs, RecordBatch) and self._is_plain(jobs.like):
            _valid_queue(jobs.like.queue)
            self._db.transaction(lambda connection: self._insert_batch(connection, jobs))
            return {}
        # A caller's generator may use this store, and so must not run inside a transaction.
        many = jobs if isinstance(jobs, RecordBatch) else list(jobs)

        def insert(connection: sqlite3.Connection) -> dict[str, str]:
            refused: dict[str, str] = {}
            stream = iter(many)  # anew with each try
            while chunk := list(islice(stream, _TOGETHER)):
                together = self._together(chunk)
                if together is not None:
                    connection.execute(*together)
                    continue
                found = zip(chunk, self._insert_each(connection, chunk), strict=True)
                refused |= {job.id: holder for job, holder in found if holder is not None}
            return refused

        return self._db.transaction(insert) if many else {}

    def insert_children(self, connection: sqlite3.Connection, jobs: Sequence[JobRecord]) -> None:
        """Store jobs in the caller's transaction; a taken key or a full queue drops none."""
        for job in jobs:
            self._insert_one(connection, job)

    def _together(self, jobs: list[JobRecord]) -> tuple[str, list[Any]] | None:
        """Return one statement that stores all of ``jobs``, or None where it takes several."""
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
                self._insert_each(connection, [JobRecord.decode(data) for data in records])
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
        self, connection: sqlite3.Connection, jobs: list[JobRecord]
    ) -> list[str | None]:
        limit = self._max_queue_size
        waiting: dict[str, int] = {}
        found = []
        for job in jobs:
            is_new = self._insert_one(connection, job)
            found.append(None if is_new else self._holder(connection, job))
            if is_new and limit is not None:
                if job.queue not in waiting:
                    counted = connection.execute(_WAITING, (job.queue, limit + 1)).fetchone()
                    waiting[job.queue] = counted[0] - 1
                if waiting[job.queue] >= limit:
                    raise QueueFull(job.queue, waiting[job.queue], limit)
                waiting[job.queue] += 1
        return found

    def _insert_one(self, connection: sqlite3.Connection, job: JobRecord) -> bool:
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

    def _holder(self, connection: sqlite3.Connection, job: JobRecord) -> str | None:
        """Return whose key is in the way; None when the job itself is stored already."""
        row = connection.execute(_KEY_HOLDER, (job.func_name, job.unique_key, job.id)).fetchone()
        return None if row is None else str(row[0])

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
