"""The worker: takes jobs from the queue, runs them in lanes, and settles their outcomes.

The fourth of the six files that a job passes through. One thread, the worker loop, claims and
settles in batches; lanes run the code; maintenance sends heartbeats. The runner decides what an
outcome means, and the backend how to store it.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from nuvom._version import __version__
from nuvom.core.ids import new_id
from nuvom.core.views import WorkerInfo
from nuvom.discovery.manifest import release_of
from nuvom.errors import HooksFailed, NuvomError
from nuvom.events import BackendFailed, WorkerStarted, WorkerStopped
from nuvom.execution.attempts import OpenAttempt, OpenAttempts
from nuvom.execution.capacity import Limits
from nuvom.execution.failures import stored_error
from nuvom.execution.job_runner import JobRunner
from nuvom.execution.lanes import WorkerContext, log_stacks, refuse_in_child, slots_for
from nuvom.execution.maintenance import Maintenance
from nuvom.execution.settlement import FiveMethodQueue, Served, SharedStore, SplitStores, Stores
from nuvom.execution.worker_loop import WorkerLoop
from nuvom.hooks import default_hooks, load_hooks
from nuvom.log import get_logger
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.runtime import Runtime, count_local_worker, current_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nuvom.scheduler.service import Scheduler

_LOG = get_logger("nuvom.worker")
_LOOK_SECS = 0.5  # Windows cannot interrupt a wait without a timeout


class Worker:
    """One worker. ``run`` blocks; ``start`` and ``join`` run it in the background.

    Args:
        threads: Slots of the thread lane; None uses the settings, as for ``async_slots``.
        queues: Served queues in order of preference; None for all but ``exclude_queues``.
        burst: Stop when no job is ready or PARKED that it can run, and none is running.
        max_jobs, max_secs: Stop after this many jobs, or this many seconds.
        concurrency: Maximum number of jobs running at once, by queue.
        scheduler: Also fire schedules, in a thread of its own, until the worker has ended; where
            the store keeps none, this changes nothing.
    Raises: InvalidSetting: there would be no slots; Refused: this process is a child of a worker;
        whatever the store raises.

    Attributes:
        id: Random for each start.
        promise: The delivery guarantee that the backends allow, as text.
        is_stopping: Whether it claims no more, and only lets running jobs finish.
    """

    _thread: threading.Thread | None = None
    _pid = 0  # of the process in which it was started
    _reason = ""
    _error: BaseException | None = None
    _raises_crash = True
    _maintenance: Maintenance | None = None
    is_stopping = _has_called_hooks = False

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
        scheduler: bool = False,
    ) -> None:
        self.id = new_id()
        self.runtime = runtime
        self.queues = None if queues is None else tuple(queues)
        self.exclude, self.concurrency = tuple(exclude_queues), dict(concurrency or {})
        self.threads = slots_for("threads", threads, runtime.settings.threads)
        self.async_slots = slots_for("async_slots", async_slots, runtime.settings.async_slots)
        refuse_in_child()
        self._has_begun, self._has_ended = threading.Event(), threading.Event()
        self._started_at = runtime.clock.now()
        self._release = release_of(runtime.settings)
        queue = runtime.queue
        self._leased = queue if isinstance(queue, LeasedJobQueue) else None
        self.make_record = runtime.dispatcher.make_child
        self._context = self._make_context()
        self.promise = self._context.stores.promise
        slots = {"thread": self.threads, "async": self.async_slots, "process": self.threads}
        limits = Limits(burst, max_jobs, max_secs, self.concurrency)
        self._loop = WorkerLoop(self._context, slots, limits, stopping=self._tell_stopping)
        if self._leased is not None:
            self._maintenance = Maintenance(self._leased, self._context, self._loop, self.obey)
        self._scheduler = _make_scheduler(runtime) if scheduler else None

    def _make_context(self) -> WorkerContext:
        runtime, leased = self.runtime, self._leased
        runner = JobRunner(
            runtime.registry,
            runtime.codec,
            runtime.settings,
            bus=runtime.bus,
            clock=runtime.clock,
            mark_started=(lambda _: None) if leased is None else leased.mark_started,
        )
        return WorkerContext(
            worker=self.id,
            services=self,
            queue=runtime.queue,
            stores=_choose_stores(runtime, Served(self.queues, self.exclude)),
            runner=runner,
            settings=runtime.settings,
            clock=runtime.clock,
            bus=runtime.bus,
            attempts=OpenAttempts(),
            lease_secs=float("inf") if leased is None else runtime.settings.lease_secs,
        )

    # ---- life ---------------------------------------------------------------------------

    def run(self, tell: Callable[[], None] = lambda: None) -> str:
        """Work until stopped; return why it stopped.

        Args:
            tell: Called twice a second in this thread, to show how far the worker is.

        The reason is ``stopped``, ``burst``, ``max-jobs``, ``max-secs``, ``stuck-threads``,
        or whatever was passed to ``stop``.
        The first ``KeyboardInterrupt`` stops the worker gracefully, the second at once.
        Raises: QueueError: the store cannot be used at the start; whatever made the worker crash.
        """
        self._raises_crash = False
        try:
            self.start()
            while not self.join(_LOOK_SECS):
                tell()
        except KeyboardInterrupt:
            if not self._has_begun.wait(_LOOK_SECS):
                raise  # it came before the worker had begun
            try:
                self.end()
            except KeyboardInterrupt:  # ``end`` has done this, unless it had not yet begun to wait
                self.abort()
                self._wait()
        if self._error is not None:
            self._raise_crash(self._error)
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
        self._pid = os.getpid()
        # In its own thread, where no KeyboardInterrupt can interrupt its work.
        self._thread = threading.Thread(target=self._work, name="nuvom-loop", daemon=True)
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for a background worker to stop; False when it does not stop in time."""
        if self._thread is None or self._pid != os.getpid():
            return True  # in a forked child, the worker is its parent's
        # Before Python 3.13 an interrupted Thread.join treats the thread as ended.
        if not self._has_ended.wait(timeout):
            return False
        self._thread.join()
        return True

    def _wait(self) -> None:
        while not self.join(_LOOK_SECS):
            pass

    def end(self) -> None:
        """Stop gracefully and wait; an interrupt while waiting stops the worker at once."""
        self.stop()
        try:
            self._wait()
        except BaseException:
            self.abort()
            self._wait()
            raise

    def stop(self, reason: str = "stopped") -> None:
        """Stop gracefully: claim no more, finish running jobs, hand back the rest.

        Returns at once. Safe to call from a signal handler, and more than once.
        """
        self._loop.stop(reason)

    def abort(self) -> None:
        """Stop now: hand back everything that has not ended."""
        self._loop.abort()

    @property
    def stuck(self) -> int:
        """How many slots were replaced whose code still runs."""
        return self._loop.stuck

    @property
    def open_attempts(self) -> int:
        """How many attempts are running or waiting for a slot here."""
        return len(self._context.attempts.unclosed)

    @property
    def fires_schedules(self) -> bool:
        """Whether it also is a scheduler."""
        return self._scheduler is not None

    @property
    def finished_jobs(self) -> int:
        """How many attempts this worker has settled."""
        return self._loop.settled

    def _open(self) -> None:
        runtime = self.runtime
        load_hooks(runtime.settings.hooks)
        runtime.queue.start()
        runtime.results.start()
        for hook in default_hooks.worker_start:
            _call_start_hook(hook)
        self._has_called_hooks = True
        self._announce("alive")
        self._loop.start_lanes()
        if self._maintenance is not None:
            self._maintenance.start()
        if self._scheduler is not None:
            self._scheduler.start()
        if WorkerStarted in runtime.bus.active:
            runtime.bus.emit(WorkerStarted(self.id))

    def _work(self) -> None:
        self._has_begun.set()
        try:
            try:
                self._reason = self._loop.run()
            except BaseException as error:  # noqa: BLE001  # outermost: the thread must not die silently
                self._crashed("loop", error)
            finally:
                self._close()
        finally:
            self._has_ended.set()
        if self._error is not None and self._raises_crash:
            self._raise_crash(self._error)

    def _crashed(self, part: str, error: BaseException) -> None:
        self._reason, self._error = "crashed", self._error or error  # the first is the one to raise
        self.runtime.bus.emit(BackendFailed(part, stored_error(part, error)))

    @staticmethod
    def _raise_crash(error: BaseException) -> NoReturn:
        if isinstance(error, Exception):
            raise error
        # A program that calls ``run`` must not exit as if all went well or Ctrl-C was pressed.
        raise RuntimeError(f"the worker was ended by {error!r} inside it") from error

    def _close(self) -> None:
        """Stop all parts, even if one of them raises."""
        keeps = [one.stop for one in (self._scheduler, self._maintenance) if one is not None]
        lanes = [lane.stop for lane in self._loop.lanes.values()]
        for step in (*lanes, *keeps, self._call_stop_hooks, self._sign_off):
            try:
                step()
            except BaseException as error:  # noqa: BLE001  # the other steps must still run
                self._crashed("close", error)
        if WorkerStopped in self.runtime.bus.active:
            self.runtime.bus.emit(WorkerStopped(self.id, self._reason))

    def _call_stop_hooks(self) -> None:
        for hook in default_hooks.worker_stop if self._has_called_hooks else ():
            try:
                hook()
            except Exception:  # noqa: BLE001  # user code: the worker has to end all the same
                _LOG.exception("a hook of on_worker_stop failed", extra={"event": "hook.error"})

    def _sign_off(self) -> None:
        try:
            if isinstance(self._context.stores, FiveMethodQueue):
                self._context.stores.give_back_waiting()
            if self._leased is not None and not self._loop.stranded:
                self._leased.retire(
                    self.id
                )  # else its leases, once they run out, show which jobs it leaves
        except NuvomError as error:  # the store is unavailable; what it holds is recovered
            self.runtime.bus.emit(BackendFailed("retire", stored_error("retire", error)))

    def _tell_stopping(self, reason: str) -> None:
        self.is_stopping = True
        for lane in self._loop.lanes.values():
            lane.tell_stopping()
        try:
            self._announce("stuck" if reason == "stuck-threads" else "stopping")
        except NuvomError as error:  # only for display
            self.runtime.bus.emit(BackendFailed("announce", stored_error("announce", error)))

    def _announce(self, state: str) -> None:
        if self._leased is not None:
            self._leased.announce(self.info(state))

    def info(self, state: str = "alive") -> WorkerInfo:
        """Return this worker's info as others see it."""
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
            release=self._release,
            scheduler=self.fires_schedules,
        )

    # ---- what running code may ask ------------------------------------------------------

    def report_progress(
        self, attempt: OpenAttempt, done: float, total: float | None, message: str
    ) -> bool:
        """Store a job's progress while this worker owns the job."""
        if attempt.is_cancelled:
            return False
        return self._context.stores.report_progress(attempt.record, done, total, message)

    # ---- commands -----------------------------------------------------------------------

    def obey(self, word: str) -> None:
        """Run a command sent to this worker: quiet, resume, stop or stacks."""
        if word == "stop":
            self.stop()
        elif word in ("quiet", "resume"):
            self._loop.quiet(is_quiet=word == "quiet")
            self._announce("quiet" if word == "quiet" else "alive")
        elif word == "stacks":
            log_stacks(list(self._loop.lanes.values()))


