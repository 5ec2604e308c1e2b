"""What a newcomer stumbles over, one story each: F1 to F13."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.cli.shell import TASKS, call, invoke, run, spawn, status
from tests.cli.test_worker import end, until


def test_friction_2_a_task_that_is_hidden_names_the_file_and_the_line_that_hides_it(
    tasks: Path,
) -> None:
    (tasks / "hidden.py").write_text("from nuvom import task\n@task\ndef secret(): ...\n")
    (tasks / ".nuvomignore").write_text("# mine\nhidden.py\n")
    answer = invoke("run", "hidden.secret")
    assert answer.code == 3
    assert "hidden.py" in answer.err
    assert ".nuvomignore" in answer.err
    assert re.search(r"line 2|:2", answer.err)


def test_friction_2_a_task_that_no_worker_can_import_is_refused_and_says_what_to_move(
    tasks: Path,
) -> None:
    (tasks / "inner.py").write_text(
        "from nuvom import task\ndef outer():\n    @task\n    def hidden(): ...\n"
    )
    answer = invoke("run", "hidden")
    assert answer.code == 4
    assert "it is defined inside a function" in answer.err
    assert "inner.py:4" in answer.err
    assert invoke("history", "--json").json["jobs"] == []


def test_friction_3_a_job_that_would_end_with_the_command_is_refused(tasks: Path) -> None:
    (tasks / "nuvom.toml").write_text('queue_backend = "memory"\n')
    answer = invoke("run", "add", "1", "2")
    assert answer.code == 4
    assert answer.out == ""
    assert "outlives this command" in answer.err
    assert "nuvom config explain queue_backend" in answer.err


def test_friction_6_paths_with_spaces_and_other_letters_work_and_paste_back(tmp_path: Path) -> None:
    folder = "Mein Projekt für 日本"
    answer = invoke("init", folder)
    assert answer.code == 0
    assert f"'{tmp_path / folder / 'tasks.py'}'" in answer.out or '"' in answer.out
    root = tmp_path / folder
    job = invoke("--project", root, "run", "add", "2", "3", "-q").out.strip()
    assert call("runworker", "--burst", "-q", cwd=root).code == 0
    assert invoke("--project", root, "status", job, "-f", "raw").out == "SUCCESS\n"
    assert invoke("--project", root, "doctor").code == 0


def test_friction_8_two_projects_never_see_each_others_jobs(tmp_path: Path) -> None:
    jobs = {}
    for name in ("one", "two"):
        root = tmp_path / name
        (root / ".nuvom").mkdir(parents=True, mode=0o700)
        (root / "tasks.py").write_text(TASKS)
        jobs[name] = invoke("--project", root, "run", "add", "1", "2", "-q").out.strip()
        assert str(root / ".nuvom" / "nuvom.db") in invoke("--project", root, "doctor").out
    assert call("runworker", "--burst", "-q", cwd=tmp_path / "one").code == 0
    assert invoke("--project", "one", "status", jobs["one"], "-f", "raw").out == "SUCCESS\n"
    assert invoke("--project", "two", "status", jobs["two"], "-f", "raw").out == "PENDING\n"
    assert invoke("--project", "one", "status", jobs["two"]).code == 3


def test_friction_9_a_misspelt_queue_is_warned_of_and_the_job_stored(tasks: Path) -> None:
    answer = invoke("run", "add", "1", "2", "--queue", "mial")
    assert answer.code == 0
    assert 'The queue "mial" is new; the job is stored in it. Did you mean "mail"?' in answer.err
    assert invoke("status", answer.out.strip(), "--json").json["queue"] == "mial"


# F5, Ctrl-C twice, is told in test_worker.py; F10, code that is edited while ``dev`` runs, in
# test_dev.py.


def test_friction_11_a_job_that_no_worker_knows_is_parked_named_and_released(
    tasks: Path, drain: Callable[[], None]
) -> None:
    job = run("add", "1", "2")
    (tasks / "tasks.py").rename(tasks / "away.txt")
    drain()
    assert status(job) == "PARKED"
    answer = invoke("doctor")
    assert answer.code == 7
    assert 'No task is named "tasks.add"' in answer.out
    (tasks / "away.txt").rename(tasks / "tasks.py")
    worker = spawn("runworker", cwd=tasks)
    try:
        until(lambda: status(job) == "SUCCESS")
    finally:
        worker.terminate()
        end(worker)
