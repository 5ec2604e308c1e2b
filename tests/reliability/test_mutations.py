"""R25: what the promises rest on is taken away, one thing at a time, and a named test fails.

Each mutation is made in a copy of the project, where its test is run twice: it passes on the copy
as it is, and fails on the mutated one. A mutation that survives is a missing test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LAWS = "tests/conformance/test_queues.py::TestSQLite"


@dataclass(frozen=True)
class Mutation:
    """One thing taken away.

    Attributes:
        place: The file below ``nuvom``.
        old, new: Its text, which is there just once, and what takes its place.
        test: The test that has to fail.
    """

    place: str
    old: str
    new: str
    test: str


MUTATIONS = {
    "epoch predicate": Mutation(
        "queue_backends/sqlite/hot.py",
        "AND jobs.lease_epoch = done.column2 AND",
        "AND done.column2 > 0 AND",
        "tests/unit/sqlite/test_settling.py::test_bulk_leaves_alone_what_another_worker_runs_by_now",
    ),
    "epoch predicate of single successes": Mutation(
        "queue_backends/sqlite/hot.py",
        "lease_until = NULL\n    WHERE seq = ?1 AND lease_epoch = ?2 AND status = 1",
        "lease_until = NULL\n    WHERE seq = ?1 AND ?2 > 0 AND status = 1",
        f"{LAWS}::test_a_late_worker_cannot_settle_anothers_attempt",
    ),
    "epoch predicate of mixed batches": Mutation(
        "queue_backends/sqlite/rows.py",
        "WHERE seq = :seq AND lease_epoch = :old_epoch AND",
        "WHERE seq = :seq AND :old_epoch > 0 AND",
        f"{LAWS}::test_a_late_worker_cannot_settle_anothers_attempt",
    ),
    "immediate transaction": Mutation(
        "queue_backends/sqlite/connection.py",
        'connection.execute("BEGIN IMMEDIATE")\n                result',
        'connection.execute("BEGIN")\n                result',
        "tests/unit/sqlite/test_database.py::test_transaction_has_the_lock_before_it_reads",
    ),
    "flush": Mutation(
        "queue_backends/sqlite/connection.py",
        'self._is_full = settings.durability == "full"',
        "self._is_full = False",
        "tests/reliability/test_power_cuts.py::"
        "test_r07_a_power_cut_leaves_sqlite_all_that_was_acknowledged",
    ),
    "heartbeat": Mutation(
        "execution/maintenance.py",
        "held = self._queue.extend(self._context.worker)",
        "held = {one.record.id: one.record.lease_epoch for one in known}",
        "tests/reliability/test_heartbeats.py::test_f02_a_task_that_outlasts_its_lease_runs_once",
    ),
    "unique key": Mutation(
        "queue_backends/sqlite/schema.py",
        "CREATE UNIQUE INDEX jobs_unique",
        "CREATE INDEX jobs_unique",
        f"{LAWS}::test_a_taken_key_gives_the_job_that_has_it",
    ),
    "start mark of the slot file": Mutation(
        "queue_backends/sqlite/queue.py",
        "            lock.map[index * SLOT_BYTES + STATE_AT] = STARTED",
        "            pass",
        f"{LAWS}::test_a_lost_start_is_charged",
    ),
    "checkpoint guard": Mutation(
        "queue_backends/sqlite/checkpoint.py",
        "            if self._is_guarded:",
        "            if not self._is_guarded:",
        "tests/reliability/test_sqlite_log.py::"
        "test_f13_nobody_can_write_during_a_checkpoint_where_sqlite_has_the_reset_race",
    ),
    "flush of the folder": Mutation(
        "host/files.py",
        "on_file(path, os.O_RDONLY | os.O_DIRECTORY, os.fsync)",
        "on_file(path, os.O_RDONLY | os.O_DIRECTORY, int)",
        "tests/reliability/test_power_cuts.py::"
        "test_r08_a_power_cut_leaves_the_file_queue_all_that_was_acknowledged",
    ),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy what the tests need to another folder."""
    folder = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("nuvom", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def passes(copy: Path, test: str) -> bool:
    """Run a test of the copy, on the package of the copy; return whether it passed.

    It has to be found, and to be run: a skipped test proves nothing.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    counted = re.search(r"(\d+) (passed|failed)", done.stdout)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert counted, f"it was not run: {done.stdout}"
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", MUTATIONS)
def test_r25_what_is_taken_away_makes_its_test_fail(
    copy: Path, figures: Callable[[str], None], name: str
) -> None:
    mutation = MUTATIONS[name]
    assert passes(copy, mutation.test), "it fails on sound code"
    place = copy / "nuvom" / mutation.place
    text = place.read_text(encoding="utf-8")
    assert 1 == text.count(mutation.old), f"{mutation.place} has changed: adapt the mutation"
    place.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    assert not passes(copy, mutation.test), "it survived: a test is missing"
    figures(f"without {name}: {mutation.test.rpartition('::')[2]} fails")


def test_r25_all_mutations_can_be_made() -> None:
    """Told in every run, so that whoever changes the code adapts the mutation then."""
    for name, mutation in MUTATIONS.items():
        text = (ROOT / "nuvom" / mutation.place).read_text(encoding="utf-8")
        assert 1 == text.count(mutation.old), f"{name}: {mutation.place} has changed"
