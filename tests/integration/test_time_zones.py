"""Times that Nuvom stores and shows are the same whatever the time zone of the process is."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from nuvom.inspection.formats import rfc3339
from nuvom.logs.formats import make_format
from nuvom.sdk import get_job_status
from tests.cli.shell import TASKS, invoke
from tests.engine import LIMIT_SECS, Engine, make_runtime

MOMENT = 1_767_225_600.5
AS_TEXT = "2026-01-01T00:00:00.500Z"
NAIVE = datetime(2090, 1, 1, 12, 30)  # noqa: DTZ001  # what is tested
IN_UTC = NAIVE.replace(tzinfo=UTC)

pytestmark = pytest.mark.skipif(not hasattr(time, "tzset"), reason="the system sets the zone")


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns"], autouse=True)
def _zone(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("name", ["plain", "json", "logfmt"])
def test_the_log_is_in_utc(name: str, tmp_path: Path) -> None:
    record = logging.makeLogRecord({"name": "nuvom", "msg": "x", "created": MOMENT, "msecs": 500.0})
    with (tmp_path / "log").open("w") as stream:
        assert AS_TEXT in make_format(name, stream).format(record)


def test_commands_write_utc(project: Path) -> None:
    (project / "tasks.py").write_text(TASKS)
    assert AS_TEXT == rfc3339(MOMENT)
    job = invoke("run", "add", "1", "2", "--at", "2090-01-01T12:30", "-q").out.strip()
    shown = invoke("inspect", "job", job, "--json").json
    assert "2090-01-01T12:30:00.000Z" == shown["run_at"]
    created = datetime.fromisoformat(shown["created_at"])
    assert abs((datetime.now(UTC) - created).total_seconds()) < LIMIT_SECS
    (listed,) = invoke("history", "recent", "--json").json["jobs"]
    assert shown["created_at"] == listed["created_at"]


def test_a_moment_without_a_zone_is_utc(project: Path) -> None:
    with Engine(make_runtime(project)) as engine, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job = engine.task(lambda: None, name="tests.t").options(run_at=NAIVE).delay()
        assert IN_UTC == get_job_status(job.id)["run_at"]
        assert abs((datetime.now(UTC) - job.created_at).total_seconds()) < LIMIT_SECS


def test_arguments_and_results_keep_the_zone_that_they_have(project: Path) -> None:
    values = [NAIVE, IN_UTC, date(2026, 1, 1)]
    with Engine(make_runtime(project)) as engine:
        job = engine.task(lambda given: given, name="tests.echo").delay(values)
        engine.work()
        assert [repr(one) for one in values] == [repr(one) for one in job.get(LIMIT_SECS)]
