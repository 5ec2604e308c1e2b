"""``nuvom schedule``: list, explain and control schedules.

Times are shown to people on the clock of the schedule's time zone, and in JSON as UTC.
"""

from __future__ import annotations

import getpass
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from heapq import merge, nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import click

from nuvom.cli import exit_codes, tables
from nuvom.cli.context import Group, Invocation
from nuvom.cli.output import Cell, Table, one_line
from nuvom.cli.params import confirm, dry_run_option, schedule_names, text, yes_option
from nuvom.cli.project import reader, writer
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.discovery.manifest import read_manifest, tasks_or_nothing, with_kept
from nuvom.discovery.scan import Hints, scan
from nuvom.errors import InvalidSchedule, ScheduleNotFound, plural
from nuvom.inspection import views
from nuvom.inspection.formats import ago, duration, rfc3339
from nuvom.inspection.overview import latest_jobs, schedule_data, schedule_details
from nuvom.scheduler.cron import cron, next_change, zone_of
from nuvom.scheduler.declared import NO_MANIFEST, Difference, declared_by, difference_in
from nuvom.scheduler.record import ScheduleRule
from nuvom.scheduler.schedule import Schedule, store_of
from nuvom.scheduler.trigger import describe, fires_after, fires_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nuvom.cli.output import Output
    from nuvom.config.settings import Settings
    from nuvom.core.record import JobSnapshot
    from nuvom.discovery.entries import TaskEntry
    from nuvom.inspection.inspector import Inspector
    from nuvom.runtime import Runtime
    from nuvom.scheduler.declared import Field, Step
    from nuvom.scheduler.record import ScheduleRecord

_STATE_STYLES = {"active": "green", "paused": "yellow", "disabled": "red", "ended": "dim"}
_BEFORE_CHANGE, _AFTER_CHANGE = 2, 3  # fires shown around a change of the clocks
_RULES = {
    True: "It follows real time: twice in a repeated hour, not at all in a skipped one.",
    False: "A time that is skipped fires at the first moment after the gap;\n"
    "a time that is repeated fires the first time only.",
}
_MISFIRES = {
    "skip": "missed fires are not made up for",
    "latest": "one fire makes up for all that were missed",
    "all": "missed fires are made up for",
}
_OVERLAPS = {
    "allow": "it fires while its last job runs",
    "skip": "it does not fire while its last job runs",
    "queue": "one fire waits until its last job has ended",
}
_DECLARED = {  # by origin; a program's schedules are not declared
    "code": "with its task",
    "settings": "in the settings",
    "celery": "by a Celery application",
}
_SIGNS = {
    "added": ("+", "green"),
    "changed": ("~", "yellow"),
    "enabled": ("+", "green"),
    "disabled": ("-", "red"),
}
_WITH_FIELDS: tuple[Literal["changed", "enabled"], ...] = ("changed", "enabled")
_name_argument = click.argument("name", type=text, shell_complete=schedule_names)
_count_option = click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Show this many fire times.",
)


@click.group(cls=Group, default="list")
def schedule() -> None:
    """List schedules; show, run, pause or delete one."""


# ---- what there is ----------------------------------------------------------------------


@schedule.command(name="list")
def list_(invocation: Invocation) -> None:
    """List schedules: what they run, when, and when next."""
    runtime, inspector = reader(invocation)
    now, found = store_of(runtime).clock.now(), list(inspector.schedules())
    columns = ("Name", "When", "Task", "State", "Next", "Last", "Fired", "Missed", "Skipped")
    table = Table(
        columns,
        [_row(one, now) for one in found],
        right=("Next", "Last", "Fired", "Missed", "Skipped"),
        folded=("Name", "When"),
        optional=("Missed", "Skipped"),
        spared=("Task", "Last", "Fired"),
    )
    data = {"schedules": [schedule_data(one) for one in found]}
    empty = 'No schedules yet. Make one in your code: task.schedule(cron="0 9 * * MON-FRI")'
    invocation.out.answer("nuvom.schedules/1", data, table, empty=empty)
    if found:
        invocation.out.hint("More about one: nuvom schedule show NAME")


