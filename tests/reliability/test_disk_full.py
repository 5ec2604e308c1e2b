"""R09, F15: the disk is full. What is refused is not stored, what was accepted is intact, workers
wait without noise, keep what is finished, and go on by themselves once there is room."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import StorageFull
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.testing.builders import make_job
from tests.lab.iofaults import environment
from tests.reliability.images import Recording
from tests.reliability.sweeps import sweep

LIMIT_SECS = 100
RESUMED_SECS = 2.0
LINES_A_MINUTE = 20  # ten of claims, ten of settlements
both = pytest.mark.parametrize("backend", ["sqlite", "file"])
ENOUGH, MANY = 2, 14  # so often a settle fails; after the second number nobody waits any longer


def go_on_when_full(
    root: Path, backend: str, way: str, *, troubles: int, before: str = "", env: Any = None
) -> dict[str, Any]:
    """Run the program of ``filling.py``; return its report.

    Args:
        before: What a shell does first, in a file system of its own.
    """
    root.mkdir()
    orders = {"root": str(root), "backend": backend, "way": way, "troubles": troubles}
    command = [sys.executable, "-m", "tests.reliability.filling", json.dumps(orders)]
    if before:
        shell = f'{before} && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", shell, "sh", *command]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def check(report: dict[str, Any], figures: Callable[[str], None]) -> None:
    figures(
        "{accepted} jobs intact; {troubles} failures in {full_secs:.1f} s, {lines} lines of log; "
        "on again after {resumed_secs:.2f} s".format(**report)
    )
    assert report["refused"] == [True, True]
    minutes = 1 + (report["full_secs"] + report["resumed_secs"]) // 60
    assert 1 <= report["lines"] <= LINES_A_MINUTE * minutes


@both
def test_f15_a_worker_goes_on_by_itself_when_there_is_room_again(
    iofaults: Path, tmp_path: Path, figures: Callable[[str], None], backend: str
) -> None:
    env = environment(iofaults, tmp_path / "p")
    check(go_on_when_full(tmp_path / "p", backend, "calls", troubles=ENOUGH, env=env), figures)


@pytest.mark.skipif(sys.platform == "win32", reason="it knows no such limit")
@both
def test_r09_a_limit_on_the_size_of_files_is_a_full_disk(
    tmp_path: Path, figures: Callable[[str], None], backend: str
) -> None:
    check(go_on_when_full(tmp_path / "p", backend, "size", troubles=ENOUGH), figures)


@both
def test_r09_a_file_system_of_one_mebibyte_fills_up(
    tmp_path: Path, figures: Callable[[str], None], backend: str
) -> None:
    check(on_a_small_disk(tmp_path / "p", backend, ENOUGH), figures)


def on_a_small_disk(root: Path, backend: str, troubles: int) -> dict[str, Any]:
    """Do it on a file system of 1 MiB that nobody else sees; skip where none can be made."""
    can_mount = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("unshare")
    if not can_mount or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("NOT PROVED HERE: only root on Linux can mount a file system of its own")
    mount = f"mount -t tmpfs -o size=1m,mode=700 none '{root}'"
    return go_on_when_full(root, backend, "disk", troubles=troubles, before=mount)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["calls", "size", "disk"])
@both
def test_r09_a_worker_that_has_waited_long_goes_on_within_two_seconds(
    iofaults: Path, tmp_path: Path, figures: Callable[[str], None], backend: str, way: str
) -> None:
    root = tmp_path / "p"
    if way == "disk":
        report = on_a_small_disk(root, backend, MANY)
    else:
        env = environment(iofaults, root)
        report = go_on_when_full(root, backend, way, troubles=MANY, env=env)
    check(report, figures)
    assert report["resumed_secs"] <= RESUMED_SECS


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


def test_r09_a_database_that_may_not_grow_refuses_what_does_not_fit(project: Path) -> None:
    queue = SQLiteJobQueue(Settings(root=project))
    try:
        queue.enqueue(make_job(id="before"))
        limit = "PRAGMA max_page_count = {}"
        pages = queue.store.db.write(
            lambda connection: connection.execute("PRAGMA page_count").fetchone()[0]
        )
        queue.store.db.write(lambda one: one.execute(limit.format(pages + 2)))
        with pytest.raises(StorageFull, match="Nothing was stored"):
            queue.enqueue_many(make_job("m.f", "x" * 900) for _ in range(100))
        assert [one.record.id for one in queue.page()] == ["before"]
        queue.store.db.write(lambda one: one.execute(limit.format(1 << 30)))
        queue.enqueue_many(make_job("m.f", "x" * 900) for _ in range(100))
        assert queue.qsize() == 101
    finally:
        queue.stop()
