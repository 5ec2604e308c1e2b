"""A worker process in a simulation: the real pump, keeper, delivery and runner, on virtual time."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from nuvom.errors import NuvomError
from nuvom.events import EventBus
from nuvom.execution.delivery import Delivery, SharedDelivery, SplitDelivery
from nuvom.execution.job_runner import JobRunner
from nuvom.execution.keeper import Keeper
from nuvom.execution.lanes import Shop
from nuvom.execution.limits import Limits
from nuvom.execution.pump import Pump
from nuvom.execution.running import InHand, RunningJob
from nuvom.execution.station import Station
from nuvom.testing import history
from tests.lab.simulation.lane import SimulatedLane
from tests.lab.simulation.link import Link, ProcessKilled
from tests.lab.simulation.world import VirtualClock, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.execution.bell import Nap
    from nuvom.execution.lanes import Lane, Shop
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.registry.registry import Registry
    from tests.lab.simulation.link import Store

_RISE_SECS = 0.0005  # the pump's thread takes at most so long to wake up
_TICK_SECS = 0.25


class _Pump(Pump):
    """The pump, of which the process hears when its bell is rung."""

    process: Process

    def finish(self, running: RunningJob, settlement: Settlement) -> None:
        super().finish(running, settlement)
        self.process.work_came()  # as the pump does it when it sleeps on the queue

    def wake(self) -> None:
        super().wake()
        self._sleeper.bell.wait(0)  # who would wait for it is the process, which hears at once
        self.process.rouse()


class Process:
    """One worker process.

    Args:
        pid: A number of its own.
        slots: How many jobs run at a time.
        skew: Seconds by which its wall clock is ahead.
        secs_of: Returns how long the code of an attempt takes.

    Attributes:
        is_alive: It has neither died nor ended.
        queues, exclude: All queues are served.
    """

    queues: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    def __init__(
        self,
        world: World,
        store: Store,
        registry: Registry,
        *,
        pid: int,
        slots: int,
        skew: float,
        secs_of: Callable[[RunningJob], float],
    ) -> None:
        self.world = world
        self.pid = pid
        self.is_alive = True
        self._is_frozen = False
        self._postponed: list[Callable[[], None]] = []
        self._is_rung = False
        self._turn_no = 0
        self._nap: Nap | None = None
        station = self._make_station(store, registry, VirtualClock(world, skew))
        self._retire = partial(store.queue.retire, station.owner)

        def make_lanes(shop: Shop) -> tuple[Any, tuple[Lane, ...]]:
            lane = SimulatedLane(slots, shop, self, secs_of)
            return lane, (lane,)

        self._pump = _Pump(station, make_lanes, Limits())
        self._pump.process = self
        self._keeper = self._make_keeper(station)
        self._rounds = self._pump.rounds()
        self._tick_secs = min(_TICK_SECS, self._keeper.beat_secs)

    # ---- making the parts, as the worker does -------------------------------------------

    def _make_station(self, store: Store, registry: Registry, clock: Clock) -> Station:
        queue = cast("LeasedJobQueue", Link(self, store))  # it has what a worker calls
        runner = JobRunner(
            registry,
            store.codec,
            store.settings,
            bus=EventBus(),
            clock=clock,
            rng=self.world.rng,
            mark_started=queue.mark_started,
        )
        delivery: Delivery = SharedDelivery(queue, self)
        if store.results is not None:
            delivery = SplitDelivery(queue, self, store.results, store.codec)
        return Station(
            owner=f"worker-{self.pid}",
            services=None,
            queue=queue,
            delivery=delivery,
            runner=runner,
            settings=store.settings,
            clock=clock,
            bus=EventBus(),
            in_hand=InHand(),
            lease_secs=store.settings.lease_secs,
        )

    def _make_keeper(self, station: Station) -> Keeper:
        return Keeper(
            cast("LeasedJobQueue", station.queue),
            station,
            lost=self._pump.lose,
            suspect=self._pump.strays.suspect,
            command=lambda _word: None,
            wanted=lambda: station.runner.wanted,
            changed=self._pump.wake,
        )

    # ---- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Let its threads run."""
        self.after(0.0, partial(self._turn, 0, has_news=None))
        self.after(self.chance(self._tick_secs), self._tick)

    def kill(self) -> None:
        """Die at once."""
        if self.is_alive:
            self.is_alive = False
            self.note(history.KILL)

    def stop(self) -> None:
        """End in good order."""
        self.note(history.TERM)
        self.after(0.0, partial(self._pump.stop, "stopped"))

    def freeze(self, secs: float) -> None:
        """Do nothing for ``secs`` seconds, without noticing."""
        if self.is_alive and not self._is_frozen:
            self._is_frozen = True
            self.note(history.FREEZE)
            self.world.after(secs, self.thaw)

    def thaw(self) -> None:
        """Go on after a freeze, if there is one."""
        if self._is_frozen:
            self._is_frozen = False
            self.note(history.THAW)
            for act in self._postponed:
                self.after(self.chance(_RISE_SECS), act)
            self._postponed.clear()

    def rouse(self) -> None:
        """Ring: a pump that sleeps goes on, one that works does not go to sleep."""
        if self._nap is None:
            self._is_rung = True
            return
        self._nap = None
        self.after(self.chance(_RISE_SECS), partial(self._turn, self._turn_no, has_news=True))

    def work_came(self) -> None:
        """End a sleep on the queue."""
        if self._nap is not None and self._nap.is_on_queue:
            self.rouse()

    # ---- for its parts ------------------------------------------------------------------

    def after(self, secs: float, act: Callable[[], None]) -> None:
        """Have ``act`` called in ``secs`` seconds if this process lives, once it is not frozen."""
        self.world.after(secs, partial(self._act, act))

    def note(self, event: str, **details: Any) -> None:
        """Add what happens here to the history."""
        self.world.note(event, pid=self.pid, **details)

    def chance(self, most: float) -> float:
        """Return a random number up to ``most``."""
        return self.world.rng.random() * most

    def _act(self, act: Callable[[], None]) -> None:
        if not self.is_alive:
            return
        if self._is_frozen:
            self._postponed.append(act)
            return
        try:
            act()
        except ProcessKilled:
            self.kill()

    # ---- threads ------------------------------------------------------------------------

    def _tick(self) -> None:
        with suppress(NuvomError):  # trouble with the store delays the keeper
            self._keeper.tick()
        self.after(self._tick_secs, self._tick)

    def _turn(self, number: int, *, has_news: bool | None) -> None:
        """Let the pump go on until it wants to wait again."""
        if number != self._turn_no:
            return  # it was roused before its time was over
        self._turn_no += 1
        self._nap = None
        try:
            nap = self._advance(has_news=has_news)
        except StopIteration:
            self._end()
            return
        if self._is_rung:
            self._is_rung = False
            self.after(self.chance(_RISE_SECS), partial(self._turn, self._turn_no, has_news=True))
        else:
            self._nap = nap
            self.after(nap.secs, partial(self._turn, self._turn_no, has_news=False))

    def _advance(self, *, has_news: bool | None) -> Nap:
        nap = next(self._rounds) if has_news is None else self._rounds.send(has_news)
        while nap.is_on_queue and not self._is_rung:
            try:  # as a queue does before it sleeps
                if not self._pump.looked_again():
                    break
            except NuvomError as error:
                nap = self._rounds.throw(error)
            else:
                nap = self._rounds.send(True)
        return nap

    def _end(self) -> None:
        self.kill()  # for whatever code still runs: it ends with its process
        if not self._pump.stranded:
            self._retire()
