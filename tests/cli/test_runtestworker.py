"""``runtestworker run``: one job from a file, as a worker would run it, stored nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import Answer, call, invoke


def run(
    root: Path, described: object, *options: str, start: Callable[..., Answer] | None = None
) -> Answer:
    """Run the job, in a process of its own unless it comes to nothing before code is loaded."""
    file = root / "job.json"
    file.write_text(described if isinstance(described, str) else json.dumps(described))
    words = ("runtestworker", "run", file, *options)
    return call(*words, cwd=root) if start is None else start(*words)


def test_a_job_that_succeeds_prints_what_it_returns(tasks: Path) -> None:
    answer = run(tasks, {"func_name": "tasks.add", "args": [2], "kwargs": {"y": 3}})
    assert (answer.code, answer.out) == (0, "5\n")
    assert run(tasks, {"func_name": "send", "args": ["bob"]}).out == "bob: hi\n"
    assert sorted(path.name for path in (tasks / ".nuvom").iterdir()) == []


def test_a_job_that_fails_is_exit_1_with_its_traceback(tasks: Path) -> None:
    answer = run(tasks, {"func_name": "boom"})
    assert (answer.code, answer.out) == (1, "")
    assert "ValueError: no paper" in answer.err
    assert "in boom" in answer.err


def test_retries_and_timeouts_work_as_in_a_worker(tasks: Path) -> None:
    (tasks / "more.py").write_text(
        "import time\n"
        "from nuvom import current_job, task\n"
        "@task(retry_delay_secs=0)\n"
        "def heals():\n"
        "    if current_job().attempt < 3: raise OSError\n"
        "    return current_job().attempt\n"
        "@task\n"
        "def slow():\n"
        "    while True: time.sleep(0.01)\n"
    )
    data = run(tasks, {"func_name": "heals", "retries": 2}, "--json").json
    assert (data["status"], data["attempt"], data["result"]) == ("SUCCESS", 3, 3)
    answer = run(tasks, {"func_name": "slow", "timeout_secs": 0.05}, "--json")
    assert answer.code == 1
    assert "timed out after 0.05 s" in answer.json["error"]["message"]


def test_a_task_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "lone.py").write_text("from nuvom import task\n@task\ndef one(): return 1\n")
    answer = run(tmp_path, {"func_name": "one"}, "--task-module", "lone.py")
    assert (answer.code, answer.out) == (0, "1\n")
    (tmp_path / "bad.py").write_text("raise OSError('not now')\n")
    answer = run(tmp_path, {"func_name": "one"}, "--task-module", "bad.py")
    assert answer.code == 4
    assert "OSError: not now" in answer.err


def test_the_file_may_be_given_as_input(tasks: Path) -> None:
    (tasks / "job.json").write_text('{"func_name": "add", "args": [2, 3]}')
    assert call("runtestworker", "--input", "job.json", cwd=tasks).out == "5\n"
    for words in ([], ["job.json", "--input", "job.json"]):
        answer = invoke("runtestworker", "run", *words)
        assert (answer.code, "--input" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "described", ["{", {"func_name": 5}, {"func_name": "add", "retires": 1}], ids=str
)
def test_a_file_that_describes_no_job_is_a_usage_error(described: object, tasks: Path) -> None:
    answer = run(tasks, described, start=invoke)
    assert (answer.code, "job.json" in answer.err) == (2, True)
