"""What the worker asks of a lane, and what a lane asks of the worker.

A lane is the only place where task code runs: threads, the event loop, or child processes. It
turns attempts into settlements and never lets an exception out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nuvom.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.execution.job_runner import JobRunner
    from nuvom.execution.running import InHand, RunningJob


class Shop(NamedTuple):
    """What lanes share with their worker.

    Attributes:
        runner: Makes settlements of what happens.
        in_hand: Whoever takes an attempt out of it closes the attempt.
        starts: Called before an attempt starts; False when somebody has closed it meanwhile, or
            its lease has run out (the process was stopped, the machine slept).
        finish: Called, from any thread, with each closed attempt and what closes it; never
            blocks.
        idle: Called when a lane has run out of work.
        crashed: Called when the engine itself failed in a lane; the worker stops.
        settle: Does as ``finish``, but may block: for who has nothing else to do. None: nobody
            settles but the pump.
    """

    runner: JobRunner
    in_hand: InHand
    starts: Callable[[RunningJob], bool]
    clock: Clock
    finish: Callable[[RunningJob, Settlement], None]
    idle: Callable[[], None]
    crashed: Callable[[BaseException], None]
    settle: Callable[[RunningJob, Settlement], None] | None = None


class Lane(Protocol):
    """A way to run attempts. ``submit``, ``close_attempt`` and ``take_back`` never block.

    Before it starts an attempt a lane asks ``Shop.starts``, at a moment from which on
    ``close_attempt`` finds the attempt: so none that somebody else has closed is ever run.
    """

    name: str

    def start(self) -> None:
        """Make the slots; once."""
        ...

    def stop(self) -> None:
        """Let go of the slots; what still runs is left behind. Twice is fine."""
        ...

    def free(self) -> int:
        """Return how many further attempts could start at once."""
        ...

    def room(self) -> int:
        """Return how many attempts to submit at most: as many as are free, or a few more."""
        ...

    def backlog(self) -> int:
        """Return how many submitted attempts have not started."""
        ...

    def submit(self, work: list[RunningJob]) -> None:
        """Run these attempts, in order, as slots get free."""
        ...

    def take_back(self) -> list[RunningJob]:
        """Return, and forget, all submitted attempts that have not started."""
        ...

    def close_attempt(self, running: RunningJob) -> None:
        """Stop the code of an attempt that somebody else closed, as far as the lane can."""
        ...

    def stacks(self) -> dict[str, str]:
        """Return where the code of each running job is, by job id."""
        ...

    def stuck(self) -> int:
        """Return how many slots were replaced whose code still runs."""
        ...

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run user code after a commit, in a slot."""
        ...


def slots_for(name: str, given: int | None, default: int) -> int:
    """Return how many slots a lane gets; None means ``default``.

    Raises: InvalidSetting: it would have none.
    """
    if given is None:
        return default
    if given < 1:
        raise InvalidSetting(name, given, "1 or more", origin="Worker()")
    return given
