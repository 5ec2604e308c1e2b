"""Totals on PostgreSQL: who counts, with which rights, and who is waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.ids import new_id
from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable
from nuvom.testing.builders import make_job, make_settlement
from tests.lab.servers import POSTGRES, drop_schemas, need_postgres, new_schema

if TYPE_CHECKING:
    from nuvom.contrib.postgres import PostgresJobQueue


@pytest.fixture
def schema() -> Iterator[str]:
    need_postgres()
    name = new_schema()
    yield name
    drop_schemas(name)


def open_queue(tmp_path: Path, schema: str, dsn: str = POSTGRES) -> PostgresJobQueue:
    from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

    return PostgresJobQueue(Settings(root=tmp_path, postgres_dsn=dsn, postgres_schema=schema))


def execute(statement: str) -> list[Any]:
    import psycopg

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return [] if cursor.description is None else cursor.fetchall()


def counts(queue: PostgresJobQueue) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in queue.totals():
        found[f"{one.kind} {one.outcome}".strip()] += one.count
    return dict(found)


def test_counts_of_ended_connections_are_put_together(tmp_path: Path, schema: str) -> None:
    for _ in range(3):
        queue = open_queue(tmp_path, schema)
        queue.keep_totals()
        queue.enqueue(make_job())
        queue.stop()
    while execute(f"SELECT FROM {schema}.totals t, pg_stat_get_activity(t.slot) WHERE slot <> 0"):
        """A process of the server ends a moment after its connection."""
    queue = open_queue(tmp_path, schema)
    assert counts(queue) == {"enqueued": 3}
    assert execute(f"SELECT slot, count FROM {schema}.totals") == [(0, 3)]
    queue.enqueue(make_job())
    assert counts(queue) == {"enqueued": 4}
    queue.stop()


def test_a_role_that_owns_no_table_counts(tmp_path: Path, schema: str) -> None:
    """It has the rights that the documentation names, but none on the table of totals."""
    role = f"law_{new_id().replace('-', '')}"
    execute(f"CREATE ROLE {role} LOGIN")
    try:
        execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")
        execute(f"REVOKE ALL ON {schema}.totals FROM {role}")
        execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
        queue = open_queue(tmp_path, schema, f"{POSTGRES}?user={role}")
        queue.keep_totals()
        for status in (JobStatus.SUCCESS, JobStatus.FAILED):
            queue.enqueue(make_job())
            (job,) = queue.claim(1, "one")
            assert queue.settle([make_settlement(job, status=status)]) == [True]
        found = counts(queue)
        queue.stop()
    finally:
        execute(f"DROP OWNED BY {role}")
        execute(f"DROP ROLE {role}")
    assert (found["enqueued"], found["finished failure"]) == (2, 1)


def test_an_open_transaction_with_jobs_is_not_waited_for_long(tmp_path: Path, schema: str) -> None:
    """Meanwhile all others who store a job wait behind whoever wants to make a trigger."""
    import psycopg

    queue = open_queue(tmp_path, schema)
    with psycopg.connect(POSTGRES) as connection:
        queue.enqueue_into(connection, [make_job()])
        with pytest.raises(BackendUnavailable, match="held a lock on its tables for too long"):
            queue.keep_totals()
        queue.enqueue(make_job())
    queue.keep_totals()
    assert counts(queue) == {}
    queue.stop()
