"""The engine's typed events, and the bus that carries them.

The engine emits; logging, metrics, traces and dashboards subscribe. An event without subscribers
is not even created: emitters check ``EventBus.active`` first. Callbacks run in the emitting
thread. If one raises, or calls ``sys.exit``, that is counted and reported but never propagated.
Ctrl-C, which Python raises in the main thread, reaches the program.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from nuvom.core.record import JobRecord, StoredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.core.middleware import Middleware


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of all events; subscribing to it receives every event."""


E = TypeVar("E", bound=Event)

# A callback may raise these as well. Not all of BaseException: an exception raised in a thread from
# outside, to end the code that runs there, is not a failure of the callback that it hits.
_EXITS = (SystemExit, GeneratorExit, KeyboardInterrupt)


class JobEnqueued(Event, frozen=True):
    """A job was stored."""

    job: JobRecord


class JobsClaimed(Event, frozen=True):
    """A worker claimed jobs, in ``took_secs``; one event for each claim that got any."""

    jobs: tuple[JobRecord, ...]
    worker: str
    took_secs: float = 0.0


class WorkerAsked(Event, frozen=True):
    """A worker asked its queue for jobs and got ``jobs``; emitted each second while it has room.

    ``leaked`` is how many of its slots were replaced while their code still runs.
    """

    worker: str
    jobs: int
    leaked: int


class BackendCalled(Event, frozen=True):
    """A worker's call to its stores has returned; ``op`` is ``claim`` or ``settle``."""

    op: str
    duration_secs: float


class JobStarted(Event, frozen=True):
    """An attempt starts; ``lane`` is thread, async or process."""

    job: JobRecord
    worker: str
    lane: str = "thread"


class JobSucceeded(Event, frozen=True):
    """A SUCCESS was committed."""

    job: JobRecord
    duration_secs: float
    worker: str


class JobFailed(Event, frozen=True):
    """An attempt failed and FAILED was committed."""

    job: JobRecord
    error: StoredError
    duration_secs: float
    worker: str


class JobRetrying(Event, frozen=True):
    """An attempt failed or asked to be called later; another follows at ``run_at``."""

    job: JobRecord
    error: StoredError | None
    run_at: float
    duration_secs: float
    worker: str


class JobTimedOut(Event, frozen=True):
    """An attempt passed its deadline; JobRetrying, JobFailed or JobSucceeded follows."""

    job: JobRecord
    error: StoredError
    worker: str


class JobDead(Event, frozen=True):
    """A job became DEAD: too many deliveries without a report, or parked for too long."""

    job: JobRecord


class JobCancelled(Event, frozen=True):
    """A job was cancelled, or its attempt ended as cancelled."""

    job_id: str


class JobParked(Event, frozen=True):
    """This worker has no task of the job's name."""

    job: JobRecord
    reason: str


class JobReaped(Event, frozen=True):
    """A job was taken back from a worker that died or went silent."""

    job: JobRecord


class JobFenced(Event, frozen=True):
    """An outcome was dropped because the job no longer belonged to its worker.

    Attributes:
        was_cancelled: Whether somebody cancelled the job; otherwise the lease had passed to another
            worker.
    """

    job: JobRecord
    worker: str
    was_cancelled: bool = False


class ScheduleFired(Event, frozen=True):
    """A schedule enqueued a job, ``lag_secs`` after its fire time; ``fire_at`` is in seconds."""

    schedule: str
    job: JobRecord
    fire_at: float
    lag_secs: float


class ScheduleMissed(Event, frozen=True):
    """Fires of a schedule enqueue nothing: ``missed`` were too late, ``skipped`` overlapped."""

    schedule: str
    missed: int
    skipped: int


class SchedulesReconciled(Event, frozen=True):
    """A scheduler took over what the project declares; each part holds names of schedules.

    Attributes:
        problems: Sentences about declarations that it could not follow.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class HookFailed(Event, frozen=True):
    """A task's hook raised or took too long; the outcome is unchanged."""

    job: JobRecord
    hook: str
    error: StoredError


