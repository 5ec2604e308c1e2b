"""What happens in the engine, and how it reaches who wants to know."""

from __future__ import annotations

import pytest

from nuvom import events
from nuvom.events import Event, EventBus, JobCancelled, WorkerStarted

STARTED = WorkerStarted("w")
CANCELLED = JobCancelled("j")


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


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
