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
from nuvom.discovery.scan import CACHE_FILE, scan
from tests.unit.discovery.projects import LATER, TASK, write

NOW_SECS = 1_700_000_000.5


class FixedClock(Clock):
    def now(self) -> float:
        return NOW_SECS


def names(root: Path, clock: Clock = LATER) -> list[str]:
    return [task.name for task in scan(root, clock=clock).tasks]


# ---- racy times -------------------------------------------------------------------------


@pytest.mark.parametrize(("age_secs", "reads"), [(0, 1), (1.9, 1), (2.1, 0), (-3600, 1)])
def test_file_written_just_before_a_scan_is_read_again(
    tmp_path: Path, age_secs: float, reads: int
) -> None:
    write(tmp_path, {"a.py": TASK})
    mtime = int((NOW_SECS - age_secs) * 1e9)
    os.utime(tmp_path / "a.py", ns=(mtime, mtime))
    assert ["a.add"] == names(tmp_path, FixedClock())
    write(tmp_path, {"a.py": TASK.replace("add", "sub")})  # same size, and the same time
    os.utime(tmp_path / "a.py", ns=(mtime, mtime))
    assert reads == scan(tmp_path, clock=FixedClock()).files_read


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_linked_files_are_read_each_time(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": TASK, "one.txt": TASK, "two.txt": TASK.replace("add", "sub")})
    for name in ("a.py", "one.txt", "two.txt"):
        os.utime(tmp_path / name, ns=(1, 1))
    assert ["a.add"] == names(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "a.py").unlink()
        (tmp_path / "a.py").symlink_to(f"{name}.txt")
        assert ["a.add" if name == "one" else "a.sub"] == names(tmp_path)


# ---- damage -----------------------------------------------------------------------------


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
        lambda entry: [],
        lambda entry: [*entry[:2], [], [], []],
        lambda entry: [*entry[:2], [{**entry[2][0], "line": "3"}], []],
        lambda entry: [*entry[:2], [{"name": "add"}], []],
        lambda entry: [*entry[:2], entry[2], [["a.py", "1", "x", "error"]]],
    ],
)
def test_damaged_entry_is_read_from_its_file_again(tmp_path: Path, damage: Any) -> None:
    write(tmp_path, {"a.py": TASK, "b.py": "x = 1"})
    first = scan(tmp_path, clock=LATER)
    content = json.loads((tmp_path / CACHE_FILE).read_bytes())
    content["files"]["a.py"] = damage(content["files"]["a.py"])
    (tmp_path / CACHE_FILE).write_text(json.dumps(content))
    assert first == scan(tmp_path, clock=LATER)


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
    assert ["a.py"] == list(json.loads((tmp_path / CACHE_FILE).read_bytes())["files"])


def test_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"a.py": TASK, ".nuvom/cache": "a file in the folder's place"})
    with caplog.at_level(logging.DEBUG, "nuvom"):
        assert ["a.add"] == names(tmp_path)
    assert ["cannot be written" in record.getMessage() for record in caplog.records][-1]
