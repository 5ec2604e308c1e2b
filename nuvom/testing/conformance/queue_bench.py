"""Where a queue stands while a law is held: opening it, filling it, letting time pass.

With a backend that takes a clock, time is a ``FakeClock``'s and waiting costs nothing; without
one, leases are short and time passes by itself.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol
from unittest import SkipTest

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.clock import FakeClock
from nuvom.testing.conformance.children import Child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nuvom.core.record import JobRecord, JobSnapshot, JobStatus
    from nuvom.queue_backends.base import BaseJobQueue

SHORT_LEASE_SECS = 0.5  # the least that the setting lease_secs allows
A, B, C = "worker-a", "worker-b", "worker-c"  # ids of workers


class QueueMaker(Protocol):
    """What a bench asks of its kit; see ``QueueKit``."""

    @property
    def patience_secs(self) -> float:
        """A limit for what takes no time."""
        ...

    def make(self, tmp_path: Path, **settings: Any) -> BaseJobQueue:
        """Return a queue with an empty store."""
        ...

    def reopen(self, queue: BaseJobQueue) -> BaseJobQueue | None:
        """Return a second queue on the same store."""
        ...

    def process_factory(self, queue: BaseJobQueue) -> Callable[[], BaseJobQueue] | None:
        """Return what opens the store in another process."""
        ...

    def takes_clock(self) -> bool:
        """Tell whether ``make`` can be given a clock."""
        ...


class QueueBench:
    """One queue under test, and all that a law did to its store.

    Attributes:
        folder: Empty, of this law alone.
        clock: The clock that the queue uses.
        patience_secs: A limit for what takes no time.
    """

    def __init__(self, kit: QueueMaker, folder: Path) -> None:
        self._kit = kit
        self.patience_secs = kit.patience_secs
        self.folder = folder
        self.clock: Clock = SYSTEM_CLOCK
        self.lease_secs = 0.0
        self._opened: list[BaseJobQueue] = []
        self._children: list[Child] = []

    # ---- opening --------------------------------------------------------------------------

    def open(
        self, *, real_time: bool = False, clock: Clock | None = None, **settings: Any
    ) -> BaseJobQueue:
        """Open the queue under test, which is ``queue`` from then on.

        Args:
            real_time: Whether the law waits for other threads or processes.
            clock: Used in place of a ``FakeClock`` where the backend takes one.
        """
        folder = self.folder / f"store{len(self._opened)}"
        folder.mkdir()
        extra: dict[str, Any] = {}
        if self._kit.takes_clock() and not real_time:
            extra["clock"] = self.clock = clock or FakeClock()
        is_short = not extra and not real_time
        self.lease_secs = settings.setdefault("lease_secs", SHORT_LEASE_SECS if is_short else 30.0)
        queue = self._kit.make(folder, **extra, **settings)
        self._opened.insert(0, queue)
        return queue

    def open_leased(self, **settings: Any) -> LeasedJobQueue:
        """Do as ``open`` for laws about leases."""
        return _leased(self.open(**settings))

    @property
    def queue(self) -> BaseJobQueue:
        """The queue that was opened last; opens one when there is none."""
        return self._opened[0] if self._opened else self.open()

    @property
    def leased(self) -> LeasedJobQueue:
        """``queue``, for laws about leases."""
        return _leased(self.queue)

    @property
    def has_start_marks(self) -> bool:
        """Whether the backend tells deliveries that started from those that did not."""
        return type(self.leased).mark_started is not LeasedJobQueue.mark_started

    def reopen(self) -> BaseJobQueue:
        """Return a second queue on the store of ``queue``. Skips where there can be none."""
        other = self._kit.reopen(self.queue)
        if other is None:
            raise SkipTest("the store is not shared between instances")
        self._opened.append(other)
        return other

    def adopt(self, queue: BaseJobQueue) -> LeasedJobQueue:
        """Stop a second instance in the end, too."""
        self._opened.append(queue)
        return _leased(queue)

    def reopen_leased(self) -> LeasedJobQueue:
        """Do as ``reopen`` for laws about leases."""
        return _leased(self.reopen())

    def child(self, action: Callable[..., None], **parameters: Any) -> Child:
        """Start a process that opens the store of ``queue``. Skips where it cannot.

        ``child.py`` has actions; others are functions at the top level of a module.
        """
        factory = self._kit.process_factory(self.queue)
        if factory is None:
            raise SkipTest("the store is not shared between processes")
        child = Child(factory, action, parameters)
        self._children.append(child)
        return child

    def close(self) -> None:
        """End all processes and stop all queues."""
        for child in self._children:
            child.kill()
        for queue in self._opened:
            queue.stop()

    # ---- filling --------------------------------------------------------------------------

    def job(self, *args: Any, **fields: Any) -> JobRecord:
        """Return a job made at the queue's time, not stored."""
        return make_job(*args, **{"created_at": self.clock.now(), **fields})

    def put(self, *args: Any, **fields: Any) -> JobRecord:
        """Enqueue a job and return it."""
        queue, job = self.queue, self.job(*args, **fields)
        existing = queue.enqueue(job)
        assert existing is None, f"enqueue({job.id}) returned {existing!r} for a fresh job"
        return job

    def claim(self, owner: str = A, **options: Any) -> JobRecord:
        """Claim exactly one job."""
        jobs = self.leased.claim(1, owner, **options)
        assert len(jobs) == 1, f"claim(1) by {owner} gave {len(jobs)} jobs where one is due"
        return jobs[0]

    def put_and_claim(self, owner: str = A, **fields: Any) -> JobRecord:
        """Enqueue a job and claim it; the store holds no other one that is due."""
        job = self.put(**fields)
        claimed = self.claim(owner)
        assert claimed.id == job.id, f"claimed {claimed.id}, but only {job.id} is due"
        return claimed

    def settle(self, job: JobRecord, *args: Any, **fields: Any) -> bool:
        """Settle one job at the queue's time and return whether it was accepted."""
        now = self.clock.now()
        times = {"started_at": now, "finished_at": now}
        answer = self.leased.settle([make_settlement(job, *args, **{**times, **fields})])
        assert answer in ([True], [False]), f"settle of one job returned {answer!r}"
        return answer[0]

    def seen(self, job: JobRecord) -> JobSnapshot:
        """Return the snapshot of a job that has to be there."""
        snapshot = self.leased.get(job.id)
        assert snapshot is not None, f"get({job.id}) gave None for a stored job"
        return snapshot

    def status(self, job: JobRecord) -> JobStatus:
        """Return the status of a job that has to be there."""
        return self.seen(job).status

    # ---- time -----------------------------------------------------------------------------

    @property
    def has_fake_clock(self) -> bool:
        """Whether letting time pass costs none."""
        return isinstance(self.clock, FakeClock)

    @property
    def soon_secs(self) -> float:
        """A wait that is long for the queue and short for us."""
        return 60.0 if self.has_fake_clock else 0.3

    def advance(self, secs: float) -> None:
        """Let time pass."""
        if isinstance(self.clock, FakeClock):
            self.clock.advance(secs)
        else:
            self.clock.sleep(secs)

    def end_leases(self) -> None:
        """Let enough time pass for every lease to end that is not renewed."""
        self.advance(self.lease_secs * 1.1)

    def lose_workers(self) -> list[JobRecord]:
        """Let the leases of all workers end and return what ``reap`` takes back."""
        self.end_leases()
        return self.leased.reap()

    def wait_until(self, is_reached: Callable[[], bool], what: str) -> None:
        """Look again and again, in real time, until something is so."""
        deadline = SYSTEM_CLOCK.monotonic() + self.patience_secs
        while not is_reached():
            is_late = SYSTEM_CLOCK.monotonic() >= deadline
            assert not is_late, f"not after {self.patience_secs:g} s: {what}"
            SYSTEM_CLOCK.sleep(0.01)


def _leased(queue: BaseJobQueue) -> LeasedJobQueue:
    assert isinstance(queue, LeasedJobQueue), (
        f"{type(queue).__name__} declares leases but is no LeasedJobQueue"
    )
    return queue


def takes_clock(function: Callable[..., Any]) -> bool:
    """Tell whether a function names ``clock`` among its parameters."""
    return "clock" in inspect.signature(function).parameters
