"""R09, F15: the disk is full. What is refused is not stored, what was accepted is intact, workers
wait without noise, keep what is finished, and go on by themselves once there is room."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.iofaults import environment
from tests.reliability.images import Recording
from tests.reliability.sweeps import sweep

LIMIT_SECS = 100
RESUMED_SECS = 2.0
LINES_A_MINUTE = 20  # ten of claims, ten of settlements
both = pytest.mark.parametrize("backend", ["sqlite", "file"])
ENOUGH, MANY = 2, 14  # so often a settle fails; after the second number nobody waits any longer


def go_on_when_full(
    library: Path, root: Path, backend: str, way: str, *, troubles: int
) -> dict[str, Any]:
    """Run the program of ``filling.py``; return its report."""
    root.mkdir()
    orders = {"root": str(root), "backend": backend, "way": way, "troubles": troubles}
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.filling", json.dumps(orders)],
        env={**os.environ, "PYTHONPATH": path, **environment(library, root)},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.skipif(sys.platform == "win32", reason="it knows no limit on the size of files")
@both
@pytest.mark.parametrize("way", ["calls", "size"])
@pytest.mark.parametrize("troubles", [ENOUGH, pytest.param(MANY, marks=pytest.mark.slow)])
def test_r09_f15_a_worker_goes_on_by_itself_when_there_is_room_again(
    iofaults: Path,
    tmp_path: Path,
    figures: Callable[[str], None],
    *,
    backend: str,
    way: str,
    troubles: int,
) -> None:
    """The disk is full for every call that needs room, or no file may grow."""
    report = go_on_when_full(iofaults, tmp_path / "p", backend, way, troubles=troubles)
    figures(
        "{accepted} jobs intact; {troubles} failures in {full_secs:.1f} s, {lines} lines of log; "
        "on again after {resumed_secs:.2f} s".format(**report)
    )
    assert report["refused"] == [True, True]
    minutes = 1 + (report["full_secs"] + report["resumed_secs"]) // 60
    assert 1 <= report["lines"] <= LINES_A_MINUTE * minutes
    assert report["resumed_secs"] <= (RESUMED_SECS if troubles == MANY else LIMIT_SECS)


def refuse_in_turn(
    one: Recording, figures: Callable[[str], None], seed: int, steps: int, every: int
) -> None:
    told = sweep(
        one, figures, "writes", errno.ENOSPC, lasts=True, seed=seed, steps=steps, every=every
    )
    assert told == {"StorageFull"}


@both
def test_r09_a_disk_that_is_full_from_some_call_on_refuses_and_loses_nothing(
    recording: Callable[..., Recording], seed: int, figures: Callable[[str], None], backend: str
) -> None:
    refuse_in_turn(recording(backend, on_disk=False), figures, seed=seed, steps=8, every=7)


@pytest.mark.slow
@pytest.mark.timeout(300)
@both
def test_r09_a_disk_that_is_full_from_any_call_on_refuses_and_loses_nothing(
    recording: Callable[..., Recording], seed: int, figures: Callable[[str], None], backend: str
) -> None:
    for number in range(seed, seed + 3):
        one = recording(backend, on_disk=False)
        refuse_in_turn(one, figures, seed=number, steps=20, every=1)
