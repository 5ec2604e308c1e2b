"""The walk stays inside the root and goes on whatever it meets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nuvom.discovery.entries import Problem
from nuvom.discovery.ignore import IgnoreRules
from nuvom.discovery.walker import (
    LEAVES_ROOT,
    MAX_FILE_BYTES,
    NOT_REGULAR,
    SourceFile,
    Walker,
    read_file,
)
from tests.unit.discovery.projects import write

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def walk(root: Path) -> tuple[dict[str, SourceFile], list[Problem]]:
    walker = Walker(str(root.resolve()), IgnoreRules())
    found = {source.file: source for source in walker.files()}
    return found, walker.problems


@posix_only
def test_linked_file_counts_only_when_its_target_is_inside(tmp_path: Path) -> None:
    write(tmp_path, {"outside.py": "secret = 1", "root2/x.py": ""})
    root = write(tmp_path / "root", {"app/a.py": "12345"})
    (root / "inside.py").symlink_to("app/a.py")
    (root / "outside.py").symlink_to("../outside.py")
    (root / "neighbour.py").symlink_to("../root2/x.py")  # its path starts like the root's
    (root / "folder.py").symlink_to("app")
    (root / "again").symlink_to(root / "app")
    (root / "app" / "loop").symlink_to(root)
    found, problems = walk(root)
    assert {"app/a.py", "inside.py"} == found.keys()
    assert str(root.resolve() / "app" / "a.py") == found["inside.py"].path
    expected = [Problem(name, 0, LEAVES_ROOT, "warning") for name in ("neighbour.py", "outside.py")]
    assert expected == sorted(problems)


@posix_only
def test_link_that_leads_nowhere_is_reported(tmp_path: Path) -> None:
    (tmp_path / "broken.py").symlink_to("nothing.py")
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / ".#a.py").symlink_to("editor@host")
    found, problems = walk(tmp_path)
    assert {} == found
    assert ["broken.py", "loop.py"] == sorted(problem.file for problem in problems)
    assert {"error"} == {problem.level for problem in problems}


@posix_only
def test_what_is_not_regular_is_reported_and_never_waited_for_or_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    assert ({}, [Problem("pipe.py", 0, NOT_REGULAR)]) == walk(tmp_path)
    with pytest.raises(OSError, match=NOT_REGULAR):  # it took the place of a file
        read_file(str(tmp_path / "pipe.py"))
    (tmp_path / "a.py").symlink_to("pipe.py")
    with pytest.raises(OSError, match="symbolic"):
        read_file(str(tmp_path / "a.py"))


def test_folder_that_vanishes_during_the_walk_is_reported(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "gone/b.py": ""})
    walker = Walker(str(tmp_path.resolve()), IgnoreRules())
    for source in walker.files():  # the root's files come before its folders
        assert "a.py" == source.file
        (tmp_path / "gone" / "b.py").unlink()
        (tmp_path / "gone").rmdir()
    assert ["gone/"] == [problem.file for problem in walker.problems]
    assert "folder cannot be read" in walker.problems[0].reason


@posix_only
def test_ignore_file_that_cannot_be_read_is_reported_and_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", "app/.nuvomignore": "*.py\n" * MAX_FILE_BYTES, "app/b.py": ""})
    (tmp_path / ".nuvomignore").symlink_to("a.py")
    found, problems = walk(tmp_path)
    assert {"a.py", "app/b.py"} == found.keys()
    assert [".nuvomignore", "app/.nuvomignore"] == sorted(problem.file for problem in problems)


@pytest.mark.parametrize("size", [0, 5000, MAX_FILE_BYTES, MAX_FILE_BYTES + 1])
def test_file_is_read_whole_or_refused(tmp_path: Path, size: int) -> None:
    write(tmp_path, {"a.py": b"x" * size})
    if size <= MAX_FILE_BYTES:
        assert b"x" * size == read_file(str(tmp_path / "a.py"))
    else:
        with pytest.raises(OSError, match="larger than 2 MiB"):
            read_file(str(tmp_path / "a.py"))
