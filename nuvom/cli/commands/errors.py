"""``nuvom errors`` and ``explain``: failures by cause, and what Nuvom's own errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from nuvom.cli import exit_codes
from nuvom.cli.context import Group, Invocation, command
from nuvom.cli.output import Cell, Table
from nuvom.cli.params import confirm, dry_run_option, fingerprints, limit_option, yes_option
from nuvom.cli.project import reader, writer
from nuvom.cli.tables import id_cell, jobs_table, moment_cell
from nuvom.core.record import JobStatus
from nuvom.core.text import mask_text
from nuvom.errors import FailureNotFound, NuvomError, did_you_mean, plural
from nuvom.inspection.views import error_data, group_data, job_data, trace_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.core.views import ErrorGroup
    from nuvom.inspection.inspector import Inspector

_MOST_GROUPS = 1000
_fingerprint_argument = click.argument("fingerprint", shell_complete=fingerprints)


@click.group(name="errors", cls=Group, default="list")
def errors_() -> None:
    """List failures by cause; retry or discard them."""


@errors_.command(name="list")
@limit_option(50)
def list_(invocation: Invocation, limit: int) -> None:
    """List FAILED and DEAD jobs grouped by cause, latest first."""
    runtime, inspector = reader(invocation)
    groups = inspector.error_groups(limit)
    now = runtime.clock.now()
    rows: list[list[Cell | str]] = [
        [
            group.fingerprint,
            Cell(str(group.count), "red"),
            group.func_name,
            f"{group.type}: {mask_text(group.message)}",
            moment_cell(group.last_at, now),
            id_cell(group.example_id),
        ]
        for group in groups
    ]
    columns = ("Fingerprint", "Jobs", "Task", "Error", "Last", "Example")
    table = Table(columns, rows, right=("Jobs", "Last"))
    data = {"errors": [group_data(group) for group in groups]}
    invocation.out.answer("nuvom.errors/1", data, table, empty="No job has failed.")
    if groups:
        invocation.out.hint("More about one: nuvom errors show FINGERPRINT")


@errors_.command()
@_fingerprint_argument
@limit_option(20)
def show(invocation: Invocation, fingerprint: str, limit: int) -> None:
    """Show one group: its jobs and the newest traceback."""
    runtime, inspector = reader(invocation)
    group = _find(inspector, fingerprint)
    ids = inspector.failed_ids(group.fingerprint)[:limit]
    snapshots = [inspector.snapshot(job_id) for job_id in ids]
    newest = error_data(snapshots[0].error, traceback=True) if snapshots else None
    data = {**group_data(group), "newest": newest, "jobs": [job_data(one) for one in snapshots]}
    out = invocation.out
    out.answer("nuvom.error_group/1", data, jobs_table(snapshots, runtime.clock.now()))
    if newest is not None and not out.as_json:
        out.text("\n" + trace_text(newest))
    out.hint(f"Run all of them again: nuvom errors retry {group.fingerprint}")


@errors_.command()
@_fingerprint_argument
@dry_run_option
def retry(invocation: Invocation, fingerprint: str, *, dry_run: bool) -> None:
    """Run all jobs of one group again."""
    runtime, inspector = writer(invocation)
    ids = inspector.failed_ids(_find(inspector, fingerprint).fingerprint)
    if not dry_run:
        failed = (JobStatus.FAILED, JobStatus.DEAD)
        ids = [job_id for job_id in ids if runtime.control.retry(job_id) in failed]
    _tell(invocation, ("retry", "run again"), ids, dry_run=dry_run)


@errors_.command()
@_fingerprint_argument
@yes_option
@dry_run_option
def discard(invocation: Invocation, fingerprint: str, *, yes: bool, dry_run: bool) -> None:
    """Remove all jobs of one group for good."""
    runtime, inspector = writer(invocation)
    ids = inspector.failed_ids(_find(inspector, fingerprint).fingerprint)
    if not dry_run:
        confirm(invocation, f"Remove {plural(len(ids), 'failed job')} for good", yes=yes)
        ids = [job_id for job_id in ids if runtime.control.discard(job_id)]
    _tell(invocation, ("discard", "removed"), ids, dry_run=dry_run)


def _find(inspector: Inspector, text: str) -> ErrorGroup:
    groups = inspector.error_groups(_MOST_GROUPS)
    exact = [group for group in groups if group.fingerprint == text]
    found = exact or [group for group in groups if group.fingerprint.startswith(text)]
    if len(found) != 1:
        raise FailureNotFound(text, [group.fingerprint for group in found or groups])
    return found[0]


def _tell(
    invocation: Invocation, action: tuple[str, str], ids: list[str], *, dry_run: bool
) -> None:
    name, verb = action
    data = {"action": name, "jobs": ids, "dry_run": dry_run}
    would = "would be " if dry_run else ""
    shown = f"{plural(len(ids), 'job')} {would}{verb}."
    invocation.out.answer("nuvom.error_change/1", data, shown)


# ---- what an error means ----------------------------------------------------------------


class ErrorEntry(NamedTuple):
    """What is known of one error; ``docs/errors.md`` has a section for each.

    Attributes:
        meaning: One sentence, or empty (``python -OO``).
        bases: Its base classes.
        says: Its message; the words in braces are filled in.
        depth: How many base classes of Nuvom it has.
    """

    name: str
    meaning: str
    bases: tuple[str, ...]
    says: str
    fix: str
    exit: int
    depth: int = 0


def error_entries() -> Iterator[ErrorEntry]:
    """Yield all errors, each after its base, then those of the command line alone."""
    yield from _entries_below(NuvomError, 0)
    yield ErrorEntry(
        "Usage",
        "Only on the command line: a command was not called as its help says.",
        bases=(),
        says="",
        fix="Read the help of the command, which the message names.",
        exit=exit_codes.USAGE,
    )
    yield ErrorEntry(
        "Unexpected",
        "Only on the command line: something failed in a way that nobody foresaw.",
        bases=(),
        says="",
        fix="Run the command again with `--debug`, which shows where it comes from, and report it.",
        exit=exit_codes.FAILED,
    )


def _entries_below(cls: type[NuvomError], depth: int) -> Iterator[ErrorEntry]:
    yield ErrorEntry(
        cls.__name__,
        " ".join((cls.__doc__ or "").split("\n\n")[0].split()).replace("``", "`"),
        tuple(base.__name__ for base in cls.__bases__ if base is not Exception),
        cls.message,
        cls.usual_remedy or cls.remedy,
        exit_codes.exit_code_of(cls),
        depth,
    )
    for child in cls.__subclasses__():
        # A class with two bases stands under the first; others' subclasses are not ours.
        if child.__bases__[0] is cls and child.__module__ == NuvomError.__module__:
            yield from _entries_below(child, depth + 1)


def _error_names(_ctx: click.Context, _param: click.Parameter, text: str) -> list[str]:
    names = (entry.name for entry in error_entries())
    return [name for name in names if name.lower().startswith(text.lower())]


@command()
@click.argument("error", shell_complete=_error_names)
def explain(invocation: Invocation, error: str) -> None:
    """Say what an error of Nuvom means and what to do about it, such as JobTimeout."""
    entries = {entry.name.lower(): entry for entry in error_entries()}
    entry = entries.get(error.rpartition(".")[2].lower())
    if entry is None:
        hint = did_you_mean(error, [one.name for one in entries.values()])
        raise click.UsageError(f'No error of Nuvom is named "{error}".{hint}')
    out, data = invocation.out, entry._asdict()
    del data["depth"]
    if out.as_json:
        out.json("nuvom.explanation/1", {**data, "bases": list(entry.bases)})
        return
    out.text(entry.name, "bold")
    out.fields(
        {
            "meaning": entry.meaning,
            "says": entry.says,
            "fix": entry.fix,
            "is a": ", ".join(entry.bases),
            "exit code": str(entry.exit),
        }
    )
