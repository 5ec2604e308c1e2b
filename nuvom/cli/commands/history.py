"""``nuvom history recent``: the newest jobs."""

from __future__ import annotations

import click

from nuvom.cli.base import Group
from nuvom.cli.completion import queues, tasks
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.known_tasks import full_name, manifest_or_nothing
from nuvom.cli.opening import reader
from nuvom.cli.shapes import job_data, jobs_table
from nuvom.core.record import JobStatus

SCHEMA = "nuvom.jobs/1"
STATUSES = tuple(str(status) for status in JobStatus)


@click.group(cls=Group, default="recent")
def history() -> None:
    """Show the newest jobs."""


@history.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most.")
@click.option(
    "-s",
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES, case_sensitive=False),
    shell_complete=lambda _ctx, _param, text: [s for s in STATUSES if s.startswith(text.upper())],
    help="Only jobs of this status; may be given several times.",
)
@click.option("--queue", metavar="NAME", shell_complete=queues, help="Only jobs of this queue.")
@click.option("--task", metavar="TASK", shell_complete=tasks, help="Only jobs of this task.")
@pass_invocation
def recent(
    invocation: Invocation,
    *,
    limit: int,
    statuses: tuple[str, ...],
    queue: str | None,
    task: str | None,
) -> None:
    """Show the newest jobs, newest first."""
    runtime, inspector = reader(invocation)
    if task is not None:
        task = full_name(task, manifest_or_nothing(runtime.settings))
    found = inspector.page(
        statuses=[JobStatus(status) for status in statuses], queue=queue, task=task, limit=limit
    )
    out = invocation.out
    if out.as_json:
        out.json(SCHEMA, {"jobs": [job_data(snapshot) for snapshot in found]})
        return
    is_filtered = bool(statuses or queue or task)
    empty = "No such job." if is_filtered else "No job yet. Enqueue one: nuvom run TASK"
    out.table(jobs_table(found, runtime.clock.now()), empty=empty)
    if found:
        out.hint("More of one: nuvom inspect job ID")