def _row(one: ScheduleRecord, now: float) -> list[Cell | str]:
    next_at = one.next_at if one.state == "active" else None
    return [
        one.name,
        describe(one.rule),
        one.task,
        Cell(one.state, _STATE_STYLES[one.state]),
        "-" if next_at is None else _next_cell(next_at, now),
        "-" if one.last_at is None else tables.moment_cell(one.last_at, now),
        f"{one.fired}",
        f"{one.missed}" if one.missed else "",
        f"{one.skipped}" if one.skipped else "",
    ]


def _next_cell(next_at: float, now: float) -> Cell:
    return Cell(_until(next_at, now), "" if next_at > now else "yellow", rfc3339(next_at))


def _until(fire_at: float, now: float) -> str:
    """Return in how long a schedule fires; one that should have by now is due."""
    return ago(fire_at, now) if fire_at > now else f"due {ago(fire_at, now)}"


@schedule.command()
@_name_argument
@_count_option
def show(invocation: Invocation, name: str, count: int) -> None:
    """Show everything about the schedule NAME.

    Values under names like password or token are shown as ***.
    """
    handle, runtime, inspector = _found(invocation, name, reader)
    times = handle.next(count)
    one, out = handle.record, invocation.out
    jobs = latest_jobs(inspector, one)
    data = schedule_details(inspector, one, times=times, jobs=jobs)
    if out.as_json:
        out.json("nuvom.schedule/1", data)
    else:
        _show(out, one, data, jobs=jobs, now=store_of(runtime).clock.now())


def _show(
    out: Output,
    one: ScheduleRecord,
    data: dict[str, Any],
    *,
    jobs: Sequence[JobSnapshot],
    now: float,
) -> None:
    out.lines([f"{out.out.paint(one.state, _STATE_STYLES[one.state])}  {one_line(one.name)}"])
    out.fields(_facts(one, data, now))
    if data["next"]:
        out.text("\nNext fires")
        _show_times(out, [_moment(text) for text in data["next"]], one.rule.timezone_name, now)
    if jobs:
        out.text("")
        out.table(tables.jobs_table(jobs, now)._replace(spared=("Schedule", "Attempt")))


def _facts(one: ScheduleRecord, data: dict[str, Any], now: float) -> dict[str, str]:
    """Return texts by label; an empty text means that there is nothing to show."""
    rule = one.rule
    grace = "" if rule.grace is None else f", none later than {duration(rule.grace)}"
    most = f", at most {rule.misfire_max:,}" if rule.misfire == "all" else ""
    arguments = data["damage"] or views.call_text(data["args"], data["kwargs"])
    zone = rule.timezone_name
    return {
        "task": one.task,
        "arguments": arguments,
        "when": data["description"],
        "cron": rule.cron or "",
        "start": _moment_text(rule.start, zone, now),
        "end": _moment_text(rule.end, zone, now),
        "queue": f"{one.job.queue}, priority {one.job.priority}",
        "misfire": f"{rule.misfire}: {_MISFIRES[rule.misfire]}{most}{grace}",
        "overlap": f"{rule.overlap}: {_OVERLAPS[rule.overlap]}",
        "jitter": duration(rule.jitter) if rule.jitter else "",
        "expires": "" if one.expires_secs is None else f"{duration(one.expires_secs)} after a fire",
        "counts": f"{one.fired:,} fired, {one.missed:,} missed, {one.skipped:,} skipped",
        "last fire": _moment_text(one.last_at, zone, now),
        "waiting": _moment_text(one.waiting_at, zone, now),
        "paused": "" if one.paused_by is None else f"by {one.paused_by}, {ago(one.paused_at, now)}",
        "disabled": one.disabled or "",
        "declared": _DECLARED.get(one.origin, ""),
        "created": _moment_text(one.created_at, zone, now),
    }


