"""Tasks that are closed, and programs that are interrupted, while they call the engine.

A closed attempt ends by an exception in its thread, an interrupted program by one in its main
thread; either may come at any line. Nothing that was accepted may be lost by it, no lock may
stay taken, and the worker and all other processes go on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nuvom import Job, JobCancelled, JobFailed, JobTimeout
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobSnapshot, JobStatus
from nuvom.errors import ResultError
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.runtime import Runtime
from nuvom.testing import make_job, make_settlement
from nuvom.testing.faults import Victim, can_term
from nuvom.worker import Worker
from tests.reliability import interrupted_tasks
from tests.reliability.interrupted_tasks import LATER, endless, say
from tests.reliability.workspace import Workspace, children, wait_for

PROGRAM = "tests.reliability.interrupted"
HANG_SECS = 20.0  # longer than any call takes on a machine that is merely slow
MOST_WAIT_SECS = 1.0  # of a producer, whatever happens to others
SHUTDOWN_SECS = 0.5
MOST_STOP_SECS = 3.0  # beyond that, until the process is gone
LIMITS = (0.005, 0.06)  # between which the tasks' time limits are
CANCELLED_SECS = (0.0, 0.1)  # from the start of a task until it is cancelled
LINES = 10

pytestmark = pytest.mark.skipif(not can_term, reason="this system cannot ask a process to stop")


class Place:
    """A project with a worker and a producer, each a process.

    Args:
        is_slow: The longest wait that is promised is measured, not only that nothing hangs.
    """

    def __init__(self, workspace: Workspace, threads: int, *, is_slow: bool) -> None:
        self.workspace = workspace
        self.is_slow = is_slow
        self.threads = threads
        self._told = workspace.root / "told"
        self._told.mkdir()
        self._waits = workspace.root / "waits"
        self._log = workspace.root / "worker.log"
        shutil.copy(interrupted_tasks.__file__, workspace.root / "tasks.py")

    # ---- processes ----------------------------------------------------------------------

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """Have a worker of the command line, which leaves the accepted jobs alone."""
        path = os.pathsep.join(one for one in sys.path if one)
        words = ("runworker", "--threads", str(self.threads), "--queues", "default")
        with open(self._log, "wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "nuvom", *words],
                cwd=self.workspace.root,
                env={**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()

    @contextmanager
    def producer(self) -> Iterator[None]:
        """Have a process that enqueues all the time; fail when a call of it hangs."""
        orders = {"told": str(self._told / "producer"), "waits": str(self._waits)}
        child = start(self.workspace, "produce", **orders)
        assert next(child.said(), "") == "up", self.workspace.errors()
        yield
        child.term()
        assert child.wait(HANG_SECS), f"the producer hangs\n{self.workspace.errors()}"

    def stop(self, worker: subprocess.Popen[bytes]) -> float:
        """Ask the worker to stop while its tasks go on; return how long that took."""
        before = self.started()
        endless.map([(str(self._told),)] * self.threads)
        self.wait_for(lambda: len(self.started() - before) == self.threads, "no task starts")
        asked_at = SYSTEM_CLOCK.monotonic()
        worker.terminate()
        try:
            worker.wait(timeout=HANG_SECS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker does not stop\n{self.tail()}")
        assert worker.returncode == 128 + signal.SIGTERM
        return SYSTEM_CLOCK.monotonic() - asked_at

    # ---- what is seen of them -----------------------------------------------------------

    def started(self) -> set[str]:
        """Return the ids of the tasks whose code has made its first call."""
        return {one.name for one in self._told.iterdir() if one.stat().st_size} - {"producer"}

    def accepted(self) -> set[str]:
        """Return all ids that a call has returned."""
        return {line for one in self._told.iterdir() for line in one.read_text().split()}

    def longest_waits(self) -> tuple[int, float, float]:
        """Return how many calls the producer made, and the longest call and control flush."""
        pairs = [tuple(map(float, line.split())) for line in self._waits.read_text().splitlines()]
        return len(pairs), max(one for one, _ in pairs), max(one for _, one in pairs)

    def said(self) -> list[int]:
        """Return the numbers that the worker's log has of ``say``, in order."""
        return [int(one) for one in re.findall(r"said (\d+)", self._log.read_text())]

    def tail(self) -> str:
        """Return the end of the worker's log."""
        return self._log.read_text(errors="replace")[-5000:]

    def wait_for(self, is_so: Callable[[], object], otherwise: str) -> None:
        """Wait until something is so, as long as the worker is not taken to hang."""
        deadline = SYSTEM_CLOCK.monotonic() + HANG_SECS
        while not is_so():
            assert SYSTEM_CLOCK.monotonic() < deadline, f"{otherwise}\n{self.tail()}"
            SYSTEM_CLOCK.sleep(0.005)


