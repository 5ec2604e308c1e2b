"""``schedule``, ``runscheduler`` and the overview: schedules as people see and change them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.options import NO_CALL_OPTIONS
from nuvom.core.views import WorkerInfo
from nuvom.discovery.scan import scan
from nuvom.discovery.stub import definition_of
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.runtime import build_runtime
from nuvom.scheduler import planner
from nuvom.scheduler.record import ScheduleChange, ScheduleRecord
from nuvom.scheduler.schedule import put, store_of, wanted_record
from nuvom.scheduler.service import SchedulerProcess
from nuvom.scheduler.trigger import checked_rule
from tests.cli.shell import Answer, call, invoke, run, spawn, status
from tests.cli.test_completion import offered
from tests.cli.test_worker import end, posix, read_until, until
from tests.lab.servers import SERVERS, drop_stores, new_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.runtime import Runtime

NEW_YEAR = "0 0 1 1 *"  # no test meets it


@contextmanager
def opened(root: Path) -> Iterator[Runtime]:
    """Give a runtime of the project, as another program has one."""
    runtime = build_runtime(load(root))
    try:
        yield runtime
    finally:
        runtime.stop()


def make(root: Path, name: str, *args: object, task: str = "tasks.add", **options: Any) -> None:
    """Store a schedule of a task of the project."""
    (entry,) = [one for one in scan(root).tasks if one.name == task]
    with opened(root) as runtime:
        job = runtime.dispatcher.make_record(definition_of(entry), args, {}, NO_CALL_OPTIONS)
        rule = checked_rule(options or {"cron": NEW_YEAR}, SYSTEM_CLOCK.now())
        put(store_of(runtime), wanted_record(job, NO_CALL_OPTIONS, rule, name))


def change(root: Path, decide: Callable[[ScheduleRecord], ScheduleRecord], name: str) -> None:
    """Write what ``decide`` makes of a schedule, whatever a scheduler would say of it."""
    with opened(root) as runtime:
        store = store_of(runtime)
        seen = store.get(name)
        assert seen is not None
        after = decide(seen)
        assert store.apply([ScheduleChange(name, seen.revision, after)]) == [True]


def overdue(root: Path, name: str) -> None:
    """Let a schedule have been due for an hour."""
    at = SYSTEM_CLOCK.now() - 3600

    def late(seen: ScheduleRecord) -> ScheduleRecord:
        return ScheduleRecord(
            seen.name, seen.id, seen.rule, seen.job, next_at=at, due_at=at, revision=9
        )

    change(root, late, name)


def record(root: Path, name: str) -> ScheduleRecord | None:
    with opened(root) as runtime:
        return store_of(runtime).get(name)


@pytest.fixture
def yearly(tasks: Path) -> Path:
    """Make a project with a schedule that fires at the next new year, which no test meets."""
    invoke("discover", "tasks")
    make(tasks, "yearly", 2, 3)
    return tasks


@contextmanager
def announced(root: Path, **about: Any) -> Iterator[None]:
    """Have the store know of a living process."""
    with opened(root) as runtime:
        assert isinstance(runtime.queue, LeasedJobQueue)
        runtime.queue.announce(WorkerInfo(id="01990000-0000-7000-8000-0000000000aa", **about))
        yield


SCHEDULER: dict[str, Any] = {"slots": 0, "scheduler": True}


# ---- list, show, next -----------------------------------------------------------------------


def test_a_schedule_whose_zone_is_unknown_here_is_shown_beside_the_others(yearly: Path) -> None:
    make(yearly, "often", 1, 1, interval=600)

    def elsewhere(seen: ScheduleRecord) -> ScheduleRecord:
        rule = replace(seen.rule, timezone_name="Mars/Olympus")
        return replace(seen, rule=rule, disabled="its zone", revision=seen.revision + 1)

    change(yearly, elsewhere, "yearly")
    _, *rows = invoke("schedule", "list", "--plain").rows
    assert [row[0] for row in rows] == ["often", "yearly"]
    shown = invoke("schedule", "show", "yearly")
    assert (shown.code, "Mars/Olympus" in shown.out) == (0, True)


def test_schedules_are_listed_with_what_they_do_and_when(yearly: Path) -> None:
    make(yearly, "often", 1, 1, interval=600)
    invoke("schedule", "pause", "often")
    often, listed = invoke("schedule", "--json").json["schedules"]
    assert (often["description"], often["state"], often["next_at"]) == (
        "every 10 min",
        "paused",
        None,
    )
    assert (listed["task"], listed["cron"], listed["fired"]) == ("tasks.add", NEW_YEAR, 0)
    assert listed["next_at"].endswith("-01-01T00:00:00.000Z")
    heading, *rows = invoke("schedule", "list", "--plain").rows
    assert [row[heading.index("name")] for row in rows] == ["often", "yearly"]
    told = invoke("schedule").out
    assert "Missed" not in told
    assert "every 10 min" in told


def test_a_project_without_schedules_says_how_to_make_one(tasks: Path) -> None:
    answer = invoke("schedule")
    assert (answer.code, answer.out) == (0, "")
    assert "task.schedule(" in answer.err
    assert invoke("schedule", "next").err == "No schedule is active.\n"


def test_a_schedule_is_shown_with_its_jobs_and_without_its_secrets(yearly: Path) -> None:
    make(yearly, "mailing", "bob", task="tasks.send", cron="0 9 * * *", timezone_name="Asia/Tokyo")
    make(yearly, "secret", "hunter2", task="tasks.boom")
    job = invoke("schedule", "run", "mailing").out.strip()
    shown = invoke("schedule", "show", "mailing", "--json", "--count", "3").json
    assert [one["id"] for one in shown["jobs"]] == [job]
    assert (shown["args"], shown["queue"], shown["misfire"]) == (["bob"], "mail", "latest")
    assert [at[11:] for at in shown["next"]] == ["00:00:00.000Z"] * 3
    told = invoke("schedule", "show", "mailing").out
    assert told.startswith("active  mailing\n")
    assert " 09:00:00 +09:00" in told
    assert "hunter2" not in invoke("schedule", "show", "secret").out


def test_the_next_fires_of_all_schedules_come_in_order(yearly: Path) -> None:
    make(yearly, "hourly", 1, 1, cron="@hourly")
    fires = invoke("schedule", "next", "--json", "--count", "4").json["fires"]
    assert [one["name"] for one in fires] == ["hourly"] * 4
    assert fires == sorted(fires, key=lambda one: str(one["at"]))
    (only,) = invoke("schedule", "next", "yearly", "--count", "1", "--json").json["fires"]
    assert only["at"].endswith("-01-01T00:00:00.000Z")


def test_an_unknown_schedule_is_not_found_and_the_nearest_named(yearly: Path) -> None:
    for command in ("show", "next", "run", "pause", "resume", "delete"):
        answer = invoke("schedule", command, "yealry")
        assert answer.code == 3
        assert 'Did you mean "yearly"?' in answer.err


def test_names_of_schedules_are_offered_to_a_shell(yearly: Path) -> None:
    assert offered("schedule", "show", incomplete="ye") == ["yearly"]


# ---- changes --------------------------------------------------------------------------------


def test_a_paused_schedule_does_not_fire_until_it_is_resumed(yearly: Path) -> None:
    assert invoke("schedule", "pause", "yearly").out == "Schedule yearly: paused.\n"
    (one,) = invoke("schedule", "--json").json["schedules"]
    assert (one["state"], "@" in one["paused_by"]) == ("paused", True)
    assert "does not fire" in invoke("schedule", "next", "yearly").err
    resumed = invoke("schedule", "resume", "yearly", "--json").json
    assert (resumed["change"], resumed["state"]) == ("resumed", "active")
    assert invoke("schedule", "resume", "yearly").out == "Schedule yearly: was not paused.\n"


def test_a_run_by_hand_is_a_job_of_the_schedule(yearly: Path, drain: Callable[[], None]) -> None:
    job = invoke("schedule", "run", "yearly").out.strip()
    drain()
    seen = invoke("inspect", "job", job, "--json").json
    assert (seen["status"], seen["result"], seen["schedule"]) == ("SUCCESS", 5, "yearly")
    assert seen["scheduled_for"] is not None
    assert "schedule   yearly, for " in invoke("inspect", "job", job).out


def test_delete_needs_a_yes_where_nobody_can_be_asked(yearly: Path) -> None:
    job = invoke("schedule", "run", "yearly").out.strip()
    refused = invoke("schedule", "delete", "yearly")
    assert (refused.code, "Delete schedule yearly" in refused.err) == (8, True)
    assert "would be deleted" in invoke("schedule", "delete", "yearly", "--dry-run").out
    assert record(yearly, "yearly") is not None
    assert invoke("schedule", "delete", "yearly", "--yes").out == "Schedule yearly: deleted.\n"
    assert record(yearly, "yearly") is None
    assert status(job) == "PENDING"


def test_history_names_the_schedule_of_a_job_if_there_is_one(yearly: Path) -> None:
    plain = run("add", "1", "2")
    assert "Schedule" not in invoke("history").out
    job = invoke("schedule", "run", "yearly").out.strip()
    assert "yearly" in invoke("history").out
    told = {one["id"]: one["schedule"] for one in invoke("history", "--json").json["jobs"]}
    assert told == {plain: None, job: "yearly"}


# ---- explain --------------------------------------------------------------------------------


def test_an_expression_is_explained_where_the_clocks_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nuvom.cli.commands.schedules.SYSTEM_CLOCK",
        FixedClock(datetime(2027, 3, 26, 12, tzinfo=UTC)),
    )
    words = ("schedule", "explain", "30 2 * * *", "--timezone", "Europe/Berlin")
    told = invoke(*words).out
    assert told.startswith("At 02:30 every day (Europe/Berlin)\n")
    _, _, around = told.partition("Where the clocks go forward, Sun 2027-03-28 from 02:00 to 03:00")
    assert [line[2:32] for line in around.splitlines()[1:4]] == [
        "Sat 2027-03-27 02:30:00 +01:00",
        "Sun 2027-03-28 03:00:00 +02:00",
        "Mon 2027-03-29 02:30:00 +02:00",
    ]
    data = invoke(*words, "--json", "--count", "2").json
    assert data["next"] == ["2027-03-27T01:30:00.000Z", "2027-03-28T01:00:00.000Z"]
    change = data["clock_change"]
    assert change["at"] == "2027-03-28T01:00:00.000Z"
    assert (change["offset_before_secs"], change["offset_after_secs"]) == (3600.0, 7200.0)
    assert change["fires"][0] == "2027-03-27T01:30:00.000Z"


class FixedClock:
    """A clock that stands still."""

    def __init__(self, at: datetime) -> None:
        self._at = at.timestamp()

    def now(self) -> float:
        return self._at


def test_a_zone_whose_clocks_never_change_has_no_such_fires(tmp_path: Path) -> None:
    answer = invoke("schedule", "explain", "@hourly", "--json")
    assert answer.json["clock_change"] is None
    assert "clocks" not in invoke("schedule", "explain", "@hourly").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("0 25 * * *",), "      ^^ column 3"),
        (("0 0 30 2 *",), "a day that some month has"),
        (("0 0 * * *", "--timezone", "Europe/Berln"), 'Did you mean "Europe/Berlin"'),
        (("0", "0", "tasks.py", "tasks.py", "tasks.py"), "Put the expression in quotation marks"),
    ],
)
def test_a_wrong_expression_or_zone_is_a_usage_error(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    answer = invoke("schedule", "explain", *words)
    assert (answer.code, told in answer.err) == (2, True)


# ---- who fires ------------------------------------------------------------------------------


def test_a_scheduler_alone_is_listed_and_is_no_worker(yearly: Path) -> None:
    job = run("add", "1", "2")
    with announced(yearly, **SCHEDULER):
        (told,) = invoke("workers", "--json").json["workers"]
        assert (told["scheduler"], told["slots"]) == (True, 0)
        assert "0 workers alive on queue default" in invoke("run", "add", "1", "2").err
        assert "no worker serves its queue" in invoke("why", job).out
        (queue,) = invoke("queues", "--json").json["queues"]
        assert queue["workers"] == 0
        checks = {one["name"]: one["text"] for one in invoke("doctor", "--json").json["checks"]}
        assert checks["workers"] == "0 alive"
        refused = invoke("workers", "quiet", told["id"])
        assert (refused.code, "only knows stop" in refused.err) == (8, True)
        assert invoke("workers", "quiet", "--all", "--json").json["workers"] == []
        assert invoke("workers", "stop", "--all", "--json").json["workers"] == [told["id"]]


def told_of_schedules() -> tuple[int, list[tuple[str, str]]]:
    answer = invoke("doctor", "--json")
    found = [one for one in answer.json["checks"] if one["name"] == "schedules"]
    return answer.code, [(one["level"], one["text"]) for one in found]


def test_doctor_misses_a_scheduler_where_schedules_are_active(yearly: Path) -> None:
    text = "no scheduler runs for 1 active schedule"
    assert told_of_schedules() == (0, [("ok", "1 active"), ("warn", text)])
    overdue(yearly, "yearly")
    assert told_of_schedules()[0] == 7
    assert told_of_schedules()[1][1] == ("fail", f"{text}; yearly was due 1 h ago")
    with announced(yearly, **SCHEDULER):
        assert told_of_schedules() == (
            0,
            [("ok", "1 active"), ("warn", "yearly was due 1 h ago, and has not fired")],
        )
    invoke("schedule", "pause", "yearly")
    assert told_of_schedules() == (0, [("ok", "1 paused")])


def test_doctor_names_schedules_that_cannot_run(yearly: Path) -> None:
    make(yearly, "broken", 1, 1)
    change(
        yearly, lambda seen: planner.disabled(seen, "its zone is gone", 0.0).after or seen, "broken"
    )
    (yearly / "tasks.py").write_text("from nuvom import task\n@task\ndef other(): ...\n")
    invoke("discover", "tasks")
    with announced(yearly, **SCHEDULER):
        assert told_of_schedules()[1][1:] == [
            ("warn", "yearly enqueues tasks.add, which the manifest does not list"),
            ("warn", "broken is disabled: its zone is gone"),
        ]


# ---- the overview ---------------------------------------------------------------------------


def test_status_without_a_job_shows_the_whole_project(
    yearly: Path, drain: Callable[[], None]
) -> None:
    run("boom")
    drain()
    run("add", "1", "2")
    invoke("queues", "pause", "mail")
    make(yearly, "never", 1, 1)
    invoke("schedule", "pause", "never")
    data = invoke("status", "--json").json
    schedules = data["schedules"]
    assert (schedules["active"], schedules["paused"]) == (1, 1)
    assert schedules["next"]["name"] == "yearly"
    assert data["workers"] == dict.fromkeys(
        ("alive", "silent", "slots", "running", "schedulers"), 0
    )
    assert (data["failures"]["jobs"], data["failures"]["latest"][0]["type"]) == (1, "ValueError")
    assert [(one["queue"], one["ready"]) for one in data["queues"]] == [("default", 1), ("mail", 0)]
    texts = [one["text"] for one in data["attention"]]
    assert ["1 job waiting on default, and no worker serves it"] == texts[:1]
    told = invoke("status").out
    assert "schedules 1 active, 1 paused; next: yearly, in " in told
    assert "failures  1 job; latest: tasks.boom, ValueError" in told
    assert "Needs attention\nwarn queues" in told
    assert ["part", "state"] == invoke("status", "--plain").rows[0]


def test_a_project_where_all_is_well_says_so(yearly: Path) -> None:
    with announced(yearly, slots=4, scheduler=True):
        told = invoke("status").out
    assert "workers   1 alive, 0 of 4 slots busy; 1 scheduler" in told
    assert told.endswith("\nNothing needs attention.\n")


# ---- real processes -------------------------------------------------------------------------


def schedulers() -> list[bool]:
    return [one["scheduler"] for one in invoke("workers", "--json").json["workers"]]


@pytest.fixture(params=["sqlite", "file", *SERVERS])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have the project keep its jobs in a store of each kind."""
    store = new_store(request.param) if request.param in SERVERS else {}
    chosen = {"queue_backend": request.param, "result_backend": request.param, **store}
    for name, value in chosen.items():
        monkeypatch.setenv(f"NUVOM_{name.upper()}", value)
    yield request.param
    drop_stores(store)


