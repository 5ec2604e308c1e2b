"""Commands about jobs: run, wait, status, inspect, history, retry, cancel, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nuvom.cli.views import job_times
from nuvom.config.sources import load
from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, JobSnapshot, JobStatus, StoredError
from nuvom.core.views import ErrorGroup
from nuvom.inspection import Inspector
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.runtime import Runtime, build_runtime
from nuvom.testing import make_job
from tests.cli.shell import invoke, spawn


@pytest.fixture
def runtime(tasks: Path) -> Runtime:
    return build_runtime(load(tasks))


def run(*args: str) -> str:
    """Enqueue a job and return its id."""
    answer = invoke("run", *args, "-q")
    assert answer.code == 0, answer.err
    return answer.out.strip()


# ---- run --------------------------------------------------------------------------------


def test_run_prints_the_id_and_stores_the_call(tasks: Path, runtime: Runtime) -> None:
    answer = invoke("run", "tasks.add", "2", "y=3")
    record = Inspector(runtime).snapshot(answer.out.strip()).record
    assert record.func_name == "tasks.add"
    assert runtime.codec.decode_call(record.args, record.kwargs) == ((2,), {"y": 3})


def test_run_takes_the_last_part_of_a_name(tasks: Path) -> None:
    assert invoke("run", "add", "2", "3", "--json").json["func_name"] == "tasks.add"


def test_run_takes_the_options_that_the_code_states(tasks: Path, runtime: Runtime) -> None:
    record = Inspector(runtime).snapshot(run("send", "bob")).record
    assert (record.queue, record.max_retries) == ("mail", 2)


def test_run_takes_negative_numbers_as_arguments(tasks: Path, runtime: Runtime) -> None:
    job = run("add", "-2", "-0.5", "--priority", "-3")
    record = Inspector(runtime).snapshot(job).record
    assert runtime.codec.decode_call(record.args, record.kwargs) == ((-2, -0.5), {})
    assert record.priority == -3


def test_run_takes_arguments_as_json(tasks: Path, runtime: Runtime) -> None:
    for words in (["--json-args", "[1, 2]"], ["1", "--json-args", '{"y": 2}']):
        record = Inspector(runtime).snapshot(run("add", *words)).record
        args, kwargs = runtime.codec.decode_call(record.args, record.kwargs)
        assert sum([*args, *kwargs.values()]) == 3


@pytest.mark.parametrize("text", ["[1", "5", '"x"', "null"])
def test_json_arguments_that_are_none_are_a_usage_error(text: str, tasks: Path) -> None:
    assert invoke("run", "add", "--json-args", text).code == 2


def test_run_starts_later_if_told(tasks: Path, runtime: Runtime) -> None:
    record = Inspector(runtime).snapshot(run("add", "1", "2", "--in", "5m")).record
    assert 295 < record.run_at - record.created_at <= 300
    job = run("add", "1", "2", "--at", "2100-01-01T00:00:00+00:00")
    assert Inspector(runtime).snapshot(job).record.run_at == 4102444800.0


@pytest.mark.parametrize(
    "options",
    [
        ["--in", "soon"],
        ["--at", "soon"],
        ["--in", "5m", "--at", "2100-01-01T00:00:00+00:00"],
        ["--timeout", "5s"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_a_usage_error(options: list[str], tasks: Path) -> None:
    assert invoke("run", "add", "1", "2", *options).code == 2
    assert invoke("history", "--json").json["jobs"] == []


def test_run_stores_nothing_when_the_arguments_do_not_fit(tasks: Path) -> None:
    answer = invoke("run", "add", "1")
    assert answer.code == 2
    assert "missing a required argument: 'y'" in answer.err
    assert "tasks.add(x: int, y: int)" in answer.err
    assert invoke("history", "--json").json["jobs"] == []


def test_a_unique_key_gives_the_job_that_has_it(tasks: Path) -> None:
    first = invoke("run", "add", "1", "2", "--unique-key", "k", "--json").json
    second = invoke("run", "add", "1", "2", "--unique-key", "k", "--json").json
    assert (first["created"], second["created"]) == (True, False)
    assert first["id"] == second["id"]


def test_run_says_which_options_only_the_code_knows(tasks: Path) -> None:
    (tasks / "more.py").write_text(
        "from nuvom import task\nN = 3\n@task(retries=N, on_error=print)\ndef dyn(): ...\n"
    )
    answer = invoke("run", "dyn")
    assert answer.code == 0
    assert "more.dyn sets retries in code" in answer.err


def test_run_makes_the_manifest_where_there_is_none(tasks: Path) -> None:
    answer = invoke("run", "add", "1", "2")
    assert "There is no manifest yet: read 1 file, found 4 tasks." in answer.err
    assert (tasks / ".nuvom" / "manifest.json").is_file()


def test_run_finds_a_task_that_is_new_since(tasks: Path) -> None:
    invoke("discover", "tasks")
    (tasks / "later.py").write_text("from nuvom import task\n@task\ndef fresh(): ...\n")
    assert invoke("run", "fresh").code == 0


def test_run_says_that_workers_do_not_know_a_new_task(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("discover", "tasks")
    (tasks / "later.py").write_text("from nuvom import task\n@task\ndef fresh(): ...\n")
    monkeypatch.setattr(Inspector, "workers_on", lambda *_: 1)
    assert "later.fresh is new, and workers look for tasks when they" in invoke("run", "fresh").err
    assert "is new" not in invoke("run", "fresh").err


def test_run_in_production_does_not_read_code(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("discover", "tasks")
    (tasks / "later.py").write_text("from nuvom import task\n@task\ndef fresh(): ...\n")
    monkeypatch.setenv("NUVOM_ENVIRONMENT", "prod")
    assert invoke("run", "fresh").code == 3


def test_run_makes_a_project_only_where_there_is_a_task(tmp_path: Path) -> None:
    assert invoke("run", "add").code == 4
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "tasks.py").write_text("from nuvom import task\n@task\ndef add(): ...\n")
    assert invoke("run", "add").code == 0
    assert (tmp_path / ".nuvom").is_dir()


def test_an_ambiguous_task_names_those_that_it_may_be(tasks: Path) -> None:
    (tasks / "other.py").write_text("from nuvom import task\n@task\ndef add(): ...\n")
    answer = invoke("run", "add")
    assert answer.code == 3
    assert "other.add, tasks.add" in answer.err


# ---- run --wait, wait -------------------------------------------------------------------


def test_run_and_wait_with_a_worker(tasks: Path) -> None:
    worker = spawn("runworker", cwd=tasks)
    try:
        answer = invoke("run", "add", "2", "3", "--wait")
        assert (answer.code, answer.out) == (0, "5\n")
        text = invoke("run", "send", "bob", "--wait")
        assert text.out == "bob: hi\n"
        failed = invoke("run", "boom", "--wait")
        assert failed.code == 1
        assert failed.out == ""
        assert "ended FAILED: ValueError: no paper" in failed.err
        data = invoke("run", "boom", "--wait", "--json")
        assert data.code == 1
        assert (data.json["status"], data.json["error"]["type"]) == ("FAILED", "ValueError")
        both = invoke("wait", run("add", "1", "2"), run("boom"))
        assert both.code == 1
        assert [line.split("\t")[1] for line in both.out.splitlines()] == ["SUCCESS", "FAILED"]
    finally:
        worker.terminate()
        worker.communicate(timeout=60)
    assert worker.returncode == 143


def test_waiting_too_long_is_exit_6_and_leaves_the_job_alone(tasks: Path) -> None:
    job = run("add", "1", "2")
    answer = invoke("wait", job, "--timeout", "10ms")
    assert answer.code == 6
    assert '0 workers alive on queue "default"' in answer.err
    assert invoke("status", job, "-f", "raw").out == "PENDING\n"


def test_the_worst_end_of_several_counts_and_not_the_last(
    tasks: Path, drain: Callable[[], None]
) -> None:
    good, bad = run("add", "1", "2"), run("boom")
    drain()
    for jobs in ([good, bad], [bad, good]):
        assert invoke("wait", *jobs).code == 1
    cancelled = run("add", "1", "2")
    invoke("cancel", cancelled)
    assert invoke("wait", cancelled, good, good).code == 1
    waiting = run("add", "1", "2")
    assert invoke("wait", waiting, bad, good, "--timeout", "10ms").code == 6


def test_each_error_of_several_says_what_to_do(tasks: Path) -> None:
    answer = invoke("wait", "0" * 32, "1" * 32)
    assert answer.code == 3
    assert answer.err.count("Error: There is no job") == 2
    assert answer.err.count("Fix:   Check the id") == 2


def test_the_highest_code_of_several_counts(tasks: Path) -> None:
    answer = invoke("wait", run("add", "1", "2"), "00000000", "--timeout", "10ms", "--json")
    assert answer.code == 6
    assert [error["exit"] for error in answer.json["errors"]] == [6, 3]


def test_ctrl_c_while_waiting_says_that_the_job_goes_on(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nuvom.cli.commands.jobs.wait_for_final", interrupt)
    job = run("add", "1", "2")
    answer = invoke("wait", job)
    assert answer.code == 130
    assert "the job goes on" in answer.err
    assert f"To wait again: nuvom wait {job}" in answer.err.splitlines()  # whole on 80 columns


# ---- status, inspect, history -----------------------------------------------------------


def test_status_is_a_word_and_why(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("boom")
    assert invoke("status", job).out == "PENDING\n"
    drain()
    answer = invoke("status", job)
    assert (answer.code, answer.out) == (0, "FAILED\nValueError: no paper\n")
    assert invoke("status", job, "-f", "raw").out == "FAILED\n"
    assert invoke("status", job, "-f", "json").json["status"] == "FAILED"


def test_status_tells_when_a_job_starts(tasks: Path) -> None:
    job = run("add", "1", "2", "--in", "2h")
    assert invoke("status", job).out == "PENDING (in 2 h)\n"
    data = invoke("status", job, "--json").json
    assert data["status"] == "PENDING"
    assert data["run_at"].endswith("Z")


def test_an_id_may_be_cut_down_to_its_end(tasks: Path) -> None:
    job = run("add", "1", "2")
    for count in (6, 8, 20, 36):
        assert invoke("status", job[-count:], "--json").json["id"] == job
    assert invoke("status", job[-5:]).code == 3


def test_an_ambiguous_id_names_the_candidates(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"0199{index:04d}-0000-7000-8000-0000000abcde" for index in range(7)]
    waiting = iter(ids)
    monkeypatch.setattr("nuvom.dispatcher.new_id", lambda: next(waiting))
    for _ in ids:
        run("add", "1", "2")
    answer = invoke("status", "0abcde")
    assert answer.code == 3
    assert answer.err.count("0199") == 5


def test_inspect_shows_all_and_hides_secrets(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("send", "bob", "password=hunter2")
    failed = run("boom", "hunter2")
    drain()
    answer = invoke("inspect", "job", job)
    assert 'arguments  ("bob", password="***")' in answer.out
    assert "result     bob: hi" in answer.out
    data = invoke("inspect", "job", job, "--json").json
    assert data["kwargs"] == {"password": "***"}
    assert data["result"] == "bob: hi"
    assert [attempt["outcome"] for attempt in data["attempts"]] == ["success"]
    # A positional argument has the name that the signature gives it.
    told = invoke("inspect", "job", failed)
    assert "hunter2" not in told.out
    assert "ValueError: no paper" in told.out
    assert "raise ValueError" in told.out


def test_a_parked_job_has_not_finished_and_says_what_it_waits_for(
    tasks: Path, drain: Callable[[], None]
) -> None:
    job = run("add", "1", "2")
    (tasks / "tasks.py").write_text("")
    drain()
    data = invoke("inspect", "job", job, "--json").json
    assert ("PARKED", None, None) == tuple(
        data[key] for key in ("status", "finished_at", "duration_secs")
    )
    told = invoke("inspect", "job", job, terminal=True)
    assert "finished" not in told.out
    assert "parked" in told.out
    assert "workers look for tasks when they start" in told.err
    assert "workers look for tasks when they start" in invoke("status", job, terminal=True).err


@pytest.mark.parametrize(
    ("status", "started", "finished", "shown"),
    [
        (JobStatus.SUCCESS, 5.0, 7.0, (5.0, 7.0)),
        (JobStatus.CANCELLED, None, 7.0, (None, 7.0)),
        (JobStatus.RUNNING, 5.0, None, (5.0, None)),
        (JobStatus.RUNNING, 5.0, 7.0, (None, None)),  # of the attempt before
        (JobStatus.RUNNING, 9.0, 7.0, (9.0, None)),
        (JobStatus.PENDING, 5.0, 7.0, (None, None)),
        (JobStatus.PARKED, None, 7.0, (None, None)),
    ],
)
def test_times_of_an_attempt_that_is_over_are_not_those_of_an_open_job(
    status: JobStatus,
    started: float | None,
    finished: float | None,
    shown: tuple[float | None, float | None],
) -> None:
    record = make_job("tasks.t").replace(status=status)
    snapshot = JobSnapshot(record=record, started_at=started, finished_at=finished)
    assert shown == job_times(snapshot)


def test_inspect_formats_are_those_of_old(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("boom")
    drain()
    assert invoke("inspect", "job", job, "-f", "json").json["id"] == job
    raw = invoke("inspect", "job", job, "--format", "raw").out
    data, _, trace = raw.partition("\n}\n")
    assert json.loads(data + "}")["id"] == job
    assert "Traceback" in trace
    assert invoke("inspect", "job", job, "-f", "yaml").code == 2


def test_hostile_text_is_harmless_on_screen(tasks: Path, drain: Callable[[], None]) -> None:
    (tasks / "evil.py").write_text(
        "from nuvom import task\n"
        "@task\n"
        "def evil(text):\n"
        "    raise ValueError('\\x1b]0;owned\\x07\\x1b[2J\\u202e[bold]x[/]')\n"
    )
    job = run("evil", "--json-args", '["\\u001b[31mred"]')
    drain()
    for command in (["inspect", "job", job], ["status", job], ["errors"], ["history"]):
        answer = invoke(*command)
        assert "\x1b" not in answer.out
        assert "\u202e" not in answer.out
    assert "[bold]x[/]" in invoke("status", job).out


def test_history_is_newest_first_and_filtered(tasks: Path, drain: Callable[[], None]) -> None:
    ids = [run("add", "1", "2"), run("boom"), run("send", "bob")]
    drain()
    assert [job["id"] for job in invoke("history", "recent", "--json").json["jobs"]] == ids[::-1]
    assert len(invoke("history", "recent", "--limit", "2", "--json").json["jobs"]) == 2
    failed = invoke("history", "-s", "failed", "--plain").rows
    assert [row[0] for row in failed] == ["id", ids[1]]
    both = invoke("history", "-s", "FAILED", "--status", "success", "--json").json["jobs"]
    assert len(both) == 3
    assert len(invoke("history", "--queue", "mail", "--json").json["jobs"]) == 1
    assert len(invoke("history", "--task", "add", "--json").json["jobs"]) == 1
    assert invoke("history", "-s", "lost").code == 2


def test_history_of_nothing_says_so(tasks: Path) -> None:
    answer = invoke("history", "recent")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "No jobs yet. Enqueue one: nuvom run TASK\n"
    assert invoke("history", "recent", "--status", "FAILED").err == "No job matches.\n"


# ---- retry, cancel ----------------------------------------------------------------------


def test_retry_runs_a_failed_job_again_under_its_id(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("boom")
    drain()
    answer = invoke("retry", "job", job)
    assert answer.out == f"{job}\tPENDING (was FAILED)\n"
    assert invoke("status", job).out == "PENDING\n"


def test_retry_refuses_a_job_that_has_not_failed(tasks: Path) -> None:
    answer = invoke("retry", "job", run("add", "1", "2"))
    assert answer.code == 8
    assert "is PENDING" in answer.err


def test_retry_of_several_acts_on_all(tasks: Path, drain: Callable[[], None]) -> None:
    failed = run("boom")
    drain()
    answer = invoke("retry", "job", "00000000", failed, "--json")
    assert answer.code == 3
    assert [job["id"] for job in answer.json["jobs"]] == [failed]
    assert [error["code"] for error in answer.json["errors"]] == ["JobNotFound"]


def edits(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, object]], object]) -> None:
    """Let the editor do ``change`` to the data it is given."""

    def edit(text: str, **_: object) -> str | None:
        saved = change(json.loads(text))
        return saved if saved is None or isinstance(saved, str) else json.dumps(saved)

    monkeypatch.setattr("click.edit", edit)


def test_an_edited_retry_is_a_new_job_and_keeps_what_was_hidden(
    tasks: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run("send", "bob", "password=hunter2", "--priority", "2")
    shown: list[object] = []

    def change(data: dict[str, object]) -> object:
        shown.append(data)
        return {"args": ["eve"], "kwargs": {"password": "***", "body": "bye"}}

    edits(monkeypatch, change)
    answer = invoke("retry", "job", old, "--edit", "--json")
    assert shown == [{"args": ["bob"], "kwargs": {"password": "***"}}]
    (told,) = answer.json["jobs"]
    assert told["retried_from"] == old
    record = Inspector(runtime).snapshot(told["id"]).record
    assert runtime.codec.decode_call(record.args, record.kwargs) == (
        ("eve",),
        {"password": "hunter2", "body": "bye"},
    )
    assert (record.retried_from, record.priority, record.queue) == (old, 2, "mail")


def test_an_edit_that_changes_nothing_makes_no_job(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run("add", "1", "2")
    edits(monkeypatch, lambda data: data)
    assert "no job was made" in invoke("retry", "job", old, "--edit").err
    edits(monkeypatch, lambda data: None)
    assert "no job was made" in invoke("retry", "job", old, "--edit").err
    assert len(invoke("history", "--json").json["jobs"]) == 1


@pytest.mark.parametrize(
    "saved",
    ["{", "[1]", '{"args": 1, "kwargs": {}}', '{"args": [1]}', '{"args": [1, 2, 3], "kwargs": {}}'],
)
def test_an_edit_that_does_not_fit_makes_no_job(
    saved: str, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run("add", "1", "2")
    edits(monkeypatch, lambda data: saved)
    assert invoke("retry", "job", old, "--edit").code == 2
    assert len(invoke("history", "--json").json["jobs"]) == 1


def test_an_edited_retry_keeps_numbers_that_json_readers_would_round(
    tasks: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run("add", "1", f"y={2**60 + 1}")
    edits(monkeypatch, lambda data: {**data, "args": [2]})
    new = Inspector(runtime).snapshot(invoke("retry", "job", old, "--edit").out.strip()).record
    assert ((2,), {"y": 2**60 + 1}) == runtime.codec.decode_call(new.args, new.kwargs)


def test_one_job_is_edited_at_a_time(tasks: Path) -> None:
    assert invoke("retry", "job", "a", "b", "--edit").code == 2


def test_cancel_ends_a_waiting_job(tasks: Path) -> None:
    job = run("add", "1", "2")
    answer = invoke("cancel", job)
    assert answer.out == f"{job}\tcancelled (was PENDING)\n"
    assert invoke("status", job).out == "CANCELLED\n"
    assert invoke("cancel", job).code == 0  # it is as it should be


def test_cancel_of_a_job_that_has_ended_is_refused(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("add", "1", "2")
    drain()
    answer = invoke("cancel", job)
    assert answer.code == 8
    assert "has ended SUCCESS" in answer.err


def test_cancel_of_several_asks_first(tasks: Path) -> None:
    ids = [run("add", "1", "2"), run("add", "3", "4")]
    assert invoke("cancel", *ids).code == 8
    assert invoke("cancel", *ids, "--dry-run").out.count("would be cancelled") == 2
    assert all(invoke("status", job).out == "PENDING\n" for job in ids)
    answer = invoke("cancel", *ids, "--yes", "--json")
    assert [job["cancelled"] for job in answer.json["jobs"]] == [True, True]
    assert all(invoke("status", job).out == "CANCELLED\n" for job in ids)


# ---- errors -----------------------------------------------------------------------------


def test_failures_are_grouped_by_cause(tasks: Path, drain: Callable[[], None]) -> None:
    ids = [run("boom"), run("boom")]
    drain()
    (group,) = invoke("errors", "list", "--json").json["errors"]
    assert (group["func_name"], group["type"], group["count"]) == ("tasks.boom", "ValueError", 2)
    shown = invoke("errors", "show", group["fingerprint"][:6], "--json").json
    assert {job["id"] for job in shown["jobs"]} == set(ids)
    assert "raise ValueError" in shown["newest"]["traceback"]
    assert "raise ValueError" in invoke("errors", "show", group["fingerprint"]).out
    assert "ValueError: no paper" in invoke("errors").out
    _, (_, _, _, _, last, _) = invoke("errors", "--plain").rows
    assert last == group["last_at"]


def test_a_failure_without_a_traceback_is_shown_by_type_and_message(
    tasks: Path, runtime: Runtime
) -> None:
    failure = StoredError("WorkerChildDied", "signal SIGKILL", None, "feed0123cafe")
    run("boom")
    assert isinstance(runtime.queue, LeasedJobQueue)
    (claimed,) = runtime.queue.claim(1, "me")
    settlement = Settlement(claimed, JobStatus.FAILED, outcome="failure", error=failure)
    assert runtime.queue.settle([settlement]) == [True]
    assert "\nWorkerChildDied: signal SIGKILL\n" in invoke("errors", "show", "feed").out


def test_a_group_is_run_again_as_a_whole(tasks: Path, drain: Callable[[], None]) -> None:
    ids = [run("boom"), run("boom")]
    drain()
    (group,) = invoke("errors", "--json").json["errors"]
    assert "would be run again" in invoke("errors", "retry", group["fingerprint"], "--dry-run").out
    answer = invoke("errors", "retry", group["fingerprint"])
    assert answer.out == "2 jobs run again.\n"
    assert all(invoke("status", job).out == "PENDING\n" for job in ids)


def test_a_group_is_discarded_only_with_a_yes(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("boom")
    drain()
    (group,) = invoke("errors", "--json").json["errors"]
    assert invoke("errors", "discard", group["fingerprint"]).code == 8
    assert invoke("errors", "discard", group["fingerprint"], "--dry-run").code == 0
    assert invoke("status", job).code == 0
    answer = invoke("errors", "discard", group["fingerprint"], "--yes", "--json")
    assert answer.json["jobs"] == [job]
    assert invoke("status", job).code == 3
    assert invoke("errors", "--json").json["errors"] == []


def test_a_group_is_found_by_a_beginning_that_no_other_has(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("errors", "show", "abc").code == 3
    known = {"func_name": "f", "type": "E", "message": "", "count": 1, "example_id": "1"}
    groups = [
        ErrorGroup(fingerprint=text, first_at=1.0, last_at=1.0, **known)  # type: ignore[arg-type]  # fields by name
        for text in ("feed", "feed01", "cafe02")
    ]
    monkeypatch.setattr(Inspector, "error_groups", lambda *_: groups)
    monkeypatch.setattr(Inspector, "failed_ids", lambda *_: [])
    for text, found in (("feed", "feed"), ("feed0", "feed01"), ("ca", "cafe02")):
        assert found == invoke("errors", "show", text, "--json").json["fingerprint"]
    assert invoke("errors", "show", "fee").code == 3


def test_arguments_are_shown_as_one_would_type_them(tasks: Path) -> None:
    job = run("send", "bob", "--json-args", '{"body": "a\\tb"}')
    assert '"a\\tb"' in invoke("inspect", "job", job).out


def test_commands_work_inside_the_project_and_from_elsewhere_if_it_is_named(
    tasks: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run("add", "1", "2")
    inner, elsewhere = tasks / "deep" / "inside", tmp_path_factory.mktemp("elsewhere")
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert invoke("status", job).out == "PENDING\n"
    assert invoke("--project", elsewhere, "status", job).code == 4
    monkeypatch.chdir(elsewhere)
    assert invoke("--project", tasks, "status", job).out == "PENDING\n"


# ---- what is rarely there ---------------------------------------------------------------


def stored(monkeypatch: pytest.MonkeyPatch, snapshot: JobSnapshot) -> str:
    """Let the store hold one job, as it is given."""
    monkeypatch.setattr(Inspector, "find_id", lambda _, text: text)
    monkeypatch.setattr(Inspector, "snapshot", lambda *_: snapshot)
    return snapshot.record.id


def test_a_wait_for_a_cancelled_job_is_exit_1_and_says_how_to_run_it(tasks: Path) -> None:
    job = run("add", "1", "2")
    invoke("cancel", job)
    answer = invoke("wait", job)
    assert (answer.code, answer.out) == (1, f"{job}\tCANCELLED\n")
    assert f"nuvom retry job {job}" in answer.err


@pytest.mark.parametrize("command", [("cancel",), ("retry", "job")], ids=" ".join)
def test_a_job_that_is_pruned_meanwhile_is_not_found(
    command: tuple[str, ...], tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run("add", "1", "2")
    monkeypatch.setattr(f"nuvom.control.Control.{command[0]}", lambda *_: None)
    assert invoke(*command, job).code == 3


def test_an_edited_retry_prints_the_new_id(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = run("add", "1", "2")
    edits(monkeypatch, lambda data: {"args": [3, 4], "kwargs": {}})
    new = invoke("retry", "job", old, "--edit").out.strip()
    told = invoke("inspect", "job", new).out
    assert "arguments  (3, 4)" in told
    assert f"repeats    {old}" in told


def test_inspect_shows_what_a_job_seldom_has(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = JobRecord(
        "01990000-0000-7000-8000-0000000000aa",
        "tasks.x",
        run_at=4_000_000_000.0,
        created_at=1.0,
        timeout_secs=5.0,
        unique_key="k",
        tags=("a", "b"),
    )
    told = invoke("inspect", "job", stored(monkeypatch, JobSnapshot(record=record))).out
    for line in ("unique key k", "timeout    5 s, then fail", "tags       a, b"):
        assert line in told
    assert "runs       2096-10-02T07:06:40.000Z (in " in told


def test_progress_is_shown_while_a_job_runs(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = JobRecord("01990000-0000-7000-8000-0000000000aa", "tasks.x")
    running = record.replace(status=JobStatus.RUNNING, attempt=1)
    job = stored(monkeypatch, JobSnapshot(record=running, progress=(3, 10, "token=abc\nx")))
    assert invoke("status", job).out == "RUNNING (3 of 10, token=*** x)\n"
    data = invoke("inspect", "job", job, "--json").json
    assert data["progress"] == {"done": 3, "total": 10, "note": "token=***\nx"}
    job = stored(monkeypatch, JobSnapshot(record=running, progress=(3, None, "")))
    assert invoke("status", job).out == "RUNNING (3)\n"


def test_a_waiting_retry_says_which_and_when(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = JobRecord("01990000-0000-7000-8000-0000000000aa", "tasks.x", attempt=2)
    job = stored(monkeypatch, JobSnapshot(record=record))
    assert invoke("status", job).out == "PENDING (retry 2, due)\n"
    job = stored(monkeypatch, JobSnapshot(record=record.replace(run_at=1e11)))
    assert invoke("status", job).out.startswith("PENDING (retry 2, in ")


def test_damaged_arguments_are_said_to_be_damaged(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = JobRecord(
        "01990000-0000-7000-8000-0000000000aa", "tasks.x", msgspec.Raw(b"\xc1"), created_at=1.0
    )
    job = stored(monkeypatch, JobSnapshot(record=record))
    assert "arguments  Stored bytes cannot be decoded" in invoke("inspect", "job", job).out
    data = invoke("inspect", "job", job, "--json").json
    assert (data["args"], data["kwargs"]) == (None, None)
    assert data["damage"]


def test_a_long_argument_is_cut_for_people_only(tasks: Path) -> None:
    job = run("send", "x" * 2000)
    assert "... (all of it: --json)" in invoke("inspect", "job", job).out
    assert invoke("inspect", "job", job, "--json").json["args"] == ["x" * 2000]


def test_a_damaged_manifest_does_not_keep_jobs_from_being_read(tasks: Path) -> None:
    job = run("add", "1", "2")
    (tasks / ".nuvom" / "manifest.json").write_text("{")
    assert "arguments  (1, 2)" in invoke("inspect", "job", job).out
    assert invoke("history", "--task", "add", "--json").json["jobs"] == []


def test_broken_files_are_named_when_run_looks_for_tasks(tasks: Path) -> None:
    (tasks / "broken.py").write_text("from nuvom import task\n@task\ndef x(:\n")
    assert "broken.py:3" in invoke("run", "add", "1", "2").err


def test_a_name_without_a_file_is_just_unknown(tasks: Path) -> None:
    answer = invoke("run", "nowhere.at_all")
    assert answer.code == 3
    assert 'No task is named "nowhere.at_all".' in answer.err


def test_an_option_that_cannot_be_used_names_the_place_in_the_code(tasks: Path) -> None:
    (tasks / "odd.py").write_text("from nuvom import task\n@task(retries=-1)\ndef odd(): ...\n")
    answer = invoke("run", "odd")
    assert answer.code == 4
    assert "retries=-1" in answer.err
