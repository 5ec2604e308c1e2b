"""Nuvom from this checkout on PostgreSQL or Redis; which of them, environment variables set."""

from __future__ import annotations

import os

from peers.base import POSTGRES, SCHEMA, survives
from peers.nuvom_here import BACKEND, DURABILITY, NuvomAdapter
from peers.postgres_schema import PostgresAdapter
from peers.redis_store import CLIENT, JOBS_URL, RedisAdapter


class PostgresNuvomAdapter(NuvomAdapter, PostgresAdapter):
    """Results are counted as those of the peers: by one statement, on a connection apart."""

    packages = (*NuvomAdapter.packages, "psycopg")

    def open(self) -> None:
        from nuvom.contrib.postgres.migration import migrate  # noqa: PLC0415  # of the package under test

        PostgresAdapter.open(self)
        migrate(POSTGRES, SCHEMA)
        os.environ["NUVOM_POSTGRES_DSN"] = POSTGRES
        os.environ["NUVOM_POSTGRES_SCHEMA"] = SCHEMA
        super().open()
        is_flushed = DURABILITY == "full" and self.shown("fsync") == "on"
        self.durability = survives(f"durability={DURABILITY}", power_cut=is_flushed)

    def close(self) -> None:
        PostgresAdapter.close(self)

    def _ended(self) -> int:
        return self.count("done")


class RedisNuvomAdapter(NuvomAdapter, RedisAdapter):
    """In the first of the two databases; ``durability`` has no effect there."""

    packages = (*NuvomAdapter.packages, *CLIENT)

    def open(self) -> None:
        RedisAdapter.open(self)
        os.environ["NUVOM_REDIS_URL"] = JOBS_URL
        super().open()
        self.durability = RedisAdapter.durability

    def close(self) -> None:
        RedisAdapter.close(self)


adapter = PostgresNuvomAdapter if BACKEND == "postgres" else RedisNuvomAdapter
