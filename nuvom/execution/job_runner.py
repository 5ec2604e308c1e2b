"""Runs one job: the fifth of the six files that a job passes through.

The steps, in order: resolve the task, call ``before_job``, call the function, turn the result
into an outcome, decide what follows, and make the settlement for it. The worker applies the
settlement. This module knows no backend, no signal, no command line.
"""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import copy_context
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from nuvom.core.guard import AttemptClosed, Guard, UserCall, of_thread
from nuvom.core.job_context import current
from nuvom.core.middleware import handed_over_by, run_by
from nuvom.core.options import TaskOptions
from nuvom.core.outcome import (
    Expired,
    Failed,
    Outcome,
    RetryAsked,
    Settlement,
    Snoozed,
    TimedOut,
    UnknownTask,
    decide,
)
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.core.signals import Discard, JobStopping, Retry, Snooze
from nuvom.errors import NuvomError, ResultTooLarge, TaskImportFailed
from nuvom.events import EventBus, HookFailed, JobStarted
from nuvom.execution.attempts import BoundTask, EncodedValue
from nuvom.execution.failures import fingerprint, stored_error
from nuvom.hooks import default_hooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.guard import Closable
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.registry.registry import Registry
    from nuvom.serialization.base import Codec

_SUCCESS = JobStatus.SUCCESS  # looking up an enum member is slow in Python 3.11
_set_current = current.set  # else Python 3.11 creates a method object for each job
_ALONE = nullcontext()
LATE_SECS = 0.1  # past a deadline: whatever should have closed the attempt could not
_WORDS = {
    Failed: "failure",
    RetryAsked: "retry",
    TimedOut: "timeout",
    Snoozed: "snoozed",
    UnknownTask: "released",
    Expired: "cancelled",
}