@posix
def test_a_scheduler_and_a_worker_run_what_a_schedule_fires_until_they_are_stopped(
    backend: str, yearly: Path
) -> None:
    processes = [
        spawn("runscheduler", cwd=yearly),
        spawn("runworker", "--no-scheduler", cwd=yearly),
    ]
    assert "schedules fired by this process" in read_until(processes[0], "Ready")
    assert "schedules not fired by this worker" in read_until(processes[1], "Ready")
    until(lambda: sorted(schedulers()) == [False, True])
    at = datetime.now(UTC) + timedelta(milliseconds=200)
    make(yearly, "soon", 2, 3, at=at)  # after it has gone to sleep: it is woken
    until(lambda: record(yearly, "soon") is None)
    (job,) = invoke("history", "--json").json["jobs"]
    until(lambda: status(job["id"]) == "SUCCESS")
    assert job["schedule"] == "soon"
    for process in processes:
        process.send_signal(signal.SIGTERM)
    scheduler, worker = (end(process) for process in processes)
    assert (scheduler.code, worker.code) == (143, 143)
    assert "Scheduler ended after 1 fire." in scheduler.err
    assert invoke("workers", "--json").json["workers"] == []


def test_a_scheduler_obeys_the_command_that_stops_workers(yearly: Path) -> None:
    scheduler = spawn("runscheduler", "--json", "--quiet", cwd=yearly, NUVOM_LEASE_SECS="1.2")
    until(lambda: schedulers() == [True])
    assert invoke("workers", "stop", "--all").code == 0
    answer = end(scheduler)
    assert (answer.code, answer.json["fired"], answer.err) == (0, 0, "")


