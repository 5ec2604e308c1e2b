"""``nuvom workers``, ``runworker``, ``runscheduler`` and ``dev``: run, list and control them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import tables
from nuvom.cli.context import Group, Invocation, command
from nuvom.cli.output import Cell, Table
from nuvom.cli.params import queue_limits, queue_names, span, worker_ids
from nuvom.cli.project import reader, writer
from nuvom.errors import AmbiguousJob, Refused, WorkerNotFound
from nuvom.inspection import views
from nuvom.inspection.formats import duration

if TYPE_CHECKING:
    from nuvom.core.views import WorkerInfo
    from nuvom.inspection.inspector import Inspector

_STATE_STYLES = {
    "alive": "green",
    "quiet": "yellow",
    "stopping": "yellow",
    "stuck": "red",
    "silent": "red",
}
_COMMANDS = {
    "quiet": "take no more jobs and finish those it has",
    "resume": "take jobs again",
    "stop": "finish its jobs and stop, as the first Ctrl-C does",
    "stacks": "write the stacks of its threads to its log",
}
_COUNT = click.IntRange(1)
_threads_option = click.option("--threads", type=_COUNT, metavar="N", help="Slots for plain tasks.")
_exclude_option = click.option(
    "--exclude-queues", metavar="A,B", help="Serve all queues but these."
)
_no_scheduler_option = click.option(
    "--no-scheduler",
    is_flag=True,
    help="Leave schedules to other workers or to nuvom runscheduler.",
)
_log_format_option = click.option(
    "--log-format",
    type=click.Choice(("rich", "plain", "json", "logfmt")),
    help="Default: rich on a terminal, else plain.",
)


@click.group(cls=Group, default="list")
def workers() -> None:
    """List workers; quiet, stop or inspect one."""


@workers.command(name="list")
def list_(invocation: Invocation) -> None:
    """List running workers and schedulers, and those that have fallen silent."""
    runtime, inspector = reader(invocation)
    found, now = inspector.processes(), runtime.clock.now()
    other_code = inspector.other_code()
    rows: list[list[Cell | str]] = [
        [
            tables.id_cell(one.id),
            Cell(one.state, _STATE_STYLES.get(one.state, "")),
            str(one.pid),
            one.host,
            (", ".join(one.queues) or "all") if one.runs_jobs else "-",
            f"{one.running} of {one.slots}" if one.runs_jobs else "-",
            "yes" if one.scheduler else "-",
            tables.moment_cell(one.started_at, now),
            Cell(duration(one.beat_age_secs), "", f"{one.beat_age_secs:.3f}"),
            Cell(one.release or "-", "yellow" if one.id in other_code else "", one.release),
        ]
        for one in found
    ]
    columns = ("ID", "State", "Pid", "Host", "Queues", "Busy", "Schedules")
    numbers = ("Started", "Beat")
    titles, right = (*columns, *numbers, "Release"), ("Pid", "Busy", *numbers)
    table = Table(titles, rows, right=right, spared=("Started",))
    data = {"workers": [views.worker_data(one) for one in found]}
    empty = "0 workers alive. Start one: nuvom runworker"
    invocation.out.answer("nuvom.workers/1", data, table, empty=empty)
    for worker, name in other_code.items():
        text = f"Worker {views.short_id(worker)} runs other code than {name}: restart it."
        invocation.out.warn(text)


def _add_command(word: str, what: str) -> None:
    @workers.command(name=word, help=f"Tell a worker to {what}.")
    @click.argument("worker", metavar="[ID]", required=False, shell_complete=worker_ids)
    @click.option("--all", "every", is_flag=True, help="All workers of this project.")
    def tell(invocation: Invocation, worker: str | None, *, every: bool) -> None:
        if every == (worker is not None):
            raise click.UsageError("Give the ID of a worker, or --all.")
        runtime, inspector = writer(invocation)
        told = [one.id for one in _chosen(inspector, worker) if _can_obey(one, word, every=every)]
        for worker_id in told:
            if not runtime.control.command(worker_id, word):
                raise WorkerNotFound(worker_id)
        shown = "\n".join(f"Worker {worker_id} was told to {what}." for worker_id in told)
        data = {"command": word, "workers": told}
        invocation.out.answer("nuvom.worker_command/1", data, shown or "No worker is running.")


for _word, _what in _COMMANDS.items():
    _add_command(_word, _what)


def _can_obey(one: WorkerInfo, word: str, *, every: bool) -> bool:
    """Whether a process knows a command. Raises: Refused: it was named, and does not."""
    if one.obeys(word):
        return True
    if every:
        return False
    what = f"{views.short_id(one.id)} is a scheduler, which runs no jobs and only knows stop"
    raise Refused(what, "To keep a schedule from firing: nuvom schedule pause NAME")


def _chosen(inspector: Inspector, worker: str | None) -> list[WorkerInfo]:
    living = inspector.processes()
    if worker is None:
        return living
    found = [one for one in living if one.id.endswith(worker)]
    if not found:
        raise WorkerNotFound(worker)
    if len(found) > 1:
        raise AmbiguousJob(worker, [one.id for one in found])
    return found


# ---- workers in the foreground ----------------------------------------------------------
# The modules behind them are heavy (they import asyncio), and help does not need them.


@command()
@_threads_option
@click.option(
    "--processes",
    type=_COUNT,
    metavar="N",
    help="Worker processes; the other options apply to each of them.",
)
@click.option("--async-slots", type=_COUNT, metavar="N", help="Slots for async tasks.")
@click.option(
    "--queues",
    metavar="A,B",
    shell_complete=queue_names,
    help="Serve only these, in order of preference; default: all queues, also new ones.",
)
@_exclude_option
@click.option(
    "--concurrency",
    metavar="QUEUE=N",
    multiple=True,
    callback=queue_limits,
    help="Run at most N jobs of a queue at once; may be repeated.",
)
@click.option("--burst", is_flag=True, help="Stop when no job is ready and none is running.")
@click.option("--max-jobs", type=_COUNT, metavar="N", help="Stop after this many jobs.")
@click.option("--max-seconds", type=span, help="Stop after this long.")
@click.option("-b", "--batch", type=_COUNT, metavar="N", help="Claim at most N jobs at once.")
@click.option("--reload", "--dev", "reload", is_flag=True, help="Restart when code changes.")
@_no_scheduler_option
@_log_format_option
@click.option("--parent", type=int, hidden=True)  # process id of the supervisor
def runworker(invocation: Invocation, /, **options: Any) -> int:
    """Run jobs, and fire schedules, until you stop it.

    The first Ctrl-C or SIGTERM claims no more jobs, lets running ones finish within
    shutdown_timeout_secs and hands back the rest; the second stops at once. Exits 130 or 143
    after a signal, 0 when --burst, --max-jobs or --max-seconds ended it.

    SIGHUP restarts: with --processes one worker after the other, each once the next is up; a
    single worker finishes its jobs and starts again under the same process id.
    """
    is_reloading = options.pop("reload") and options["parent"] is None
    module = "nuvom.cli.reload" if is_reloading else "nuvom.cli.worker"
    code: int = import_module(module).serve(invocation, **options)
    return code


@command()
@_log_format_option
def runscheduler(invocation: Invocation, /, **options: Any) -> int:
    """Fire schedules until you stop it, without running jobs.

    Workers fire schedules as well, unless they run with --no-scheduler. Run as many of both as you
    like: no fire is made twice. Ctrl-C or SIGTERM ends it immediately: exit 130 or 143. SIGHUP
    restarts it under the same process id, with the settings read again.
    """
    code: int = import_module("nuvom.cli.worker").serve_scheduler(invocation, **options)
    return code


@command()
@_threads_option
@click.option("--queues", metavar="A,B", shell_complete=queue_names, help="Serve only these.")
@_exclude_option
@_no_scheduler_option
def dev(invocation: Invocation, /, **options: Any) -> int:
    """Run a worker that picks up changes to your code, and fires schedules.

    When a file changes, tasks are discovered again and a new worker takes the next job; a job
    that is running finishes on the old code. A syntax error is shown and changes nothing.

    With the extra nuvom[dashboard] it also serves the dashboard, for this machine alone, and
    prints the address.
    """
    code: int = import_module("nuvom.cli.reload").serve(invocation, shows=True, **options)
    return code
