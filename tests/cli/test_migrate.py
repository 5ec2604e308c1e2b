"""``nuvom migrate``: the tables of a store on a server, and nothing to do for a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.shell import TASKS, invoke
from tests.lab.servers import POSTGRES, drop_schemas, need_postgres


@pytest.fixture
def schema(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of a schema that does not exist yet; the project's store is to be there."""
    need_postgres()
    name = f"cli_{project.name}".replace("-", "_")[:40]
    given = {"QUEUE_BACKEND": "postgres", "RESULT_BACKEND": "postgres", "POSTGRES_DSN": POSTGRES}
    for setting, value in {**given, "POSTGRES_SCHEMA": name}.items():
        monkeypatch.setenv(f"NUVOM_{setting}", value)
    yield name
    drop_schemas(name)


def test_a_store_in_a_file_needs_no_tables(project: Path) -> None:
    assert invoke("migrate").out == "The store needs no tables.\n"
    assert invoke("--json", "migrate").json["migrations"] == []


def test_the_tables_are_made_once(schema: str) -> None:
    before = invoke("queues")
    assert before.code != 0
    assert "it has no tables yet" in before.err
    assert "nuvom migrate" in before.err
    dry = invoke("migrate", "--dry-run")
    assert f'CREATE TABLE "{schema}".jobs' in dry.out
    assert invoke("queues").code != 0, "it was no dry run"
    assert "is at version 5 now (it was at 0)" in invoke("migrate").out
    assert invoke("queues").code == 0
    assert "is at version 5; its functions were renewed" in invoke("migrate").out


def test_tables_of_an_earlier_version_keep_their_jobs(schema: str) -> None:
    import psycopg

    invoke("migrate")
    Path("tasks.py").write_text(TASKS)
    assert invoke("run", "add", "1", "2").code == 0
    with psycopg.connect(POSTGRES) as connection:
        connection.execute(f"""DROP TABLE "{schema}".totals, "{schema}".schedules,
                "{schema}".schedule_calls, "{schema}".rollups,
                    "{schema}".audit;
            ALTER TABLE "{schema}".running DROP COLUMN started;
            ALTER TABLE "{schema}".queues DROP COLUMN paused_at;
            UPDATE "{schema}".store SET schema_version = 1""")
    refused = invoke("queues")
    assert refused.code != 0
    assert "its tables are of an earlier version (1, not 5)" in refused.err
    assert "is at version 5 now (it was at 1)" in invoke("migrate").out
    assert invoke("queues", "--json").json["queues"][0]["ready"] == 1


def test_tables_of_a_later_version_are_left_alone(schema: str) -> None:
    import psycopg

    invoke("migrate")
    with psycopg.connect(POSTGRES) as connection:
        connection.execute(f'UPDATE "{schema}".store SET schema_version = 99')
    refused = invoke("queues")
    assert refused.code != 0
    assert "its tables are of a later version (99, not 5)" in refused.err
    answer = invoke("migrate")
    assert answer.code != 0
    assert "pip install --upgrade nuvom" in answer.out + answer.err
