"""``nuvom copy``, ``export``, ``import``: jobs change their store, and people see it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nuvom.config.address import StoreAddress
from nuvom.config.sources import load
from nuvom.core.ids import new_id
from nuvom.queue_backends.base import BaseJobQueue
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.scheduler import planner
from nuvom.scheduler.record import ScheduleRecord, ScheduleRule
from nuvom.testing.builders import make_job
from tests.cli.shell import ROOT, call, invoke, run, status

OLD, NEW = "sqlite:.nuvom/nuvom.db", "file:new-store"
WAYS = ("--from", OLD, "--to", NEW)


@pytest.fixture
def in_the_new_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give a function that points the settings at the new store."""

    def point() -> None:
        for name, value in {"QUEUE_BACKEND": "file", "RESULT_BACKEND": "file"}.items():
            monkeypatch.setenv(f"NUVOM_{name}", value)
        monkeypatch.setenv("NUVOM_FILE_PATH", "new-store")

    return point


def test_jobs_and_results_go_to_another_store_and_are_worked_on_there(
    tasks: Path, drain: Callable[[], None], in_the_new_store: Callable[[], None]
) -> None:
    done = run("tasks.add", 1, 2)
    drain()
    waiting = [run("tasks.add", 3, number) for number in range(2)]
    dry = invoke("copy", *WAYS, "--results", "--dry-run")
    assert "2 jobs would move from" in dry.out
    assert "1 ended job would be copied" in dry.out
    assert not (tasks / "new-store").exists()

    answer = invoke("copy", *WAYS, "--results", "--json")
    assert answer.code == 0
    figures = {"moved": 2, "ended": 1, "known": 0, "waiting": 0, "running": 0, "refused": []}
    assert figures.items() <= answer.json.items()
    assert f"sqlite://{tasks / '.nuvom' / 'nuvom.db'}" == answer.json["from"]
    told = invoke("copy", *WAYS, "--results", "--verify")
    assert (0, "3 jobs equal, 0 differences.\n") == (told.code, told.out)

    assert status(waiting[0]) == "CANCELLED"
    moved = invoke("wait", waiting[0])
    assert "it was moved to file://" in moved.out + moved.err
    again = invoke("retry", "job", waiting[0])
    assert again.code != 0
    assert "was moved to file://" in again.err
    in_the_new_store()
    drain()
    assert ["SUCCESS"] * 3 == [status(one) for one in (done, *waiting)]


SCHEDULE = """\
import sys

import nuvom
from tasks import add

if sys.argv[1:]:
    add.schedule(1, 2, cron="@hourly", name="hourly")
print(*(f"{one.name} {one.state} {one.record.id}" for one in nuvom.schedules()))
"""


def test_schedules_go_along_and_fire_in_one_store_only(
    tasks: Path, in_the_new_store: Callable[[], None]
) -> None:
    def schedules(*args: str) -> list[str]:
        command = [sys.executable, "scheduling.py", *args]
        done = subprocess.run(command, cwd=tasks, capture_output=True, text=True, check=True)
        return done.stdout.split()

    (tasks / "scheduling.py").write_text(SCHEDULE, encoding="utf-8")
    name, state, schedule_id = schedules("make")
    assert ("hourly", "active") == (name, state)
    assert call("export", "jobs.ndjson", cwd=tasks).code == 0
    dry = invoke("copy", *WAYS, "--dry-run")
    assert "1 schedule and 0 jobs would move from" in dry.out
    answer = invoke("copy", *WAYS, "--json")
    assert (0, 1) == (answer.code, answer.json["schedules"])
    told = invoke("copy", *WAYS, "--verify")
    assert (0, "1 schedule and 0 jobs equal, 0 differences.\n") == (told.code, told.out)

    assert ["hourly", "disabled", schedule_id] == schedules("make")
    read = invoke("import", "jobs.ndjson", "--plain")
    assert read.code == 7
    assert "schedule hourly\tit was moved from here to file://" in read.out
    in_the_new_store()
    assert ["hourly", "active", schedule_id] == schedules()
    assert "1 known before" in invoke("import", "jobs.ndjson").out


