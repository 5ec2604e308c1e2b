"""Schedulers that share a store on virtual time, and die in the middle of a fire.

Single-threaded, as ``tests.lab.simulation``: a scheduler is an entry of the agenda that takes a
step and puts itself back. What would happen at the same moment on two machines happens inside of a
call: between a scheduler's look and its write another one may take a whole step.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nuvom.core.clock import Clock
from nuvom.host import crashpoint
from nuvom.scheduler.service import Scheduler
from tests.lab.simulation.link import ProcessKilled
from tests.lab.simulation.world import VirtualClock, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.runtime import Runtime
    from nuvom.scheduler.record import ScheduleChange

_AT_ONCE = 4
_DEATH_ODDS = 0.8  # of each write, while deaths are left
_RACE_ODDS = 0.3
_OUTAGE_SECS = 2 * 3600.0
_STEPS_OF_THE_CLOCK = (3600.0, -3600.0, 86_400.0, -86_400.0)


class Schedulers:
    """Four schedulers at a store, of which one dies and is replaced again and again.

    Args:
        opens: Opens the store, as a process does that begins.
        points: Crash points at which they die, in the store that ``opens`` opens.
        deaths: How many may die.

    Attributes:
        deaths: How many are still to die.
        races: How many steps were taken between the look and the write of another one.
    """

    def __init__(
        self,
        world: World,
        opens: Callable[[Clock], Runtime],
        *,
        points: Sequence[str],
        deaths: int,
    ) -> None:
        self.world = world
        self.deaths = deaths
        self.races = 0
        self._opens = opens
        self._points = points
        self._living: list[_Process] = []
        for _ in range(_AT_ONCE):
            self._hire()

    def run(self, days: int) -> None:
        """Let days pass; the wall clock is set now and then."""
        ends = self.world.now + days * 86_400.0
        for step_secs in _STEPS_OF_THE_CLOCK:
            self.world.run(self.world.now + days * 86_400.0 / (len(_STEPS_OF_THE_CLOCK) + 1))
            self.world.set_wall(step_secs)
        self.world.run(ends)

    def close(self) -> None:
        """Have one look that nobody disturbs, and stop all."""
        self.deaths = 0
        with_store = self._living or [_Process(self, self._opens(VirtualClock(self.world)))]
        with_store[0].scheduler.step()
        for one in with_store:
            one.stop()

    def race(self, process: _Process) -> None:
        """Have another one take a step now, perhaps: ``process`` has just looked."""
        others = [one for one in self._living if one is not process and not one.is_busy]
        if others and self.world.rng.random() < _RACE_ODDS:
            self.races += 1
            self.world.rng.choice(others).step()

    def doom(self) -> None:
        """Have whoever writes now die at one of the points, perhaps."""
        rng = self.world.rng
        if self.deaths and rng.random() < _DEATH_ODDS:
            point = rng.choice(self._points)

            def die(passed: str) -> None:
                if passed == point:
                    raise ProcessKilled

            crashpoint.arm(die)

    def bury(self, process: _Process) -> None:
        """Take note of a death; another one begins some time later."""
        self.deaths -= 1
        self._living.remove(process)
        process.stop()
        self.world.after(self.world.rng.random() * _OUTAGE_SECS, self._hire)

    def _hire(self) -> None:
        process = _Process(self, self._opens(VirtualClock(self.world)))
        self._living.append(process)
        process.run()


class _Process:
    """A process with one scheduler."""

    def __init__(self, crowd: Schedulers, runtime: Runtime) -> None:
        store: Any = _Store(crowd, self, runtime.schedule_store)
        self.scheduler = Scheduler(dataclasses.replace(runtime, separate_schedules=store))
        self.is_busy = False
        self._runtime = runtime
        self._crowd = crowd
        self._is_alive = True

    def run(self) -> None:
        """Take a step, and put the next one on the agenda."""
        wait_secs = self.step()
        if wait_secs is not None:
            world = self._crowd.world
            world.after(max(wait_secs, 0.001) + world.rng.random() / 100, self.run)

    def step(self) -> float | None:
        """Take a step; return how long there is nothing to do, None if it is dead."""
        if not self._is_alive:
            return None
        self.is_busy = True
        try:
            return self.scheduler.step()
        except ProcessKilled:
            self._is_alive = False
            self._crowd.bury(self)
            return None
        finally:
            self.is_busy = False

    def stop(self) -> None:
        """Close its store, as the operating system does."""
        with suppress(ProcessKilled):
            self._runtime.stop()


class _Store:
    """The store as one process reaches it."""

    def __init__(self, crowd: Schedulers, process: _Process, store: Any) -> None:
        self._crowd = crowd
        self._process = process
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, changes: Sequence[ScheduleChange]) -> list[bool]:
        self._crowd.race(self._process)
        self._crowd.doom()
        try:
            written: list[bool] = self._store.apply(changes)
        finally:
            crashpoint.arm(None)
        return written
