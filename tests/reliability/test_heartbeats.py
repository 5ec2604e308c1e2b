"""F02, F03: a lease lasts as long as its worker can beat, whatever the task does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nuvom.testing import history
from tests.engine import LIMIT_SECS
from tests.reliability import tasks
from tests.reliability.workspace import Workspace, unfinished, wait_for

LEASE_SECS = 0.5  # the shortest there is


def test_f02_a_task_that_outlasts_its_lease_runs_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, settings={"lease_secs": LEASE_SECS})
    with workspace.open() as runtime:
        (job_id,) = workspace.enqueue(tasks.slow.delay(1, LEASE_SECS * 3))
        workers = [workspace.worker(runtime, threads=2) for _ in range(2)]
        for worker in workers:
            worker.start()
        wait_for(lambda: not unfinished(runtime), LIMIT_SECS, "it never ended")
        for worker in workers:
            worker.end()
        assert workspace.starts() == {job_id: 1}
        assert workspace.events(history.FENCED) == []


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no poll()")
def test_f03_a_worker_that_code_keeps_from_beating_is_fenced_and_its_job_done_elsewhere(
    tmp_path: Path,
) -> None:
    """The code holds the interpreter, first for half a lease, then for several."""
    workspace = Workspace(tmp_path, settings={"lease_secs": LEASE_SECS})
    with workspace.open() as runtime:
        with workspace.processes(1, threads=2) as processes:
            (pid,) = processes.running
            (short,) = workspace.enqueue(tasks.holds_the_interpreter.delay(1, pid, LEASE_SECS / 2))
            wait_for(lambda: not unfinished(runtime), LIMIT_SECS, "the short one never ended")
            (long,) = workspace.enqueue(tasks.holds_the_interpreter.delay(2, pid, LEASE_SECS * 5))
            wait_for(lambda: workspace.starts()[long] == 1, LIMIT_SECS, "it never started")
            workspace.drain(runtime)
            wait_for(lambda: bool(workspace.events(history.FENCED)), LIMIT_SECS, "nobody was told")
        assert workspace.starts() == {short: 1, long: 2}
        assert {one["job"] for one in workspace.events(history.FENCED)} == {long}
        assert {str(one.status) for one in workspace.snapshots(runtime).values()} == {"SUCCESS"}
        assert not workspace.findings(runtime).wrong_results
