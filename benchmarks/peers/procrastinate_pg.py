"""Procrastinate on PostgreSQL, in a schema of its own."""

from __future__ import annotations

from typing import Any

import body
from procrastinate import App, PsycopgConnector

from peers.base import program
from peers.postgres_schema import PLACE, PostgresAdapter

app = App(connector=PsycopgConnector(conninfo=PLACE))
noop = app.task(name="noop")(body.noop_async)
mark = app.task(name="mark")(body.mark_async)


class adapter(PostgresAdapter):  # noqa: N801  # the name that probe.py looks for
    """It keeps a job's end but not what the task returned."""

    packages = ("procrastinate", "psycopg")
    worker_text = "procrastinate worker --concurrency 10"
    keeps_results = False
    has_bulk = True

    def open(self) -> None:
        super().open()
        app.open()
        app.schema_manager.apply_schema()

    def clear(self) -> None:
        self.truncate("procrastinate_jobs", "procrastinate_events", "procrastinate_periodic_defers")

    def close(self) -> None:
        app.close()
        super().close()

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
        return self.count("procrastinate_jobs WHERE status = 'succeeded'")
