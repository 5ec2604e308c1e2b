"""``nuvom queues`` and ``nuvom prune``: show and control queues, and remove old jobs."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.context import Group, Invocation, command
from nuvom.cli.output import Cell, Table
from nuvom.cli.params import confirm, dry_run_option, queue_names, span, yes_option
from nuvom.cli.project import known_queues, reader, writer
from nuvom.errors import QueueNotFound, plural
from nuvom.inspection.formats import duration
from nuvom.inspection.views import queue_data

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nuvom.inspection.inspector import Inspector
    from nuvom.runtime import Runtime

_name_argument = click.argument("name", shell_complete=queue_names)
_COUNTS = {
    "Ready": "ready",
    "Later": "scheduled",
    "Retry": "retrying",
    "Run": "running",
    "Parked": "parked",
}


@click.group(cls=Group, default="list")
def queues() -> None:
    """List queues; pause, resume or purge one."""


@queues.command(name="list")
def list_(invocation: Invocation) -> None:
    """List queues, with the number of their jobs and workers."""
    runtime, inspector = reader(invocation)
    now = runtime.clock.now()
    found = [
        queue_data(stats, now, inspector.workers_on(stats.queue)) for stats in inspector.stats()
    ]
    empty = "No queue has had a job yet."
    invocation.out.answer("nuvom.queues/1", {"queues": found}, queues_table(found), empty=empty)


def queues_table(queues: Iterable[dict[str, Any]]) -> Table:
    """Return queues, each as ``queue_data`` returns it, as a table."""
    numbers = (*_COUNTS, "Failed", "Oldest", "Workers")
    return Table(("Queue", *numbers, "Paused"), [_row(one) for one in queues], right=numbers)


def _row(one: dict[str, Any]) -> list[Cell | str]:
    oldest = one["oldest_ready_secs"]
    return [
        one["queue"],
        *(_count(one[key], is_bad=key == "parked") for key in _COUNTS.values()),
        _count(one["failed"] + one["dead"], is_bad=True),
        "-" if oldest is None else Cell(duration(oldest), "", str(oldest)),
        "?" if one["workers"] is None else str(one["workers"]),
        Cell("yes" if one["paused_by"] else "", "yellow", one["paused_by"] or ""),
    ]


def _count(count: int, *, is_bad: bool) -> Cell:
    return Cell(str(count), "dim" if not count else "red" if is_bad else "")


@queues.command()
@_name_argument
def pause(invocation: Invocation, name: str) -> None:
    """Start no more jobs of queue NAME until it is resumed; running jobs continue."""
    runtime, _ = _opened(invocation, name)
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    runtime.control.pause(name, by)
    _tell(invocation, name, "paused", by=by)
    invocation.out.hint(f"To resume it: nuvom queues resume {name}")


@queues.command()
@_name_argument
def resume(invocation: Invocation, name: str) -> None:
    """Start jobs of queue NAME again."""
    runtime, _ = _opened(invocation, name)
    changed = runtime.control.resume(name)
    _tell(invocation, name, "resumed" if changed else "was not paused")


@queues.command()
@_name_argument
@yes_option
@dry_run_option
def purge(invocation: Invocation, name: str, *, yes: bool, dry_run: bool) -> None:
    """Remove all waiting jobs of queue NAME. Running and finished jobs stay.

    You are asked to type the queue's name.
    """
    runtime, inspector = _opened(invocation, name)
    counts = [one.waiting + one.parked for one in inspector.stats() if one.queue == name]
    waiting = plural(sum(counts), "waiting job")
    if dry_run:
        _tell(invocation, name, f"would lose {waiting}", removed=0)
        return
    if any(counts):
        confirm(invocation, f"Remove {waiting} of queue {name}", yes=yes, word=name)
    removed = runtime.control.purge(name)
    _tell(invocation, name, f"purged, {plural(removed, 'job')} removed", removed=removed)


def _opened(invocation: Invocation, name: str) -> tuple[Runtime, Inspector]:
    """Open the store to change a queue. Raises: QueueNotFound."""
    runtime, inspector = writer(invocation)
    known = known_queues(inspector, runtime.settings)
    if name not in known:
        raise QueueNotFound(name, known)
    return runtime, inspector


def _tell(invocation: Invocation, name: str, change: str, **more: Any) -> None:  # further keys
    data = {"queue": name, "change": change, **more}
    invocation.out.answer("nuvom.queue_change/1", data, f"Queue {name}: {change}.")


@command()
@click.option(
    "--older-than", type=span, help="Use this age instead of the settings: 12h, 30d, 4w ..."
)
@yes_option
@dry_run_option
def prune(invocation: Invocation, *, older_than: float | None, yes: bool, dry_run: bool) -> None:
    """Remove jobs that ended long ago, with their results.

    Without --older-than the settings decide: result_ttl_secs for SUCCESS, failed_ttl_secs for
    FAILED, DEAD and CANCELLED. Workers also prune by themselves.
    """
    runtime, inspector = writer(invocation)
    now, settings = runtime.clock.now(), runtime.settings
    success = settings.result_ttl_secs if older_than is None else older_than
    failed = settings.failed_ttl_secs if older_than is None else older_than
    before = {"success_before": now - success, "failed_before": now - failed}
    count, removed = inspector.count_ended(**before), 0
    age = f"SUCCESS over {duration(success)}, others over {duration(failed)} old"
    if count and not dry_run:
        confirm(invocation, f"Remove {plural(count, 'job')} ({age})", yes=yes)
        with invocation.out.progress("Removing", "jobs", count, runtime.clock) as progress:
            removed = runtime.control.prune(**before, tell=progress.tell)
    data = {"found": count, "removed": removed, "dry_run": dry_run}
    done = "would be removed" if dry_run else "removed"
    shown = f"{plural(count if dry_run else removed, 'job')} {done} ({age})."
    invocation.out.answer("nuvom.prune/1", data, shown)
