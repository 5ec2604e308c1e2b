"""The attempts that a worker has open, and what task code may know and do about its own.

An attempt is claimed, started, closed and settled. ``OpenAttempt`` is the one mutable thing about
a job in a worker. Whoever takes it out of ``OpenAttempts.unclosed`` closes it: the slot that ran
it, the watchdog at its deadline, a cancellation, or the loss of its lease. All others find it gone
and do nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import msgspec

from nuvom.core.guard import engine_call
from nuvom.core.job_context import current
from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.errors import LeaseLost, NoCurrentJob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.core.options import CallOptions
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.registry.registry import TaskDefinition
    from nuvom.serialization.base import Codec

_NEVER = float("inf")
GONE: Any = object()
"""What ``OpenAttempts.unclosed.pop(attempt, GONE)`` returns where somebody else was faster."""


class AttemptServices(Protocol):
    """What the code of an attempt may ask of the process that runs it."""

    def report_progress(
        self, attempt: OpenAttempt, done: float, total: float | None, message: str
    ) -> bool:
        """Keep a job's progress; False when the job is no longer this worker's."""

    def make_record(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
    ) -> JobRecord:
        """Make the record of a job that is enqueued together with the attempt's success."""


class BoundTask:
    """A task bound to this worker's codec: its function, and how its values are coded.

    Attributes:
        lane: ``thread``, ``async`` or ``process``.
        before_job: The hook before the code, None where there is none.
        has_hooks: It has any hook.
    """

    __slots__ = (
        "before_job",
        "decode",
        "decode_result",
        "definition",
        "encode",
        "func",
        "has_hooks",
        "lane",
        "options",
    )

    def __init__(self, definition: TaskDefinition, codec: Codec) -> None:
        self.definition = definition
        self.func = definition.func
        self.options = definition.options
        self.before_job = definition.options.before_job
        self.has_hooks = definition.options.has_hooks
        self.lane = definition.options.isolation
        if definition.is_async and self.lane == "thread":
            self.lane = "async"
        self.decode = codec.call_decoder(definition.func)
        self.encode = codec.result_encoder(definition.func)
        self.decode_result = codec.result_decoder(definition.func)


class EncodedValue(NamedTuple):
    """Stands for the value that ``after_job`` is called with, where a child has returned it.

    Attributes:
        data: As encoded there; None where that could not be done, for ``fault``.
    """

    data: bytes | None
    fault: StoredError | None = None


class OpenAttempt(msgspec.Struct, eq=False):
    """One delivery of a job to this worker.

    Attributes:
        record: As claimed.
        worker: Id of the worker.
        lane: ``thread``, ``async`` or ``process``.
        leased_at: Monotonic seconds just before the store was asked for the claim, or for the
            last heartbeat that this job was part of: its lease runs at least from then on.
        deadline: Monotonic seconds, set when task code starts; ``inf`` when there is none.
        started_at: Seconds since the epoch, 0 before the start.
        is_cancelled: The task was told to stop: cancelled, past its deadline, or lease lost.
        is_closed, is_told: As in ``nuvom.core.guard.Closable``.
        children: Jobs to enqueue with this one's success.
        task: The task to run; None where no code is to run.
        settlement: What closes it, once it is closed.
        kept: What ``after_job`` or ``on_error`` is called with once the attempt is settled. For a
            closed attempt, this is not what its code ends with.
    """

    record: JobRecord
    worker: str
    services: AttemptServices
    leased_at: float
    lane: str = "thread"
    deadline: float = _NEVER
    started_at: float = 0.0
    is_cancelled: bool = False
    children: list[JobRecord] | None = None
    task: BoundTask = None  # type: ignore[assignment]  # set before a lane gets it
    settlement: Settlement = None  # type: ignore[assignment]  # set before the loop gets it back
    kept: Any = None
    is_closed: bool = False
    is_told: bool = False


