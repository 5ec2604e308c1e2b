"""``nuvom copy`` is killed again and again while both stores are in use; each job ends once."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nuvom.cli.processes import own_command
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobSnapshot, JobStatus
from nuvom.core.transitions import home_of, is_held
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import Runtime
from nuvom.testing import history
from tests.lab.servers import POSTGRES, drop_schemas, need_postgres, new_schema
from tests.reliability import tasks
from tests.reliability.test_kill_storm import at_length
from tests.reliability.workspace import Workspace, unfinished, wait_for

_LIMIT_SECS = 500.0


@pytest.fixture
def schema() -> Iterator[str]:
    need_postgres()
    name = new_schema()
    yield name
    drop_schemas(name)


class Copier:
    """Runs ``nuvom copy`` from one workspace to a schema of the server.

    Attributes:
        kills: How many of its processes were killed while they worked.
        torn: How many copies the kills have left held, in all.
        told: What the others have moved.
    """

    def __init__(self, source: Workspace, target: Runtime, seed: int, *, most_sights: int) -> None:
        self._source, self._target = source, target
        self._random, self._most_sights = Random(seed), most_sights
        self.kills = self.torn = 0
        self.told: list[str] = []

    def run(self) -> dict[str, Any]:
        """Copy until there is nothing left, and return what the command says."""
        began_at, process = SYSTEM_CLOCK.monotonic(), self._start()
        said, errors = process.communicate(timeout=_LIMIT_SECS)
        assert process.returncode == 0, errors
        report: dict[str, Any] = json.loads(said)
        took = SYSTEM_CLOCK.monotonic() - began_at
        self.told.append(f"{report['moved']} in {took:.1f} s, {report['taken']} taken by a worker")
        return report

    def run_and_die(self) -> None:
        """Copy, and be killed while copies are held; how often they were before is random."""
        process, sights = self._start(), self._random.randint(1, self._most_sights)
        while process.poll() is None and sights:
            sights -= self._held() > 0
        self.kills += process.poll() is None
        process.kill()
        process.communicate()
        self.torn += self._held()

    def _start(self) -> subprocess.Popen[bytes]:
        ways = ("--from", "sqlite:.nuvom/nuvom.db", "--to", POSTGRES, "--json")
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(own_command("copy", *ways), cwd=self._source.root, **pipes)

    def _held(self) -> int:
        return sum(map(is_held, Inspector(self._target).page(limit=500)))


@pytest.mark.parametrize(
    ("jobs", "kills", "work_secs"), [(1000, 3, 6), at_length(100_000, 25, 90, limit_secs=600)]
)
def test_a_copy_under_load_that_is_killed_finishes_each_job_once(
    schema: str,
    tmp_path: Path,
    seed: int,
    figures: Callable[[str], None],
    *,
    jobs: int,
    kills: int,
    work_secs: float,
) -> None:
    server = {"postgres_dsn": POSTGRES, "postgres_schema": schema}
    source = Workspace(tmp_path / "old", "sqlite", server)
    target = Workspace(tmp_path / "new", "postgres", server)
    with source.open() as old:
        for _ in range(0, jobs, 500):
            tasks.slow.map([(number, work_secs / jobs) for number in range(500)])
        with target.open() as new:
            # One look takes as long as many copies do, so a few of them may see the whole run.
            copier = Copier(source, new, seed, most_sights=max(2, jobs // 3000))
            with (
                source.processes(1, threads=1),
                target.processes(1, threads=2),
                source.processes(1, "supply", threads=2) as producers,
            ):
                for _ in range(kills):
                    copier.run_and_die()
                copier.run()
                producers.close()
                producers.running.clear()
                copier.run()
                wait_for(lambda: not unfinished(old) + unfinished(new), _LIMIT_SECS, "no drain")
            assert copier.run().items() >= {"moved": 0, "waiting": 0, "refused": []}.items()
            here, there = source.snapshots(old), target.snapshots(new)
    starts = source.starts() + target.starts()
    ended = Counter(job_id for store in (here, there) for job_id in _ended(store))
    moved = {job_id for job_id, one in here.items() if home_of(one) is not None}
    figures(
        f"seed {seed}: {len(here)} jobs, {len(moved)} moved; {copier.kills} kills, which left "
        f"{copier.torn} copies held; {len(ended)} jobs ended, "
        f"{sum(count > 1 for count in ended.values())} of them twice; whole runs moved "
        f"{'; '.join(copier.told)}"
    )
    told = {one["job"] for one in source.events(history.ENQUEUE_OK)}
    assert told <= here.keys()
    assert len(here) >= jobs + len(told)
    assert dict.fromkeys(here, 1) == ended, "a job was lost, or ended in both stores"
    assert dict.fromkeys(here, 1) == starts, "a job was run twice"
    assert moved == set(_ended(there))
    assert not any(map(is_held, there.values()))
    assert (copier.kills, True) == (kills, copier.torn > 0), "the kills came too late"


def _ended(store: dict[str, JobSnapshot]) -> list[str]:
    return [job_id for job_id, one in store.items() if one.status is JobStatus.SUCCESS]
