"""The yardstick: a plain loop over a SQLite file, with no engine around it.

Insert one by one or in bulk; claim a batch, run it in line, acknowledge the batch with its
results. No lease, no fence, no deadline, no thread.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import Any

import body
import msgspec

from peers.base import FOLDER, Adapter, survives

DURABILITY = os.environ.get("BENCH_VARIANT", "full")
BATCH = 500
_TABLE = """CREATE TABLE jobs (seq INTEGER PRIMARY KEY, status INTEGER NOT NULL DEFAULT 0,
    task TEXT NOT NULL, args BLOB NOT NULL, created_at REAL NOT NULL, result BLOB,
    finished_at REAL)"""
_READY = "CREATE INDEX ready ON jobs (seq) WHERE status = 0"
_INSERT = "INSERT INTO jobs (task, args, created_at) VALUES (?, ?, ?)"
_CLAIM = """UPDATE jobs SET status = 1 WHERE seq IN
    (SELECT seq FROM jobs WHERE status = 0 ORDER BY seq LIMIT ?) RETURNING seq, task, args"""
_FINISH = "UPDATE jobs SET status = 2, result = ?, finished_at = ? WHERE seq = ?"
_TASKS = {"tasks.noop": body.noop}
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int]).decode


class adapter(Adapter):  # noqa: N801  # the name that probe.py looks for
    """It has no worker: ``drain_here`` is the worker's loop."""

    packages = ("msgspec",)
    worker_text = f"in line, batches of {BATCH}"
    has_bulk = True
    in_process = True

    def open(self) -> None:
        setting = f"synchronous={DURABILITY.upper()}"
        self.durability = survives(setting, power_cut=DURABILITY == "full")
        path = FOLDER / "loop.db"
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {DURABILITY}")
        self.connection.execute(_TABLE)
        self.connection.execute(_READY)

    def clear(self) -> None:
        self.connection.execute("DELETE FROM jobs")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self.connection.close()

    def call(self, number: int) -> Any:  # noqa: ANN401  # nothing
        self.connection.execute(_INSERT, ("tasks.noop", _encode((number,)), time.time()))

    def bulk(self, count: int) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        now = time.time
        rows = (("tasks.noop", _encode((number,)), now()) for number in range(count))
        self.connection.executemany(_INSERT, rows)
        self.connection.execute("COMMIT")

    def mark(self, place: int, pause_secs: float = 0.0) -> None:
        """Store nothing: its clock starts by itself."""

    def drain_here(self, count: int) -> float:
        del count
        began = time.perf_counter()
        execute, now, tasks = self.connection.execute, time.time, _TASKS
        while batch := execute(_CLAIM, (BATCH,)).fetchall():
            done = [(_encode(tasks[task](*_decode(args))), now(), seq) for seq, task, args in batch]
            execute("BEGIN IMMEDIATE")
            self.connection.executemany(_FINISH, done)
            execute("COMMIT")
        return time.perf_counter() - began

    def finished(self) -> int:
        query = "SELECT count(*) FROM jobs WHERE status = 2"
        return int(self.connection.execute(query).fetchone()[0])

    def versions(self) -> dict[str, str]:
        return {"sqlite": sqlite3.sqlite_version, "python": sys.version.split()[0]}
