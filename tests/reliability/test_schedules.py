"""R16, F31, F39: each fire time of each schedule has one job, whatever becomes of schedulers.

First on virtual time, with deaths at the points between a fire's job and the schedule's advance;
then with real processes that are killed at any moment.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.runtime import Runtime
from nuvom.scheduler import planner, service
from nuvom.scheduler.record import SCHEDULE, SCHEDULED_FOR, ScheduleRecord, ScheduleRule
from nuvom.scheduler.service import Scheduler
from nuvom.scheduler.store import all_records
from nuvom.testing.builders import make_schedule
from nuvom.testing.faults import Victim
from tests.engine import LIMIT_SECS, make_runtime, wait_until, with_backends
from tests.lab import crashing
from tests.lab.clocks import wrong_clock
from tests.lab.iofaults import why_not
from tests.lab.network import Network
from tests.lab.schedulers import Schedulers
from tests.lab.servers import SERVERS, drop_stores, new_store, own_server
from tests.lab.simulation.world import VirtualClock, World
from tests.reliability import tasks
from tests.reliability.test_kill_storm import at_length
from tests.reliability.workspace import Workspace

HOUR = 3600.0
IN_BETWEEN = {
    "memory": ["table.schedules.jobs_added"],
    "file": ["table.schedules.jobs_added", "file.append.before", "file.append.after"],
    "sqlite": [
        "sqlite.schedules.before_commit",
        "sqlite.schedules.before_jobs",
        "sqlite.schedules.after_commit",
    ],
}
"""Where a scheduler dies: before a fire, after it, and between the job and the advance."""
_PERIODS = (HOUR, HOUR, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR)
_ALL: dict[str, Any] = {"misfire": "all", "misfire_max": 10_000}


def assert_each_fire_has_one_job(runtime: Runtime) -> int:
    """Hold jobs against schedules, which were made with ``_ALL``; return how many there are.

    A fire is due at each whole interval after the creation, up to the last time it was looked.
    """
    queue, store = runtime.queue, runtime.schedule_store
    assert isinstance(queue, LeasedJobQueue)
    assert store is not None
    found: Counter[tuple[str, float]] = Counter()
    page = queue.page(limit=1000)
    while page:
        for one in page:
            headers = one.record.headers or {}
            found[headers[SCHEDULE], float(headers[SCHEDULED_FOR])] += 1
        page = queue.page(before=page[-1].record.id, limit=1000)
    wanted = Counter(
        (record.name, at) for record in all_records(store) for at in fire_times(record)
    )
    assert {fire: count for fire, count in found.items() if count > 1} == {}, "twice"
    assert sorted(wanted - found) == [], "missing"
    assert sorted(found - wanted) == [], "too early"
    return len(found)


def fire_times(record: ScheduleRecord) -> list[float]:
    """Return the fire times before the next one, from arithmetic alone."""
    interval, first = record.rule.interval, record.created_at
    assert interval is not None
    assert record.next_at is not None
    count = round((record.next_at - first) / interval)
    assert (record.fired, record.missed, record.skipped) == (count - 1, 0, 0)
    return [first + number * interval for number in range(1, count)]


# ---- virtual time -----------------------------------------------------------------------------


def opener(backend: str, root: Path) -> Callable[[Clock], Runtime]:
    """Return what opens the store as a new process does; memory is that of one process."""
    base = make_runtime(root)
    settings = Settings(root=root, durability="normal")
    shared: list[MemoryJobQueue] = []

    def opens(clock: Clock) -> Runtime:
        if backend == "file":
            return with_backends(base, FileJobQueue(settings, clock=clock))
        if backend == "sqlite":
            return with_backends(base, SQLiteJobQueue(settings, clock=clock))
        if not shared:
            shared.append(MemoryJobQueue(clock=clock))
        return with_backends(base, shared[0])

    return opens


@pytest.mark.parametrize(
    ("backend", "days", "deaths"),
    [
        ("memory", 30, 500),
        ("sqlite", 4, 50),
        ("file", 4, 50),
        pytest.param("sqlite", 30, 500, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
        pytest.param("file", 30, 500, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_f31_r16_schedulers_that_die_between_job_and_advance_make_each_fire_once(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    *,
    figures: Callable[[str], None],
    backend: str,
    days: int,
    deaths: int,
) -> None:
    monkeypatch.setattr(service, "LOOK_SECS", HOUR)  # else four would look 345,600 times
    world = World(seed)
    opens = opener(backend, project)
    runtime = opens(VirtualClock(world))
    store = runtime.schedule_store
    assert store is not None
    for number, period in enumerate(_PERIODS):
        new = make_schedule(f"s{number}", rule=ScheduleRule(interval=period, **_ALL))
        assert store.apply([planner.created(new, world.wall)]) == [True]
    crowd = Schedulers(world, opens, points=IN_BETWEEN[backend], deaths=deaths)
    crowd.run(days)
    left = crowd.deaths
    crowd.close()
    fires = assert_each_fire_has_one_job(runtime)
    runtime.stop()
    figures(
        f"{backend}, seed {seed}: {days} days, {deaths - left} deaths, {crowd.races} races, "
        f"{fires} fires, 0 twice, 0 missing"
    )
    assert left == 0
    assert crowd.races


# ---- real processes -----------------------------------------------------------------------------

Home = tuple[dict[str, str], tuple[str, ...]]
BACKENDS = ("sqlite", "file", *SERVERS)
_SCHEDULERS = 4
_MOST_PAUSE_SECS = 0.4


@pytest.fixture
def store(backend: str) -> Iterator[dict[str, str]]:
    """Return the settings of a store of this test alone, where it is on a server."""
    given = new_store(backend) if backend in SERVERS else {}
    yield given
    drop_stores(given)


class Storm:
    """Four scheduler processes, of which one is killed and replaced again and again.

    Args:
        homes: What is added to the environment of a process, and what its command begins with; in
            turn.
    """

    def __init__(self, workspace: Workspace, rng: Random, *homes: Home) -> None:
        self.kills = 0
        self._workspace = workspace
        self._rng = rng
        self._homes = cycle(homes)
        backend = "table" if workspace.backend == "file" else workspace.backend
        known = crashing.known_points()
        self._points = [one for one in known if one.startswith(f"{backend}.schedules.")]
        self._living = [self._new() for _ in range(_SCHEDULERS)]

    def run(self, kills: int, until: float, between: Callable[[], None] = lambda: None) -> None:
        """Kill so many at least, until that moment at least (monotonic seconds)."""
        while self.kills < kills or SYSTEM_CLOCK.monotonic() < until:
            between()
            victim = self._rng.choice(self._living)
            next(victim.said(), "")  # until it is up, or dead
            SYSTEM_CLOCK.sleep(self._rng.random() * _MOST_PAUSE_SECS)
            victim.kill()
            for number, one in enumerate(self._living):
                if not one.is_running:  # it may have died at its crash point
                    self.kills += 1
                    one.close()
                    self._living[number] = self._new()
        for one in self._living:
            one.kill()

    def _new(self) -> Victim:
        """Start one; every second one is killed at its first pass of a crash point."""
        env, prefix = next(self._homes)
        if self._points and self._rng.random() < 1 / 2:
            env = {**env, crashing.VARIABLE: f"{self._rng.choice(self._points)}:kill"}
        return self._workspace.child("schedule", env, talks=True, prefix=prefix)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("secs", "kills", "wrong_secs"),
    [(2, 5, 0), at_length(60, 60, 0, limit_secs=240), at_length(60, 60, 60, limit_secs=240)],
)
def test_f31_f39_r16_killed_schedulers_leave_one_job_for_each_fire(
    backend: str,
    store: dict[str, str],
    tmp_path: Path,
    seed: int,
    *,
    figures: Callable[[str], None],
    secs: int,
    kills: int,
    wrong_secs: int,
) -> None:
    """A clock that is wrong matters to no store on a server; on others it fires early."""
    wrong = wrong_clock_or_skip(tmp_path, wrong_secs) if wrong_secs else {}
    workspace = Workspace(tmp_path / "project", backend, {**store})
    told = prove(workspace, seed, [({}, ()), (wrong, ())], secs=secs, kills=kills)
    figures(f"{backend}, clocks {wrong_secs} s apart, seed {seed}: {told}")


@pytest.mark.parametrize("backend", SERVERS)
@pytest.mark.parametrize(("secs", "kills"), [at_length(60, 60, limit_secs=240)])
def test_f31_r16_schedulers_on_two_hosts_make_each_fire_once(
    backend: str,
    server_folder: Path,
    tmp_path: Path,
    seed: int,
    *,
    figures: Callable[[str], None],
    secs: int,
    kills: int,
) -> None:
    """Their clocks are two minutes apart, and the link of one of them is cut now and then."""
    clocks = [wrong_clock_or_skip(tmp_path, secs) for secs in (-60, 60)]
    with (
        Network() as network,
        own_server(
            backend, server_folder / "server", host=network.address, prefix=network.prefix("server")
        ) as server,
    ):
        changes = cycle([network.cut, network.mend])
        workspace = Workspace(tmp_path / "project", backend, server.settings())
        told = prove(
            workspace,
            seed,
            [(clocks[0], network.prefix("left")), (clocks[1], network.prefix("right"))],
            secs=secs,
            kills=kills,
            between=lambda: next(changes)("left"),
        )
    figures(f"{backend}, seed {seed}: {told}")


def prove(
    workspace: Workspace, seed: int, homes: Sequence[Home], *, secs: int, kills: int, **options: Any
) -> str:
    """Have a storm, and look whether each fire has one job; return what to tell of it."""
    with workspace.open() as runtime:
        kept = runtime.schedule_store
        assert kept is not None
        for number in range(20):
            rule = ScheduleRule(interval=0.4 + number / 20, **_ALL)
            new = make_schedule(f"s{number}", rule=rule)
            assert kept.apply([planner.created(new, kept.clock.now())]) == [True]
        storm = Storm(workspace, Random(seed), *homes)
        storm.run(kills, SYSTEM_CLOCK.monotonic() + secs, **options)
        made = len(workspace.snapshots(runtime))
        Scheduler(runtime).step()
        fires = assert_each_fire_has_one_job(runtime)
        if workspace.backend in SERVERS:
            assert max(map(latest_fire, all_records(kept))) <= kept.clock.now()
        workspace.assert_sound(runtime)
    assert made > fires / 2, "they were killed before they had done anything"
    return f"{storm.kills} kills, {fires} fires, 0 twice, 0 missing"


def latest_fire(record: ScheduleRecord) -> float:
    return record.last_at or 0.0


def wrong_clock_or_skip(folder: Path, secs: float) -> dict[str, str]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"NOT PROVED HERE: {reason}")
    return wrong_clock(folder, secs)


def test_r16_a_real_clock_that_is_set_repeats_no_fire_and_leaves_none_out(tmp_path: Path) -> None:
    """It is set an hour ahead, back, and ahead again while the process runs."""
    workspace = Workspace(tmp_path / "project")
    orders: dict[str, Any] = {"clock_secs": [3700, 0, 4300], "look_secs": 0.2, "tells_looks": True}
    with workspace.open() as runtime:
        began_at = SYSTEM_CLOCK.now()
        tasks.plain.schedule(1, interval=600, **_ALL)
        env = wrong_clock_or_skip(tmp_path, 0)
        child = workspace.child("schedule", env, talks=True, **orders)
        assert next(child.said(), "") == "up", workspace.errors()
        for secs, fires in ((3700, 6), (0, 6), (4300, 7)):
            looked = partial(looked_at, workspace, len(workspace.events("look")), began_at + secs)
            child.process.send_signal(signal.SIGUSR1)
            wait_until(looked)
            assert len(workspace.snapshots(runtime)) == fires
        assert fires == assert_each_fire_has_one_job(runtime)
        child.term()
        assert child.wait(LIMIT_SECS), workspace.errors()


def looked_at(workspace: Workspace, looks: int, wall: float) -> bool:
    """Whether there was a whole look by a clock that was set to about ``wall``."""
    return any(abs(one["wall"] - wall) < 300 for one in workspace.events("look")[looks:])
