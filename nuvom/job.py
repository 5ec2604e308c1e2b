"""``Job``: the typed handle that ``.delay()`` returns, and ``JobList`` of ``.map()``.

A handle holds the record as it was stored and asks the runtime for everything that changes.
``nuvom.core.record`` defines what a job *is*. This module also implements waiting for a job, for
handles, the SDK and the command line. A waiter checks, sleeps until a result may have arrived, and
checks again. Backends that can wake it across processes do so; otherwise it polls, with
increasing intervals.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from nuvom.core.guard import (
    LOOK_SECS,
    AttemptClosed,
    engine_call,
    is_closed_here,
    of_thread,
    users_items,
)
from nuvom.core.ids import ID_BYTES, id_texts
from nuvom.core.job_context import current
from nuvom.core.options import NO_CALL_OPTIONS, CallOptions
from nuvom.core.outcome import EXPIRED
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.transitions import RETRYABLE, home_of
from nuvom.errors import (
    JobCancelled,
    JobExpired,
    JobFailed,
    JobMoved,
    JobNotFound,
    JobTimeout,
    NoTransaction,
    NuvomError,
    WaitInsideTask,
)
from nuvom.hooks import default_hooks
from nuvom.host.waits import LONGEST_WAIT_SECS, POLL_SECS
from nuvom.inspection.inspector import Inspector
from nuvom.logs.progress import ProgressDisplay
from nuvom.runtime import Runtime, current_runtime
from nuvom.scheduler.record import fire_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from nuvom.registry.registry import TaskDefinition

R = TypeVar("R")

_COUNT_SECS = 0.5
_COUNTED_AT_ONCE = 50


class Job(Generic[R]):
    """A handle for one job. Equal to any other handle with the same id.

    Attributes:
        id: UUIDv7 text.
        created: False when ``unique_key`` led to an existing job.
    """

    __slots__ = ("_record", "_runtime", "created", "id")

    def __init__(
        self,
        job_id: str,
        runtime: Runtime,
        record: JobRecord | None = None,
        *,
        created: bool = True,
    ) -> None:
        self.id = job_id
        self.created = created
        self._runtime = runtime
        self._record = record

    @classmethod
    @engine_call
    def load(cls, job_id: str) -> Job[Any]:
        """Return the handle of a stored job.

        Raises: JobNotFound: there is no job with this id.
        """
        runtime = current_runtime()
        return Job(job_id, runtime=runtime, record=Inspector(runtime).snapshot(job_id).record)

    # ---- what was asked for -------------------------------------------------------------

    @property
    def record(self) -> JobRecord:
        """The record, as stored when this handle was made or refreshed."""
        if self._record is None:
            self._record = self.snapshot().record
        return self._record

    @property
    def func_name(self) -> str:
        """Full name of the task."""
        return self.record.func_name

    @property
    @engine_call
    def args(self) -> tuple[Any, ...]:
        """Positional arguments; user classes are ``Shaped`` if the task is unknown here."""
        return Inspector(self._runtime).arguments(self.record)[0]

    @property
    @engine_call
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments, rebuilt like ``args``."""
        return Inspector(self._runtime).arguments(self.record)[1]

    @property
    def queue(self) -> str:
        """Name of the queue."""
        return self.record.queue

    @property
    def priority(self) -> int:
        """Lower runs first."""
        return self.record.priority

    @property
    def created_at(self) -> datetime:
        """When the job was created, in UTC."""
        return datetime.fromtimestamp(self.record.created_at, UTC)

    @property
    def schedule(self) -> str | None:
        """The name of the schedule that enqueued the job, or None."""
        return fire_of(self.record.headers)[0]

    @property
    def scheduled_for(self) -> datetime | None:
        """The fire time of its schedule for which the job was enqueued, in UTC, or None."""
        at = fire_of(self.record.headers)[1]
        return None if at is None else datetime.fromtimestamp(at, UTC)

    # ---- where it is now ----------------------------------------------------------------

    @engine_call
    def snapshot(self) -> JobSnapshot:
        """Return everything the store knows now. Raises: JobNotFound."""
        return Inspector(self._runtime).snapshot(self.id, self._record)

    @property
    def status(self) -> JobStatus:
        """The current status. Raises: JobNotFound."""
        return self.snapshot().status

    @property
    def attempt(self) -> int:
        """The current or latest attempt, from 1; 0 before the first."""
        return self.snapshot().record.attempt

    @property
    @engine_call
    def result(self) -> R | None:
        """The task's return value, or None until it has returned."""
        value: R | None = Inspector(self._runtime).result(self.snapshot())
        return value

    @property
    def error(self) -> StoredError | None:
        """Why the last attempt failed, or None."""
        return self.snapshot().error

    def refresh(self) -> Job[R]:
        """Read the record again. Raises: JobNotFound."""
        self._record = self.snapshot().record
        return self

    # ---- what can be done ---------------------------------------------------------------

    @engine_call
    def get(self, timeout: float | None = None) -> R:
        """Wait for the job to end and return the task's return value.

        Args:
            timeout: Maximum seconds to wait; None waits forever.
        Raises:
            JobFailed: it ended FAILED or DEAD.
            JobCancelled: it was cancelled; JobExpired: it did not start in time; JobMoved:
                ``nuvom copy`` moved it to another store.
            JobTimeout: it did not end in time; the job is not affected.
            WaitInsideTask: called inside a task without a timeout.
            JobNotFound: there is no such job, or no longer.
        """
        value: R = wait_for_result(self._runtime, self.id, timeout, record=self._record)
        return value

    async def aget(self, timeout: float | None = None) -> R:  # the job's own limit, as in get
        """Do as ``get`` without blocking the event loop; cancelling it does not affect the job.

        A wait takes no thread of its own, so there may be thousands.
        """
        value: R = await await_result(self._runtime, self.id, timeout, record=self._record)
        return value

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    @engine_call
    def cancel(self) -> bool:
        """Cancel the job; False if it had already ended. Raises: JobNotFound."""
        before = self._runtime.control.cancel(self.id)
        if before is None:
            raise JobNotFound(self.id)
        return not before.is_final

    @engine_call
    def retry(self) -> bool:
        """Run a FAILED, DEAD or CANCELLED job again under the same id.

        Returns: False when its status does not allow it. Raises: JobNotFound.
        """
        before = self._runtime.control.retry(self.id)
        if before is None:
            raise JobNotFound(self.id)
        return before in RETRYABLE

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        name = "" if self._record is None else f" {self._record.func_name}"
        return f"<Job {self.id}{name}>"


