"""What happens in the engine, and how it reaches who wants to know."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from nuvom import events
from nuvom.events import Event, EventBus, JobCancelled, WorkerStarted, default_bus, subscribe
from tests.engine import LIMIT_SECS

STARTED = WorkerStarted("w")
CANCELLED = JobCancelled("j")


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


def test_subscriber_gets_its_events_in_order(bus: EventBus) -> None:
    seen: list[Event] = []
    bus.subscribe(WorkerStarted, seen.append)
    for event in (STARTED, CANCELLED, WorkerStarted("x")):
        bus.emit(event)
    assert [STARTED, WorkerStarted("x")] == seen


def test_subscriber_of_all_gets_all(bus: EventBus) -> None:
    seen: list[Event] = []
    bus.subscribe(Event, seen.append)
    bus.emit(STARTED)
    bus.emit(CANCELLED)
    assert [STARTED, CANCELLED] == seen


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


def test_event_of_a_plugin_is_active_with_all_others(bus: EventBus) -> None:
    class Fired(Event, frozen=True):
        schedule: str

    class FiredLate(Fired, frozen=True):
        secs: float

    bus.subscribe(Event, print)
    assert {Fired, FiredLate} < bus.active


def test_end_is_that_of_one_subscription(bus: EventBus) -> None:
    seen: list[Event] = []
    end = bus.subscribe(WorkerStarted, seen.append)
    bus.subscribe(WorkerStarted, seen.append)
    end()
    end()
    bus.emit(STARTED)
    assert [STARTED] == seen


def test_callback_that_raises_harms_nobody_and_is_counted(bus: EventBus) -> None:
    seen: list[Event] = []
    reports: list[tuple[str, str, int]] = []

    def bad(_: Event) -> None:
        raise ValueError("no good")

    bus.subscribe(WorkerStarted, bad)
    bus.subscribe(WorkerStarted, seen.append)
    bus.emit(STARTED)
    bus.on_failure(lambda name, error, count: reports.append((name, str(error), count)))
    bus.emit(STARTED)
    assert [STARTED, STARTED] == seen
    assert [(bad.__qualname__, "no good", 2)] == reports
    assert {bad.__qualname__: 2} == bus.failures
    bus.on_failure(None)
    bus.emit(STARTED)
    assert 1 == len(reports)


@pytest.mark.parametrize("failure", [OSError("the disk of the log is full"), SystemExit(3)])
def test_report_that_fails_reaches_nobody_who_emits_and_is_counted(
    bus: EventBus, failure: BaseException
) -> None:
    seen: list[Event] = []

    def bad(_: Event) -> None:
        raise ValueError("no good")

    def report(name: str, error: BaseException, count: int) -> None:
        raise failure

    bus.on_failure(report)
    bus.subscribe(WorkerStarted, bad)
    bus.subscribe(WorkerStarted, seen.append)
    bus.emit(STARTED)
    assert [STARTED] == seen
    assert {bad.__qualname__: 1, report.__qualname__: 1} == bus.failures


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()])
def test_callback_that_exits_is_a_callback_that_fails(bus: EventBus, error: BaseException) -> None:
    seen: list[Event] = []
    reported: list[BaseException] = []

    def bad(_: Event) -> None:
        raise error

    bus.subscribe(WorkerStarted, bad)
    bus.subscribe(WorkerStarted, seen.append)
    bus.on_failure(lambda name, error, count: reported.append(error))
    bus.emit(STARTED)
    assert ([STARTED], [error]) == (seen, reported)
    assert {bad.__qualname__: 1} == bus.failures


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


def test_callback_without_a_name_is_called_by_its_class(bus: EventBus) -> None:
    class Bad:
        def __call__(self, event: Event) -> None:
            raise ValueError

    bus.subscribe(WorkerStarted, Bad())
    bus.emit(STARTED)
    assert [Bad.__qualname__] == list(bus.failures)


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


def test_default_bus_is_that_of_the_package() -> None:
    seen: list[Any] = []
    end = subscribe(WorkerStarted, seen.append)
    default_bus.emit(STARTED)
    end()
    default_bus.emit(STARTED)
    assert [STARTED] == seen


def test_events_are_never_changed() -> None:
    with pytest.raises(AttributeError):
        STARTED.worker = "x"  # type: ignore[misc]  # the point
