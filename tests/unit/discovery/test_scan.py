"""A scan of a whole project: names, problems, what is read and what is remembered."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.core.clock import Clock
from nuvom.discovery import modules as modules_module
from nuvom.discovery.entries import Duplicate
from nuvom.discovery.modules import CACHE_FILE
from nuvom.discovery.scan import Scan, scan
from tests.unit.discovery.projects import LATER, TASK, write

NOW_SECS = 1_700_000_000.5
NAMED = 'from nuvom import task\n@task(name="t")\ndef f(): ...\n'


class FixedClock(Clock):
    def now(self) -> float:
        return NOW_SECS


def named(found: Scan) -> list[tuple[str, bool]]:
    return [(task.name, task.importable) for task in found.tasks]


def counts(found: Scan) -> tuple[int, int, int]:
    return found.files_seen, found.files_read, found.files_parsed


def places(found: Scan, level: str) -> list[tuple[str, int]]:
    return [(one.file, one.line) for one in found.problems if one.level == level]


# ---- names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "extra", "name"),
    [
        ("tasks.py", [], "tasks.add"),
        ("app/__init__.py", [], "app.add"),
        ("app/sub/__main__.py", [], "app.sub.__main__.add"),
        ("src/app/tasks.py", [], "app.tasks.add"),
        ("src/app/tasks.py", ["src/__init__.py"], "src.app.tasks.add"),
        ("src/__init__.py", [], "src.add"),
        ("lib/src/tasks.py", [], "lib.src.tasks.add"),
    ],
)
def test_task_is_named_after_its_module(
    tmp_path: Path, file: str, extra: list[str], name: str
) -> None:
    write(tmp_path, {**dict.fromkeys(extra, ""), file: TASK})
    found = scan(tmp_path, use_cache=False)
    assert ([(name, True)], ()) == (named(found), found.problems)
    assert (f"{file}:4", name) == (found.tasks[0].place, f"{found.tasks[0].module}.add")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my-app/tasks.py", "my-app.tasks.add"),
        ("class.py", "class.add"),
        ("__init__.py", "__init__.add"),
    ],
)
def test_task_whose_file_cannot_be_imported_is_listed_with_a_warning(
    tmp_path: Path, file: str, name: str
) -> None:
    found = scan(write(tmp_path, {file: TASK}), use_cache=False)
    assert ([(name, False)], [(file, 4)], ()) == (
        named(found),
        places(found, "warning"),
        found.errors,
    )


def test_tasks_and_problems_are_sorted(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}.py": TASK for name in "zambq"}
    files |= {f"x{name}.py": "@task\n=" for name in "zambq"}
    found = scan(write(tmp_path, files), use_cache=False)
    assert [f"{name}.add" for name in "abmqz"] == [task.name for task in found.tasks]
    assert [(f"x{name}.py", 2) for name in "abmqz"] == places(found, "error")


def test_schedules_are_read_as_far_as_they_are_literals(tmp_path: Path) -> None:
    source = """\
        import datetime as dt
        from datetime import timedelta
        from nuvom import task
        daily = task.preset(timezone_name="Europe/Berlin")
        @daily(schedule="@daily")
        def a(): ...
        @task(schedule=timedelta(hours=1, minutes=-30))
        def b(): ...
        @task(schedule={"interval": dt.timedelta(1), "misfire": "skip"})
        def c(): ...
        @task(schedule=when(), queue="mail")
        def d(): ...
        @task(schedule="@daily", timezone_name=zone(), retries=tries())
        def e(): ...
        @task(schedule="0 25 * * *")
        def f(): ...
        @task(schedule=timedelta(hour=1))
        def g(): ...
        @task(timezone_name=zone(), **more)
        def h(): ...
        """
    found = scan(write(tmp_path, {"t.py": source}), use_cache=False)
    assert [
        {"schedule": "@daily", "timezone_name": "Europe/Berlin"},
        {"schedule": 1800.0},
        {"schedule": {"interval": 86400.0, "misfire": "skip"}},
    ] == [task.options for task in found.tasks[:3]]
    told = {one.line: one.reason for one in found.problems if one.level == "warning"}
    assert {12, 14, 16, 18} == set(told)
    assert "no scheduler can make the schedule of the task d" in told[12]
    assert "tells its timezone_name, retries: use literals" in told[14]
    assert "0 25 * * *\n      ^^ column 3" in told[16]


# ---- duplicates -------------------------------------------------------------------------


def test_name_that_several_functions_claim_is_reported_with_all_places(tmp_path: Path) -> None:
    more = '\n@task(name="t")\ndef other(): ...\n'
    found = scan(write(tmp_path, {"b.py": NAMED, "a.py": NAMED + more}))
    assert (Duplicate("t", ("a.py:3", "a.py:6", "b.py:3")),) == found.duplicates
    assert ["a.py:3"] == [task.place for task in found.tasks]
    assert [("a.py", 6), ("b.py", 3)] == places(found, "error")
    assert all("defined in a.py:3 and again here" in one.reason for one in found.errors)


def test_former_name_that_another_task_has_is_reported_with_both_places(tmp_path: Path) -> None:
    renamed = 'from nuvom import task\n@task(aliases=["t", "old"])\ndef new(): ...\n'
    found = scan(write(tmp_path, {"b.py": NAMED, "a.py": renamed}))
    assert (Duplicate("t", ("b.py:3", "a.py:3")),) == found.duplicates
    assert [("a.py", 3)] == places(found, "error")
    assert [("t", "old"), ()] == [task.aliases for task in found.tasks]


@pytest.mark.parametrize(
    ("other", "counts"), [("src/zap.py", "zap.py"), ("a-b.py", "zap.py"), ("abc.py", "abc.py")]
)
def test_of_two_tasks_of_one_name_the_one_that_a_worker_imports_counts(
    tmp_path: Path, other: str, counts: str
) -> None:
    found = scan(write(tmp_path, {other: NAMED, "zap.py": NAMED}))
    assert [(counts, True)] == [(task.file, task.importable) for task in found.tasks]


# ---- problems never stop a scan ---------------------------------------------------------


def test_broken_files_are_reported_and_the_others_are_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "syntax.py": "from nuvom import task\ndef f(:\n",
            "codec.py": b"# coding: nope\n# task nuvom\n",
            "large.py": b"# task nuvom\n" * (1 << 18),
            "good.py": TASK,
        },
    )
    found = scan(tmp_path)
    assert [("good.add", True)] == named(found)
    assert [("codec.py", 0), ("large.py", 0), ("syntax.py", 2)] == places(found, "error")
    assert (4, 3, 3) == counts(found)


def test_a_broken_file_that_defines_no_task_is_reported_alike_by_each_scan(tmp_path: Path) -> None:
    write(tmp_path, {"p/broken.py": "@a.task\ndef f(", "p/tasks.py": TASK, "p/other.py": "task ="})
    for source in (TASK, TASK.replace("add", "subtract")):
        found = scan(write(tmp_path, {"p/tasks.py": source}), clock=LATER)
        assert ([("p/broken.py", 2)], ("p/broken.py",)) == (places(found, "error"), found.unparsed)


def test_file_that_vanishes_before_it_is_read_is_reported_and_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(path: str) -> bytes:
        raise FileNotFoundError(2, "No such file", path)

    monkeypatch.setattr(modules_module, "read_file", vanish)
    found = scan(write(tmp_path, {"a.py": TASK}), clock=LATER)
    assert [("a.py", 0)] == places(found, "error")
    monkeypatch.undo()
    assert [("a.add", True)] == named(scan(tmp_path, clock=LATER))


# ---- nothing of the project runs --------------------------------------------------------


def test_no_code_of_the_project_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    hostile = f"open({str(marker)!r}, 'w').close()\n"
    root = tmp_path / "project"
    names = ["nuvom", "msgspec", "pathspec", "ast", "sitecustomize", "conftest"]
    write(root, {f"{name}.py": hostile + TASK for name in names})
    write(root, {"app/__init__.py": hostile + TASK, "setup.py": hostile, ".nuvomignore": "x\n"})
    monkeypatch.chdir(root)
    before, path = set(sys.modules), list(sys.path)
    assert len(names) + 1 == len(scan(root).tasks)
    assert not marker.exists()
    loaded = [sys.modules[name] for name in set(sys.modules) - before]
    assert not [one for one in loaded if str(root) in str(getattr(one, "__file__", None))]
    assert path == sys.path


# ---- what is read -----------------------------------------------------------------------


def test_second_scan_of_thousands_of_files_reads_none_and_writes_nothing(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"p{n // 50}/m{n}.py": f"x = {n}\n" if n % 10 else TASK for n in range(2000)
    }
    write(tmp_path, {**files, "broken.py": "@task ="})
    first = scan(tmp_path, clock=LATER)
    written = (tmp_path / CACHE_FILE).stat()
    second = scan(tmp_path, clock=LATER)
    assert ((2001, 2001, 201), (2001, 0, 0)) == (counts(first), counts(second))
    assert (200, 1) == (len(first.tasks), len(first.problems))
    assert first[:3] == second[:3]
    again = (tmp_path / CACHE_FILE).stat()
    assert (written.st_ino, written.st_mtime_ns) == (again.st_ino, again.st_mtime_ns)


def test_changed_new_and_removed_files_are_noticed(tmp_path: Path) -> None:
    names = ("same", "changed", "removed", "time")
    write(tmp_path, {f"p/{name}.py": TASK for name in names})
    scan(tmp_path, clock=LATER)
    write(tmp_path, {"p/changed.py": TASK.replace("add", "subtract"), "p/new.py": TASK})
    write(tmp_path, {"p/time.py": TASK.replace("add", "sub")})  # of the same size
    os.utime(tmp_path / "p/time.py", ns=(1, 1))
    (tmp_path / "p/removed.py").unlink()
    found = scan(tmp_path, clock=LATER)
    assert ["p.changed.subtract", "p.new.add", "p.same.add", "p.time.sub"] == [
        task.name for task in found.tasks
    ]
    assert (4, 3, 3) == counts(found)
    assert b"p/removed.py" not in (tmp_path / CACHE_FILE).read_bytes()


@pytest.mark.parametrize(("age_secs", "reads"), [(0, 1), (1.9, 1), (2.1, 0), (-3600, 1)])
def test_file_written_just_before_a_scan_is_read_again(
    tmp_path: Path, age_secs: float, reads: int
) -> None:
    mtime = int((NOW_SECS - age_secs) * 1e9)
    for name in ("add", "sub"):  # of the same size, and at the same time
        write(tmp_path, {"a.py": TASK.replace("add", name)})
        os.utime(tmp_path / "a.py", ns=(mtime, mtime))
        found = scan(tmp_path, clock=FixedClock())
    assert reads == found.files_read


def test_module_is_named_anew_when_src_becomes_a_package(tmp_path: Path) -> None:
    write(tmp_path, {"src/app.py": TASK})
    assert [("app.add", True)] == named(scan(tmp_path, clock=LATER))
    write(tmp_path, {"src/__init__.py": ""})
    found = scan(tmp_path, clock=LATER)
    assert ([("src.app.add", True)], (2, 2, 1)) == (named(found), counts(found))


# ---- the cache --------------------------------------------------------------------------


def test_cache_is_made_only_where_there_is_something_to_remember(tmp_path: Path) -> None:
    scan(write(tmp_path, {"a.py": "x = 1"}), clock=LATER)
    scan(write(tmp_path, {"a.py": TASK}), clock=LATER, use_cache=False)
    assert ["a.py"] == os.listdir(tmp_path)
    scan(tmp_path, clock=LATER)
    assert (1, 1, 1) == counts(scan(tmp_path, use_cache=False, clock=LATER))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"[" * 100_000,
        lambda _: b'{"format": "1", "files": {}}',
        lambda good: good.replace(b'"line":', b'"line":"x","l":'),
        lambda good: good.replace(b'"outcome":', b'"was":') + b"x",
    ],
)
def test_damaged_cache_is_made_anew_and_says_so_at_debug_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    write(tmp_path, {"a.py": TASK})
    scan(tmp_path, clock=LATER)
    good = (tmp_path / CACHE_FILE).read_bytes()
    (tmp_path / CACHE_FILE).write_bytes(damage(good))
    with caplog.at_level(logging.DEBUG, "nuvom"):
        assert [("a.add", True)] == named(scan(tmp_path, clock=LATER))
    assert good == (tmp_path / CACHE_FILE).read_bytes()
    [record] = caplog.records
    assert logging.DEBUG == record.levelno
    assert "made anew" in record.getMessage()


def test_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"a.py": TASK, ".nuvom/cache": "a file in the folder's place"})
    with caplog.at_level(logging.DEBUG, "nuvom"):
        assert [("a.add", True)] == named(scan(tmp_path, clock=LATER))
    assert "cannot be written" in caplog.records[-1].getMessage()
