"""Which tests a run has, and what it says loudly: ``conftest.py`` in a suite of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
import pytest

def test_quick(): ...

@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_slow(number): ...

@pytest.mark.slow
@pytest.mark.alone
def test_measures(): ...

@pytest.mark.slow
@pytest.mark.timeout(900)
def test_long(): ...
"""
UNPROVED = """
import pytest

def test_power_cut():
    pytest.skip("NOT PROVED HERE: there is no C compiler (cc or gcc)")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Make a suite with the project's conftest.py and settings."""
    (tmp_path / "tests" / "reliability").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "test_some.py").write_text(SUITE)
    (tmp_path / "tests" / "reliability" / "test_disk.py").write_text("def test_disk(): ...\n")
    return tmp_path


def run(suite: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-v", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    kept.pop("CI", None)
    return subprocess.run(
        command, cwd=suite, env={**kept, **variables}, capture_output=True, text=True, check=False
    )


def passed(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [line for line in done.stdout.splitlines() if " PASSED" in line]
    return [line.partition("::")[2].partition(" ")[0] for line in lines]


def test_a_sample_is_the_share_of_its_day_without_what_is_long_or_measures(suite: Path) -> None:
    day = date(2026, 11, 29)
    first, second, again = (
        run(suite, f"--sample={day + timedelta(days=number)}") for number in (0, 1, 10)
    )
    assert passed(first) == passed(again)
    assert set(passed(first)).isdisjoint(passed(second))
    slow = {f"test_slow[{number}]" for number in range(30)}
    assert set(passed(first)) | set(passed(second)) < slow
    told = [line for line in first.stdout.splitlines() if line.startswith("SAMPLE: ")]
    assert [f"SAMPLE: test_some.py::test_slow, {len(passed(first))} times"] == told


def test_second_python_leaves_out_what_does_not_depend_on_it_and_says_so(suite: Path) -> None:
    assert ["test_disk", "test_quick"] == sorted(passed(run(suite)))
    days = [run(suite, f"--second-python=2026-11-{day}") for day in range(26, 31)]
    assert ["test_quick"] == [name for day in days for name in passed(day)]
    for done in days:
        assert "1 tests were left to the first Python: tests/architecture/, " in done.stdout
    assert 4 == sum("1 tests were left to other days' runs" in done.stdout for done in days)


def test_second_python_always_runs_what_the_first_cannot(suite: Path) -> None:
    (suite / "tests" / "test_django.py").write_text("def test_it(): ...\n")
    for day in range(26, 31):
        assert "test_it" in passed(run(suite, f"--second-python=2026-11-{day}"))


@pytest.mark.parametrize(("variables", "code"), [({}, 0), ({"CI": "true"}, 1)])
@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_proof_without_a_compiler_is_missed_loudly_and_fails_in_ci(
    suite: Path, variables: dict[str, str], code: int, processes: str
) -> None:
    (suite / "tests" / "test_power.py").write_text(UNPROVED)
    done = run(suite, f"--numprocesses={processes}", **variables)
    assert code == done.returncode
    last = done.stdout.splitlines()[-1]
    assert last == "NOT PROVED HERE: 1 tests: there is no C compiler (cc or gcc)"