class JobRunner:
    """Turns a claimed job into the settlement that closes it.

    Attributes:
        known: Names of the tasks bound so far, by lane.
        bus: Receives events for starts and failing hooks; its middleware wraps jobs.
        hooks: The project's hooks around all jobs.
        refused: Names of tasks that this worker does not have; it never claims them again.
        has_hooks: Whether any task of this worker has hooks.
    """

    def __init__(
        self,
        registry: Registry,
        codec: Codec,
        settings: Settings,
        *,
        bus: EventBus,
        clock: Clock,
        mark_started: Callable[[JobRecord], None],
        rng: Random | None = None,
    ) -> None:
        self._registry = registry
        self._codec = codec
        self._max_result_bytes = settings.max_result_bytes
        self._defaults = settings.task_defaults
        self.bus = bus
        self.hooks = default_hooks
        self._clock = clock
        self._rng = rng or Random()  # noqa: S311  # only for retry jitter
        self._mark_started = mark_started
        self._tasks: dict[str, BoundTask] = {}
        self.known: dict[str, list[str]] = {}
        self._context = copy_context()
        self.refused: dict[str, str] = {}
        self._slow_imports: dict[str, Callable[[], bool]] = {}
        self.has_hooks = False

    # ---- the steps ----------------------------------------------------------------------

    def resolve(self, attempt: OpenAttempt) -> BoundTask | None:
        """Return the job's task, importing its module if needed; None if there is no such task."""
        name = attempt.record.func_name
        task = self._tasks.get(name)
        if task is None and not self._refuses(name):
            if self._registry.get(name) is None:
                # Its module's code runs now. If that kills the worker, the job is charged for it.
                self._mark_started(attempt.record)
            task = self._bind(name)
        return task

    def run(self, attempt: OpenAttempt, guard: Guard | None = None) -> Settlement:
        """Run a job in this thread and return what closes its attempt. Never raises.

        Args:
            guard: This thread's guard, if the thread may be interrupted.
        """
        task, record = attempt.task, attempt.record
        self.begin(attempt)
        try:
            call = task.decode(record.args, record.kwargs)
            enter = _call_between_hooks if self.hooks.are_around_jobs else _call
            value = self._context.copy().run(enter, self, attempt, guard or Guard(), call)
        except BaseException as error:  # noqa: BLE001  # user code: any failure is an outcome
            return self.failed(attempt, error)
        return self.succeeded(attempt, value)

    def begin(self, attempt: OpenAttempt) -> None:
        """Record the start so that it survives this process, and set the deadline."""
        record = attempt.record
        self._mark_started(record)
        attempt.started_at = self._clock.now()
        if record.timeout_secs is not None:
            attempt.deadline = self._clock.monotonic() + record.timeout_secs
        if record.soft_timeout_secs is not None:
            attempt.soft_deadline = self._clock.monotonic() + record.soft_timeout_secs
        if JobStarted in self.bus.active:
            self.bus.emit(JobStarted(record, attempt.worker, attempt.task.lane))

    def before(self, attempt: OpenAttempt) -> None:
        """Call ``before_job``, in a context of its own; its failure changes nothing."""
        hook = attempt.task.before_job
        if hook is not None:
            self._hook_in_context("before_job", attempt, hook)

    # ---- middleware ---------------------------------------------------------------------

    def accompanied(self, record: JobRecord) -> AbstractContextManager[object]:
        """Return the context in which the code of a job runs."""
        if not self.bus.middleware:
            return _ALONE
        return run_by(self.bus.middleware, record, self.bus.report)

    def handed_over(self, record: JobRecord) -> JobRecord:
        """Return the record of a job as sent to a child process."""
        if not self.bus.middleware:
            return record
        return handed_over_by(self.bus.middleware, record, self.bus.report)

    # ---- outcomes -----------------------------------------------------------------------

    def succeeded(self, attempt: OpenAttempt, value: Any) -> Settlement:
        """Return the SUCCESS that stores ``value``, or a failure if it cannot be stored.

        It is a timeout if nothing could close the attempt in time: code that holds the GIL also
        delays the watchdogs.
        """
        task, record = attempt.task, attempt.record
        if attempt.deadline < inf and self._clock.monotonic() > attempt.deadline + LATE_SECS:
            return self.timed_out(attempt, None)
        data = None
        if record.store_result:
            try:
                data = task.encode(value)
            except BaseException as error:  # noqa: BLE001  # the value's own code may run: any failure is an outcome
                return self.failed(attempt, error)
            if len(data) > self._max_result_bytes:
                refusal = ResultTooLarge(record.func_name, len(data), self._max_result_bytes)
                return self.failed(attempt, refusal)
        if task.has_hooks and not attempt.is_closed:  # no thread switch until the next line
            attempt.kept = value
        return Settlement(
            record,
            _SUCCESS,
            data,
            attempt.started_at,
            self._clock.now(),
            children=attempt.followers if attempt.children else (),
        )

    def failed(self, attempt: OpenAttempt, error: BaseException) -> Settlement:
        """Return what follows from an exception raised by the task or by the engine around it."""
        if attempt.task.has_hooks and not attempt.is_closed:
            attempt.kept = error
        outcome = outcome_of(attempt.record, error)
        return self.settlement(attempt, outcome)

    def timed_out(self, attempt: OpenAttempt, stack: str | None) -> Settlement:
        """Return what follows from a missed deadline; ``stack`` is where the code was."""
        record = attempt.record
        name = "TimeoutError"
        message = _timed_out_text(record)
        error = StoredError(name, message, stack, fingerprint(record.func_name, name))
        if attempt.task.has_hooks:
            attempt.kept = TimeoutError(message)
        return self.settlement(attempt, TimedOut(error))

    def unknown(self, attempt: OpenAttempt) -> Settlement:
        """Return the PARKED settlement that keeps a job for a worker that has its task."""
        reason = self.refused.get(attempt.record.func_name, "no such task here")
        return self.settlement(attempt, UnknownTask(reason))

    def expired(self, attempt: OpenAttempt) -> Settlement | None:
        """Return the CANCELLED settlement of a job that may no longer start; None if it may."""
        record = attempt.record
        if record.expires_at is None or not record.has_expired(self._clock.now()):
            return None
        return self.settlement(attempt, Expired(round(record.expires_at - record.created_at, 3)))

    def settlement(self, attempt: OpenAttempt, outcome: Outcome) -> Settlement:
        """Return the settlement that ``outcome`` and the retry policy lead to."""
        now = self._clock.now()
        options = TaskOptions() if attempt.task is None else attempt.task.options
        verdict = decide(outcome, attempt.record, options, now=now, rng=self._rng)
        return Settlement(
            attempt.record,
            verdict.status,
            None,
            attempt.started_at,
            now,
            outcome=_WORDS[type(outcome)],
            error=getattr(outcome, "error", None),
            run_at=verdict.run_at,
            keeps_attempt=verdict.keeps_attempt,
        )

    # ---- the project's hooks around each job --------------------------------------------

    def before_each(self, attempt: OpenAttempt) -> None:
        """Call the project's hooks before the code of a job, in this context and thread."""
        for hook in self.hooks.before_each:
            self.hook("before_each_job", attempt, hook, attempt)

    def after_each(self, attempt: OpenAttempt, value: Any) -> None:
        """Call the project's hooks after the code of a job has returned."""
        for hook in self.hooks.after_each:
            self.hook("after_each_job", attempt, hook, UserCall(), value)

    def each_error(self, attempt: OpenAttempt, error: BaseException) -> None:
        """Call the project's hooks after the code of a job has raised."""
        if isinstance(error, AttemptClosed) and self._clock.monotonic() >= attempt.deadline:
            error = TimeoutError(_timed_out_text(attempt.record))
        for hook in self.hooks.each_error:
            self.hook("on_each_error", attempt, hook, UserCall(), error)

    # ---- hooks after the commit ---------------------------------------------------------

    def after_settled(self, attempt: OpenAttempt, status: JobStatus) -> None:
        """Call ``after_job`` or ``on_error``, once the settlement is committed."""
        kept, attempt.kept = attempt.kept, None
        options = attempt.task.options
        if status is JobStatus.SUCCESS and not isinstance(kept, BaseException):
            if options.after_job is not None:
                self._after_job(attempt, options.after_job, kept)
        elif options.on_error is not None and _is_failure(kept):
            self._hook_in_context("on_error", attempt, options.on_error, kept)

    def _after_job(self, attempt: OpenAttempt, hook: Callable[[Any], Any], value: Any) -> None:
        if isinstance(value, EncodedValue):
            if value.fault is not None:
                self.bus.emit(HookFailed(attempt.record, "after_job", value.fault))
                return
            decode, data = attempt.task.decode_result, value.data
            self._hook_in_context("after_job", attempt, lambda: hook(data and decode(data)))
            return
        self._hook_in_context("after_job", attempt, hook, value)

    def _hook_in_context(
        self, name: str, attempt: OpenAttempt, hook: Callable[..., Any], *args: Any
    ) -> None:
        context = self._context.copy()
        context.run(_set_current, attempt)
        context.run(self.hook, name, attempt, hook, UserCall(), *args)

    def hook(
        self, name: str, attempt: OpenAttempt, hook: Callable[..., Any], code: Closable, *args: Any
    ) -> None:
        """Call a hook in this context and thread; ``code`` is what is closed to interrupt it."""
        try:
            (of_thread.guard or Guard()).outside(code, hook, args)
        except BaseException as error:  # noqa: BLE001  # user code: a hook never changes the outcome
            stored = stored_error(attempt.record.func_name, error)
            self.bus.emit(HookFailed(attempt.record, name, stored))

    # ---- binding tasks ----------------------------------------------------------------------

    def _bind(self, name: str) -> BoundTask | None:
        self._slow_imports.pop(name, None)
        try:
            task = BoundTask(self._registry.resolve(name), self._codec, self._defaults)
        except NuvomError as error:
            self.refused[name] = error.what
            if isinstance(error, TaskImportFailed) and error.is_over is not None:
                self._slow_imports[name] = error.is_over
            return None
        self.has_hooks = self.has_hooks or task.has_hooks
        self._tasks[name] = task
        self.known.setdefault(task.lane, []).append(name)
        return task

    def _refuses(self, name: str) -> bool:
        """Whether a task is unavailable here; a slow import that has since ended is retried."""
        is_over = self._slow_imports.get(name)
        if is_over is not None and is_over():
            self.refused.pop(name, None)
        return name in self.refused

    @property
    def has_async(self) -> bool:
        """Whether any task of this worker is known to be a coroutine."""
        return self._registry.has_async

    @property
    def awaits_import(self) -> bool:
        """Whether parked jobs may be woken soon, when the import of their module ends."""
        return bool(self._slow_imports)

    @property
    def wanted(self) -> list[str]:
        """Names, and former names, of the tasks that this worker is known to have."""
        for name in [one for one in self._slow_imports if one not in self.refused]:
            self._slow_imports.pop(name, None)  # its jobs have now been woken for the last time
        return [name for name in self._registry.runnable if not self._refuses(name)]


