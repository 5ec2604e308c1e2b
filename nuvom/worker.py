"""The worker: takes jobs from the queue, has lanes run them, settles what they end with.

The fourth of the six files that a job passes through. One thread, the pump, claims and
settles in batches; lanes run the code; the keeper beats. What an outcome means is the
runner's affair, how the store does it the backend's.
"""

from __future__ import annotations

import os
import random
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nuvom._version import __version__
from nuvom.core.ids import new_id
from nuvom.core.views import WorkerInfo
from nuvom.errors import NuvomError
from nuvom.events import BackendFailed, WorkerStarted, WorkerStopped
from nuvom.execution.announcing import log_stacks
from nuvom.execution.delivery import PlainDelivery, choose_delivery
from nuvom.execution.failures import stored_error
from nuvom.execution.job_runner import JobRunner
from nuvom.execution.keeper import Keeper
from nuvom.execution.lanes import Lane, Shop, slots_for
from nuvom.execution.late_lane import async_lane, process_lane
from nuvom.execution.limits import Limits
from nuvom.execution.pump import Pump
from nuvom.execution.running import InHand, RunningJob
from nuvom.execution.station import Station
from nuvom.execution.thread_lane import ThreadLane
from nuvom.execution.watched_delivery import watched
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.runtime import Runtime, count_local_worker, current_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuvom.core.options import CallOptions
    from nuvom.core.record import JobRecord
    from nuvom.registry.registry import TaskDefinition

_LOOK_SECS = 0.5  # Windows interrupts no wait without a limit


