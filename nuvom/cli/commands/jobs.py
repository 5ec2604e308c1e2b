"""Commands for existing jobs: wait, why, inspect, history, retry and cancel."""

from __future__ import annotations

import json
from functools import partial
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes, params, tables
from nuvom.cli.commands.run import interruptible, teller_of_job
from nuvom.cli.context import Group, Invocation, command
from nuvom.cli.output import Table, one_line
from nuvom.cli.project import (
    changes_of,
    find_task,
    full_name,
    make_record,
    reader,
    require_known,
    writer,
)
from nuvom.core.record import JobStatus
from nuvom.core.transitions import RENAMABLE, home_of
from nuvom.discovery.stub import definition_of
from nuvom.errors import InvalidArguments, JobNotFound, NuvomError, Refused
from nuvom.inspection import views
from nuvom.inspection.formats import ago, duration, jsonable, rfc3339
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.overview import job_details
from nuvom.job import WaitProgress, wait_for_final
from nuvom.registry.signature import Binder
from nuvom.scheduler.record import fire_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nuvom.cli.output import Output
    from nuvom.config.settings import Settings
    from nuvom.core.record import JobRecord, JobSnapshot
    from nuvom.core.views import Reason
    from nuvom.discovery.entries import TaskEntry
    from nuvom.runtime import Runtime

RETRYABLE = (JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED)
STATUSES = tuple(str(status) for status in JobStatus)
_LONGEST = 500  # characters of an argument or a result that people see

_ids_argument = click.argument(
    "ids", nargs=-1, required=True, metavar="ID...", shell_complete=params.job_ids
)
_queue_option = click.option(
    "--queue", metavar="NAME", shell_complete=params.queue_names, help="Only this queue."
)
_task_option = click.option(
    "--task", metavar="TASK", shell_complete=params.task_names, help="Only this task."
)


def _status_option(statuses: Sequence[str]) -> Callable[[Any], Any]:
    return click.option(
        "-s",
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice(statuses, case_sensitive=False),
        shell_complete=lambda _, __, text: [s for s in statuses if s.startswith(text.upper())],
        help="Only jobs with this status; may be repeated.",
    )


def _for_each(
    invocation: Invocation, schema: str, ids: tuple[str, ...], act: Callable[[str], dict[str, Any]]
) -> tuple[list[dict[str, Any]], int]:
    """Act on each id once, show failures, and with ``--json`` write what was done.

    Returns: what ``act`` returned, in the order of the ids, and the highest exit code.
    Raises: NuvomError: there is only one id, and it failed.
    """
    done, errors, code = [], [], exit_codes.OK
    out = invocation.out
    for job_id in dict.fromkeys(ids):
        try:
            done.append(act(job_id))
        except NuvomError as error:
            if len(ids) == 1:
                raise
            exit_code = exit_codes.exit_code_of(type(error))
            code = max(code, exit_code)
            errors.append({**views.nuvom_error_data(error), "exit": exit_code})
            if not out.as_json:
                out.error(error.what, error.fix)
    if out.as_json:
        out.json(schema, {"jobs": done, "errors": errors})
    return done, code


