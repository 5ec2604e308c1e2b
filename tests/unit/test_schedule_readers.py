"""What readers learn about schedules: the clocks of a zone, whose fire a job is, who fires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nuvom.core.views import WorkerInfo
from nuvom.errors import ScheduleNotFound
from nuvom.inspection.inspector import Inspector
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.scheduler.cron import next_change
from nuvom.scheduler.record import SCHEDULE, SCHEDULED_FOR, fire_of
from tests.engine import Engine, ToyQueue, make_runtime, with_backends


def at(*fields: int) -> float:
    return datetime(*fields, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]  # whole numbers


@pytest.mark.parametrize(
    ("zone", "after", "change", "hours"),
    [
        ("Europe/Berlin", at(2026, 11, 30), at(2027, 3, 28, 1), (1, 2)),
        ("Europe/Berlin", at(2027, 3, 28, 1), at(2027, 10, 31, 1), (2, 1)),
        ("Australia/Lord_Howe", at(2027, 1, 1), at(2027, 4, 3, 15), (11, 10.5)),
    ],
)
def test_the_next_change_of_the_clocks_is_found_to_the_second(
    zone: str, after: float, change: float, hours: tuple[float, float]
) -> None:
    offsets = (timedelta(hours=one) for one in hours)
    assert (change, *offsets) == next_change(zone, after)


def test_clocks_that_are_left_alone_do_not_change() -> None:
    assert next_change("Asia/Kathmandu", at(2026, 1, 1)) is None


@pytest.mark.parametrize(
    ("headers", "fire"),
    [
        (None, (None, None)),
        ({SCHEDULE: "daily", SCHEDULED_FOR: "1.5"}, ("daily", 1.5)),
        ({SCHEDULE: "daily", SCHEDULED_FOR: "soon"}, ("daily", None)),
    ],
)
def test_headers_tell_whose_fire_a_job_is(
    headers: dict[str, str] | None, fire: tuple[str | None, float | None]
) -> None:
    assert fire == fire_of(headers)


def test_workers_are_those_that_run_jobs_and_schedulers_those_that_fire(any_engine: Engine) -> None:
    queue, inspector = any_engine.runtime.queue, Inspector(any_engine.runtime)
    assert isinstance(queue, LeasedJobQueue)
    for name, about in {
        "worker": {"slots": 2},
        "both": {"slots": 1, "scheduler": True},
        "scheduler": {"slots": 0, "scheduler": True},
    }.items():
        queue.announce(WorkerInfo(id=name, **about))  # type: ignore[arg-type]  # as named
    assert {"worker", "both"} == {one.id for one in inspector.workers()}
    assert {"both", "scheduler"} == {one.id for one in inspector.schedulers()}
    assert {"worker", "both", "scheduler"} == {one.id for one in inspector.processes()}
    assert 2 == inspector.workers_on("default")


def test_a_store_without_schedules_has_none(project: Path) -> None:
    with Engine(with_backends(make_runtime(project), ToyQueue())) as engine:
        inspector = Inspector(engine.runtime)
        assert [] == list(inspector.schedules())
        with pytest.raises(ScheduleNotFound):
            inspector.schedule("daily")
