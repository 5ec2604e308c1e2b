"""The servers that tests may use, and a place of its own on them for each test.

A server that does not run is said loudly: see ``tests/conftest.py``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Self

import pytest

from nuvom.core.ids import new_id

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
    import psycopg  # as above

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        for name in names:
            connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


class OwnPostgres:
    """A server of a test's own, which may be killed. As a context manager it is there, then gone.

    Attributes:
        dsn: Its address.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = _programs_of_postgres()
        self._port = _free_port()
        self.dsn = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres")
        data = str(self._folder)
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.crash()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._folder), "-l", log, "-o", options, "-w", "start")

    def crash(self) -> None:
        """End it as a crash would: it has to recover from its log."""
        self._run("pg_ctl", "-D", str(self._folder), "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        # The server refuses to run as root.
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = user if os.geteuid() == 0 else []
        command = [*prefix, str(self._programs / program), *arguments]
        # A server that inherits a pipe would keep it open.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60, cwd="/")


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
    import redis  # as above

    with redis.Redis.from_url(REDIS) as client:
        for prefix in prefixes:
            pattern = f"{{{prefix}}}:*"
            for key in client.scan_iter(match=pattern, count=_REMOVED_AT_ONCE):
                client.delete(key)


class OwnRedis:
    """A Redis server of one test, which may be killed and started again on the same data."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None or why_no_redis() is not None:
            pytest.skip("NOT PROVED HERE: redis-server is not installed")
        place = ("--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        self._process = subprocess.Popen(
            [program, *place, "--save", "", *self._options], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _PATIENCE_SECS
        while not self._answers():
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it, as a crash would."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        import redis  # as above

        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
