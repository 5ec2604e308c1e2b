"""A lane whose code is loaded when there is work for it: most workers have none.

The event loop and the child processes take a sixth of a worker's start to load. A worker whose
project has tasks for such a lane loads it while it starts.
"""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any

from nuvom.execution.childhood import refuse_in_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.config.settings import Settings
    from nuvom.events import EventBus
    from nuvom.execution.lanes import Lane, Shop
    from nuvom.execution.running import RunningJob


class LateLane:
    """Stands for a lane of ``slots`` idle slots, and hands everything on to it once it is there.

    Args:
        make: Loads and makes it.
    """

    def __init__(self, name: str, slots: int, make: Callable[[], Lane]) -> None:
        self.name = name
        self._slots = slots
        self._make = make
        self._lane: Lane | None = None
        self._has_started = False
        self._loading = Lock()

    def load(self) -> Lane:
        """Return the lane itself, made at the first call."""
        with self._loading:
            if self._lane is None:
                lane = self._make()
                if self._has_started:
                    lane.start()
                self._lane = lane
            return self._lane

    def start(self) -> None:
        """Start the lane, or have it started when it is made."""
        self._has_started = True
        if self._lane is not None:
            self._lane.start()

    def stop(self) -> None:
        """Let go of the slots, if there are any."""
        if self._lane is not None:
            self._lane.stop()

    def free(self) -> int:
        """Return how many further attempts could start at once."""
        return self._slots if self._lane is None else self._lane.free()

    def room(self) -> int:
        """Return how many attempts to submit at most."""
        return self._slots if self._lane is None else self._lane.room()

    def backlog(self) -> int:
        """Return how many submitted attempts have not started."""
        return 0 if self._lane is None else self._lane.backlog()

    def submit(self, work: list[RunningJob]) -> None:
        """Run these attempts, in order, as slots get free."""
        self.load().submit(work)

    def take_back(self) -> list[RunningJob]:
        """Return, and forget, all submitted attempts that have not started."""
        return [] if self._lane is None else self._lane.take_back()

    def close_attempt(self, running: RunningJob) -> None:
        """Stop the code of an attempt that somebody else closed, as far as the lane can."""
        if self._lane is None:  # it was never submitted
            running.is_cancelled = True
        else:
            self._lane.close_attempt(running)

    def stacks(self) -> dict[str, str]:
        """Return where the code of each running job is, by job id."""
        return {} if self._lane is None else self._lane.stacks()

    def stuck(self) -> int:
        """Return how many slots were replaced whose code still runs."""
        return 0 if self._lane is None else self._lane.stuck()

    def run_hook(self, hook: Callable[[], Any]) -> None:
        """Run user code after a commit, in a slot."""
        self.load().run_hook(hook)


def async_lane(slots: int, shop: Shop, *, is_needed: bool) -> LateLane:
    """Return the async lane, loaded if it is known to be needed."""

    def make() -> Lane:
        lane: Lane = import_module("nuvom.execution.async_lane").AsyncLane(slots, shop)
        return lane

    lane = LateLane("async", slots, make)
    if is_needed:
        lane.load()
    return lane


def process_lane(
    slots: int, shop: Shop, *, settings: Settings, worker: str, bus: EventBus
) -> LateLane:
    """Return the process lane, loaded if a setting speaks of children; see ``ProcessLane``.

    Raises: Refused: this process is itself a child of such a lane.
    """

    def make() -> Lane:
        module = import_module("nuvom.execution.process_lane")
        lane: Lane = module.ProcessLane(slots, shop, settings=settings, worker=worker, bus=bus)
        return lane

    refuse_in_child()
    lane = LateLane("process", slots, make)
    if settings.max_memory_per_child is not None:
        lane.load()
    return lane
