"""A thread lane without threads: an attempt starts, and some time later it ends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nuvom.execution.lanes import Lane
from nuvom.testing import history

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.outcome import Settlement
    from nuvom.execution.attempts import OpenAttempt
    from nuvom.execution.lanes import LaneHost, WorkerContext
    from tests.lab.simulation.world import Host

_RISE_SECS = 0.002  # a thread takes at most so long to wake up


class SimulatedLane(Lane):
    """What the loop takes for its thread lane.

    Args:
        secs_of: Returns how long the code of an attempt takes.
    """

    def __init__(
        self,
        size: int,
        context: WorkerContext,
        host: LaneHost,
        *,
        process: Host,
        secs_of: Callable[[OpenAttempt], float],
    ) -> None:
        super().__init__(size, context, host)
        self.is_thrifty = False
        self._process = process
        self._secs_of = secs_of
        self._busy: set[OpenAttempt] = set()
        self._rising = 0

    def stop(self) -> None:
        """Do nothing: there are no threads."""

    def free(self) -> int:
        """Return how many further attempts could start at once."""
        return self.size - len(self._busy) - self._rising

    def room(self) -> int:
        """Return how many slots have nothing to do."""
        return self.free() - len(self.ready)

    def submit(self, work: list[OpenAttempt]) -> None:
        """Start what slots are free for, a moment later."""
        self.ready.extend(work)
        self.nudge()

    def nudge(self) -> None:
        """Let free slots take what waits."""
        for _ in range(min(self.free(), len(self.ready))):
            self._rising += 1
            self._process.after(self._process.chance(_RISE_SECS), self._begin)

    def close_attempt(self, attempt: OpenAttempt) -> None:
        """Stop the code of an attempt that somebody else closed."""
        attempt.is_cancelled = True
        if attempt in self._busy:
            self._process.note(history.END, job=attempt.record.id)
            self._leave(attempt)

    def interrupt(self, attempt: OpenAttempt, error: type[Exception]) -> None:
        """Do nothing: there is no code."""

    def running(self) -> list[OpenAttempt]:
        """Return what has begun."""
        return list(self._busy)

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
        if not self.ready:
            self._host.idle()
            return
        attempt = self.ready.popleft()
        self._busy.add(attempt)
        if not self._host.may_start(attempt):
            self._leave(attempt)
            return
        self._context.runner.begin(attempt)
        world = self._process.world
        self._process.note(
            history.START,
            job=attempt.record.id,
            epoch=attempt.record.lease_epoch,
            is_early=attempt.record.run_at > max(world.wall, world.latest_wall),
        )
        secs = self._secs_of(attempt)
        left = attempt.deadline - world.now
        ends = self._overdue if left < secs else self._code_ended
        self._process.after(min(secs, left), partial(ends, attempt))

    def _code_ended(self, attempt: OpenAttempt) -> None:
        if attempt not in self._busy:
            return
        self._process.note(history.END, job=attempt.record.id)
        settlement = self._outcome(attempt)
        was_mine = self._context.attempts.close(attempt)
        self._leave(attempt)
        if was_mine:
            self._host.finish(attempt, settlement)

    def _outcome(self, attempt: OpenAttempt) -> Settlement:
        """Call the function, which takes no time; its result names the attempt that it is of."""
        runner, task = self._context.runner, attempt.task
        args, kwargs = task.decode(attempt.record.args, attempt.record.kwargs)
        if kwargs.get("fails") and attempt.record.attempt == 1:
            # Never raised: a traceback costs more than all the rest of the job.
            return runner.failed(attempt, ValueError("the first attempt fails"))
        value = task.func(*args, **kwargs)
        return runner.succeeded(attempt, [value, attempt.record.lease_epoch])

    def _overdue(self, attempt: OpenAttempt) -> None:
        if attempt in self._busy and self._context.attempts.close(attempt):
            self.close_attempt(attempt)
            settlement = self._context.runner.timed_out(attempt, None)
            self._host.finish(attempt, settlement)

    def _leave(self, attempt: OpenAttempt) -> None:
        self._busy.remove(attempt)
        if self.ready:
            self.nudge()
        else:
            self._host.idle()