@command()
@_ids_argument
@click.option("--timeout", type=params.span, help="Give up after this long in all: 30s, 5m ...")
def wait(invocation: Invocation, ids: tuple[str, ...], timeout: float | None) -> int:
    """Wait until all jobs have ended; print the status of each.

    Exits 0 if all succeeded, 1 if one did not, 6 if the time ran out first.
    """
    runtime, inspector = writer(invocation)
    out, clock = invocation.out, runtime.clock
    deadline = None if timeout is None else clock.monotonic() + timeout
    worst = exit_codes.OK
    texts = list(dict.fromkeys(ids))
    progress = out.progress("Waiting", "jobs", len(texts), clock=clock)
    shown = WaitProgress(
        runtime, progress, len(texts), lambda place: inspector.find_id(texts[place])
    )
    look = shown.look if len(texts) > 1 else teller_of_job(progress, clock)

    def one(text: str) -> dict[str, Any]:
        nonlocal worst
        job_id = inspector.find_id(text)
        left = None if deadline is None else max(0.0, deadline - clock.monotonic())
        with interruptible(invocation, job_id):
            snapshot = wait_for_final(runtime, job_id, left, tell=look)
        code = tables.code_of(snapshot)
        worst = max(worst, code)
        if not out.as_json:
            status = str(snapshot.status)
            out.lines([f"{job_id}\t{out.out.paint(status, tables.STATUS_STYLES[status])}"])
            if code != exit_codes.OK:
                out.say("\n".join(tables.failure_text(snapshot)))
        return views.job_data(snapshot)

    def one_of_many(text: str) -> dict[str, Any]:
        try:
            return one(text)
        finally:
            shown.end_one()

    with shown:
        return max(_for_each(invocation, "nuvom.wait/1", ids, one_of_many)[1], worst)


def _show_reason(out: Output, reason: Reason) -> None:
    out.text(reason.sentence)
    if reason.fix:
        out.say(reason.fix)


@command()
@click.argument("job_id", metavar="ID", shell_complete=params.job_ids)
def why(invocation: Invocation, job_id: str) -> None:
    """Say why the job ID is not running, and what to do."""
    out = invocation.out
    _, inspector = reader(invocation)
    snapshot = inspector.snapshot(inspector.find_id(job_id))
    reason = inspector.why(snapshot)
    if out.as_json:
        told = None if reason is None else reason._asdict()
        out.json(
            "nuvom.why/1",
            {"id": snapshot.record.id, "status": str(snapshot.status), "reason": told},
        )
    elif reason is not None:
        _show_reason(out, reason)
    else:
        out.text(f"It does not wait: it is {snapshot.status}.")


# ---- inspect ----------------------------------------------------------------------------


@click.group(name="inspect", cls=Group, implied="job")
def inspect_() -> None:
    """Show everything about a job: `nuvom inspect ID`."""


@inspect_.command(name="job")
@click.argument("job_id", metavar="ID", shell_complete=params.job_ids)
@params.format_option("table for people, json like --json, raw: indented JSON and the traceback.")
def inspect_job(invocation: Invocation, job_id: str, form: str) -> None:
    """Show the job ID: arguments, result, attempts, error and its traceback.

    Values under names like password or token are shown as ***.
    """
    out = invocation.out
    runtime, inspector = reader(invocation)
    snapshot = inspector.snapshot(inspector.find_id(job_id))
    data = job_details(inspector, snapshot)
    if out.as_json or form == "json":
        out.json("nuvom.job/1", data)
    elif form == "raw":
        out.lines([json.dumps(jsonable(data), indent=2, ensure_ascii=True)])
        if data["error"] is not None and data["error"]["traceback"]:
            out.text("\n" + data["error"]["traceback"])
    else:
        _show(out, snapshot, data, runtime.clock.now())
        reason = inspector.why(snapshot)
        if reason is not None:
            out.text("")
            _show_reason(out, reason)


def _show(out: Output, snapshot: JobSnapshot, data: dict[str, Any], now: float) -> None:
    status = str(snapshot.status)
    shown = one_line(views.status_text(snapshot, now))
    out.lines([f"{out.out.paint(shown, tables.STATUS_STYLES[status])}  {data['id']}"])
    cut = "... (all of it: --json)"
    facts = _facts(snapshot, data, now).items()
    out.fields(
        {label: text if len(text) <= _LONGEST else text[:_LONGEST] + cut for label, text in facts}
    )
    if data["attempts"]:
        out.text("")
        out.table(_attempts(data))
    if data["error"] is not None and status != "PARKED":
        out.text("\nError", "bold red")
        out.text(indent(views.trace_text(data["error"]), "  "))
    if status in RETRYABLE:
        out.hint(f"Run it again: nuvom retry job {views.short_id(data['id'])}")


