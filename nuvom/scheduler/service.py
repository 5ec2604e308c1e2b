"""The scheduler: fires schedules when they are due, in a thread of a worker or of its own process.

Any number may run at once, and none of them leads. Each looks at what is due, plans, and writes
each plan only if the schedule is still as it was seen, together with the jobs: whoever comes second
has no effect. Between two fires it sleeps until the next one, or until it is told that a schedule
has become due earlier.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

from nuvom._version import __version__
from nuvom.core.clock import SYSTEM_CLOCK, LoopWakeup
from nuvom.core.ids import new_id
from nuvom.core.views import WorkerInfo, beat_secs
from nuvom.discovery.manifest import release_of
from nuvom.errors import JobNotFound, NuvomError, QueueFull, ScheduleError
from nuvom.events import BackendFailed, ScheduleFired, ScheduleMissed
from nuvom.execution.failures import stored_error
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.scheduler.declared import reconcile, running_releases
from nuvom.scheduler.planner import Plan, disabled, job_of, plan
from nuvom.scheduler.record import ScheduleChange
from nuvom.scheduler.schedule import jobs_with, store_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.core.record import JobRecord
    from nuvom.runtime import Runtime
    from nuvom.scheduler.record import ScheduleRecord
    from nuvom.scheduler.store import ScheduleWaiter

LOOK_SECS = 30.0
"""The longest sleep: somebody may have set the clock, or a wake-up may have been lost."""

_LEAST_LOOK_SECS = 1.0  # between two looks at what code workers run
_BATCH = 1000  # schedules fired in one step
_RETRY_SECS = (0.1, 0.5, 1.0, 2.0, 5.0)  # after consecutive failures of the store
_END_SECS = 10.0  # a store that hangs must not keep a process from its end


class Scheduler:
    """Fires the schedules of one project.

    Raises: CapabilityMissing: the store keeps no schedules.

    Attributes:
        fired: How many jobs it has enqueued.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.fired = 0
        self._runtime = runtime
        self._store = store_of(runtime)
        self._clock = self._store.clock
        self._stopping = threading.Event()
        self._waiter: ScheduleWaiter | None = None
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._awaited: frozenset[str] | None = None
        self._looked_at = 0.0

    # ---- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Run in a thread in the background."""
        self._thread = threading.Thread(target=self.run, name="nuvom-scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End at once what ``run`` does, and wait for the thread of ``start``. Idempotent.

        A store that does not answer delays this by at most ten seconds.
        """
        self._stopping.set()
        waiter = self._waiter
        if waiter is not None:
            waiter.poke()
        thread = self._thread
        if thread is not None and thread.ident is not None:  # else ``start`` was interrupted
            thread.join(_END_SECS)

    def run(self) -> None:
        """Fire schedules until ``stop`` is called. Failures only delay it."""
        while not self._stopping.is_set():
            try:
                with self._store.waiter() as waiter:
                    self._waiter = waiter
                    self._run_listening(waiter)
            except Exception as error:  # noqa: BLE001  # outermost: no schedule would fire any more
                self._failures += 1
                self._runtime.bus.emit(BackendFailed("schedule", stored_error("schedule", error)))
                pause_secs = _RETRY_SECS[min(self._failures, len(_RETRY_SECS)) - 1]
                SYSTEM_CLOCK.wait(self._stopping, pause_secs)

    def _run_listening(self, waiter: ScheduleWaiter) -> None:
        while not self._stopping.is_set():
            try:
                self._reconcile()
            finally:  # what is stored fires, whatever is wrong with what is declared
                wait_secs = self.step()
            self._failures = 0
            if wait_secs > 0 and not self._stopping.is_set():  # a poke from now on is not missed
                self._clock.wait(waiter, wait_secs)

    def _reconcile(self) -> None:
        """Take over what the project declares: once, and again when no worker has its old code."""
        now = self._clock.monotonic()
        if self._awaited is None:
            self._awaited = reconcile(self._runtime).awaited
        elif self._awaited and now - self._looked_at >= _LEAST_LOOK_SECS:
            if not self._awaited & running_releases(self._runtime):
                self._awaited = reconcile(self._runtime).awaited
        else:
            return
        self._looked_at = now

    # ---- one step -----------------------------------------------------------------------

    def step(self) -> float:
        """Fire everything that is due now; return how many seconds there is nothing to do.

        Raises what the store raises.
        """
        now = self._clock.now()
        while due := self._store.due(now, _BATCH):
            self._fire(due, now)
            if self._stopping.is_set():
                return 0.0
        next_at = self._store.next_due_at()
        if next_at is None:
            return LOOK_SECS
        return min(max(next_at - self._clock.now(), 0.0), LOOK_SECS)

    def _fire(self, due: Sequence[ScheduleRecord], now: float) -> None:
        dispatcher, fires = self._runtime.dispatcher, list[_Fires]()
        others: list[ScheduleChange] = []
        full: QueueFull | None = None
        for seen in due:
            try:
                found = plan(seen, now, is_busy=self._is_busy(seen))
                jobs = dispatcher.accompanied([job_of(seen, at, now) for at in found.fires])
                to_insert = jobs_with(self._store, dispatcher, jobs)
            except ScheduleError as error:  # its time zone is not known here, say
                others.append(disabled(seen, error.what, now))
            except QueueFull as error:  # it stays due, and holds up no other
                full = error
            else:
                change = ScheduleChange(seen.name, seen.revision, found.after, to_insert)
                fires.append(_Fires(seen, found, jobs, change))
        fires.sort(key=_first_id)
        written = self._store.apply([*(one.change for one in fires), *others])
        for (seen, found, jobs, _), is_written in zip(fires, written, strict=False):
            if is_written:
                self.fired += len(jobs)
                self._tell(seen, found, jobs, now)
        if full is not None:
            raise full

    def _is_busy(self, seen: ScheduleRecord) -> bool:
        """Whether the job of the last fire is not final."""
        if seen.rule.overlap == "allow" or not seen.recent:
            return False
        try:
            last = Inspector(self._runtime).look(seen.recent[-1])
        except JobNotFound:  # it was pruned or discarded, or never stored: its unique key was taken
            return False
        return last is not None and not last.status.is_final

    def _tell(self, seen: ScheduleRecord, found: Plan, jobs: list[JobRecord], now: float) -> None:
        bus = self._runtime.bus
        self._runtime.dispatcher.tell_enqueued(jobs)
        if ScheduleFired in bus.active:
            for job, at in zip(jobs, found.fires, strict=True):
                bus.emit(ScheduleFired(seen.name, job, at, now - at))
        if (found.missed or found.skipped) and ScheduleMissed in bus.active:
            bus.emit(ScheduleMissed(seen.name, found.missed, found.skipped))


class _Fires(NamedTuple):
    """What becomes of one schedule that is due."""

    seen: ScheduleRecord
    found: Plan
    jobs: list[JobRecord]
    change: ScheduleChange


def _first_id(fires: _Fires) -> str:
    """Return where they stand: by their time, and near others in a store's index of ids."""
    return fires.jobs[0].id if fires.jobs else ""


class SchedulerProcess:
    """A scheduler in a process of its own, announced so that readers see that one is alive.

    Raises: CapabilityMissing: the store keeps no schedules.

    Attributes:
        id: Random for each start, as that of a worker.
        scheduler: What fires the schedules.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.id = new_id()
        self.scheduler = Scheduler(runtime)
        self._runtime = runtime
        self._queue = runtime.queue if isinstance(runtime.queue, LeasedJobQueue) else None
        self._wakeup = LoopWakeup()
        self._is_stopping = False
        self._beat_secs = beat_secs(runtime.settings.lease_secs)

    def run(self) -> None:
        """Fire schedules until ``stop``, or until ``nuvom workers stop`` ends it.

        Raises: QueueError: the store cannot be used at the start.
        """
        self._runtime.queue.start()
        try:
            self._announce()
            self.scheduler.start()
            while not self._is_stopping:
                SYSTEM_CLOCK.wait(self._wakeup, self._beat_secs)
                self._tell_store(self._beat)
        finally:
            self.scheduler.stop()
            self._tell_store(self._retire)

    def stop(self) -> None:
        """End ``run``. Safe to call from a signal handler, and more than once."""
        self._is_stopping = True
        self._wakeup.set()

    def _announce(self) -> None:
        if self._queue is None:
            return
        me = WorkerInfo(
            id=self.id,
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            slots=0,
            started_at=self._runtime.clock.now(),
            release=release_of(self._runtime.settings),
            scheduler=True,
        )
        self._queue.announce(me)

    def _tell_store(self, step: Callable[[LeasedJobQueue], None]) -> None:
        """Take a step that only matters to readers; a failure is reported and delays nothing."""
        if self._queue is None:
            return
        try:
            step(self._queue)
        except NuvomError as error:
            self._runtime.bus.emit(BackendFailed("keep", stored_error("scheduler", error)))

    def _beat(self, queue: LeasedJobQueue) -> None:
        queue.extend(self.id)
        if "stop" in queue.commands(self.id):
            self.stop()

    def _retire(self, queue: LeasedJobQueue) -> None:
        queue.retire(self.id)
