"""What is remembered of unchanged files, and when it is not trusted."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.clock import Clock
from nuvom.discovery.cache import CACHE_FILE, DiscoveryCache
from nuvom.discovery.parser import NOTHING
from nuvom.discovery.scan import scan
from nuvom.discovery.walker import SourceFile
from tests.unit.discovery.projects import LATER, TASK, write

NOW_SECS = 1_700_000_000.5
MILLI = 1_000_000


class FixedClock(Clock):
    def now(self) -> float:
        return NOW_SECS


def names(root: Path, clock: Clock = LATER) -> list[str]:
    return [task.name for task in scan(root, clock=clock).tasks]


# ---- racy times -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_ns", "reads"),
    [
        (0, 1),  # written in the very tick in which the scan began
        (50 * MILLI, 1),
        (150 * MILLI, 0),
        (3600 * 1000 * MILLI, 0),
        (-3600 * 1000 * MILLI, 1),  # from the future
    ],
)
def test_file_written_just_before_a_scan_is_read_again(
    tmp_path: Path, age_ns: int, reads: int
) -> None:
    write(tmp_path, {"a.py": TASK})
    mtime = int(NOW_SECS * 1e9) - age_ns + 1
    os.utime(tmp_path / "a.py", ns=(mtime, mtime))
    scan(tmp_path, clock=FixedClock())
    assert reads == scan(tmp_path, clock=FixedClock()).files_read


@pytest.mark.parametrize(("age_secs", "reads"), [(1, 1), (3, 0)])
def test_file_system_that_counts_in_seconds_gets_more_time(
    tmp_path: Path, age_secs: int, reads: int
) -> None:
    write(tmp_path, {"a.py": TASK})
    mtime = (int(NOW_SECS) - age_secs) * 10**9
    os.utime(tmp_path / "a.py", ns=(mtime, mtime))
    scan(tmp_path, clock=FixedClock())
    assert reads == scan(tmp_path, clock=FixedClock()).files_read


def test_change_within_one_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK})
    mtime = int(NOW_SECS * 1e9) - MILLI
    os.utime(tmp_path / "a.py", ns=(mtime, mtime))
    assert ["a.add"] == names(tmp_path, FixedClock())
    write(tmp_path, {"a.py": TASK.replace("add", "sub")})  # same size, and the same time:
    os.utime(tmp_path / "a.py", ns=(mtime, mtime))
    assert ["a.sub"] == names(tmp_path, FixedClock())
    assert ["a.sub"] == names(tmp_path, LATER)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_linked_files_are_read_each_time(tmp_path: Path) -> None:
    write(tmp_path, {"one.txt": TASK, "two.txt": TASK.replace("add", "sub")})
    for name in ("one.txt", "two.txt"):
        os.utime(tmp_path / name, ns=(1, 1))
    (tmp_path / "a.py").symlink_to("one.txt")
    assert ["a.add"] == names(tmp_path)
    (tmp_path / "a.py").unlink()
    (tmp_path / "a.py").symlink_to("two.txt")
    assert ["a.sub"] == names(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_link_in_the_place_of_a_remembered_file_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK, "other.txt": TASK.replace("add", "sub")})
    for name in ("a.py", "other.txt"):
        os.utime(tmp_path / name, ns=(1, 1))
    assert ["a.add"] == names(tmp_path)
    (tmp_path / "a.py").unlink()
    (tmp_path / "a.py").symlink_to("other.txt")
    assert ["a.sub"] == names(tmp_path)


# ---- damage -----------------------------------------------------------------------------


def entry_of(root: Path) -> Any:
    return json.loads((root / CACHE_FILE).read_bytes())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "1", "files": {}}',
        b'{"files": {}}',
        b'{"format": 1}',
    ],
)
def test_damaged_cache_is_made_anew_and_says_so_at_debug_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    write(tmp_path, {"a.py": TASK})
    scan(tmp_path, clock=LATER)
    good = (tmp_path / CACHE_FILE).read_bytes()
    (tmp_path / CACHE_FILE).write_bytes(content)
    with caplog.at_level(logging.DEBUG, "nuvom"):
        assert ["a.add"] == names(tmp_path)
    assert good == (tmp_path / CACHE_FILE).read_bytes()
    [record] = caplog.records
    assert logging.DEBUG == record.levelno
    assert "made anew" in record.getMessage()


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: None,
        lambda entry: 5,
        lambda entry: [],
        lambda entry: [*entry[:2], []],
        lambda entry: [*entry[:2], [], [], []],
        lambda entry: [*entry[:2], None, None],
        lambda entry: [*entry[:2], [[1]], []],
        lambda entry: [*entry[:2], [entry[2][0][:-1]], []],
        lambda entry: [*entry[:2], [[*entry[2][0][:-1], None]], []],
        lambda entry: [*entry[:2], [[5, *entry[2][0][1:]]], []],
        lambda entry: [*entry[:2], entry[2], [["1", "x", "error"]]],
        lambda entry: [*entry[:2], entry[2], 7],
    ],
)
def test_damaged_entry_is_read_from_its_file_again(tmp_path: Path, damage: Any) -> None:
    write(tmp_path, {"a.py": TASK, "b.py": "x = 1"})
    first = scan(tmp_path, clock=LATER)
    content = entry_of(tmp_path)
    content["files"]["a.py"] = damage(content["files"]["a.py"])
    (tmp_path / CACHE_FILE).write_text(json.dumps(content))
    second = scan(tmp_path, clock=LATER)
    assert first.tasks == second.tasks
    assert () == second.problems
    assert 1 == second.files_read


def test_entry_without_tasks_holds_size_and_time_only(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "x = 1", "b.py": TASK})
    os.utime(tmp_path / "a.py", ns=(5, 7))
    scan(tmp_path, clock=LATER)
    assert [5, 7] == entry_of(tmp_path)["files"]["a.py"]


def test_cache_that_did_not_change_is_not_written(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK, "b.py": "task ="})
    scan(tmp_path, clock=LATER)
    before = (tmp_path / CACHE_FILE).stat()
    scan(tmp_path, clock=LATER)
    after = (tmp_path / CACHE_FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_forgotten_files_leave_the_cache(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK, "b.py": TASK})
    scan(tmp_path, clock=LATER)
    (tmp_path / "b.py").unlink()
    scan(tmp_path, clock=LATER)
    assert ["a.py"] == list(entry_of(tmp_path)["files"])


def test_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"a.py": TASK, ".nuvom/cache": "a file in the folder's place"})
    with caplog.at_level(logging.DEBUG, "nuvom"):
        assert ["a.add"] == names(tmp_path)
    assert ["cannot be written" in record.getMessage() for record in caplog.records][-1]


def test_what_was_just_kept_is_found_by_the_next_scan_only() -> None:
    source = SourceFile("/a.py", "a.py", 1, 1)
    cache = DiscoveryCache({}, started_ns=10**18)
    cache.keep(source, NOTHING)
    assert cache.find(source) is None