@schedule.command(name="next")
@click.argument("name", type=text, metavar="[NAME]", required=False, shell_complete=schedule_names)
@_count_option
def next_(invocation: Invocation, name: str | None, count: int) -> None:
    """Show the next fire times of NAME, or of all schedules."""
    if name is None:
        runtime, inspector = reader(invocation)
        store_of(runtime)
        active = [one for one in inspector.schedules() if one.state == "active"]
        first = nsmallest(count, active, key=lambda one: one.next_at or 0.0)
        handles = [Schedule(one, runtime) for one in first]
    else:
        handle, runtime, _ = _found(invocation, name, reader)
        handles = [handle]
    now = store_of(runtime).clock.now()
    fires = merge(*([(at.timestamp(), one) for at in one.next(count)] for one in handles), key=_at)
    found = list(islice(fires, count))
    data = {"fires": [{"at": rfc3339(at), "name": one.name, "task": one.task} for at, one in found]}
    rows: list[list[Cell | str]] = [
        [
            Cell(_wall(at, one.rule.timezone_name), "", rfc3339(at)),
            Cell(_until(at, now), "", f"{at - now:.3f}"),
            one.name,
            one.task,
        ]
        for at, one in found
    ]
    columns = ("Time", "In", "Schedule", "Task")
    table = Table(columns, rows, right=("In",), spared=("Task",))
    empty = "No schedule is active." if name is None else f"{name} does not fire: see its state."
    invocation.out.answer("nuvom.schedule_next/1", data, table, empty=empty)


def _at(fire: tuple[float, Schedule]) -> float:
    return fire[0]


def _found(
    invocation: Invocation,
    name: str,
    opened: Callable[[Invocation], tuple[Runtime, Inspector]],
) -> tuple[Schedule, Runtime, Inspector]:
    """Return a schedule. Raises: ScheduleNotFound; CapabilityMissing: the store keeps none."""
    runtime, inspector = opened(invocation)
    store_of(runtime)
    try:
        return Schedule(inspector.schedule(name), runtime), runtime, inspector
    except ScheduleNotFound as error:
        tasks = tasks_or_nothing(runtime.settings.manifest_file)
        if name not in declared_by(runtime, tasks).wanted:
            raise
        hint = " It is declared, and the next scheduler that starts adds it."
        raise ScheduleNotFound(name, hint=hint) from error


# ---- changes ----------------------------------------------------------------------------


@schedule.command()
@_name_argument
def run(invocation: Invocation, name: str) -> None:
    """Enqueue a job of the schedule NAME now, and print the job's id.

    Its fire times stay as they are, and it may be paused.
    """
    handle, _, _ = _found(invocation, name, writer)
    job = handle.run_now()
    invocation.out.answer("nuvom.schedule_run/1", {"name": handle.name, "job": job.id}, job.id)
    invocation.out.hint(f"Next: nuvom wait {views.short_id(job.id)}")


@schedule.command()
@_name_argument
def pause(invocation: Invocation, name: str) -> None:
    """Stop the schedule NAME from firing until it is resumed.

    Fires during the pause are not made up for.
    """
    handle, _, _ = _found(invocation, name, writer)
    handle.pause(by=f"{getpass.getuser()}@{socket.gethostname()}")
    _tell(invocation, handle, "paused")
    invocation.out.hint(f"To resume it: nuvom schedule resume {name}")


@schedule.command()
@_name_argument
def resume(invocation: Invocation, name: str) -> None:
    """Let the schedule NAME fire again."""
    handle, _, _ = _found(invocation, name, writer)
    was_paused = handle.record.paused_by is not None
    handle.resume()
    _tell(invocation, handle, "resumed" if was_paused else "was not paused")
    if handle.record.disabled is not None:
        invocation.out.warn(f"It is disabled, and does not fire: {handle.record.disabled}")


@schedule.command()
@_name_argument
@yes_option
@dry_run_option
def delete(invocation: Invocation, name: str, *, yes: bool, dry_run: bool) -> None:
    """Remove the schedule NAME; its jobs stay."""
    handle, _, _ = _found(invocation, name, writer)
    if dry_run:
        _tell(invocation, handle, "would be deleted")
        return
    what = f"Delete schedule {handle.name} ({handle.task} {handle.description})"
    confirm(invocation, what, yes=yes)
    handle.delete()
    _tell(invocation, handle, "deleted")
    where = _DECLARED.get(handle.record.origin)
    if where is not None:
        starts = "worker" if handle.record.origin == "celery" else "scheduler"
        invocation.out.warn(f"It is declared {where}: the next {starts} that starts adds it again.")


