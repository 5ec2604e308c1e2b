"""The servers that tests may use, and a place of its own on them for each test.

A server that does not run is said loudly: see ``tests/conftest.py``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock
from nuvom.core.ids import new_id
from nuvom.queue_backends.server import ServerQueue
from nuvom.result_backends.joined import JoinedResults

POSTGRES = os.environ.get("NUVOM_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
REDIS = os.environ.get("NUVOM_TEST_REDIS", "redis://127.0.0.1:6379/0")
_REMOVED_AT_ONCE = 1000
_PATIENCE_SECS = 30.0


@cache
def why_no_postgres() -> str | None:
    """Return why PostgreSQL cannot be used, None where it can."""
    try:
        import psycopg  # an extra
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    try:
        psycopg.connect(POSTGRES, connect_timeout=3).close()
    except psycopg.OperationalError as error:
        return f"PostgreSQL does not answer at {POSTGRES}: {str(error).splitlines()[0]}"
    return None


def need_postgres() -> str:
    """Return the address of the server. Skips, loudly, where there is none."""
    reason = why_no_postgres()
    if reason is not None:
        pytest.skip(f"NOT PROVED HERE: {reason}")
    return POSTGRES


def new_schema() -> str:
    """Return the name of a schema that has the tables of a store and nothing else."""
    from nuvom.contrib.postgres.migration import migrate  # needs psycopg

    name = f"law_{new_id().replace('-', '')}"
    migrate(need_postgres(), name)
    return name


def drop_schemas(*names: str) -> None:
    """Remove schemas with all that is in them."""
    if not names:
        return
    import psycopg  # as above

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        for name in names:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


def _programs_of_postgres() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found += [Path(one) for one in (shutil.which("initdb"),) if one is not None]
    if not found:
        pytest.skip("NOT PROVED HERE: the programs of PostgreSQL are not installed")
    return found[-1].parent


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@cache
def why_no_redis() -> str | None:
    """Return why Redis cannot be used, None where it can."""
    try:
        import hiredis
        import redis  # an extra
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    del hiredis
    try:
        with redis.Redis.from_url(REDIS, socket_connect_timeout=3) as client:
            client.ping()
    except redis.RedisError as error:
        return f"Redis does not answer at {REDIS}: {str(error).splitlines()[0]}"
    return None


def need_redis() -> str:
    """Return the address of the server. Skips, loudly, where there is none."""
    reason = why_no_redis()
    if reason is not None:
        pytest.skip(f"NOT PROVED HERE: {reason}")
    return REDIS


def new_prefix() -> str:
    """Return a prefix that no store has."""
    return f"law-{new_id()}"


def drop_prefixes(*prefixes: str) -> None:
    """Remove all keys of stores."""
    if not prefixes:
        return
    import redis  # as above

    with redis.Redis.from_url(REDIS) as client:
        for prefix in prefixes:
            pattern = f"{{{prefix}}}:*"
            for key in client.scan_iter(match=pattern, count=_REMOVED_AT_ONCE):
                client.delete(key)


class OwnServer(ABC):
    """A server of a test's own, which may be killed. As a context manager it is there, then gone.

    Args:
        folder: An empty folder for its data.
        options: More arguments of its program.
        host: Where this process reaches it.
        prefix: What its command begins with, to run it on another host; it is then reached from
            any that is linked to that one.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._options = options
        self._prefix = prefix
        self.host, self.port = host, _free_port()
        self._listens_to = "0.0.0.0" if prefix else host  # a network of the test's own

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.crash()

    @abstractmethod
    def start(self) -> None:
        """Start it on what it has kept, and wait until it answers."""

    @abstractmethod
    def crash(self) -> None:
        """End it as a crash would."""

    @abstractmethod
    def settings(self, port: int | None = None) -> dict[str, str]:
        """Return the settings of a store on it, which is made if it is not there.

        Args:
            port: Of a proxy through which it is reached.
        """


