"""The promises on a store on a server: workers and producers are killed, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nuvom.config.settings import Settings
from nuvom.errors import BackendUnavailable
from nuvom.testing.torture import Storm
from tests.lab.servers import POSTGRES, OwnPostgres, drop_schemas, need_postgres, new_schema
from tests.reliability.test_kill_storm import at_length, errors_of, prove, show


@pytest.fixture
def postgres() -> Iterator[dict[str, str]]:
    """Return the settings of a store of this test alone."""
    schema = new_schema()
    yield {"postgres_dsn": POSTGRES, "postgres_schema": schema}
    drop_schemas(schema)


@pytest.mark.parametrize(
    ("secs", "kills", "jobs"), [(6, 5, 100), at_length(80, 200, 2000, limit_secs=420)]
)
def test_a_kill_storm_on_postgres_balances(
    postgres: dict[str, str],
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
        backend="postgres",
        settings=postgres,
        secs=secs,
        seed=seed,
        kills=kills,
        least_jobs=jobs,
    )
    prove(figures, storm, jobs=jobs, kills=kills)


def test_crashes_of_the_server_in_a_storm_lose_nothing(
    tmp_path: Path, seed: int, figures: Callable[[str], None]
) -> None:
    """Jobs that were acknowledged survive, and workers go on by themselves."""
    with TemporaryDirectory() as folder, OwnPostgres(Path(folder)) as server:
        from nuvom.contrib.postgres.migration import migrate  # needs psycopg

        migrate(server.dsn, "nuvom")
        faults = 0

        def tell(_: str) -> None:
            nonlocal faults
            faults += 1
            if faults in (4, 12):
                server.crash()
                server.start()

        storm = Storm(
            tmp_path,
            backend="postgres",
            settings={"postgres_dsn": server.dsn},
            secs=8,
            seed=seed,
            kills=12,
            least_jobs=100,
            tell=tell,
        )
        report = storm.run()
        # A claim is not flushed, so a crash may undo it after its job has started: then others run
        # the job again, as after the death of a worker.
        report.findings.unexplained_starts.clear()
        report.findings.overlapping_live_leases.clear()
        show(figures, report)
        assert report.is_balanced, f"{report.to_dict()}\n{errors_of(tmp_path)}"
        assert faults >= 12, "the server was not crashed twice"


def test_another_store_than_before_is_refused(tmp_path: Path) -> None:
    """A worker that is led to an empty server, or to an older copy, takes no jobs there."""
    need_postgres()
    import psycopg

    from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

    schema = new_schema()
    queue = PostgresJobQueue(Settings(root=tmp_path, postgres_dsn=POSTGRES, postgres_schema=schema))
    queue.pause("default", "us")
    queue.control_version()
    try:
        for change in (
            f'UPDATE "{schema}".store SET control_version = 0',
            f'UPDATE "{schema}".store SET control_version = 99, id = gen_random_uuid()',
        ):
            queue.stop()
            with psycopg.connect(POSTGRES) as connection:
                connection.execute(change)
            with pytest.raises(BackendUnavailable, match="not the store that this process"):
                queue.claim(1, "worker")
    finally:
        queue.stop()
        drop_schemas(schema)
