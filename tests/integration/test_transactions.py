"""A job that is stored in a transaction of the caller's exists once that commits, or never."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nuvom
from nuvom import JobStatus, task
from nuvom.config.sources import load
from nuvom.errors import CapabilityMissing, QueueFull
from nuvom.runtime import Runtime, build_runtime, current_runtime
from nuvom.testing.builders import make_job
from tests.engine import in_use
from tests.lab.servers import POSTGRES, drop_schemas, new_schema


@task(name="tests.add")
def add(x: int, y: int) -> int:
    return x + y


def waiting() -> int:
    return current_runtime().queue.qsize()


@pytest.fixture
def runtime(project: Path) -> Iterator[Runtime]:
    with in_use(build_runtime(load(project, environ={}))) as runtime:
        yield runtime


@pytest.fixture
def database(runtime: Runtime) -> Iterator[sqlite3.Connection]:
    """Return a connection of an application's to the file of the queue, with a table of its own."""
    runtime.queue.start()
    with closing(sqlite3.connect(runtime.settings.db_path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
        connection.commit()
        connection.row_factory = sqlite3.Row  # what an application makes of rows is its own affair
        yield connection


def test_sqlite_commits_a_job_with_the_callers_rows(database: sqlite3.Connection) -> None:
    database.execute("INSERT INTO orders VALUES (1)")
    job = add.options(connection=database).delay(2, 3)
    assert waiting() == 0, "others see it before the commit"
    database.commit()
    nuvom.notify()
    with nuvom.local_worker():
        assert job.get(timeout=20) == 5


def test_sqlite_drops_a_job_with_the_callers_rows(database: sqlite3.Connection) -> None:
    database.execute("INSERT INTO orders VALUES (1)")
    add.options(connection=database).delay(2, 3)
    add.options(connection=database).map([(1, 2), (3, 4)])
    database.rollback()
    assert waiting() == 0
    assert list(database.execute("SELECT * FROM orders")) == []


def test_a_taken_key_gives_the_existing_job(database: sqlite3.Connection) -> None:
    first = add.options(unique_key="one").delay(1, 2)
    second = add.options(connection=database, unique_key="one").delay(1, 2)
    database.commit()
    assert second.id == first.id
    assert waiting() == 1


def test_the_connection_is_not_kept(database: sqlite3.Connection) -> None:
    add.options(connection=database).delay(2, 3)
    database.commit()
    database.close()
    assert add.delay(3, 4).status is JobStatus.PENDING


def test_none_is_no_transaction(runtime: Runtime) -> None:
    assert add.options(connection=None).delay(1, 2).status is JobStatus.PENDING


@pytest.mark.parametrize(("given", "told"), [(object(), "builtins.object"), ("file", "str")])
def test_what_is_no_connection_is_refused(runtime: Runtime, given: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        add.options(connection=given).delay(1, 2)
    assert waiting() == 0


def test_another_database_is_refused(database: sqlite3.Connection, tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "other.db")) as other,
        pytest.raises(TypeError, match=r"leads to .*other\.db, but the jobs are in"),
    ):
        add.options(connection=other).delay(1, 2)


def test_a_queue_without_transactions_refuses(project: Path) -> None:
    chosen = {"queue_backend": "memory", "result_backend": "memory"}
    with (
        in_use(build_runtime(load(project, environ={}, overrides=chosen))),
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(CapabilityMissing, match="transaction"),
    ):
        add.options(connection=connection).delay(1, 2)


# ---- PostgreSQL ---------------------------------------------------------------------------


@pytest.fixture
def postgres(project: Path) -> Iterator[Runtime]:
    schema = new_schema()
    chosen = {"queue_backend": "postgres", "result_backend": "postgres"}
    place = {"postgres_dsn": POSTGRES, "postgres_schema": schema}
    with in_use(build_runtime(load(project, environ={}, overrides={**chosen, **place}))) as runtime:
        yield runtime
    drop_schemas(schema)


def test_postgres_commits_a_job_with_the_callers_rows(postgres: Runtime) -> None:
    import psycopg
    from psycopg.rows import dict_row

    with nuvom.local_worker(), psycopg.connect(POSTGRES, row_factory=dict_row) as connection:
        job = add.options(connection=connection).delay(2, 3)
        assert waiting() == 0, "others see it before the commit"
        connection.commit()
        assert job.get(timeout=20) == 5


def test_postgres_drops_a_job_with_the_callers_rows(postgres: Runtime) -> None:
    import psycopg

    with psycopg.connect(POSTGRES) as connection:
        add.options(connection=connection).delay(2, 3)
        add.options(connection=connection).map([(1, 2), (3, 4)])
        connection.rollback()
    assert waiting() == 0


def test_postgres_refuses_a_job_of_the_callers_for_a_full_queue(
    project: Path, postgres: Runtime
) -> None:
    import psycopg

    from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

    queue = PostgresJobQueue(msgspec.structs.replace(postgres.settings, max_queue_size=1))
    try:
        with psycopg.connect(POSTGRES) as connection, pytest.raises(QueueFull, match="default"):
            queue.enqueue_into(connection, [make_job(), make_job()])
    finally:
        queue.stop()
    assert waiting() == 0