def test_a_job_that_cannot_be_moved_is_named_and_exits_7(
    tasks: Path, in_the_new_store: Callable[[], None]
) -> None:
    job = run("tasks.add", 1, 2)
    assert invoke("export", "jobs.ndjson").code == 0
    in_the_new_store()
    assert invoke("import", "jobs.ndjson").code == 0
    answer = invoke("copy", *WAYS, "--plain")
    assert answer.code == 7
    assert f"{job}\tfile://{tasks / 'new-store'} has this job, PENDING" in answer.out
    told = invoke("copy", *WAYS, "--verify")
    assert told.code == 7
    assert "both stores have it" in told.out


@pytest.mark.parametrize(
    ("ways", "code", "text"),
    [
        (("--from", OLD, "--to", "sqlite:.nuvom/../.nuvom/nuvom.db"), 2, "are the same store"),
        (("--from", "sqlite:none.db", "--to", NEW), 5, "it does not exist"),
        (("--from", "mysql://me:secret@host/db", "--to", NEW), 4, "mysql://host/db is not"),
        (("--from", "nuvom.db", "--to", NEW), 4, "nuvom.db is not the address of a store"),
        (("--from", OLD, "--to", "redis://:secret@127.0.0.1:1/0"), 5, "redis://127.0.0.1:1/0"),
    ],
    ids=str,
)
def test_an_address_that_leads_nowhere_is_an_error_without_secrets(
    tasks: Path, ways: tuple[str, ...], code: int, text: str
) -> None:
    run("tasks.add", 1, 2)
    answer = invoke("copy", *ways)
    assert (code, "") == (answer.code, answer.out)
    assert text in answer.err
    assert "secret" not in answer.err
    assert [] == [path.name for path in tasks.iterdir() if path.name.startswith("new-store")]


def test_a_file_holds_what_a_store_holds(tasks: Path, drain: Callable[[], None]) -> None:
    done = run("tasks.add", 1, 2)
    drain()
    waiting = run("tasks.add", 3, 4)
    written = call("export", "--results", cwd=tasks)
    assert 2 == len(written.out.splitlines())
    assert "1 waiting job and 1 ended job written, 0 running left out." in written.err
    invoke("init", "other")
    read = call("import", "--json", cwd=tasks / "other", stdin=f"{written.out}torn")
    assert read.code == 7
    assert (1, 1, 0) == (read.json["moved"], read.json["ended"], read.json["known"])
    (torn,) = read.json["refused"]
    assert "line 3" == torn["id"]
    assert "2 known before" in call("import", cwd=tasks / "other", stdin=written.out).out
    for job, name in ((done, "SUCCESS"), (waiting, "PENDING")):
        assert name == call("status", job, "-f", "raw", cwd=tasks / "other").out.strip()


KILLED = """\
import os

from nuvom.cli.cli import main
from tests.lab.crashing import arm_from

arm_from(os.environ)
main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("target", "point", "states"),
    [
        ("sqlite:new.db", "before_commit", ("active", None)),
        ("sqlite:new.db", "after_commit", ("active", "disabled")),
        ("file:new-store", "before_commit", ("active", "disabled")),
        ("file:new-store", "after_commit", ("disabled", "disabled")),
    ],
)
def test_a_schedule_never_fires_from_two_stores_wherever_the_command_is_killed(
    tasks: Path, target: str, point: str, states: tuple[str, str | None]
) -> None:
    stores = OLD, target
    schedule_in(OLD)
    environment = {**os.environ, "CRASHPOINT": f"sqlite.schedules.{point}:kill"}
    command = [sys.executable, "-c", KILLED, "copy", "--from", OLD, "--to", target]
    killed = subprocess.run(
        command, cwd=tasks, env={**environment, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert -signal.SIGKILL == killed.returncode
    assert states == tuple(map(state_in, stores))
    assert invoke("copy", "--from", OLD, "--to", target).code == 0
    assert ("disabled", "active") == tuple(map(state_in, stores))


def schedule_in(address: str) -> None:
    """Store a schedule in the store at this address."""
    record = ScheduleRecord("hourly", new_id(), ScheduleRule(interval=3600.0), make_job())
    with opened(address) as queue:
        assert queue.schedules().apply([planner.created(record, 1.0)]) == [True]


def state_in(address: str) -> str | None:
    with opened(address) as queue:
        record = queue.schedules().get("hourly")
        return None if record is None else record.state


@contextmanager
def opened(address: str) -> Iterator[BaseJobQueue]:
    settings = StoreAddress.of(address, load(Path.cwd()).settings).settings
    queue = SQLiteJobQueue(settings) if address.startswith("sqlite") else FileJobQueue(settings)
    try:
        yield queue
    finally:
        queue.stop()
