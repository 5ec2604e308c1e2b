"""R19, F35: workers that are asked to stop finish or hand back what they have, and cost nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.testing.faults import can_term
from tests.engine import LIMIT_SECS
from tests.reliability import tasks
from tests.reliability.workspace import Processes, Workspace

GRACE_SECS = 2.0
JOB_SECS = 0.1

pytestmark = pytest.mark.skipif(not can_term, reason="this system cannot ask a process to stop")


def restart(processes: Processes, rng: random.Random) -> float:
    """Ask one worker to stop, start another; return how long the old one took."""
    victim = processes.running.pop(rng.choice(list(processes.running)))
    asked_at = SYSTEM_CLOCK.monotonic()
    victim.term()
    processes.start()
    assert victim.wait(LIMIT_SECS)
    victim.close()
    assert victim.process.returncode == 0
    return SYSTEM_CLOCK.monotonic() - asked_at


def prove(workspace: Workspace, figures: Callable[[str], None], seed: int, restarts: int) -> None:
    rng = random.Random(seed)
    with workspace.open() as runtime, workspace.processes(3, threads=4) as processes:
        ids: list[str] = []
        for _ in range(restarts):
            items = [(number, rng.uniform(0, JOB_SECS)) for number in range(40)]
            ids += workspace.enqueue(*tasks.slow.map(items))
            SYSTEM_CLOCK.sleep(rng.uniform(0, 0.05))
            restart(processes, rng)
        workspace.drain(runtime, limit_secs=LIMIT_SECS * 2)
        found, starts = workspace.snapshots(runtime), workspace.starts()
        figures(
            f"{restarts} restarts, seed {seed}: {len(ids)} jobs, {sum(starts.values())} starts, "
            f"{len(set(ids) - found.keys())} lost, "
            f"{sum(one.record.attempt > 1 for one in found.values())} attempts charged"
        )
        findings = workspace.findings(runtime)
        assert findings.is_valid, findings
        assert starts == dict.fromkeys(ids, 1)
        assert {one.record.attempt for one in found.values()} == {1}
        assert {one.record.deliveries for one in found.values()} == {0}


@pytest.mark.parametrize(
    ("backend", "restarts"),
    [
        ("sqlite", 8),
        pytest.param("file", 8, marks=pytest.mark.slow),
        pytest.param("sqlite", 100, marks=(pytest.mark.slow, pytest.mark.timeout(300))),
    ],
)
def test_r19_rolling_restarts_lose_repeat_and_charge_nothing(
    tmp_path: Path, seed: int, figures: Callable[[str], None], backend: str, restarts: int
) -> None:
    workspace = Workspace(tmp_path, backend, {"shutdown_timeout_secs": GRACE_SECS})
    prove(workspace, figures, seed, restarts)


def test_f35_a_stop_at_any_moment_strands_nothing(tmp_path: Path, seed: int) -> None:
    """Also before the worker has come up, and twice."""
    rng = random.Random(seed)
    workspace = Workspace(tmp_path, settings={"shutdown_timeout_secs": 0.5})
    with workspace.open() as runtime:
        ids = workspace.enqueue(*tasks.slow.map([(number, 0.02) for number in range(60)]))
        for _ in range(6):
            worker = workspace.child("work")
            SYSTEM_CLOCK.sleep(rng.uniform(0, 0.8))
            worker.term()
            assert worker.wait(LIMIT_SECS)
            worker.close()
        workspace.drain(runtime)
        assert set(workspace.starts()) == set(ids)
        assert {str(one.status) for one in workspace.snapshots(runtime).values()} == {"SUCCESS"}
        assert {one.record.attempt for one in workspace.snapshots(runtime).values()} == {1}
