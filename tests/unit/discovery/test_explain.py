"""Why a file or a function is not among the tasks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nuvom.discovery.explain import why_hidden, why_no_task
from nuvom.discovery.scan import scan
from tests.unit.discovery.projects import TASK, write

links_only = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


@pytest.mark.parametrize(
    ("ignored", "path", "words"),
    [
        ({".nuvomignore": "# old\n\nlegacy/\n"}, "app/legacy/a.py", ".nuvomignore line 3: legacy/"),
        ({".nuvomignore": "*_old.py\n"}, "app/a_old.py", ".nuvomignore line 1: *_old.py"),
        ({"app/.nuvomignore": "/a.py\n"}, "app/a.py", "app/.nuvomignore line 1: /a.py"),
        ({}, "build/lib/a.py", "`!build/` in .nuvomignore brings it back"),
        ({}, "app/.cache/a.py", "hidden folders"),
        ({"env/pyvenv.cfg": ""}, "env/lib/a.py", "it holds pyvenv.cfg"),
        ({}, "app/a.txt", "only files named *.py"),
        ({}, "app/.a.py", "only files named *.py"),
    ],
)
def test_what_hides_a_file_is_named_and_does_hide_it(
    tmp_path: Path, ignored: dict[str, str | bytes], path: str, words: str
) -> None:
    write(tmp_path, {**ignored, path: TASK})
    assert words in (why_hidden(tmp_path, path) or "")
    assert why_hidden(tmp_path, path) == why_hidden(tmp_path, tmp_path / path)
    assert () == scan(tmp_path).tasks


def test_folder_that_is_left_out_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"app/build/x/a.py": TASK})
    assert (why_hidden(tmp_path, "app/build/x/a.py") or "").startswith("its folder app/build/ is")


@pytest.mark.parametrize(
    "rules", ["", "!build/\n", "*.py\n!app/**\n", "app/\n!app/\n", "other.py\n", "!env/\n"]
)
def test_nothing_is_said_of_a_file_that_is_found(tmp_path: Path, rules: str) -> None:
    path = {"!build/\n": "build/a.py", "!env/\n": "env/a.py"}.get(rules, "app/a.py")
    write(tmp_path, {".nuvomignore": rules, path: TASK, "env/pyvenv.cfg": ""})
    assert why_hidden(tmp_path, path) is None
    assert [path] == [task.file for task in scan(tmp_path).tasks]


def test_file_outside_the_project_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK, "app2/a.py": TASK})
    (tmp_path / "app").mkdir()
    for path in ("../a.py", tmp_path / "a.py", "../app2/a.py", "."):
        assert "it is outside the project" == why_hidden(tmp_path / "app", path)


def test_missing_file_is_told(tmp_path: Path) -> None:
    assert "cannot be read" in (why_hidden(tmp_path, "nothing.py") or "")
    assert "cannot be read" in (why_hidden(tmp_path, "nowhere/nothing.py") or "")


def test_file_that_is_too_large_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": b"#" * (3 << 20)})
    assert "it is larger than 2 MiB" in (why_hidden(tmp_path, "a.py") or "")


@links_only
def test_links_are_told(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"app/a.py": TASK})
    write(tmp_path, {"outside.py": TASK})
    (root / "linked").symlink_to("app")
    (root / "out.py").symlink_to("../outside.py")
    (root / "in.py").symlink_to("app/a.py")
    assert "linked folders are not entered" in (why_hidden(root, "linked/a.py") or "")
    assert "leads out of the project" in (why_hidden(root, "out.py") or "")
    assert why_hidden(root, "in.py") is None


# ---- one function -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "function", "words"),
    [
        ("from invoke import task\n\n@task\ndef add(): ...", "add", "line 3: @task is not Nuvom's"),
        ("import nuvom, invoke\n@invoke.task(x=1)\ndef add(): ...", "add", "line 2: @invoke.task"),
        ("import nuvom\n@other\ndef add(): ...", "add", "line 3: add has no @task of Nuvom"),
        ("class A:\n    def add(self): ...", "A.add", "line 2: add has no @task of Nuvom"),
        ("import nuvom", "add", "it defines no function named add"),
        ("# task\ndef add(:", "add", "line 2: it cannot be parsed"),
        ("task" + ".x" * 100_000, "add", "it cannot be parsed: it is nested too deeply"),
    ],
)
def test_reason_why_a_function_is_no_task_is_told(
    tmp_path: Path, source: str, function: str, words: str
) -> None:
    write(tmp_path, {"a.py": source})
    assert (why_no_task(tmp_path, "a.py", function) or "").startswith(words)


def test_nothing_is_said_of_a_function_that_is_listed(tmp_path: Path) -> None:
    source = "from nuvom import task\nclass A:\n  def m():\n    @task(name=X)\n    def add(): ...\n"
    write(tmp_path, {"a.py": source})
    for function in ("add", "A.m.add", "m.<locals>.add"):
        assert why_no_task(tmp_path, "a.py", function) is None
    assert "no function named other" in (why_no_task(tmp_path, "a.py", "other") or "")


@links_only
def test_function_in_a_linked_file_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"app/a.py": TASK})
    (tmp_path / "b.py").symlink_to(os.path.join("app", "a.py"))
    assert why_no_task(tmp_path, "b.py", "add") is None
