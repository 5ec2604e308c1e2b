"""Why a function is not among the tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom.discovery.explain import why_no_task
from nuvom.discovery.scan import scan
from tests.unit.discovery.projects import TASK, write


def why(root: Path, path: str, function: str = "add") -> str | None:
    return why_no_task(root, root / path, function)


@pytest.mark.parametrize(
    ("ignored", "path", "words"),
    [
        ({".nuvomignore": "# old\n\nlegacy/\n"}, "app/legacy/a.py", ".nuvomignore line 3: legacy/"),
        ({"app/.nuvomignore": "/a.py\n"}, "app/a.py", "app/.nuvomignore line 1: /a.py"),
        ({}, "app/build/lib/a.py", "its folder app/build/ is left out: folders named build"),
        ({"env/pyvenv.cfg": ""}, "env/lib/a.py", "it holds pyvenv.cfg"),
        ({}, "app/.a.py", "hidden files"),
        ({"a.py": b"#" * (3 << 20)}, "a.py", "it is larger than 2 MiB"),
    ],
)
def test_what_hides_a_file_is_named_and_does_hide_it(
    tmp_path: Path, ignored: dict[str, str | bytes], path: str, words: str
) -> None:
    write(tmp_path, {path: TASK, **ignored})
    assert words in (why(tmp_path, path) or "")
    assert () == scan(tmp_path).tasks


@pytest.mark.parametrize(
    ("source", "function", "words"),
    [
        ("import nuvom, invoke\n@invoke.task(x=1)\ndef add(): ...", "add", "line 2: @invoke.task"),
        ("class A:\n    def add(self): ...", "A.add", "line 2: add has no @task of Nuvom"),
        ("import nuvom", "add", "it defines no function named add"),
        ("# a job\ndef add(:", "add", "line 2: it cannot be parsed"),
    ],
)
def test_reason_why_a_function_is_no_task_is_told(
    tmp_path: Path, source: str, function: str, words: str
) -> None:
    write(tmp_path, {"a.py": source})
    assert (why(tmp_path, "a.py", function) or "").startswith(words)


def test_nothing_is_said_of_a_function_that_is_listed(tmp_path: Path) -> None:
    source = "from nuvom import task\nclass A:\n  def m():\n    @task(name=X)\n    def add(): ...\n"
    write(tmp_path, {"a.py": source})
    for function in ("add", "A.m.add"):
        assert why(tmp_path, "a.py", function) is None
    assert "no function named other" in (why(tmp_path, "a.py", "other") or "")


def test_a_function_whose_name_is_taken_is_told_by_whom(tmp_path: Path) -> None:
    named = "from nuvom import task\n@task(name='t')\ndef add(): ...\n"
    write(tmp_path, {"a.py": named, "b.py": named})
    assert 'line 3: the task name "t" is taken: defined in a.py:3' in (why(tmp_path, "b.py") or "")