class OpenAttempts:
    """The attempts of one worker, from their claim until they are settled or handed back.

    Attributes:
        unclosed: Those that nobody has closed. To close one is to take it out with ``close`` or
            ``unclosed.pop``, which is atomic: exactly one thread succeeds.
        open: These, and those that are closed but not settled yet.
        suspected_orphans: Id and ``lease_epoch`` of jobs that the store held for this worker at
            the last heartbeat, and that no attempt was open for. A claim can be committed and its
            answer be lost: nobody would run the job, yet each heartbeat would renew its lease.
            Most of them were just being claimed, settled or handed back.
    """

    def __init__(self) -> None:
        self.unclosed: dict[OpenAttempt, None] = {}
        self.open: set[OpenAttempt] = set()
        self.suspected_orphans: dict[str, int] = {}
        self._suspects: list[OpenAttempt] = []

    def add(self, attempts: Iterable[OpenAttempt]) -> None:
        """Add claimed attempts."""
        for attempt in attempts:
            self.open.add(attempt)
            self.unclosed[attempt] = None
            if attempt.record.suspect:
                self._suspects.append(attempt)

    def close(self, attempt: OpenAttempt) -> bool:
        """Close an attempt; False when somebody else has."""
        return self.unclosed.pop(attempt, GONE) is None

    @property
    def has_suspect(self) -> bool:
        """Whether the job of an unclosed attempt was running when an earlier worker died."""
        if self._suspects:
            self._suspects = [one for one in self._suspects if one in self.unclosed]
        return bool(self._suspects)

    def orphans(self, queue: LeasedJobQueue, returning: Iterable[JobRecord]) -> list[JobRecord]:
        """Take the suspected orphans that no attempt is open for now.

        What was settled since that heartbeat may be among them: its release is fenced.

        Args:
            returning: Jobs that are about to be handed back.
        """
        suspected, self.suspected_orphans = self.suspected_orphans, {}
        known = {one.record.id for one in list(self.open)}
        known.update(record.id for record in returning)
        found = [queue.get(job_id) for job_id in suspected if job_id not in known]
        return [
            one.record
            for one in found
            if one is not None
            and one.status is JobStatus.RUNNING
            and one.record.lease_epoch == suspected[one.record.id]
        ]


class CurrentJob:
    """The job that the calling code belongs to."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: OpenAttempt) -> None:
        self._attempt = attempt

    @property
    def id(self) -> str:
        """UUIDv7 text."""
        return self._attempt.record.id

    @property
    def task(self) -> str:
        """Full name of the task."""
        return self._attempt.record.func_name

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._attempt.record.queue

    @property
    def attempt(self) -> int:
        """From 1; the same when an attempt is delivered again after a crash."""
        return self._attempt.record.attempt

    @property
    def max_retries(self) -> int:
        """Further attempts allowed after the first."""
        return self._attempt.record.max_retries

    @property
    def fencing_token(self) -> int:
        """Raised by each delivery; pass it to services that can refuse an older one."""
        return self._attempt.record.lease_epoch

    @property
    def idempotency_key(self) -> str:
        """The job's id: the same for all attempts and deliveries."""
        return self._attempt.record.id

    @property
    def metadata(self) -> dict[str, Any]:
        """What ``.options(metadata=...)`` gave."""
        return dict(self._attempt.record.metadata or {})

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled, timed out or lost: nothing it does counts any more."""
        return self._attempt.is_cancelled

    @engine_call
    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Show how far the job is.

        Args:
            done, total: In any unit; ``total`` None where it is not known.
        Raises: LeaseLost: the job is no longer this worker's.
        """
        attempt = self._attempt
        if not attempt.services.report_progress(attempt, done, total, message):
            attempt.is_cancelled = True
            raise LeaseLost(self.id, self.fencing_token)

    @engine_call
    def enqueue(self, task: Any, *args: Any, **kwargs: Any) -> str:
        """Enqueue a job together with this one's success, or not at all.

        Args:
            task: A task, with ``.options()`` or without.
        Returns: the id that the job will have.
        Raises: InvalidArguments, NotStorable, PayloadTooLarge: as ``.delay()``.
        """
        definition = cast("TaskDefinition", task.definition)
        record = self._attempt.services.make_record(definition, args, kwargs, task.call_options)
        if self._attempt.children is None:
            self._attempt.children = []
        self._attempt.children.append(record)
        return record.id

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} {self.task} attempt {self.attempt}>"


def current_job() -> CurrentJob:
    """Return the job that the calling code belongs to.

    Raises: NoCurrentJob: it belongs to none.
    """
    attempt = current.get()
    if attempt is None:
        raise NoCurrentJob
    return CurrentJob(cast("OpenAttempt", attempt))
