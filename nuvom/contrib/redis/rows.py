"""Jobs as bytes: what scripts know of a job, and how that becomes a record or a snapshot.

Scripts read two layouts with Lua's ``struct``, JOB and STATE: see the head of ``scripts.lua``.
"""

from __future__ import annotations

import json
from struct import Struct
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr as set_field

from nuvom.core.ids import valid_name
from nuvom.core.record import Attempt, JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.totals import RollupSums, rollups_of, totals_of
from nuvom.core.views import AuditEntry, Rollup, Total, WorkerInfo
from nuvom.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.core.outcome import Settlement
    from nuvom.core.transitions import Change

_NAMES = "PENDING RUNNING SUCCESS FAILED DEAD CANCELLED PARKED"  # in the order of their codes
STATUSES = [JobStatus(name) for name in _NAMES.split()]
CODES = {status: code for code, status in enumerate(STATUSES)}
_RUNNING, _SUCCESS = CODES[JobStatus.RUNNING], CODES[JobStatus.SUCCESS]
NO_TIME = -1.0  # in place of None

_JOB = Struct(">Iidddd")  # after the seq: where the record begins, then numbers
_SEQ = 8
_FENCE = Struct(">QHI").pack  # seq, token, epoch
_MID = Struct(">BBIIddd").pack  # status, suspect, attempt, deliveries, then times
_EPOCH = Struct(">I").pack
_STATE = Struct(">QHIBBIIddd")
_STATE_OF = _STATE.pack
_SIZE, _SHORT = Struct(">I"), Struct(">B")
_CLAIMED = Struct(">QHIBIId")  # seq, token, epoch, suspect, attempt, deliveries, run_at
_ROLLUP = Struct(">IB")  # the minute's number, bucket + 1
_MINUTE = 60
_TOKEN_BITS, _TOKEN = 16, 0xFFFF

pack = msgspec.msgpack.Encoder().encode
unpack_error = msgspec.msgpack.Decoder(StoredError).decode
unpack_attempt = msgspec.msgpack.Decoder(Attempt).decode
unpack_worker = msgspec.msgpack.Decoder(WorkerInfo).decode
unpack_entry = msgspec.msgpack.Decoder(AuditEntry).decode


def number(value: float) -> bytes:
    """Return a number as a script reads it, without loss."""
    return repr(value).encode()


