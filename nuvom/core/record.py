"""The data of a stored job: its record, its status, its snapshot.

A ``JobRecord`` is what is stored and handed to queue backends: plain data, immutable, without
services or callables. A ``JobSnapshot``, for readers, is a record with everything that a store
knows about it. Arguments stay encoded in a record until they are needed.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from enum import StrEnum
from typing import Any, Self

import msgspec

from nuvom.errors import PayloadError


class JobStatus(StrEnum):
    """Where a job is. PENDING, RUNNING and PARKED are not final.

    Attributes:
        PENDING: It waits for a worker, for its ``run_at``, or for the next attempt.
        RUNNING: A worker holds a lease on it.
        SUCCESS: The task returned.
        FAILED: The last attempt failed, and no retry is left.
        DEAD: Workers died while running it, or it was PARKED for too long.
        CANCELLED: It was cancelled, or moved to another store.
        PARKED: No running worker knows its task.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    DEAD = "DEAD"
    CANCELLED = "CANCELLED"
    PARKED = "PARKED"

    @property
    def is_final(self) -> bool:
        """Whether this status can no longer change, except by a manual retry."""
        return self in FINAL


FINAL = frozenset({JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED})

PARENT = "nuvom-parent"
"""The header with the id of the job whose code enqueued this one."""

EMPTY_ARGS = msgspec.Raw(b"\x90")  # MessagePack: an empty array
EMPTY_KWARGS = msgspec.Raw(b"\x80")  # MessagePack: an empty map
_NOTHING = msgspec.Raw(b"")  # no value has this form


class RetryPolicy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How long to wait between attempts; see ``nuvom.core.outcome.backoff_secs``."""

    delay_secs: float = 5.0
    backoff: str = "exponential"
    max_delay_secs: float = 3600.0
    jitter: bool = True


DEFAULT_RETRY = RetryPolicy()


class StoredError(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why an attempt failed: three texts, never an exception object.

    Attributes:
        type: Name of the exception's class.
        message: Its text.
        traceback: The formatted traceback, or None if there was none.
        fingerprint: Equal for failures at the same place in the code; groups ``nuvom errors``.
    """

    type: str
    message: str
    traceback: str | None = None
    fingerprint: str | None = None


class JobRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One call of a task, as stored.

    The wire form is a MessagePack array in field order. New fields are added at the end with a
    default, so that older and newer workers can read each other's records. Trailing fields with
    their default may be left out, so a default must never change.

    Attributes:
        id: UUIDv7 text.
        func_name: Full name of the task.
        args, kwargs: Arguments, encoded by the project's codec.
        queue, priority: Where it waits; a lower priority runs first.
        created_at, run_at: Seconds since the epoch; it does not start before ``run_at``.
        max_retries, retry: Additional attempts allowed, and the waits between them
            (None: ``DEFAULT_RETRY``).
        timeout_secs, timeout_policy: Deadline of one attempt, and what happens after it.
        store_result, result_ttl_secs: Whether and for how long the result is kept.
        unique_key, unique_for: Idempotent enqueue; see ``CallOptions``.
        tags, metadata, headers: For people, plugins, and trace context.
        retried_from: Id of the job that this one repeats with different arguments.
        status, attempt, deliveries, lease_epoch: Where the job is now. The attempt counts
            from 1 once the job is claimed.
        suspect: Whether a worker died while this job was running.
        ref: The backend's own handle for a claimed job; opaque, and not part of its identity.
        soft_timeout_secs: Seconds after which an attempt's code is told to end by itself.
        expires_at: Seconds since the epoch; a job that has not started by then is cancelled.
    """

    id: str
    func_name: str
    args: msgspec.Raw = EMPTY_ARGS
    kwargs: msgspec.Raw = EMPTY_KWARGS
    queue: str = "default"
    priority: int = 5
    created_at: float = 0.0
    run_at: float = 0.0
    max_retries: int = 0
    retry: RetryPolicy | None = None
    timeout_secs: float | None = None
    timeout_policy: str = "fail"
    store_result: bool = True
    result_ttl_secs: float | None = None
    unique_key: str | None = None
    unique_for: float | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    headers: dict[str, str] | None = None
    retried_from: str | None = None
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    deliveries: int = 0
    lease_epoch: int = 0
    suspect: bool = False
    ref: int = 0
    soft_timeout_secs: float | None = None
    expires_at: float | None = None

    def encode(self) -> bytes:
        """Return the record as bytes (MessagePack)."""
        return _ENCODER.encode(self)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> JobRecord:
        """Return the record that ``encode`` wrote.

        Raises: PayloadError: the bytes are damaged or of another kind.
        """
        try:
            return _DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PayloadError(str(error)) from error

    @classmethod
    def decode_all(cls, data: bytes, count: int) -> list[JobRecord]:
        """Return ``count`` records that are concatenated in ``data``, in one step.

        Raises: PayloadError: one of them is damaged; ``decode`` tells which.
        """
        try:
            return _ALL_DECODER.decode(_ARRAY_OF + count.to_bytes(4, "big") + data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PayloadError(str(error)) from error

    @classmethod
    def of_damaged(cls, job_id: str, func_name: str, **fields: Any) -> Self:
        """Return what else is known of a job whose stored record cannot be read."""
        return cls(job_id, func_name, _NOTHING, _NOTHING, **fields)

    @property
    def is_readable(self) -> bool:
        """Whether this is a whole record; ``args`` of any other cannot be decoded."""
        return bool(_raw(self.args))

    @property
    def has_time_limit(self) -> bool:
        """Whether an attempt has a deadline, or a soft one."""
        return self.timeout_secs is not None or self.soft_timeout_secs is not None

    def has_expired(self, now: float) -> bool:
        """Whether a claimed job may no longer start; one that has started before always may.

        A later ``run_at`` than ``expires_at`` is that of a job that somebody has retried since.
        """
        at = self.expires_at
        return at is not None and self.run_at < at <= now and max(self.attempt, self.deliveries) < 2  # noqa: PLR2004  # its first delivery

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold; ``args`` and ``kwargs`` are base64 text."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields["args"] = b64encode(_raw(self.args)).decode("ascii")
        fields["kwargs"] = b64encode(_raw(self.kwargs)).decode("ascii")
        fields["tags"] = list(self.tags)
        fields["status"] = str(self.status)
        fields["retry"] = None if self.retry is None else msgspec.structs.asdict(self.retry)
        return fields

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the record that ``to_dict`` described; unknown keys are ignored.

        Raises: PayloadError: a key is missing or a value does not fit.
        """
        try:
            fields = {name: data[name] for name in cls.__struct_fields__ if name in data}
            for name in ("args", "kwargs"):
                if name in fields:
                    fields[name] = msgspec.Raw(b64decode(fields[name], validate=True))
            retry = fields.get("retry")
            fields["retry"] = None if retry is None else RetryPolicy(**retry)
            fields["status"] = JobStatus(fields.get("status", JobStatus.PENDING))
            fields["tags"] = tuple(fields.get("tags", ()))
            record = cls(**fields)
            _DECODER.decode(_ENCODER.encode(record))  # checks the types of all fields
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise PayloadError(str(error)) from error
        return record

    def replace(self, **changes: Any) -> JobRecord:
        """Return a copy with ``changes``."""
        return msgspec.structs.replace(self, **changes)


def _raw(value: Any) -> bytes:
    return bytes(value) if isinstance(value, msgspec.Raw | bytes) else msgspec.msgpack.encode(value)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(JobRecord)
_ALL_DECODER = msgspec.msgpack.Decoder(list[JobRecord])
_ARRAY_OF = b"\xdd"  # MessagePack: an array with a four-byte length


class Attempt(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One closed attempt of a job.

    Attributes:
        number: From 1.
        outcome: ``success``, ``failure``, ``timeout``, ``retry``, ``lost``, ``cancelled``,
            ``released`` or ``snoozed``.
        started_at, finished_at: Seconds since the epoch, None if unknown.
    """

    number: int
    outcome: str
    lease_epoch: int = 0
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: StoredError | None = None


class JobSnapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The state of a job in a store at one moment.

    Attributes:
        record: With its current status, attempt, run_at and lease_epoch.
        result: The encoded result, or None.
        error: Why the last attempt failed, or None.
        worker: Id of the worker that has or had the job last.
        started_at, finished_at: Of the last attempt; seconds since the epoch.
        progress: ``(done, total, message)`` as last reported, or None.
        claimed_at: When its worker took it; None unless it is RUNNING, or if the store cannot tell.
    """

    record: JobRecord
    result: bytes | None = None
    error: StoredError | None = None
    worker: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    progress: tuple[float, float | None, str] | None = None
    claimed_at: float | None = None

    @property
    def status(self) -> JobStatus:
        """The job's status."""
        return self.record.status
