"""Runs one job: the fifth of the six files that it passes through.

The steps, in order: resolve the task, call ``before_job``, call the function, make an outcome
of what happened, decide what follows, and make the settlement that says so. Settling it is the
worker's part. Knows no backend, no signal, no command line.
"""

from __future__ import annotations

from contextvars import copy_context
from math import inf
from sys import exception
from typing import TYPE_CHECKING, Any

from nuvom.core.guard import UserCall, of_thread
from nuvom.core.job_context import current
from nuvom.core.middleware import handed_over_by, run_by
from nuvom.core.options import TaskOptions
from nuvom.core.outcome import (
    Cancelled,
    Failed,
    Outcome,
    RetryAsked,
    Settlement,
    Snoozed,
    TimedOut,
    UnknownTask,
)
from nuvom.core.record import JobRecord, JobStatus, StoredError
from nuvom.core.retry import decide
from nuvom.core.signals import Discard, Retry, Snooze
from nuvom.errors import NuvomError, ResultTooLarge, TaskImportFailed
from nuvom.events import EventBus, HookFailed, JobStarted
from nuvom.execution.failures import fingerprint, stored_error
from nuvom.execution.running import KeptElsewhere, Prepared
from nuvom.host.fork import drop_at_fork, end_forked

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from random import Random

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.guard import Closable, Guard
    from nuvom.execution.running import RunningJob
    from nuvom.registry.registry import Registry
    from nuvom.serialization.base import Codec

_SUCCESS = JobStatus.SUCCESS  # a member of an enum takes long to look up in Python 3.11
_set_current = current.set  # else Python 3.11 makes a method object for each job
LATE_SECS = 0.1  # after a deadline: who should have closed the attempt could not
_WORDS = {
    Failed: "failure",
    RetryAsked: "retry",
    TimedOut: "timeout",
    Snoozed: "snoozed",
    Cancelled: "cancelled",
    UnknownTask: "released",
}


