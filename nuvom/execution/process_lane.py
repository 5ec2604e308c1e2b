"""The process lane: each slot is a child process, which can be killed whatever its code does.

Children are spawned when there are jobs for them, and stay for later jobs. This module turns the
frames from a child into settlements. The child decides what follows from an exception, since the
exception is there. Hooks run in the worker. The supervisor (``child_process.py``) decides when
and how children start and end.
"""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nuvom.core.clock import StoreClock
from nuvom.core.outcome import Failed
from nuvom.core.record import JobStatus, StoredError
from nuvom.core.signals import SoftTimeout
from nuvom.errors import JobFailed, NuvomError, WorkerChildDied
from nuvom.execution.attempts import EncodedValue
from nuvom.execution.capacity import Prefetch
from nuvom.execution.child_process import ChildProcess, ChildSupervisor
from nuvom.execution.failures import fingerprint
from nuvom.execution.frames import (
    Ended,
    FromChild,
    Hello,
    Interrupt,
    Progress,
    ProgressKept,
    Ready,
    Run,
    Stack,
    Started,
    Stopping,
)
from nuvom.execution.lanes import Lane
from nuvom.host import platforms
from nuvom.log import LogHandler
from nuvom.registry.registry import task_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.outcome import Settlement
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.execution.lanes import LaneHost, WorkerContext

_STACK_SECS = 0.2  # for a child to report its stack
_MEMORY_SECS = 0.25  # between checks of the memory of busy children
_LOG = logging.getLogger("nuvom.worker")


