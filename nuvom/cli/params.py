"""Parses what people type: task arguments, durations, times, limits, confirmations.

It also completes them for a shell: names of tasks, queues, schedules, jobs, settings and plugins.
Completion never creates a store, runs no project code and prints no errors. If something is
unavailable, it offers nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuvom.cli.context import Invocation
from nuvom.cli.output import clean
from nuvom.cli.project import project_root
from nuvom.config.settings import SETTINGS
from nuvom.config.sources import load
from nuvom.discovery.manifest import read_manifest
from nuvom.errors import Refused
from nuvom.inspection.inspector import Inspector
from nuvom.inspection.views import short_id
from nuvom.plugins.loader import find_entries
from nuvom.runtime import build_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from click.shell_completion import CompletionItem

    from nuvom.config.sources import Loaded

    Values = Iterable[tuple[str, str]]
    Source = Callable[[Loaded, str], Values]

_NEWEST = 50
_MOST_SCHEDULES = 1_000
_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|min|s|m|h|d|w)?")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_UNIT_SECS = {"ms": 0.001, "m": _MINUTE, "min": _MINUTE, "h": _HOUR, "d": _DAY, "w": 7 * _DAY}


def json_value(text: str, what: str) -> Any:  # noqa: ANN401  # what the text means
    """Parse JSON text. Raises: click.UsageError: ``what`` is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{what} is not valid JSON: {error}") from None


# ---- options ----------------------------------------------------------------------------


FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)

# For ``type=``; click derives the option's metavar from the function's name: SPAN, TIME, TEXT.


def span(value: str) -> float:
    """Parse ``30``, ``30s``, ``5m``, ``2h``, ``1d`` or ``1h30m`` into seconds."""
    text = value.strip().lower()
    matches = list(_SPAN.finditer(text))
    if not matches or "".join(match[0] for match in matches) != text:
        raise click.BadParameter(f"{value!r} is not a duration; write 30s, 5m, 2h or 1d.")
    return float(sum(float(one["number"]) * _UNIT_SECS.get(one["unit"], 1) for one in matches))


def moment(value: str) -> datetime:
    """Parse an ISO 8601 time; without a zone it is UTC, as everywhere in Nuvom."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        text = f"{value!r} is not a time; write 2030-12-31T08:00+01:00."
        raise click.BadParameter(text) from None
    return found.replace(tzinfo=UTC) if found.utcoffset() is None else found


def text(value: str) -> str:
    """Decode text as UTF-8, even if the system claims that it is ASCII (``LANG=C``)."""
    try:
        return os.fsencode(value).decode()
    except UnicodeError:  # neither
        return value


def queue_limits(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> dict[str, int]:
    """Parse limits such as ``mail=2``; the callback of an option."""
    found = {}
    for value in values:
        queue, _, number = value.partition("=")
        if not queue or not number.isdecimal() or int(number) < 1:
            text = f"{value!r} is not a queue limit; write mail=2."
            raise click.BadParameter(text, ctx, param)
        found[queue] = int(number)
    return found


def limit_option(default: int) -> Callable[[Any], Any]:
    """Return the option ``--limit``."""
    text, at_least_one = "Show at most this many.", click.IntRange(1)
    return click.option("--limit", type=at_least_one, default=default, show_default=True, help=text)


def format_option(text: str) -> Callable[[Any], Any]:
    """Return the option ``--format``, which the command receives as ``form``."""
    forms = click.Choice(("table", "json", "raw"), case_sensitive=False)
    return click.option("-f", "--format", "form", type=forms, default="table", help=text)


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done, without doing it."
)


def confirm(invocation: Invocation, what: str, *, yes: bool, word: str | None = None) -> None:
    """Ask the user to confirm ``what``; return if they agree.

    Args:
        what: Such as ``Purge 12 waiting jobs of queue mail``.
        word: What the user must type; None asks for yes or no.

    Raises: Refused: there is nobody to ask and ``--yes`` was not given, or the answer was no.
    """
    if yes:
        return
    can_ask = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    if invocation.out.as_json or not can_ask:
        raise Refused(
            f"{what}: this needs confirmation", "Add --yes, or preview it with --dry-run."
        )
    question = clean(what)
    if word is None:
        agreed = click.confirm(f"{question}?", default=False, err=True)
    else:
        given = click.prompt(f"{question}. Type {word} to continue", default="", err=True)
        agreed = given == word
    if not agreed:
        raise Refused(f"{what}: not confirmed", "Run it again when you are sure.")


# ---- completion -------------------------------------------------------------------------


class Completer:
    """Offers the values from ``source`` that start with the typed word."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __call__(
        self, ctx: click.Context, _: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the completions for a shell."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # only when a shell asks

        # As in a real call, the options before the incomplete word were applied to this object.
        invocation = ctx.find_object(Invocation) or Invocation()
        found: list[tuple[str, str]] = []
        with suppress(Exception):  # whatever is wrong, a shell must see no error
            found.extend(self.source(load(project_root(invocation)), incomplete))
        return [
            CompletionItem(value, help=note)
            for value, note in found
            if value.startswith(incomplete)
        ]


def _tasks(loaded: Loaded, incomplete: str) -> Values:
    """Return the tasks of the manifest, by full name or by its last part."""
    listed = read_manifest(loaded.settings.manifest_file) or ()
    found = [(task.name, task.doc or "") for task in listed if task.name.startswith(incomplete)]
    return found or [(task.name.rpartition(".")[2], task.name) for task in listed]


def _job_ids(loaded: Loaded, incomplete: str) -> Values:
    """Return the newest jobs by the end of their id, or by the whole id if the user types that."""
    for snapshot in _inspector(loaded).page(limit=_NEWEST):
        job_id, note = snapshot.record.id, f"{snapshot.record.func_name} {snapshot.status}"
        short = short_id(job_id)
        yield (short if short.startswith(incomplete) else job_id), note


def _inspector(loaded: Loaded) -> Inspector:
    return Inspector(build_runtime(loaded, allow_project_plugins=False))


task_names = Completer(_tasks)
job_ids = Completer(_job_ids)
queue_names = Completer(
    lambda loaded, _: [(one.queue, f"{one.waiting} waiting") for one in _inspector(loaded).stats()]
)
worker_ids = Completer(
    lambda loaded, _: [
        (short_id(one.id), f"pid {one.pid}") for one in _inspector(loaded).processes()
    ]
)
schedule_names = Completer(
    lambda loaded, _: [
        (one.name, one.task) for one in islice(_inspector(loaded).schedules(), _MOST_SCHEDULES)
    ]
)
fingerprints = Completer(
    lambda loaded, _: [
        (one.fingerprint, f"{one.func_name}: {one.type}")
        for one in _inspector(loaded).error_groups()
    ]
)
config_keys = Completer(
    lambda _loaded, _: [(name, setting.meaning) for name, setting in SETTINGS.items()]
)
plugin_names = Completer(
    lambda loaded, _: [(entry.name, entry.target) for entry in find_entries(loaded.settings)]
)
