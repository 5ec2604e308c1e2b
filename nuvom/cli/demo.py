"""Runs ``nuvom demo``: a store of its own, a worker in this process, 24 jobs, shown as they go."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.cli import exit_codes
from nuvom.cli.commands.scaffold import write_project
from nuvom.cli.output import duration, one_line, quoted
from nuvom.cli.views import STATUS_STYLES, error_data, error_text, status_text
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
LIMIT_SECS = 30.0  # it takes about four; a machine may be very busy
_PAUSE_SECS = 0.1
_BAR = 14
_NEXT_STEPS = {
    "nuvom init": "a tasks.py and a nuvom.toml to start from",
    "nuvom dev": "a worker that picks up your changes",
    "nuvom run add 2 3 --wait": "in a second terminal: prints 5",
    "nuvom history": "what has happened",
}


# ---- the tasks, one for each thing that is worth seeing ---------------------------------


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
    """A job of the demo, and how it has to end."""

    job_id: str
    task: str
    status: JobStatus = JobStatus.SUCCESS
    attempt: int = 1

    def is_met_by(self, snapshot: JobSnapshot) -> bool:
        """Return whether the job ended as it should."""
        return (snapshot.status, snapshot.record.attempt) == (self.status, self.attempt)


def enqueue() -> list[Expected]:
    """Store the jobs of the demo in the current runtime; return what is expected of each."""
    jobs: list[Job[Any]] = [*square.map([(number,) for number in range(SQUARES)])]
    jobs += [crunch.delay(secs) for secs in CRUNCHES]
    jobs += [later.options(delay=DELAY_SECS).delay(), fetch.delay(1.0)]
    expected = [Expected(job.id, job.func_name) for job in jobs]
    expected.append(Expected(flaky.delay().id, flaky.name, attempt=2))
    expected.append(Expected(broken.delay().id, broken.name, JobStatus.FAILED))
    return expected


# ---- the run ----------------------------------------------------------------------------


def run(invocation: Invocation, keep: Path | None) -> int:
    """Run the demo; return 0 if every job ended as it should, else 1.

    Raises: BackendUnavailable, StorageFull: the folder cannot be written.
    """
    if keep is not None:
        root = keep.absolute()
        list(write_project(root, force=False))
        return _run_in(invocation, root, is_kept=True)
    with TemporaryDirectory(prefix="nuvom-demo-", ignore_cleanup_errors=True) as folder:
        return _run_in(invocation, Path(folder).resolve(), is_kept=False)


def _run_in(invocation: Invocation, root: Path, *, is_kept: bool) -> int:
    # Neither the environment nor a file may turn the demo into something else.
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
    """Show the jobs until all have ended or the time is over; return how they are then."""
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
        "error": error_data(snapshot.error),
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


# ---- how it looks -----------------------------------------------------------------------


@contextmanager
def _shown_in(out: Output) -> Iterator[Show]:
    """Give what shows the jobs: a live table on a terminal, else a line for each that ends."""
    stream, told = out.out, set[str]()

    def lines(snapshots: Sequence[JobSnapshot]) -> None:
        for one in snapshots:
            if one.status.is_final and one.record.id not in told:
                told.add(one.record.id)
                line = f"{one.record.func_name:<12} {one.status} after attempt {one.record.attempt}"
                why = f": {error_text(one.error)}" if one.error is not None else ""
                out.lines([one_line(line + why)])

    if out.as_json or out.quiet:
        yield lambda _: None
    elif out.plain or not stream.is_terminal:
        yield lines
    else:
        from rich.console import Console  # noqa: PLC0415  # only where something is drawn
        from rich.live import Live  # noqa: PLC0415  # likewise

        console = Console(
            file=stream.raw,
            color_system="auto" if stream.has_color else None,
            no_color=not stream.has_color,
        )
        with Live(console=console, auto_refresh=False) as live:
            yield lambda snapshots: live.update(_drawn(stream, snapshots), refresh=True)


def _drawn(stream: Stream, snapshots: Sequence[JobSnapshot]) -> Any:  # noqa: ANN401  # a rich table
    """Return a table with a row for each task."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  # only where something is drawn
    from rich.table import Table  # noqa: PLC0415  # likewise
    from rich.text import Text  # noqa: PLC0415  # likewise

    done = sum(one.status.is_final for one in snapshots)
    table = Table(
        box=SIMPLE_HEAD if stream.has_unicode else None,
        show_edge=False,
        pad_edge=False,
        title=Text(f"{done} of {plural(len(snapshots), 'job')} ended", style="bold"),
        title_justify="left",
        border_style="dim",
    )
    for heading in ("Task", "Shows", "Progress"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Status", no_wrap=True, width=20)
    full, empty = ("━", "─") if stream.has_unicode else ("#", ".")
    for one in TASKS:
        own = [snapshot for snapshot in snapshots if snapshot.record.func_name == one.name]
        filled = round(sum(map(_share, own)) / len(own) * _BAR)
        has_failed = any(snapshot.status is JobStatus.FAILED for snapshot in own)
        bar = Text(full * filled, style="red" if has_failed else "green")
        bar.append(empty * (_BAR - filled), style="dim")
        text, style = group_text(own)
        shows = Text((one.func.__doc__ or "").rstrip("."), style="dim")
        table.add_row(one.name, shows, bar, Text(text, style=style))
    return table


def _share(snapshot: JobSnapshot) -> float:
    """Return how much of a job is done, from 0 to 1."""
    if snapshot.status.is_final:
        return 1.0
    if snapshot.progress is None or not snapshot.progress[1]:
        return 0.0
    return min(1.0, snapshot.progress[0] / snapshot.progress[1])


def group_text(own: Sequence[JobSnapshot]) -> tuple[str, str]:
    """Return a text and a style for all jobs of one task."""
    counts = Counter(str(one.status) for one in own)
    if len(own) > 1:
        done = counts["SUCCESS"]
        style = STATUS_STYLES["SUCCESS" if done == len(own) else "RUNNING"]
        return f"{done} of {len(own)} SUCCESS", style
    (one,) = own
    status, attempt = str(one.status), one.record.attempt
    text = status
    if status == "PENDING":
        text = status_text(one, SYSTEM_CLOCK.now())
        text = f"PENDING, retry {attempt}" if attempt else text
    elif status == "SUCCESS" and attempt > 1:
        text = f"SUCCESS, attempt {attempt}"
    elif one.error is not None:
        text = f"{status}: {one.error.type}"
    return one_line(text), STATUS_STYLES[status]