class WorkerStarted(Event, frozen=True):
    """A worker is about to claim for the first time."""

    worker: str


class WorkerStopped(Event, frozen=True):
    """A worker has settled or handed back all its jobs."""

    worker: str
    reason: str = ""


class BackendFailed(Event, frozen=True):
    """A store could not be used; the worker backs off and retries."""

    op: str
    error: StoredError


class EventBus:
    """Carries events to subscribers.

    Attributes:
        active: The event types that have subscribers; emitters test membership.
        middleware: The middleware entered around jobs; see ``accompany``.
        failures: How often callbacks, middleware and the failure reporter raised, by
            qualified name.
    """

    def __init__(self) -> None:
        self.active: set[type[Event]] = set()
        self.middleware: tuple[Middleware, ...] = ()
        self.failures: dict[str, int] = {}
        self._callbacks: dict[type[Event], tuple[Callable[[Any], None], ...]] = {}
        self._lock = threading.Lock()
        self._on_failure: Callable[[str, BaseException, int], None] | None = None

    def subscribe(self, event_type: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
        """Call ``callback(event)`` for each event of ``event_type``; ``Event`` means all.

        Returns: a function that ends the subscription; calling it twice is harmless.
        """
        with self._lock:
            self._callbacks[event_type] = (*self._callbacks.get(event_type, ()), callback)
            self._refresh()

        ends = [callback]  # a callback may be subscribed several times: each end removes one

        def unsubscribe() -> None:
            with self._lock:
                left = list(self._callbacks.get(event_type, ()))
                if ends:
                    left.remove(ends.pop())
                self._callbacks[event_type] = tuple(left)
                self._refresh()

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Pass ``event`` to its subscribers, in the order in which they subscribed."""
        for callback in (*self._callbacks.get(type(event), ()), *self._callbacks.get(Event, ())):
            try:
                callback(event)
            except (Exception, *_EXITS) as error:  # a plugin's code: any failure is only reported
                if _is_ctrl_c(error):
                    raise
                self.report(_name_of(callback), error)

    def accompany(self, middleware: Middleware) -> Callable[[], None]:
        """Enter ``middleware`` around the jobs that this process sends and runs.

        Returns: a function that removes it; calling it twice is harmless.
        """
        with self._lock:
            self.middleware = (*self.middleware, middleware)

        def part() -> None:
            with self._lock:
                self.middleware = tuple(one for one in self.middleware if one is not middleware)

        return part

    def on_failure(self, report: Callable[[str, BaseException, int], None] | None) -> None:
        """Report failing callbacks by calling ``report(name, error, count)``."""
        self._on_failure = report

    def report(self, name: str, error: BaseException) -> None:
        """Count and report that the subscriber or middleware ``name`` raised."""
        count = self._count(name)
        report = self._on_failure
        if report is None:
            return
        try:
            report(name, error, count)
        except (Exception, *_EXITS) as failure:  # nobody is left to tell, and a job is waiting
            if _is_ctrl_c(failure):
                raise
            self._count(_name_of(report))

    def _count(self, name: str) -> int:
        with self._lock:
            count = self.failures[name] = self.failures.get(name, 0) + 1
        return count

    def _refresh(self) -> None:
        wanted = {event_type for event_type, some in self._callbacks.items() if some}
        if Event in wanted:
            wanted.update(_subclasses(Event))
        self.active = wanted


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether the error may be Ctrl-C; one raised by the callback itself looks the same."""
    is_interrupt = isinstance(error, KeyboardInterrupt)
    return is_interrupt and threading.current_thread() is threading.main_thread()


def _name_of(callback: Callable[..., None]) -> str:
    name: str = getattr(callback, "__qualname__", type(callback).__qualname__)
    return name


def _subclasses(cls: type[Event]) -> set[type[Event]]:
    direct = set(cls.__subclasses__())
    return direct.union(*(_subclasses(one) for one in direct)) if direct else direct


default_bus = EventBus()


def subscribe(event_type: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
    """Subscribe on the bus that this process's runtime uses; see ``EventBus.subscribe``."""
    return default_bus.subscribe(event_type, callback)
