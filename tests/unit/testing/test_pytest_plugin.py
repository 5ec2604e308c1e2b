"""The plugin in runs of pytest of their own: what it loads, refuses and is told by settings."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TASKS = """
from nuvom import task

@task
def add(x: int, y: int) -> int:
    return x + y
"""
BARE = """
from tasks import add

def test_it():
    add.delay(1, 2)
"""
LOADED = """
import sys
import pytest
import nuvom
before = set(sys.modules)
import nuvom.testing.pytest_plugin
print(*sorted(set(sys.modules) - before))
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Make a folder with a project, a store of its own and tasks."""
    (tmp_path / ".nuvom").mkdir(mode=0o700)
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(suite: Path, code: str, *options: str, exit_code: int = 0, **env: str) -> str:
    """Return what a run of one file of tests prints."""
    (suite / "test_it.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *options],
        cwd=suite,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert exit_code == done.returncode, done.stdout + done.stderr
    return done.stdout


def store(suite: Path) -> list[str]:
    return os.listdir(suite / ".nuvom")


def test_the_plugin_loads_nothing_but_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert ["nuvom.testing", "nuvom.testing.pytest_plugin"] == done.stdout.split()


def test_a_run_without_tasks_loads_nothing_heavy(suite: Path) -> None:
    code = "import sys\ndef test_it():\n    assert not {'msgspec', 'nuvom.job'} & {*sys.modules}\n"
    run(suite, code)


@pytest.mark.parametrize(
    "call",
    [
        "add.delay(1, 2)",
        "add.map([(1, 2)])",
        "asyncio.run(add.adelay(1, 2))",
        "nuvom.local_worker().__enter__()",
        "nuvom.sdk.list_jobs()",
        "assert_enqueued(add)",
    ],
)
def test_without_a_fixture_nothing_reaches_the_store(suite: Path, call: str) -> None:
    code = f"""
import asyncio
import nuvom
import pytest
from nuvom.testing import assert_enqueued
from tasks import add

def test_it():
    with pytest.raises(nuvom.EnqueueInTest, match="the fixture nuvom"):
        {call}
"""
    run(suite, code)
    assert [] == store(suite)


def test_the_store_is_refused_again_after_a_test_that_had_its_own(suite: Path) -> None:
    code = """
import nuvom
import pytest
from tasks import add

def test_own(nuvom):
    add.delay(1, 2)

def test_bare():
    with pytest.raises(nuvom.EnqueueInTest):
        add.delay(1, 2)
"""
    assert "2 passed" in run(suite, code)


@pytest.mark.parametrize("file", ["conftest.py", "test_other.py"])
def test_a_module_that_enqueues_when_imported_is_refused(suite: Path, file: str) -> None:
    (suite / file).write_text("from tasks import add\nadd.delay(1, 2)\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest"], capture_output=True, text=True, check=False
    )
    assert "EnqueueInTest" in done.stdout + done.stderr
    assert [] == store(suite)


@pytest.mark.parametrize(
    ("env", "is_refused"),
    [("test", False), ("dev", True), ("prod", True), ("", True)],
)
def test_only_an_environment_for_tests_opens_the_store(
    suite: Path, env: str, *, is_refused: bool
) -> None:
    run(suite, BARE, exit_code=int(is_refused), NUVOM_ENVIRONMENT=env)
    assert is_refused == (store(suite) == [])


@pytest.mark.parametrize("name", [".env", "nuvom.toml"])
def test_a_file_of_the_project_does_not_open_its_store(suite: Path, name: str) -> None:
    text = "NUVOM_ENVIRONMENT=test\n" if name == ".env" else 'environment = "test"\n'
    (suite / name).write_text(text)
    printed = run(suite, BARE, exit_code=1)
    assert "EnqueueInTest" in printed
    assert "postgres_dsn" not in printed  # as an argument of a function in the traceback


def test_configure_may_open_a_store_for_tests(suite: Path) -> None:
    code = """
import nuvom
from tasks import add

def test_it():
    nuvom.configure(environment="test", queue_backend="memory", result_backend="memory")
    job = add.delay(1, 2)
    with nuvom.local_worker():
        assert job.get(timeout=30) == 3
"""
    run(suite, code)


def test_the_guard_can_be_switched_off(suite: Path) -> None:
    run(suite, BARE, "-o", "nuvom_guard=false")
    assert [] != store(suite)


def test_the_marker_alone_brings_a_store(suite: Path) -> None:
    code = """
import unittest
import pytest
from nuvom.testing import assert_enqueued
from tasks import add

@pytest.mark.nuvom
def test_function():
    add.delay(1, 2)
    assert_enqueued(add)

@pytest.mark.nuvom(backend="sqlite")
class TestCase(unittest.TestCase):
    def test_method(self):
        self.assertEqual(add.delay(1, 2).queue, "default")
        assert_enqueued(add)
"""
    assert "2 passed" in run(suite, code, "--strict-markers")
    assert [] == store(suite)


@pytest.mark.parametrize("marked", ['backend="redis"', 'store="memory"', '"sqlite"'])
def test_a_marker_that_is_not_understood_fails_the_test(suite: Path, marked: str) -> None:
    code = f"import pytest\n@pytest.mark.nuvom({marked})\ndef test_it():\n    pass\n"
    printed = run(suite, code, exit_code=1)
    assert 'write @pytest.mark.nuvom(backend="memory") or' in printed


def test_strict_fails_a_test_only_for_jobs_that_it_neither_runs_nor_asserts(suite: Path) -> None:
    code = """
import pytest
from nuvom.testing import assert_enqueued
from tasks import add

def test_left(nuvom):
    add.delay(1, 2)

def test_asserted(nuvom):
    add.delay(1, 2)
    assert_enqueued(add)

def test_run(nuvom_inline):
    add.delay(1, 2)

@pytest.mark.xfail(strict=True)
def test_fails_anyway(nuvom):
    add.delay(1, 2)
    assert False
"""
    printed = run(suite, code, "-o", "nuvom_strict=true", exit_code=1)
    assert "1 failed, 2 passed, 1 xfailed" in printed
    assert 'tasks.add(1, 2) on queue "default", PENDING' in printed
    assert "3 passed, 1 xfailed" in run(suite, code)  # not strict unless it is asked for
