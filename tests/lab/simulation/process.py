"""A worker process in a simulation: the real loop, maintenance and runner, on virtual time."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from nuvom.errors import NuvomError
from nuvom.events import EventBus
from nuvom.execution.attempts import OpenAttempt, OpenAttempts
from nuvom.execution.capacity import Limits
from nuvom.execution.job_runner import JobRunner
from nuvom.execution.lanes import WorkerContext
from nuvom.execution.maintenance import Maintenance
from nuvom.execution.settlement import Served, SharedStore, SplitStores
from nuvom.execution.worker_loop import WorkerLoop
from nuvom.testing import history
from tests.lab.simulation.lane import SimulatedLane
from tests.lab.simulation.link import Link, ProcessKilled
from tests.lab.simulation.world import VirtualClock, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.clock import Clock
    from nuvom.core.outcome import Settlement
    from nuvom.execution.lanes import Lane, LaneHost
    from nuvom.queue_backends.leased import LeasedJobQueue
    from nuvom.registry.registry import Registry
    from tests.lab.simulation.link import Store

_RISE_SECS = 0.0005  # the loop's thread takes at most so long to wake up
_TICK_SECS = 0.25


class _Loop(WorkerLoop):
    """The worker loop, of which the process hears when it is woken."""

    process: Process

    def finish(self, attempt: OpenAttempt, settlement: Settlement) -> None:
        super().finish(attempt, settlement)
        self.process.work_came()  # as the loop does it when it waits for the queue

    def wake(self) -> None:
        super().wake()
        self._wakeup.wait(0)  # who would wait for it is the process, which hears at once
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
    """

    def __init__(
        self,
        world: World,
        store: Store,
        registry: Registry,
        *,
        pid: int,
        slots: int,
        skew: float,
        secs_of: Callable[[OpenAttempt], float],
    ) -> None:
        self.world = world
        self.pid = pid
        self.is_alive = True
        self._is_frozen = False
        self._postponed: list[Callable[[], None]] = []
        self._is_rung = False
        self._turn_no = 0
        self._waits = self._listens = False
        context = self._make_context(store, registry, VirtualClock(world, skew))
        self._retire = partial(store.queue.retire, context.worker)

        def make_lane(_name: str, size: int, context: WorkerContext, host: LaneHost) -> Lane:
            return SimulatedLane(size, context, host, process=self, secs_of=secs_of)

        self._loop = _Loop(context, {"thread": slots}, Limits(), make_lane=make_lane)
        self._loop.process = self
        queue = cast("LeasedJobQueue", context.queue)
        self._maintenance = Maintenance(queue, context, self._loop, lambda _word: None)
        self._tick_secs = min(_TICK_SECS, self._maintenance.beat_secs)

    # ---- making the parts, as the worker does -------------------------------------------

    def _make_context(self, store: Store, registry: Registry, clock: Clock) -> WorkerContext:
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
        stores = SharedStore(queue, Served(None))
        if store.results is not None:
            stores = SplitStores(queue, Served(None), store.results, store.codec)
        return WorkerContext(
            worker=f"worker-{self.pid}",
            services=cast("Any", None),  # its tasks ask for nothing
            queue=queue,
            stores=stores,
            runner=runner,
            settings=store.settings,
            clock=clock,
            bus=EventBus(),
            attempts=OpenAttempts(),
            lease_secs=store.settings.lease_secs,
        )

    # ---- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Let its threads run."""
        self.after(0.0, partial(self._turn, 0, has_news=True))
        self.after(self.chance(self._tick_secs), self._tick)

    def kill(self) -> None:
        """Die at once."""
        if self.is_alive:
            self.is_alive = False
            self.note(history.KILL)

    def stop(self) -> None:
        """End in good order."""
        self.note(history.TERM)
        self.after(0.0, partial(self._loop.stop, "stopped"))

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
        """Wake the loop: when it waits it goes on, when it works it does not begin to wait."""
        if not self._waits:
            self._is_rung = True
            return
        self._waits = False
        self.after(self.chance(_RISE_SECS), partial(self._turn, self._turn_no, has_news=True))

    def work_came(self) -> None:
        """End a wait for the queue."""
        if self._waits and self._listens:
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
        with suppress(NuvomError):  # trouble with the store delays maintenance
            self._maintenance.tick()
        self.after(self._tick_secs, self._tick)

    def _turn(self, number: int, *, has_news: bool) -> None:
        """Let the loop go on until it wants to wait again."""
        if number != self._turn_no:
            return  # it was roused before its time was over
        self._turn_no += 1
        self._waits = False
        secs = self._advance(has_news=has_news)
        if self._loop.has_ended:
            self._end()
        elif self._is_rung:
            self._is_rung = False
            self.after(self.chance(_RISE_SECS), partial(self._turn, self._turn_no, has_news=True))
        else:
            self._waits, self._listens = True, self._loop.listens
            self.after(secs, partial(self._turn, self._turn_no, has_news=False))

    def _advance(self, *, has_news: bool) -> float:
        """Step until the loop wants to wait; return for how long."""
        loop = self._loop
        while not loop.has_ended:
            secs = loop.step(has_news=has_news)
            has_news = True
            if secs <= 0:
                continue
            if not loop.listens or self._is_rung:
                return secs
            try:  # as a queue does before it sleeps
                if not loop.recheck():
                    return secs
            except NuvomError as error:
                return loop.failed(error)
        return 0.0

    def _end(self) -> None:
        self.kill()  # for whatever code still runs: it ends with its process
        if not self._loop.stranded:
            self._retire()
