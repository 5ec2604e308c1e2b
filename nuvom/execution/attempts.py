"""The attempts that a worker has open, and what task code can read and do about its own.

An attempt is claimed, started, closed and settled. ``OpenAttempt`` is the only mutable object that
a worker keeps about a job. Removing it from ``OpenAttempts.unclosed`` closes it. That is done by
the slot that ran it, the watchdog at its deadline, a cancellation, or the loss of its lease. All
others find it gone and do nothing.
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
    from collections.abc import Iterable, Mapping

    from nuvom.core.options import CallOptions
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.registry.registry import TaskDefinition
    from nuvom.serialization.base import Codec

_NEVER = float("inf")
GONE: Any = object()
"""What ``OpenAttempts.unclosed.pop(attempt, GONE)`` returns if someone else was faster."""


class AttemptServices(Protocol):
    """What an attempt's code may ask of the process that runs it."""

    @property
    def is_stopping(self) -> bool:
        """Whether the worker was told to stop."""

    def report_progress(
        self, attempt: OpenAttempt, done: float, total: float | None, message: str
    ) -> bool:
        """Store a job's progress; False when the job no longer belongs to this worker."""

    def make_record(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        *,
        parent: str,
        number: int,
    ) -> JobRecord:
        """Make the record of a job to be enqueued together with the attempt's success.

        Args:
            parent: Id of the attempt's job.
            number: Tells it from the other jobs that this process enqueues with the attempt.
        """


