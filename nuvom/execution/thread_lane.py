"""The thread lane: slots that run jobs in daemon threads, and the watchdog of their deadlines.

``submit`` is the contract of an executor, but ``ThreadPoolExecutor`` joins stuck threads when
the process ends and cannot replace one; this lane does the opposite. A thread cannot be killed:
at the deadline the attempt is closed, an exception is raised in the thread when it next runs
Python code of the task's, and another thread takes its slot at once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from nuvom.core.guard import Guard
from nuvom.execution.failures import current_frames, stack_of
from nuvom.execution.running import RunningJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.guard import Closable
    from nuvom.execution.lanes import Shop

_TICK_SECS = 0.05  # how late a deadline may be noticed
_IDLE_TICK_SECS = 0.5
_HOOK_SECS = 30.0  # for a hook after the commit, whose slot then goes to others
_LOG = logging.getLogger("nuvom.worker")


class ThreadLane:
    """Runs attempts in ``slots`` threads.

    All slots take from one queue, so that nobody waits behind a slow job. An idle slot sleeps
    on a lock of its own; whoever brings work wakes one, and each wakes the next if work is left.

    Attributes:
        size: How many slots there are.
        is_thrifty: Jobs are so quick that one slot does them as fast as several would: slots
            do not wake each other, and whoever sees the backlog stand still calls ``nudge``.
    """

    name = "thread"

    def __init__(self, slots: int, shop: Shop) -> None:
        self.size = slots
        self._shop = shop
        self._ready: deque[RunningJob | Callable[[], Any]] = deque()
        self._idle: deque[_Slot] = deque()
        self._slots: set[_Slot] = set()
        self._left_behind: list[_Slot] = []
        self._untold: list[tuple[_Slot, Closable]] = []  # who was inside the engine at the time
        self._replacing = threading.Lock()
        self.is_thrifty = False
        self._is_stopping = False
        self._watch = threading.Event()

    # ---- the lane's contract ------------------------------------------------------------

    def start(self) -> None:
        """Make the slots and the watchdog."""
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
        return len(self._idle) - len(self._ready)

    def backlog(self) -> int:
        """Return how many attempts wait for a slot."""
        return len(self._ready)

    def submit(self, work: list[RunningJob]) -> None:
        """Run these attempts, in order, as slots get free."""
        self._ready.extend(work)
        self._wake_one()

    def nudge(self) -> None:
        """Wake one more slot."""
        self._wake_one()

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook in a slot, before the jobs that wait."""
        self._ready.appendleft(hook)
        self._wake_one()

    def take_back(self) -> list[RunningJob]:
        """Return, and forget, all attempts that wait for a slot."""
        taken: list[RunningJob] = []
        hooks = []
        while self._ready:
            try:
                work = self._ready.pop()
            except IndexError:  # a slot was faster
                break
            if isinstance(work, RunningJob):
                taken.append(work)
            else:
                hooks.append(work)
        self._ready.extend(reversed(hooks))
        return taken[::-1]

    def close_attempt(self, running: RunningJob) -> None:
        """Give the slot of a closed attempt to another thread, and tell the old one."""
        running.is_cancelled = running.is_closed = True
        with self._replacing:
            for slot in list(self._slots):
                if slot.running is running:
                    self._replace(slot, running)

    def stacks(self) -> dict[str, str]:
        """Return the stack of each busy slot, by job id."""
        frames = current_frames()
        found = {}
        for slot in list(self._slots):
            running, frame = slot.running, frames.get(slot.ident)
            if running is not None and frame is not None:
                found[running.record.id] = stack_of(frame)
        return found

    def stuck(self) -> int:
        """Return how many threads still run the code of a closed attempt."""
        self._left_behind = [slot for slot in self._left_behind if slot.is_alive()]
        return len(self._left_behind)

    # ---- slots --------------------------------------------------------------------------

    def _add_slot(self) -> None:
        slot = _Slot(self._serve, self._shop.crashed)
        self._slots.add(slot)
        slot.start()

    def _wake_one(self) -> None:
        try:
            slot = self._idle.popleft()
        except IndexError:  # all are busy: the next to finish takes the work
            return
        slot.wake()

    def _serve(self, slot: _Slot) -> None:
        """Run attempts until the lane stops, or until somebody else closed this slot's attempt."""
        ready, idle, shop = self._ready, self._idle, self._shop
        starts, run, take = shop.starts, shop.runner.run, shop.in_hand.take
        settle = shop.settle or shop.finish
        guard = slot.guard
        work = settlement = None
        while not self._is_stopping:
            try:
                work = ready.popleft()
            except IndexError:
                work = settlement = None  # a result may be large, and this slot sleep for long
                shop.idle()
                idle.append(slot)
                if not ready or not self._leaves_idle(slot):
                    slot.sleep()
                continue
            if ready and idle and not self.is_thrifty:
                self._wake_one()
            if not isinstance(work, RunningJob):
                if not self._call(slot, work):
                    return
                continue
            slot.running = work  # first: from now on its closer finds it here
            if starts(work):
                settlement = run(work, guard)
                if take(work):
                    slot.running = None
                    settle(work, settlement)
                    continue
            if not self._is_kept(slot):
                return

    def _leaves_idle(self, slot: _Slot) -> bool:
        """Stay up for work that came while lying down; False when a waker has picked this slot."""
        try:
            self._idle.remove(slot)
        except ValueError:
            return False
        return True

    def _call(self, slot: _Slot, hook: Callable[[], Any]) -> bool:
        """Call a hook; return whether this slot goes on."""
        slot.hook_ends_at = self._shop.clock.monotonic() + _HOOK_SECS
        hook()
        return self._is_kept(slot)

    def _is_kept(self, slot: _Slot) -> bool:
        """Clear a slot whose work somebody else may have closed; False when it was replaced."""
        with self._replacing:
            slot.running = slot.hook_ends_at = None
            return slot in self._slots

    def _replace(self, slot: _Slot, code: Closable | None) -> None:
        """Put another thread in the place of one whose code is closed; under the lock."""
        self._slots.discard(slot)
        self._left_behind.append(slot)
        if not self._is_stopping:
            self._add_slot()
        if code is not None and not slot.guard.close(code):
            self._untold.append((slot, code))

    def _tell_again(self) -> None:
        with self._replacing:
            self._untold = [
                (slot, code)
                for slot, code in self._untold
                if slot.is_alive() and not slot.guard.close(code)
            ]

    # ---- deadlines ----------------------------------------------------------------------

    def _watch_deadlines(self) -> None:
        try:
            while not self._is_stopping:
                has_deadlines = self._close_overdue()
                if self._untold:
                    self._tell_again()
                    has_deadlines = True
                self._shop.clock.wait(self._watch, _TICK_SECS if has_deadlines else _IDLE_TICK_SECS)
        except Exception as error:  # noqa: BLE001  # outermost: without it no deadline would be kept
            self._shop.crashed(error)

    def _close_overdue(self) -> bool:
        now = self._shop.clock.monotonic()
        has_deadlines = False
        for slot in list(self._slots):
            if slot.hook_ends_at is not None and slot.hook_ends_at <= now:
                self._leave_hook(slot)
            running = slot.running
            if running is None or running.record.timeout_secs is None:
                continue
            has_deadlines = True
            if running.deadline <= now:
                self._close_overdue_one(slot, running)
        return has_deadlines

    def _close_overdue_one(self, slot: _Slot, running: RunningJob) -> None:
        stack = _stack_of(slot)
        shop = self._shop
        if not shop.in_hand.take(running):
            return  # it ended just in time
        self.close_attempt(running)
        shop.finish(running, shop.runner.timed_out(running, stack))

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
        self._bed = threading.Lock()
        self._bed.acquire()
        self._thread = threading.Thread(target=self._main, name="nuvom-slot", daemon=True)
        self.guard = Guard()
        self.running: RunningJob | None = None
        self.hook_ends_at: float | None = None

    @property
    def ident(self) -> int:
        return self._thread.ident or 0

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def sleep(self) -> None:
        self._bed.acquire()

    def wake(self) -> None:
        try:  # noqa: SIM105  # whoever wakes it has it wait for the rest of this
            self._bed.release()
        except RuntimeError:  # woken twice: once is enough
            pass

    def _main(self) -> None:
        try:
            self.guard.run(self._serve, self)
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._crashed(error)
