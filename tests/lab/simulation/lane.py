"""A thread lane without threads: an attempt starts, and some time later it ends."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from nuvom.testing import history

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.outcome import Settlement
    from nuvom.execution.lanes import Shop
    from nuvom.execution.running import RunningJob
    from tests.lab.simulation.world import Host

_RISE_SECS = 0.002  # a thread takes at most so long to wake up


class SimulatedLane:
    """What the pump takes for its thread lane.

    Args:
        secs_of: Returns how long the code of an attempt takes.
    """

    name = "thread"

    def __init__(
        self, size: int, shop: Shop, process: Host, secs_of: Callable[[RunningJob], float]
    ) -> None:
        self.size = size
        self.is_thrifty = False
        self._shop = shop
        self._process = process
        self._secs_of = secs_of
        self._ready: deque[RunningJob] = deque()
        self._busy: set[RunningJob] = set()
        self._rising = 0

    def start(self) -> None:
        """Do nothing: there are no threads."""

    def stop(self) -> None:
        """Do nothing, likewise."""

    def free(self) -> int:
        """Return how many further attempts could start at once."""
        return self.size - len(self._busy) - self._rising

    def room(self) -> int:
        """Return how many slots have nothing to do."""
        return self.free() - len(self._ready)

    def backlog(self) -> int:
        """Return how many attempts wait."""
        return len(self._ready)

    def submit(self, work: list[RunningJob]) -> None:
        """Start what slots are free for, a moment later."""
        self._ready.extend(work)
        self.nudge()

    def nudge(self) -> None:
        """Let free slots take what waits."""
        for _ in range(min(self.free(), len(self._ready))):
            self._rising += 1
            self._process.after(self._process.chance(_RISE_SECS), self._begin)

    def take_back(self) -> list[RunningJob]:
        """Return, and forget, what waits."""
        taken = list(self._ready)
        self._ready.clear()
        return taken

    def close_attempt(self, running: RunningJob) -> None:
        """Stop the code of an attempt that somebody else closed."""
        running.is_cancelled = True
        if running in self._busy:
            self._process.note(history.END, job=running.record.id)
            self._leave(running)

    def stacks(self) -> dict[str, str]:
        """Return nothing: there is no code."""
        return {}

    def stuck(self) -> int:
        """Return 0: this code can be stopped."""
        return 0

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook a moment later."""
        self._process.after(0.0, hook)

    def _begin(self) -> None:
        self._rising -= 1
        if not self._ready:
            self._shop.idle()
            return
        running = self._ready.popleft()
        self._busy.add(running)
        if not self._shop.starts(running):
            self._leave(running)
            return
        self._shop.runner.begin(running)
        world = self._process.world
        self._process.note(
            history.START,
            job=running.record.id,
            epoch=running.record.lease_epoch,
            is_early=running.record.run_at > max(world.wall, world.latest_wall),
        )
        secs = self._secs_of(running)
        left = running.deadline - world.now
        ends = self._overdue if left < secs else self._end
        self._process.after(min(secs, left), partial(ends, running))

    def _end(self, running: RunningJob) -> None:
        if running not in self._busy:
            return
        self._process.note(history.END, job=running.record.id)
        settlement = self._outcome(running)
        was_mine = self._shop.in_hand.take(running)
        self._leave(running)
        if was_mine:
            self._shop.finish(running, settlement)

    def _outcome(self, running: RunningJob) -> Settlement:
        """Call the function, which takes no time; its result names the attempt that it is of."""
        runner, prepared = self._shop.runner, running.prepared
        args, kwargs = prepared.decode(running.record.args, running.record.kwargs)
        if kwargs.get("fails") and running.record.attempt == 1:
            # Never raised: a traceback costs more than all the rest of the job.
            return runner.failed(running, ValueError("the first attempt fails"))
        value = prepared.func(*args, **kwargs)
        return runner.succeeded(running, [value, running.record.lease_epoch])

    def _overdue(self, running: RunningJob) -> None:
        if running in self._busy and self._shop.in_hand.take(running):
            self.close_attempt(running)
            settlement = self._shop.runner.timed_out(running, None)
            self._shop.finish(running, settlement)

    def _leave(self, running: RunningJob) -> None:
        self._busy.remove(running)
        if self._ready:
            self.nudge()
        else:
            self._shop.idle()