class Worker:
    """One worker. ``run`` blocks; ``start`` and ``join`` run it in the background.

    Args:
        threads: Slots of the thread lane; None as the settings say, as for ``async_slots``.
        queues: Served queues in order of preference; None for all but ``exclude_queues``.
        burst: Stop when no job is ready and none runs.
        max_jobs, max_secs: Stop after so many jobs, or so long.
        concurrency: At most so many jobs of a queue at once, by queue.
    Raises: InvalidSetting: there would be no slot; whatever the store raises that is asked.

    Attributes:
        id: Random for each start.
        promise: What the backends allow to promise of delivery, as text.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        threads: int | None = None,
        async_slots: int | None = None,
        queues: Sequence[str] | None = None,
        exclude_queues: Sequence[str] = (),
        burst: bool = False,
        max_jobs: int | None = None,
        max_secs: float | None = None,
        concurrency: Mapping[str, int] | None = None,
    ) -> None:
        self.id = new_id()
        self.runtime = runtime
        self.queues = None if queues is None else tuple(queues)
        self.exclude, self.concurrency = tuple(exclude_queues), dict(concurrency or {})
        self.threads = slots_for("threads", threads, runtime.settings.max_workers)
        self.async_slots = slots_for("async_slots", async_slots, runtime.settings.async_slots)
        self._thread: threading.Thread | None = None
        self._has_begun, self._has_ended = threading.Event(), threading.Event()
        self._reason = ""
        self._error: BaseException | None = None
        self._tells_crash = True
        self._started_at = runtime.clock.now()
        self._in_hand = InHand()
        self.delivery, self.promise = choose_delivery(
            runtime.queue,
            runtime.results,
            served=self,
            is_shared=runtime.is_shared,
            codec=runtime.codec,
            clock=runtime.clock,
        )
        self._runner = self._make_runner()
        self._station = self._make_station()
        limits = Limits(burst, max_jobs, max_secs, self.concurrency)
        self._pump = Pump(self._station, self._make_lanes, limits)
        self._lanes = self._pump.lanes
        self._keeper = self._make_keeper()

    # ---- life ---------------------------------------------------------------------------

    def run(self) -> str:
        """Work until stopped; return why it stopped.

        The words: ``stopped``, ``burst``, ``max-jobs``, ``max-secs``, ``stuck-threads``,
        or whatever ``stop`` was given.
        The first ``KeyboardInterrupt`` stops the worker in good order, the second at once.
        Raises: QueueError: the store cannot be used at the start; whatever made it crash.
        """
        self._tells_crash = False
        try:
            self.start()
            self._wait()
        except KeyboardInterrupt:
            if not self._has_begun.wait(_LOOK_SECS):
                raise  # it came before there was anything to stop
            self.stop()
            try:
                self._wait()
            except KeyboardInterrupt:
                self.abort()
                self._wait()
        if self._error is not None:
            raise self._error
        return self._reason

    def start(self) -> None:
        """Work in the background; the store is open when this returns.

        Raises: QueueError: the store cannot be used.
        """
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        # In a thread of its own, where no KeyboardInterrupt can tear it out of its work.
        self._thread = threading.Thread(target=self._work, name="nuvom-pump", daemon=True)
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for a worker in the background to stop; False when it has not in time."""
        # Before Python 3.13 a Thread.join that is interrupted takes the thread for ended.
        if self._thread is None or not self._has_ended.wait(timeout):
            return self._thread is None
        self._thread.join()
        return True

    def _wait(self) -> None:
        while not self.join(_LOOK_SECS):
            pass

    def end(self) -> None:
        """Stop in good order and wait for it; an interrupt while waiting stops it at once."""
        self.stop()
        try:
            self._wait()
        except BaseException:
            self.abort()
            self._wait()
            raise

    def stop(self, reason: str = "stopped") -> None:
        """Stop in good order: claim no more, finish what runs, hand back the rest.

        Returns at once, may be called from a signal handler, and twice.
        """
        self._pump.stop(reason)

    def abort(self) -> None:
        """Stop now: hand back everything that has not ended."""
        self._pump.abort()

    @property
    def stuck(self) -> int:
        """How many slots were replaced whose code still runs."""
        return sum(lane.stuck() for lane in self._lanes)

    @property
    def open_attempts(self) -> int:
        """How many attempts run or wait for a slot here."""
        return len(self._in_hand)

    @property
    def finished_jobs(self) -> int:
        """How many attempts this worker has settled."""
        return self._pump.settled + self._pump.at_once.settled

    def _open(self) -> None:
        runtime = self.runtime
        runtime.queue.start()
        runtime.results.start()
        self._announce("alive")
        for lane in self._lanes:
            lane.start()
        if self._keeper is not None:
            self._keeper.start()
        if WorkerStarted in runtime.bus.active:
            runtime.bus.emit(WorkerStarted(self.id))

    def _work(self) -> None:
        self._has_begun.set()
        try:
            try:
                self._reason = self._pump.run(self._tell_stopping)
            except BaseException as error:  # noqa: BLE001  # outermost: it must not end in silence
                self._crashed("pump", error)
            finally:
                self._close()
        finally:
            self._has_ended.set()
        if self._error is not None and self._tells_crash:
            raise self._error

    def _crashed(self, part: str, error: BaseException) -> None:
        self._reason, self._error = "crashed", self._error or error  # the first is the one to raise
        self.runtime.bus.emit(BackendFailed(part, stored_error(part, error)))

    def _close(self) -> None:
        """Stop all parts, whatever one of them raises."""
        keeper = () if self._keeper is None else (self._keeper.stop,)
        lanes = (lane.stop for lane in self._lanes)
        for step in (*lanes, *keeper, self._sign_off, self._tell_stopped):
            try:
                step()
            except BaseException as error:  # noqa: BLE001  # the other steps are still to be taken
                self._crashed("close", error)

    def _tell_stopped(self) -> None:
        if WorkerStopped in self.runtime.bus.active:
            self.runtime.bus.emit(WorkerStopped(self.id, self._reason))

    def _sign_off(self) -> None:
        queue = self.runtime.queue
        try:
            if isinstance(self.delivery, PlainDelivery):
                self.delivery.give_back_waiting()
            if isinstance(queue, LeasedJobQueue) and not self._pump.stranded:
                queue.retire(self.id)  # else its leases tell, once they end, which jobs it leaves
        except NuvomError as error:  # the store is gone; whatever it still has is recovered
            self.runtime.bus.emit(BackendFailed("retire", stored_error("retire", error)))

    def _tell_stopping(self, reason: str) -> None:
        try:
            self._announce("stuck" if reason == "stuck-threads" else "stopping")
        except NuvomError as error:  # it is only shown
            self.runtime.bus.emit(BackendFailed("announce", stored_error("announce", error)))

    def _announce(self, state: str) -> None:
        if isinstance(self.runtime.queue, LeasedJobQueue):
            self.runtime.queue.announce(self.info(state))

    def info(self, state: str = "alive") -> WorkerInfo:
        """Return what others see of this worker."""
        return WorkerInfo(
            id=self.id,
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            queues=self.queues or (),
            slots=self.threads,
            async_slots=self.async_slots,
            processes=self.threads,
            started_at=self._started_at,
            state=state,
        )

    # ---- what running code may ask ------------------------------------------------------

    def report_progress(
        self, running: RunningJob, done: float, total: float | None, message: str
    ) -> bool:
        """Keep a job's progress while it is this worker's."""
        if running.is_cancelled:
            return False
        return self.delivery.report_progress(running.record, done, total, message)

    def make_record(
        self,
        definition: TaskDefinition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
    ) -> JobRecord:
        """Make the record of a job to be enqueued with another one's success."""
        return self.runtime.dispatcher.make_child(definition, args, kwargs, options)

    # ---- commands -----------------------------------------------------------------------

    def obey(self, word: str) -> None:
        """Do what somebody asked of this worker: quiet, resume, stop or stacks."""
        if word == "stop":
            self.stop()
        elif word in ("quiet", "resume"):
            self._pump.quiet(is_quiet=word == "quiet")
            self._announce("quiet" if word == "quiet" else "alive")
        elif word == "stacks":
            log_stacks(self._lanes)

    # ---- making the parts ---------------------------------------------------------------

    def _make_runner(self) -> JobRunner:
        runtime = self.runtime
        queue = runtime.queue
        mark = queue.mark_started if isinstance(queue, LeasedJobQueue) else lambda _: None
        return JobRunner(
            runtime.registry,
            runtime.codec,
            runtime.settings,
            bus=runtime.bus,
            clock=runtime.clock,
            rng=random.Random(),  # noqa: S311  # only spreads retries
            mark_started=mark,
        )

    def _make_station(self) -> Station:
        runtime = self.runtime
        is_leased = isinstance(runtime.queue, LeasedJobQueue)
        return Station(
            owner=self.id,
            services=self,
            queue=runtime.queue,
            delivery=watched(self.delivery, runtime.bus, runtime.clock, lambda: self.stuck),
            runner=self._runner,
            settings=runtime.settings,
            clock=runtime.clock,
            bus=runtime.bus,
            in_hand=self._in_hand,
            lease_secs=runtime.settings.lease_secs if is_leased else float("inf"),
        )

    def _make_lanes(self, shop: Shop) -> tuple[ThreadLane, tuple[Lane, ...]]:
        runtime = self.runtime
        threads = ThreadLane(self.threads, shop)
        processes = process_lane(
            self.threads, shop, settings=runtime.settings, worker=self.id, bus=runtime.bus
        )
        loop = async_lane(self.async_slots, shop, is_needed=runtime.registry.has_async)
        return threads, (threads, loop, processes)

    def _make_keeper(self) -> Keeper | None:
        queue = self.runtime.queue
        if not isinstance(queue, LeasedJobQueue):
            return None
        return Keeper(
            queue,
            self._station,
            lost=self._pump.lose,
            suspect=self._pump.strays.suspect,
            command=self.obey,
            wanted=lambda: self._runner.wanted,
            changed=self._pump.wake,
        )


@contextmanager
def local_worker(threads: int = 4, queues: Sequence[str] | None = None) -> Iterator[Worker]:
    """Run a worker inside this process, for scripts, notebooks and tests.

    Jobs that run at its end get ``shutdown_timeout_secs`` to finish; the others go back.
    """
    worker = Worker(current_runtime(), threads=threads, queues=queues)
    count_local_worker(1)
    try:
        worker.start()
        try:
            yield worker
        finally:
            worker.end()
    finally:
        count_local_worker(-1)


def start_worker_pool(
    threads: int | None = None,
    queues: Sequence[str] | None = None,
    *,
    burst: bool = False,
    max_jobs: int | None = None,
    max_secs: float | None = None,
) -> str:
    """Run a worker in this thread until it is stopped; return why it stopped.

    It installs no signal handlers: that is the program's affair, and ``nuvom runworker``'s.
    """
    worker = Worker(
        current_runtime(),
        threads=threads,
        queues=queues,
        burst=burst,
        max_jobs=max_jobs,
        max_secs=max_secs,
    )
    return worker.run()
