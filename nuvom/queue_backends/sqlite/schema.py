"""The tables of the SQLite store, how to recognise our files, and what the rows mean.

Each job has one row for queue and result together, so that finishing it is one update. A file
written by a newer Nuvom is refused and left unchanged.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.errors import BackendUnavailable, PayloadError

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID = 0x4E75566D  # "NuVm"

# How a job's status is stored. PENDING has three codes, so that a claim never scans jobs that are
# not due, and takes at most one suspect.
READY, RUNNING, SUCCESS, FAILED, DEAD, CANCELLED, PARKED, SCHEDULED, SUSPECT = range(9)

STATUS = (
    JobStatus.PENDING,
    JobStatus.RUNNING,
    JobStatus.SUCCESS,
    JobStatus.FAILED,
    JobStatus.DEAD,
    JobStatus.CANCELLED,
    JobStatus.PARKED,
    JobStatus.PENDING,
    JobStatus.PENDING,
)
CODES: dict[JobStatus, tuple[int, ...]] = {
    status: tuple(code for code, one in enumerate(STATUS) if one is status) for status in JobStatus
}


def each_status(query: str, *codes: int) -> str:
    """Return ``query`` for each status in turn: ``status IN (...)`` cannot use a partial index.

    Args:
        query: A SELECT with ``{status}`` in place of the number.
    """
    return " UNION ALL ".join(query.format(status=code) for code in codes)


NEXT_SEQ = """(SELECT 1 + max(coalesce((SELECT max(seq) FROM jobs), 0), spent.seq) FROM spent)"""
"""The number of the next job, as SQL. Each INSERT into ``jobs`` names it."""

# A removed number must never be reused, since (seq, lease_epoch) is what fences a late settlement.
# AUTOINCREMENT would ensure that at the cost of one more page write per job. Instead, ``spent``
# holds the greatest number removed, and only removals write it.
# Statuses are literals in each partial index and each statement, so that the planner can prove
# that the index is usable.
_TABLES = (
    """CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        status INTEGER NOT NULL,
        queue TEXT NOT NULL,
        priority INTEGER NOT NULL,
        task TEXT NOT NULL,
        created_at REAL NOT NULL,
        run_at REAL NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0,
        deliveries INTEGER NOT NULL DEFAULT 0,
        lease_epoch INTEGER NOT NULL DEFAULT 0,
        suspect INTEGER NOT NULL DEFAULT 0,
        owner TEXT,
        claim_token INTEGER,
        lease_until REAL,
        started_at REAL,
        finished_at REAL,
        keep_secs REAL,
        unique_key TEXT,
        unique_until REAL,
        error_fp TEXT,
        progress TEXT,
        record BLOB,
        result BLOB,
        error BLOB
    ) STRICT""",
    "CREATE TABLE spent (seq INTEGER NOT NULL) STRICT",
    "INSERT INTO spent (seq) VALUES (0)",
    "CREATE INDEX jobs_ready ON jobs (queue, priority, seq) WHERE status = 0",
    "CREATE INDEX jobs_running ON jobs (claim_token) WHERE status = 1",
    "CREATE INDEX jobs_parked ON jobs (task) WHERE status = 6",
    "CREATE INDEX jobs_scheduled ON jobs (run_at) WHERE status = 7",
    "CREATE INDEX jobs_suspect ON jobs (queue, priority, seq) WHERE status = 8",
    "CREATE INDEX jobs_failed ON jobs (error_fp, seq) WHERE error_fp IS NOT NULL",
    "CREATE UNIQUE INDEX jobs_unique ON jobs (task, unique_key) WHERE unique_key IS NOT NULL",
    # Large records are stored separately: SQLite rewrites a whole row with each status change.
    "CREATE TABLE payloads (seq INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT",
    """CREATE TABLE attempts (
        seq INTEGER NOT NULL,
        number INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        lease_epoch INTEGER NOT NULL,
        worker TEXT,
        started_at REAL,
        finished_at REAL,
        error BLOB
    ) STRICT""",
    "CREATE INDEX attempts_of_job ON attempts (seq)",
    "CREATE TABLE queues (name TEXT PRIMARY KEY, paused_by TEXT, paused_at REAL) STRICT",
    """CREATE TABLE workers (
        id TEXT PRIMARY KEY,
        info BLOB NOT NULL,
        beat REAL NOT NULL,
        boot TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE commands (
        number INTEGER PRIMARY KEY,
        worker TEXT NOT NULL,
        word TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)

# The earliest expiry of results with their own lifetime. It uses only columns that never change, so
# neither claims nor settlements touch it. Files of version 0.12 lack it; a process of that version
# need not know about it, since SQLite itself maintains an index.
_EXPIRING = """CREATE INDEX IF NOT EXISTS jobs_expiring ON jobs (created_at + keep_secs)
    WHERE keep_secs IS NOT NULL"""

# For readers: the jobs of each other status, newest first. A job that simply succeeds never has one
# of these, so it pays nothing for it. It came after version 0.12, too.
_OTHERS = """CREATE INDEX IF NOT EXISTS jobs_others ON jobs (status, seq, queue, attempt)
    WHERE status > 2"""

# Schedules came after version 0.12, whose processes need not know of them.
_SCHEDULES = """CREATE TABLE IF NOT EXISTS schedules (
    name TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    due_at REAL,
    record BLOB NOT NULL
) STRICT"""
_SCHEDULES_DUE = """CREATE INDEX IF NOT EXISTS schedules_due ON schedules (due_at)
    WHERE due_at IS NOT NULL"""

# What happened per minute, and what people did; also younger than version 0.12.
_ROLLUPS = """CREATE TABLE IF NOT EXISTS rollups (
    at INTEGER NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    kind TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    secs REAL NOT NULL,
    PRIMARY KEY (at, queue, task, kind, bucket)
) STRICT, WITHOUT ROWID"""
_AUDIT = """CREATE TABLE IF NOT EXISTS audit (
    id TEXT PRIMARY KEY,
    entry BLOB NOT NULL
) STRICT, WITHOUT ROWID"""
_LATER = {
    "jobs_expiring": _EXPIRING,
    "jobs_others": _OTHERS,
    "schedules": _SCHEDULES,
    "schedules_due": _SCHEDULES_DUE,
    "rollups": _ROLLUPS,
    "audit": _AUDIT,
}

_VERSION = 1
_STATE = f"""SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema),
    (SELECT count(*) FROM sqlite_schema WHERE name IN {(*_LATER,)}) = {len(_LATER)}
    FROM pragma_application_id, pragma_user_version"""


def is_prepared(connection: sqlite3.Connection, where: object) -> bool:
    """Return whether the database has all our tables; change nothing, not even its mode.

    Raises: BackendUnavailable: it belongs to another program or to a newer Nuvom.
    """
    application, version, tables, is_complete = connection.execute(_STATE).fetchone()
    if application != APPLICATION_ID and (application or tables):
        raise BackendUnavailable(
            where,
            "it is a SQLite database of another program",
            "Point the setting sqlite_path to a file of Nuvom's own; this one was left alone.",
        )
    if version > _VERSION and application:
        raise BackendUnavailable(
            where,
            f"a newer Nuvom wrote it (version {version} of the tables; this one knows {_VERSION})",
            "Use the newer Nuvom here, or another file (setting sqlite_path).",
        )
    return bool(is_complete)


def prepare(connection: sqlite3.Connection, where: object) -> None:
    """Create what is missing of our tables. Safe from many processes at once.

    Raises: as ``is_prepared``.
    """
    with connection:  # commits, or rolls back if anything is raised
        connection.execute("BEGIN IMMEDIATE")
        is_prepared(connection, where)
        if not connection.execute("PRAGMA application_id").fetchone()[0]:
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
            connection.execute(f"PRAGMA user_version = {_VERSION:d}")
        for statement in _LATER.values():
            connection.execute(statement)


# ---- rows and records ------------------------------------------------------------------------

# The columns of a snapshot, in this order. ``payloads`` is joined for large records.
_SNAPSHOT = """SELECT j.seq, j.status, j.run_at, j.attempt, j.deliveries, j.lease_epoch, j.suspect,
    j.owner, j.started_at, j.finished_at, j.progress, coalesce(j.record, p.record), j.error,
    j.id, j.task, j.queue, j.priority, j.created_at, {result}
    FROM jobs j LEFT JOIN payloads p ON p.seq = j.seq"""
SNAPSHOT = _SNAPSHOT.format(result="NULL")
"""Reads rows for ``snapshot``, without their results."""

SNAPSHOT_WITH_RESULT = _SNAPSHOT.format(result="CASE j.status WHEN 2 THEN j.result END")

FREE_UNLESS_KEPT = "unique_key = CASE WHEN unique_until > {now} THEN unique_key END"
"""Frees the key of a job that ends, unless it is reserved until a later time."""

_ERROR = msgspec.msgpack.Decoder(StoredError)
_encode_error = msgspec.msgpack.Encoder().encode
_RUNNING = JobStatus.RUNNING  # looking up an enum member is slow in Python 3.11
set_field = msgspec.structs.force_setattr


def encode_error(error: StoredError | None) -> bytes | None:
    """Return the stored form of an error."""
    return None if error is None else _encode_error(error)


def decode_error(data: bytes | None) -> StoredError | None:
    """Return the error that ``encode_error`` stored."""
    return None if data is None else _ERROR.decode(data)


def become_claimed(
    record: JobRecord,
    seq: int,
    counts: tuple[int, int, int] = (1, 1, 1),
    *,
    is_suspect: bool = False,
) -> None:
    """Bring a freshly decoded record to the state of its row.

    Args:
        counts: lease_epoch, attempt and deliveries, as they are in the row.

    Records are otherwise immutable. No other code has seen this one yet, and setting five fields
    costs a fifth of making a copy.
    """
    epoch, attempt, deliveries = counts
    set_field(record, "ref", seq)
    set_field(record, "lease_epoch", epoch)
    set_field(record, "attempt", attempt)
    set_field(record, "deliveries", deliveries)
    set_field(record, "status", _RUNNING)
    if is_suspect:
        set_field(record, "suspect", True)  # the field's value


def snapshot(row: tuple[Any, ...]) -> JobSnapshot:
    """Return the snapshot of a row read by ``SNAPSHOT``.

    Raises: PayloadError: a value that the table would never accept; the file is damaged.
    """
    (seq, code, run_at, attempt, deliveries, epoch, suspect, owner, started, finished) = row[:10]
    progress, data, error = row[10:13]
    claimed = None
    if code == RUNNING:  # the columns describe the claim, and the previous attempt
        claimed = -started if started is not None and started < 0 else None
        started = finished = None
    else:
        progress = None
    if not isinstance(code, int) or not 0 <= code < len(STATUS):
        raise PayloadError(f"row {seq} of the jobs has the status {code!r}: run `nuvom doctor`")
    record = _record_of(data, row[13:18])
    set_field(record, "ref", seq)
    set_field(record, "status", STATUS[code])
    set_field(record, "run_at", run_at)
    set_field(record, "attempt", attempt)
    set_field(record, "deliveries", deliveries)
    set_field(record, "lease_epoch", epoch)
    set_field(record, "suspect", bool(suspect))
    return JobSnapshot(
        record=record,
        result=row[18],
        error=decode_error(error),
        worker=owner,
        started_at=started,
        finished_at=finished,
        progress=None if progress is None else tuple(json.loads(progress)),
        claimed_at=claimed,
    )


def _record_of(data: bytes | None, columns: tuple[Any, ...]) -> JobRecord:
    """Return the stored record or, if it is damaged, one made from the row's columns."""
    try:
        return JobRecord.decode(data or b"")
    except PayloadError:
        job_id, task, queue, priority, created_at = columns
        known = {"queue": queue, "priority": priority, "created_at": created_at}
        return JobRecord.of_damaged(job_id, task, **known)
