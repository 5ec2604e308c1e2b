"""What the entries of the log say, and a job as the table keeps it.

A ``Change`` states a job's whole changeable state, never a difference: an entry that was lost
costs one step of a job's history, not the sense of all that follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import Attempt, JobRecord, JobStatus, StoredError
from nuvom.core.views import Total, WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

KEEP_BYTES = 1024  # a larger record stays on disk until somebody needs it


class Change(msgspec.Struct, array_like=True, gc=False):
    """The state of a job from now on.

    Attributes:
        owner: Who holds the lease, while RUNNING; afterwards who held it last.
        lease_until: Monotonic time, in this boot.
        settled_epoch: The delivery that settled last; -1 before.
        finished_at: Of the last attempt; of a PARKED job, since when it is.
        closed: Number, outcome and epoch of the attempt that ended by this.
        error: Why the job is where it is; None also where nothing new is said about it.
        result: The encoded result. It stays on disk, and so does the error's traceback.
        cleared: Error and result of before count no more.
    """

    id: str
    status: JobStatus = JobStatus.PENDING
    epoch: int = 0
    attempt: int = 0
    deliveries: int = 0
    suspect: bool = False
    run_at: float = 0.0
    owner: str | None = None
    lease_until: float = 0.0
    settled_epoch: int = -1
    started_at: float | None = None
    finished_at: float | None = None
    closed: tuple[int, str, int] | None = None
    error: StoredError | None = None
    result: bytes | None = None
    cleared: bool = False


class Whole(msgspec.Struct, array_like=True, gc=False):
    """All about one job: it makes every earlier entry about it superfluous."""

    seq: int
    record: bytes
    state: Change
    progress: tuple[float, float | None, str] | None
    attempts: list[Attempt]


class Beat(msgspec.Struct, array_like=True, tag="beat", gc=False):
    """A heartbeat; renews all leases that ``owner`` had at that moment."""

    owner: str
    at: float
    lease_until: float


class Announced(msgspec.Struct, array_like=True, tag="announced", gc=False):
    """A worker is to be shown."""

    worker: WorkerInfo
    at: float


class Retired(msgspec.Struct, array_like=True, tag="retired", gc=False):
    """A worker is to be shown no more."""

    owner: str


class Commanded(msgspec.Struct, array_like=True, tag="commanded", gc=False):
    """A word was left for a worker; the empty word says that it took all before."""

    owner: str
    word: str


class Paused(msgspec.Struct, array_like=True, tag="paused", gc=False):
    """A queue was paused, or resumed when ``by`` is None."""

    queue: str
    by: str | None


class Progressed(msgspec.Struct, array_like=True, tag="progressed", gc=False):
    """A running job reported how far it is."""

    id: str
    epoch: int
    progress: tuple[float, float | None, str]


class Booted(msgspec.Struct, array_like=True, tag="booted", gc=False):
    """The machine was started anew."""

    boot: str


Note = Beat | Announced | Retired | Commanded | Paused | Progressed | Booted


class Row(msgspec.Struct, eq=False, gc=False, kw_only=True):
    """A job in the table.

    Attributes:
        seq: Its place in the order of enqueueing.
        at: Place of the entry that holds its record.
        data: The encoded record as enqueued, or None where it has to be read from ``at``.
        size, extra: Bytes of the record, and of its result and traceback.
        token: Marks the one entry of a line that still counts.
        error: Why the last attempt failed, without its traceback.
        error_at, result_at: Places of the entries that hold error and result; 0 for none.
        history: Places of the entries that closed attempts.
    """

    id: str
    seq: int
    at: int
    data: bytes | None
    size: int
    task: str
    queue: str
    priority: int
    created_at: float
    unique_key: str | None
    key_until: float
    keep_secs: float | None
    state: Change
    extra: int = 0
    token: int = 0
    error: StoredError | None = None
    error_at: int = 0
    result_at: int = 0
    history: tuple[int, ...] = ()
    progress: tuple[float, float | None, str] | None = None


encode = msgspec.msgpack.Encoder().encode
decode_changes = msgspec.msgpack.Decoder(list[Change]).decode
decode_whole = msgspec.msgpack.Decoder(Whole).decode
decode_ids = msgspec.msgpack.Decoder(list[str]).decode
_decode_totals = msgspec.msgpack.Decoder(
    list[tuple[str, str, str, str, int, int, int, float, float]]
)
decode_note: Any = msgspec.msgpack.Decoder(Note).decode
set_field = msgspec.structs.force_setattr


def encode_totals(totals: Iterable[Total]) -> bytes:
    """Return the entry that says what was counted up to its place in the log."""
    return encode([msgspec.structs.astuple(one) for one in totals])


def decode_totals(body: bytes) -> list[Total]:
    """Return what ``encode_totals`` was given. Raises: msgspec.MsgspecError."""
    return [Total(*one) for one in _decode_totals.decode(body)]


def current(row: Row, data: bytes) -> JobRecord:
    """Return the record as it is now.

    Args:
        data: The record as enqueued. Nobody has seen what is decoded from it yet, so that
            setting its fields is no change; it costs a fifth of making a copy.
    """
    record = JobRecord.decode(data)
    state = row.state
    set_field(record, "status", state.status)
    set_field(record, "attempt", state.attempt)
    set_field(record, "deliveries", state.deliveries)
    set_field(record, "lease_epoch", state.epoch)
    set_field(record, "run_at", state.run_at)
    if state.suspect:
        set_field(record, "suspect", True)  # the field's value
    return record