def _facts(snapshot: JobSnapshot, data: dict[str, Any], now: float) -> dict[str, str]:
    """Return texts by label; an empty text means that there is nothing to show."""
    record, took = snapshot.record, data["duration_secs"]
    started_at, finished_at = views.job_times(snapshot)
    suffix = f", took {duration(took)}" if finished_at and took is not None else ""
    return {
        "task": record.func_name,
        "arguments": data["damage"] or views.call_text(data["args"], data["kwargs"]),
        "result": "" if data["result"] is None else views.value_text(data["result"]),
        "queue": f"{record.queue}, priority {record.priority}",
        "attempt": f"{record.attempt or 'none yet'}, at most {record.max_retries + 1}",
        "created": _moment(record.created_at, now),
        "runs": _moment(record.run_at, now) if record.run_at > now else "",
        "started": _moment(started_at, now),
        "finished": _moment(finished_at, now) + suffix,
        "parked": _moment(snapshot.finished_at, now) if snapshot.status == "PARKED" else "",
        "worker": snapshot.worker or "",
        "timeout": f"{record.timeout_secs:g} s, then {record.timeout_policy}"
        if record.timeout_secs
        else "",
        "unique key": record.unique_key or "",
        "schedule": _schedule_text(snapshot, now),
        "parent": data["parent"] or "",
        "follow-ups": ", ".join(data["children"]),
        "repeats": data["retried_from"] or "",
        "retried by": ", ".join(data["retried_by"]),
        "tags": ", ".join(record.tags),
    }


def _schedule_text(snapshot: JobSnapshot, now: float) -> str:
    name, fire_at = fire_of(snapshot.record.headers)
    return "" if name is None else ", for ".join(filter(None, (name, _moment(fire_at, now))))


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
                tables.id_cell(worker) if worker else "-",
                f"{error['type']}: {error['message']}" if error else "",
            ]
        )
    columns = ("Attempt", "Outcome", "Started", "Took", "Worker", "Error")
    return Table(columns, rows, right=("Attempt", "Started", "Took"))


# ---- history ----------------------------------------------------------------------------


@click.group(cls=Group, default="recent")
def history() -> None:
    """List the newest jobs."""


@history.command()
@params.limit_option(20)
@_status_option(STATUSES)
@_queue_option
@_task_option
def recent(
    invocation: Invocation,
    *,
    limit: int,
    statuses: tuple[str, ...],
    queue: str | None,
    task: str | None,
) -> None:
    """List jobs, newest first. A queue or task that does not exist is not found: exit 3."""
    runtime, inspector = reader(invocation)
    name = None if task is None else full_name(runtime.settings, task)
    wanted = [JobStatus(status) for status in statuses]
    found = inspector.page(statuses=wanted, queue=queue, task=name, limit=limit)
    if not found:
        require_known(inspector, runtime.settings, queue=queue, task=task)
    is_filtered = bool(statuses or queue or task)
    empty = "No job matches." if is_filtered else "No jobs yet. Enqueue one: nuvom run TASK"
    data = {"jobs": [views.job_data(snapshot) for snapshot in found]}
    invocation.out.answer(
        "nuvom.jobs/1", data, tables.jobs_table(found, runtime.clock.now()), empty=empty
    )
    if found:
        invocation.out.hint("More about one: nuvom inspect job ID")


# ---- retry and cancel -------------------------------------------------------------------


@click.group(cls=Group, implied="job")
def retry() -> None:
    """Run jobs again: `nuvom retry ID`, or `nuvom retry --task TASK`."""


