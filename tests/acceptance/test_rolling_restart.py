"""Two hundred workers are replaced under load, two by two: nothing is lost, repeated or charged."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.inspection.inspector import Inspector
from tests.cli.shell import call, end_spawned, spawn
from tests.cli.test_worker import end, until
from tests.engine import Engine, make_runtime

RESTARTS = 200
LOAD = """
import time
from nuvom import task

@task
def note(path: str, number: int) -> int:
    with open(path, "ab", buffering=0) as stream:
        stream.write(b"%d\\n" % number)
    time.sleep(0.02)
    return number
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Leave no process of this test alive, also when it failed."""
    yield
    end_spawned()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="it is about SIGHUP")
def test_two_hundred_restarts_under_load_lose_repeat_and_charge_nothing(project: Path) -> None:
    (project / "load.py").write_text(LOAD)
    path = str(project / "started")
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime) as engine:
        note = engine.task(lambda path, number: number, name="load.note")
        inspector = Inspector(runtime)

        def pids() -> set[int]:
            return {one.pid for one in inspector.workers() if one.state == "alive"}

        supervisor = spawn("runworker", "--processes", "2", "--quiet", cwd=project)
        until(lambda: len(pids()) == 2)
        jobs = []
        for turn in range(RESTARTS // 2):
            jobs += list(note.map([(path, 40 * turn + number) for number in range(40)]))
            before = pids()
            supervisor.send_signal(signal.SIGHUP)
            until(lambda before=before: len(pids()) == 2 and not before & pids())  # type: ignore[misc]  # bound now
        supervisor.send_signal(signal.SIGTERM)
        answer = end(supervisor)
        assert (143, "") == (answer.code, answer.err)
        assert 0 == call("runworker", "--burst", "--quiet", cwd=project).code
        starts = Counter((project / "started").read_text().split())
        assert {1} == set(starts.values())
        assert len(jobs) == len(starts)
        records = [job.snapshot().record for job in jobs]
        assert {("SUCCESS", 1, 0)} == {
            (str(one.status), one.attempt, one.deliveries) for one in records
        }
    print(f"{RESTARTS} restarts, {len(jobs)} jobs: none lost, repeated or charged")