# ---- closing --------------------------------------------------------------------------------


def close_by_limit(place: Place, count: int, rng: Random) -> None:
    """Run tasks until their time limit."""
    folder = str(place.workspace.root / "told")
    jobs = [endless.options(timeout_secs=rng.uniform(*LIMITS)).delay(folder) for _ in range(count)]
    for number, job in enumerate(jobs):
        error = error_of(place, job, number)
        assert isinstance(error, JobFailed), error
        assert error.type == "TimeoutError", error


def close_by_cancel(place: Place, count: int, rng: Random) -> None:
    """Run tasks without a time limit, and cancel each some time after it has started."""
    folder = str(place.workspace.root / "told")
    jobs = {job.id: job for job in (endless.delay(folder) for _ in range(count))}
    cancelled: set[str] = set()
    while len(cancelled) < count:
        place.wait_for(lambda: place.started() - cancelled, "no task starts any more")
        for job_id in place.started() - cancelled:
            SYSTEM_CLOCK.sleep(rng.uniform(*CANCELLED_SECS))
            assert jobs[job_id].cancel()
            cancelled.add(job_id)
    for number, job in enumerate(jobs.values()):
        assert isinstance(error_of(place, job, number), JobCancelled)


def error_of(place: Place, job: Job[Any], number: int) -> Exception:
    """Return what ``job.get()`` raises; fail when the job does not end."""
    try:
        job.get(timeout=HANG_SECS)
    except JobTimeout as error:
        pytest.fail(f"after {number} others: {error}\n{place.tail()}")
    except ResultError as error:
        return error
    pytest.fail(f"{job} has ended by itself")


def assert_log_goes_on(place: Place) -> None:
    """Check that jobs are done as before, and that each of them writes its line."""
    for number in range(LINES):
        assert say.delay(number).get(timeout=HANG_SECS) == number
    assert place.said() == list(range(LINES)), place.tail()


def assert_nothing_is_lost(accepted: set[str], workspace: Workspace, runtime: Runtime) -> int:
    """Check that all that was accepted is there and can be done; return how many they are."""
    lost = accepted - workspace.snapshots(runtime).keys()
    assert not lost, f"{len(lost)} of {len(accepted)} accepted jobs are gone"
    Worker(runtime, threads=2, queues=[LATER], burst=True).run()
    left = [one for one in workspace.snapshots(runtime).values() if is_open(one)]
    assert not left, f"{len(left)} of {len(accepted)} accepted jobs cannot be done: {left[:3]}"
    return len(accepted)


def is_open(found: JobSnapshot) -> bool:
    return found.record.queue == LATER and found.status not in (
        JobStatus.SUCCESS,
        JobStatus.CANCELLED,
    )


def prove(
    place: Place,
    figures: Callable[[str], None],
    close: Callable[[Place, int, Random], None],
    count: int,
) -> None:
    """Close ``count`` attempts while a producer is at work, and check what is left."""
    workspace = place.workspace
    with workspace.open() as runtime, place.worker() as worker:
        with place.producer():
            close(place, count, Random())
            assert_log_goes_on(place)
            secs = place.stop(worker)
        accepted = assert_nothing_is_lost(place.accepted(), workspace, runtime)
    calls, longest, control = place.longest_waits()
    figures(
        f"{count} attempts closed: {accepted} jobs accepted, 0 lost; the longest of {calls} calls "
        f"of a producer {longest:.3f} s, a flush at most {control:.3f} s; stopped in {secs:.2f} s"
    )
    most = MOST_WAIT_SECS + control if place.is_slow else HANG_SECS
    assert longest <= most, f"a producer waited for {longest:.3f} s"
    assert secs <= SHUTDOWN_SECS + (MOST_STOP_SECS if place.is_slow else HANG_SECS)
    workspace.assert_sound(runtime)


