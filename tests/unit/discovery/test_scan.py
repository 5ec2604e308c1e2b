"""A scan of a whole project: names, problems, what is read and what is not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuvom.discovery import scan as scan_module
from nuvom.discovery.scan import Duplicate, Scan, scan
from nuvom.errors import ProjectNotFound
from tests.unit.discovery.projects import LATER, TASK, write


def named(found: Scan) -> list[tuple[str, bool]]:
    return [(task.name, task.importable) for task in found.tasks]


def counts(found: Scan) -> tuple[int, int, int]:
    return found.files_seen, found.files_read, found.files_parsed


# ---- names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "extra", "name"),
    [
        ("tasks.py", [], "tasks.add"),
        ("app/tasks.py", [], "app.tasks.add"),
        ("app/__init__.py", [], "app.add"),
        ("app/sub/__init__.py", ["app/__init__.py"], "app.sub.add"),
        ("app/__main__.py", [], "app.__main__.add"),
        ("src/app/tasks.py", [], "app.tasks.add"),
        ("src/tasks.py", [], "tasks.add"),
        ("src/app/tasks.py", ["src/__init__.py"], "src.app.tasks.add"),
        ("src/__init__.py", [], "src.add"),
        ("lib/src/tasks.py", [], "lib.src.tasks.add"),
        ("src.py", [], "src.add"),
        ("café/tasks.py", [], "café.tasks.add"),
    ],
)
def test_task_is_named_after_its_module(
    tmp_path: Path, file: str, extra: list[str], name: str
) -> None:
    write(tmp_path, {**dict.fromkeys(extra, ""), file: TASK})
    found = scan(tmp_path, use_cache=False)
    assert ([(name, True)], ()) == (named(found), found.problems)
    [task] = found.tasks
    assert (file, 4, f"{file}:4") == (task.file, task.line, task.place)
    assert f"{task.module}.add" == name


@pytest.mark.parametrize(
    ("file", "name", "part"),
    [
        ("my-tasks.py", "my-tasks.add", "my-tasks"),
        ("my-app/tasks.py", "my-app.tasks.add", "my-app"),
        ("2024/tasks.py", "2024.tasks.add", "2024"),
        ("a.b/tasks.py", "a.b.tasks.add", "a.b"),
        ("class/tasks.py", "class.tasks.add", "class"),
        ("__init__.py", "__init__.add", "root"),
    ],
)
def test_task_whose_file_cannot_be_imported_is_listed_with_a_warning(
    tmp_path: Path, file: str, name: str, part: str
) -> None:
    found = scan(write(tmp_path, {file: TASK}), use_cache=False)
    assert [(name, False)] == named(found)
    [problem] = found.warnings
    assert (file, 4) == (problem.file, problem.line)
    assert part in problem.reason
    assert () == found.errors


def test_literal_name_wins_and_another_is_warned_of(tmp_path: Path) -> None:
    source = """
        from nuvom import task
        @task(name="mail.send")
        def one(): ...
        @task(name=NAME)
        def two(): ...
    """
    found = scan(write(tmp_path, {"app.py": source}), use_cache=False)
    assert [("app.two", True), ("mail.send", True)] == named(found)
    assert [("app.py", 6)] == [(problem.file, problem.line) for problem in found.warnings]


def test_tasks_and_problems_are_sorted(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}.py": TASK for name in "zambq"}
    files |= {f"x{name}.py": "task task =" for name in "zambq"}
    found = scan(write(tmp_path, files), use_cache=False)
    assert [f"{name}.add" for name in "abmqz"] == [task.name for task in found.tasks]
    assert [f"x{name}.py" for name in "abmqz"] == [problem.file for problem in found.problems]


# ---- duplicates -------------------------------------------------------------------------


def test_name_that_two_files_claim_is_reported_with_both_places(tmp_path: Path) -> None:
    source = 'from nuvom import task\n@task(name="mail")\ndef f(): ...\n'
    found = scan(write(tmp_path, {"b.py": source, "a.py": source, "c.py": source}))
    assert (Duplicate("mail", ("a.py:3", "b.py:3", "c.py:3")),) == found.duplicates
    assert ["a.py"] == [task.file for task in found.tasks]
    assert [("b.py", 3), ("c.py", 3)] == [(p.file, p.line) for p in found.errors]
    assert all("a.py:3" in problem.reason for problem in found.errors)


def test_name_given_twice_in_one_file_is_reported(tmp_path: Path) -> None:
    more = '\n@task(name="a.add")\ndef other(): ...\n'
    found = scan(write(tmp_path, {"a.py": TASK + more}))
    assert (Duplicate("a.add", ("a.py:4", "a.py:8")),) == found.duplicates
    assert ["a.py:8"] == [f"{one.file}:{one.line}" for one in found.errors]
    assert [4] == [task.line for task in found.tasks]


def test_of_two_modules_of_one_name_the_one_that_is_imported_counts(tmp_path: Path) -> None:
    found = scan(write(tmp_path, {"src/zap/a.py": TASK, "zap/a.py": TASK}))
    assert (Duplicate("zap.a.add", ("zap/a.py:4", "src/zap/a.py:4")),) == found.duplicates
    assert ["zap/a.py"] == [task.file for task in found.tasks]


@pytest.mark.parametrize("importable", ["c.py", "src/c.py"])
def test_of_two_tasks_of_one_name_an_importable_one_counts(tmp_path: Path, importable: str) -> None:
    source = 'from nuvom import task\n@task(name="t")\ndef f(): ...\n'
    found = scan(write(tmp_path, {"a-b.py": source, importable: source}))
    assert [("t", True)] == named(found)


# ---- problems never stop a scan ---------------------------------------------------------


def test_broken_files_are_reported_and_the_others_are_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "syntax.py": "from nuvom import task\ndef f(:\n",
            "bytes.py": b"# task nuvom\nx = '\xff'\n",
            "null.py": b"# task nuvom\n\0\n",
            "codec.py": b"# coding: nope\n# task nuvom\n",
            "deep.py": b"task = " + b"-" * 100_000 + b"1",
            "large.py": b"# task nuvom\n" * (1 << 18),
            "good.py": TASK,
        },
    )
    found = scan(tmp_path)
    assert [("good.add", True)] == named(found)
    assert [
        ("bytes.py", 2),
        ("codec.py", 0),
        ("deep.py", 0),
        ("large.py", 0),
        ("null.py", 0),
        ("syntax.py", 2),
    ] == [(problem.file, problem.line) for problem in found.errors]
    assert found.errors == found.problems
    assert (7, 6, 6) == counts(found)


def test_file_that_vanishes_before_it_is_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str, expected: int) -> bytes:
        os.unlink(path)
        return scan_module.read_file.__wrapped__(path, expected)  # type: ignore[attr-defined,no-any-return]  # set below

    read.__wrapped__ = scan_module.read_file  # type: ignore[attr-defined]  # the function itself
    monkeypatch.setattr(scan_module, "read_file", read)
    found = scan(write(tmp_path, {"a.py": TASK}), clock=LATER)
    assert ("a.py", 0) == found.errors[0][:2]
    assert "cannot be read" in found.errors[0].reason
    monkeypatch.undo()
    write(tmp_path, {"a.py": TASK})
    assert [("a.add", True)] == named(scan(tmp_path, clock=LATER))  # nothing wrong was remembered


def test_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": ""})
    for path in ("a.py", "nothing"):
        with pytest.raises(ProjectNotFound, match=path):
            scan(tmp_path / path)


@given(st.binary(max_size=200), st.sampled_from([b"", b"from nuvom import task\n@task\n"]))
def test_arbitrary_bytes_in_a_file_never_stop_a_scan(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, prefix: bytes
) -> None:
    root = tmp_path_factory.mktemp("any")
    write(root, {"any.py": prefix + content, "good.py": TASK})
    assert ("good.add", True) in named(scan(root))
    assert ("good.add", True) in named(scan(root, clock=LATER))


# ---- nothing of the project runs --------------------------------------------------------


def test_no_code_of_the_project_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    hostile = f"open({str(marker)!r}, 'w').close()\n"
    root = tmp_path / "project"
    names = ["nuvom", "msgspec", "click", "pathspec", "ast", "json", "sitecustomize", "conftest"]
    write(root, {f"{name}.py": hostile + TASK for name in names})
    write(root, {"app/__init__.py": hostile + TASK, "setup.py": hostile, ".nuvomignore": "x\n"})
    monkeypatch.chdir(root)
    before = set(sys.modules)
    path = list(sys.path)
    found = scan(root)
    assert len(names) + 1 == len(found.tasks)
    assert not marker.exists()
    loaded = [sys.modules[name] for name in set(sys.modules) - before]
    assert not [one for one in loaded if str(root) in str(getattr(one, "__file__", None))]
    assert path == sys.path
    assert [] == [str(found) for found in root.rglob("*.pyc")]


# ---- what is read -----------------------------------------------------------------------


def test_only_files_that_mention_tasks_are_parsed(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "import nuvom", "b.py": "x =", "c.py": "task = 1", "d.py": TASK})
    assert (4, 4, 2) == counts(scan(tmp_path, use_cache=False))


def test_second_scan_of_thousands_of_files_reads_none(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"p{n // 50}/m{n}.py": f"x = {n}\n" if n % 10 else TASK for n in range(2000)
    }
    files["broken.py"] = "task ="
    write(tmp_path, files)
    first = scan(tmp_path, clock=LATER)
    second = scan(tmp_path, clock=LATER)
    assert (2001, 2001, 201) == counts(first)
    assert (2001, 0, 0) == counts(second)
    assert (200, 1) == (len(first.tasks), len(first.problems))
    assert first[:3] == second[:3]


def test_changed_new_and_removed_files_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, {"same.py": TASK, "changed.py": TASK, "removed.py": TASK})
    scan(tmp_path, clock=LATER)
    write(tmp_path, {"changed.py": TASK.replace("add", "subtract"), "new.py": TASK})
    (tmp_path / "removed.py").unlink()
    found = scan(tmp_path, clock=LATER)
    assert ["changed.subtract", "new.add", "same.add"] == [task.name for task in found.tasks]
    assert (3, 2, 2) == counts(found)


def test_same_size_and_another_time_is_a_change(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK})
    scan(tmp_path, clock=LATER)
    write(tmp_path, {"a.py": TASK.replace("add", "sub")})
    os.utime(tmp_path / "a.py", ns=(1, 1))
    assert ["a.sub"] == [task.name for task in scan(tmp_path, clock=LATER).tasks]


def test_module_is_named_anew_when_src_becomes_a_package(tmp_path: Path) -> None:
    write(tmp_path, {"src/app.py": TASK})
    assert [("app.add", True)] == named(scan(tmp_path, clock=LATER))
    write(tmp_path, {"src/__init__.py": ""})
    found = scan(tmp_path, clock=LATER)
    assert [("src.app.add", True)] == named(found)
    assert (2, 1, 0) == counts(found)


def test_invalid_pattern_given_as_an_option_is_reported(tmp_path: Path) -> None:
    found = scan(tmp_path, exclude=["ok", "!"], include=["a\\"])
    assert {"--exclude", "--include"} == {problem.file for problem in found.warnings}


# ---- the cache's place ------------------------------------------------------------------


def test_scan_makes_no_folder_where_there_is_no_project(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x = 1"})
    scan(tmp_path, clock=LATER)
    assert ["a.py"] == os.listdir(tmp_path)


def test_scan_without_cache_neither_reads_nor_writes_it(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK})
    scan(tmp_path, use_cache=False, clock=LATER)
    assert ["a.py"] == os.listdir(tmp_path)
    scan(tmp_path, clock=LATER)
    assert (1, 1, 1) == counts(scan(tmp_path, use_cache=False, clock=LATER))
