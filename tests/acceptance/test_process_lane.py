"""The process lane with real children: what it promises for every kind of misbehaviour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nuvom.core.record import JobStatus
from nuvom.errors import BackendUnavailable, JobCancelled, JobFailed
from nuvom.events import JobParked, JobStarted
from nuvom.execution import child_process, process_lane
from nuvom.host import platforms
from nuvom.job import Job
from nuvom.registry.registry import default_registry
from tests.acceptance import process_tasks as tasks
from tests.engine import LIMIT_SECS, Engine, claim_ahead, make_runtime, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="it is about signals")
linux = pytest.mark.skipif(not platforms.CAN_MEASURE, reason="no /proc to measure by")


@contextmanager
def lane(root: Path, *, slots: int = 1, **settings: Any) -> Iterator[Engine]:
    """Run a worker with ``slots`` for children, on a SQLite file."""
    given = {"queue_backend": "sqlite", "result_backend": "sqlite", **settings}
    runtime = make_runtime(root, durability="normal", **given)
    runtime = replace(runtime, registry=default_registry())
    with Engine(runtime) as engine, engine.worker(threads=slots) as worker:
        engine.worker_lane = worker._loop.lanes.get("process") or worker._loop._make("process")  # type: ignore[attr-defined]  # for tests that look inside
        yield engine


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    with lane(project) as engine:
        yield engine


def failure(job: Job[Any]) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        job.get(LIMIT_SECS)
    return caught.value


def secs_of(engine: Engine, job: Job[Any]) -> float:
    """Return how long the last attempt took, by what the store says."""
    snapshot = engine.runtime.queue.get(job.id)  # type: ignore[attr-defined]  # a leased queue
    return float(snapshot.finished_at - snapshot.started_at)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that is dead but not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        pass
    except OSError:
        return False
    if os.path.isdir("/proc/self"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def lines(path: str | Path) -> list[str]:
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


def wait_for_lines(path: str | Path, count: int = 1) -> list[str]:
    wait_until(lambda: len(lines(path)) >= count)
    return lines(path)


# ---- ordinary work --------------------------------------------------------------------


def test_task_runs_in_a_child_of_this_process(engine: Engine) -> None:
    pid, parent = tasks.whoami.delay().get(LIMIT_SECS)
    assert os.getpid() != pid
    assert os.getpid() == parent
    assert "process" == engine.events(JobStarted)[0].lane
    assert 3 == tasks.add_later.delay(1, 2).get(LIMIT_SECS)


def test_stacks_show_where_the_children_are(engine: Engine) -> None:
    job = tasks.sleep_and_tell.delay("seen", 60)
    wait_for_lines("seen")
    stacks = engine.worker_lane.stacks  # type: ignore[attr-defined]  # see lane()
    wait_until(lambda: "in sleep_and_tell" in stacks().get(job.id, ""))


def test_process_that_cannot_be_started_is_tried_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, starts = subprocess.Popen, []

    def fail_once(*args: Any, **options: Any) -> Any:
        starts.append(args)
        if len(starts) == 1:
            raise OSError("no room for a process")
        return start(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", fail_once)
    assert 3 == tasks.add.delay(1, 2).get(LIMIT_SECS)
    assert 2 == len(starts)


def test_work_is_given_up_with_the_reason_when_no_child_comes_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_START_WAITS_SECS", (0.0, 0.0))
    monkeypatch.setattr(child_process, "CHILD_PROGRAM", "raise SystemExit(9)")
    tasks.add.delay(1, 2)
    assert "exit code 9" in engine.wait_for(JobParked).reason


def test_no_more_is_claimed_than_children_can_start(project: Path) -> None:
    """Neither when the task is new, nor for the room that other lanes have."""
    with lane(project, slots=2) as engine, engine.worker(threads=2) as worker:
        claim_ahead(worker)
        queue: Any = engine.runtime.queue
        jobs = tasks.sleep_and_tell.map([("seen", 30)] * 40)
        engine.wait_until(lambda: worker.open_attempts == 2 and queue.qsize() == 36)
        whoami = tasks.whoami.delay()
        assert JobStatus.PENDING == jobs[39].status
        engine.wait_until(lambda: len(engine.events(JobStarted)) == 4)
        assert JobStatus.PENDING == whoami.status
        assert {0} == {job.attempt for job in jobs if job.status == "PENDING"}


# ---- deadlines ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("spin", "in spin"),
        ("block", "in block"),
        ("be_deaf", "in be_deaf"),
        ("catch_all", "in catch_all"),
        ("hold_the_gil", None),  # then the child cannot answer
        ("wait_for_nothing", "in wait_for_nothing"),
    ],
)
def test_attempt_is_closed_at_its_deadline_and_its_child_replaced(
    engine: Engine, name: str, place: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place is not None:  # it tells its stack, however long it takes on a busy machine
        monkeypatch.setattr(process_lane, "_STACK_SECS", LIMIT_SECS)
    pid = tasks.whoami.delay().get(LIMIT_SECS)[0]
    job = getattr(tasks, name).delay()
    error = failure(job)
    assert ("TimeoutError", "timed out after 0.5 s") == (error.type, error.text)
    assert 0.5 <= secs_of(engine, job)
    assert error.traceback is None if place is None else place in str(error.traceback)
    wait_until(lambda: not is_alive(pid))
    assert pid != tasks.whoami.delay().get(LIMIT_SECS)[0]


@posix
def test_code_may_tidy_up_before_it_is_killed(engine: Engine) -> None:
    failure(tasks.tidy_up.delay("tidied"))
    assert ["cancelled True"] == wait_for_lines("tidied")


@pytest.mark.slow
def test_worker_runs_quick_jobs_at_full_width_after_a_hundred_hung_ones(project: Path) -> None:
    with lane(project, slots=4) as engine:
        hung = tasks.spin.options(timeout_secs=0.05).map([()] * 100)
        assert {"TimeoutError"} == {failure(job).type for job in hung}
        jobs = tasks.sleep_and_tell.map([("seen", 1.0)] * 4)
        assert 4 == len(set(jobs.get(LIMIT_SECS)))
        wait_until(lambda: not engine.worker_lane.stuck())  # type: ignore[attr-defined]  # see lane()


@posix
def test_programs_that_the_code_started_end_with_it(engine: Engine) -> None:
    job = tasks.start_another.options(timeout_secs=0.5).delay("program")
    (pid,) = wait_for_lines("program")
    failure(job)
    wait_until(lambda: not is_alive(int(pid)))


# ---- ends of children -----------------------------------------------------------------


def test_exit_code_is_the_failure_of_that_job(engine: Engine) -> None:
    error = failure(tasks.leave.delay(3))
    assert ("WorkerChildDied", "exit code 3") == (error.type, error.text)
    assert 3 == tasks.add.delay(1, 2).get(LIMIT_SECS)


@posix
def test_child_that_closes_its_line_to_the_worker_is_ended(engine: Engine) -> None:
    assert "WorkerChildDied" == failure(tasks.close_all_files.delay()).type


@posix
def test_signal_is_the_failure_of_that_job(engine: Engine) -> None:
    error = failure(tasks.crash.delay())
    assert ("WorkerChildDied", "signal SIGSEGV") == (error.type, error.text)


@posix
def test_killed_child_fails_its_job_alone(project: Path) -> None:
    with lane(project, slots=2):
        jobs = [tasks.sleep_and_tell.delay(name, 1.5) for name in ("one", "two")]
        pid = int(wait_for_lines("one")[0])
        other = int(wait_for_lines("two")[0])
        os.kill(pid, signal.SIGKILL)
        assert "signal SIGKILL" == failure(jobs[0]).text
        assert other == jobs[1].get(LIMIT_SECS)


def test_lost_attempt_counts_and_is_tried_again(engine: Engine) -> None:
    job = tasks.leave_twice.delay("calls")
    assert 3 == job.get(LIMIT_SECS)
    assert 3 == len(lines("calls"))
    history = engine.runtime.queue.attempts(job.id)  # type: ignore[attr-defined]  # a leased queue
    assert ["failure", "failure", "success"] == [one.outcome for one in history]


@posix
def test_child_that_is_killed_while_idle_costs_no_job_anything(engine: Engine) -> None:
    for _ in range(5):
        os.kill(tasks.whoami.delay().get(LIMIT_SECS)[0], signal.SIGKILL)
        job = tasks.add.delay(1, 2)
        assert 3 == job.get(LIMIT_SECS)
        assert 1 == job.refresh().attempt


@linux
def test_child_that_takes_too_much_memory_is_killed(project: Path) -> None:
    limit = 200 << 20
    with lane(project, slots=2, max_memory_per_child=limit):
        neighbour = tasks.sleep_and_tell.delay("seen", 1.5)
        error = failure(tasks.swallow_memory.delay())
        assert "WorkerChildDied" == error.type
        assert f"max_memory_per_child is {limit}" in error.text
        assert int(wait_for_lines("seen")[0]) == neighbour.get(LIMIT_SECS)


def test_child_is_replaced_after_its_number_of_jobs(project: Path) -> None:
    with lane(project, max_jobs_per_child=2):
        pids = [tasks.whoami.delay().get(LIMIT_SECS)[0] for _ in range(6)]
    assert [2, 2, 2] == list(Counter(pids).values())
    wait_until(lambda: not any(map(is_alive, pids)))


# ---- what tasks raise and return ------------------------------------------------------


def test_exception_is_told_with_its_place_in_the_task(engine: Engine) -> None:
    job = tasks.raise_wrong_value.delay()
    error = failure(job)
    assert ("ValueError", "wrong") == (error.type, error.text)
    assert "process_tasks.py" in str(error.traceback)
    assert "execution/child.py" not in str(error.traceback)
    assert 1 == job.refresh().attempt  # discard_on: the real class decides


def test_task_steers_its_job_from_the_child(engine: Engine) -> None:
    assert "Discard" == failure(tasks.steer.delay("discard")).type
    assert "retry 2" == tasks.steer.delay("retry").get(LIMIT_SECS)
    assert "snooze 1" == tasks.steer.options(metadata={"a": 1}).delay("snooze").get(LIMIT_SECS)


def test_exit_of_the_task_is_a_failure_and_not_the_end_of_the_child(engine: Engine) -> None:
    pid = tasks.whoami.delay().get(LIMIT_SECS)[0]
    assert "SystemExit" == failure(tasks.raise_exit.delay()).type
    assert pid == tasks.whoami.delay().get(LIMIT_SECS)[0]


def test_result_that_is_too_large_or_not_storable_is_refused_in_the_child(project: Path) -> None:
    with lane(project, max_result_bytes=1000):
        assert 900 == len(tasks.return_bytes.delay(900).get(LIMIT_SECS))
        assert "ResultTooLarge" == failure(tasks.return_bytes.delay(2000)).type
        assert "NotStorable" == failure(tasks.return_lock.delay()).type


def test_large_arguments_and_results_pass(engine: Engine) -> None:
    assert 5 << 20 == len(tasks.return_bytes.delay(5 << 20).get(LIMIT_SECS))


# ---- what running code may ask --------------------------------------------------------


def test_progress_is_kept_and_lost_when_the_job_is(engine: Engine) -> None:
    job = tasks.report.delay("report")
    wait_for_lines("report")
    snapshot = engine.runtime.queue.get(job.id)  # type: ignore[attr-defined]  # a leased queue
    assert (3, 10, "three") == snapshot.progress
    Path("report.go").touch()
    assert "done" == job.get(LIMIT_SECS)


def test_progress_of_a_job_that_has_ended_is_not_that_of_the_next(engine: Engine) -> None:
    jobs = [tasks.report_for_the_first_job.delay() for _ in range(2)]
    assert [True, False] == [job.get(LIMIT_SECS) for job in jobs]


def test_jobs_are_enqueued_with_the_success_or_not_at_all(engine: Engine) -> None:
    child = tasks.enqueue_two.delay(fail=False).get(LIMIT_SECS)
    assert 3 == Job.load(child).get(LIMIT_SECS)
    failure(tasks.enqueue_two.delay(fail=True))
    wait_until(lambda: 0 == engine.runtime.queue.qsize())
    assert 2 == len([one for one in engine.events(JobStarted) if one.job.func_name.endswith("add")])


def test_delay_in_a_child_reaches_the_same_store(engine: Engine) -> None:
    assert 42 == Job.load(tasks.delay_another.delay().get(LIMIT_SECS)).get(LIMIT_SECS)


def test_delay_in_a_child_is_refused_where_only_the_worker_has_the_store(project: Path) -> None:
    with lane(project, queue_backend="memory", result_backend="memory"):
        error = failure(tasks.delay_another.delay())
        assert BackendUnavailable.__name__ == error.type
        assert "only the worker's own process has it" in error.text
        child = tasks.enqueue_two.delay(fail=False).get(LIMIT_SECS)
        assert 3 == Job.load(child).get(LIMIT_SECS)


def test_what_the_task_prints_goes_to_standard_error(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "" == tasks.speak.delay().get(LIMIT_SECS)
    out, err = capfd.readouterr()
    assert "" == out
    assert {
        "printed by the task",
        "written by the task",
        "logged by the task",
    } <= set(err.splitlines())


@posix
def test_forked_process_cannot_speak_to_the_worker(engine: Engine) -> None:
    assert 7 == tasks.fork_and_wait.delay().get(LIMIT_SECS)


def test_cancelled_job_is_killed_and_its_neighbour_is_not(project: Path) -> None:
    with lane(project, slots=2):
        jobs = [tasks.sleep_and_tell.delay(name, secs) for name, secs in (("a", 60), ("b", 3))]
        pid, _ = int(wait_for_lines("a")[0]), wait_for_lines("b")
        assert jobs[0].cancel()
        wait_until(lambda: not is_alive(pid))
        with pytest.raises(JobCancelled):
            jobs[0].get(LIMIT_SECS)
        assert int(lines("b")[0]) == jobs[1].get(LIMIT_SECS)


def test_cancel_never_hits_the_next_job_of_the_same_child(project: Path) -> None:
    with lane(project, slots=2):
        quick = tasks.sleep_and_tell.map([(f"q{n}", 0.02) for n in range(60)])
        done = 0
        for number, job in enumerate(quick):
            if number % 3 == 0:
                wait_until(lambda job=job: job.refresh().status is not JobStatus.PENDING)  # type: ignore[misc]  # mypy and defaults
                job.cancel()
        for job in quick:
            try:
                job.get(LIMIT_SECS)
                done += 1
            except JobCancelled:
                pass
        statuses = Counter(job.status for job in quick)
        assert {JobStatus.SUCCESS, JobStatus.CANCELLED} >= set(statuses)
        assert done >= 40


# ---- hooks ----------------------------------------------------------------------------


def test_hooks_run_in_the_worker_with_what_a_waiter_gets(engine: Engine) -> None:
    tasks.hooked.delay("fine").get(LIMIT_SECS)
    failure(tasks.hooked.delay("raise"))
    seen = [line.rsplit(" ", 1) for line in wait_for_lines("hooks", 4)]
    after, *befores, error = sorted(text for text, _ in seen)
    assert ("after 'fine'", ["before 1", "before 1"]) == (after, befores)
    assert error.startswith("error JobFailed(")
    assert "LookupError: nothing there" in error
    assert {str(os.getpid())} == {pid for _, pid in seen}


@pytest.mark.parametrize(
    ("how", "error"), [("leave", "WorkerChildDied('"), ("hang", "TimeoutError('timed out")]
)
def test_on_error_tells_why_the_child_is_gone(engine: Engine, how: str, error: str) -> None:
    failure(tasks.hooked.options(timeout_secs=0.5).delay(how))
    line = wait_for_lines("hooks", 2)[1]
    assert line.startswith(f"error {error}")
    assert line.endswith(f" {os.getpid()}")


# ---- tasks that cannot be had ---------------------------------------------------------


def test_task_that_a_child_cannot_find_is_parked_with_the_reason(engine: Engine) -> None:
    job = engine.task(lambda: 1, name="tests.inline", isolation="process").delay()
    reason = engine.wait_for(JobParked).reason
    assert "defined inside a function" in reason
    assert JobStatus.PARKED == job.refresh().status
    default_registry().unregister("tests.inline")
    assert 3 == tasks.add.delay(1, 2).get(LIMIT_SECS)


def test_task_is_found_by_its_place_when_its_module_names_it_otherwise(engine: Engine) -> None:
    job = engine.task(tasks.add.func, name="tests.renamed", isolation="process").delay(1, 2)
    assert 3 == job.get(LIMIT_SECS)
    default_registry().unregister("tests.renamed")


def test_task_whose_module_a_child_cannot_import_is_parked(
    engine: Engine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "fragile_tasks.py").write_text(
        "import os\nfrom nuvom import task\n"
        "if os.getenv('NUVOM_TEST_PARENT') != str(os.getpid()):\n    raise OSError('only there')\n"
        "@task(isolation='process')\ndef fragile(): ...\n"
    )
    monkeypatch.syspath_prepend(project)
    monkeypatch.setenv("NUVOM_TEST_PARENT", str(os.getpid()))
    import_module("fragile_tasks").fragile.delay()
    assert "OSError: only there" in engine.wait_for(JobParked).reason
    default_registry().unregister("fragile_tasks.fragile")
    del sys.modules["fragile_tasks"]


# ---- the end of the worker ------------------------------------------------------------


def test_stopped_worker_leaves_no_child(project: Path) -> None:
    before = set(threading.enumerate())
    with lane(project, slots=2):
        busy = tasks.sleep_and_tell.delay("seen", 60)
        pids = [tasks.whoami.delay().get(LIMIT_SECS)[0], int(wait_for_lines("seen")[0])]
    assert not any(map(is_alive, pids))
    assert JobStatus.PENDING == busy.refresh().status  # handed back
    wait_until(lambda: not any(map(is_ours, set(threading.enumerate()) - before)))


def is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("nuvom-child")


WORKER = """
import sys
from pathlib import Path
from dataclasses import replace
from importlib import import_module
from nuvom.registry.registry import default_registry
from nuvom.worker import Worker
from tests.acceptance import process_tasks
from tests.engine import make_runtime
from nuvom.runtime import use_runtime
runtime = make_runtime(Path.cwd(), queue_backend="sqlite", result_backend="sqlite")
runtime = replace(runtime, registry=default_registry())
use_runtime(runtime)
worker = Worker(runtime, threads=3)
if len(sys.argv) > 1:
    import signal
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    signal.signal(signal.SIGINT, lambda *_: worker.stop())
print(worker.run())
"""


@contextmanager
def worker_program(*args: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WORKER, *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, **options)
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


@contextmanager
def producer(root: Path) -> Iterator[Engine]:
    runtime = make_runtime(root, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime) as engine:
        yield engine


@posix
def test_no_child_outlives_a_killed_worker(project: Path) -> None:
    with producer(project), worker_program() as program:
        for name in ("spin", "hold_the_gil", "be_deaf"):
            getattr(tasks, name).options(timeout_secs=600).delay("running")
        pids = [int(line) for line in wait_for_lines("running", 3)]
        program.kill()
        wait_until(lambda: not any(map(is_alive, pids)))


@posix
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_all_processes_of_a_worker_lets_running_jobs_end(
    project: Path, signum: signal.Signals
) -> None:
    with producer(project), worker_program("stops", start_new_session=True) as program:
        job = tasks.sleep_and_tell.delay("seen", 1.5)
        child = int(wait_for_lines("seen")[0])
        os.kill(child, signum)
        os.killpg(program.pid, signum)
        assert "stopped\n" == program.communicate(timeout=LIMIT_SECS)[0]
        assert child == job.get(LIMIT_SECS)


SCRIPT = """
from nuvom import local_worker, task

@task(isolation="process")
def double(n: int) -> int:
    return 2 * n

{guard}
    with local_worker(threads=1):
        job = double.delay(21)
        try:
            print(job.get(timeout={limit}))
        except TimeoutError:
            print(job.refresh().status, job.id)
"""


@pytest.mark.parametrize(
    ("guard", "limit", "says"),
    [("if __name__ == '__main__':", 30, "42"), ("if True:", 3, "PARKED")],
)
def test_task_of_a_script_runs_in_children_in_which_the_script_starts_no_worker(
    project: Path, guard: str, limit: int, says: str
) -> None:
    Path("script.py").write_text(SCRIPT.format(guard=guard, limit=limit))
    done = subprocess.run(
        [sys.executable, "script.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith(says)
