"""What a SQLite store knows of the past: totals, roll-ups per minute, and audit entries.

The database itself keeps totals, which survive pruning: a table and triggers that fill it. They are
created when first requested (by a metrics exporter), and stay. After that every process counts, in
the transaction that stores a job or its end, including producers and programs that know nothing
about metrics. So nothing is counted twice, or lost with a killed process. A file without them has
no overhead, and no Python code runs for them either way.

Roll-ups, which every file keeps, are in ``rollups.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nuvom.core.views import (
    AUDIT_KEPT,
    TOOK_BOUNDS,
    WAITED_BOUNDS,
    AuditEntry,
    StoreSize,
    Total,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from nuvom.core.views import Rollup
    from nuvom.queue_backends.sqlite.store import SQLiteStore

# One row holds a count and two histograms, so that a success costs a single upsert. ``took`` and
# ``waited`` are the index of the first bound that is not exceeded, or one past the last. The key
# begins with what varies most: keys are compared several times for each job.
_TABLE = """CREATE TABLE IF NOT EXISTS totals (
    kind TEXT NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    outcome TEXT NOT NULL,
    took INTEGER NOT NULL,
    waited INTEGER NOT NULL,
    count INTEGER NOT NULL,
    took_secs REAL NOT NULL,
    waited_secs REAL NOT NULL,
    PRIMARY KEY (took, waited, task, queue, outcome, kind)
) STRICT, WITHOUT ROWID"""
_COLUMNS = "kind, queue, task, outcome, took, waited, count, took_secs, waited_secs"
_READ = f"SELECT {_COLUMNS} FROM totals"
_IS_KEPT = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'totals_%' AND type = 'trigger'"

_PUT_AUDIT = "INSERT OR REPLACE INTO audit (id, entry) VALUES (?1, ?2)"
_FORGET_AUDIT = """DELETE FROM audit
    WHERE id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET ?1)"""
_READ_AUDIT = """SELECT entry FROM audit WHERE ?1 IS NULL OR id < ?1
    ORDER BY id DESC LIMIT ?2"""
_decode_entry = msgspec.msgpack.Decoder(AuditEntry).decode


def _add(values: str, source: str) -> str:
    return f"""INSERT INTO totals ({_COLUMNS}) SELECT {values} {source}
        ON CONFLICT DO UPDATE SET count = count + 1,
        took_secs = took_secs + excluded.took_secs,
        waited_secs = waited_secs + excluded.waited_secs;"""


def _count(kind: str, where: str, outcome: str = "''") -> str:
    return _add(f"'{kind}', NEW.queue, NEW.task, {outcome}, 0, 0, 1, 0, 0", f"WHERE {where}")


def _count_by_attempt(kind: str, where: str, outcome: str = "''") -> str:
    """Count by a row of ``attempts``, which names its job by number only."""
    source = f"FROM jobs WHERE seq = NEW.seq AND {where}"
    return _add(f"'{kind}', queue, task, {outcome}, 0, 0, 1, 0, 0", source)


def _bucket(value: str, bounds: Sequence[float], first: int = 0) -> str:
    """Return an expression that finds the bucket by bisection: it runs for each job."""
    if not bounds:
        return str(first)
    middle = len(bounds) // 2
    below = _bucket(value, bounds[:middle], first)
    above = _bucket(value, bounds[middle + 1 :], first + middle + 1)
    return f"CASE WHEN {value} <= {bounds[middle]!r} THEN {below} ELSE {above} END"


def _count_ended(outcome: str, where: str) -> str:
    """Count an attempt that ran to its end: how long it took and how long it had waited."""
    # Evaluated once per job: LIMIT keeps SQLite from inlining the expressions at each use.
    # The wait is taken from the old row: the new one may have the next attempt's time. Calling
    # max() would take longer than all these comparisons; a negative time (clock set back) is 0.
    source = """FROM (SELECT
        CASE WHEN NEW.finished_at > NEW.started_at
            THEN NEW.finished_at - NEW.started_at ELSE 0.0 END AS ran,
        CASE WHEN NEW.started_at <= OLD.created_at OR NEW.started_at <= OLD.run_at THEN 0.0
            WHEN OLD.run_at > OLD.created_at THEN NEW.started_at - OLD.run_at
            ELSE NEW.started_at - OLD.created_at END AS waits LIMIT 1)"""
    places = f"{_bucket('ran', TOOK_BOUNDS)}, {_bucket('waits', WAITED_BOUNDS)}"
    values = f"'attempt', NEW.queue, NEW.task, {outcome}, {places}, 1, ran, waits"
    return _add(values, f"{source} WHERE {where}")


# A success with an error is a timeout that the task's policy ignores.
_SUCCESS_OR_TIMEOUT = "CASE WHEN NEW.error IS NULL THEN 'success' ELSE 'timeout' END"
_FAILURE_OR_TIMEOUT = "CASE NEW.outcome WHEN 'timeout' THEN 'timeout' ELSE 'failure' END"
_HAS_RUN = """OLD.status = 1 AND NEW.status <> 1
    AND NEW.started_at IS NOT NULL AND NEW.started_at IS NOT OLD.started_at"""
# Taken back from its worker after it had started: otherwise there would be no error.
_IS_GIVEN_BACK = """OLD.status = 1 AND NEW.status IN (0, 7, 8)
    AND NEW.lease_epoch > OLD.lease_epoch AND NEW.error IS NOT NULL"""
# Its record was unreadable, so it never ran and has no attempt.
_IS_DAMAGED = "NEW.status = 3 AND OLD.status = 1 AND NEW.error_fp = 'CorruptRecord'"
_HAS_FAILED = "NEW.outcome IN ('failure', 'timeout', 'retry')"

# By name: when each fires, and what it does. SQLite starts a program for each trigger and row,
# whatever its WHEN says. So they name only columns that a claim does not set (``result``,
# ``error``, ``suspect``). Of these, the plain success of nearly all jobs sets only ``result``.
_TRIGGERS: dict[str, tuple[str, ...]] = {
    "of_new_jobs": ("INSERT ON jobs", _count("enqueued", "true")),
    "of_successes": (
        "UPDATE OF result ON jobs WHEN OLD.status = 1 AND NEW.status = 2",
        _count_ended(_SUCCESS_OR_TIMEOUT, "true"),
    ),
    "of_other_ends": (
        "UPDATE OF error, suspect ON jobs WHEN NEW.status <> OLD.status AND NEW.status <> 2",
        _count("redelivered", _IS_GIVEN_BACK),
        _count_ended("''", _HAS_RUN),
        _count("finished", "NEW.status = 4", "'dead'"),
        _count("finished", "NEW.status = 5", "'cancelled'"),
        _count("finished", _IS_DAMAGED, "'failure'"),
    ),
    # The attempt's row distinguishes a timeout from a failure, and is written after the job's.
    "of_attempts": (
        "INSERT ON attempts",
        _count_by_attempt("finished", f"status = 3 AND {_HAS_FAILED}", _FAILURE_OR_TIMEOUT),
        _count_by_attempt("retried", f"status <> 3 AND {_HAS_FAILED}"),
        _count_by_attempt("lost", "NEW.outcome = 'lost'"),
    ),
}


class RowTotals:
    """The queue's methods that provide totals to exporters."""

    store: SQLiteStore

    def keep_totals(self) -> None:
        """Count from now on; see the contract. Writes nothing if the store already counts."""
        if not self._keeps_totals():
            self.store.db.transaction(_make)

    def totals(self) -> list[Total]:
        """Return the counts so far; see the contract."""
        if not self._keeps_totals():
            return []
        return [Total(*row) for row in self.store.db.read(_READ)]

    def rollups(self, since: float, until: float, step: int) -> list[Rollup]:
        """Return what was counted in each step; see the contract."""
        return self.store.rollups.read(since, until, step)

    def condense_history(self) -> None:
        """Combine the minutes of old hours; see the contract."""
        self.store.rollups.condense()

    def record_audit(self, entry: AuditEntry) -> None:
        """Store an audit entry; see the contract."""
        row = (entry.id, msgspec.msgpack.encode(entry))

        def record(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT_AUDIT, row)
            connection.execute(_FORGET_AUDIT, (AUDIT_KEPT,))

        self.store.db.transaction(record)

    def audit(self, limit: int = 100, before: str | None = None) -> list[AuditEntry]:
        """Return audit entries, newest first; see the contract."""
        rows = self.store.db.read(_READ_AUDIT, (before, limit))
        return [_decode_entry(entry) for (entry,) in rows]

    def store_size(self) -> StoreSize:
        """Return the size of the database with its log and of the disk it is on, in bytes."""
        return self.store.size()

    def _keeps_totals(self) -> bool:
        row = self.store.db.read_one(_IS_KEPT)
        return row is not None and row[0] >= len(_TRIGGERS)


def _make(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    for name, (event, *statements) in _TRIGGERS.items():
        body = f"AFTER {event} BEGIN {' '.join(statements)} END"
        connection.execute(f"CREATE TRIGGER IF NOT EXISTS totals_{name} {body}")
