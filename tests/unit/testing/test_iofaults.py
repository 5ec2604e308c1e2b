"""The library is preloaded into a child that writes files; what it saw is compared with that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.lab.iofaults import compiled, environment, why_not
from tests.lab.powercut import Record, read_record

needs_library = pytest.mark.skipif(why_not() is not None, reason=f"NOT PROVED HERE: {why_not()}")


def run(tmp_path: Path, code: str) -> tuple[list[str], list[Record]]:
    """Run ``code`` in a child with ``root`` and ``faults``; return its lines and the record."""
    root = tmp_path / "root"
    root.mkdir()
    library = compiled(tmp_path)
    start = "import errno, os\nfrom tests.lab.iofaults import *\nfaults = Faults()\n"
    child = subprocess.run(
        [sys.executable, "-c", f"{start}os.chdir({str(root)!r})\n{dedent(code)}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        | environment(library, root, tmp_path / "record"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines(), read_record(tmp_path / "record")


@needs_library
def test_everything_that_changes_a_file_is_recorded_in_order(tmp_path: Path) -> None:
    _, records = run(
        tmp_path,
        """
        os.mkdir("inner")
        file = os.open("inner/a", os.O_CREAT | os.O_RDWR)
        os.write(file, b"abc")
        os.pwrite(file, b"de", 5)
        os.fdatasync(file)
        os.ftruncate(file, 2)
        os.rename("inner/a", "inner/b")
        os.link("inner/b", "inner/c")
        faults.mark("here")
        os.unlink("inner/c")
        folder = os.open("inner", os.O_RDONLY)
        os.fsync(folder)
        """,
    )
    root = os.path.realpath(tmp_path / "root")
    assert "".join(one.kind for one in records) == "DOWWFSTRLAUOFS"
    opened, written, placed, began, _, cut = records[1:7]
    assert records[0].text == f"{root}/inner"
    assert opened.text == f"{root}/inner/a"
    assert {opened.number} == {one.number for one in (written, placed, began, cut)}
    assert (written.offset, written.data) == (0, b"abc")
    assert (placed.offset, placed.data) == (5, b"de")
    assert cut.offset == 2
    assert records[7].text == f"{root}/inner/a\0{root}/inner/b"
    assert records[8].text == f"{root}/inner/b\0{root}/inner/c"
    assert records[9].text == "here"
    assert records[11].number == records[12].number == records[13].number


@needs_library
def test_the_chosen_call_fails_and_the_others_do_not(tmp_path: Path) -> None:
    said, records = run(
        tmp_path,
        """
        file = os.open("a", os.O_CREAT | os.O_RDWR)

        def attempt(call, *args):
            try:
                call(*args)
                print("done")
            except OSError as error:
                print(errno.errorcode[error.errno])

        faults.fail(errno.ENOSPC, WRITES, 2, 2)
        attempt(os.write, file, b"abcd")
        attempt(os.fsync, file)
        attempt(os.write, file, b"efgh")
        attempt(os.write, file, b"ijkl")
        print(faults.calls)
        faults.fail(errno.EIO, FLUSHES | READS | CUTS)
        attempt(os.fdatasync, file)
        attempt(os.pread, file, 1, 0)
        attempt(os.ftruncate, file, 0)
        attempt(os.unlink, "a")
        faults.mend()
        attempt(os.fsync, file)
        """,
    )
    assert said[:5] == ["done", "done", "ENOSPC", "done", "3"]
    assert said[5:] == ["EIO", "EIO", "EIO", "EIO", "done"]
    # What fails for want of room has written one half.
    assert (tmp_path / "root" / "a").read_bytes() == b"abcdefijkl"
    assert [one.data for one in records if one.kind == "W"] == [b"abcd", b"ef", b"ijkl"]
    assert "".join(one.kind for one in records if one.kind in "FSX") == "FSFXFS"