class JobRunner:
    """Turns a claimed job into the settlement that closes it.

    Attributes:
        bus: Hears of starts and of hooks that fail; its companions go along with jobs.
        refused: Names of tasks that this worker does not have; it asks for none of them again.
        has_hooks: Some task of this worker has hooks.
        is_forked: This process is a fork of the worker's, which a task or a hook has made.
    """

    def __init__(
        self,
        registry: Registry,
        codec: Codec,
        settings: Settings,
        *,
        bus: EventBus,
        clock: Clock,
        rng: Random,
        mark_started: Callable[[JobRecord], None],
    ) -> None:
        self._registry = registry
        self._codec = codec
        self._max_result_bytes = settings.max_result_bytes
        self.bus = bus
        self._clock = clock
        self._rng = rng
        self._mark_started = mark_started
        self._prepared: dict[str, Prepared] = {}
        self._known: dict[str, list[str]] = {}
        self._context = copy_context()
        self.refused: dict[str, str] = {}
        self._slow_imports: dict[str, Callable[[], bool]] = {}
        self.has_hooks = self.is_forked = False
        drop_at_fork(self)

    def drop_in_child(self) -> None:
        """Have a forked process end where the code that has forked comes to its end."""
        self.is_forked = True

    # ---- the steps ----------------------------------------------------------------------

    def resolve(self, running: RunningJob) -> Prepared | None:
        """Return the job's task, importing its module if needed; None when there is none."""
        name = running.record.func_name
        prepared = self._prepared.get(name)
        if prepared is None and not self._refuses(name):
            if self._registry.get(name) is None:
                # Its module's code runs now: a job that ends the worker so is charged with it.
                self._mark_started(running.record)
            prepared = self._prepare(name)
        return prepared

    def run(self, running: RunningJob, guard: Guard | None = None) -> Settlement:
        """Run a job in this thread and return what closes its attempt. Never raises.

        Args:
            guard: Of this thread, if it may be interrupted.
        """
        prepared, record = running.prepared, running.record
        self.begin(running)
        try:
            call = prepared.decode(record.args, record.kwargs)
            value = self._context.copy().run(_call, self, running, guard, call)
        except BaseException as error:  # noqa: BLE001  # user code: any failure is an outcome
            return self.failed(running, error)
        return self.succeeded(running, value)

    def begin(self, running: RunningJob) -> None:
        """Note the start, durably enough to outlive this process, and set the deadline."""
        record = running.record
        self._mark_started(record)
        running.started_at = self._clock.now()
        if record.timeout_secs is not None:
            running.deadline = self._clock.monotonic() + record.timeout_secs
        if JobStarted in self.bus.active:
            self.bus.emit(JobStarted(record, running.worker, running.prepared.lane))

    def before(self, running: RunningJob) -> None:
        """Call ``before_job``; its failure is reported and changes nothing."""
        hook = running.prepared.options.before_job
        if hook is not None:
            self._hook("before_job", running, hook, running)

    # ---- companions ---------------------------------------------------------------------

    @property
    def has_companions(self) -> bool:
        """Whether something goes along with the jobs that run here."""
        return bool(self.bus.companions)

    def accompanied(self, record: JobRecord) -> AbstractContextManager[None]:
        """Return the context in which the code of a job runs."""
        return run_by(self.bus.companions, record, self.bus.report)

    def handed_over(self, record: JobRecord) -> JobRecord:
        """Return a job as a child process gets it."""
        if not self.bus.companions:
            return record
        return handed_over_by(self.bus.companions, record, self.bus.report)

    # ---- outcomes -----------------------------------------------------------------------

    def succeeded(self, running: RunningJob, value: Any) -> Settlement:
        """Return the SUCCESS that keeps ``value``, or a failure when it cannot be kept.

        Also a timeout, where nobody could close the attempt in time: code that holds the GIL
        holds up the watchdogs as well.
        """
        prepared, record = running.prepared, running.record
        if running.deadline < inf and self._clock.monotonic() > running.deadline + LATE_SECS:
            return self.timed_out(running, None)
        data = None
        if record.store_result:
            try:
                data = prepared.encode(value)
            except BaseException as error:  # noqa: BLE001  # the value's own code may run: any failure is an outcome
                return self.failed(running, error)
            if len(data) > self._max_result_bytes:
                refusal = ResultTooLarge(record.func_name, len(data), self._max_result_bytes)
                return self.failed(running, refusal)
        if prepared.has_hooks and not running.is_closed:  # no other thread comes in between
            running.kept = value
        children = running.children
        return Settlement(
            record,
            _SUCCESS,
            data,
            running.started_at,
            self._clock.now(),
            children=tuple(children) if children else (),
        )

    def failed(self, running: RunningJob, error: BaseException) -> Settlement:
        """Return what follows from an exception, of the task's or of the engine's around it."""
        if running.prepared.has_hooks and not running.is_closed:
            running.kept = error
        outcome = self._outcome_of(running.record, error)
        return self.settlement(running, outcome, running.prepared.options)

    def timed_out(self, running: RunningJob, stack: str | None) -> Settlement:
        """Return what follows from a passed deadline; ``stack`` is where the code was."""
        record = running.record
        name = "TimeoutError"
        message = f"timed out after {record.timeout_secs:g} s"
        error = StoredError(name, message, stack, fingerprint(record.func_name, name))
        if running.prepared.has_hooks:
            running.kept = TimeoutError(message)
        return self.settlement(running, TimedOut(error), running.prepared.options)

    def unknown(self, running: RunningJob) -> Settlement:
        """Return the PARKED that keeps a job for a worker that has its task."""
        reason = self.refused.get(running.record.func_name, "no such task here")
        return self.settlement(running, UnknownTask(reason), TaskOptions())

    def settlement(self, running: RunningJob, outcome: Outcome, options: TaskOptions) -> Settlement:
        """Return the settlement that ``outcome`` and the retry policy lead to."""
        now = self._clock.now()
        verdict = decide(outcome, running.record, options, now=now, rng=self._rng)
        return Settlement(
            running.record,
            verdict.status,
            None,
            running.started_at,
            now,
            outcome=_WORDS[type(outcome)],
            error=getattr(outcome, "error", None),
            run_at=verdict.run_at,
            keeps_attempt=verdict.keeps_attempt,
        )

    def _outcome_of(self, record: JobRecord, error: BaseException) -> Outcome:
        if isinstance(error, Snooze):
            return Snoozed(error.secs)
        if isinstance(error, Retry):
            stored = StoredError("Retry", "the task asked for another attempt")
            if error.__cause__ is not None:
                stored = stored_error(record.func_name, error.__cause__)
            return RetryAsked(stored, error.in_secs)
        stored = stored_error(record.func_name, error)
        if isinstance(error, Discard):
            place = fingerprint(record.func_name, "Discard")
            reason = StoredError("Discard", stored.message, None, place)
            return Failed(reason, error, discard=True)
        # What the engine refuses (a result that cannot be stored, damaged arguments) another
        # attempt would not cure.
        return Failed(stored, error, discard=isinstance(error, NuvomError))

    # ---- hooks after the commit ---------------------------------------------------------

    def after_settled(self, running: RunningJob, status: JobStatus) -> None:
        """Call ``after_job`` or ``on_error``, once the settlement is committed."""
        kept, running.kept = running.kept, None
        options = running.prepared.options
        if isinstance(kept, KeptElsewhere):
            kept.settled(status)
            return
        if status is JobStatus.SUCCESS and not isinstance(kept, BaseException):
            if options.after_job is not None:
                self._run_hook("after_job", running, options.after_job, kept)
        elif options.on_error is not None and _is_failure(kept):
            self._run_hook("on_error", running, options.on_error, kept)

    def _run_hook(
        self, name: str, running: RunningJob, hook: Callable[..., Any], value: Any
    ) -> None:
        self._context.copy().run(self._hook_in_context, name, running, hook, value)

    def _hook_in_context(
        self, name: str, running: RunningJob, hook: Callable[..., Any], value: Any
    ) -> None:
        _set_current(running)
        self._hook(name, running, hook, UserCall(), value)

    def _hook(
        self, name: str, running: RunningJob, hook: Callable[..., Any], code: Closable, *args: Any
    ) -> None:
        try:
            guard = of_thread.guard
            try:
                if guard is None:
                    hook(*args)
                else:
                    guard.outside(code, hook, args)
            finally:
                if self.is_forked:
                    end_forked(exception())
        except BaseException as error:  # noqa: BLE001  # user code: a hook never changes the outcome
            stored = stored_error(running.record.func_name, error)
            self.bus.emit(HookFailed(running.record, name, stored))

    # ---- preparing ----------------------------------------------------------------------

    def _prepare(self, name: str) -> Prepared | None:
        self._slow_imports.pop(name, None)
        try:
            prepared = Prepared(self._registry.resolve(name), self._codec)
        except NuvomError as error:
            self.refused[name] = error.what
            if isinstance(error, TaskImportFailed) and error.is_over is not None:
                self._slow_imports[name] = error.is_over
            return None
        self.has_hooks = self.has_hooks or prepared.has_hooks
        self._prepared[name] = prepared
        self._known.setdefault(prepared.lane, []).append(name)
        return prepared

    def _refuses(self, name: str) -> bool:
        """Whether a task cannot be had here; an import that has ended meanwhile is tried again."""
        is_over = self._slow_imports.get(name)
        if is_over is not None and is_over():
            self.refused.pop(name, None)
        return name in self.refused

    @property
    def awaits_import(self) -> bool:
        """Whether parked jobs may soon be woken, once the import of their module has ended."""
        return bool(self._slow_imports)

    @property
    def wanted(self) -> list[str]:
        """Names of the tasks that this worker has, as far as it knows."""
        for name in [one for one in self._slow_imports if one not in self.refused]:
            self._slow_imports.pop(name, None)  # its jobs were woken the last time
        return [name for name in self._registry.names() if not self._refuses(name)]

    def known(self, lane: str) -> list[str]:
        """Return the names of the prepared tasks that run on ``lane``."""
        return self._known.get(lane, [])


def _call(
    runner: JobRunner,
    running: RunningJob,
    guard: Guard | None,
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> Any:
    _set_current(running)
    prepared = running.prepared
    args, kwargs = call
    if prepared.has_hooks:
        runner.before(running)
        if running.is_cancelled:
            return None  # closed while the hook ran: whatever follows is dropped
    if runner.bus.companions:
        with runner.accompanied(running.record):
            return _call_function(runner, running, guard, call)
    try:
        if guard is not None:
            return guard.outside(running, prepared.func, args, kwargs)
        return prepared.func(*args, **kwargs)
    finally:
        if runner.is_forked:
            end_forked(exception())


def _call_function(
    runner: JobRunner,
    running: RunningJob,
    guard: Guard | None,
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> Any:
    """Do as the end of ``_call``, which most jobs reach with one call less."""
    args, kwargs = call
    try:
        if guard is not None:
            return guard.outside(running, running.prepared.func, args, kwargs)
        return running.prepared.func(*args, **kwargs)
    finally:
        if runner.is_forked:
            end_forked(exception())


def _is_failure(kept: object) -> bool:
    return isinstance(kept, BaseException) and not isinstance(kept, Snooze)
