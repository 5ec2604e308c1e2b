"""How the author of a queue backend says how to make one, and where it stands while a law is held.

With a backend that takes a clock, time is a ``FakeClock``'s and waiting costs nothing; without
one, leases are short and time passes by itself.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, cast
from unittest import SkipTest

import pytest

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.clock import FakeClock
from nuvom.testing.conformance.child import KitChild
from nuvom.testing.conformance.law import Kit, laws_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.core.record import JobRecord, JobSnapshot, JobStatus
    from nuvom.queue_backends.base import BaseJobQueue, Capability

SHORT_LEASE_SECS = 0.5  # the least that the setting lease_secs allows
A, B, C = "worker-a", "worker-b", "worker-c"  # ids of workers


class QueueKit(Kit):
    """Base of the laws of queues; see ``QueueConformance``."""

    contract: ClassVar[str] = "queue_backend"
    race_jobs: ClassVar[int] = 400
    """How many jobs threads and processes race for."""

    def make(self, tmp_path: Path, **settings: Any) -> BaseJobQueue:
        """Return a queue with an empty store of its own, below ``tmp_path`` if it has files.

        Write a parameter ``clock`` with a default if the backend can take one: the kit then
        passes a ``FakeClock``, and laws about time cost none.

        Args:
            settings: Any of ``lease_secs``, ``max_deliveries``, ``max_queue_size`` and
                ``parked_ttl_secs``, as in ``nuvom.config.settings.Settings``.
        """
        raise NotImplementedError

    def reopen(self, queue: BaseJobQueue) -> BaseJobQueue | None:
        """Return a second queue on the same store as ``queue``, None where there can be none."""
        del queue
        return None

    def process_factory(self, queue: BaseJobQueue) -> Callable[[], BaseJobQueue] | None:
        """Return what opens the store of ``queue`` in another process, None where nothing can.

        A function or class at the top level of an importable module, or ``functools.partial``
        of one with arguments that JSON can hold.
        """
        del queue
        return None

    def takes_clock(self) -> bool:
        """Tell whether ``make`` can be given a clock."""
        return takes_clock(self.make)

    @pytest.fixture
    def bench(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[QueueBench]:
        """Give a law a queue of its own. Skips a law that needs what the queue does not declare."""
        bench = QueueBench(self, tmp_path)
        try:
            (law,) = [one for one in laws_of(type(self)) if one.test == request.function.__name__]
            missing = [str(one) for one in law.needs if not bench.can(one)]
            if missing:
                raise SkipTest(f"needs {', '.join(missing)}")
            yield bench
        finally:
            bench.close()


class QueueBench:
    """One queue under test, and all that a law did to its store.

    It is typed as a queue with leases; a law that uses them needs ``Capability.LEASES``.

    Attributes:
        folder: Empty, of this law alone.
        clock: The clock that the queue uses.
        patience_secs: How long to wait for what takes no time.
    """

    def __init__(self, kit: QueueKit, folder: Path) -> None:
        self._kit = kit
        self.patience_secs = kit.patience_secs
        self.folder = folder
        self.clock: Clock = FakeClock() if kit.takes_clock() else SYSTEM_CLOCK
        self.lease_secs = 0.0
        self._opened: list[LeasedJobQueue] = []
        self._children: list[KitChild] = []

    # ---- opening --------------------------------------------------------------------------

    def open(
        self, *, real_time: bool = False, clock: Clock | None = None, **settings: Any
    ) -> LeasedJobQueue:
        """Open the queue under test, which is ``queue`` from then on.

        Args:
            real_time: Whether the law waits for other threads or processes.
            clock: Used in place of a ``FakeClock`` where the backend takes one.
        """
        folder = self.folder / f"store{len(self._opened)}"
        folder.mkdir()
        extra: dict[str, Any] = {}
        if real_time:
            self.clock = SYSTEM_CLOCK
        elif self._kit.takes_clock():
            extra["clock"] = self.clock = clock or FakeClock()
        is_short = not extra and not real_time
        self.lease_secs = settings.setdefault("lease_secs", SHORT_LEASE_SECS if is_short else 30.0)
        queue = self._kit.make(folder, **extra, **settings)
        self._opened.insert(0, cast("LeasedJobQueue", queue))
        return self._opened[0]

    @property
    def queue(self) -> LeasedJobQueue:
        """The queue that was opened last; opens one when there is none."""
        return self._opened[0] if self._opened else self.open(clock=self.clock)

    @property
    def has_start_marks(self) -> bool:
        """Whether the backend tells deliveries that started from those that did not."""
        return type(self.queue).mark_started is not LeasedJobQueue.mark_started

    def can(self, capability: Capability) -> bool:
        """Tell whether the queue declares a capability."""
        return capability in self.queue.capabilities

    def reopen(self) -> LeasedJobQueue:
        """Return a second queue on the store of ``queue``. Skips where there can be none."""
        other = self._kit.reopen(self.queue)
        if other is None:
            raise SkipTest("the store is not shared between instances")
        self._opened.append(cast("LeasedJobQueue", other))
        return self._opened[-1]

    def child(self, action: Callable[..., None], **parameters: Any) -> KitChild:
        """Start a process that opens the store of ``queue``. Skips where it cannot.

        ``child.py`` has actions; others are functions at the top level of a module.
        """
        factory = self._kit.process_factory(self.queue)
        if factory is None:
            raise SkipTest("the store is not shared between processes")
        self._children.append(KitChild(factory, action, parameters))
        return self._children[-1]

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
        queue = self.queue
        job = self.job(*args, **fields)
        existing = queue.enqueue(job)
        assert existing is None, "a fresh job is refused"
        return job

    def popped(self, n: int = 60) -> list[str]:
        """Return the ids of what ``pop_batch(n)`` gives."""
        return [job.id for job in self.queue.pop_batch(n)]

    def claim(self, owner: str = A, **options: Any) -> JobRecord:
        """Claim exactly one job."""
        jobs = self.queue.claim(1, owner, **options)
        assert len(jobs) == 1, f"claim(1) by {owner} gave {len(jobs)} jobs where one is due"
        return jobs[0]

    def claimed(self, n: int = 9, owner: str = B, **options: Any) -> list[str]:
        """Return the ids of what ``claim(n)`` gives."""
        return [job.id for job in self.queue.claim(n, owner, **options)]

    def put_and_claim(self, owner: str = A, **fields: Any) -> JobRecord:
        """Enqueue a job and claim it; the store holds no other one that is due."""
        job = self.put(**fields)
        claimed = self.claim(owner)
        assert claimed.id == job.id, "another job than the one that is due was claimed"
        return claimed

    def start(self, owner: str = A, **fields: Any) -> JobRecord:
        """Do as ``put_and_claim``, and mark the start of user code."""
        job = self.put_and_claim(owner, **fields)
        self.queue.mark_started(job)
        return job

    def settle(self, job: JobRecord, *args: Any, **fields: Any) -> bool:
        """Settle one job at the queue's time and return whether it was accepted."""
        now = self.clock.now()
        times = {"started_at": now, "finished_at": now}
        answer = self.queue.settle([make_settlement(job, *args, **{**times, **fields})])
        assert answer in ([True], [False]), "settle of one job gives one answer"
        return answer[0]

    def seen(self, job: JobRecord) -> JobSnapshot:
        """Return the snapshot of a job that has to be there."""
        snapshot = self.queue.get(job.id)
        assert snapshot is not None, f"get gave None for a stored job: {job.id}"
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

    def after(self, secs: float) -> float:
        """Return the moment so many seconds from now."""
        return self.clock.now() + secs

    def advance(self, secs: float) -> None:
        """Let time pass."""
        if isinstance(self.clock, FakeClock):
            self.clock.advance(secs)
        else:
            self.clock.sleep(secs)

    def pass_soon(self) -> None:
        """Let ``soon_secs`` pass, and a little more."""
        self.advance(self.soon_secs * 1.1)

    def end_leases(self) -> None:
        """Let enough time pass for every lease to end that is not renewed."""
        self.advance(self.lease_secs * 1.1)

    def lose_workers(self) -> list[JobRecord]:
        """Let the leases of all workers end and return what ``reap`` takes back."""
        self.end_leases()
        return self.queue.reap()

    def lose_worker(self) -> JobRecord:
        """Do as ``lose_workers`` where one job is claimed, and return it."""
        reaped = self.lose_workers()
        assert len(reaped) == 1, "reap takes back the one job whose lease ended"
        return reaped[0]

    def wait_until(self, is_reached: Callable[[], bool], what: str) -> None:
        """Look again and again, in real time, until something is so."""
        deadline = SYSTEM_CLOCK.monotonic() + self.patience_secs
        while not is_reached():
            is_late = SYSTEM_CLOCK.monotonic() >= deadline
            assert not is_late, f"not after {self.patience_secs:g} s: {what}"
            SYSTEM_CLOCK.sleep(0.01)


def takes_clock(function: Callable[..., Any]) -> bool:
    """Tell whether a function names ``clock`` among its parameters."""
    return "clock" in inspect.signature(function).parameters
