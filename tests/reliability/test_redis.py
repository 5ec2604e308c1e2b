"""The promises on a store on Redis: workers, producers and the server are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from nuvom.testing.torture import Storm
from tests.lab.servers import OwnRedis, drop_prefixes, need_redis, new_prefix
from tests.reliability.test_kill_storm import at_length, prove


@pytest.fixture
def redis() -> Iterator[dict[str, str]]:
    """Return the settings of a store of this test alone."""
    prefix = new_prefix()
    yield {"redis_url": need_redis(), "redis_prefix": prefix}
    drop_prefixes(prefix)


@pytest.mark.parametrize(
    ("secs", "kills", "jobs"), [(6, 5, 100), at_length(80, 200, 2000, limit_secs=420)]
)
def test_a_kill_storm_on_redis_balances(
    redis: dict[str, str],
    tmp_path: Path,
    seed: int,
    figures: Callable[[str], None],
    *,
    secs: int,
    kills: int,
    jobs: int,
) -> None:
    storm = Storm(
        tmp_path,
        backend="redis",
        settings=redis,
        secs=secs,
        seed=seed,
        kills=kills,
        least_jobs=jobs,
    )
    prove(figures, storm, jobs=jobs, kills=kills)


# Leases of a second end on a busy machine while workers wait to reach the server again.
@pytest.mark.slow
@pytest.mark.alone
def test_a_storm_in_which_the_server_crashes_balances(
    tmp_path: Path, seed: int, figures: Callable[[str], None]
) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "project").mkdir()
    server = OwnRedis(tmp_path / "server", "--appendonly", "yes", "--appendfsync", "always")
    is_over = Event()

    def crash() -> None:
        while not is_over.wait(1.5):
            server.kill()
            server.start()

    crashes = Thread(target=crash)
    crashes.start()
    try:
        storm = Storm(
            tmp_path / "project",
            backend="redis",
            settings={"redis_url": server.url},
            secs=6,
            seed=seed,
            kills=5,
            least_jobs=100,
        )
        prove(figures, storm, jobs=100, kills=5)
    finally:
        is_over.set()
        crashes.join()
        server.kill()