class JobList(Sequence[Job[R]]):
    """The jobs of one ``.map()``, in the order of its items.

    Ids are packed, 16 bytes each, and handles are created on access, so a million jobs take 16 MB.
    """

    def __init__(
        self, ids: bytearray, *, runtime: Runtime, existing: Mapping[str, str] | None = None
    ) -> None:
        self._ids = ids
        self._runtime = runtime
        self._existing = existing or {}

    @property
    def ids(self) -> list[str]:
        """All ids, in order."""
        return [text.decode() for text in id_texts(self._ids)]

    @engine_call
    def get(self, timeout: float | None = None, *, progress: bool = False) -> list[R]:
        """Wait for all jobs and return their results in order; raises as ``Job.get``.

        Args:
            timeout: Maximum seconds to wait for all jobs together.
            progress: Show on standard error how many have ended: a bar on a terminal, elsewhere a
                line every 10 s.
        """
        clock = self._runtime.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        results: list[R] = []
        with self._progress() if progress else nullcontext() as shown:
            for job in self:
                left = None if deadline is None else max(0.0, deadline - clock.monotonic())
                tell = None if shown is None else shown.look
                results.append(wait_for_result(self._runtime, job.id, left, tell=tell))
                if shown is not None:
                    shown.end_one()
        return results

    def _progress(self) -> WaitProgress:
        clock, count = self._runtime.clock, len(self)
        progress = ProgressDisplay("Waiting", "jobs", count, stream=sys.stderr, clock=clock)
        return WaitProgress(self._runtime, progress, count, lambda place: self[place].id)

    def __len__(self) -> int:
        return len(self._ids) // ID_BYTES

    @overload
    def __getitem__(self, index: int) -> Job[R]: ...
    @overload
    def __getitem__(self, index: slice) -> JobList[R]: ...
    def __getitem__(self, index: int | slice) -> Job[R] | JobList[R]:
        if isinstance(index, slice):
            picked = bytearray()
            for place in range(*index.indices(len(self))):
                picked += self._ids[place * ID_BYTES : (place + 1) * ID_BYTES]
            return JobList(picked, runtime=self._runtime, existing=self._existing)
        place = range(len(self))[index]
        job_id = self._id_at(place)
        existing = self._existing.get(job_id)
        return Job(existing or job_id, runtime=self._runtime, created=existing is None)

    def __iter__(self) -> Iterator[Job[R]]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, JobList):
            return self._ids == other._ids
        return isinstance(other, list) and list(self) == other

    __hash__ = None  # type: ignore[assignment]  # like any other list

    def __repr__(self) -> str:
        return f"<JobList of {len(self)} {'job' if len(self) == 1 else 'jobs'}>"

    def _id_at(self, place: int) -> str:
        (text,) = id_texts(self._ids[place * ID_BYTES : (place + 1) * ID_BYTES])
        return text.decode()