def start(workspace: Workspace, part: str, **orders: Any) -> Victim:
    """Start a process of ``interrupted.py`` at a workspace; it ends with the test at the latest."""
    child = Victim(
        PROGRAM,
        {"part": part, "root": str(workspace.root), **orders},
        folder=workspace.root,
        talks=True,
    )
    children.append(child)
    return child


backends = pytest.mark.parametrize("backend", ["sqlite", "file"])
at_length = (pytest.mark.slow, pytest.mark.timeout(600))


@backends
@pytest.mark.parametrize(
    ("close", "threads", "count"),
    [
        (close_by_limit, 1, 50),
        (close_by_limit, 4, 50),
        (close_by_cancel, 4, 20),
        pytest.param(close_by_limit, 1, 500, marks=at_length),
        pytest.param(close_by_limit, 4, 500, marks=at_length),
        pytest.param(close_by_cancel, 1, 200, marks=at_length),
        pytest.param(close_by_cancel, 4, 500, marks=at_length),
    ],
)
def test_closed_attempts_lose_nothing_and_lock_nobody_out(
    tmp_path: Path,
    figures: Callable[[str], None],
    *,
    backend: str,
    close: Callable[[Place, int, Random], None],
    threads: int,
    count: int,
) -> None:
    """With the full counts nobody is held up either."""
    workspace = Workspace(tmp_path, backend, {"shutdown_timeout_secs": SHUTDOWN_SECS})
    prove(Place(workspace, threads, is_slow=count > 50), figures, close, count)


# ---- Ctrl-C in a program that goes on -----------------------------------------------------------


def prove_interruptions(
    workspace: Workspace, figures: Callable[[str], None], seed: int, times: int, most_secs: float
) -> None:
    """Interrupt a program ``times`` times, and use its store from others while it is still up."""
    told = workspace.root / "told"
    program = start(workspace, "be_interrupted", seed=seed, times=times, told=str(told))
    found = answer_of(workspace, program, "interrupted.json", HANG_SECS + times * 0.2)
    used_secs = use(workspace)
    program.term()
    assert program.wait(HANG_SECS), f"the program does not end\n{workspace.errors()}"
    assert program.process.returncode == 0, workspace.errors()
    with workspace.open() as runtime:
        accepted = assert_nothing_is_lost(set(told.read_text().split()), workspace, runtime)
    before, after = found["before"], found["after"]
    figures(
        f"{times} interruptions: {accepted} jobs accepted, 0 lost; open files {len(before)} before "
        f"and {len(after)} after; enqueued, claimed and settled elsewhere in {used_secs:.3f} s; "
        f"{found['swallowed']} swallowed"
    )
    assert len(after) <= len(before), f"left open: {Counter(after) - Counter(before)}"
    assert used_secs <= most_secs
    workspace.assert_sound(runtime)


def use(workspace: Workspace) -> float:
    """Enqueue a job, claim and settle it in this process; return how long all of it took."""
    runtime = workspace.runtime()
    queue = runtime.queue
    assert isinstance(queue, LeasedJobQueue)
    queue.start()
    began = SYSTEM_CLOCK.monotonic()
    job = make_job("interrupted.used", queue="used")
    queue.enqueue(job)
    (claimed,) = queue.claim(1, "user", queues=["used"])
    assert claimed.id == job.id
    assert queue.settle([make_settlement(claimed, value=1)]) == [True]
    secs = SYSTEM_CLOCK.monotonic() - began
    runtime.stop()
    return secs


def answer_of(workspace: Workspace, child: Victim, name: str, limit_secs: float) -> dict[str, Any]:
    """Return what a process tells in a file."""
    path = workspace.root / name
    wait_for(lambda: path.exists() or not child.is_running, limit_secs, f"no {name}: it hangs")
    assert path.exists(), workspace.errors()
    answer: dict[str, Any] = json.loads(path.read_text())
    return answer


@backends
@pytest.mark.parametrize(
    ("times", "most_secs"),
    [(100, HANG_SECS), pytest.param(1000, MOST_WAIT_SECS, marks=at_length)],
)
def test_a_program_that_goes_on_after_ctrl_c_has_lost_and_locked_nothing(
    tmp_path: Path,
    figures: Callable[[str], None],
    seed: int,
    *,
    backend: str,
    times: int,
    most_secs: float,
) -> None:
    prove_interruptions(Workspace(tmp_path, backend), figures, seed, times, most_secs)