def _tell(invocation: Invocation, handle: Schedule, change: str) -> None:
    data = {
        "name": handle.name,
        "change": change,
        "state": handle.state,
        "next_at": None if handle.next_at is None else rfc3339(handle.next_at.timestamp()),
    }
    invocation.out.answer("nuvom.schedule_change/1", data, f"Schedule {handle.name}: {change}.")


# ---- what is declared -------------------------------------------------------------------


@schedule.command()
def diff(invocation: Invocation) -> int:
    """Show which declared schedules the next scheduler will add, change or disable.

    Exits 7 if there is a difference, or if a declared schedule cannot be followed.
    """
    runtime, _ = reader(invocation)
    tasks, out = _declared_tasks(runtime.settings), invocation.out
    found = Difference(problems=(NO_MANIFEST,))
    if tasks is not None:
        found = difference_in(runtime, declared_by(runtime, tasks))
    if out.as_json:
        out.json("nuvom.schedule_diff/1", _difference_data(found))
    else:
        _show_difference(out, found)
    is_fine = found.is_empty and not found.problems
    return exit_codes.OK if is_fine else exit_codes.CHECK_FAILED


def _declared_tasks(settings: Settings) -> tuple[TaskEntry, ...] | None:
    """Return the tasks that the next worker will know: in production it does not look for any."""
    if settings.environment == "prod":
        return read_manifest(settings.manifest_file)
    found = scan(settings.root, hints=Hints.of(settings), use_cache=settings.state_dir.is_dir())
    return with_kept(found.tasks, tasks_or_nothing(settings.manifest_file), found.unparsed)


def _show_difference(out: Output, found: Difference) -> None:
    for step in found.steps:
        if step.what != "same":
            sign, style = _SIGNS[step.what]
            out.text(f"{sign} {step.name}  {_step_text(step)}", style)
    for problem in (*found.problems, *found.notes):
        out.warn(problem)
    counts = Counter("unchanged" if step.what == "same" else step.what for step in found.steps)
    said = ", ".join(f"{counts[word]} {word}" for word in (*_SIGNS, "unchanged") if counts[word])
    out.say(f"{plural(len(found.steps), 'schedule')}{f': {said}' if said else ''}.")


def _step_text(step: Step) -> str:
    if step.after is None:
        until = f" once no worker runs {step.waits_for}" if step.waits_for else ""
        return f"disabled{until}: it is no longer declared"
    if step.what == "added":
        return f"{step.after.task} {describe(step.after.rule)}"
    changes = "; ".join(map(_change, step.fields))
    again = "enabled: it is declared again"
    return changes if step.what == "changed" else f"{again}; {changes}" if changes else again


def _change(field: Field) -> str:
    if field.before is None and field.after is None:
        return field.name
    return f"{field.name}: {_value(field.before)} -> {_value(field.after)}"


def _value(value: object) -> str:
    return "none" if value is None else str(value)


def _difference_data(found: Difference) -> dict[str, Any]:
    return {
        "added": [_step_data(step) for step in found.of("added")],
        "changed": [
            {**_step_data(step), "fields": _step_fields(step)} for step in found.of("changed")
        ],
        "enabled": [
            {**_step_data(step), "fields": _step_fields(step)} for step in found.of("enabled")
        ],
        "disabled": [
            {**_step_data(step), "waits_for": step.waits_for or None}
            for step in found.of("disabled")
        ],
        "unchanged": [step.name for step in found.of("same")],
        "problems": list(found.problems),
        "notes": list(found.notes),
    }


def _step_data(step: Step) -> dict[str, Any]:
    one = step.after or step.before
    assert one is not None  # noqa: S101  # there is one before or after
    return {"name": step.name, "task": one.task, "when": describe(one.rule), "origin": one.origin}


def _step_fields(step: Step) -> list[dict[str, Any]]:
    return [field._asdict() for field in step.fields]


# ---- what an expression means -----------------------------------------------------------


