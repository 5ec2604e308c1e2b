"""Runs ``nuvom demo``: its own store, a worker in this process, and 24 jobs shown live."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.cli import exit_codes, views
from nuvom.cli.commands.scaffold import write_project
from nuvom.cli.output import duration, one_line, quoted
from nuvom.config.sources import load
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.errors import plural
from nuvom.execution.attempts import current_job
from nuvom.inspection import Inspector
from nuvom.runtime import Runtime, build_runtime, use_runtime
from nuvom.task import task
from nuvom.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nuvom.cli.context import Invocation
    from nuvom.cli.output import Output, Stream
    from nuvom.core.record import JobSnapshot
    from nuvom.job import Job

    Show = Callable[[Sequence[JobSnapshot]], None]

DELAY_SECS = 3.0
SQUARES = 16
CRUNCHES = (1.0, 1.5, 2.0, 2.5)
STEPS = 20
LIMIT_SECS = 30.0  # normally about four; the machine may be very busy
_PAUSE_SECS = 0.1
_BAR = 14
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
    """Sixteen quick calls."""
    return number * number


@task(name="demo.crunch")
def crunch(secs: float) -> str:
    """Long work, with progress."""
    job = current_job()
    for step in range(STEPS):
        job.progress(step, STEPS, "crunching")
        SYSTEM_CLOCK.sleep(secs / STEPS)
    job.progress(STEPS, STEPS, "done")
    return f"crunched for {secs:g} s"


@task(name="demo.fetch")
async def fetch(secs: float) -> str:
    """Async, on the event loop."""
    await asyncio.sleep(secs)
    return "fetched"


@task(name="demo.flaky", retries=3, retry_delay_secs=1, backoff="constant", jitter=False)
def flaky() -> str:
    """Fails once, works when retried."""
    if current_job().attempt == 1:
        raise ConnectionError("the line is down")
    return "the line is up"


@task(name="demo.later")
def later() -> str:
    """Starts three seconds later."""
    return "right on time"


@task(name="demo.broken")
def broken() -> None:
    """Fails, and says why."""
    raise NoPaperError("the printer has no paper")


TASKS = (square, crunch, fetch, flaky, later, broken)


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


# ---- the run ----------------------------------------------------------------------------


def run(invocation: Invocation, keep: Path | None) -> int:
    """Run the demo; return 0 if every job ended as expected, else 1.

    Raises: BackendUnavailable, StorageFull: the folder cannot be written.
    """
    if keep is not None:
        root = keep.absolute()
        list(write_project(root, force=False))
        return _run_in(invocation, root, is_kept=True)
    with TemporaryDirectory(prefix="nuvom-demo-", ignore_cleanup_errors=True) as folder:
        return _run_in(invocation, Path(folder).resolve(), is_kept=False)


def _run_in(invocation: Invocation, root: Path, *, is_kept: bool) -> int:
    # Neither the environment nor a file may change the demo.
    runtime = build_runtime(load(root, overrides={"task_import": "lazy"}, environ={}))
    before = use_runtime(runtime)
    worker = Worker(runtime, threads=4)
    started = runtime.clock.monotonic()
    try:
        worker.start()
        try:
            expected = enqueue()
            with _shown_in(invocation.out) as show:
                snapshots = _watch(runtime, expected, show)
        finally:
            worker.stop()
            worker.join()
    finally:
        runtime.stop()
        use_runtime(before)
    pairs = list(zip(expected, snapshots, strict=True))
    is_good = all(one.is_met_by(snapshot) for one, snapshot in pairs)
    secs, kept = runtime.clock.monotonic() - started, root if is_kept else None
    if invocation.out.as_json:
        jobs = [_job_data(one, snapshot) for one, snapshot in pairs]
        data = {"ok": is_good, "secs": round(secs, 3), "folder": kept, "jobs": jobs}
        invocation.out.json("nuvom.demo/1", data)
    else:
        _report(invocation.out, pairs, secs, kept)
    return exit_codes.OK if is_good else exit_codes.FAILED


def _watch(runtime: Runtime, expected: list[Expected], show: Show) -> list[JobSnapshot]:
    """Show the jobs until all have ended or time runs out; return their final snapshots."""
    inspector, clock = Inspector(runtime), runtime.clock
    deadline = clock.monotonic() + LIMIT_SECS
    while True:
        snapshots = [inspector.snapshot(one.job_id) for one in expected]
        show(snapshots)
        if all(one.status.is_final for one in snapshots) or clock.monotonic() > deadline:
            return snapshots
        clock.sleep(_PAUSE_SECS)


def _job_data(one: Expected, snapshot: JobSnapshot) -> dict[str, Any]:
    return {
        "id": one.job_id,
        "func_name": one.task,
        "status": str(snapshot.status),
        "expected": str(one.status),
        "attempt": snapshot.record.attempt,
        "ok": one.is_met_by(snapshot),
        "error": views.error_data(snapshot.error),
    }


def _report(
    out: Output, pairs: Sequence[tuple[Expected, JobSnapshot]], secs: float, kept: Path | None
) -> None:
    wrong = [(one, snapshot) for one, snapshot in pairs if not one.is_met_by(snapshot)]
    for one, snapshot in wrong:
        out.error(f"{one.task} ended {snapshot.status}, expected {one.status}")
    if not wrong:
        out.text(f"\n{plural(len(pairs), 'job')} ended as expected, in {duration(secs)}.")
    if out.quiet:
        return
    out.text("\nYour turn:")
    steps = list(_NEXT_STEPS.items())
    if kept is not None:
        steps[0] = (f"cd {quoted(kept)}", "your project, with the jobs of this demo")
    wide = max(len(command) for command, _ in steps)
    for command, meaning in steps:
        padded = out.out.paint(command.ljust(wide), "bold")
        out.lines([f"  {padded}  {out.out.paint(meaning, 'dim')}"])


# ---- display ----------------------------------------------------------------------------


@contextmanager
def _shown_in(out: Output) -> Iterator[Show]:
    """Provide the display of jobs: live bars on a terminal, else a line for each that ends."""
    stream, told = out.out, set[str]()

    def lines(snapshots: Sequence[JobSnapshot]) -> None:
        for one in snapshots:
            if one.status.is_final and one.record.id not in told:
                told.add(one.record.id)
                line = f"{one.record.func_name:<12} {one.status} after attempt {one.record.attempt}"
                why = f": {views.error_text(one.error)}" if one.error is not None else ""
                out.lines([one_line(line + why)])

    if out.as_json or out.quiet:
        yield lambda _: None
    elif out.plain or not stream.is_terminal:
        yield lines
    else:
        with _bars(stream) as bars:
            yield bars


@contextmanager
def _bars(stream: Stream) -> Iterator[Show]:
    """Provide a display that redraws a line for each task: what it shows, and its progress."""
    from rich.console import Console  # noqa: PLC0415  # only where something is drawn
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415  # likewise

    console = Console(
        file=stream.raw,
        color_system="auto" if stream.has_color else None,
        no_color=not stream.has_color,
    )
    texts = (TextColumn(f"{{task.fields[{field}]}}", markup=False) for field in ("shows", "status"))
    bar = BarColumn(bar_width=_BAR, complete_style="green", finished_style="green")
    name = TextColumn("{task.description}", markup=False)
    with Progress(name, next(texts), bar, next(texts), console=console, auto_refresh=False) as bars:
        ids = {
            one.name: bars.add_task(
                one.name, total=1.0, shows=(one.func.__doc__ or "").rstrip("."), status=""
            )
            for one in TASKS
        }

        def draw(snapshots: Sequence[JobSnapshot]) -> None:
            for task_name, line in ids.items():
                own = [one for one in snapshots if one.record.func_name == task_name]
                share = sum(map(_share, own)) / len(own)
                bars.update(line, completed=share, status=group_text(own))
            bars.refresh()

        yield draw


def _share(snapshot: JobSnapshot) -> float:
    """Return a job's progress, from 0 to 1."""
    if snapshot.status.is_final:
        return 1.0
    if snapshot.progress is None or not snapshot.progress[1]:
        return 0.0
    return min(1.0, snapshot.progress[0] / snapshot.progress[1])


def group_text(own: Sequence[JobSnapshot]) -> str:
    """Return a summary of all jobs of one task."""
    if len(own) > 1:
        done = sum(one.status is JobStatus.SUCCESS for one in own)
        return f"{done} of {len(own)} SUCCESS"
    (one,) = own
    attempt = one.record.attempt
    if one.status is JobStatus.PENDING and attempt:
        return f"PENDING, retry {attempt}"
    if one.status is JobStatus.SUCCESS and attempt > 1:
        return f"SUCCESS, attempt {attempt}"
    if one.status.is_final and one.error is not None:
        return one_line(f"{one.status}: {one.error.type}")
    return one_line(views.status_text(one, SYSTEM_CLOCK.now()))
