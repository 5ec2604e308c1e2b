"""``nuvom inspect job ID``: everything that is known about one job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import views
from nuvom.cli.context import Group, Invocation
from nuvom.cli.output import Table, ago, clean, duration, jsonable, one_line, rfc3339
from nuvom.cli.params import format_option, job_ids
from nuvom.cli.project import positional_names, reader
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
    """Show everything about a job."""


@inspect_.command()
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@format_option("table for people, json like --json, raw: indented JSON and the traceback.")
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
        out.lines([json.dumps(jsonable(data), indent=2, ensure_ascii=True)])
        if data["error"] is not None and data["error"]["traceback"]:
            out.text("\n" + data["error"]["traceback"])
    else:
        _show(out, snapshot, data, runtime.clock.now())


def _data(runtime: Runtime, inspector: Inspector, snapshot: JobSnapshot) -> dict[str, Any]:
    record = snapshot.record
    args = kwargs = damage = progress = None
    try:
        names = positional_names(runtime.settings, record.func_name)
        args, kwargs = inspector.shown_arguments(record, names)
    except PayloadError as error:
        damage = error.what
    if snapshot.progress is not None:
        done, total, note = snapshot.progress
        progress = {"done": done, "total": total, "note": mask_text(note)}
    return {
        **views.job_data(snapshot),
        "args": args,
        "kwargs": kwargs,
        "damage": damage,
        "result": inspector.shown_result(snapshot),
        "error": views.error_data(snapshot.error, traceback=True),
        "attempts": [views.attempt_data(attempt) for attempt in inspector.attempts(record.id)],
        "progress": progress,
        "timeout_secs": record.timeout_secs,
        "timeout_policy": record.timeout_policy,
        "unique_key": record.unique_key,
        "retried_from": record.retried_from,
        "deliveries": record.deliveries,
        "lease_epoch": record.lease_epoch,
    }


def _show(out: Output, snapshot: JobSnapshot, data: dict[str, Any], now: float) -> None:
    status = str(snapshot.status)
    shown = one_line(views.status_text(snapshot, now))
    out.lines([f"{out.out.paint(shown, views.STATUS_STYLES[status])}  {data['id']}"])
    for label, text in _facts(snapshot, data, now):
        if text:
            cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... (all of it: --json)"
            out.lines([f"  {out.out.paint(label.ljust(10), 'dim')} {one_line(cut)}"])
    if data["attempts"]:
        out.lines([""])
        out.table(_attempts(data))
    if data["error"] is not None:
        error = data["error"]
        trace = error["traceback"] or f"{error['type']}: {error['message']}"
        out.lines(["", out.out.paint("Error", "bold red")])
        out.lines("  " + line for line in clean(trace.rstrip()).split("\n"))
    if status in {"FAILED", "DEAD", "CANCELLED"}:
        out.hint(f"Run it again: nuvom retry job {views.short_id(data['id'])}")
    if status == "PARKED":
        out.hint(views.PARKED_HINT)


def _facts(snapshot: JobSnapshot, data: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    """Yield labels and texts; an empty text means that there is nothing to show."""
    record, took = snapshot.record, data["duration_secs"]
    started_at, finished_at = views.job_times(snapshot)
    parked_at = snapshot.finished_at if snapshot.status == "PARKED" else None
    yield "task", record.func_name
    yield "arguments", data["damage"] or _call_text(data["args"], data["kwargs"])
    yield "result", "" if data["result"] is None else views.value_text(data["result"])
    yield "queue", f"{record.queue}, priority {record.priority}"
    yield "attempt", f"{record.attempt or 'none yet'}, at most {record.max_retries + 1}"
    yield "created", _moment(record.created_at, now)
    yield "runs", _moment(record.run_at, now) if record.run_at > now else ""
    yield "started", _moment(started_at, now)
    suffix = f", took {duration(took)}" if finished_at and took is not None else ""
    yield "finished", _moment(finished_at, now) + suffix
    yield "parked", _moment(parked_at, now)
    yield "worker", snapshot.worker or ""
    if record.timeout_secs is not None:
        yield "timeout", f"{record.timeout_secs:g} s, then {record.timeout_policy}"
    yield "unique key", record.unique_key or ""
    yield "repeats", record.retried_from or ""
    yield "tags", ", ".join(record.tags)


def _call_text(args: list[Any], kwargs: dict[str, Any]) -> str:
    parts = [_literal(arg) for arg in args]
    parts += [f"{name}={_literal(value)}" for name, value in kwargs.items()]
    return f"({', '.join(parts)})"


def _literal(value: Any) -> str:  # noqa: ANN401  # any argument of a job
    return json.dumps(value) if isinstance(value, str) else views.value_text(value)


def _moment(moment: float | None, now: float) -> str:
    return "" if moment is None else f"{rfc3339(moment)} ({ago(moment, now)})"


def _attempts(data: dict[str, Any]) -> Table:
    rows = []
    for attempt in data["attempts"]:
        took, error, worker = attempt["duration_secs"], attempt["error"], attempt["worker"]
        rows.append(
            [
                str(attempt["number"]),
                attempt["outcome"],
                attempt["started_at"][11:23] if attempt["started_at"] else "-",
                "-" if took is None else duration(took),
                views.id_cell(worker) if worker else "-",
                f"{error['type']}: {error['message']}" if error else "",
            ]
        )
    columns = ("Attempt", "Outcome", "Started", "Took", "Worker", "Error")
    return Table(columns, rows, right=("Attempt", "Started", "Took"))
