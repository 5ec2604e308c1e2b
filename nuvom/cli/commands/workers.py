"""``nuvom workers``: which workers live; quiet, stop or look inside one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nuvom.cli.base import Group
from nuvom.cli.completion import workers as worker_ids
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.opening import reader, writer
from nuvom.cli.shapes import id_cell, moment_cell, worker_data
from nuvom.cli.tables import Cell, Column, Table
from nuvom.cli.text import duration
from nuvom.errors import AmbiguousJob, WorkerNotFound

if TYPE_CHECKING:
    from nuvom.core.views import WorkerInfo
    from nuvom.inspection import Inspector

LIST_SCHEMA = "nuvom.workers/1"
COMMAND_SCHEMA = "nuvom.worker_command/1"
_STATE_STYLES = {
    "alive": "green",
    "quiet": "yellow",
    "stopping": "yellow",
    "stuck": "red",
    "silent": "red",
}
_DONE = {
    "quiet": "will take no more jobs",
    "resume": "will take jobs again",
    "stop": "will finish its jobs and stop",
    "stacks": "will write the stacks of its threads to its log",
}


@click.group(cls=Group, default="list")
def workers() -> None:
    """Show workers; quiet, stop or look inside one."""


@workers.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """Show the workers that are not known to be dead."""
    runtime, inspector = reader(invocation)
    found = inspector.workers()
    if invocation.out.as_json:
        invocation.out.json(LIST_SCHEMA, {"workers": [worker_data(one) for one in found]})
        return
    invocation.out.table(
        _table(found, runtime.clock.now()), empty="0 workers alive. Start one: nuvom runworker"
    )


def _table(found: list[WorkerInfo], now: float) -> Table:
    columns = [
        Column("ID"),
        Column("State"),
        Column("Pid", right=True),
        Column("Host", stretch=True),
        Column("Queues", stretch=True),
        Column("Busy", right=True),
        Column("Started", right=True),
        Column("Beat", right=True),
    ]
    return Table(columns, [_row(one, now) for one in found])


def _row(worker: WorkerInfo, now: float) -> list[Cell | str]:
    return [
        id_cell(worker.id),
        Cell(worker.state, _STATE_STYLES.get(worker.state, "")),
        str(worker.pid),
        worker.host,
        ", ".join(worker.queues) or "all",
        f"{worker.running} of {worker.slots}",
        moment_cell(worker.started_at, now),
        Cell(duration(worker.beat_age_secs), "", f"{worker.beat_age_secs:.3f}"),
    ]


def _command(word: str, summary: str) -> None:
    @workers.command(name=word, help=summary)
    @click.argument("worker", metavar="[ID]", required=False, shell_complete=worker_ids)
    @click.option("--all", "every", is_flag=True, help="All workers of this project.")
    @pass_invocation
    def command(invocation: Invocation, worker: str | None, *, every: bool) -> None:
        if every == (worker is not None):
            raise click.UsageError("Give the ID of a worker, or --all.")
        runtime, inspector = writer(invocation)
        told = []
        for one in _chosen(inspector, worker):
            if not runtime.control.command(one.id, word):
                raise WorkerNotFound(one.id)
            told.append(one.id)
            if not invocation.out.as_json:
                invocation.out.text(f"Worker {one.id} {_DONE[word]}.")
        if invocation.out.as_json:
            invocation.out.json(COMMAND_SCHEMA, {"command": word, "workers": told})


_command("quiet", "Let a worker take no more jobs; it goes on with those it has.")
_command("resume", "Let a quiet worker take jobs again.")
_command("stop", "Let a worker finish its jobs and stop, as the first Ctrl-C does.")
_command("stacks", "Let a worker write the stacks of its threads to its log.")


def _chosen(inspector: Inspector, worker: str | None) -> list[WorkerInfo]:
    living = inspector.workers()
    if worker is None:
        return living
    found = [one for one in living if one.id.endswith(worker)]
    if not found:
        raise WorkerNotFound(worker)
    if len(found) > 1:
        raise AmbiguousJob(worker, [one.id for one in found])
    return found
