"""R25: the code is changed in one place at a time, and a named test fails.

Mutations are listed in ``tests/mutations.toml``. Those with a name take away what a promise rests
on; the others are of meaning: a comparison, a condition, a limit. Each is made in a copy of the
project. One that survives is a missing test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = ROOT / "tests" / "mutations.toml"
LEAST = 150  # mutations that can be made, at any time


@dataclass(frozen=True)
class Mutation:
    """One change.

    Attributes:
        file: Its place below ``nuvom``.
        old, new: The text, which is there just once, and what takes its place.
        test: The test that has to fail, or a file of which one has to.
        name: The promise, if it is one that is taken away.
    """

    file: str
    old: str
    new: str
    test: str
    name: str = ""

    @property
    def title(self) -> str:
        return self.name or f"{self.file}: {self.new}"

    def can_be_made(self) -> bool:
        place, test = ROOT / "nuvom" / self.file, ROOT / self.test.partition("::")[0]
        is_there = place.exists() and test.exists()
        return is_there and place.read_text(encoding="utf-8").count(self.old) == 1


MUTATIONS = [
    Mutation(**row) for row in tomllib.loads(TABLE.read_text(encoding="utf-8"))["mutation"]
]
PRESENT = [one for one in MUTATIONS if one.can_be_made()]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy what the tests need to another folder."""
    folder = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("nuvom", "tests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def passes(copy: Path, test: str) -> bool:
    """Run a test of the copy, on the package of the copy; return whether it passed.

    It has to be found, and to be run: a skipped test proves nothing. One that hangs has failed.
    """
    limit = ["--timeout=60", "--timeout-method=thread"]  # which also ends code that swallows errors
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", *limit, test],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "+ Timeout +" in done.stdout + done.stderr:
        return False
    counted = re.search(r"(\d+) (passed|failed|error)", done.stdout)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert counted, f"it was not run: {done.stdout}{done.stderr}"
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("mutation", PRESENT, ids=lambda one: one.title)
def test_r25_a_changed_meaning_makes_its_test_fail(
    copy: Path, figures: Callable[[str], None], mutation: Mutation
) -> None:
    if mutation.name:  # the others' tests run on sound code anyway, in every run
        assert passes(copy, mutation.test), "it fails on sound code"
    place = copy / "nuvom" / mutation.file
    text = place.read_text(encoding="utf-8")
    place.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    assert not passes(copy, mutation.test), "it survived: a test is missing"
    if mutation.name:
        figures(f"without {mutation.name}: {mutation.test.rpartition('::')[2]} fails")


def test_r25_each_test_that_has_to_fail_is_there() -> None:
    """Else its mutation would be taken for one that nobody notices."""
    for one in PRESENT:
        file, *names = one.test.split("::")
        if len(names) == 1:  # the laws of a class are somewhere else
            text = (ROOT / file).read_text(encoding="utf-8")
            assert f"def {names[0].partition('[')[0]}(" in text, one.test


def test_r25_all_mutations_can_be_made() -> None:
    """Told in every run, so that whoever changes the code adapts the mutations of promises then.

    Of the others some may be gone, as long as there are enough.
    """
    gone = [one.title for one in MUTATIONS if one.name and one not in PRESENT]
    assert not gone, f"the code of these has changed: adapt {TABLE.name}"
    assert len(PRESENT) >= LEAST, f"only {len(PRESENT)} can be made: add some"