@posix
def test_a_scheduler_starts_again_on_sighup(yearly: Path) -> None:
    scheduler = spawn("runscheduler", cwd=yearly)
    read_until(scheduler, "Ready")
    scheduler.send_signal(signal.SIGHUP)
    assert f"pid {scheduler.pid}\n" in read_until(scheduler, "Ready")
    until(lambda: schedulers() == [True])
    scheduler.send_signal(signal.SIGINT)
    assert end(scheduler).code == 130


def test_a_burst_fires_nothing(yearly: Path) -> None:
    overdue(yearly, "yearly")
    assert "schedules not fired by this worker" in call("runworker", "--burst", cwd=yearly).err
    assert invoke("history", "--json").json["jobs"] == []


def test_a_store_without_schedules_refuses_a_scheduler(
    yearly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuvom.runtime.Runtime.schedule_store", None)
    answer: Answer = invoke("schedule")
    assert (answer.code, "schedules" in answer.err) == (4, True)
    with opened(yearly) as runtime, pytest.raises(Exception, match="schedules"):
        SchedulerProcess(runtime)
    assert "schedules none" in invoke("status").out


def test_doctor_and_status_tell_what_becomes_of_declared_schedules(project: Path) -> None:
    (project / "tasks.py").write_text(
        'from nuvom import task\n@task(schedule="@daily")\ndef report(): ...\n'
    )
    table = "[schedules.typo]\ntask = 'tasks.reprot'\ninterval = 60\n"
    (project / "nuvom.toml").write_text(table)
    assert 0 == invoke("discover", "tasks").code
    unread = 'The schedule "typo" cannot be followed (setting schedules.typo): No task is named'
    for said in (
        "declared, but not stored until a scheduler starts: tasks.report",
        f'{unread} "tasks.reprot".',  # what it may mean depends on the tasks of other tests
    ):
        told = [one["text"] for one in invoke("doctor", "--json").json["checks"]]
        assert any(text.startswith(said) for text in told)
        assert said in invoke("status").out
    assert "It is declared" in invoke("schedule", "show", "tasks.report").err


def test_doctor_misses_schedules_that_only_their_program_sees(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUVOM_SCHEDULER_BACKEND", "memory")
    assert "in memory, schedules end with the program" in invoke("doctor").out
