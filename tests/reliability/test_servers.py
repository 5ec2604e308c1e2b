"""The promises on stores on servers: workers, producers, connections and servers are ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.events import ScheduleFired
from nuvom.inspection.inspector import Inspector
from nuvom.scheduler.planner import created
from nuvom.scheduler.record import ScheduleRecord, ScheduleRule
from nuvom.scheduler.service import Scheduler
from nuvom.testing import history
from nuvom.testing.builders import make_job
from nuvom.testing.history import Findings, read_history
from nuvom.testing.torture import Storm
from tests.engine import LIMIT_SECS, make_runtime, wait_until
from tests.lab.proxy import Proxy
from tests.lab.servers import SERVERS, OwnServer, drop_stores, new_store, own_server
from tests.reliability import tasks
from tests.reliability.test_kill_storm import at_length, errors_of, prove, show
from tests.reliability.workspace import Workspace

AGAIN_SECS = 5.0
"""So long after a server is back, or a connection was cut, workers start jobs again."""

pytestmark = pytest.mark.parametrize("backend", SERVERS)


@pytest.fixture
def store(backend: str) -> Iterator[dict[str, str]]:
    """Return the settings of a store of this test alone."""
    store = new_store(backend)
    yield store
    drop_stores(store)


@pytest.fixture
def server(backend: str, server_folder: Path) -> Iterator[OwnServer]:
    """Return a server of this test alone."""
    with own_server(backend, server_folder / "server") as server:
        yield server


@pytest.mark.parametrize(
    ("secs", "kills", "jobs"), [(6, 5, 100), at_length(80, 200, 2000, limit_secs=420)]
)
def test_a_kill_storm_balances(
    backend: str,
    store: dict[str, str],
    tmp_path: Path,
    seed: int,
    *,
    figures: Callable[[str], None],
    secs: int,
    kills: int,
    jobs: int,
) -> None:
    storm = Storm(
        tmp_path,
        backend=backend,
        settings=store,
        secs=secs,
        seed=seed,
        kills=kills,
        least_jobs=jobs,
    )
    prove(figures, storm, jobs=jobs, kills=kills)


@pytest.mark.parametrize(
    ("secs", "most_secs"), [(5, None), at_length(60, AGAIN_SECS, limit_secs=300)]
)
def test_connections_cut_again_and_again_lose_nothing(
    backend: str,
    server: OwnServer,
    tmp_path: Path,
    seed: int,
    *,
    figures: Callable[[str], None],
    secs: int,
    most_secs: float | None,
) -> None:
    """No process is killed, so no job may start twice."""
    cut_at = []
    with Proxy((server.host, server.port)) as proxy:

        def cut(_: str) -> None:
            proxy.cut()
            cut_at.append(SYSTEM_CLOCK.monotonic())

        storm = Storm(
            tmp_path,
            backend=backend,
            settings=server.settings(port=proxy.port),
            secs=secs,
            seed=seed,
            faults={"nothing": 1},
            least_jobs=100,
            tell=cut,
        )
        prove(figures, storm, jobs=100, kills=0)
    assert len(cut_at) >= 2 * secs
    again_secs = longest_pause(tmp_path, cut_at)
    figures(f"seed {seed}: {len(cut_at)} cuts, each worker worked again in {again_secs:.2f} s")
    assert most_secs is None or again_secs <= most_secs


@pytest.mark.parametrize(
    ("secs", "crashes", "most_secs"), [(6, 2, None), at_length(60, 10, AGAIN_SECS, limit_secs=300)]
)
def test_crashes_of_the_server_lose_nothing(
    backend: str,
    server: OwnServer,
    tmp_path: Path,
    seed: int,
    *,
    figures: Callable[[str], None],
    secs: int,
    crashes: int,
    most_secs: float | None,
) -> None:
    """Jobs that were acknowledged survive, and workers go on by themselves."""
    back_at = []
    faults = 0

    def crash(_: str) -> None:
        nonlocal faults
        faults += 1
        if faults % 5 == 3:  # once work has begun, and not at the very end
            server.crash()
            server.start()
            back_at.append(SYSTEM_CLOCK.monotonic())

    storm = Storm(
        tmp_path,
        backend=backend,
        settings=server.settings(),
        secs=secs,
        seed=seed,
        kills=crashes,
        faults={"nothing": 3, "kill": 1},
        least_jobs=100,
        tell=crash,
    )
    report = storm.run()
    if backend == "postgres":
        excuse_lost_claims(report.findings)
    show(figures, report)
    assert report.is_balanced, f"{report.to_dict()}\n{errors_of(tmp_path)}"
    assert len(back_at) >= crashes
    again_secs = longest_pause(tmp_path, back_at)
    figures(f"seed {seed}: {len(back_at)} crashes, each worker worked again in {again_secs:.2f} s")
    assert most_secs is None or again_secs <= most_secs


def excuse_lost_claims(findings: Findings) -> None:
    """Accept second starts: a claim is not flushed, so a crash of the server may undo it.

    Its job may have started by then. Others run it again, as after the death of a worker. One that
    was claimed ahead may even start after another worker has ended it; its end is refused.
    """
    findings.started_after_final.clear()
    findings.unexplained_starts.clear()
    findings.overlapping_live_leases.clear()


def test_a_scheduler_goes_on_after_a_restart_of_its_server(
    backend: str, server: OwnServer, tmp_path: Path
) -> None:
    """The connection on which it sleeps is gone, and with it whatever would have woken it."""
    settings: dict[str, Any] = server.settings()
    runtime = make_runtime(tmp_path, queue_backend=backend, result_backend=backend, **settings)
    fires = list[str]()
    runtime.bus.subscribe(ScheduleFired, lambda event: fires.append(event.schedule))
    scheduler, store = Scheduler(runtime), runtime.queue.schedules()

    def schedule(name: str) -> None:
        now = store.clock.now()
        rule = ScheduleRule(at=now + 0.1)
        store.apply([created(ScheduleRecord(name, name, rule, make_job(id="")), now)])

    try:
        scheduler.start()
        schedule("before")
        wait_until(lambda: fires == ["before"])
        server.crash()
        server.start()
        schedule("after")
        wait_until(lambda: fires == ["before", "after"])
    finally:
        scheduler.stop()
        runtime.stop()


def test_a_worker_that_is_led_to_an_empty_server_takes_no_jobs_there(
    backend: str, server: OwnServer, server_folder: Path, tmp_path: Path
) -> None:
    """It says so, and goes on by itself once it is led to the right server again."""
    with (
        own_server(backend, server_folder / "empty") as empty,
        Proxy((server.host, server.port)) as proxy,
    ):
        right = Workspace(tmp_path / "right", backend, server.settings())
        wrong = Workspace(tmp_path / "wrong", backend, empty.settings())
        led = Workspace(tmp_path / "led", backend, server.settings(port=proxy.port))
        with right.open(), led.processes(1):
            assert tasks.plain.delay(1).get(timeout=LIMIT_SECS) == 2
            with wrong.open() as elsewhere:
                stray = tasks.plain.delay(2)
                lead(proxy, empty)
                wait_until(lambda: any(is_refusal(one) for one in led.events("store-failed")))
                lead(proxy, server)
                with right.open():
                    assert tasks.plain.delay(3).get(timeout=LIMIT_SECS) == 4
                left = Inspector(elsewhere).snapshot(stray.id)
                assert (left.status, left.record.lease_epoch) == (JobStatus.PENDING, 0)


def lead(proxy: Proxy, server: OwnServer) -> None:
    """Have a proxy lead to another server from now on."""
    proxy.target = (server.host, server.port)
    proxy.cut()


def is_refusal(event: dict[str, str]) -> bool:
    """Whether a worker has noted that it refuses a store."""
    return "not the store that this process" in event["error"]


def longest_pause(root: Path, moments: list[float]) -> float:
    """Return the longest time from one of these moments until a worker started a job again.

    Workers that began, or ended, in between do not count.
    """
    starts = defaultdict(list)
    for one in read_history(root / "history.ndjson"):
        if one["event"] == history.START:
            starts[one["pid"]].append(one["at"])
    pauses = [
        min(at for at in times if at > moment) - moment
        for times in starts.values()
        for moment in moments
        if times[0] < moment < times[-1]
    ]
    return max(pauses, default=inf)
