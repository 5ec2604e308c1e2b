"""Processes that open the store at the same moment wait for one another."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from nuvom.config.settings import Settings
from nuvom.core.clock import Clock
from nuvom.queue_backends.sqlite.connection import Database

if TYPE_CHECKING:
    from pathlib import Path


class LettingGo(Clock):
    """Ends the other connection's transaction once somebody waits for it."""

    def __init__(self, other: sqlite3.Connection) -> None:
        self.other = other
        self.naps = 0

    def sleep(self, secs: float) -> None:
        del secs
        self.naps += 1
        if self.other.in_transaction:
            self.other.execute("ROLLBACK")


def test_connecting_waits_while_another_process_makes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "nuvom.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE started (x)")
    other.execute("BEGIN EXCLUSIVE")  # what making the tables holds for a moment
    clock = LettingGo(other)
    connection = Database(path, Settings(root=tmp_path), clock, setting="sqlite_path").connect()
    connection.close()
    other.close()
    assert clock.naps >= 1
