"""The checksums example, as its user runs it, and what it does when something is not equal."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "checksums"


@cache
def module(name: str) -> ModuleType:
    """Return a file of the example, under a name that is nobody else's."""
    spec = importlib.util.spec_from_file_location(f"checksums_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def test_two_workers_and_a_direct_computation_agree_to_the_byte(tmp_path: Path) -> None:
    """On one package of the library; ``python3 dev.py demo`` does the whole of it."""
    library = Path(sysconfig.get_path("stdlib")) / "email"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # The variable must not lead anybody to another store than the example's own.
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NUVOM_SQLITE_PATH": str(tmp_path / "mine.db"),
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), str(library)],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=env,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = len(module("run").python_files(library))
    assert f"{files:,} in " in done.stdout
    assert f"{2 * files:,} jobs with" in done.stdout
    assert re.search(r"\d workers? ran [\d,]+", done.stdout)
    assert "Equal to the byte" in done.stdout
    assert [] == list(temporary.iterdir())
    assert not (tmp_path / "mine.db").exists()


def test_a_difference_is_shown_and_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    run, tasks = module("run"), module("tasks")
    right = [
        ("/lib/a.py", "00", tasks.Counts(1, 2, 3)),
        ("/lib/b.py", "11", tasks.Counts(4, 5, None)),
    ]
    wrong = [right[0], ("/lib/b.py", "11", tasks.Counts(4, 6, None))]
    assert run.compare(right, right, Path("/lib")) == 0
    assert run.compare(wrong, right, Path("/lib")) == 1
    assert "worker  11  4  6  None  b.py\n  direct  11  4  5  None  b.py" in capsys.readouterr().out
    assert run.compare(right[:1], right, Path("/lib")) == 1