class OwnPostgres(OwnServer):
    """A PostgreSQL server of a test's own."""

    _is_made = _is_migrated = False

    def start(self) -> None:
        """Start it, and wait until it takes connections; it recovers from its log first."""
        if not self._is_made:
            self._make()
        place = f"-p {self.port} -c listen_addresses={self._listens_to} -k {self._folder}"
        options = " ".join([place, *self._options])
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._folder), "-l", log, "-o", options, "-w", "start")

    def crash(self) -> None:
        """End it as a crash would: it has to recover from its log."""
        self._run("pg_ctl", "-D", str(self._folder), "-m", "immediate", "-w", "stop")

    def settings(self, port: int | None = None) -> dict[str, str]:
        """Return the settings of its store."""
        if not self._is_migrated:
            from nuvom.contrib.postgres.migration import migrate  # needs psycopg

            migrate(self._address(self.port), "nuvom")
            self._is_migrated = True
        return {"postgres_dsn": self._address(port or self.port)}

    def _address(self, port: int) -> str:
        return f"postgresql://postgres@{self.host}:{port}/postgres"

    def _make(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres")
        self._run("initdb", "-D", str(self._folder), "-U", "postgres", "-A", "trust", "--no-sync")
        with open(self._folder / "pg_hba.conf", "a", encoding="utf-8") as rules:
            rules.write("host all all samenet trust\n")
        self._is_made = True

    def _run(self, program: str, *arguments: str) -> None:
        # The server refuses to run as root.
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = [*self._prefix, *(user if os.geteuid() == 0 else ())]
        command = [*prefix, str(_programs_of_postgres() / program), *arguments]
        # A server that inherits a pipe would keep it open.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd="/")


class OwnRedis(OwnServer):
    """A Redis server of a test's own; it keeps what ``options`` tell it to keep."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None or why_no_redis() is not None:
            pytest.skip("NOT PROVED HERE: redis-server is not installed")
        place = ("--port", str(self.port), "--bind", self._listens_to, "--dir", str(self._folder))
        common = ("--protected-mode", "no", "--save", "")
        self._process = subprocess.Popen(
            [*self._prefix, program, *place, *common, *self._options], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _PATIENCE_SECS
        while not self._answers():
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)

    def crash(self) -> None:
        """Kill it, as a crash would."""
        self._process.kill()
        self._process.wait()

    def settings(self, port: int | None = None) -> dict[str, str]:
        """Return the settings of its store."""
        return {"redis_url": f"redis://{self.host}:{port or self.port}/0"}

    def _answers(self) -> bool:
        import redis  # as above

        try:
            with redis.Redis.from_url(self.settings()["redis_url"]) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


# ---- both -----------------------------------------------------------------------------------

SERVERS = ("postgres", "redis")


def new_store(backend: str) -> dict[str, str]:
    """Return the settings of a new store on the server that tests share.

    Skips, loudly, where there is none.
    """
    if backend == "postgres":
        return {"postgres_dsn": need_postgres(), "postgres_schema": new_schema()}
    return {"redis_url": need_redis(), "redis_prefix": new_prefix()}


def drop_stores(*stores: Mapping[str, str]) -> None:
    """Remove stores that ``new_store`` has made."""
    drop_schemas(*(one["postgres_schema"] for one in stores if "postgres_schema" in one))
    drop_prefixes(*(one["redis_prefix"] for one in stores if "redis_prefix" in one))


def own_server(backend: str, folder: Path, *, is_durable: bool = True, **place: Any) -> OwnServer:
    """Return a server of a test's own, not started.

    Args:
        is_durable: What it acknowledges survives its crash.
    """
    folder.mkdir()
    if backend == "postgres":
        return OwnPostgres(folder, *(() if is_durable else ("-c fsync=off",)), **place)
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    return OwnRedis(folder, *(durable if is_durable else ()), **place)


def open_queue(
    backend: str, root: str | Path, settings: Mapping[str, Any], clock: Clock | None = None
) -> ServerQueue:
    """Open the queue of a store; other processes may call this as well."""
    place = Settings(root=Path(root), **settings)
    if backend == "postgres":
        from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

        return PostgresJobQueue(place, clock=clock)
    from nuvom.contrib.redis import RedisJobQueue  # needs redis

    return RedisJobQueue(place, clock=clock)


def open_results(backend: str, root: str | Path, settings: Mapping[str, Any]) -> JoinedResults:
    """Open the results of a store."""
    place = Settings(root=Path(root), **settings)
    if backend == "postgres":
        from nuvom.contrib.postgres import PostgresResultBackend  # as above

        return PostgresResultBackend(place)
    from nuvom.contrib.redis import RedisResultBackend  # as above

    return RedisResultBackend(place)
