"""What is done about a database file that is damaged: found early, not written to, salvaged."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from nuvom.config.settings import Settings
from nuvom.core.record import JobRecord
from nuvom.errors import BackendUnavailable
from nuvom.host.worker_lock import WorkerLock
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.queue_backends.sqlite.connection import Database
from nuvom.queue_backends.sqlite.errors import QUICK_CHECK
from nuvom.queue_backends.sqlite.salvage import salvage
from nuvom.testing.builders import make_job, make_settlement

PAGE = 4096


@pytest.fixture
def settings(project: Path) -> Settings:
    return Settings(root=project)


@pytest.fixture
def path(settings: Settings) -> Path:
    return settings.db_path


def queue_at(settings: Settings) -> SQLiteJobQueue:
    return SQLiteJobQueue(settings)


def jobs_of(count: int) -> list[JobRecord]:
    """Return jobs, one in ten of them with a record that stands apart."""
    return [make_job("tests.one", "x" * (3000 if n % 10 == 0 else 200)) for n in range(count)]


@pytest.fixture
def jobs(settings: Settings) -> list[JobRecord]:
    """Fill the file with jobs, of which 50 are done, and close it."""
    queue = queue_at(settings)
    jobs = jobs_of(500)
    queue.enqueue_many(jobs)
    queue.settle([make_settlement(one) for one in queue.claim(50, "worker")])
    queue.retire("worker")
    queue.stop()
    return jobs


def destroy(path: Path, page: int, size: int = 3000) -> None:
    with open(path, "r+b") as stream:
        stream.seek((page - 1) * PAGE)
        stream.write(random.Random(page).randbytes(size))


def first_page_of(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
    page = int(connection.execute(query, (table,)).fetchone()[0])
    connection.close()
    return page


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each look at a whole file is added."""
    found: list[str] = []
    connect = Database.connect

    def traced(db: Database) -> sqlite3.Connection:
        connection = connect(db)
        connection.set_trace_callback(lambda text: found.extend({QUICK_CHECK} & {text}))
        return connection

    monkeypatch.setattr(Database, "connect", traced)
    return found


# ---- the look at the start of a worker -----------------------------------------------------


def test_worker_does_not_start_on_a_damaged_file(
    settings: Settings, path: Path, jobs: list[JobRecord]
) -> None:
    left = queue_at(settings)
    left.enqueue(make_job())  # its log and a worker's place stay behind, as after a death
    WorkerLock.acquire(left.store.db.directory, "dead").abandon()
    destroy(path, first_page_of(path, "attempts_of_job"))
    before = path.read_bytes()
    queue = queue_at(settings)
    with pytest.raises(BackendUnavailable, match="damaged") as raised:
        queue.start()
    assert "nuvom doctor --salvage" in raised.value.fix
    assert before == path.read_bytes()
    queue.stop()
    left.stop()


# ---- nothing is written any more ---------------------------------------------------------------


def meet_damage(settings: Settings) -> SQLiteJobQueue:
    """Return a queue that has met damage in the index of queues and priorities."""
    destroy(settings.db_path, first_page_of(settings.db_path, "jobs_ready"))
    queue = queue_at(settings)
    with pytest.raises(BackendUnavailable, match="damaged"):
        queue.claim(10, "worker")
    return queue


@pytest.mark.usefixtures("jobs")
def test_who_opens_the_file_next_writes_nothing_either(
    settings: Settings, looks: list[str]
) -> None:
    meet_damage(settings).stop()
    other = queue_at(settings)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="nothing is written to it"):
            other.enqueue(make_job())
    assert 2 == len(looks)
    other.stop()


@pytest.mark.usefixtures("jobs")
def test_all_goes_on_with_a_backup_in_its_place(
    settings: Settings, path: Path, looks: list[str]
) -> None:
    backup = path.read_bytes()
    meet_damage(settings).stop()
    path.write_bytes(backup)
    Path(f"{path}-wal").unlink(missing_ok=True)
    for _ in range(2):
        queue = queue_at(settings)
        queue.enqueue(make_job())
        queue.stop()
    assert 1 == len(looks)  # once is enough


# ---- salvage ------------------------------------------------------------------------------------


def saved_in(target: Path) -> dict[str, int]:
    """Return the status of each job in a file, by its id."""
    queue = SQLiteJobQueue(Settings(root=target.parent, sqlite_path=str(target)))
    try:
        found: dict[str, int] = {}
        before = None
        while page := queue.page(before=before, limit=1000):
            found |= {one.record.id: len(bytes(one.record.args)) for one in page}
            before = page[-1].record.id
        return found
    finally:
        queue.stop()


@pytest.fixture
def target(project: Path) -> Path:
    return project / "saved.db"


def test_jobs_that_are_only_in_the_log_are_copied_too(
    settings: Settings, path: Path, target: Path, jobs: list[JobRecord]
) -> None:
    queue = queue_at(settings)
    late = make_job()
    queue.enqueue(late)
    assert 501 == salvage(path, target).jobs
    assert late.id in saved_in(target)
    queue.stop()


def test_each_page_costs_its_own_jobs_alone(
    path: Path, target: Path, jobs: list[JobRecord]
) -> None:
    """All but one of the jobs' own pages hold a few jobs each; the lost ones are counted."""
    raw, ids = path.read_bytes(), {one.id for one in jobs}
    roots = {first_page_of(path, "jobs"), first_page_of(path, "payloads")}
    for page in range(2, len(raw) // PAGE + 1, 7):
        path.write_bytes(raw)
        destroy(path, page)
        found = salvage(path, target)
        saved = saved_in(target)
        assert len(saved) == found.jobs == 500 - found.lost, page
        assert saved.keys() <= ids
        assert page in roots or found.lost <= 60, page
        target.unlink()


def test_new_file_goes_on_where_the_damaged_one_ended(
    settings: Settings, path: Path, target: Path, jobs: list[JobRecord]
) -> None:
    salvage(path, target)
    queue = SQLiteJobQueue(Settings(root=settings.root, sqlite_path=str(target)))
    queue.enqueue(make_job())
    claimed = queue.claim(1000, "worker")
    assert 451 == len(claimed)
    assert [True] * 451 == queue.settle([make_settlement(one) for one in claimed])
    queue.stop()
