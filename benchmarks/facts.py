"""What figures depend on: the machine, its load, the servers, and what a flush costs."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from peers.base import JOBS_DB, POSTGRES, REDIS, RESULTS_DB

QUIET_CORES = 0.5  # more than that used by others, and figures are preliminary
_LOOK_SECS = 2.0
_FLUSHES = 50


def machine(folder: Path) -> dict[str, Any]:
    """Return facts about this machine; ``folder`` is where the stores are."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "file_system": _file_system(folder),
        "flush_ms": round(flush_ms(folder), 3),
        "commit": _commit(),
    }


def server(name: str) -> dict[str, str]:
    """Return version and durability of a server.

    Raises: Exception: it does not run, or what would be used there is not free.
    """
    return _redis() if name == "redis" else _postgres()


def load() -> dict[str, float]:
    """Return the load average, and how many cores others use while this program sleeps."""
    found: dict[str, float] = {}
    with suppress(OSError, AttributeError):  # not on Windows
        found["load_average"] = round(os.getloadavg()[0], 2)
    before = _busy_ticks()
    time.sleep(_LOOK_SECS)
    after = _busy_ticks()
    if before is not None and after is not None:
        hertz = os.sysconf("SC_CLK_TCK")
        found["others_use_cores"] = round((after - before) / hertz / _LOOK_SECS, 2)
    return found


def flush_ms(folder: Path) -> float:
    """Return the median time of a flushed write of one page."""
    path = folder / "flush"
    found = []
    with path.open("wb") as stream:
        for _ in range(_FLUSHES):
            began = time.perf_counter()
            stream.write(bytes(4096))
            stream.flush()
            os.fsync(stream.fileno())
            found.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(found) * 1000


def _redis() -> dict[str, str]:
    import redis  # noqa: PLC0415  # only where a peer needs it

    for number in (JOBS_DB, RESULTS_DB):
        if redis.Redis.from_url(f"{REDIS}/{number}").dbsize():
            raise RuntimeError(f"database {number} of Redis is not empty, and would be emptied")
    client: Any = redis.Redis.from_url(REDIS, decode_responses=True)
    settings = client.config_get("appendonly", "appendfsync", "save")
    return {"version": client.info("server")["redis_version"], **settings}


def _postgres() -> dict[str, str]:
    import psycopg  # noqa: PLC0415  # only where a peer needs it

    connection: Any
    with psycopg.connect(POSTGRES, connect_timeout=5) as connection:
        names = {"version": "server_version", "fsync": "fsync", "synchronous_commit": ""}
        return {
            key: str(connection.execute(f"SHOW {name or key}").fetchone()[0])
            for key, name in names.items()
        }


def _busy_ticks() -> int | None:
    try:
        with open("/proc/stat", encoding="ascii") as stream:
            fields = [int(part) for part in stream.readline().split()[1:9]]
    except OSError:
        return None
    idle, waiting = fields[3], fields[4]
    return sum(fields) - idle - waiting


def _processor() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _file_system(folder: Path) -> str:
    if sys.platform != "linux":
        return "unknown"
    best, kind = "", "unknown"
    with open("/proc/mounts", encoding="utf-8") as stream:
        for line in stream:
            _, place, name = line.split()[:3]
            if str(folder.resolve()).startswith(place) and len(place) >= len(best):
                best, kind = place, name
    return kind


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607  # the user's git
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
