"""Holds the PostgreSQL backends to the laws of the kit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock
from nuvom.testing.conformance import QueueConformance, ResultConformance
from tests.lab.servers import POSTGRES, drop_schemas, need_postgres, new_schema
from tests.lab.stores import LabLaws

if TYPE_CHECKING:
    from nuvom.contrib.postgres import PostgresJobQueue, PostgresResultBackend

pytestmark = [
    pytest.mark.timeout(600),
    # A connection that was just opened when an exception came is closed when forgotten.
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _server() -> None:
    need_postgres()


def open_queue(root: str, settings: dict[str, Any], clock: Clock | None = None) -> PostgresJobQueue:
    """Open a store; a process that a law starts calls this."""
    from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

    return PostgresJobQueue(Settings(root=Path(root), **settings), clock=clock)


class InSchemas:
    """Makes each store in a schema of its own, and removes them all."""

    schemas: list[str]
    beside: list[PostgresJobQueue]

    @pytest.fixture(autouse=True)
    def _schemas(self) -> Iterator[None]:
        self.schemas, self.beside = [], []
        yield
        for queue in self.beside:
            queue.stop()
        drop_schemas(*self.schemas)

    def new_settings(self, tmp_path: Path, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        self.schemas.append(new_schema())
        place = {"postgres_dsn": POSTGRES, "postgres_schema": self.schemas[-1]}
        return str(tmp_path), {**settings, **place}  # also for other processes


class TestPostgres(InSchemas, QueueConformance):
    def make(self, tmp_path: Path, clock: Clock | None = None, **settings: Any) -> PostgresJobQueue:
        self.opened = self.new_settings(tmp_path, settings)
        self.clock = clock
        return self.reopen()

    def reopen(self, queue: object = None) -> PostgresJobQueue:
        return open_queue(*self.opened, clock=self.clock)

    def process_factory(self, queue: object) -> Callable[[], PostgresJobQueue]:
        return partial(open_queue, *self.opened)


@pytest.mark.slow
class TestPostgresInTheLab(LabLaws, TestPostgres):
    points_step = 100  # its calls have more points, and each a round trip
    crowd_calls = 100
    skips_locked = True


class TestPostgresResults(InSchemas, ResultConformance):
    def make(self, tmp_path: Path, **settings: Any) -> PostgresResultBackend:
        self.opened = self.new_settings(tmp_path, settings)
        return self.reopen()

    def reopen(self, backend: object = None) -> PostgresResultBackend:
        from nuvom.contrib.postgres import PostgresResultBackend  # needs psycopg

        root, given = self.opened
        return PostgresResultBackend(Settings(root=Path(root), **given))

    def queue_beside(self, backend: object = None) -> PostgresJobQueue:
        self.beside.append(open_queue(*self.opened))
        return self.beside[-1]


class TestPostgresBesideItsQueue(TestPostgresResults):
    """The same laws for a backend that joined a queue."""

    def make(self, tmp_path: Path, **settings: Any) -> PostgresResultBackend:
        backend = super().make(tmp_path)
        assert backend.joins(self.queue_beside())
        return backend
