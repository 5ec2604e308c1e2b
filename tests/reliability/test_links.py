"""Links between workers and a server that hold back, delay or lose what is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable
from nuvom.runtime import Runtime
from nuvom.testing import history
from nuvom.testing.builders import make_job
from nuvom.testing.conformance.law import Hand
from nuvom.testing.faults import Victim
from tests.engine import LIMIT_SECS, wait_until
from tests.lab.network import Network
from tests.lab.proxy import Proxy
from tests.lab.servers import SERVERS, open_queue, own_server
from tests.reliability import tasks
from tests.reliability.test_kill_storm import at_length
from tests.reliability.workspace import Workspace, unfinished

AGAIN_SECS = 5.0
LEAST_RATIO = 0.5
ROUNDS = 5

# Redis in turn with other slow tests: what is shown of links and clocks is the worker's part.
pytestmark = pytest.mark.parametrize(
    "backend",
    [pytest.param(one, marks=pytest.mark.slow) if one == "redis" else one for one in SERVERS],
)

LENGTHS = pytest.mark.parametrize(
    ("lease_secs", "most_secs"), [(2.0, None), at_length(14.0, AGAIN_SECS, limit_secs=180)]
)


@dataclass
class Hosts:
    """Workers on two hosts, of which one has a link that can be cut.

    Attributes:
        here: Where this process is.
        near: Where one worker is.
        far: Where the other worker is.
        cut, mend: What cuts and mends its link.
        prefixes: What commands begin with to run there, by place.
    """

    here: Workspace
    near: Workspace
    far: Workspace
    cut: Callable[[], None]
    mend: Callable[[], None]
    prefixes: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)

    def worker(self, place: Workspace) -> Victim:
        """Start a worker; it is up when this returns. All write one history."""
        env = {tasks.HISTORY_VARIABLE: str(self.here.history)}
        prefix = self.prefixes.get(place.root, ())
        worker = place.child("work", env, talks=True, prefix=prefix)
        assert next(worker.said(), "") == "up", place.errors()
        return worker

    def events(self, word: str, worker: Victim) -> list[float]:
        """Return when events of one kind happened in a worker."""
        return [one["at"] for one in self.here.events(word) if one["pid"] == worker.pid]


def prove_late_results_are_refused(hosts: Hosts) -> float:
    """Cut a link for longer than a lease while a job runs behind it.

    Returns: after how many seconds the worker behind it works again, and knows what it has lost.
    """
    here = hosts.here
    with here.open() as runtime:
        far = hosts.worker(hosts.far)
        job = tasks.first_is_late.delay(7, 0.5)
        here.enqueue(job)
        wait_until(lambda: bool(hosts.events(history.START, far)))
        hosts.cut()
        other = hosts.worker(hosts.near)
        assert job.get(timeout=LIMIT_SECS) == 8, "what the second worker returned"
        other.term()
        assert other.wait(LIMIT_SECS), hosts.near.errors()
        last = tasks.plain.delay(1)
        here.enqueue(last)
        mended_at = SYSTEM_CLOCK.monotonic()
        hosts.mend()
        assert last.get(timeout=LIMIT_SECS) == 2
        wait_until(lambda: bool(hosts.events(history.FENCED, far)))
        again_at = max(hosts.events(word, far)[-1] for word in (history.START, history.FENCED))
        far.term()
        assert far.wait(LIMIT_SECS), hosts.far.errors()
        assert [one["result"] for one in here.events("after-job")] == [8]
        assert {one.status for one in here.snapshots(runtime).values()} == {JobStatus.SUCCESS}
        findings = here.findings(runtime)
        assert not findings.lost
        assert not findings.double_finalised
        assert not findings.wrong_results
    return again_at - mended_at


@LENGTHS
def test_results_held_back_for_longer_than_a_lease_are_refused(
    backend: str,
    server_folder: Path,
    tmp_path: Path,
    figures: Callable[[str], None],
    *,
    lease_secs: float,
    most_secs: float | None,
) -> None:
    with (
        own_server(backend, server_folder / "server") as server,
        Proxy((server.host, server.port)) as proxy,
    ):
        settings = {"lease_secs": lease_secs}
        near = Workspace(tmp_path / "near", backend, {**settings, **server.settings()})
        through = server.settings(port=proxy.port)
        far = Workspace(tmp_path / "far", backend, {**settings, **through})
        hosts = Hosts(near, near, far, proxy.freeze, proxy.thaw)
        secs = prove_late_results_are_refused(hosts)
    figures(f"held back for a lease of {lease_secs} s: at work again after {secs:.2f} s")
    assert most_secs is None or secs <= most_secs


@LENGTHS
def test_results_of_a_host_that_was_cut_off_are_refused(
    backend: str,
    server_folder: Path,
    tmp_path: Path,
    figures: Callable[[str], None],
    *,
    lease_secs: float,
    most_secs: float | None,
) -> None:
    with (
        Network() as network,
        own_server(
            backend, server_folder / "server", host=network.address, prefix=network.prefix("server")
        ) as server,
    ):
        settings = {"lease_secs": lease_secs, **server.settings()}
        here, near, far = (
            Workspace(tmp_path / place, backend, settings) for place in ("test", "right", "left")
        )
        hosts = Hosts(
            here,
            near,
            far,
            lambda: network.cut("left"),
            lambda: network.mend("left"),
            {near.root: network.prefix("right"), far.root: network.prefix("left")},
        )
        secs = prove_late_results_are_refused(hosts)
    figures(f"cut off for a lease of {lease_secs} s: at work again after {secs:.2f} s")
    assert most_secs is None or secs <= most_secs


def test_a_call_over_a_dead_link_ends(backend: str, server_folder: Path, tmp_path: Path) -> None:
    """Nobody tells the caller that nothing arrives any more."""
    with (
        Network() as network,
        own_server(
            backend, server_folder / "server", host=network.address, prefix=network.prefix("server")
        ) as server,
    ):
        queue = open_queue(backend, tmp_path, server.settings())
        queue.enqueue(make_job())
        network.cut("test")
        hand = Hand(queue.qsize)
        hand.start()
        hand.join(LIMIT_SECS)
        assert isinstance(hand.raised, BackendUnavailable)
        network.mend("test")
        assert queue.qsize() == 1
        queue.stop()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_worker_behind_a_slow_link_drains_half_as_fast_at_least(
    backend: str, server_folder: Path, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    """A millisecond each way, and none, in turn."""
    with (
        own_server(backend, server_folder / "server") as server,
        Proxy((server.host, server.port)) as proxy,
    ):
        near = Workspace(tmp_path / "near", backend, server.settings())
        far = Workspace(tmp_path / "far", backend, server.settings(port=proxy.port))
        with near.open() as runtime, far.processes(1, threads=4):
            drain_secs(runtime, 10_000)
            secs: dict[float, list[float]] = {0.0: [], 0.001: []}
            for _ in range(ROUNDS):
                for delay_secs, found in secs.items():
                    proxy.delay_secs = delay_secs
                    found.append(drain_secs(runtime, 10_000))
    ratio = sum(secs[0.0]) / sum(secs[0.001])
    rates = [ROUNDS * 10_000 / sum(found) for found in secs.values()]
    figures(f"{rates[0]:,.0f} jobs a second, with 1 ms each way {rates[1]:,.0f}: {ratio:.2f} times")
    assert ratio >= LEAST_RATIO


def drain_secs(runtime: Runtime, count: int) -> float:
    """Store jobs, and return how long it takes a worker to end them all."""
    runtime.control.pause("default", "a test")
    last = tasks.bare.map([(number,) for number in range(count)])[-1]
    began = SYSTEM_CLOCK.monotonic()
    runtime.control.resume("default")
    last.get(timeout=LIMIT_SECS)
    wait_until(lambda: not unfinished(runtime))
    return SYSTEM_CLOCK.monotonic() - began
