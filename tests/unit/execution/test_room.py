"""How much is claimed, of which tasks and queues: what lanes can start, and no more."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nuvom import current_job
from nuvom.errors import CapabilityMissing
from nuvom.execution.pace import Pace
from nuvom.execution.room import QueueLimits, Room, Served, Turn
from nuvom.execution.running import InHand, RunningJob
from nuvom.testing import make_job
from nuvom.worker import Worker
from tests.engine import LIMIT_SECS, Engine, ToyQueue, make_runtime, with_backends


class FakeLane:
    """A lane that has the room it is said to have."""

    def __init__(self, name: str, free: int, backlog: int = 0) -> None:
        self.name = name
        self.has = free
        self.waits = backlog
        self.size = 4

    def room(self) -> int:
        return self.has

    def backlog(self) -> int:
        return self.waits


class FakeRunner:
    """Knows tasks by lane."""

    def __init__(self, **known: list[str]) -> None:
        self.refused: dict[str, str] = {}
        self._known = known

    def known(self, lane: str) -> list[str]:
        return self._known.get(lane, [])


def room(runner: FakeRunner, limits: Any = None, *, cap: int | None = None, **free: int) -> Room:
    threads, loop, children = (
        FakeLane(name, free.get(name, 4)) for name in ("thread", "async", "process")
    )
    parts: tuple[Any, Any, Any] = (threads, (loop, children), runner)
    return Room(*parts, pace=Pace(4, cap), limits=limits)


def test_a_worker_of_one_lane_makes_one_claim_for_whatever_comes() -> None:
    runner = FakeRunner(thread=["t"])
    runner.refused["gone"] = "no such task"
    assert [Turn(4, ["gone"])] == list(room(runner).turns())
    assert [] == list(room(runner, thread=0).turns())


def test_each_lane_claims_what_it_can_start_of_its_own_tasks() -> None:
    runner = FakeRunner(thread=["t"], process=["p"], **{"async": ["a"]})
    turns = list(room(runner, thread=3, process=2, **{"async": 1000}).turns())
    assert [Turn(512, ["t", "p"]), Turn(2, ["t", "a"]), Turn(3, ["a", "p"])] == turns
    assert [Turn(2, ["t", "a"])] == list(room(runner, thread=0, process=2, **{"async": 0}).turns())


def test_no_claim_is_larger_than_the_settings_allow() -> None:
    place = room(FakeRunner(process=["p"], **{"async": ["a"]}), cap=3, **{"async": 1000})
    assert [3, 3, 3] == [turn.most for turn in place.turns()]
    for _ in range(10):
        place._pace.finished(1_000_000, 0.1)
    assert [3, 3, 3] == [turn.most for turn in place.turns()]


def test_the_room_is_measured_when_a_turn_is_asked_for() -> None:
    place = room(FakeRunner(process=["p"]), process=2)
    turns = place.turns()
    assert Turn(2, []) == next(turns)
    place._threads.__dict__["has"] = 1  # meanwhile something came that nobody had known of
    assert Turn(1, ["p"]) == next(turns)


# ---- limits of queues -------------------------------------------------------------------


def held(*queues: str) -> InHand:
    in_hand, nobody = InHand(), object()
    for number, queue in enumerate(queues):
        record = make_job("tests.t", id=str(number), queue=queue)
        in_hand.add(RunningJob(record, "me", nobody, 0.0))
    return in_hand


def limited(most: dict[str, int], served: Served, *queues: str) -> list[tuple[Any, ...]]:
    place = room(FakeRunner(thread=["t"]), QueueLimits(most, served, held(*queues)))
    return [
        (turn.most, turn.served and turn.served.queues, turn.served and turn.served.exclude)
        for turn in place.turns()
    ]


def test_a_limited_queue_gives_what_it_has_left_and_the_others_what_there_is_room_for() -> None:
    everything = Served(None)
    found = limited({"mail": 3}, everything, "mail", "other", "other")
    assert {(2, ("mail",), ()), (4, None, ("mail",))} == set(found)
    assert [(4, None, ("mail",))] == limited({"mail": 1}, everything, "mail")


def test_an_excluded_queue_stays_excluded() -> None:
    assert [(4, None, ("mail", "mail"))] == limited({"mail": 3}, Served(None, ("mail",)))


def test_named_queues_keep_their_order() -> None:
    served = Served(("a", "b", "mail", "c", "d"))
    assert [(4, ("a", "b"), ()), (1, ("mail",), ()), (4, ("c", "d"), ())] == limited(
        {"mail": 1, "elsewhere": 9}, served
    )


def test_no_queue_is_always_asked_first() -> None:
    limits = QueueLimits({"a": 1, "b": 1}, Served(None), InHand())
    firsts = [next(limits.shares())[0].queues for _ in range(6)]
    assert {None: 2, ("a",): 2, ("b",): 2} == Counter(firsts)


def test_a_queue_that_cannot_hold_back_takes_no_limits(project: Path) -> None:
    runtime = with_backends(make_runtime(project), ToyQueue())
    with pytest.raises(CapabilityMissing, match="concurrency"):
        Worker(runtime, concurrency={"mail": 1})
    assert {} == Worker(runtime).concurrency


# ---- with a worker ----------------------------------------------------------------------


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