@schedule.command()
@click.argument("words", type=text, nargs=-1, required=True, metavar="EXPR")
@click.option(
    "--timezone",
    "timezone_name",
    metavar="ZONE",
    default="UTC",
    show_default=True,
    help="IANA name of the time zone: Europe/Berlin ...",
)
@_count_option
def explain(invocation: Invocation, words: tuple[str, ...], timezone_name: str, count: int) -> None:
    """Say what the cron expression EXPR means and when it fires.

    EXPR has five fields, or six with seconds first, or is a name such as @daily. Put it in
    quotation marks: nuvom schedule explain "0 9 * * MON-FRI". With --timezone, the fires around
    the next change of the clocks are shown too. No project is needed.
    """
    expression, *others = words
    if others:  # a shell puts the names of files in the place of a star
        example = 'nuvom schedule explain "0 9 * * MON-FRI"'
        raise click.UsageError(f"Put the expression in quotation marks: {example}")
    rule = ScheduleRule(cron=expression, timezone_name=zone_of(timezone_name).key)
    is_rhythm = cron(expression, timezone_name).is_rhythm
    now, out = SYSTEM_CLOCK.now(), invocation.out
    fires = list(islice(fires_after(rule, now, now), count))
    change = next_change(timezone_name, now)
    around = [] if change is None else _around(rule, now, change[0])
    if out.as_json:
        data = {
            "expression": expression,
            "timezone_name": rule.timezone_name,
            "description": describe(rule),
            "follows_real_time": is_rhythm,
            "next": [rfc3339(at) for at in fires],
            "clock_change": None
            if change is None
            else {
                "at": rfc3339(change[0]),
                "offset_before_secs": change[1].total_seconds(),
                "offset_after_secs": change[2].total_seconds(),
                "fires": [rfc3339(at) for at in around],
            },
        }
        out.json("nuvom.schedule_explanation/1", data)
        return
    meaning = describe(rule)
    out.text(f"{meaning[:1].upper()}{meaning[1:]}", "bold")
    out.text("\nNext fires")
    _show_times(out, fires, rule.timezone_name, now)
    if change is not None:
        _show_change(out, rule.timezone_name, change, around=around, now=now)
        out.text(f"\n{_RULES[is_rhythm]}")


def _around(rule: ScheduleRule, now: float, change: float) -> list[float]:
    """Return the last fires before the clocks change, and the first ones afterwards."""
    before: list[float] = []
    first = next(fires_after(rule, now, now), None)
    if first is not None:
        before, _ = fires_until(rule, now, first, now=change - 1, most=_BEFORE_CHANGE)
    later = fires_after(rule, now, max(now, change - 1))
    return [*before, *islice(later, _AFTER_CHANGE)]


def _show_change(
    out: Output,
    zone: str,
    change: tuple[float, timedelta, timedelta],
    *,
    around: Sequence[float],
    now: float,
) -> None:
    at, before, after = change
    way = "forward" if after > before else "back"
    tells = [datetime.fromtimestamp(at, UTC) + offset for offset in (before, after)]
    day, hours = f"{tells[0]:%a %Y-%m-%d}", " to ".join(f"{tell:%H:%M}" for tell in tells)
    out.text(f"\nWhere the clocks go {way}, {day} from {hours}")
    _show_times(out, around, zone, now)


def _show_times(out: Output, times: Iterable[float], zone: str, now: float) -> None:
    out.lines(f"  {_wall(at, zone)}  {out.out.paint(_until(at, now), 'dim')}" for at in times)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _moment_text(moment: float | None, zone: str, now: float) -> str:
    return "" if moment is None else f"{_wall(moment, zone)} ({ago(moment, now)})"


def _wall(moment: float, zone: str) -> str:
    """Return a time as the clocks of a zone show it: ``Mon 2026-11-30 09:00:00 +01:00``.

    In UTC if this machine does not know the zone.
    """
    try:
        local = datetime.fromtimestamp(moment, zone_of(zone))
    except InvalidSchedule:
        local = datetime.fromtimestamp(moment, UTC)
    offset = f"{local:%z}"
    return f"{local:%a %Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"