@retry.command()
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=params.job_ids)
@click.option("--edit", is_flag=True, help="Edit the arguments in $EDITOR, and make a new job.")
@click.option(
    "--as",
    "other_task",
    metavar="TASK",
    shell_complete=params.task_names,
    help="Run it as this task, and make a new job; also if it is PARKED.",
)
@_status_option([str(status) for status in (*RETRYABLE, JobStatus.PARKED)])
@_queue_option
@_task_option
@params.dry_run_option
def job(
    invocation: Invocation,
    ids: tuple[str, ...],
    *,
    edit: bool,
    other_task: str | None,
    dry_run: bool,
    **filters: Any,
) -> int:
    """Rerun jobs that ended FAILED, DEAD or CANCELLED.

    Instead of IDs, --status, --queue and --task say which jobs; without --status these are FAILED
    and DEAD ones, with --as also PARKED ones.

    A job keeps its id and starts again with attempt 1. With --edit or --as a new job is made and
    linked to the old one; its arguments are checked against the task's signature. --as is for
    tasks that were renamed. Repeating it makes no second job.
    """
    _require_choice(ids, is_filtered=any(filters.values()))
    if edit and (len(ids) != 1 or other_task is not None):
        raise click.UsageError("--edit takes the ID of one job, and no --as.")
    runtime, inspector = writer(invocation)
    out = invocation.out
    others = [] if other_task is None else [JobStatus.PARKED]
    ids = ids or _failed_ids(inspector, runtime.settings, others, **filters)
    if not ids:
        out.say("No job matches.")

    def edited(text: str) -> dict[str, Any]:
        old = inspector.snapshot(inspector.find_id(text)).record
        changes = _edited_call(invocation, runtime, inspector, old)
        if changes is None:
            raise click.exceptions.Exit(exit_codes.OK)
        new_id = runtime.control.repeat(old, **changes)
        if not out.as_json:
            out.text(new_id)
        return {"id": new_id, "status_before": str(old.status), "retried_from": old.id}

    act = edited if edit else partial(_run_again, invocation, runtime, dry_run=dry_run)
    if other_task is not None:
        entry = find_task(invocation, runtime.settings, other_task)
        act = partial(_run_as, invocation, runtime, entry, dry_run=dry_run)
    done, code = _for_each(invocation, "nuvom.retry/1", ids, act)
    if done and not dry_run:
        out.hint(f"Next: nuvom wait {views.short_id(done[0]['id'])}")
    return code


def _run_again(
    invocation: Invocation, runtime: Runtime, text: str, *, dry_run: bool
) -> dict[str, Any]:
    """Run a job again under its id; return the id, and the previous status.

    Raises: JobNotFound; Refused: the job's status does not allow it.
    """
    inspector = Inspector(runtime)
    job_id = inspector.find_id(text)
    seen: JobStatus | None = inspector.snapshot(job_id).status
    before = seen if dry_run else runtime.control.retry(job_id)
    if before is None:
        raise JobNotFound(job_id)
    if before not in RETRYABLE:
        fix = "Only FAILED, DEAD and CANCELLED jobs can be run again."
        raise Refused(f"Job {job_id} is {before}", fix)
    if not invocation.out.as_json:
        invocation.out.lines([f"{job_id}\t{'would be ' * dry_run}PENDING (was {before})"])
    return {"id": job_id, "status_before": str(before), "retried_from": None}


def _run_as(
    invocation: Invocation, runtime: Runtime, entry: TaskEntry, text: str, *, dry_run: bool
) -> dict[str, Any]:
    """Run a job as another task; return the new job's id, and the previous status.

    Raises: InvalidArguments: the arguments do not fit the task. JobNotFound; Refused: the job's
        status does not allow it.
    """
    inspector = Inspector(runtime)
    old = inspector.snapshot(inspector.find_id(text)).record
    args, kwargs = runtime.codec.decode_call(old.args, old.kwargs, shaped=True)
    Binder(entry.name, definition_of(entry).func).check(args, kwargs)
    new_id: str | None = old.id if old.status in RENAMABLE else None
    before: JobStatus | None = old.status
    if not dry_run:
        new_id, before = runtime.control.retry_as(old.id, entry.name)
    if before is None:
        raise JobNotFound(old.id)
    if new_id is None:
        fix = "Only PARKED, FAILED, DEAD and CANCELLED jobs can be run as another task."
        raise Refused(f"Job {old.id} is {before}", fix)
    if not invocation.out.as_json:
        invocation.out.text(f"{old.id}\twould be run as {entry.name}" if dry_run else new_id)
    return {"id": new_id, "status_before": str(before), "retried_from": old.id}