class BoundTask:
    """A task bound to this worker's codec: its function, and how its values are encoded.

    Args:
        defaults: Of the project, for options that the task does not set.

    Attributes:
        lane: ``thread``, ``async`` or ``process``.
        before_job: The hook that runs before the code, or None.
        has_hooks: Whether it has any hook.
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

    def __init__(
        self, definition: TaskDefinition, codec: Codec, defaults: Mapping[str, Any] = {}
    ) -> None:
        self.definition = definition
        self.func = definition.func
        self.options = definition.options_under(defaults)
        self.before_job = self.options.before_job
        self.has_hooks = self.options.has_hooks
        self.lane = self.options.isolation
        if definition.is_async and self.lane == "thread":
            self.lane = "async"
        self.decode = codec.call_decoder(definition.func)
        self.encode = codec.result_encoder(definition.func)
        self.decode_result = codec.result_decoder(definition.func)


class EncodedValue(NamedTuple):
    """Stands in for the value passed to ``after_job`` when a child process returned it.

    Attributes:
        data: The value as encoded there; None if it could not be encoded, because of ``fault``.
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
            last heartbeat that included this job: its lease runs from then at the earliest.
        deadline: Monotonic seconds, set when task code starts; ``inf`` for none.
        soft_deadline: When ``SoftTimeout`` is due; ``inf`` for never, and once it was raised.
        started_at: Seconds since the epoch, 0 before the start.
        is_cancelled: The task was told to stop: cancelled, past its deadline, or lease lost.
        is_closed, is_told: As in ``nuvom.core.guard.Closable``.
        children: Jobs to enqueue when this one succeeds, by their number; an object of another kind
            stands for one that is being made.
        task: The task to run; None when no code is to run.
        settlement: What closes it, once it is closed.
        kept: The argument for ``after_job`` or ``on_error`` once the attempt is settled. For an
            attempt that was closed early, this is not what its code ends with.
    """

    record: JobRecord
    worker: str
    services: AttemptServices
    leased_at: float
    lane: str = "thread"
    deadline: float = _NEVER
    soft_deadline: float = _NEVER
    started_at: float = 0.0
    is_cancelled: bool = False
    children: dict[int, object] = {}  # msgspec makes one for each
    task: BoundTask = None  # type: ignore[assignment]  # set before a lane gets it
    settlement: Settlement = None  # type: ignore[assignment]  # set before the loop gets it back
    kept: Any = None
    is_closed: bool = False
    is_told: bool = False

    @property
    def followers(self) -> tuple[JobRecord, ...]:
        """The jobs to enqueue when this one succeeds."""
        children = list(self.children.values())
        return tuple(one for one in children if isinstance(one, JobRecord))


class OpenAttempts:
    """The attempts of one worker, from their claim until they are settled or handed back.

    Attributes:
        unclosed: Attempts that are not closed yet. An attempt is closed by removing it with
            ``close`` or ``unclosed.pop``. Removal is atomic: exactly one thread succeeds.
        open: The unclosed attempts, and those that are closed but not settled yet.
        suspected_orphans: Id and ``lease_epoch`` of jobs that the store held for this worker at
            the last heartbeat although no attempt was open for them. A claim can commit and its
            answer still be lost: nobody would run the job, yet each heartbeat would renew its
            lease. Most suspects were just being claimed, settled or handed back.
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
        """Close an attempt; False when someone else already has."""
        return self.unclosed.pop(attempt, GONE) is None

    @property
    def has_suspect(self) -> bool:
        """Whether the job of an unclosed attempt was running when an earlier worker died."""
        if self._suspects:
            self._suspects = [one for one in self._suspects if one in self.unclosed]
        return bool(self._suspects)

    def orphans(
        self, queue: LeasedJobQueue, owner: str, returning: Iterable[JobRecord]
    ) -> list[JobRecord]:
        """Remove and return the suspected orphans that still have no open attempt.

        Jobs settled since that heartbeat may be among them; fencing makes their release a no-op.

        Args:
            owner: The worker.
            returning: Jobs that are about to be handed back.
        """
        suspected, self.suspected_orphans = self.suspected_orphans, {}
        known = {one.record.id for one in list(self.open)}
        known.update(record.id for record in returning)
        unknown = suspected.keys() - known
        # Most were settled since. To ask for each may take longer than until the next heartbeat.
        held = queue.extend(owner) if unknown else {}
        found = [queue.get(job_id) for job_id in unknown & held.keys()]
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
        """Counted from 1; unchanged when an attempt is delivered again after a crash."""
        return self._attempt.record.attempt

    @property
    def max_retries(self) -> int:
        """How many more attempts are allowed after the first."""
        return self._attempt.record.max_retries

    @property
    def fencing_token(self) -> int:
        """Increases with each delivery; pass it to services that can reject an older one."""
        return self._attempt.record.lease_epoch

    @property
    def idempotency_key(self) -> str:
        """The job's id: the same for all attempts and deliveries."""
        return self._attempt.record.id

    @property
    def metadata(self) -> dict[str, Any]:
        """The value passed to ``.options(metadata=...)``."""
        return dict(self._attempt.record.metadata or {})

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled, timed out or lost: nothing it does counts any longer."""
        return self._attempt.is_cancelled

    @property
    def stopping(self) -> bool:
        """Whether the worker was told to stop: a long task should end, or raise ``JobStopping``."""
        return self._attempt.services.is_stopping

    @engine_call
    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far the job is.

        Args:
            done, total: In any unit; ``total`` is None if unknown.
        Raises: LeaseLost: the job no longer belongs to this worker.
        """
        attempt = self._attempt
        if not attempt.services.report_progress(attempt, done, total, message):
            attempt.is_cancelled = True
            raise LeaseLost(self.id, self.fencing_token)

    @engine_call
    def enqueue(self, task: Any, *args: Any, **kwargs: Any) -> str:
        """Enqueue a job atomically with this one's success, or not at all.

        Args:
            task: A task, with or without ``.options()``.
        Returns: the id that the job will have.
        Raises: InvalidArguments, NotStorable, PayloadTooLarge: as ``.delay()``.
        """
        definition = cast("TaskDefinition", task.definition)
        attempt, mine = self._attempt, object()
        children, number = attempt.children, len(attempt.children)
        while children.setdefault(number, mine) is not mine:  # threads of the task do so as well
            number += 1
        try:
            record = attempt.services.make_record(
                definition, args, kwargs, task.call_options, parent=self.id, number=number
            )
        except BaseException:
            del children[number]
            raise
        children[number] = record
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
