"""Commands about jobs: run, wait, status, inspect, history, retry, cancel, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.config.sources import load
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import Runtime, build_runtime
from tests.cli.shell import invoke, run, spawn, status


@pytest.fixture
def runtime(tasks: Path) -> Runtime:
    return build_runtime(load(tasks))


# ---- run --------------------------------------------------------------------------------


def stored_call(runtime: Runtime, job: str) -> tuple[tuple[object, ...], dict[str, object]]:
    record = Inspector(runtime).snapshot(job).record
    return runtime.codec.decode_call(record.args, record.kwargs)


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        (["tasks.add", "2", "y=3"], ((2,), {"y": 3})),
        (["add", "-2", "-5", "--priority", "-3"], ((-2, -5), {})),
        (["add", "--json-args", "[1, 2]"], ((1, 2), {})),
        (["add", "1", "--json-args", '{"y": 2}'], ((1,), {"y": 2})),
    ],
    ids=str,
)
def test_run_prints_the_id_and_stores_the_call(
    words: list[str], stored: object, tasks: Path, runtime: Runtime
) -> None:
    job = run(*words)
    assert stored == stored_call(runtime, job)
    assert Inspector(runtime).snapshot(job).record.priority == (-3 if "-3" in words else 5)


def test_run_takes_the_options_that_the_code_states(tasks: Path, runtime: Runtime) -> None:
    record = Inspector(runtime).snapshot(run("send", "bob")).record
    assert (record.queue, record.max_retries) == ("mail", 2)


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
        ["--json-args", "[1"],
        ["--json-args", "5"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_a_usage_error(options: list[str], tasks: Path) -> None:
    assert invoke("run", "add", "1", "2", *options).code == 2
    assert invoke("history", "--json").json["jobs"] == []


def test_run_stores_nothing_when_the_arguments_do_not_fit(tasks: Path) -> None:
    answer = invoke("run", "add", "1")
    assert (answer.code, "missing a required argument: 'y'" in answer.err) == (2, True)
    assert invoke("history", "--json").json["jobs"] == []


def test_a_unique_key_gives_the_job_that_has_it(tasks: Path) -> None:
    first = invoke("run", "add", "1", "2", "--unique-key", "k", "--json").json
    second = invoke("run", "add", "1", "2", "--unique-key", "k", "--json").json
    assert (first["created"], second["created"]) == (True, False)
    assert first["id"] == second["id"]


def test_run_finds_a_new_task_unless_in_production_and_warns_that_workers_do_not_know_it(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There is no manifest yet: read 1 file, found 4" in invoke("run", "add", "1", "2").err
    (tasks / "later.py").write_text("from nuvom import task\n@task\ndef fresh(): ...\n")
    monkeypatch.setenv("NUVOM_ENVIRONMENT", "prod")
    assert invoke("run", "fresh").code == 3
    monkeypatch.delenv("NUVOM_ENVIRONMENT")
    monkeypatch.setattr(Inspector, "workers_on", lambda *_: 1)
    assert "later.fresh is new, and workers look for tasks when they" in invoke("run", "fresh").err
    assert "is new" not in invoke("run", "fresh").err


def test_run_makes_a_project_only_where_there_is_a_task(tmp_path: Path) -> None:
    assert invoke("run", "add").code == 4
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "tasks.py").write_text("from nuvom import task\n@task\ndef add(): ...\n")
    assert invoke("run", "add").code == 0
    assert (tmp_path / ".nuvom").is_dir()


# ---- run --wait, wait -------------------------------------------------------------------


def test_run_and_wait_with_a_worker(tasks: Path) -> None:
    worker = spawn("runworker", cwd=tasks)
    try:
        answer = invoke("run", "add", "2", "3", "--wait")
        assert (answer.code, answer.out) == (0, "5\n")
        failed = invoke("run", "boom", "--wait")
        assert (failed.code, failed.out) == (1, "")
        assert "ended FAILED: ValueError: no paper" in failed.err
        both = invoke("wait", run("add", "1", "2"), run("boom"))
        assert both.code == 1
        assert [line.split("\t")[1] for line in both.out.splitlines()] == ["SUCCESS", "FAILED"]
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_the_worst_end_of_several_counts_and_not_the_last(
    tasks: Path, drain: Callable[[], None]
) -> None:
    good, bad = run("add", "1", "2"), run("boom")
    drain()
    assert invoke("wait", bad, good).code == 1
    cancelled = run("add", "1", "2")
    invoke("cancel", cancelled)
    answer = invoke("wait", cancelled, good)
    assert (answer.code, f"nuvom retry job {cancelled}" in answer.err) == (1, True)
    waiting = run("add", "1", "2")
    assert invoke("wait", waiting, bad, good, "--timeout", "10ms").code == 6
    assert status(waiting) == "PENDING"
    answer = invoke("wait", waiting, "00000000", "--timeout", "10ms", "--json")
    assert (answer.code, [error["exit"] for error in answer.json["errors"]]) == (6, [6, 3])


def test_ctrl_c_while_waiting_says_that_the_job_goes_on(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nuvom.cli.commands.jobs.wait_for_final", interrupt)
    job = run("add", "1", "2")
    answer = invoke("wait", job)
    assert answer.code == 130
    assert f"To wait again: nuvom wait {job}" in answer.err.splitlines()  # whole on 80 columns


# ---- status, inspect, history -----------------------------------------------------------


def test_status_is_a_word_and_why(tasks: Path, drain: Callable[[], None]) -> None:
    job = run("boom")
    assert invoke("status", job).out == "PENDING\n"
    drain()
    answer = invoke("status", job)
    assert (answer.code, answer.out) == (0, "FAILED\nValueError: no paper\n")
    assert status(job) == "FAILED"
    assert invoke("status", job, "-f", "json").json["status"] == "FAILED"


def test_an_id_may_be_cut_down_to_its_end(tasks: Path) -> None:
    job = run("add", "1", "2")
    assert invoke("status", job[-6:], "--json").json["id"] == job
    assert invoke("status", job[-5:]).code == 3


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
    assert ("finished" in told.out, "parked" in told.out) == (False, True)
    assert "restart a worker" in told.err


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
    assert invoke("history").err == "No jobs yet. Enqueue one: nuvom run TASK\n"
    ids = [run("add", "1", "2"), run("boom"), run("send", "bob")]
    drain()

    def listed(*options: str) -> list[str]:
        return [job["id"] for job in invoke("history", *options, "--json").json["jobs"]]

    assert listed() == ids[::-1]
    assert listed("--limit", "2") == ids[:0:-1]
    assert len(listed("-s", "FAILED", "--status", "success")) == 3
    assert listed("--queue", "mail") == [ids[2]]
    assert listed("--task", "add") == [ids[0]]
    failed = invoke("history", "-s", "failed", "--plain").rows
    assert [row[0] for row in failed] == ["id", ids[1]]
    bare = invoke("history", "-s", "failed", "--plain", "--no-header").rows
    assert [row[0] for row in bare] == [ids[1]]
    for filters, hint in ((("--queue", "mial"), '"mail"'), (("--task", "tasks.ad"), '"tasks.add"')):
        answer = invoke("history", *filters)
        assert answer.code == 3
        assert f"Did you mean {hint}" in answer.err


# ---- retry, cancel ----------------------------------------------------------------------


def test_retry_runs_failed_jobs_again_under_their_ids(
    tasks: Path, drain: Callable[[], None]
) -> None:
    failed, second = run("boom"), run("boom")
    drain()
    assert invoke("retry", "job", failed).out == f"{failed}\tPENDING (was FAILED)\n"
    answer = invoke("retry", "job", failed)
    assert (answer.code, "is PENDING" in answer.err) == (8, True)
    answer = invoke("retry", "job", "00000000", second, "--json")
    assert answer.code == 3
    assert [job["id"] for job in answer.json["jobs"]] == [second]
    assert [error["code"] for error in answer.json["errors"]] == ["JobNotFound"]


def edits(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, object]], object]) -> None:
    """Let the editor do ``change`` to the data it is given."""

    def edit(text: str, **_: object) -> str | None:
        saved = change(json.loads(text))
        return saved if saved is None or isinstance(saved, str) else json.dumps(saved)

    monkeypatch.setattr("click.edit", edit)


def test_retry_runs_all_failed_jobs_of_a_task_or_queue_again(
    tasks: Path, drain: Callable[[], None]
) -> None:
    failed = [run("boom"), run("boom", "--queue", "mail")]
    run("add", 1, 2)
    drain()
    cancelled = run("boom")
    invoke("cancel", cancelled)

    def chosen(*options: str) -> list[str]:
        answer = invoke("retry", *options, "--dry-run", "--json")
        assert answer.code == 0
        return [one["id"] for one in answer.json["jobs"]]

    assert sorted(failed) == sorted(chosen("--task", "boom"))
    assert [failed[1]] == chosen("--task", "boom", "--queue", "mail")
    assert [cancelled] == chosen("--status", "CANCELLED")
    assert [] == chosen("--task", "add")
    assert invoke("retry", "--queue", "mial").code == 3
    assert invoke("retry").code == invoke("retry", failed[0], "--task", "boom").code == 2
    assert ["FAILED", "FAILED"] == [status(one) for one in failed]
    assert invoke("retry", "--task", "boom").code == 0
    assert ["PENDING", "PENDING"] == [status(one) for one in failed]


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


def test_cancel_ends_a_waiting_job_and_refuses_one_that_has_ended(
    tasks: Path, drain: Callable[[], None]
) -> None:
    ended = run("add", "1", "2")
    drain()
    answer = invoke("cancel", ended)
    assert (answer.code, "has ended SUCCESS" in answer.err) == (8, True)
    job = run("add", "1", "2")
    assert invoke("cancel", job).out == f"{job}\tcancelled (was PENDING)\n"
    assert invoke("status", job).out == "CANCELLED\n"
    assert invoke("cancel", job).code == 0  # nothing is left to do


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


def test_a_group_is_run_again_or_discarded_as_a_whole(
    tasks: Path, drain: Callable[[], None]
) -> None:
    ids = [run("boom"), run("boom")]
    drain()
    (group,) = invoke("errors", "--json").json["errors"]
    name = group["fingerprint"]
    assert "would be run again" in invoke("errors", "retry", name, "--dry-run").out
    assert invoke("errors", "retry", name).out == "2 jobs run again.\n"
    assert all(invoke("status", job).out == "PENDING\n" for job in ids)
    drain()
    assert invoke("errors", "discard", name).code == 8
    assert invoke("errors", "discard", name, "--dry-run").code == 0
    assert invoke("status", ids[0]).code == 0
    answer = invoke("errors", "discard", name, "--yes", "--json")
    assert set(answer.json["jobs"]) == set(ids)
    assert [invoke("status", job).code for job in ids] == [3, 3]


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
