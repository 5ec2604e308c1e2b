"""Closing attempts in the SQLite store, each only while its lease holds."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import msgspec

from nuvom.core.record import JobStatus
from nuvom.core.views import failure_group
from nuvom.host.crashpoint import crashpoint
from nuvom.queue_backends.sqlite.insertion import Inserter
from nuvom.queue_backends.sqlite.schema import CODES, READY, SCHEDULED, encode_error

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.queue_backends.sqlite.store import Store

# A key is free again once its job has ended, unless it was taken for a time that still runs.
_KEY = "CASE WHEN unique_until > ?{now} THEN unique_key END"

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
_WITH_REST = f"progress = NULL, error = NULL, suspect = 0, unique_key = {_KEY.format(now=1)},"
_SETTLE = f"""UPDATE jobs SET status = ?3, deliveries = deliveries - 1, suspect = 0,
    attempt = attempt - ?4, run_at = ?5, started_at = ?6, finished_at = ?7, result = ?8,
    error = ?9, error_fp = ?10, progress = NULL,
    unique_key = CASE WHEN ?3 IN (2, 3, 4, 5) THEN {_KEY.format(now=11)} ELSE unique_key END
    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1"""  # noqa: S608  # constants only
_HISTORY = """INSERT INTO attempts
    (seq, number, outcome, lease_epoch, worker, started_at, finished_at, error)
    SELECT seq, ?2, ?3, lease_epoch, owner, ?4, ?5, ?6 FROM jobs WHERE seq = ?1"""
# A lease that ends at 0 was given back: see queue_backends/sqlite.py.
_LOOK = """SELECT json_group_array(json_array(seq, lease_epoch, status, lease_until IS 0)) FROM jobs
    WHERE seq IN (SELECT value FROM json_each(?1))"""

_RUNNING = 1
_SUCCESS = JobStatus.SUCCESS
_PARKED = CODES[JobStatus.PARKED][0]
_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder(list[list[int]]).decode


def settle(store: Store, settlements: Sequence[Settlement]) -> list[bool]:
    """Close attempts; return who was not fenced.

    Successes are stored in one statement; all others follow in a transaction of their own.
    """
    bound: list[object] = []
    others: list[Settlement] = []
    has_rest = store.has_progress
    for one in settlements:  # all that is asked of them at once: they do not fit into the caches
        record = one.record
        if one.status is not _SUCCESS or one.children or one.error is not None:
            others.append(one)
            continue
        result = None if one.result is None else bytearray(one.result)  # see enqueueing.py
        bound += (record.ref, record.lease_epoch, result, one.started_at, one.finished_at)
        if record.unique_key is not None or record.attempt > 1 or record.lease_epoch > 1:
            has_rest = True
    if not others:
        return _settle_together(store, settlements, bound, has_rest=has_rest)
    apart = {id(one) for one in others}
    successes = [one for one in settlements if id(one) not in apart]
    accepted = iter(_settle_together(store, successes, bound, has_rest=has_rest))
    crashpoint("sqlite.settle.between_batches")
    settled = iter(_settle_each(store, others))
    return [next(settled if id(one) in apart else accepted) for one in settlements]


def _settle_together(
    store: Store, successes: Sequence[Settlement], bound: list[object], *, has_rest: bool
) -> list[bool]:
    """Store SUCCESS with its result for all.

    Args:
        bound: What the columns of ``_ROW`` are given, one success after the other.
        has_rest: There may be more to clear than a plain job leaves at its first attempt.
    """
    count = 0
    for start in range(0, len(bound), _MOST * len(_NO_JOB)):
        rows = bound[start : start + _MOST * len(_NO_JOB)]
        jobs = len(rows) // len(_NO_JOB)
        size = 1 << (jobs - 1).bit_length()
        rows += _NO_JOB * (size - jobs)
        if has_rest:
            rows.insert(0, store.clock.now())
        count += store.db.write(partial(_changed, _successes(size, has_rest=has_rest), rows))
    if count == len(successes):
        return [True] * count
    return _who_was_accepted(store, successes)


def _changed(statement: str, values: list[object], connection: sqlite3.Connection) -> int:
    return connection.execute(statement, values).rowcount


@cache
def _successes(size: int, *, has_rest: bool) -> str:
    if size == 1 and not has_rest:  # an eighth less time than with a table of one row
        return _SUCCESS_ALONE
    rows = ", ".join([_ROW] * size)
    return _SUCCESSES.format(more=_WITH_REST if has_rest else "", rows=rows)


def _settle_each(store: Store, settlements: list[Settlement]) -> list[bool]:
    inserter = Inserter(store.db, store.clock, store.settings.max_queue_size)
    now = store.clock.now()

    def settle(connection: sqlite3.Connection) -> list[int]:
        counts = []
        for one in settlements:
            counts.append(connection.execute(_SETTLE, _parameters(one, now)).rowcount)
            if counts[-1]:
                _keep_history(connection, one)
                crashpoint("sqlite.settle.before_children")
                inserter.insert_children(connection, one.children)
        return counts

    counts = store.db.transaction(settle)
    if all(counts):
        return [True] * len(settlements)
    looked = _who_was_accepted(store, settlements)
    return [bool(count) or known for count, known in zip(counts, looked, strict=True)]


def _parameters(one: Settlement, now: float) -> tuple[object, ...]:
    code = CODES[one.status][0]
    if one.status is JobStatus.PENDING:
        code = SCHEDULED if one.run_at > now else READY
    is_failure = one.status in (JobStatus.FAILED, JobStatus.DEAD)
    return (
        one.record.ref,
        one.record.lease_epoch,
        code,
        0 if one.keeps_attempt else 1,
        one.run_at if one.status is JobStatus.PENDING else one.record.run_at,
        one.started_at or None,
        now if code == _PARKED else one.finished_at or now,
        one.result,
        encode_error(one.error),
        failure_group(one.status, one.record.func_name, one.error) if is_failure else None,
        now,
    )


def _keep_history(connection: sqlite3.Connection, one: Settlement) -> None:
    """Keep an attempt that did not end in success; a success is told by the job's own row."""
    if one.status is JobStatus.SUCCESS or one.status is JobStatus.PARKED:
        return
    connection.execute(
        _HISTORY,
        (
            one.record.ref,
            one.record.attempt,
            one.outcome,
            one.started_at or None,
            one.finished_at or None,
            encode_error(one.error),
        ),
    )


def _who_was_accepted(store: Store, settlements: Sequence[Settlement]) -> list[bool]:
    """Tell mine from fenced: everybody else raises the epoch, or gives the lease back, so a row
    that has left RUNNING otherwise with my epoch was settled by me, now or in an earlier call.
    """
    seqs = _encode_json([one.record.ref for one in settlements]).decode()
    ((rows,),) = store.db.read(_LOOK, (seqs,))
    known = {
        seq: (epoch, status) for seq, epoch, status, is_back in _decode_json(rows) if not is_back
    }
    accepted = []
    for one in settlements:
        epoch, status = known.get(one.record.ref, (-1, _RUNNING))
        accepted.append(epoch == one.record.lease_epoch and status != _RUNNING)
    return accepted
