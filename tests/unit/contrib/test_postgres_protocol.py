"""Waiting for an answer of PostgreSQL in libpq's own terms."""

from __future__ import annotations

import os
from contextlib import closing
from threading import Thread

from tests.lab.servers import need_postgres


def test_other_threads_run_while_one_waits_for_an_answer() -> None:
    """Another thread lets the lock go that the statement waits for."""
    address = need_postgres()
    import psycopg

    from nuvom.contrib.postgres.protocol import next_result  # needs psycopg

    key = os.getpid()
    connect = psycopg.connect
    with (
        closing(connect(address, autocommit=True)) as holder,
        closing(connect(address, autocommit=True)) as waiter,
    ):
        holder.execute("SELECT pg_advisory_lock(%s)", (key,))
        waiter.execute("SET lock_timeout = '5s'")
        waiter.pgconn.send_query_params(f"SELECT pg_advisory_lock({key})".encode(), [])
        unlocking = Thread(target=holder.execute, args=("SELECT pg_advisory_unlock_all()",))
        unlocking.start()
        assert next_result(waiter.pgconn) is not None
        assert next_result(waiter.pgconn) is None
        unlocking.join()
