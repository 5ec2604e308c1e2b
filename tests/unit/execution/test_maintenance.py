"""What a worker does beside running jobs: beats, recovery, commands, pruning."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Waitable
from nuvom.core.record import JobStatus
from nuvom.core.views import WorkerInfo
from nuvom.events import BackendFailed, Event, EventBus, JobReaped
from nuvom.execution.attempts import OpenAttempt, OpenAttempts
from nuvom.execution.lanes import WorkerContext
from nuvom.execution.maintenance import Maintenance
from nuvom.testing import FakeClock, make_job, make_settlement
from tests.engine import wait_until
from tests.troubled import TroubledQueue

ME = "worker-1"
OTHER = "worker-2"


class Bench:
    """Maintenance of a memory queue, and lists of what it tells its loop."""

    def __init__(
        self, clock: FakeClock | None = None, queue: TroubledQueue | None = None, **settings: Any
    ) -> None:
        self.clock = clock or FakeClock()
        self.settings = Settings(**{"lease_secs": 30.0, **settings})
        self.queue = queue or TroubledQueue(self.settings, clock=self.clock)
        self.bus = EventBus()
        self.seen: list[Event] = []
        self.bus.subscribe(Event, self.seen.append)
        self.attempts = OpenAttempts()
        self.lost: list[OpenAttempt] = []
        self.words: list[str] = []
        self.changes = 0
        nothing: Any = None
        runner: Any = SimpleNamespace(wanted=["tests.probe"])
        context = WorkerContext(
            worker=ME,
            services=nothing,
            queue=self.queue,
            stores=nothing,
            runner=runner,
            settings=self.settings,
            clock=self.clock,
            bus=self.bus,
            attempts=self.attempts,
            lease_secs=self.settings.lease_secs,
        )
        self.queue.announce(WorkerInfo(id=ME))
        self.maintenance = Maintenance(self.queue, context, cast("Any", self), self.words.append)

    # ---- the loop -----------------------------------------------------------------------

    def lose(self, attempts: list[OpenAttempt]) -> None:
        self.lost += attempts

    def wake(self) -> None:
        self.changes += 1

    # ---- what tests do ------------------------------------------------------------------

    def claim(self, owner: str = ME, **fields: Any) -> OpenAttempt:
        """Enqueue and claim a job; return it in hand, where it is this worker's."""
        self.queue.enqueue(make_job(**fields))
        (record,) = self.queue.claim(1, owner)
        nobody: Any = None
        running = OpenAttempt(record, owner, nobody, self.clock.monotonic())
        if owner == ME:
            self.attempts.add([running])
        return running

    def tick(self, secs: float = 0.25) -> None:
        self.clock.advance(secs)
        self.maintenance.tick()

    def let_pass(self, secs: int) -> None:
        """Tick as often as a thread that nothing holds up."""
        for _ in range(secs):
            self.tick(1.0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# ---- leases ---------------------------------------------------------------------------------


def test_attempt_that_was_taken_over_is_given_up(bench: Bench) -> None:
    gone = bench.claim()
    bench.queue.release([gone.record])
    bench.queue.claim(1, ME)  # the same worker, a later lease
    bench.tick(6)
    assert [gone] == bench.lost


# ---- the dead -------------------------------------------------------------------------------


def test_nobody_is_taken_for_silent_while_all_come_back_from_a_stall(bench: Bench) -> None:
    live = bench.claim(OTHER)
    dead = bench.claim("gone")
    bench.tick(31)  # this thread was held up for so long, and so may all others have been
    assert [] == bench.seen
    bench.queue.extend(OTHER)
    bench.let_pass(int(bench.maintenance.beat_secs) + 1)
    assert [JobReaped] == [type(event) for event in bench.seen]
    assert {dead.record.id} == {one.job.id for one in bench.seen if isinstance(one, JobReaped)}
    assert live.record.id in bench.queue.extend(OTHER)


def test_the_silent_are_found_though_every_tick_is_late(bench: Bench) -> None:
    silent = bench.claim(OTHER)
    for _ in range(3):
        bench.tick(31)
    assert [silent.record.id] == [one.job.id for one in bench.seen if isinstance(one, JobReaped)]


# ---- parked jobs ----------------------------------------------------------------------------


def park(bench: Bench, task: str) -> None:
    running = bench.claim(func_name=task)
    bench.attempts.close(running)
    bench.queue.settle([make_settlement(running.record, JobStatus.PARKED)])


# ---- commands -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["extend", "commands"])
def test_word_is_obeyed_later_when_the_store_fails_just_then(bench: Bench, method: str) -> None:
    bench.queue.command(ME, "quiet")
    bench.queue.trouble.once(method)
    with pytest.raises(Exception, match="it is down"):
        bench.tick()
    bench.tick()
    assert ["quiet"] == bench.words


# ---- pruning --------------------------------------------------------------------------------


def end(bench: Bench, status: JobStatus) -> str:
    running = bench.claim()
    bench.attempts.close(running)
    now = bench.clock.now()
    bench.queue.settle([make_settlement(running.record, status, finished_at=now)])
    return running.record.id


def test_old_jobs_are_pruned_once_a_minute() -> None:
    bench = Bench(result_ttl_secs=100.0, failed_ttl_secs=1000.0)
    success, failed = end(bench, JobStatus.SUCCESS), end(bench, JobStatus.FAILED)
    bench.maintenance._next_prune = bench.clock.monotonic() + 60
    bench.tick(59)
    bench.tick(2)
    assert bench.queue.get(success) is not None
    bench.tick(60)
    assert bench.queue.get(success) is None
    assert bench.queue.get(failed) is not None
    bench.tick(1000)
    assert bench.queue.get(failed) is None
    assert 3 == bench.queue.trouble.calls["prune"]


def test_old_history_is_condensed_once_an_hour() -> None:
    bench = Bench()
    for _ in range(130):
        bench.tick(60)
    assert 3 == bench.queue.trouble.calls["condense_history"]


class Backlog(TroubledQueue):
    """A store with many old jobs, from which it takes a second to remove a chunk."""

    def __init__(self, clock: FakeClock, chunks: int) -> None:
        super().__init__(clock=clock)
        self.fake = clock
        self.chunks = chunks
        self.beats = [clock.monotonic()]

    def prune(self, *, success_before: float, failed_before: float, limit: int = 1000) -> int:
        self.fake.advance(1.0)
        self.chunks -= 1
        return limit if self.chunks > 0 else limit - 1

    def extend(self, owner: str) -> dict[str, int]:
        self.beats.append(self.clock.monotonic())
        return super().extend(owner)


class HurriedClock(FakeClock):
    """A clock whose waits pass by themselves, as often as it is told, and are noted."""

    def __init__(self, waits: int = 0) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._left = waits

    def wait(self, event: Waitable, secs: float | None = None) -> bool:
        if self._left == 0:
            return True
        self._left -= 1
        self.waits.append(secs)
        self.advance(secs or 0.0)
        return False


def test_no_beat_is_late_while_many_jobs_are_pruned() -> None:
    clock = HurriedClock(waits=200)
    queue = Backlog(clock, chunks=100)
    maintenance = Bench(clock, queue).maintenance
    maintenance._next_prune = clock.monotonic()
    maintenance._main()
    gaps = [later - before for before, later in pairwise(queue.beats)]
    assert 0 >= queue.chunks
    assert max(gaps) <= 2 * maintenance.beat_secs


# ---- the thread -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, ZeroDivisionError("a fault of the engine"), SystemExit(0)])
def test_trouble_delays_maintenance_and_never_ends_it(
    bench: Bench, error: BaseException | None
) -> None:
    bench.queue.trouble.once("reap", *([] if error is None else [error]))
    bench.maintenance.start()
    calls = bench.queue.trouble.calls

    def advances_until(times: int) -> bool:
        bench.clock.advance(0.25)
        return calls["reap"] >= times

    try:
        wait_until(lambda: advances_until(3))
    finally:
        bench.maintenance.stop()
    (event,) = [one for one in bench.seen if isinstance(one, BackendFailed)]
    assert "keep" == event.op


def test_trouble_with_recovery_stops_nothing_else(bench: Bench) -> None:
    bench.queue.trouble.always("reap")
    park(bench, "tests.probe")
    for _ in range(3):
        with pytest.raises(Exception, match="it is down"):
            bench.tick(1.0)
    assert {} == bench.queue.parked_tasks
    assert 1 == bench.queue.trouble.calls["prune"]
