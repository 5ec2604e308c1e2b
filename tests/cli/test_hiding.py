"""Files named like modules of the standard library: whoever is harmed by one says so."""

from __future__ import annotations

from pathlib import Path

from nuvom.discovery.scan import hiding_problems
from tests.cli.shell import call, invoke

TEXT = "queue.py: it hides the module queue of the standard library"


def test_files_and_packages_at_the_import_roots_are_named(tmp_path: Path) -> None:
    for file in ("queue.py", "tasks.py", "src/random.py", "typing/__init__.py", "app/string.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "logging").mkdir()  # without a file: the standard library's comes first
    found = [problem.file for problem in hiding_problems(tmp_path)]
    assert ["queue.py", "typing/__init__.py", "src/random.py"] == found


def test_discover_and_a_worker_name_the_file(tasks: Path) -> None:
    (tasks / "queue.py").touch()
    assert TEXT in invoke("discover").err
    for environment in ("dev", "prod"):
        answer = call("runworker", "--burst", cwd=tasks, NUVOM_ENVIRONMENT=environment)
        assert TEXT in answer.err
