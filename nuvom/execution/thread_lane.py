"""The thread lane: slots that run jobs in daemon threads, and the watchdog for their deadlines.

``submit`` works as for an executor. But ``ThreadPoolExecutor`` joins stuck threads when the
process ends and cannot replace one; this lane does the opposite. A thread cannot be killed. So at
the deadline the attempt is closed, an exception is raised in the thread when it next runs the
task's Python code, and another thread takes over its slot at once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from nuvom.core.guard import Guard
from nuvom.core.signals import SoftTimeout
from nuvom.execution.attempts import GONE
from nuvom.execution.failures import current_frames, stack_of
from nuvom.execution.lanes import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.guard import Closable
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.execution.lanes import LaneHost, WorkerContext

_LOOK_SECS = 0.05  # until code is interrupted again, or a starting attempt is checked
_IDLE_LOOK_SECS = 0.5
_HOOK_SECS = 30.0  # for a hook after the commit; then its slot is given to others
_LOG = logging.getLogger("nuvom.worker")


class ThreadLane(Lane):
    """Runs attempts in ``slots`` threads.

    All slots take from one queue, so that no job waits behind a slow one. An idle slot sleeps
    on its own lock. A caller that submits work wakes one slot, and each slot wakes the next if
    work is left.

    Attributes:
        is_thrifty: Jobs are so quick that one slot is as fast as several. Slots then do not
            wake each other, and the caller uses ``nudge`` when the backlog stops shrinking.
    """

    def __init__(self, slots: int, context: WorkerContext, host: LaneHost) -> None:
        super().__init__(slots, context, host)
        self._hooks: deque[Callable[[], Any]] = deque()
        self._idle: deque[_Slot] = deque()
        self._slots: set[_Slot] = set()
        self._left_behind: list[_Slot] = []
        self._untold: list[tuple[_Slot, Closable]] = []  # were inside the engine when closed
        self._interruptions: list[tuple[_Slot, OpenAttempt, type[Exception]]] = []  # still to make
        self._replacing = threading.Lock()
        self.is_thrifty = False
        self._is_stopping = False
        self._watch = threading.Event()
        self._looks_at = inf  # when the watchdog looks next

    # ---- the lane's contract ------------------------------------------------------------

    def start(self) -> None:
        """Start the slots and the watchdog."""
        for _ in range(self.size):
            self._add_slot()
        threading.Thread(target=self._watch_deadlines, name="nuvom-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Let idle slots end; busy ones are daemon threads and end with the process."""
        self._is_stopping = True
        self._watch.set()
        for slot in list(self._slots):
            slot.wake()

    def free(self) -> int:
        """Return how many slots are idle."""
        return len(self._idle)

    def room(self) -> int:
        """Return how many slots have nothing to do."""
        return len(self._idle) - len(self.ready)

    def submit(self, work: list[OpenAttempt]) -> None:
        """Run these attempts, in order, as slots become free."""
        self.ready.extend(work)
        self.nudge()

    def nudge(self) -> None:
        """Wake one more slot; when all are busy, the next to finish takes the work."""
        try:
            slot = self._idle.popleft()
        except IndexError:
            return
        slot.wake()

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook in a slot, ahead of the waiting jobs."""
        self._hooks.append(hook)
        self.nudge()

    def close_attempt(self, attempt: OpenAttempt) -> None:
        """Give the slot of a closed attempt to another thread, and interrupt the old one."""
        attempt.is_cancelled = attempt.is_closed = True
        with self._replacing:
            for slot in list(self._slots):
                if slot.attempt is attempt:
                    self._replace(slot, attempt)

    def interrupt(self, attempt: OpenAttempt, error: type[Exception]) -> None:
        """Have the watchdog raise an exception in the thread of an attempt."""
        with self._replacing:
            self._interruptions += [
                (slot, attempt, error) for slot in self._slots if slot.attempt is attempt
            ]
        self._watch.set()

    def running(self) -> list[OpenAttempt]:
        """Return the attempt of each busy slot."""
        return [one for one in (slot.attempt for slot in list(self._slots)) if one is not None]

    def stacks(self) -> dict[str, str]:
        """Return the stack of each busy slot, by job id."""
        frames = current_frames()
        found = {}
        for slot in list(self._slots):
            attempt, frame = slot.attempt, frames.get(slot.ident)
            if attempt is not None and frame is not None:
                found[attempt.record.id] = stack_of(frame)
        return found

    def stuck(self) -> int:
        """Return how many threads still run the code of a closed attempt."""
        if self._left_behind:
            self._left_behind = [slot for slot in self._left_behind if slot.is_alive()]
        return len(self._left_behind)

    # ---- slots --------------------------------------------------------------------------

    def _add_slot(self) -> None:
        slot = _Slot(self._serve, self._host.crashed)
        self._slots.add(slot)
        slot.start()

    def _serve(self, slot: _Slot) -> None:
        """Run attempts until the lane stops or someone else closes this slot's attempt."""
        ready, hooks, idle, host = self.ready, self._hooks, self._idle, self._host
        may_start, run, settle = host.may_start, self._runner.run, host.settle_now
        close = self._attempts.unclosed.pop
        guard = slot.guard
        work = settlement = None
        while not self._is_stopping:
            if hooks and not self._run_next_hook(slot):
                return
            try:
                work = ready.popleft()
            except IndexError:
                work = settlement = None  # a result may be large, and this slot may sleep for long
                host.idle()
                self._sleep(slot)
                continue
            if ready and idle and not self.is_thrifty:
                self.nudge()
            slot.attempt = work  # first, so that whoever closes it can find it here
            if work.record.timeout_secs is not None:
                self._expect(work.record.timeout_secs)
            if work.record.soft_timeout_secs is not None:
                self._expect(work.record.soft_timeout_secs)
            if may_start(work):
                settlement = run(work, guard)
                if close(work, GONE) is None:
                    slot.attempt = None
                    settle(work, settlement)
                    continue
            if not self._is_kept(slot):
                return

    def _sleep(self, slot: _Slot) -> None:
        """Sleep until there is work, unless some has already arrived."""
        self._idle.append(slot)
        if self.ready or self._hooks:
            try:
                self._idle.remove(slot)
            except ValueError:  # another thread is waking this slot
                pass
            else:
                return
        slot.sleep()

    def _run_next_hook(self, slot: _Slot) -> bool:
        """Call the hook that has waited longest, if any; return whether this slot keeps running."""
        try:
            hook = self._hooks.popleft()
        except IndexError:  # another slot took it
            return True
        slot.hook_ends_at = self._clock.monotonic() + _HOOK_SECS
        hook()
        return self._is_kept(slot)

    def _is_kept(self, slot: _Slot) -> bool:
        """Clear a slot whose work someone else may have closed; False if it was replaced."""
        with self._replacing:
            slot.attempt = slot.hook_ends_at = None
            return slot in self._slots

    def _replace(self, slot: _Slot, code: Closable | None) -> None:
        """Replace the thread of a slot whose code is closed. Called under the lock."""
        self._slots.discard(slot)
        self._left_behind.append(slot)
        if not self._is_stopping:
            self._add_slot()
        if code is not None and not slot.guard.close(code):
            self._untold.append((slot, code))
            self._watch.set()

    # ---- the watchdog -------------------------------------------------------------------

    def _expect(self, secs: float) -> None:
        """Make the watchdog look in time for a deadline that is about to be set."""
        if self._clock.monotonic() + secs < self._looks_at:
            self._watch.set()

    def _watch_deadlines(self) -> None:
        try:
            while not self._is_stopping:
                self._watch.clear()
                self._looks_at = inf  # after this, starting an attempt makes us look again
                now = self._clock.monotonic()
                looks_at = min(self._close_overdue(now), self._tell_again(now))
                self._looks_at = looks_at
                self._clock.wait(self._watch, max(0.0, looks_at - self._clock.monotonic()))
        except Exception as error:  # noqa: BLE001  # outermost: without the watchdog no deadline would be enforced
            self._host.crashed(error)

    def _close_overdue(self, now: float) -> float:
        """Close attempts past their deadline; return when to look again."""
        looks_at = now + _IDLE_LOOK_SECS
        for slot in list(self._slots):
            if slot.hook_ends_at is not None and slot.hook_ends_at <= now:
                self._leave_hook(slot)
            attempt = slot.attempt
            if attempt is None or not attempt.record.has_time_limit:
                continue
            if attempt.soft_deadline <= now:
                attempt.soft_deadline = inf
                self.interrupt(attempt, SoftTimeout)
            if attempt.deadline <= now:
                timed_out = self._runner.timed_out
                self._cut_off(attempt, partial(timed_out, attempt, _stack_of(slot)))
            elif not attempt.started_at:  # it is about to start
                looks_at = min(looks_at, now + _LOOK_SECS)
            else:
                looks_at = min(looks_at, attempt.deadline, attempt.soft_deadline)
        return looks_at

    def _tell_again(self, now: float) -> float:
        """Interrupt code that was inside the engine earlier; return when to look again."""
        if not (self._untold or self._interruptions):
            return inf
        with self._replacing:
            self._untold = [
                (slot, code)
                for slot, code in self._untold
                if slot.is_alive() and not slot.guard.close(code)
            ]
            self._interruptions = [
                (slot, attempt, error)
                for slot, attempt, error in self._interruptions
                if slot.attempt is attempt and not slot.guard.interrupt(attempt, error)
            ]
        return now + _LOOK_SECS

    def _leave_hook(self, slot: _Slot) -> None:
        stack = _stack_of(slot)
        with self._replacing:
            if slot not in self._slots or slot.hook_ends_at is None:
                return  # it ended just in time
            slot.hook_ends_at = None
            self._replace(slot, slot.guard.code)
        _LOG.warning(
            "a hook was left behind after %g s; it is at:\n%s",
            _HOOK_SECS,
            stack,
            extra={"event": "hook.left_behind"},
        )


def _stack_of(slot: _Slot) -> str | None:
    frame = current_frames().get(slot.ident)
    return None if frame is None else stack_of(frame)


class _Slot:
    """One thread, with the lock that it sleeps on while it is idle."""

    def __init__(
        self, serve: Callable[[_Slot], None], crashed: Callable[[BaseException], None]
    ) -> None:
        self._serve = serve
        self._crashed = crashed
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._thread = threading.Thread(target=self._main, name="nuvom-slot", daemon=True)
        self.start, self.is_alive = self._thread.start, self._thread.is_alive
        self.sleep = self._asleep.acquire
        self.guard = Guard()
        self.attempt: OpenAttempt | None = None
        self.hook_ends_at: float | None = None

    @property
    def ident(self) -> int:
        return self._thread.ident or 0

    def wake(self) -> None:
        try:  # noqa: SIM105  # ``suppress`` is slower, and the slot would wait for it
            self._asleep.release()
        except RuntimeError:  # already woken
            pass

    def _main(self) -> None:
        try:
            self.guard.run(self._serve, self)
        except Exception as error:  # noqa: BLE001  # outermost: an engine bug must not pass silently
            self._crashed(error)