def listed(values: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the arguments that stand for a list."""
    return (number(len(values)), *values)


def texts(values: Sequence[str]) -> tuple[bytes, ...]:
    """Return the arguments that stand for a list of texts."""
    return listed([one.encode() for one in values])


# ---- jobs ------------------------------------------------------------------------------------


def job_head(job: JobRecord) -> bytes:
    """Return what scripts know of a job, to stand before its record. Raises: InvalidId."""
    queue, task = valid_name("a queue", job.queue).encode(), job.func_name.encode()
    key = b"" if job.unique_key is None else task + b"\0" + job.unique_key.encode()
    names = bytes([len(queue)]) + queue + _SIZE.pack(len(task)) + task + _SIZE.pack(len(key)) + key
    keep = NO_TIME if job.result_ttl_secs is None else job.result_ttl_secs
    until = NO_TIME if job.unique_for is None else job.created_at + job.unique_for
    size = _SEQ + _JOB.size + len(names)
    return _JOB.pack(size, job.priority, job.run_at, job.created_at, keep, until) + names


def job_values(job: JobRecord) -> tuple[bytes, bytes]:
    """Return the arguments that stand for a new job. Raises: InvalidId."""
    return valid_name("a job id", job.id).encode(), job_head(job) + job.encode()


def fence_of(record: JobRecord) -> bytes:
    """Return what tells a delivery from all others of its job."""
    return _FENCE(seq_of(record.ref), record.ref & _TOKEN, record.lease_epoch)


def seq_of(ref: int) -> int:
    """Return the number of the job that a delivery belongs to."""
    return ref >> _TOKEN_BITS


def token_of(number_: int) -> bytes:
    """Return a claim's token as scripts compare it."""
    return number_.to_bytes(2, "big")


def mark_of(ref: int) -> bytes:
    """Return what stands for a delivery among those that have started."""
    return ref.to_bytes(10, "big")


# ---- changes ---------------------------------------------------------------------------------


def success_values(successes: Sequence[Settlement], now: float) -> list[bytes]:
    """Return the arguments that stand for plain successes."""
    records = [one.record for one in successes]
    states = [
        _STATE_OF(
            *(one.ref >> _TOKEN_BITS, one.ref & _TOKEN, one.lease_epoch),
            *(_SUCCESS, 0, one.attempt, one.deliveries - 1, one.run_at),
            *(settled.started_at or NO_TIME, settled.finished_at or now),
        )
        for one, settled in zip(records, successes, strict=True)
    ]
    have_more = [one.unique_key is not None or one.result_ttl_secs is not None for one in records]
    values = [b""] * (2 * len(records))
    values[::2] = [one.id.encode() for one in records]
    values[1::2] = [one.result or b"" for one in successes]
    rollups = rollup_values(rollups_of(successes))
    return [b"".join(states), bytes(have_more), *rollups, *values]


def change_values(change: Change, beat: bytes) -> tuple[bytes, ...]:
    """Return the arguments that stand for a change and its children.

    Args:
        beat: The last heartbeat of the job's worker where a later one forbids the change.
    """
    before = change.before
    times = (NO_TIME if one is None else one for one in (change.started_at, change.finished_at))
    flags = b"e" * (change.error is UNSET) + b"s" * change.settles + b"a" * change.starts_anew
    counters = change.suspect, change.attempt, change.deliveries, change.run_at
    children = [value for child in change.children for value in job_values(child)]
    rollups = RollupSums()
    rollups.changed(change)
    return (
        before.id.encode(),
        fence_of(before),
        number(CODES[before.status]),
        _EPOCH(change.lease_epoch) + _MID(CODES[change.status], *counters, *times),
        flags,
        (change.fingerprint or "").encode(),
        pack(change.error) if change.error else b"",
        change.result or b"",
        b"" if change.closed is None else pack(change.closed),
        beat,
        *listed(children),
        *listed([value for one in totals_of([change]) for value in _total_values(one)]),
        *rollup_values(rollups),
    )


def _total_values(one: Total) -> tuple[bytes, ...]:
    texts_ = (one.kind.encode(), one.outcome.encode(), one.queue.encode())
    names = b"".join(bytes([len(text)]) + text for text in texts_) + one.task.encode()
    sums = one.took_secs, one.waited_secs
    return (bytes([one.took, one.waited]) + names, number(one.count), *map(number, sums))


def rollup_values(rollups: RollupSums) -> tuple[bytes, ...]:
    """Return the arguments that stand for roll-ups."""
    values: list[bytes] = []
    for (at, queue, task, kind, bucket), (count, secs) in rollups.sums.items():
        names = b"".join(bytes([len(text)]) + text.encode() for text in (kind, queue))
        key = _ROLLUP.pack(at // _MINUTE, bucket + 1) + names + task.encode()
        values += key, number(int(count)), number(secs)
    return listed(values)


def rollups_from(data: Sequence[bytes]) -> list[Rollup]:
    """Return the roll-ups of a hash, as ``rollup_values`` and scripts name them."""
    fields = dict(zip(data[::2], data[1::2], strict=True))
    found = []
    for field, count in fields.items():
        if field[:1] == b"n":
            key = field[1:]
            minute, place = _ROLLUP.unpack_from(key)
            kind, at = _sized(key, _ROLLUP.size, _SHORT)
            queue, at = _sized(key, at, _SHORT)
            names = queue.decode(), key[at:].decode(), kind.decode()
            secs = float(fields.get(b"s" + key, b"0"))
            found.append(Rollup(minute * _MINUTE, *names, place - 1, int(count), secs))
    return found


def total_of(key: bytes, count: bytes, took_secs: bytes, waited_secs: bytes) -> Total:
    """Return a count as ``_total_values`` and scripts name it."""
    kind, at = _sized(key, 2, _SHORT)
    outcome, at = _sized(key, at, _SHORT)
    queue, at = _sized(key, at, _SHORT)
    names = kind.decode(), queue.decode(), key[at:].decode(), outcome.decode()
    return Total(*names, key[0], key[1], int(count), float(took_secs), float(waited_secs))


# ---- what is read ----------------------------------------------------------------------------


def become_claimed(jobs: Sequence[JobRecord], heads: bytes) -> None:
    """Set what a claim changes in records that nobody else has seen."""
    for job, values in zip(jobs, _CLAIMED.iter_unpack(heads), strict=True):
        seq, token, epoch, suspect, attempt, deliveries, run_at = values
        set_field(job, "ref", seq << _TOKEN_BITS | token)
        set_field(job, "status", JobStatus.RUNNING)
        set_field(job, "lease_epoch", epoch)
        set_field(job, "attempt", attempt)
        set_field(job, "deliveries", deliveries)
        if suspect:
            set_field(job, "suspect", True)
        if epoch > 1:
            set_field(job, "run_at", run_at)


def heads_of(heads: bytes) -> list[bytes]:
    """Return what ``become_claimed`` takes, job by job."""
    return [heads[at : at + _CLAIMED.size] for at in range(0, len(heads), _CLAIMED.size)]


def attempt_of(data: bytes) -> Attempt:
    """Return a closed attempt of a job's history."""
    size = data[0]
    worker = data[1 : 1 + size].decode() or None
    return msgspec.structs.replace(unpack_attempt(data[1 + size :]), worker=worker)


def snapshot(row: Sequence[Any]) -> JobSnapshot:
    """Return the snapshot of a row that ``add_seen`` makes: id, JOB and record, STATE, progress."""
    job_id, data, state, progress, *_ = row
    seq, token, epoch, code, suspect, *others = _STATE.unpack_from(state)
    attempt, deliveries, run_at, *times = others
    started_at, finished_at = (None if one == NO_TIME else one for one in times)
    claimed_at = started_at if code == _RUNNING else None
    if code == _RUNNING:
        started_at = finished_at = None
    owner, at = _sized(state, _STATE.size, _SHORT)
    queue, at = _sized(state, at, _SHORT)
    _, at = _sized(state, at, _SIZE)
    error, at = _sized(state, at, _SIZE)
    (record_at,) = _SIZE.unpack_from(data, _SEQ)
    try:
        record = JobRecord.decode(memoryview(data)[record_at:])
    except PayloadError:
        task, _ = _sized(data, _SEQ + _JOB.size + 1 + len(queue), _SIZE)
        record = JobRecord.of_damaged(job_id.decode(), task.decode(), queue=queue.decode())
    return JobSnapshot(
        record=record.replace(
            ref=seq << _TOKEN_BITS | token,
            status=STATUSES[code],
            lease_epoch=epoch,
            attempt=attempt,
            deliveries=deliveries,
            suspect=bool(suspect),
            run_at=run_at,
        ),
        result=state[at:] or None,
        error=unpack_error(error) if error else None,
        worker=owner.decode() or None,
        started_at=started_at,
        finished_at=finished_at,
        progress=tuple(json.loads(progress)) if progress else None,
        claimed_at=claimed_at,
    )


def _sized(data: bytes, at: int, size: Struct) -> tuple[bytes, int]:
    """Return a text that follows its length, and where the next one begins."""
    (length,) = size.unpack_from(data, at)
    at += size.size
    return data[at : at + length], at + length