class ProcessLane(Lane):
    """Runs attempts in at most ``slots`` child processes at once."""

    def __init__(self, slots: int, context: WorkerContext, host: LaneHost) -> None:
        super().__init__(slots, context, host)
        self._settings = context.settings
        self._prefetch = Prefetch(slots)
        self._measure_at = 0.0
        self._supervisor = ChildSupervisor(
            slots,
            context.clock,
            make=self._make_child,
            waiting=lambda: len(self.ready),
            give_up=self._give_up,
            chores=(self._close_overdue, self._close_too_big),
            crashed=host.crashed,
        )

    # ---- the lane's contract ------------------------------------------------------------

    def start(self) -> None:
        """Say what cannot be done here; most workers never need a child."""
        if self._settings.max_memory_per_child is not None and not platforms.CAN_MEASURE:
            _LOG.warning("max_memory_per_child has no effect: this system does not tell it")

    def stop(self) -> None:
        """End all children, let idle ones exit by themselves, and wait briefly for all of them."""
        self._supervisor.close()
        self._supervisor.join()

    def free(self) -> int:
        """Return how many slots are not busy, including those whose child is still starting."""
        return self.size - len(self._busy())

    def room(self) -> int:
        """Return how many attempts to take, including some ahead when attempts are quick."""
        return self.free() + self._prefetch.size - len(self.ready)

    def submit(self, work: list[OpenAttempt]) -> None:
        """Run these attempts, in order, as children become free."""
        self._supervisor.start()
        self.ready.extend(work)
        self._dispatch()

    def close_attempt(self, attempt: OpenAttempt) -> None:
        """End only the child that runs an attempt that someone else closed."""
        attempt.is_cancelled = True
        self._supervisor.end(attempt)
        self._host.idle()

    def interrupt(self, attempt: OpenAttempt, error: type[Exception]) -> None:
        """Have the child that runs an attempt raise an exception in its code."""
        with self._supervisor.lock:
            for child, busy_with in self._busy():
                if busy_with is attempt:
                    child.post(Interrupt(child.token, error.__name__))

    def running(self) -> list[OpenAttempt]:
        """Return the attempt of each busy child."""
        return [attempt for _, attempt in self._busy()]

    def tell_stopping(self) -> None:
        """Tell all children, whose code may ask."""
        for child in self._supervisor.in_state("starting", "idle", "busy"):
            child.post(Stopping())
        super().tell_stopping()

    def stacks(self) -> dict[str, str]:
        """Return the stack of each busy child that answers in time, by job id."""
        clock = self._clock
        asked = self._busy()
        for child, _ in asked:
            child.ask_stack(child.asked_at)
        ends_at = clock.monotonic() + _STACK_SECS
        while any(child.stack is None for child, _ in asked) and clock.monotonic() < ends_at:
            clock.sleep(_STACK_SECS / 40)
        return {attempt.record.id: child.stack for child, attempt in asked if child.stack}

    def stuck(self) -> int:
        """Return how many killed children have not ended yet."""
        return sum(child.was_killed for child in self._supervisor.in_state("starting", "leaving"))

    def _busy(self) -> list[tuple[ChildProcess, OpenAttempt]]:
        with self._supervisor.lock:
            busy = self._supervisor.in_state("busy")
            return [(child, child.attempt) for child in busy if child.attempt is not None]

    # ---- handing out --------------------------------------------------------------------

    def _dispatch(self) -> None:
        with self._supervisor.lock:
            for child in self._supervisor.in_state("idle"):
                attempt = self._next_to_start()
                if attempt is None:
                    break
                child.take(attempt)
                child.post(partial(self._begin, child.token, attempt))
        if self._supervisor.missing() > 0:
            self._supervisor.wake()

    def _next_to_start(self) -> OpenAttempt | None:
        while self.ready:
            try:
                attempt = self.ready.popleft()
            except IndexError:  # taken back in the meantime
                break
            if self._host.may_start(attempt):
                return attempt
        return None

    def _begin(self, token: int, attempt: OpenAttempt) -> Run | None:
        """Record the start, in the child's own thread, and return the frame for the child."""
        if attempt.is_cancelled:
            return None
        if not attempt.started_at:  # else a child died before receiving it
            self._runner.begin(attempt)
            self._runner.before(attempt)
        if attempt.record.has_time_limit or self._settings.max_memory_per_child is not None:
            self._supervisor.wake()  # there is now a deadline or memory to watch
        record = self._runner.handed_over(attempt.record)
        return Run(token, record, *_target_of(attempt.task.func))

    def _make_child(self) -> ChildProcess:
        root = logging.getLogger()
        has_log = any(isinstance(handler, LogHandler) for handler in root.handlers)
        level = root.level if has_log else None
        middleware = tuple(one.in_child for one in self._context.bus.middleware if one.in_child)
        clock = self._clock
        hello = Hello(
            self._settings.to_dict(),
            self._context.worker,
            level,
            middleware,
            clock.ahead_secs if isinstance(clock, StoreClock) else None,
        )
        return ChildProcess(
            hello,
            clock=self._clock,
            hear=self._hear,
            gone=self._gone,
            crashed=self._host.crashed,
        )

    # ---- what children say --------------------------------------------------------------

    def _hear(self, child: ChildProcess, frame: FromChild) -> None:
        match frame:
            case Started():
                self._started(child, frame)
            case Ended():
                self._ended(child, frame)
            case Progress():
                self._keep_progress(child, frame)
            case Stack():
                if frame.token == child.token:
                    child.stack = frame.text
                    self._supervisor.wake()
            case Ready():
                self._supervisor.came_up(child)
                self._dispatch()

    def _started(self, child: ChildProcess, frame: Started) -> None:
        attempt = self._supervisor.runs(child, frame.token)
        if attempt is not None:
            child.has_started = True
            secs = attempt.record.timeout_secs
            soft = attempt.record.soft_timeout_secs
            now = self._clock.monotonic()  # the time so far went into the child and its import
            if secs is not None:
                attempt.deadline = now + secs
            if soft is not None:
                attempt.soft_deadline = now + soft

    def _ended(self, child: ChildProcess, frame: Ended) -> None:
        child.jobs += frame.settlement is not None
        attempt = self._supervisor.ended(child, frame.token, is_worn=self._is_worn(child))
        if attempt is not None:  # else someone closed it earlier
            if frame.settlement is None:
                self._refuse(attempt, frame.refusal)
            else:
                self._prefetch.took(self._clock.monotonic() - child.taken_at)
                self._close_ended(attempt, frame, frame.settlement)
            self._dispatch()
            self._host.idle()

    def _close_ended(self, attempt: OpenAttempt, frame: Ended, settlement: Settlement) -> None:
        settlement = replace(settlement, record=attempt.record, started_at=attempt.started_at)
        if attempt.children and settlement.status is JobStatus.SUCCESS:  # from ``before_job``
            settlement = replace(settlement, children=(*attempt.followers, *settlement.children))
        if attempt.task.has_hooks and not attempt.is_closed:
            attempt.kept = _kept(settlement, frame)
        self._end(attempt, settlement)

    def _is_worn(self, child: ChildProcess) -> bool:
        jobs, size = self._settings.max_jobs_per_child, self._settings.max_memory_per_child
        if jobs is not None and child.jobs >= jobs:
            return True
        return size is not None and (platforms.resident_bytes(child.process.pid) or 0) > size

    def _keep_progress(self, child: ChildProcess, frame: Progress) -> None:
        attempt = self._supervisor.runs(child, frame.token)
        is_ours, fault = False, ""
        if attempt is not None:
            services = attempt.services
            try:
                is_ours = services.report_progress(attempt, frame.done, frame.total, frame.text)
            except NuvomError as error:
                fault = error.what
        child.post(ProgressKept(frame.seq, is_ours, fault))

    def _give_up(self, reason: str) -> None:
        for attempt in self.take_back():
            self._refuse(attempt, reason)
        self._host.idle()

    def _refuse(self, attempt: OpenAttempt, reason: str) -> None:
        """Leave a job, and all other jobs of its task, to workers that can load the task."""
        runner = self._runner
        runner.refused[attempt.record.func_name] = reason
        self._end(attempt, runner.unknown(attempt))

    # ---- ends of children ---------------------------------------------------------------

    def _gone(self, child: ChildProcess, how: str) -> None:
        """Fail the attempt of a child that has ended; another child replaces it."""
        with self._supervisor.lock:
            was_starting, attempt = self._supervisor.forget(child)
            # A child that never received the attempt did not fail it. The child must have run
            # others, though: an attempt that kills each new child must not be retried forever.
            is_innocent = not child.has_started and child.jobs > 0
            if attempt is not None and is_innocent:
                self.ready.appendleft(attempt)
        if was_starting:
            self._supervisor.failed_to_start(how)
        elif attempt is not None and not is_innocent:
            self._end(attempt, self._died(attempt, how))
            self._host.idle()
        self._dispatch()
        self._supervisor.wake()

    def _died(self, attempt: OpenAttempt, how: str) -> Settlement:
        name = WorkerChildDied.__name__
        error = StoredError(name, how, None, fingerprint(attempt.record.func_name, name))
        if attempt.task.has_hooks:
            attempt.kept = WorkerChildDied(how)
        return self._runner.settlement(attempt, Failed(error))

    # ---- times --------------------------------------------------------------------------

    def _close_overdue(self, now: float) -> float:
        """Close attempts past their deadline, once their child has reported its stack."""
        next_at = inf
        for child, attempt in self._busy():
            if attempt.soft_deadline <= now:
                attempt.soft_deadline = inf
                self.interrupt(attempt, SoftTimeout)
            if child.asked_at is None and attempt.deadline <= now:
                self._ask_overdue(child, attempt, now)
            if child.asked_at is None:
                next_at = min(next_at, attempt.deadline, attempt.soft_deadline)
            elif child.stack is None and now < child.asked_at + _STACK_SECS:
                next_at = min(next_at, child.asked_at + _STACK_SECS)
            else:
                timed_out = self._runner.timed_out
                self._cut_off(attempt, partial(timed_out, attempt, child.stack or None))
        return next_at

    def _ask_overdue(self, child: ChildProcess, attempt: OpenAttempt, now: float) -> None:
        with self._supervisor.lock:
            if child.attempt is attempt:  # else it ended just in time, and another one runs
                child.ask_stack(now)

    def _close_too_big(self, now: float) -> float:
        """End children that exceed their memory limit."""
        limit, busy = self._settings.max_memory_per_child, self._busy()
        if limit is None or not busy:
            return inf
        if now < self._measure_at:
            return self._measure_at
        for child, attempt in busy:
            size = platforms.resident_bytes(child.process.pid) or 0
            how = f"killed at {size} bytes of memory; max_memory_per_child is {limit}"
            if size > limit and self._cut_off(attempt, partial(self._died, attempt, how)):
                child.kill()
        self._measure_at = now + _MEMORY_SECS
        return self._measure_at


@lru_cache
def _target_of(func: Callable[..., Any]) -> tuple[str, str]:
    """Return the module and qualified name by which a child finds the task."""
    qualname = getattr(func, "__qualname__", None) or type(func).__qualname__
    return task_name(func).removesuffix(f".{qualname}"), qualname


def _kept(settlement: Settlement, frame: Ended) -> Any:
    """Return the argument for the hooks: what ``job.get()`` would return or raise."""
    error = settlement.error
    if error is None:
        return EncodedValue(frame.value or settlement.result, frame.fault)
    if settlement.outcome == "timeout":
        return TimeoutError(error.message)
    return JobFailed(settlement.record.id, error.type, error.message, error.traceback)
