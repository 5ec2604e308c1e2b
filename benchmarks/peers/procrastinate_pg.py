"""Procrastinate on PostgreSQL, in a schema of its own."""

from __future__ import annotations

from typing import Any

import body
import psycopg
from procrastinate import App, PsycopgConnector
from psycopg.conninfo import make_conninfo

from peers.base import POSTGRES, SCHEMA, Adapter, program, survives

PLACE = make_conninfo(POSTGRES, options=f"-c search_path={SCHEMA}")
app = App(connector=PsycopgConnector(conninfo=PLACE))
noop = app.task(name="noop")(body.noop_async)
mark = app.task(name="mark")(body.mark_async)


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """It keeps a job's end but not what the task returned."""

    packages = ("procrastinate", "psycopg")
    worker_text = "procrastinate worker --concurrency 10"
    keeps_results = False
    has_bulk = True

    def open(self) -> None:
        self.direct: Any = psycopg.connect(POSTGRES, autocommit=True)
        self.direct.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        self.direct.execute(f"CREATE SCHEMA {SCHEMA}")
        found = {
            name: self.direct.execute(f"SHOW {name}").fetchall()[0][0]
            for name in ("fsync", "synchronous_commit")
        }
        told = ", ".join(f"{name}={value}" for name, value in found.items())
        is_safe = found["fsync"] == "on" and found["synchronous_commit"] != "off"
        self.durability = survives(told, power_cut=is_safe)
        app.open()
        app.schema_manager.apply_schema()

    def clear(self) -> None:
        self.direct.execute(f"TRUNCATE {SCHEMA}.procrastinate_jobs CASCADE")

    def close(self) -> None:
        app.close()
        self.direct.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        self.direct.close()

    def worker(self) -> list[str]:
        command = [program("procrastinate"), "--app", "peers.procrastinate_pg.app"]
        return [*command, "worker", "--concurrency", "10"]

    def call(self, number: int) -> Any:  # noqa: ANN401  # a job's id
        return noop.defer(number=number)

    def bulk(self, count: int) -> None:
        noop.batch_defer(*[{"number": number} for number in range(count)])

    def mark(self, place: int, pause_secs: float = 0.0) -> Any:  # noqa: ANN401  # a job's id
        return mark.defer(place=place, pause_secs=pause_secs)

    def finished(self) -> int:
        query = f"SELECT count(*) FROM {SCHEMA}.procrastinate_jobs WHERE status = 'succeeded'"  # noqa: S608  # a constant
        return int(self.direct.execute(query).fetchone()[0])
