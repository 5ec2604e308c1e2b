"""What is special about a store on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom.testing.builders import make_job
from tests.engine import wait_until
from tests.lab.servers import drop_stores, new_store, open_queue


def test_who_claims_many_jobs_removes_what_they_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every claim would read past it until autovacuum comes."""
    store = new_store("postgres")
    import psycopg

    from nuvom.contrib.postgres import queue as module  # needs psycopg

    monkeypatch.setattr(module, "_VACUUM_EVERY", 2)
    queue = open_queue("postgres", tmp_path, store)
    try:
        with psycopg.connect(store["postgres_dsn"], autocommit=True) as connection:

            def vacuums() -> int:
                found = connection.execute(
                    """SELECT sum(vacuum_count) FROM pg_stat_user_tables
                    WHERE schemaname = %s AND relname IN ('waiting', 'running')""",
                    (store["postgres_schema"],),
                ).fetchone()
                return int(found[0]) if found else 0

            for job in (make_job(), make_job()):
                queue.enqueue(job)
            queue.claim(1, "worker")
            queue.reap()
            assert vacuums() == 0
            queue.claim(1, "worker")
            queue.reap()
            wait_until(lambda: vacuums() == 2)  # counters are written a moment later
    finally:
        queue.stop()
        drop_stores(store)
