"""R18: jobs that kill, raise or return what they should not.

Each ends after exactly as many starts as its limit says, every neighbour gets done, and the
worker's slots are all there afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.inspection.inspector import Inspector
from tests.engine import LIMIT_SECS
from tests.reliability import poison, tasks
from tests.reliability.workspace import Processes, Workspace, unfinished, wait_for

MAX_DELIVERIES = 3
SLOTS = 4


def tend(workspace: Workspace, processes: Processes, is_over: Callable[[], bool]) -> int:
    """Start a worker for each one that dies, until it is over; return how many died."""
    deaths = 0

    def is_over_now() -> bool:
        nonlocal deaths
        for pid, process in list(processes.running.items()):
            if not process.is_running:
                process.close()
                workspace.log.write("kill", pid=pid)
                del processes.running[pid]
                deaths += 1
                processes.start()
        return is_over()

    wait_for(is_over_now, LIMIT_SECS * 3, "the poison was never through")
    return deaths


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("file", marks=pytest.mark.slow)])
def test_r18_poison_ends_at_its_limit_and_harms_no_neighbour(
    tmp_path: Path, figures: Callable[[str], None], backend: str
) -> None:
    workspace = Workspace(
        tmp_path, backend, {"max_deliveries": MAX_DELIVERIES, "shutdown_timeout_secs": 1}
    )
    with workspace.open() as runtime:
        in_child = workspace.enqueue(
            *(poison.deadly_in_child.delay(kind) for kind in poison.DEADLY)
        )
        harmful = workspace.enqueue(*(poison.harmful.delay(kind) for kind in poison.HARMFUL))
        unfit = workspace.enqueue(*(poison.unfit.delay(kind) for kind in poison.UNFIT))
        hooked = workspace.enqueue(*(poison.hooked.delay(fails=fails) for fails in (False, True)))
        neighbours = workspace.enqueue(*tasks.plain.map([(number,) for number in range(400)]))
        deadly: list[str] = []
        with workspace.processes(1, threads=SLOTS) as processes:
            deaths = tend(workspace, processes, lambda: not unfinished(runtime))
            assert deaths == 0
            for kind in poison.DEADLY:  # one at a time, so that each death has one cause
                deadly += workspace.enqueue(poison.deadly_kind.delay(kind))
                neighbours += workspace.enqueue(*tasks.plain.map([(n,) for n in range(200)]))
                deaths += tend(workspace, processes, lambda: not unfinished(runtime))
            meeting = poison.meet.map([(SLOTS,)] * SLOTS)
            assert meeting.get(timeout=LIMIT_SECS) == [SLOTS] * SLOTS
        starts, found = workspace.starts(), workspace.snapshots(runtime)
        figures(
            f"{len(neighbours)} neighbours, {deaths} deaths of workers; starts of deadly jobs "
            f"{[starts[one] for one in deadly]}, in a child {[starts[one] for one in in_child]}, "
            f"of harmful ones {[starts[one] for one in harmful]}, of unfit ones "
            f"{[starts[one] for one in unfit]}"
        )
        status = {one: str(snapshot.status) for one, snapshot in found.items()}
        assert {status[one] for one in deadly} == {"DEAD"}
        assert [starts[one] for one in deadly] == [MAX_DELIVERIES] * len(deadly)
        assert deaths == MAX_DELIVERIES * len(deadly)
        for limited in (in_child, harmful):
            assert {status[one] for one in limited} == {"FAILED"}
            assert [starts[one] for one in limited] == [poison.RETRIES + 1] * len(limited)
        assert {status[one] for one in unfit} == {"FAILED"}
        errors = [Inspector(runtime).snapshot(one).error for one in unfit]
        assert {error and error.type for error in errors} == {"NotStorable", "ResultTooLarge"}
        assert [starts[one] for one in unfit] == [1] * len(unfit)
        assert [status[one] for one in hooked] == ["SUCCESS", "FAILED"]
        assert len(neighbours) == 1000
        assert {status[one] for one in neighbours} == {"SUCCESS"}
