"""How a database file becomes ours, and how statements find their rows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

import pytest

from nuvom.core.record import JobStatus
from nuvom.queue_backends.sqlite import hot, reads, rollups, rows, schema
from nuvom.queue_backends.sqlite import queue as queue_module
from nuvom.queue_backends.sqlite.schema import is_prepared, prepare


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def ready(connection: sqlite3.Connection) -> sqlite3.Connection:
    prepare(connection, "here")
    return connection


def schema_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT type, name FROM sqlite_schema").fetchall()


@pytest.mark.parametrize(
    "lacking", ["INDEX jobs_expiring", "INDEX jobs_others", "TABLE schedules", "TABLE audit"]
)
def test_file_of_version_0_12_gets_what_it_lacks(ready: sqlite3.Connection, lacking: str) -> None:
    complete = sorted(schema_of(ready))
    ready.execute(f"DROP {lacking}")
    assert not is_prepared(ready, "here")
    for _ in range(2):
        prepare(ready, "here")
        assert complete == sorted(schema_of(ready))
    assert is_prepared(ready, "here")


def test_tables_are_made_completely_or_not_at_all(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schema._LATER, "audit", "CREATE INDEX broken ON no_such (x)")
    with pytest.raises(sqlite3.OperationalError, match="no_such"):
        prepare(connection, "here")
    assert [] == schema_of(connection)
    assert (0,) == connection.execute("PRAGMA application_id").fetchone()


# ---- how statements find their rows ---------------------------------------------------------


def plan(connection: sqlite3.Connection, statement: str) -> str:
    """Return what SQLite says of how it will look for the rows of a statement."""
    count = max([int(number) for number in re.findall(r"\?(\d+)", statement)], default=0)
    count += len(re.findall(r"\?(?!\d)", statement))
    named = dict.fromkeys(re.findall(r":(\w+)", statement))
    steps = connection.execute(f"EXPLAIN QUERY PLAN {statement}", named or [None] * count)
    return "\n".join(step[3] for step in steps)


CHANGE = rows._statement_of(JobStatus.PENDING, sets_error=True, ends=True, starts_anew=True)
HOT = {
    "claim": (hot._CLAIM_READY, "jobs_ready (queue=?)"),
    "claim without": (hot._CLAIM_READY_WITHOUT, "jobs_ready (queue=?)"),
    "claim suspects": (hot._CLAIM_SUSPECT, "jobs_suspect (queue=?)"),
    "claim few": (hot._CLAIM_FEW, "jobs_ready (queue=?)"),
    "read back": (hot._READ_BACK, "jobs_running (claim_token=?)"),
    "read back each": (hot._READ_BACK_EACH, "jobs_running (claim_token=?)"),
    "survey, ready": (queue_module._SURVEY, "jobs_ready"),
    "survey, due": (queue_module._SURVEY, "jobs_scheduled (run_at<?)"),
    "undo": (queue_module._UNDO, "jobs_running (claim_token=?)"),
    "extend": (queue_module._EXTEND, "jobs_running"),
    "held": (queue_module._HELD, "jobs_running"),
    "settle plain": (hot._successes(64, has_rest=False), "INTEGER PRIMARY KEY (rowid=?)"),
    "settle": (hot._successes(64, has_rest=True), "INTEGER PRIMARY KEY (rowid=?)"),
    "settle one plain": (hot._SUCCESS_ALONE, "INTEGER PRIMARY KEY (rowid=?)"),
    "change": (CHANGE, "INTEGER PRIMARY KEY (rowid=?)"),
    "what was settled": (rows._SETTLED, "INTEGER PRIMARY KEY (rowid=?)"),
    "free a key": (hot.FREE_KEY, "jobs_unique (task=? AND unique_key=?)"),
    "who has a key": (hot._KEY_HOLDER, "jobs_unique (task=? AND unique_key=?)"),
    "what there is, due": (rows._WHAT_THERE_IS, "jobs_scheduled (run_at<?)"),
    "what there is, running": (rows._WHAT_THERE_IS, "jobs_running"),
    "what there is, parked": (rows._WHAT_THERE_IS, "jobs_parked"),
    "wake": (rows._PROMOTE, "jobs_scheduled (run_at<?)"),
    "next due": (reads._NEXT_DUE, "jobs_scheduled"),
    "owners": (rows._OWNERS, "jobs_running"),
    "held by the dead": (rows._HELD, "jobs_running"),
    "parked": (rows._PARKED_TOO_LONG, "jobs_parked"),
    "parked tasks": (reads._PARKED_TASKS, "jobs_parked"),
    "parked jobs": (reads._PARKED, "jobs_parked (task=?)"),
    "outlived": (rows._OUTLIVED, "jobs_expiring (<expr><?)"),
    "old": (rows._READ, "SEARCH jobs USING INTEGER PRIMARY KEY (rowid>?)"),
    "progress": (rows._PROGRESS, "INTEGER PRIMARY KEY (rowid=?)"),
    "one job": (reads._ONE, "sqlite_autoindex_jobs_1 (id=?)"),
    "attempts": (reads._ATTEMPTS, "attempts_of_job (seq=?)"),
    "waiting": (reads._WAITING, "jobs_ready"),
    "waiting, suspects": (reads._WAITING, "jobs_suspect"),
    "waiting, scheduled": (reads._WAITING, "jobs_scheduled"),
    "has ready": (reads._HAS_READY, "jobs_ready"),
    "has ready, due": (reads._HAS_READY, "jobs_scheduled (run_at<?)"),
    "room in a queue": (hot._WAITING, "jobs_ready (queue=?)"),
    "clear": (rows._WAITING, "jobs_parked"),
    "roll-ups": (rollups._READ, "SEARCH rollups USING PRIMARY KEY (at>? AND at<?)"),
    "old roll-ups": (rollups._OLD_HOURS, "SEARCH rollups USING PRIMARY KEY (at>? AND at<?)"),
    "failures": (reads._GROUP_IDS, "jobs_failed (error_fp=?)"),
}


@pytest.mark.parametrize("name", HOT)
def test_statement_of_a_worker_reads_no_row_it_does_not_need(
    ready: sqlite3.Connection, name: str
) -> None:
    statement, index = HOT[name]
    found = plan(ready, statement)
    assert index in found, found
    scans = [line for line in found.splitlines() if re.match(r"SCAN (jobs|j)\b(?!.*USING)", line)]
    assert not scans, found


_READS_ALL = ("_COUNTS", "_FIND")  # exact counts, and the ends of ids
_CHOICES = " UNION ALL ".join(map(reads.choice_of, range(9)))
READS = {
    name: query.format(chosen=_CHOICES, status=3, order="DESC")
    for name, query in vars(reads).items()
    if name[0] == "_" and isinstance(query, str) and re.match(r"\s*(SELECT|WITH)\b", query)
}


@pytest.mark.parametrize("name", READS.keys() - set(_READS_ALL) - {"_READY_PARTS"})
def test_statement_for_people_reads_a_part_of_the_jobs(
    ready: sqlite3.Connection, name: str
) -> None:
    found = plan(ready, READS[name])
    scans = [line for line in found.splitlines() if re.match(r"SCAN (jobs|j)\b(?!.*USING)", line)]
    assert not scans, found


def test_claim_needs_no_sorting(ready: sqlite3.Connection) -> None:
    for statement in (hot._CLAIM_READY, hot._CLAIM_FEW, hot._CLAIM_SUSPECT):
        assert "TEMP B-TREE" not in plan(ready, statement)
