"""R03: how long a job stands still after its worker was killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.testing import history
from tests.engine import LIMIT_SECS
from tests.reliability import tasks
from tests.reliability.workspace import Processes, Workspace, wait_for

P95_SECS, MOST_SECS = 1.0, 2.0


def started(workspace: Workspace, job_id: str, count: int) -> list[dict[str, float]]:
    """Wait until the code of a job has started ``count`` times; return the starts."""

    def starts() -> list[dict[str, float]]:
        return [one for one in workspace.events(history.START) if one["job"] == job_id]

    wait_for(lambda: len(starts()) >= count, LIMIT_SECS, f"not started {count} times")
    return starts()


def kill_and_measure(workspace: Workspace, processes: Processes) -> float:
    """Kill the worker that has a job; return seconds until another one has started it."""
    (job_id,) = workspace.enqueue(tasks.first_hangs.delay(1))
    (first,) = started(workspace, job_id, 1)
    killed_at = processes.kill(int(first["pid"]))
    again = started(workspace, job_id, 2)[-1]
    processes.start()
    return again["at"] - killed_at


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def prove(workspace: Workspace, figures: Callable[[str], None], kills: int) -> None:
    with workspace.open() as runtime, workspace.processes(2) as processes:
        waits = [kill_and_measure(workspace, processes) for _ in range(kills)]
        workspace.drain(runtime)
        p50, p95 = percentile(waits, 0.5), percentile(waits, 0.95)
        figures(f"{kills} kills: p50 {p50:.3f} s, p95 {p95:.3f} s, max {max(waits):.3f} s")
        assert workspace.findings(runtime).is_valid
        assert p95 < P95_SECS
        assert max(waits) < MOST_SECS


at_length = (pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300))


@pytest.mark.parametrize(
    ("backend", "kills"),
    [
        ("sqlite", 10),
        pytest.param("sqlite", 100, marks=at_length),
        pytest.param("file", 100, marks=at_length),
    ],
)
def test_r03_a_killed_workers_job_is_soon_with_another(
    tmp_path: Path, figures: Callable[[str], None], backend: str, kills: int
) -> None:
    """With default settings: a lease of thirty seconds is not waited for."""
    prove(Workspace(tmp_path, backend), figures, kills)
