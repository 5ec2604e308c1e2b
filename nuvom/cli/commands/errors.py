"""``nuvom errors``: failures by cause; run a whole group again, or remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nuvom.cli.base import Group
from nuvom.cli.completion import fingerprints
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.opening import reader, writer
from nuvom.cli.prompts import confirm, dry_run_option, yes_option
from nuvom.cli.shapes import error_data, group_data, id_cell, job_data, jobs_table, moment_cell
from nuvom.cli.tables import Cell, Column, Table
from nuvom.cli.text import clean
from nuvom.core.record import JobStatus
from nuvom.errors import FailureNotFound, plural

if TYPE_CHECKING:
    from nuvom.core.views import ErrorGroup
    from nuvom.inspection import Inspector

LIST_SCHEMA = "nuvom.errors/1"
SHOW_SCHEMA = "nuvom.error_group/1"
CHANGE_SCHEMA = "nuvom.error_change/1"
_MOST_GROUPS = 1000


@click.group(name="errors", cls=Group, default="list")
def errors_() -> None:
    """Show failures by cause; retry or discard them."""


@errors_.command(name="list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most.")
@pass_invocation
def list_(invocation: Invocation, limit: int) -> None:
    """Show FAILED and DEAD jobs in groups of one cause, latest first."""
    runtime, inspector = reader(invocation)
    groups = inspector.error_groups(limit)
    if invocation.out.as_json:
        invocation.out.json(LIST_SCHEMA, {"errors": [group_data(group) for group in groups]})
        return
    invocation.out.table(_table(groups, runtime.clock.now()), empty="No job has failed.")
    if groups:
        invocation.out.hint("More of one: nuvom errors show FINGERPRINT")


def _table(groups: list[ErrorGroup], now: float) -> Table:
    columns = [
        Column("Fingerprint", stretch=True),
        Column("Jobs", right=True),
        Column("Task", stretch=True),
        Column("Error", stretch=True),
        Column("Last", right=True),
        Column("Example"),
    ]
    rows: list[list[Cell | str]] = [
        [
            group.fingerprint,
            Cell(str(group.count), "red"),
            group.func_name,
            f"{group.type}: {group_data(group)['message']}",
            moment_cell(group.last_at, now),
            id_cell(group.example_id),
        ]
        for group in groups
    ]
    return Table(columns, rows)


@errors_.command()
@click.argument("fingerprint", shell_complete=fingerprints)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Jobs.")
@pass_invocation
def show(invocation: Invocation, fingerprint: str, limit: int) -> None:
    """Show one group: its jobs, and the traceback of the newest."""
    runtime, inspector = reader(invocation)
    group = _find(inspector, fingerprint)
    snapshots = [
        inspector.snapshot(job_id) for job_id in inspector.failed_ids(group.fingerprint)[:limit]
    ]
    newest = error_data(snapshots[0].error, traceback=True) if snapshots else None
    out = invocation.out
    if out.as_json:
        jobs = [job_data(snapshot) for snapshot in snapshots]
        out.json(SHOW_SCHEMA, {**group_data(group), "newest": newest, "jobs": jobs})
        return
    out.table(jobs_table(snapshots, runtime.clock.now()))
    if newest is not None:
        out.lines(["", *clean(newest["traceback"] or _in_a_line(newest)).rstrip().split("\n")])
    out.hint(f"Run all of them again: nuvom errors retry {group.fingerprint}")


@errors_.command()
@click.argument("fingerprint", shell_complete=fingerprints)
@dry_run_option()
@pass_invocation
def retry(invocation: Invocation, fingerprint: str, *, dry_run: bool) -> None:
    """Run all jobs of one group again."""
    runtime, inspector = writer(invocation)
    ids = inspector.failed_ids(_find(inspector, fingerprint).fingerprint)
    done = [
        job_id
        for job_id in ids
        if not dry_run and runtime.control.retry(job_id) in (JobStatus.FAILED, JobStatus.DEAD)
    ]
    _tell(invocation, "retry", done if not dry_run else ids, dry_run=dry_run)


@errors_.command()
@click.argument("fingerprint", shell_complete=fingerprints)
@yes_option()
@dry_run_option()
@pass_invocation
def discard(invocation: Invocation, fingerprint: str, *, yes: bool, dry_run: bool) -> None:
    """Remove all jobs of one group for good."""
    runtime, inspector = writer(invocation)
    ids = inspector.failed_ids(_find(inspector, fingerprint).fingerprint)
    if not dry_run:
        confirm(invocation, f"Remove {plural(len(ids), 'failed job')} for good", yes=yes)
        ids = [job_id for job_id in ids if runtime.control.discard(job_id)]
    _tell(invocation, "discard", ids, dry_run=dry_run)


def _in_a_line(error: dict[str, str | None]) -> str:
    """Return what failed where there is no traceback: a child process that was killed."""
    return f"{error['type']}: {error['message']}"


def _find(inspector: Inspector, text: str) -> ErrorGroup:
    groups = inspector.error_groups(_MOST_GROUPS)
    exact = [group for group in groups if group.fingerprint == text]
    found = exact or [group for group in groups if group.fingerprint.startswith(text)]
    if len(found) != 1:
        raise FailureNotFound(text, [group.fingerprint for group in found or groups])
    return found[0]


def _tell(invocation: Invocation, action: str, ids: list[str], *, dry_run: bool) -> None:
    if invocation.out.as_json:
        data = {"action": action, "jobs": ids, "dry_run": dry_run}
        invocation.out.json(CHANGE_SCHEMA, data)
        return
    verb = {"retry": "run again", "discard": "removed"}[action]
    would = "would be " if dry_run else ""
    invocation.out.text(f"{plural(len(ids), 'job')} {would}{verb}.")