def submit(
    definition: TaskDefinition,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: CallOptions = NO_CALL_OPTIONS,
) -> Job[Any]:
    """Store one job and return its handle; this is what ``Task.delay`` does."""
    guard = of_thread.guard
    if (
        guard is not None and not guard.is_inside
    ):  # as ``engine_call`` does, which costs one more call
        return guard.inside(submit, (definition, args, kwargs, options), {})
    runtime = current_runtime()
    record, existing = runtime.dispatcher.dispatch(definition, args, kwargs, options)
    if existing is not None:
        return Job(existing, runtime=runtime, created=False)
    return Job(record.id, runtime, record)  # keyword arguments take twice as long


@engine_call
def submit_on_commit(
    definition: TaskDefinition,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: CallOptions = NO_CALL_OPTIONS,
    *,
    on_commit: Callable[[Callable[[], None]], None] | None = None,
) -> Job[Any]:
    """Create one job now and store it when a transaction commits; see ``Task.delay_on_commit``.

    Args:
        on_commit: Calls a function at that time; the default is that of ``nuvom.hooks``.
    """
    on_commit = on_commit or default_hooks.on_commit
    if on_commit is None:
        raise NoTransaction
    runtime = current_runtime()
    record = runtime.dispatcher.make_for_later(definition, args, kwargs, options)

    @engine_call
    def store() -> None:
        runtime.dispatcher.enqueue(record)

    on_commit(store)
    return Job(record.id, runtime, record)


@engine_call
def submit_many(
    definition: TaskDefinition,
    items: Iterable[tuple[Any, ...] | list[Any] | Mapping[str, Any]],
    options: CallOptions = NO_CALL_OPTIONS,
) -> JobList[Any]:
    """Store one job for each item and return their list; this is what ``Task.map`` does."""
    runtime = current_runtime()
    ids, existing = runtime.dispatcher.dispatch_many(definition, users_items(items), options)
    return JobList(ids, runtime=runtime, existing=existing)


# ---- waiting ----------------------------------------------------------------------------


class WaitProgress:
    """Shows how many jobs have ended while they are waited for one after the other.

    Those behind the one that is waited for count as well; a few of them are looked at each time.

    Args:
        count: How many jobs there are.
        id_of: Returns the id of the job at an index. It may raise NuvomError.
    """

    def __init__(
        self, runtime: Runtime, progress: ProgressDisplay, count: int, id_of: Callable[[int], str]
    ) -> None:
        self._inspector, self._clock = Inspector(runtime), runtime.clock
        self._progress = progress
        self._id_of = id_of
        self._waited_for = 0
        self._unended = deque(range(count))
        self._ended_ahead: set[int] = set()
        self._due = 0.0

    def look(self, _snapshot: JobSnapshot | None = None) -> None:
        """Look at some of the jobs, at most twice a second, and show how many have ended."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + _COUNT_SECS
            for _ in range(min(_COUNTED_AT_ONCE, len(self._unended))):
                self._look_at(self._unended.popleft())
        self._tell()

    def end_one(self) -> None:
        """Note that the job waited for has ended."""
        self._ended_ahead.discard(self._waited_for)
        self._waited_for += 1
        self._tell()

    def _look_at(self, place: int) -> None:
        if place < self._waited_for:
            return
        with suppress(NuvomError):  # whoever waits for it will be told
            seen = self._inspector.look(self._id_of(place))
            if seen is not None and seen.status.is_final:
                self._ended_ahead.add(place)
            else:
                self._unended.append(place)

    def _tell(self) -> None:
        self._progress.tell(self._waited_for + len(self._ended_ahead))

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *given: object) -> None:
        self._progress.__exit__(*given)


def wait_for_final(
    runtime: Runtime,
    job_id: str,
    timeout: float | None,
    *,
    record: JobRecord | None = None,
    waited_before: float = 0.0,
    tell: Callable[[JobSnapshot | None], None] | None = None,
) -> JobSnapshot:
    """Return the job's snapshot once its status is final.

    Args:
        record: The job as it was stored, if the caller has it.
        waited_before: Seconds that the caller has already waited; only for the error report.
        tell: Called with what is seen of the job, at least once a second while it has not ended.
    Raises: JobNotFound; JobTimeout: ``timeout`` seconds passed before that; AttemptClosed: the
        attempt whose code waits here was closed.
    """
    inspector = Inspector(runtime)
    longest = LONGEST_WAIT_SECS if of_thread.guard is None else LOOK_SECS
    clock = runtime.clock
    started = clock.monotonic()
    rounds = 0
    snapshot = inspector.look(job_id, record)
    if snapshot is not None and snapshot.status.is_final:
        return snapshot
    with runtime.results.waiter() as waiter:
        while True:
            snapshot = inspector.look(job_id, record)
            if snapshot is not None and snapshot.status.is_final:
                return snapshot
            if tell is not None:
                tell(snapshot)
            if is_closed_here():
                raise AttemptClosed
            waited = clock.monotonic() - started
            if timeout is not None and waited >= timeout:
                raise _timed_out(inspector, job_id, snapshot, waited_before + waited)
            left = longest if timeout is None else min(longest, timeout - waited)
            if waiter is None:
                clock.sleep(min(left, POLL_SECS[min(rounds, len(POLL_SECS) - 1)]))
            else:
                waiter.wait(left)
            rounds += 1


def wait_for_result(
    runtime: Runtime,
    job_id: str,
    timeout: float | None,
    *,
    record: JobRecord | None = None,
    tell: Callable[[JobSnapshot | None], None] | None = None,
) -> Any:
    """Return the task's return value; see ``Job.get`` for the errors raised."""
    if timeout is None and current.get() is not None:
        raise WaitInsideTask(job_id)
    # Created while the job runs, not when its result has arrived.
    decode = None if record is None else Inspector(runtime).result_decoder(record.func_name)
    snapshot = wait_for_final(runtime, job_id, timeout, record=record, tell=tell)
    return result_of(runtime, snapshot, decode)


