"""Runs ``nuvom demo``: its own store, a worker in this process, and jobs, told as they end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nuvom.cli import exit_codes, tables
from nuvom.cli.commands.scaffold import write_project
from nuvom.cli.output import one_line, quoted
from nuvom.cli.project import dashboard_beside
from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.errors import plural
from nuvom.execution.attempts import current_job
from nuvom.inspection import views
from nuvom.inspection.formats import duration
from nuvom.inspection.inspector import Inspector
from nuvom.runtime import Runtime, build_runtime, use_runtime
from nuvom.scheduler.record import fire_of
from nuvom.task import task
from nuvom.worker import Worker

if TYPE_CHECKING:
    from nuvom.cli.context import Invocation
    from nuvom.cli.output import Output
    from nuvom.cli.project import ServedDashboard
    from nuvom.core.record import JobSnapshot
    from nuvom.job import Job
    from nuvom.scheduler.schedule import Schedule

DELAY_SECS = 3.0
SQUARES = 16
CRUNCHES = (1.0, 1.5, 2.0, 2.5)
STEPS = 20
FIRES, FIRE_SECS = 3, 1.0
LIMIT_SECS = 30.0  # normally about four; the machine may be very busy
_PAUSE_SECS = 0.1
_NEXT_STEPS = {
    "nuvom init": "a tasks.py and a nuvom.toml to start from",
    "nuvom dev": "a worker that picks up your changes",
    "nuvom run add 2 3 --wait": "in a second terminal: prints 5",
    "nuvom history": "what has happened",
}


# ---- the tasks, one for each feature to show --------------------------------------------


class NoPaperError(Exception):
    """What ``broken`` always raises."""


@task(name="demo.square")
def square(number: int) -> int:
    """Return quickly."""
    return number * number


@task(name="demo.crunch")
def crunch(secs: float) -> str:
    """Work for long, and report progress."""
    job = current_job()
    for step in range(STEPS):
        job.progress(step, STEPS, "crunching")
        SYSTEM_CLOCK.sleep(secs / STEPS)
    return f"crunched for {secs:g} s"


@task(name="demo.fetch")
async def fetch(secs: float) -> str:
    """Wait on the event loop."""
    await asyncio.sleep(secs)
    return "fetched"


@task(name="demo.flaky", retries=3, retry_delay_secs=1, backoff="constant", jitter=False)
def flaky() -> str:
    """Fail once, and succeed when retried."""
    if current_job().attempt == 1:
        raise ConnectionError("the line is down")
    return "the line is up"


@task(name="demo.later")
def later() -> str:
    """Start three seconds later."""
    return "right on time"


@task(name="demo.broken")
def broken() -> None:
    """Fail, and say why."""
    raise NoPaperError("the printer has no paper")


@task(name="demo.tick")
def tick() -> str:
    """Run at each fire of a schedule."""
    return "tick"


class Expected(NamedTuple):
    """A job of the demo, and how it must end."""

    job_id: str
    task: str
    status: JobStatus = JobStatus.SUCCESS
    attempt: int = 1

    def is_met_by(self, snapshot: JobSnapshot) -> bool:
        """Return whether the job ended as expected."""
        return (snapshot.status, snapshot.record.attempt) == (self.status, self.attempt)


def enqueue() -> list[Expected]:
    """Enqueue the demo's jobs in the current runtime; return the expected end of each."""
    jobs: list[Job[Any]] = [*square.map([(number,) for number in range(SQUARES)])]
    jobs += [crunch.delay(secs) for secs in CRUNCHES]
    jobs += [later.options(delay=DELAY_SECS).delay(), fetch.delay(1.0)]
    expected = [Expected(job.id, job.func_name) for job in jobs]
    expected.append(Expected(flaky.delay().id, flaky.name, attempt=2))
    expected.append(Expected(broken.delay().id, broken.name, JobStatus.FAILED))
    return expected


def start_schedule(now: float) -> Schedule:
    """Store a schedule that fires each second, ``FIRES`` times."""
    start, end = (
        datetime.fromtimestamp(now + fires * FIRE_SECS, UTC) for fires in (1, FIRES + 0.5)
    )
    return tick.schedule(name="demo-tick", interval=FIRE_SECS, start=start, end=end, misfire="all")


# ---- the run ----------------------------------------------------------------------------


def run(invocation: Invocation, keep: Path | None) -> int:
    """Run the demo; return 0 if every job ended as expected, else 1.

    Raises: BackendUnavailable, StorageFull: the folder cannot be written.
    """
    if keep is not None:
        root = keep.absolute()
        list(write_project(root, force=False))
        return _run_in(invocation.out, root, kept=root)
    with TemporaryDirectory(prefix="nuvom-demo-", ignore_cleanup_errors=True) as folder:
        return _run_in(invocation.out, Path(folder).resolve(), kept=None)