def _call_start_hook(hook: Callable[[], Any]) -> None:
    """Raises: HooksFailed: the hook raised."""
    try:
        hook()
    except Exception as error:
        name = getattr(hook, "__qualname__", repr(hook))
        raise HooksFailed(f"on_worker_start {name}", f"{type(error).__name__}: {error}") from error


def _choose_stores(runtime: Runtime, served: Served) -> Stores:
    """Return how attempts are settled with the backends of ``runtime``."""
    queue, results, codec = runtime.queue, runtime.results, runtime.codec
    if not isinstance(queue, LeasedJobQueue):
        return FiveMethodQueue(queue, results, codec, runtime.clock)
    if runtime.is_shared:
        return SharedStore(queue, served)
    return SplitStores(queue, served, results, codec)


def _make_scheduler(runtime: Runtime) -> Scheduler | None:
    """Return a scheduler, or None where the store keeps no schedules."""
    if runtime.schedule_store is None:
        return None
    from nuvom.scheduler.service import Scheduler  # noqa: PLC0415  # few programs need it

    return Scheduler(runtime)


@contextmanager
def local_worker(
    threads: int = 4, queues: Sequence[str] | None = None, *, scheduler: bool = False
) -> Iterator[Worker]:
    """Run a worker inside this process, for scripts, notebooks and tests.

    On exit, running jobs get ``shutdown_timeout_secs`` to finish; the others go back.

    Args:
        scheduler: Also fire the schedules of the project. Unlike ``nuvom runworker`` it does not
            do so by itself: a script that only wants its own jobs done would fire those of others.
    """
    worker = Worker(current_runtime(), threads=threads, queues=queues, scheduler=scheduler)
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
    scheduler: bool = False,
) -> str:
    """Run a worker in this thread until it is stopped; return why it stopped.

    It installs no signal handlers: that is up to the program, or ``nuvom runworker``.
    """
    worker = Worker(
        current_runtime(),
        threads=threads,
        queues=queues,
        burst=burst,
        max_jobs=max_jobs,
        max_secs=max_secs,
        scheduler=scheduler,
    )
    return worker.run()