def outcome_of(record: JobRecord, error: BaseException) -> Outcome:
    """Return the outcome of an attempt whose code raised ``error``."""
    if isinstance(error, Snooze):
        return Snoozed(error.secs)
    if isinstance(error, JobStopping):
        return Snoozed(0.0)
    if isinstance(error, Retry):
        stored = StoredError("Retry", "the task asked for another attempt")
        if error.__cause__ is not None:
            stored = stored_error(record.func_name, error.__cause__)
        return RetryAsked(stored, error.in_secs, error.max_retries)
    stored = stored_error(record.func_name, error)
    if isinstance(error, Discard):
        place = fingerprint(record.func_name, "Discard")
        reason = StoredError("Discard", stored.message, None, place)
        return Failed(reason, error, discard=True)
    # Another attempt would not fix what the engine refuses, such as a result that cannot be
    # stored or damaged arguments.
    return Failed(stored, error, discard=isinstance(error, NuvomError))


def _timed_out_text(record: JobRecord) -> str:
    return f"timed out after {record.timeout_secs:g} s"


def _call(
    runner: JobRunner,
    attempt: OpenAttempt,
    guard: Guard,
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> Any:
    _set_current(attempt)
    task = attempt.task
    args, kwargs = call
    if task.before_job is not None:
        runner.hook("before_job", attempt, task.before_job, attempt)
        if attempt.is_cancelled:
            return None  # closed while the hook ran: the outcome is dropped
    if runner.bus.middleware:
        with runner.accompanied(attempt.record):
            return guard.outside(attempt, task.func, args, kwargs)
    return guard.outside(attempt, task.func, args, kwargs)


def _call_between_hooks(
    runner: JobRunner,
    attempt: OpenAttempt,
    guard: Guard,
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> Any:
    _set_current(attempt)
    runner.before_each(attempt)
    try:
        value = None if attempt.is_cancelled else _call(runner, attempt, guard, call)
    except BaseException as error:
        runner.each_error(attempt, error)
        raise
    runner.after_each(attempt, value)
    return value


def _is_failure(kept: object) -> bool:
    return isinstance(kept, BaseException) and not isinstance(kept, Snooze | JobStopping)
