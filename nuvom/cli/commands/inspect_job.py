"""``nuvom inspect job ID``: everything that is known of one job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.awaiting import value_text
from nuvom.cli.base import Command, Group
from nuvom.cli.completion import job_ids
from nuvom.cli.invocation import Invocation, pass_invocation
from nuvom.cli.jsonable import jsonable
from nuvom.cli.known_tasks import positional_names
from nuvom.cli.opening import reader
from nuvom.cli.shapes import (
    PARKED_HINT,
    STATUS_STYLES,
    attempt_data,
    error_data,
    id_cell,
    job_data,
    job_times,
    status_text,
)
from nuvom.cli.tables import Column, Table
from nuvom.cli.text import ago, clean, duration, one_line, rfc3339
from nuvom.core.text import mask_text
from nuvom.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.cli.output import Output
    from nuvom.core.record import JobSnapshot
    from nuvom.inspection import Inspector
    from nuvom.runtime import Runtime

SCHEMA = "nuvom.job/1"
_LONGEST = 500


@click.group(name="inspect", cls=Group)
def inspect_() -> None:
    """Show all that is known of a job."""


@inspect_.command(cls=Command)
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(("table", "json", "raw"), case_sensitive=False),
    default="table",
    help="table for people, json as --json, raw: indented JSON and the traceback.",
)
@pass_invocation
def job(invocation: Invocation, job_id: str, form: str) -> None:
    """Show the job ID: arguments, result, attempts, error and its traceback.

    Values under names like password or token are shown as ***.
    """
    out = invocation.out
    runtime, inspector = reader(invocation)
    snapshot = inspector.snapshot(inspector.find_id(job_id))
    data = _data(runtime, inspector, snapshot)
    if out.as_json or form == "json":
        out.json(SCHEMA, data)
    elif form == "raw":
        _show_raw(out, data)
    else:
        _show(out, snapshot, data, runtime.clock.now())


def _data(runtime: Runtime, inspector: Inspector, snapshot: JobSnapshot) -> dict[str, Any]:
    record = snapshot.record
    try:
        args, kwargs = inspector.shown_arguments(
            record, positional_names(runtime.settings, record.func_name)
        )
        damage = None
    except PayloadError as error:
        args, kwargs, damage = None, None, error.what
    return {
        **job_data(snapshot),
        "args": args,
        "kwargs": kwargs,
        "damage": damage,
        "result": inspector.shown_result(snapshot),
        "error": error_data(snapshot.error, traceback=True),
        "attempts": [attempt_data(attempt) for attempt in inspector.attempts(record.id)],
        "progress": _progress(snapshot),
        "timeout_secs": record.timeout_secs,
        "timeout_policy": record.timeout_policy,
        "unique_key": record.unique_key,
        "retried_from": record.retried_from,
        "deliveries": record.deliveries,
        "lease_epoch": record.lease_epoch,
    }


def _progress(snapshot: JobSnapshot) -> dict[str, Any] | None:
    if snapshot.progress is None:
        return None
    done, total, note = snapshot.progress
    return {"done": done, "total": total, "note": mask_text(note)}


def _show_raw(out: Output, data: dict[str, Any]) -> None:
    out.lines(json.dumps(jsonable(data), indent=2, ensure_ascii=True).split("\n"))
    if data["error"] is not None and data["error"]["traceback"]:
        out.text("\n" + data["error"]["traceback"])


def _show(out: Output, snapshot: JobSnapshot, data: dict[str, Any], now: float) -> None:
    style = STATUS_STYLES[str(snapshot.status)]
    out.lines([f"{out.out.paint(one_line(status_text(snapshot, now)), style)}  {data['id']}"])
    for label, text in _facts(snapshot, data, now):
        shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... (all of it: --json)"
        out.lines([f"  {out.out.paint(label.ljust(10), 'dim')} {one_line(shown)}"])
    if data["attempts"]:
        out.lines([""])
        out.table(_attempts(data))
    if snapshot.error is not None:
        out.lines(["", out.out.paint("Error", "bold red")])
        error = data["error"]
        trace = error["traceback"] or f"{error['type']}: {error['message']}"
        out.lines("  " + line for line in clean(trace.rstrip()).split("\n"))
    if str(snapshot.status) in {"FAILED", "DEAD", "CANCELLED"}:
        out.hint(f"Run it again: nuvom retry job {data['id'][-8:]}")
    if snapshot.status == "PARKED":
        out.hint(PARKED_HINT)


def _facts(snapshot: JobSnapshot, data: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    record = snapshot.record
    yield "task", record.func_name
    if data["damage"] is None:
        yield "arguments", _call_text(data["args"], data["kwargs"])
    else:
        yield "arguments", data["damage"]
    if data["result"] is not None:
        yield "result", value_text(data["result"])
    yield "queue", f"{record.queue}, priority {record.priority}"
    yield "attempt", f"{record.attempt or 'none yet'}, at most {record.max_retries + 1}"
    yield "created", _moment(record.created_at, now)
    if record.run_at > now:
        yield "runs", _moment(record.run_at, now)
    started_at, finished_at = job_times(snapshot)
    if started_at is not None:
        yield "started", _moment(started_at, now)
    if finished_at is not None:
        took = data["duration_secs"]
        suffix = "" if took is None else f", took {duration(took)}"
        yield "finished", _moment(finished_at, now) + suffix
    if snapshot.status == "PARKED" and snapshot.finished_at is not None:
        yield "parked", _moment(snapshot.finished_at, now)
    yield from _rarer_facts(snapshot)


def _rarer_facts(snapshot: JobSnapshot) -> Iterator[tuple[str, str]]:
    record = snapshot.record
    if snapshot.worker:
        yield "worker", snapshot.worker
    if record.timeout_secs is not None:
        yield "timeout", f"{record.timeout_secs:g} s, then {record.timeout_policy}"
    if record.unique_key is not None:
        yield "unique key", record.unique_key
    if record.retried_from is not None:
        yield "repeats", record.retried_from
    if record.tags:
        yield "tags", ", ".join(record.tags)


def _call_text(args: list[Any], kwargs: dict[str, Any]) -> str:
    parts = [_literal(arg) for arg in args]
    parts += [f"{name}={_literal(value)}" for name, value in kwargs.items()]
    return f"({', '.join(parts)})"


def _literal(value: Any) -> str:  # noqa: ANN401  # any argument of a job
    return json.dumps(value) if isinstance(value, str) else value_text(value)


def _moment(moment: float, now: float) -> str:
    return f"{rfc3339(moment)} ({ago(moment, now)})"


def _attempts(data: dict[str, Any]) -> Table:
    columns = [
        Column("Attempt", right=True),
        Column("Outcome"),
        Column("Started", right=True),
        Column("Took", right=True),
        Column("Worker"),
        Column("Error", stretch=True),
    ]
    return Table(columns, [_attempt_row(attempt) for attempt in data["attempts"]])


def _attempt_row(attempt: dict[str, Any]) -> list[Any]:
    took, error = attempt["duration_secs"], attempt["error"]
    return [
        str(attempt["number"]),
        attempt["outcome"],
        attempt["started_at"][11:23] if attempt["started_at"] else "-",
        "-" if took is None else duration(took),
        id_cell(attempt["worker"]) if attempt["worker"] else "-",
        f"{error['type']}: {error['message']}" if error else "",
    ]
