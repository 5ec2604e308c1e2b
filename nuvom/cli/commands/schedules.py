"""``nuvom schedule``: show and control schedules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli import exit_codes
from nuvom.cli.context import Group, Invocation
from nuvom.cli.project import reader
from nuvom.discovery.manifest import read_manifest, tasks_or_nothing, with_kept
from nuvom.discovery.scan import Hints, scan
from nuvom.errors import plural
from nuvom.scheduler.declared import NO_MANIFEST, Difference, declared_by, difference_in
from nuvom.scheduler.trigger import describe

if TYPE_CHECKING:
    from nuvom.cli.output import Output
    from nuvom.config.settings import Settings
    from nuvom.discovery.entries import TaskEntry
    from nuvom.scheduler.declared import Field, Step

_SIGNS = {
    "added": ("+", "green"),
    "changed": ("~", "yellow"),
    "enabled": ("+", "green"),
    "disabled": ("-", "red"),
}


@click.group(cls=Group)
def schedule() -> None:
    """Compare the schedules in the store with those that the code declares."""


@schedule.command()
def diff(invocation: Invocation) -> int:
    """Show what the next scheduler will add, change and disable when it starts.

    Exits 7 if there is a difference, or a declaration that a scheduler cannot follow.
    """
    runtime, _ = reader(invocation)
    tasks, out = _tasks(runtime.settings), invocation.out
    found = Difference(problems=(NO_MANIFEST,))
    if tasks is not None:
        found = difference_in(runtime, declared_by(runtime, tasks))
    if out.as_json:
        out.json("nuvom.schedule_diff/1", _data(found))
    else:
        _show(out, found)
    is_fine = found.is_empty and not found.problems
    return exit_codes.OK if is_fine else exit_codes.CHECK_FAILED


def _tasks(settings: Settings) -> tuple[TaskEntry, ...] | None:
    """Return the tasks that the next worker will know: in production it does not look for any."""
    if settings.environment == "prod":
        return read_manifest(settings.manifest_file)
    found = scan(settings.root, hints=Hints.of(settings), use_cache=settings.state_dir.is_dir())
    return with_kept(found.tasks, tasks_or_nothing(settings.manifest_file), found.unparsed)


def _show(out: Output, found: Difference) -> None:
    for step in found.steps:
        if step.what != "same":
            sign, style = _SIGNS[step.what]
            out.text(f"{sign} {step.name}  {_text(step)}", style)
    for problem in (*found.problems, *found.notes):
        out.warn(problem)
    counts = Counter("unchanged" if step.what == "same" else step.what for step in found.steps)
    said = ", ".join(f"{counts[word]} {word}" for word in (*_SIGNS, "unchanged") if counts[word])
    out.say(f"{plural(len(found.steps), 'schedule')}{f': {said}' if said else ''}.")


def _text(step: Step) -> str:
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


def _data(found: Difference) -> dict[str, Any]:
    return {
        "added": [_described(step) for step in found.of("added")],
        "changed": [{**_described(step), "fields": _fields(step)} for step in found.of("changed")],
        "enabled": [{**_described(step), "fields": _fields(step)} for step in found.of("enabled")],
        "disabled": [
            {**_described(step), "waits_for": step.waits_for or None}
            for step in found.of("disabled")
        ],
        "unchanged": [step.name for step in found.of("same")],
        "problems": list(found.problems),
        "notes": list(found.notes),
    }


def _described(step: Step) -> dict[str, Any]:
    one = step.after or step.before
    assert one is not None  # noqa: S101  # there is one before or after
    return {"name": step.name, "task": one.task, "when": describe(one.rule), "origin": one.origin}


def _fields(step: Step) -> list[dict[str, Any]]:
    return [field._asdict() for field in step.fields]
