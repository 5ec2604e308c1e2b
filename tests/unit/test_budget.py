"""What a job may cost, in counted things: statements, transactions, calls, memory blocks.

Never in seconds: a busy machine changes no count. Each limit is today's figure and a fifth; a
change that needs more says why here. Modules loaded by ``import nuvom`` are counted in
``tests/test_architecture.py``.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.queue_backends.sqlite.store import SQLiteStore
from nuvom.task import Task
from nuvom.testing import make_job, make_settlement
from nuvom.worker import Worker
from tests.engine import Engine, make_runtime, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
JOBS = 1_000
BATCH = 200
OWNER = "budget-worker"

CALLS_OF_WORKER = 18  # counted: 15.5
CALLS_OF_DELAY = 34  # counted: 28.7
CALLS_OF_MAP = 4  # counted: 3.3
FILES_OF_JOB = 33  # entered between ``.delay()`` and the result of a warm job
FUNCTIONS_OF_JOB = 155  # counted: 132 to 150; which thread settles, and how it wakes, differs
BLOCKS_KEPT = 0.5  # for each job; what grows with their number keeps one at least


@pytest.fixture
def lean(project: Path) -> Iterator[Engine]:
    """Use an engine on SQLite that nobody listens to, as in production."""
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime, listens=False) as engine:
        yield engine


@pytest.fixture
def noop(lean: Engine) -> Task[[int], int]:
    def noop(number: int) -> int:
        return number

    found: Task[[int], int] = lean.task(noop)
    return found


@pytest.fixture
def queue(lean: Engine) -> SQLiteJobQueue:
    found = lean.runtime.queue
    assert isinstance(found, SQLiteJobQueue)
    return found


class Statements:
    """Every statement that a store's connections execute, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @property
    def transactions(self) -> list[str]:
        """Those that commit something: explicit ones, and single writing statements."""
        writing = ("BEGIN", "INSERT", "UPDATE", "DELETE")
        found, is_inside = [], False
        for text in self.seen:
            if not is_inside and text.startswith(writing):
                found.append(text)
            is_inside = (is_inside or text.startswith("BEGIN")) and not text.startswith("COMMIT")
        return found


@contextmanager
def watched(store: SQLiteStore) -> Iterator[Statements]:
    """Watch all connections that the store has open."""
    statements = Statements()
    store.db.open()
    store.db.read("SELECT 1")
    connections = [*store.db._readers, store.db._writer_connection()]
    assert len(connections) == 2
    for connection in connections:
        connection.set_trace_callback(lambda text: statements.seen.append(text.strip()))
    try:
        yield statements
        assert len(store.db._readers) == 1, "another connection was opened, and not watched"
    finally:
        for connection in connections:
            connection.set_trace_callback(None)


def test_a_batch_is_claimed_by_one_transaction_and_settled_by_another(
    queue: SQLiteJobQueue,
) -> None:
    queue.enqueue_many([make_job("tests.probe", number) for number in range(2 * BATCH)])
    first = queue.claim(BATCH, OWNER)  # what is done once in a process is done here
    queue.settle([make_settlement(job, value=1) for job in first])
    with watched(queue.store) as statements:
        jobs = queue.claim(BATCH, OWNER)
        claimed = len(statements.seen)
        accepted = queue.settle([make_settlement(job, value=1) for job in jobs])
    assert [True] * BATCH == accepted
    assert 2 == len(statements.transactions), statements.seen
    # To claim: look which queues have jobs (unless that was just done), claim, read back.
    assert claimed <= 3, statements.seen
    # To settle: one statement, or once a second a transaction with what is added to roll-ups.
    # Switching flushes on or off is one more, for either.
    assert len(statements.seen) <= 10, statements.seen


def test_a_single_call_is_one_statement(noop: Task[[int], int], queue: SQLiteJobQueue) -> None:
    noop.delay(0)
    with watched(queue.store) as statements:
        noop.delay(1)
    assert 1 == len(statements.seen), statements.seen


def test_many_calls_are_one_transaction_of_few_statements(
    noop: Task[[int], int], queue: SQLiteJobQueue
) -> None:
    noop.map([(0,)])
    with watched(queue.store) as statements:
        noop.map((number,) for number in range(JOBS))
    assert 1 == len(statements.transactions), statements.transactions
    # BEGIN, the number of the first job, the jobs, COMMIT.
    assert len(statements.seen) <= 4, [text[:60] for text in statements.seen]


def test_an_idle_worker_asks_little(queue: SQLiteJobQueue) -> None:
    queue.reap()
    with watched(queue.store) as statements:
        assert [] == queue.reap()  # four times in a second
        assert 1 == len(statements.seen), statements.seen
        assert 0 == queue.unpark(["tests.probe"])  # once in a second
        assert 2 == len(statements.seen), statements.seen


def test_a_sleep_without_news_costs_one_look(lean: Engine, queue: SQLiteJobQueue) -> None:
    loop = Worker(lean.runtime)._loop
    slots = loop.lanes["thread"]
    loop.start_lanes()
    wait_until(lambda: slots.free() > 0)
    loop.step()
    with watched(queue.store) as statements:
        for _ in range(3):
            assert loop.listens
            assert loop.step(has_news=False) > 0  # the wait itself begins with a look
    slots.stop()
    assert 3 == len(statements.seen), statements.seen  # when the next job is due


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return how many Python functions each part calls for one job, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.calls", str(tmp_path_factory.mktemp("project"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    counted: dict[str, float] = json.loads(done.stdout)
    return counted


def test_a_worker_makes_few_calls_for_each_job(calls: dict[str, float]) -> None:
    assert 1 < calls["worker"] <= CALLS_OF_WORKER


def test_a_single_call_makes_few_calls(calls: dict[str, float]) -> None:
    assert 1 < calls["delay"] <= CALLS_OF_DELAY


def test_many_calls_make_few_calls_for_each_item(calls: dict[str, float]) -> None:
    assert 1 < calls["map"] <= CALLS_OF_MAP


def test_a_job_goes_through_few_files_and_functions() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.warm_job"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    entered = json.loads(done.stdout)

    assert entered["files"] <= FILES_OF_JOB, entered
    assert entered["functions"] <= FUNCTIONS_OF_JOB, entered
    assert "" == done.stderr  # an exit of the interpreter is quiet, too


def test_a_worker_keeps_nothing_of_jobs_that_have_ended(
    lean: Engine, noop: Task[[int], int]
) -> None:
    def blocks_after_a_drain() -> int:
        noop.map((number,) for number in range(JOBS))
        lean.work()
        gc.collect()
        return sys.getallocatedblocks()

    blocks_after_a_drain()
    before = blocks_after_a_drain()
    after = min(blocks_after_a_drain() for _ in range(2))
    assert (after - before) / JOBS <= BLOCKS_KEPT
