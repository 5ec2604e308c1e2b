"""``nuvom queues``: how many jobs wait where; pause, resume and purge a queue."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.base import Group
from nuvom.cli.completion import queues as queue_names
from nuvom.cli.enqueueing import known_queues
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.known_tasks import manifest_or_nothing
from nuvom.cli.opening import reader, writer
from nuvom.cli.prompts import confirm, dry_run_option, yes_option
from nuvom.cli.shapes import queue_data
from nuvom.cli.tables import Cell, Column, Table
from nuvom.cli.text import duration
from nuvom.errors import QueueNotFound, plural

if TYPE_CHECKING:
    from nuvom.inspection import Inspector
    from nuvom.runtime import Runtime

LIST_SCHEMA = "nuvom.queues/1"
CHANGE_SCHEMA = "nuvom.queue_change/1"


@click.group(cls=Group, default="list")
def queues() -> None:
    """Show queues; pause, resume or purge one."""


@queues.command(name="list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """Show each queue's jobs by what they wait for, and its workers."""
    runtime, inspector = reader(invocation)
    now = runtime.clock.now()
    found = [
        queue_data(stats, now, inspector.workers_on(stats.queue)) for stats in inspector.stats()
    ]
    if invocation.out.as_json:
        invocation.out.json(LIST_SCHEMA, {"queues": found})
    else:
        invocation.out.table(_table(found), empty="No queue holds or held a job yet.")


def _table(found: list[dict[str, Any]]) -> Table:
    counts = ("ready", "scheduled", "retrying", "running", "parked")
    columns = [
        Column("Queue", stretch=True),
        *(Column(_HEADINGS.get(name, name.capitalize()), right=True) for name in counts),
        Column("Failed", right=True),
        Column("Oldest", right=True),
        Column("Workers", right=True),
        Column("Paused"),
    ]
    rows: list[list[Cell | str]] = []
    for one in found:
        oldest = one["oldest_ready_secs"]
        rows.append(
            [
                one["queue"],
                *(_count(one[key], key) for key in counts),
                _count(one["failed"] + one["dead"], "failed"),
                "-" if oldest is None else Cell(duration(oldest), "", str(oldest)),
                "?" if one["workers"] is None else str(one["workers"]),
                Cell("yes" if one["paused_by"] else "", "yellow", one["paused_by"] or ""),
            ]
        )
    return Table(columns, rows)


_HEADINGS = {"scheduled": "Later", "retrying": "Retry", "running": "Run"}


def _count(count: int, key: str) -> Cell:
    style = "red" if count and key in {"failed", "parked"} else "" if count else "dim"
    return Cell(str(count), style)


@queues.command()
@click.argument("name", shell_complete=queue_names)
@pass_invocation
def pause(invocation: Invocation, name: str) -> None:
    """Let no job of queue NAME start until it is resumed; running ones go on."""
    runtime, inspector = writer(invocation)
    _check_name(runtime, inspector, name)
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    runtime.control.pause(name, by)
    _tell(invocation, name, "paused", by=by)
    invocation.out.hint(f"To go on: nuvom queues resume {name}")


@queues.command()
@click.argument("name", shell_complete=queue_names)
@pass_invocation
def resume(invocation: Invocation, name: str) -> None:
    """Let jobs of queue NAME start again."""
    runtime, inspector = writer(invocation)
    _check_name(runtime, inspector, name)
    changed = runtime.control.resume(name)
    _tell(invocation, name, "resumed" if changed else "was not paused")


@queues.command()
@click.argument("name", shell_complete=queue_names)
@yes_option()
@dry_run_option()
@pass_invocation
def purge(invocation: Invocation, name: str, *, yes: bool, dry_run: bool) -> None:
    """Remove all waiting jobs of queue NAME. Running and ended ones stay.

    You are asked to type the queue's name.
    """
    runtime, inspector = writer(invocation)
    _check_name(runtime, inspector, name)
    waiting = sum(
        stats.waiting + stats.parked for stats in inspector.stats() if stats.queue == name
    )
    what = f"{plural(waiting, 'waiting job')} of queue {name}"
    if dry_run:
        _tell(invocation, name, f"would lose {plural(waiting, 'waiting job')}", removed=0)
        return
    if waiting:
        confirm(invocation, f"Remove {what}", yes=yes, word=name)
    removed = runtime.control.purge(name)
    _tell(invocation, name, f"purged, {plural(removed, 'job')} removed", removed=removed)


def _check_name(runtime: Runtime, inspector: Inspector, name: str) -> None:
    known = known_queues(inspector, manifest_or_nothing(runtime.settings))
    if name not in known:
        raise QueueNotFound(name, known)


def _tell(invocation: Invocation, name: str, change: str, **more: Any) -> None:  # further keys
    if invocation.out.as_json:
        invocation.out.json(CHANGE_SCHEMA, {"queue": name, "change": change, **more})
    else:
        invocation.out.text(f"Queue {name}: {change}.")
