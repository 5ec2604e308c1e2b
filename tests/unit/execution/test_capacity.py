"""How much is claimed, of which tasks and queues: what lanes can start, and no more."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nuvom import current_job
from nuvom.config.settings import Settings
from nuvom.errors import CapabilityMissing
from nuvom.execution.attempts import OpenAttempt, OpenAttempts
from nuvom.execution.capacity import BatchSize, Capacity, Prefetch, QueueLimits
from nuvom.execution.settlement import ClaimRequest, Served
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.testing import make_job, make_settlement
from nuvom.worker import Worker
from tests.engine import LIMIT_SECS, Engine, ToyQueue, make_runtime, with_backends


class FakeLane:
    """A lane that has the room it is said to have."""

    def __init__(self, room: int, backlog: int = 0, free: int = 0) -> None:
        self.has = room
        self.ready = [None] * backlog
        self.free = lambda: free

    def room(self) -> int:
        return self.has


class Parts:
    """A worker's capacity, with lanes that are as a test says.

    Args:
        known: The tasks of each lane.
        free, named: The room of each lane; a lane without is not made yet.
    """

    def __init__(
        self,
        known: dict[str, list[str]],
        *,
        cap: int | None = None,
        limits: QueueLimits | None = None,
        free: Mapping[str, int] = {},
        **named: int,
    ) -> None:
        self.refused: dict[str, str] = {}
        self.known = known
        rooms = {**named, **free}
        self.lanes: dict[str, Any] = {name: FakeLane(room) for name, room in rooms.items()}
        context: Any = SimpleNamespace(runner=self, settings=Settings(batch_size=cap))
        self.capacity = Capacity(context, self.lanes, {"thread": 4, "async": 9, "process": 4})
        self.capacity._queue_limits = limits

    def requests(self) -> list[ClaimRequest]:
        return list(self.capacity.requests())


def test_a_worker_of_one_lane_makes_one_claim_for_whatever_comes() -> None:
    parts = Parts({"thread": ["t"]}, thread=4)
    parts.refused["gone"] = "no such task"
    assert [ClaimRequest(4, ["gone"], starts=True)] == parts.requests()
    assert parts.capacity.is_common
    assert [] == Parts({"thread": ["t"]}, thread=0).requests()


def test_each_lane_claims_what_it_can_start_of_its_own_tasks() -> None:
    known = {"thread": ["t"], "process": ["p"], "async": ["a"]}
    parts = Parts(known, thread=3, process=2, free={"async": 1000})
    assert [
        ClaimRequest(512, ["t", "p"]),
        ClaimRequest(2, ["t", "a"]),
        ClaimRequest(3, ["p", "a"], starts=True),
    ] == parts.requests()
    assert not parts.capacity.is_common
    parts = Parts(known, thread=0, process=2, free={"async": 0})
    assert [ClaimRequest(2, ["t", "a"])] == parts.requests()


def test_no_claim_is_larger_than_the_settings_allow() -> None:
    parts = Parts({"process": ["p"], "async": ["a"]}, cap=3, free={"async": 1000})
    assert [3, 3, 3] == [one.most for one in parts.requests()]
    for _ in range(10):
        parts.capacity.batch.finished(ended(*[0.0] * 1000), 0.1)
    assert [3, 3, 3] == [one.most for one in parts.requests()]


def test_the_room_is_measured_when_a_claim_is_asked_for() -> None:
    parts = Parts({"process": ["p"]}, thread=4, process=2)
    requests = parts.capacity.requests()
    assert ClaimRequest(2, []) == next(requests)
    parts.lanes["thread"].has = 1  # meanwhile something came that nobody had known of
    assert ClaimRequest(1, ["p"], starts=True) == next(requests)


def test_quick_jobs_are_claimed_ahead_until_half_a_batch_waits() -> None:
    parts = Parts({}, thread=0)
    parts.capacity.batch.finished(ended(*[0.0001] * 1000), 0.1)
    assert [8] == [one.most for one in parts.requests()]
    parts.lanes["thread"] = FakeLane(0, backlog=4)
    assert [4] == [one.most for one in parts.requests()]
    parts.lanes["thread"] = FakeLane(0, backlog=5)
    assert [] == parts.requests()


def test_jobs_may_wait_for_half_a_second_while_all_slots_are_busy() -> None:
    parts = Parts({})
    parts.lanes.update(thread=FakeLane(0, 3), process=FakeLane(0, 2, free=1))
    parts.lanes["async"] = FakeLane(0, 0)
    for lane in parts.lanes:
        parts.capacity.claimed_at[lane] = 10.0
    assert [] == parts.capacity.held_up(10.4)
    assert [parts.lanes["thread"]] == parts.capacity.held_up(10.6)
    parts.capacity.claimed_at["thread"] = 10.6
    assert [] == parts.capacity.held_up(11.0)


# ---- the size of a claim -----------------------------------------------------------------


def test_quick_jobs_double_the_size_up_to_what_takes_a_moment() -> None:
    batch = BatchSize(4, None)
    sizes = []
    for _ in range(8):
        batch.finished(ended(*[0.0004] * 1000), 0.1)  # 200 jobs in 20 ms
        sizes.append(batch.size)
    assert [8, 16, 32, 64, 128, 200, 200, 200] == sizes
    assert batch.is_bulk


def test_slow_jobs_shrink_the_size_at_once() -> None:
    batch = BatchSize(4, None)
    for _ in range(8):
        batch.finished(ended(*[0.0004] * 1000), 0.1)
    full = batch.size
    batch.finished(ended(*[0.4] * 10), 1.0)
    assert (4, False) == (batch.size, batch.is_bulk)
    batch.size = full
    batch.stalled()  # some wait behind slow ones
    assert (4, False) == (batch.size, batch.is_bulk)


def test_slow_jobs_that_end_together_are_not_quick() -> None:
    """Else a worker would take jobs ahead that then wait for it, while another one is idle."""
    batch = BatchSize(4, None)
    batch.finished(ended(0.2, 0.2), 0.001)
    assert (4, False) == (batch.size, batch.is_bulk)
    batch.finished(ended(0.0005, 0.0005), 0.001)
    assert (8, True) == (batch.size, batch.is_bulk)
    batch.finished(ended(60.0, lane="process"), 0.001)
    assert (8, True) == (batch.size, batch.is_bulk)


def test_quick_jobs_behind_a_slow_store_are_quick() -> None:
    batch = BatchSize(4, None)
    batch.finished(ended(*[0.0001] * 4), 0.1)
    assert (8, True) == (batch.size, batch.is_bulk)


def ended(*secs: float, lane: str = "thread") -> list[OpenAttempt]:
    attempts, nobody = [], cast("Any", None)
    for took in secs:
        job = make_job("tests.t")
        attempts.append(OpenAttempt(job, "me", nobody, 0.0))
        attempts[-1].lane = lane
        attempts[-1].settlement = make_settlement(job, started_at=1.0, finished_at=1.0 + took)
    return attempts


def test_prefetch_is_a_moment_of_work_and_none_of_slow_jobs() -> None:
    prefetch = Prefetch(2)
    assert 0 == prefetch.size  # nobody knows yet
    prefetch.took(0.01)
    assert 20 == prefetch.size
    for _ in range(20):
        prefetch.took(1.0)
    assert 0 == prefetch.size
    for _ in range(100):
        prefetch.took(0.0)
    assert 1000 < prefetch.size <= 1024
    prefetch.took(-5.0)  # a clock was set back
    assert prefetch.size <= 1024


# ---- limits of queues -------------------------------------------------------------------


def held(*queues: str) -> OpenAttempts:
    attempts, nobody = OpenAttempts(), cast("Any", None)
    for number, queue in enumerate(queues):
        record = make_job("tests.t", id=str(number), queue=queue)
        attempts.add([OpenAttempt(record, "me", nobody, 0.0)])
    return attempts


def limited(most: dict[str, int], served: Served, *queues: str) -> list[tuple[Any, ...]]:
    parts = Parts({"thread": ["t"]}, limits=QueueLimits(most, served, held(*queues)), thread=4)
    return [
        (one.most, one.served and one.served.queues, one.served and one.served.exclude)
        for one in parts.requests()
    ]


def test_a_limited_queue_gives_what_it_has_left_and_the_others_what_there_is_room_for() -> None:
    everything = Served(None)
    found = limited({"mail": 3}, everything, "mail", "other", "other")
    assert {(2, ("mail",), ()), (4, None, ("mail",))} == set(found)
    assert [(4, None, ("mail",))] == limited({"mail": 1}, everything, "mail")


def test_named_queues_keep_their_order() -> None:
    served = Served(("a", "b", "mail", "c", "d"))
    assert [(4, ("a", "b"), ()), (1, ("mail",), ()), (4, ("c", "d"), ())] == limited(
        {"mail": 1, "elsewhere": 9}, served
    )


def test_no_queue_is_always_asked_first() -> None:
    limits = QueueLimits({"a": 1, "b": 1}, Served(None), OpenAttempts())
    firsts = [next(limits.shares())[0].queues for _ in range(6)]
    assert {None: 2, ("a",): 2, ("b",): 2} == Counter(firsts)


def test_a_queue_that_cannot_hold_back_takes_no_limits(project: Path) -> None:
    runtime = with_backends(make_runtime(project), ToyQueue())
    with pytest.raises(CapabilityMissing, match="concurrency"):
        Worker(runtime, concurrency={"mail": 1})
    assert {} == Worker(runtime).concurrency


# ---- with a worker ----------------------------------------------------------------------


class SlowQueue(MemoryJobQueue):
    """A queue on a slow disk, which counts its claims."""

    claims = 0

    def claim(self, *args: Any, **options: Any) -> Any:
        self.claims += 1
        threading.Event().wait(0.01)
        return super().claim(*args, **options)

    def settle(self, settlements: Any) -> list[bool]:
        threading.Event().wait(0.01)
        return super().settle(settlements)


def test_a_long_queue_is_claimed_in_large_batches_however_slow_the_store(project: Path) -> None:
    queue = SlowQueue()
    with Engine(with_backends(make_runtime(project), queue), listens=False) as engine:
        engine.task(lambda: None, name="tests.noop").map([()] * 5000)
        engine.work(threads=4)
    assert queue.claims < 100  # counted: 17


class Meter:
    """Counts how many jobs of each queue are inside their code at once."""

    def __init__(self, expected: int) -> None:
        self.most: Counter[str] = Counter()
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._all_in = threading.Barrier(expected)

    def __call__(self, *, together: bool) -> None:
        queue = current_job().queue
        with self._lock:
            self._inside[queue] += 1
            self.most[queue] = max(self.most[queue], self._inside[queue])
        if together:
            self._all_in.wait(LIMIT_SECS)
        with self._lock:
            self._inside[queue] -= 1


@pytest.mark.parametrize("backend", ["memory", "sqlite", "file"])
def test_a_worker_keeps_the_limit_of_a_queue_and_fills_its_slots_with_others(
    project: Path, backend: str
) -> None:
    runtime = make_runtime(project, queue_backend=backend, result_backend=backend)
    with Engine(runtime) as engine:
        meter = Meter(4)
        task = engine.task(meter, name="tests.meter")
        mails = task.options(queue="mail").map([{"together": False}] * 20)
        others = task.map([{"together": True}] * 8)  # four at once, or it never ends
        engine.work(threads=5, concurrency={"mail": 1})
        assert {"SUCCESS"} == {str(job.status) for job in (*mails, *others)}
        assert 1 == meter.most["mail"]
        assert 4 <= meter.most["default"]
