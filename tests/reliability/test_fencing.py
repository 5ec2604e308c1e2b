"""R05, F05: a worker that was frozen past its lease can change nothing any more."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.host.lock import FileMutex, LockTimeoutError
from nuvom.testing import history
from nuvom.testing.faults import can_freeze
from tests.engine import LIMIT_SECS
from tests.reliability import tasks
from tests.reliability.workspace import Processes, Workspace, wait_for

LEASE_SECS = 0.6
LATE_SECS = 1.3  # how long the first delivery takes: it ends only after the thaw
AT_ONCE = 4

pytestmark = pytest.mark.skipif(not can_freeze, reason="this system cannot stop a process")


def freeze_round(workspace: Workspace, processes: Processes) -> set[str]:
    """Freeze ``AT_ONCE`` workers over a job each until others have done them; return the jobs.

    None when there was no such round: the freeze hit a writer, whom nobody gets past (a limit of
    stores in one file), or a worker that had just begun its second job.
    """
    ids = workspace.enqueue(
        *(tasks.first_is_late.delay(number, LATE_SECS) for number in range(AT_ONCE))
    )
    wait_for(lambda: all(workspace.starts()[one] for one in ids), LIMIT_SECS, "they never started")
    pids = {one["pid"] for one in workspace.events(history.START) if one["job"] in ids}
    frozen = [processes.running[pid] for pid in pids]
    thaw_at = SYSTEM_CLOCK.monotonic() + LATE_SECS
    for worker in frozen:
        worker.freeze()
    wait_for(lambda: all(map(is_at_rest, pids)), LIMIT_SECS, "they did not stop")
    is_round = len(frozen) == AT_ONCE and not ended(workspace) & set(ids)
    is_round = is_round and not holds_the_write_lock(workspace)
    try:
        if not is_round:
            return set()
        wait_for(lambda: finished(workspace) >= set(ids), LIMIT_SECS, "nobody took them over")
        SYSTEM_CLOCK.sleep(max(0.0, thaw_at - SYSTEM_CLOCK.monotonic()))
    finally:
        for worker in frozen:
            worker.thaw()
        if not is_round:  # the next one begins with idle workers
            wait_for(lambda: finished(workspace) >= set(ids), LIMIT_SECS, "they did not end")
    wait_for(lambda: fenced(workspace) >= set(ids), LIMIT_SECS, "they were not told")
    return set(ids)


def is_at_rest(pid: int) -> bool:
    """Whether a process that was told to stop has; until then it may yet take a lock."""
    threads = Path(f"/proc/{pid}/task")  # elsewhere than on Linux nothing tells
    stats = [path.read_text() for path in threads.glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def holds_the_write_lock(workspace: Workspace) -> bool:
    """Whether a frozen process keeps everyone from writing to a store."""
    stores = workspace.root / ".nuvom"
    mutexes = stores.glob("files/lock")
    return any(map(_is_locked, stores.glob("*.db"))) or any(map(_is_held, mutexes))


def _is_locked(path: Path) -> bool:
    connection = sqlite3.connect(path, timeout=1.0)
    try:
        connection.execute("BEGIN IMMEDIATE").execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


def _is_held(path: Path) -> bool:
    mutex = FileMutex(path, limit_secs=1.0)
    try:
        mutex.run(lambda: None)
    except LockTimeoutError:
        return True
    finally:
        mutex.close()
    return False


def ended(workspace: Workspace) -> set[str]:
    return {one["job"] for one in workspace.events(history.END)}


def finished(workspace: Workspace) -> set[str]:
    return {one["job"] for one in workspace.events(history.FINISH_OK)}


def fenced(workspace: Workspace) -> set[str]:
    return {one["job"] for one in workspace.events(history.FENCED)}


def prove(workspace: Workspace, figures: Callable[[str], None], freezes: int) -> None:
    with workspace.open() as runtime, workspace.processes(AT_ONCE + 2, threads=1) as processes:
        late: set[str] = set()
        repeated = 0
        while len(late) < freezes:
            jobs = freeze_round(workspace, processes)
            late |= jobs
            repeated += not jobs
        workspace.drain(runtime)
        findings = workspace.findings(runtime)
        # Where there was no round, what the first delivery returns is the right result.
        findings.wrong_results = [one for one in findings.wrong_results if one in late]
        hooks = Counter(one["job"] for one in workspace.events("after-job"))
        told = len(fenced(workspace) & late)
        twice = sum(count > 1 for count in hooks.values())
        figures(
            f"{len(late)} freezes ({repeated} rounds repeated): overwritten results "
            f"{len(findings.wrong_results)}, second after_job {twice}, told {told}"
        )
        assert findings.is_valid, findings
        assert not twice
        assert told == len(late)


at_length = (pytest.mark.slow, pytest.mark.timeout(600))


@pytest.mark.parametrize(
    ("backend", "freezes"),
    [
        ("sqlite", 20),
        pytest.param("sqlite", 200, marks=at_length),
        pytest.param("file", 40, marks=at_length),
        pytest.param("sqlite+file", 40, marks=at_length),
        pytest.param("file+sqlite", 40, marks=at_length),
    ],
)
def test_r05_a_thawed_worker_overwrites_nothing_and_is_told(
    tmp_path: Path, figures: Callable[[str], None], backend: str, freezes: int
) -> None:
    # One job for each worker: in a round, each freeze is to hit another job.
    settings = {"lease_secs": LEASE_SECS, "batch_size": 1}
    prove(Workspace(tmp_path, backend, settings), figures, freezes)
