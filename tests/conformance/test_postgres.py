"""Holds a PostgreSQL store to the laws of the kit: ``StoreQueue`` is enough for a server.

The tests start a server of their own and are skipped where there is none, or no psycopg.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.core.ids import new_id
from nuvom.testing.conformance import QueueConformance

psycopg = pytest.importorskip("psycopg", reason="NOT PROVED HERE: psycopg is not installed")

if TYPE_CHECKING:
    from tests.lab.postgres_store import PostgresJobQueue

LIMIT_SECS = 60


def _as_the_server(*command: str) -> None:
    """Run a program of the server, which refuses to run as root."""
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = user if os.geteuid() == 0 else []
    subprocess.run(
        [*prefix, *command], check=True, capture_output=True, timeout=LIMIT_SECS, cwd="/"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server that can be reached by a socket file alone."""
    programs = [shutil.which(name) for name in ("initdb", "pg_ctl")]
    if None in programs:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        programs = [str(found[-1]), str(found[-1].with_name("pg_ctl"))] if found else []
    if not programs:
        pytest.skip("NOT PROVED HERE: PostgreSQL is not installed")
    initdb, pg_ctl = map(str, programs)
    folder = Path("/tmp") / f"nuvom-{new_id()[-12:]}"  # a socket's path has to be short
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    data, log = str(folder / "data"), str(folder / "log")
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=200"
    try:
        _as_the_server(initdb, "-D", data, "-U", "nuvom", "-A", "trust", "--no-sync")
        _as_the_server(pg_ctl, "-D", data, "-l", log, "-o", options, "-w", "start")
        yield f"host={folder} user=nuvom dbname=postgres"
        _as_the_server(pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_queue(dsn: str, root: str, settings: dict[str, Any]) -> PostgresJobQueue:
    """Open a store; a process that a law starts calls this."""
    from tests.lab.postgres_store import PostgresJobQueue  # needs psycopg

    return PostgresJobQueue(Settings(root=Path(root), **settings), dsn)


class TestPostgres(QueueConformance):
    dsn: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _database(self, server: str) -> None:
        type(self).dsn = server

    def make(
        self, tmp_path: Path, clock: Clock = SYSTEM_CLOCK, **settings: Any
    ) -> PostgresJobQueue:
        name = f"law_{new_id().replace('-', '')}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        self.opened = (f"{self.dsn} options='-c search_path={name}'", str(tmp_path), settings)
        self.clock = clock
        return self.reopen()

    def reopen(self, queue: object = None) -> PostgresJobQueue:
        found = open_queue(*self.opened)
        found.clock = self.clock
        return found

    def process_factory(self, queue: object) -> Callable[[], PostgresJobQueue]:
        return partial(open_queue, *self.opened)
