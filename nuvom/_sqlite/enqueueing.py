"""Storing new jobs in the SQLite store, one or many in a transaction."""

from __future__ import annotations

from functools import cache, lru_cache, partial
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom._sqlite.schema import NEXT_SEQ, READY, SCHEDULED, each_status
from nuvom.core.batch import RecordBatch
from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord
from nuvom.errors import QueueFull
from nuvom.host.crashpoint import crashpoint

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from nuvom._sqlite.store import Store

LARGE_BYTES = 1024  # a larger record would be rewritten with every change of its row
_CHUNK = 1000
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
    FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING"""  # noqa: S608  # constants only
_NEXT_SEQ = f"SELECT {NEXT_SEQ}"  # within an INSERT of many it would have the rows copied first
_INSERT_PAYLOAD = "INSERT INTO payloads (seq, record) VALUES (?, ?)"
FREE_KEY = """UPDATE jobs SET unique_key = NULL WHERE task = ?1 AND unique_key = ?2
    AND status IN (2, 3, 4, 5) AND unique_until <= ?3"""
_KEY_HOLDER = """SELECT id FROM jobs WHERE task = ?1 AND unique_key = ?2
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = ?3)"""
_OF_QUEUE = each_status("SELECT 1 FROM jobs WHERE status = {status} AND queue = ?1", 0, 7, 8)
_WAITING = f"SELECT count(*) FROM ({_OF_QUEUE} LIMIT ?2)"  # noqa: S608  # constants only


@cache
def _insert_of(width: int) -> str:
    """Return the statement for one row of the first ``width`` columns."""
    columns, values = (*_COLUMNS, *_RARE_COLUMNS)[:width], ", ".join("?" * width)
    return f"""INSERT INTO jobs (seq, {", ".join(columns)}) VALUES ({NEXT_SEQ}, {values})
        ON CONFLICT DO NOTHING"""  # noqa: S608  # constants only


@cache
def _insert_together(size: int, width: int) -> str:
    """Return the statement for rows of callers that came together.

    They are stored in one step: see the head of queue_backends/sqlite.py.
    """
    columns = (*_COLUMNS, *_RARE_COLUMNS)[:width]
    values = [f"column{number}" for number in range(2, width + 2)]
    rows = [f"({index}{', ?' * width})" for index in range(size)]
    return f"""INSERT INTO jobs (seq, {", ".join(columns)})
        SELECT first.seq + column1, {", ".join(values)}
        FROM (SELECT {NEXT_SEQ} AS seq) AS first, (VALUES {", ".join(rows)}) WHERE true
        ON CONFLICT DO NOTHING"""  # noqa: S608  # constants only


def _evened(rows: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], int]:
    """Return ``rows`` as long as the longest of them, and that length."""
    width = max(map(len, rows))
    return [row + (None,) * (width - len(row)) for row in rows], width


class Enqueuer:
    """Writes rows for new jobs. ``store`` is what group commit calls with each group."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_bounded = store.settings.max_queue_size is not None

    def store(self, jobs: list[JobRecord]) -> list[str | None]:
        """Store ``jobs`` in one transaction.

        Returns: for each, None or the id of the job that holds its unique key.
        """
        if len(jobs) == 1 and self._is_plain(jobs[0]):
            row = self._row(jobs[0])
            if row[_RECORD] is not None:
                self._store.db.insert(_insert_of(len(row)), row)
                return [None]
        elif len(jobs) <= _TOGETHER and all(self._is_plain(job) for job in jobs):
            rows, width = _evened([self._row(job) for job in jobs])
            if all(row[_RECORD] is not None for row in rows):
                statement = _insert_together(len(rows), width)
                self._store.db.insert(statement, [*chain.from_iterable(rows)])
                return [None] * len(rows)
        return self._store.db.transaction(lambda connection: self._insert_all(connection, jobs))

    def store_many(self, jobs: Iterable[JobRecord]) -> dict[str, str]:
        """Store all ``jobs`` in one transaction; return the holders of keys that were taken."""
        if isinstance(jobs, RecordBatch) and self._is_plain(jobs.like):
            valid_name("a queue", jobs.like.queue)
            self._store.db.transaction(lambda connection: self._insert_batch(connection, jobs))
            return {}
        many = jobs if isinstance(jobs, RecordBatch) else list(jobs)

        def insert(connection: sqlite3.Connection) -> dict[str, str]:
            refused: dict[str, str] = {}
            stream = iter(many)  # anew with each try
            while chunk := list(islice(stream, _CHUNK)):
                refused |= self._insert_chunk(connection, chunk)
            return refused

        return self._store.db.transaction(insert) if many else {}

    def _insert_batch(self, connection: sqlite3.Connection, batch: RecordBatch) -> None:
        row = self._row(batch.like.replace(id="batch"))
        constants = (*row[1:_RECORD], batch.like.result_ttl_secs)
        for records in batch.chunks():
            sizes = [*map(len, records)]
            if max(sizes) > LARGE_BYTES:
                self._insert_all(connection, [JobRecord.decode(data) for data in records])
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

    def insert_children(self, connection: sqlite3.Connection, jobs: Sequence[JobRecord]) -> None:
        """Store jobs in the caller's transaction; a taken key or a full queue drops none."""
        for job in jobs:
            self._insert_one(connection, job)

    def _is_plain(self, job: JobRecord) -> bool:
        return job.unique_key is None and not self._is_bounded

    def _insert_chunk(
        self, connection: sqlite3.Connection, jobs: list[JobRecord]
    ) -> dict[str, str]:
        if all(self._is_plain(job) for job in jobs):
            rows, width = _evened([self._row(job) for job in jobs])
            if all(row[_RECORD] is not None for row in rows):
                connection.executemany(_insert_of(width), rows)
                return {}
        found = self._insert_all(connection, jobs)
        return {
            job.id: existing
            for job, existing in zip(jobs, found, strict=True)
            if existing is not None
        }

    def _insert_all(
        self, connection: sqlite3.Connection, jobs: list[JobRecord]
    ) -> list[str | None]:
        limit = self._store.settings.max_queue_size
        if limit is None:
            return [self._insert_or_find(connection, job) for job in jobs]
        waiting = {
            queue: connection.execute(_WAITING, (queue, limit + 1)).fetchone()[0]
            for queue in {job.queue for job in jobs}
        }
        found = []
        for job in jobs:
            is_new = self._insert_one(connection, job)
            found.append(None if is_new else self._holder(connection, job))
            waiting[job.queue] += is_new
            if is_new and waiting[job.queue] > limit:
                raise QueueFull(job.queue, waiting[job.queue] - 1, limit)
        return found

    def _insert_or_find(self, connection: sqlite3.Connection, job: JobRecord) -> str | None:
        """Store a job, or return whose key is in the way."""
        return None if self._insert_one(connection, job) else self._holder(connection, job)

    def _insert_one(self, connection: sqlite3.Connection, job: JobRecord) -> bool:
        """Return whether the job was stored."""
        if job.unique_key is not None:
            now = self._store.clock.now()
            connection.execute(FREE_KEY, (job.func_name, job.unique_key, now))
        row = self._row(job)
        cursor = connection.execute(_insert_of(len(row)), row)
        if cursor.rowcount == 0:
            return False
        if row[_RECORD] is None:
            connection.execute(_INSERT_PAYLOAD, (cursor.lastrowid, job.encode()))
        return True

    def _holder(self, connection: sqlite3.Connection, job: JobRecord) -> str | None:
        """Whose key is in the way; None when the job itself is stored already."""
        row = connection.execute(_KEY_HOLDER, (job.func_name, job.unique_key, job.id)).fetchone()
        return None if row is None else str(row[0])

    def _row(self, job: JobRecord) -> tuple[Any, ...]:
        valid_name("a job id", job.id)
        _valid_queue(job.queue)
        data = job.encode()
        row = (
            job.id,
            SCHEDULED if job.run_at and job.run_at > self._store.clock.now() else READY,
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
