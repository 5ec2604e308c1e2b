"""What a worker's parts share, and the interface between a worker and its lanes.

Task code runs only in lanes: threads, the event loop, or child processes. A lane turns attempts
into settlements and never lets an exception escape.
"""

from __future__ import annotations

import logging
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from nuvom.core.signals import JobStopping
from nuvom.errors import InvalidSetting, Refused
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nuvom.config.settings import Settings
    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.events import EventBus
    from nuvom.execution.attempts import AttemptServices, OpenAttempt, OpenAttempts
    from nuvom.execution.job_runner import JobRunner
    from nuvom.execution.settlement import Stores
    from nuvom.queue_backends.base import BaseJobQueue

_LOG = get_logger("nuvom.worker")
# The program of a child process. A child imports what its worker would: the path is set first,
# before any of our modules is imported.
CHILD_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from nuvom.execution.child import main; main()"
)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What the parts of one worker share.

    Attributes:
        worker: The worker's id, under which it claims.
        services: What running code may ask of its worker.
        lease_secs: How long a claim holds without a heartbeat; ``inf`` without leases.
    """

    worker: str
    services: AttemptServices
    queue: BaseJobQueue
    stores: Stores
    runner: JobRunner
    settings: Settings
    clock: Clock
    bus: EventBus
    attempts: OpenAttempts
    lease_secs: float


class LaneHost(Protocol):
    """What a lane may call on its worker, from any thread. Only ``settle_now`` may block."""

    def may_start(self, attempt: OpenAttempt) -> bool:
        """Return whether an attempt may start.

        False when someone has closed it in the meantime, or when its lease has run out (the
        process was stopped, the machine slept). Call it only once ``close_attempt`` can find the
        attempt, so that an attempt closed by someone else is never run.
        """

    def finish(self, attempt: OpenAttempt, settlement: Settlement) -> None:
        """Take a closed attempt and the settlement that closes it."""

    def settle_now(self, attempt: OpenAttempt, settlement: Settlement) -> None:
        """Do as ``finish``, or settle the attempt in this thread, which is otherwise idle."""

    def idle(self) -> None:
        """Note that a lane has run out of work."""

    def crashed(self, error: BaseException) -> None:
        """Stop the worker because the engine itself failed in a lane."""


class Lane(ABC):
    """A way to run attempts. ``submit``, ``close_attempt`` and ``take_back`` never block.

    Attributes:
        size: How many slots there are.
        ready: The submitted attempts that have not started.
    """

    def __init__(self, slots: int, context: WorkerContext, host: LaneHost) -> None:
        self.size = slots
        self._context, self._host = context, host
        self._clock, self._runner, self._attempts = context.clock, context.runner, context.attempts
        self.ready: deque[OpenAttempt] = deque()

    def start(self) -> None:  # most lanes start with their first attempt
        """Start what is needed from the beginning. Called once."""

    @abstractmethod
    def stop(self) -> None:
        """Give up the slots; what still runs is left behind. Idempotent."""

    @abstractmethod
    def free(self) -> int:
        """Return how many more attempts could start now."""

    def room(self) -> int:
        """Return how many attempts may be submitted: as many as are free, or a few more."""
        return self.free()

    @abstractmethod
    def submit(self, work: list[OpenAttempt]) -> None:
        """Run these attempts, in order, as slots become free."""

    def take_back(self) -> list[OpenAttempt]:
        """Remove and return all submitted attempts that have not started."""
        taken = []
        while self.ready:
            try:
                taken.append(self.ready.popleft())
            except IndexError:  # a slot took it first
                break
        return taken

    @abstractmethod
    def close_attempt(self, attempt: OpenAttempt) -> None:
        """Stop the code of an attempt that someone else closed, as far as the lane can."""

    @abstractmethod
    def interrupt(self, attempt: OpenAttempt, error: type[Exception]) -> None:
        """Raise ``error()`` in the code of a running attempt, which may handle it; never blocks."""

    @abstractmethod
    def running(self) -> list[OpenAttempt]:
        """Return the attempts whose code runs, or is about to."""

    def tell_stopping(self) -> None:
        """Raise ``JobStopping`` in the code of tasks that asked for it."""
        for attempt in self.running():
            if attempt.task.options.interrupt_on_stop:
                self.interrupt(attempt, JobStopping)

    @abstractmethod
    def stacks(self) -> dict[str, str]:
        """Return where the code of each running job is, by job id."""

    @abstractmethod
    def stuck(self) -> int:
        """Return how many slots were replaced whose code still runs."""

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run a hook after the commit; it may block."""
        run_in_thread(hook)

    def _end(self, attempt: OpenAttempt, settlement: Settlement) -> None:
        """Close an attempt whose code has ended, unless someone else already has."""
        if self._attempts.close(attempt):
            self._host.finish(attempt, settlement)

    def _cut_off(self, attempt: OpenAttempt, outcome: Callable[[], Settlement]) -> bool:
        """Close an attempt that still runs, and stop its code; False if it ended just in time."""
        if not self._attempts.close(attempt):
            return False
        # First: whatever its code ends with after this is not an outcome.
        attempt.is_cancelled = attempt.is_closed = True
        self._host.finish(attempt, outcome())
        self.close_attempt(attempt)
        return True


def make_lane(name: str, slots: int, context: WorkerContext, host: LaneHost) -> Lane:
    """Return a new lane: ``thread``, ``async`` or ``process``.

    Its code is loaded only now. Most workers need neither an event loop nor child processes, and
    loading these takes a sixth of a worker's startup time.
    """
    module = import_module(f"nuvom.execution.{name}_lane")
    lane: Lane = getattr(module, f"{name.capitalize()}Lane")(slots, context, host)
    return lane


def run_in_thread(hook: Callable[[], Any]) -> None:
    """Call a hook in its own thread, for a lane whose slots must not wait for it."""
    threading.Thread(target=hook, name="nuvom-hook", daemon=True).start()


def log_stacks(lanes: Iterable[Lane]) -> None:
    """Log the stack of each running job."""
    for lane in lanes:
        for job_id, stack in lane.stacks().items():
            fields = {"job_id": job_id, "traceback": stack}
            log_event(_LOG, logging.INFO, "worker.stacks", "where a job is", fields=fields)


def slots_for(name: str, given: int | None, default: int) -> int:
    """Return how many slots a lane gets; None means ``default``.

    Raises: InvalidSetting: it would have no slots.
    """
    if given is None:
        return default
    if given < 1:
        raise InvalidSetting(name, given, "1 or more", origin="Worker()")
    return given


def refuse_in_child() -> None:
    """Raises: Refused: this process is a child of a process lane, and would start another."""
    if CHILD_PROGRAM in sys.orig_argv:
        raise Refused(
            "a child of the process lane was about to start a worker",
            "A module with tasks must start none when it is imported: put that part of it "
            "under `if __name__ == '__main__':`.",
        )
