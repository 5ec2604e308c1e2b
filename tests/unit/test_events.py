"""What happens in the engine, and how it reaches who wants to know."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from nuvom import events
from nuvom.events import Event, EventBus, JobCancelled, WorkerStarted
from tests.engine import LIMIT_SECS

STARTED = WorkerStarted("w")
CANCELLED = JobCancelled("j")


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


def test_subscribers_are_called_in_the_order_in_which_they_came(bus: EventBus) -> None:
    seen: list[int] = []
    for number in range(3):
        bus.subscribe(WorkerStarted, partial(lambda number, _: seen.append(number), number))
    bus.emit(STARTED)
    assert [0, 1, 2] == seen


def test_active_types_are_those_that_somebody_wants(bus: EventBus) -> None:
    assert set() == bus.active
    end = bus.subscribe(WorkerStarted, print)
    assert {WorkerStarted} == bus.active
    end_all = bus.subscribe(Event, print)
    assert bus.active > {WorkerStarted, JobCancelled, events.BackendFailed, Event}
    end_all()
    assert {WorkerStarted} == bus.active
    end()
    assert set() == bus.active


def test_end_is_that_of_one_subscription(bus: EventBus) -> None:
    seen: list[Event] = []
    end = bus.subscribe(WorkerStarted, seen.append)
    bus.subscribe(WorkerStarted, seen.append)
    end()
    end()
    bus.emit(STARTED)
    assert [STARTED] == seen


@pytest.mark.parametrize("failure", [ValueError("no good"), SystemExit(3), GeneratorExit()])
def test_callback_that_raises_harms_nobody_and_is_reported(
    bus: EventBus, failure: BaseException
) -> None:
    seen: list[Event] = []
    reports: list[tuple[str, BaseException, int]] = []

    def bad(*_: object) -> None:
        raise failure

    bus.subscribe(WorkerStarted, bad)
    bus.subscribe(WorkerStarted, seen.append)
    bus.emit(STARTED)
    bus.on_failure(lambda *report: reports.append(report))
    bus.emit(STARTED)
    assert [STARTED, STARTED] == seen
    assert [(bad.__qualname__, failure, 2)] == reports
    bus.on_failure(bad)  # a report that fails reaches nobody either
    bus.emit(STARTED)
    assert 3 == len(seen)
    assert {bad.__qualname__: 4} == bus.failures


def test_ctrl_c_reaches_the_program_whose_main_thread_emits(bus: EventBus) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    bus.subscribe(WorkerStarted, interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.emit(STARTED)
    bus.on_failure(interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.report("a subscriber", ValueError())


def test_interrupt_that_a_callback_raises_in_another_thread_is_a_failure(bus: EventBus) -> None:
    passed: list[bool] = []

    def interrupt(_: Event) -> None:
        raise KeyboardInterrupt

    def emit() -> None:
        bus.emit(STARTED)
        passed.append(True)

    bus.subscribe(WorkerStarted, interrupt)
    thread = threading.Thread(target=emit)
    thread.start()
    thread.join(LIMIT_SECS)
    assert [True] == passed
    assert {interrupt.__qualname__: 1} == bus.failures


def test_callbacks_may_subscribe_and_end(bus: EventBus) -> None:
    seen: list[str] = []

    def first(_: Event) -> None:
        seen.append("first")
        end()
        bus.subscribe(WorkerStarted, lambda _: seen.append("second"))

    end = bus.subscribe(WorkerStarted, first)
    bus.emit(STARTED)
    bus.emit(STARTED)
    assert ["first", "second"] == seen


def test_threads_may_subscribe_at_once(bus: EventBus) -> None:
    seen: list[Event] = []
    together = threading.Barrier(8)

    def come_and_go() -> None:
        together.wait()
        for _ in range(100):
            bus.subscribe(WorkerStarted, seen.append)()
        bus.subscribe(WorkerStarted, seen.append)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_SECS)
    bus.emit(STARTED)
    assert 8 == len(seen)