def _require_choice(ids: tuple[str, ...], *, is_filtered: bool) -> None:
    if bool(ids) == is_filtered:
        raise click.UsageError("Give the IDs of jobs, or --task, --queue or --status.")


def _failed_ids(
    inspector: Inspector,
    settings: Settings,
    others: Sequence[JobStatus],
    *,
    statuses: tuple[str, ...],
    queue: str | None,
    task: str | None,
) -> tuple[str, ...]:
    """Return the jobs with these statuses, or those that are FAILED, DEAD and ``others``.

    Raises: QueueNotFound, TaskNotFound.
    """
    usual = [JobStatus.FAILED, JobStatus.DEAD, *others]
    wanted = [JobStatus(one) for one in statuses] or usual
    name = None if task is None else full_name(settings, task)
    found = inspector.pages(statuses=wanted, queue=queue, task=name)
    ids = tuple(one.record.id for one in found if home_of(one) is None)
    if not ids:
        require_known(inspector, settings, queue=queue, task=task)
    return ids


@command()
@_ids_argument
@params.yes_option
@params.dry_run_option
def cancel(invocation: Invocation, ids: tuple[str, ...], *, yes: bool, dry_run: bool) -> int:
    """Cancel jobs: waiting ones at once, running ones as soon as their task checks for it.

    Asks for confirmation if there is more than one. A job that has ended is left alone (exit 8).
    """
    runtime, inspector = writer(invocation)
    out = invocation.out
    if len(ids) > 1 and not dry_run:
        params.confirm(invocation, f"Cancel {len(ids)} jobs", yes=yes)

    def one(text: str) -> dict[str, Any]:
        job_id = inspector.find_id(text)
        before: JobStatus | None = inspector.snapshot(job_id).status
        if not dry_run:
            before = runtime.control.cancel(job_id)
        if before is None:
            raise JobNotFound(job_id)
        if before.is_final and before is not JobStatus.CANCELLED:
            raise Refused(f"Job {job_id} has ended {before}", "There is nothing left to cancel.")
        if not out.as_json:
            verb = "would be cancelled" if dry_run else "cancelled"
            out.lines([f"{job_id}\t{verb} (was {before})"])
        return {"id": job_id, "status_before": str(before), "cancelled": not dry_run}

    return _for_each(invocation, "nuvom.cancel/1", ids, one)[1]


# ---- arguments in the user's editor -----------------------------------------------------


def _edited_call(
    invocation: Invocation, runtime: Runtime, inspector: Inspector, old: JobRecord
) -> dict[str, Any] | None:
    """Return what differs with the arguments that the user saved, or None if unchanged.

    Secret values appear as ``***``; if one is still there after editing, the stored value is used.
    Bytes, dates and the like appear as text, and also keep the stored value unless edited.

    Raises: click.UsageError: the saved text is not JSON of this form. InvalidArguments,
        NotStorable: the arguments do not fit the task.
    """
    entry = find_task(invocation, runtime.settings, old.func_name)
    shown_args, shown_kwargs = inspector.editable_arguments(old)
    shown = json.dumps({"args": shown_args, "kwargs": shown_kwargs}, indent=2)
    edited = click.edit(shown, extension=".json", require_save=True)
    saved = _parsed(entry.name, shown if edited is None else edited)
    if saved == (shown_args, shown_kwargs):
        invocation.out.say("Nothing was changed, so no job was made.")
        return None
    call = inspector.edited_arguments(old, *saved)
    return changes_of(make_record(runtime, entry, call))


def _parsed(task: str, edited: str) -> tuple[list[Any], dict[str, Any]]:
    """Return what the user saved: an object with a list "args" and an object "kwargs"."""
    match params.json_value(edited, f"What you saved for {task}"):
        case {"args": list(args), "kwargs": dict(kwargs), **rest} if not rest:
            return args, kwargs
    reason = 'what you saved must be an object with a list "args" and an object "kwargs"'
    raise InvalidArguments(task, reason)