def _run_in(out: Output, root: Path, *, kept: Path | None) -> int:
    # Neither the environment nor a file may change the demo.
    runtime = build_runtime(load(root, overrides={"task_import": "lazy"}, environ={}))
    before = use_runtime(runtime)
    worker = Worker(runtime, threads=4, scheduler=True)
    with ExitStack() as stack:
        stack.callback(use_runtime, before)
        stack.callback(runtime.stop)
        worker.start()
        stack.callback(worker.join)
        stack.callback(worker.stop)
        return _toured(out, runtime, kept, _dashboard(out, runtime, stack))


def _dashboard(out: Output, runtime: Runtime, stack: ExitStack) -> ServedDashboard | None:
    """Serve the dashboard, if it is installed and somebody is there to look at it."""
    server = dashboard_beside(runtime) if _is_watched(out) else None
    if server is not None:
        stack.callback(server.stop)
        out.text(f"Dashboard: {server.sign_in_url}\n")
    return server


def _is_watched(out: Output) -> bool:
    is_terminal = out.out.is_terminal and sys.stdin is not None and sys.stdin.isatty()
    return is_terminal and not (out.as_json or out.quiet)


def _toured(
    out: Output, runtime: Runtime, kept: Path | None, dashboard: ServedDashboard | None
) -> int:
    """Run the jobs, tell how they ended, and return the exit code."""
    started = runtime.clock.monotonic()
    schedule, expected = start_schedule(runtime.clock.now()), enqueue()
    pairs = _watch(out, runtime, expected, schedule)
    secs = runtime.clock.monotonic() - started
    fired = len(pairs) - len(expected)
    is_good = fired == FIRES and all(one.is_met_by(snapshot) for one, snapshot in pairs)
    if out.as_json:
        jobs = [_job_data(one, snapshot) for one, snapshot in pairs]
        data = {"ok": is_good, "secs": round(secs, 3), "folder": kept, "jobs": jobs}
        counts = {"expected": FIRES, "fired": fired, "ok": fired == FIRES}
        told = {"name": schedule.name, "description": schedule.description, **counts}
        out.json("nuvom.demo/1", {**data, "schedule": told})
        return exit_codes.OK if is_good else exit_codes.FAILED
    for one, snapshot in pairs:
        if not one.is_met_by(snapshot):
            out.error(f"{one.task} ended {snapshot.status}, expected {one.status}")
    if fired != FIRES:
        out.error(f"the schedule {schedule.name} fired {fired} times, expected {FIRES}")
    if is_good:
        jobs_text = f"{plural(len(expected), 'job')} and {plural(fired, 'fire')} of a schedule"
        out.text(f"\n{jobs_text} ended as expected, in {duration(secs)}.")
    _show_next_steps(out, kept)
    if dashboard is not None:
        out.text("\nThe dashboard stays up until you press a key.")
        click.getchar()
    return exit_codes.OK if is_good else exit_codes.FAILED


def _watch(
    out: Output, runtime: Runtime, expected: list[Expected], schedule: Schedule
) -> list[tuple[Expected, JobSnapshot]]:
    """Show each job that ends, those of the schedule's fires included.

    Returns: when all have ended, or time has run out, all jobs that there are.
    """
    inspector, clock, shown = Inspector(runtime), runtime.clock, set[str]()
    deadline = clock.monotonic() + LIMIT_SECS
    while True:
        fires = [Expected(one.id, schedule.task) for one in schedule.refresh().jobs]
        pairs = [(one, inspector.snapshot(one.job_id)) for one in (*expected, *fires)]
        ended = [one for _, one in pairs if one.status.is_final]
        for one in ended:
            if one.record.id not in shown and not out.as_json and not out.quiet:
                out.text(_end_text(one), tables.STATUS_STYLES[one.status])
            shown.add(one.record.id)
        if len(ended) == len(expected) + FIRES or clock.monotonic() > deadline:
            return pairs
        clock.sleep(_PAUSE_SECS)


def _end_text(one: JobSnapshot) -> str:
    end = f"{one.record.func_name:<12} {one.status} after attempt {one.record.attempt}"
    schedule, _ = fire_of(one.record.headers)
    if schedule is not None:
        end = f"{end}, at a fire of {schedule}"
    return one_line(end if one.error is None else f"{end}: {views.error_text(one.error)}")


def _job_data(one: Expected, snapshot: JobSnapshot) -> dict[str, Any]:
    return {
        "id": one.job_id,
        "func_name": one.task,
        "status": str(snapshot.status),
        "expected": str(one.status),
        "attempt": snapshot.record.attempt,
        "schedule": fire_of(snapshot.record.headers)[0],
        "ok": one.is_met_by(snapshot),
        "error": views.error_data(snapshot.error),
    }


def _show_next_steps(out: Output, kept: Path | None) -> None:
    if out.quiet:
        return
    steps = dict(_NEXT_STEPS)
    if kept is not None:
        del steps["nuvom init"]
        steps = {f"cd {quoted(kept)}": "your project, with the jobs of this demo", **steps}
    out.text("\nNext steps:")
    out.fields(steps)
