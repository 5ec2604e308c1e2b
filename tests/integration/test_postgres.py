"""What is special about a store on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuvom.core.ids import new_id
from nuvom.scheduler import planner
from nuvom.scheduler.record import ScheduleRecord, ScheduleRule
from nuvom.testing.builders import make_job
from tests.engine import wait_until
from tests.lab.servers import POSTGRES, drop_stores, new_store, open_queue


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


def test_a_role_without_rights_on_their_table_keeps_schedules(tmp_path: Path) -> None:
    """It was granted all tables that there were before the upgrade."""
    store, role = new_store("postgres"), f"law_{new_id().replace('-', '')}"
    import psycopg

    schema = store["postgres_schema"]
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f"""CREATE ROLE {role} LOGIN;
            GRANT USAGE ON SCHEMA {schema} TO {role};
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
            REVOKE ALL ON {schema}.schedules, {schema}.schedule_calls FROM {role}""")
        queue = open_queue(
            "postgres", tmp_path, {**store, "postgres_dsn": f"{POSTGRES}?user={role}"}
        )
        try:
            schedules, now = queue.schedules(), queue.now()
            wanted = ScheduleRecord("hourly", "its id", ScheduleRule(interval=3600.0), make_job())
            assert schedules.apply([planner.created(wanted, now)]) == [True]
            (stored,) = schedules.page()
            assert schedules.get("hourly") == stored
            assert schedules.next_due_at() == stored.due_at == now + 3600
            assert schedules.apply([planner.fired_now(stored, new_id(), now)]) == [True]
            assert queue.qsize() == 1
        finally:
            queue.stop()
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
            drop_stores(store)


def test_behind_a_pooler_a_scheduler_looks_less_often_than_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows when the next fire is due; a worker knows nothing of the next job."""
    store = new_store("postgres")
    from nuvom.contrib.postgres import wakeup  # needs psycopg

    monkeypatch.setattr(wakeup, "is_pooled", lambda _: True)
    monkeypatch.setattr(wakeup, "SCHEDULE_POLL_SECS", 0.01)
    monkeypatch.setattr(wakeup, "POLL_SECS", 600.0)
    queue = open_queue("postgres", tmp_path, store)
    try:
        with queue.schedules().waiter() as waiter:
            assert waiter.wait(None), "it does not look at all"
    finally:
        queue.stop()
        drop_stores(store)
