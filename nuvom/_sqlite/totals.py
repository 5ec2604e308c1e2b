"""Totals that survive pruning, kept by the database itself: a table, and triggers that fill it.

They are made when somebody first asks for them (an exporter of metrics), and stay. From then on
every process counts, in the transaction that stores a job or its end: also producers, and
programs that know nothing of metrics. So nothing is counted twice, or lost with a process that
is killed. A file without them costs nothing, and no Python code runs for them either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.views import TOOK_BOUNDS, WAITED_BOUNDS, StoreSize, Total

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from nuvom._sqlite.store import Store

# One row for a count and two histograms, so that a success costs a single upsert. ``took`` and
# ``waited`` are the places of the first bound that is not exceeded, or one behind the last.
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
    PRIMARY KEY (queue, task, kind, outcome, took, waited)
) STRICT, WITHOUT ROWID"""
_COLUMNS = "kind, queue, task, outcome, took, waited, count, took_secs, waited_secs"
_READ = f"SELECT {_COLUMNS} FROM totals"  # noqa: S608  # constants only
_IS_KEPT = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'totals_%' AND type = 'trigger'"


def _add(values: str) -> str:
    return f"""INSERT INTO totals ({_COLUMNS}) VALUES ({values})
        ON CONFLICT DO UPDATE SET count = count + 1,
        took_secs = took_secs + excluded.took_secs,
        waited_secs = waited_secs + excluded.waited_secs;"""  # noqa: S608  # constants only


def _count(kind: str, job: str = "NEW", outcome: str = "''") -> str:
    return _add(f"'{kind}', {job}.queue, {job}.task, {outcome}, 0, 0, 1, 0, 0")


def _count_of_attempt(kind: str, outcome: str, where: str) -> str:
    """Count by a row of ``attempts``, which names its job by number only."""
    return f"""INSERT INTO totals ({_COLUMNS})
        SELECT '{kind}', queue, task, {outcome}, 0, 0, 1, 0, 0
        FROM jobs WHERE seq = NEW.seq AND {where}
        ON CONFLICT DO UPDATE SET count = count + 1;"""  # noqa: S608  # constants only


def _bucket(value: str, bounds: Sequence[float]) -> str:
    cases = " ".join(f"WHEN {value} <= {bound!r} THEN {at}" for at, bound in enumerate(bounds))
    return f"CASE {cases} ELSE {len(bounds)} END"


def _count_ended(outcome: str) -> str:
    """Count an attempt that has run to its end: how long it took, how long it had waited."""
    took = "max(NEW.finished_at - NEW.started_at, 0)"
    # What waited is the old row: the new one may have the time of the next attempt.
    waited = "max(NEW.started_at - max(OLD.created_at, OLD.run_at), 0)"
    places = f"{_bucket(took, TOOK_BOUNDS)}, {_bucket(waited, WAITED_BOUNDS)}"
    return _add(f"'attempt', NEW.queue, NEW.task, {outcome}, {places}, 1, {took}, {waited}")


# A success with an error is a timeout that the task's policy ignores.
_SUCCESS_OR_TIMEOUT = "CASE WHEN NEW.error IS NULL THEN 'success' ELSE 'timeout' END"
_FAILURE_OR_TIMEOUT = "CASE NEW.outcome WHEN 'timeout' THEN 'timeout' ELSE 'failure' END"
_STATUS_CHANGES = "AFTER UPDATE OF status ON jobs WHEN"
_TRIGGERS = {
    "enqueued": f"AFTER INSERT ON jobs BEGIN {_count('enqueued')} END",
    "redelivered": f"""{_STATUS_CHANGES} NEW.status = 1 AND NEW.deliveries > 1
        BEGIN {_count("redelivered")} END""",
    "succeeded": f"""{_STATUS_CHANGES} OLD.status = 1 AND NEW.status = 2
        BEGIN {_count_ended(_SUCCESS_OR_TIMEOUT)} END""",
    "ended": f"""{_STATUS_CHANGES} OLD.status = 1 AND NEW.status NOT IN (1, 2)
        AND NEW.started_at IS NOT OLD.started_at AND NEW.started_at IS NOT NULL
        BEGIN {_count_ended("''")} END""",
    "dead": f"""{_STATUS_CHANGES} NEW.status = 4 AND OLD.status <> 4
        BEGIN {_count("finished", outcome="'dead'")} END""",
    "cancelled": f"""{_STATUS_CHANGES} NEW.status = 5 AND OLD.status <> 5
        BEGIN {_count("finished", outcome="'cancelled'")} END""",
    # Its record could not be read, so that it never ran; no attempt tells of it.
    "damaged": f"""{_STATUS_CHANGES} NEW.status = 3 AND OLD.status = 1
        AND NEW.error_fp = 'CorruptRecord' BEGIN {_count("finished", outcome="'failure'")} END""",
    # The attempt's row knows a timeout from a failure, and is written after the job's.
    "failed": f"""AFTER INSERT ON attempts WHEN NEW.outcome IN ('failure', 'timeout', 'retry')
        BEGIN {_count_of_attempt("finished", _FAILURE_OR_TIMEOUT, "status = 3")}
        {_count_of_attempt("retried", "''", "status <> 3")} END""",
    "lost": f"""AFTER INSERT ON attempts WHEN NEW.outcome = 'lost'
        BEGIN {_count_of_attempt("lost", "''", "true")} END""",
}


class TotalsPart:
    """The methods of the queue that count for exporters."""

    store: Store

    def keep_totals(self) -> None:
        """Count from now on; see the contract. Writes nothing where that is so already."""
        if not self._keeps_totals():
            self.store.db.transaction(_make)

    def totals(self) -> list[Total]:
        """Return what was counted so far; see the contract."""
        if not self._keeps_totals():
            return []
        return [Total(*row) for row in self.store.db.read(_READ)]

    def store_size(self) -> StoreSize:
        """Return the bytes of the database with its log, and those of the disk below it."""
        return self.store.size()

    def _keeps_totals(self) -> bool:
        row = self.store.db.read_one(_IS_KEPT)
        return row is not None and row[0] >= len(_TRIGGERS)


def _make(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    for name, text in _TRIGGERS.items():
        connection.execute(f"CREATE TRIGGER IF NOT EXISTS totals_{name} {text}")
