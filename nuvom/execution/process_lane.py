"""The process lane: each slot is a child process, which can be ended whatever its code does.

Children start by spawning when there are jobs for them, and stay for the next ones. What a
child says is turned into settlements here; the decision what follows from an exception is made
where the exception is, in the child. When and how children start and end is the minder's part.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nuvom.core.outcome import Failed
from nuvom.core.record import StoredError
from nuvom.errors import NuvomError, WorkerChildDied
from nuvom.events import HookFailed
from nuvom.execution.child_minder import ChildMinder
from nuvom.execution.child_pool import ChildPool
from nuvom.execution.child_process import ChildProcess, HooksDue
from nuvom.execution.childhood import refuse_in_child
from nuvom.execution.failures import fingerprint
from nuvom.execution.framing import (
    CallHooks,
    Ended,
    FromChild,
    Hello,
    HookRaised,
    HooksCalled,
    Progress,
    ProgressKept,
    Ready,
    Run,
    Stack,
    Started,
    Unloadable,
)
from nuvom.execution.pace import Lead
from nuvom.execution.running import KeptElsewhere
from nuvom.host import processes as platforms
from nuvom.log import LogHandler
from nuvom.registry.registry import task_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.config.settings import Settings
    from nuvom.core.outcome import Settlement
    from nuvom.core.record import JobStatus
    from nuvom.events import EventBus
    from nuvom.execution.lanes import Shop
    from nuvom.execution.running import RunningJob
    from nuvom.registry.registry import TaskDefinition

_STACK_SECS = 0.2  # for a child to say where its code is
_MEMORY_SECS = 0.25  # between looks at the memory of busy children
_LOG = logging.getLogger("nuvom.worker")


class ProcessLane:
    """Runs attempts in at most ``slots`` child processes at once.

    Args:
        worker: The worker's id.
        bus: Hears of hooks that failed in a child.
    Raises: Refused: this process is itself a child of such a lane.
    """

    name = "process"

    def __init__(
        self, slots: int, shop: Shop, *, settings: Settings, worker: str, bus: EventBus
    ) -> None:
        refuse_in_child()
        self._shop = shop
        self._settings = settings
        self._worker, self._bus = worker, bus
        self._pool, self._lead = ChildPool(slots), Lead(slots)
        self._ready: deque[RunningJob] = deque()
        self._places: dict[str, tuple[str, str]] = {}
        self._measure_at = 0.0
        self._minder = ChildMinder(
            self._pool,
            shop.clock,
            make=self._make_child,
            waiting=self.backlog,
            give_up=self._give_up,
            chores=(self._close_overdue, self._close_too_big),
            crashed=shop.crashed,
        )

    # ---- the lane's contract ------------------------------------------------------------

    def start(self) -> None:
        """Start no child yet: most workers never need one."""
        if self._settings.max_memory_per_child is not None and not platforms.CAN_MEASURE:
            _LOG.warning("max_memory_per_child has no effect: this system does not tell it")

    def stop(self) -> None:
        """End all children, idle ones by themselves, and wait for their ends for a moment."""
        with self._pool.lock:
            for running in list(self._pool.busy):
                self._end_child_of(running)
            self._minder.close()
        self._minder.join()

    def free(self) -> int:
        """Return how many slots are not at work, those whose child is still starting included."""
        return self._pool.size - len(self._pool.busy)

    def room(self) -> int:
        """Return how many attempts to take, some ahead when they are quick."""
        return self._pool.size + self._lead.size - len(self._pool.busy) - len(self._ready)

    def backlog(self) -> int:
        """Return how many attempts wait for a child."""
        return len(self._ready)

    def submit(self, work: list[RunningJob]) -> None:
        """Run these attempts, in order, as children get free."""
        self._minder.start()
        self._ready.extend(work)
        self._dispatch()

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook in a thread of its own: it waits while a child calls the real one."""
        threading.Thread(target=hook, name="nuvom-hook", daemon=True).start()

    def take_back(self) -> list[RunningJob]:
        """Return, and forget, all attempts that wait for a child."""
        with self._pool.lock:
            taken = list(self._ready)
            self._ready.clear()
        return taken

    def close_attempt(self, running: RunningJob) -> None:
        """End the child of an attempt that somebody else closed, and no other child."""
        running.is_cancelled = True
        with self._pool.lock:
            others = [work for work in self._ready if work is not running]
            self._ready = deque(others)
            self._end_child_of(running)
        self._shop.idle()

    def stacks(self) -> dict[str, str]:
        """Return the stack of each busy child that answers in time, by job id."""
        clock = self._shop.clock
        asked = list(self._pool.busy.items())
        for _, child in asked:
            child.ask_stack(child.asked_at)
        ends_at = clock.monotonic() + _STACK_SECS
        while any(child.stack is None for _, child in asked) and clock.monotonic() < ends_at:
            clock.sleep(_STACK_SECS / 40)
        return {running.record.id: child.stack for running, child in asked if child.stack}

    def stuck(self) -> int:
        """Return how many killed children are still there."""
        return sum(child.was_killed for child in self._pool.unused())

    # ---- handing out --------------------------------------------------------------------

    def _dispatch(self) -> None:
        with self._pool.lock:
            while self._ready and self._pool.idle:
                work = self._ready.popleft()
                if self._shop.starts(work):
                    child = self._pool.assign(work)
                    child.post(partial(self._begin, child.token, work))
            is_short = self._pool.missing(len(self._ready)) > 0
        if is_short:
            self._minder.wake()

    def _begin(self, token: int, running: RunningJob) -> Run | None:
        """Note the start, in the child's own thread, and return what is sent to the child."""
        prepared = running.prepared
        if running.is_cancelled:
            return None
        if not running.started_at:  # else it was given to a child that died before it had it
            self._shop.runner.begin(running)
        if running.deadline < inf or self._settings.max_memory_per_child is not None:
            self._minder.wake()  # there is something to watch now
        record = self._shop.runner.handed_over(running.record)
        return Run(token, record, *self._place_of(prepared.definition))

    def _place_of(self, definition: TaskDefinition) -> tuple[str, str]:
        """Return the module and the qualified name that a child finds the task by."""
        place = self._places.get(definition.name)
        if place is None:
            func = definition.func
            qualname = getattr(func, "__qualname__", None) or type(func).__qualname__
            place = task_name(func).removesuffix(f".{qualname}"), qualname
            self._places[definition.name] = place
        return place

    def _make_child(self) -> ChildProcess:
        root = logging.getLogger()
        has_log = any(isinstance(handler, LogHandler) for handler in root.handlers)
        level = root.level if has_log else None
        companions = tuple(one.in_child for one in self._bus.companions if one.in_child)
        hello = Hello(self._settings.to_dict(), self._worker, level, companions)
        return ChildProcess(
            hello,
            clock=self._shop.clock,
            hear=self._hear,
            gone=self._gone,
            crashed=self._shop.crashed,
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
            case Unloadable():
                self._unloadable(child, frame)
            case Stack():
                if frame.token == child.token:
                    child.stack = frame.text
                    self._minder.wake()
            case Ready():
                self._minder.came_up(child)
                self._dispatch()
            case HooksCalled():
                child.hooks_called(frame.token)
                self._minder.wake()
            case _:
                self._tell_of_hook(child, frame)

    def _started(self, child: ChildProcess, frame: Started) -> None:
        work = self._pool.runs(child, frame.token)
        if work is not None:
            child.has_started = True
            secs = work.record.timeout_secs
            if secs is not None:  # the time until now was the child's, and its imports'
                work.deadline = self._shop.clock.monotonic() + secs

    def _ended(self, child: ChildProcess, frame: Ended) -> None:
        child.jobs += 1
        is_worn = self._is_worn(child)
        with self._pool.lock:
            running = self._pool.ended(child, frame.token, is_worn=is_worn)
            if running is None:
                return  # somebody closed it before
            if frame.has_hooks:
                due = child.owe_hooks(running)
                running.kept = KeptElsewhere(partial(self._call_hooks, child, due))
        self._lead.took(frame.settlement.finished_at - running.started_at)
        own = {"record": running.record, "started_at": running.started_at}
        self._close(running, replace(frame.settlement, **own))
        if is_worn:
            self._minder.retire(child)
        self._dispatch()
        self._shop.idle()

    def _is_worn(self, child: ChildProcess) -> bool:
        jobs, size = self._settings.max_jobs_per_child, self._settings.max_memory_per_child
        if jobs is not None and child.jobs >= jobs:
            return True
        return size is not None and (platforms.resident_bytes(child.pid) or 0) > size

    def _keep_progress(self, child: ChildProcess, frame: Progress) -> None:
        running = self._pool.runs(child, frame.token)
        is_ours, fault = False, ""
        if running is not None:
            services = running.services
            try:
                is_ours = services.report_progress(running, frame.done, frame.total, frame.text)
            except NuvomError as error:
                fault = error.what
        child.post(ProgressKept(frame.seq, is_ours, fault))

    def _unloadable(self, child: ChildProcess, frame: Unloadable) -> None:
        work = self._pool.ended(child, frame.token, is_worn=False)
        if work is not None:
            self._refuse(work, frame.reason)
        self._dispatch()
        self._shop.idle()

    def _give_up(self, reason: str) -> None:
        for work in self.take_back():
            self._refuse(work, reason)
        self._shop.idle()

    def _refuse(self, running: RunningJob, reason: str) -> None:
        """Leave a job, and all of its task, to workers that can load it."""
        runner = self._shop.runner
        runner.refused[running.record.func_name] = reason
        self._close(running, runner.unknown(running))

    def _close(self, running: RunningJob, settlement: Settlement) -> None:
        if self._shop.in_hand.take(running):
            self._shop.finish(running, settlement)

    # ---- hooks --------------------------------------------------------------------------

    def _call_hooks(self, child: ChildProcess, due: HooksDue, status: JobStatus) -> None:
        """Have a child call the hooks of an attempt whose settlement is committed."""
        child.post(CallHooks(due.token, status))
        due.are_over.wait()

    def _tell_of_hook(self, child: ChildProcess, frame: HookRaised) -> None:
        work = child.running
        known = [due.running for due in list(child.hooks_due.values())]
        if work is not None:
            known.append(work)
        for running in known:
            if running.record.id == frame.job_id and HookFailed in self._bus.active:
                self._bus.emit(HookFailed(running.record, frame.hook, frame.error))

    # ---- ends of children ---------------------------------------------------------------

    def _gone(self, child: ChildProcess, how: str) -> None:
        """Close the attempt of a child that has ended, as failed; another child takes its place."""
        with self._pool.lock:
            was_starting, work = self._pool.forget(child)
            # One that never had it did not fail it. It must have run others, though: an attempt
            # that ends each new child before it starts must not go round for ever.
            is_innocent = not child.has_started and child.jobs > 0
            if work is not None and is_innocent:
                self._ready.appendleft(work)
            for token in list(child.hooks_due):
                child.hooks_called(token)
        if was_starting:
            self._minder.failed_to_start(how)
        elif work is not None and not is_innocent:
            self._close(work, self._died(work, how))
            self._shop.idle()
        self._dispatch()
        self._minder.wake()

    def _died(self, running: RunningJob, how: str) -> Settlement:
        prepared = running.prepared
        name = WorkerChildDied.__name__
        error = StoredError(name, how, None, fingerprint(running.record.func_name, name))
        if prepared.has_hooks:
            running.kept = WorkerChildDied(how)
        return self._shop.runner.settlement(running, Failed(error), prepared.options)

    def _end_child_of(self, running: RunningJob, *, at_once: bool = False) -> None:
        child = self._pool.let_go(running)
        if child is not None:
            self._minder.end(child, at_once=at_once)

    # ---- times --------------------------------------------------------------------------

    def _close_overdue(self, now: float) -> float:
        """Close attempts past their deadline, once their child has said where their code is."""
        next_at = inf
        for running, child in list(self._pool.busy.items()):
            if child.asked_at is None and running.deadline <= now:
                child.ask_stack(now)
            if child.asked_at is None:
                next_at = min(next_at, running.deadline)
            elif child.stack is None and now < child.asked_at + _STACK_SECS:
                next_at = min(next_at, child.asked_at + _STACK_SECS)
            else:
                timed_out = self._shop.runner.timed_out
                outcome = partial(timed_out, running, child.stack or None)
                self._cut_off(running, outcome)
        return next_at

    def _close_too_big(self, now: float) -> float:
        """End children that take more memory than they may."""
        limit = self._settings.max_memory_per_child
        if limit is None or not platforms.CAN_MEASURE or not self._pool.busy:
            return inf
        if now >= self._measure_at:
            self._measure_at = now + _MEMORY_SECS
            for running, child in list(self._pool.busy.items()):
                size = platforms.resident_bytes(child.pid) or 0
                if size > limit:
                    how = f"killed at {size} bytes of memory; max_memory_per_child is {limit}"
                    self._cut_off(running, partial(self._died, running, how), at_once=True)
        return self._measure_at

    def _cut_off(
        self,
        running: RunningJob,
        outcome: Callable[[], Settlement],
        *,
        at_once: bool = False,
    ) -> None:
        """Close an attempt that still runs, and end its child."""
        if not self._pool.has(running) or not self._shop.in_hand.take(running):
            return  # it ended just in time
        running.is_cancelled = True
        self._end_child_of(running, at_once=at_once)
        self._shop.finish(running, outcome())
        self._shop.idle()
