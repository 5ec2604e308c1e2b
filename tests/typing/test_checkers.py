"""Type checkers accept the programs of users, and refuse their mistakes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--no-incremental"],
    "basedpyright": ["-m", "basedpyright", "--outputjson"],
}


@pytest.mark.parametrize("name", CHECKERS)
def test_programs_pass_and_mistakes_are_refused(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [sys.executable, *CHECKERS[name], str(HERE / "accepted.py"), str(HERE / "refused.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_there_are_mistakes_to_refuse() -> None:
    text = (HERE / "refused.py").read_text(encoding="utf-8")
    assert text.count("# type: ignore[") > 35