async def await_result(
    runtime: Runtime, job_id: str, timeout: float | None, *, record: JobRecord | None = None
) -> Any:
    """Do as ``wait_for_result`` without blocking the event loop, or a thread for each wait.

    What takes a moment, such as to look or to decode the result, runs in asyncio's threads.
    """
    from asyncio import to_thread, wait, wrap_future  # noqa: PLC0415  # its caller has loaded it

    if timeout is None and current.get() is not None:
        raise WaitInsideTask(job_id)
    inspector, clock = Inspector(runtime), runtime.clock

    def look() -> JobSnapshot | None:
        seen = inspector.look(job_id, record)
        return seen if seen is not None and seen.status.is_final else None

    started = clock.monotonic()
    found = wrap_future(runtime.waits.add(look, runtime.results.waiter))
    found.add_done_callback(lambda one: one.cancelled() or one.exception())  # nobody may ask for it
    try:
        snapshot = await to_thread(look)  # it may have ended before
        while snapshot is None:
            waited = clock.monotonic() - started
            left = LONGEST_WAIT_SECS if timeout is None else timeout - waited
            if left <= 0:
                snapshot = await to_thread(
                    wait_for_final, runtime, job_id, 0.0, record=record, waited_before=waited
                )
                break
            await wait([found], timeout=min(left, LONGEST_WAIT_SECS))
            snapshot = found.result() if found.done() else None
    finally:
        found.cancel()
    return await to_thread(result_of, runtime, snapshot)


def result_of(
    runtime: Runtime, snapshot: JobSnapshot, decode: Callable[[bytes], Any] | None = None
) -> Any:
    """Return the value of an ended job, or raise JobFailed or JobCancelled.

    Args:
        decode: Rebuilds the task's results, if the caller already has such a function.
    """
    if snapshot.status is JobStatus.SUCCESS:
        if decode is not None and snapshot.result is not None:
            return decode(snapshot.result)
        return Inspector(runtime).result(snapshot)
    if snapshot.status is JobStatus.CANCELLED:
        raise _cancelled(snapshot)
    error = snapshot.error or StoredError(str(snapshot.status), "no report is kept")
    raise JobFailed(snapshot.record.id, error.type, error.message, error.traceback)


def _cancelled(snapshot: JobSnapshot) -> JobCancelled:
    job_id, home, error = snapshot.record.id, home_of(snapshot), snapshot.error
    if home is not None:
        return JobMoved(job_id, home)
    if error is not None and error.type == EXPIRED:
        return JobExpired(job_id, error.message)
    return JobCancelled(job_id)


def _timed_out(
    inspector: Inspector, job_id: str, snapshot: JobSnapshot | None, waited: float
) -> JobTimeout:
    queue = "unknown" if snapshot is None else snapshot.record.queue
    workers = inspector.workers_on(queue)
    reason = None if snapshot is None else inspector.why(snapshot)
    return JobTimeout(
        job_id,
        round(waited, 3),
        status="without an outcome" if snapshot is None else str(snapshot.status),
        queue=queue,
        workers="unknown" if workers is None else workers,
        reason="" if reason is None else reason.text,
        fix="" if reason is None else reason.fix,
    )
