"""One job: what happened to it, why it does not run, and what can be done."""

from __future__ import annotations

import json
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import Response

from nuvom.cli.project import changes_of
from nuvom.contrib.dashboard import actions
from nuvom.contrib.dashboard.pages.arguments import ArgumentForm
from nuvom.contrib.dashboard.pages.attempts import parts_of, timeline
from nuvom.contrib.dashboard.pages.jobs import ALLOWED, condition
from nuvom.contrib.dashboard.visit import Done, Page
from nuvom.core.record import DEFAULT_RETRY, FINAL, JobStatus
from nuvom.core.text import mask_text
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.errors import PayloadError, TaskNotFound
from nuvom.inspection import views
from nuvom.inspection.formats import duration
from nuvom.inspection.obstacles import facts
from nuvom.inspection.redaction import editable
from nuvom.scheduler.record import fire_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.contrib.dashboard.pages.attempts import TracePart
    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.record import Attempt, JobRecord, JobSnapshot
    from nuvom.discovery.entries import TaskEntry

_SHOWN_CHARS = 65_536
_SHORT = 120  # of a value that is written in one line
_HEX_BYTES = 24
_RUNS = 50
_IMPORTS = (  # what the representations of values need
    ("datetime.", "import datetime"),
    ("Decimal(", "from decimal import Decimal"),
    ("UUID(", "from uuid import UUID"),
)


class ShownValue(NamedTuple):
    """A value as text.

    Attributes:
        is_cut: Whether there is more of it than ``text``.
    """

    text: str
    is_cut: bool = False


class Trace(NamedTuple):
    """Why an attempt failed: its number, the type, and the traceback in parts.

    Attributes:
        epoch: Tells it from attempts of the same number, before somebody retried the job.
    """

    number: int
    epoch: int
    word: str
    parts: list[TracePart]


class LastRuns(NamedTuple):
    """The last runs of a task: how many ended how, the median of their time, and each time."""

    total: int
    counts: list[tuple[str, int]]
    median: float | None
    secs: list[float]


def job(visit: Visit) -> Page:
    """Show the job of the address, by its id or the end of it."""
    found = seen(visit)
    entry, form = entry_of(visit, found.record), None
    if entry is not None and visit.may("repeat"):
        form = _form_of(visit, entry, found.record)
    return shown(visit, found, entry, form)


def repeat(visit: Visit) -> Done | Page:
    """Store a new job with the arguments that were sent, or show what is wrong with them.

    Raises: HttpError; TaskNotFound: the manifest does not list the task. JobNotFound.
    """
    visit.require("repeat")
    found = seen(visit)
    entry = entry_of(visit, found.record)
    if entry is None:
        raise TaskNotFound(found.record.func_name, ())
    form = ArgumentForm(visit.runtime, entry, found.record, visit.form)
    record = form.record()
    if record is None:
        return shown(visit, found, entry, form)
    new = actions.repeat(visit, found, **changes_of(record))
    message = f"Enqueued as a new job, {views.short_id(new)}. Its arguments are the edited ones."
    return Done(message, f"{visit.url(f'/jobs/{new}')}#main")


def result_file(visit: Visit) -> Response:
    """Return the whole result of a job as a file, with secrets masked."""
    found = seen(visit)
    text = json.dumps(_plain(visit.inspector.shown_result(found)), ensure_ascii=False, indent=2)
    name = f"{views.short_id(found.record.id)}.json"
    headers = {"Content-Disposition": f'attachment; filename="result-{name}"'}
    return Response(text.encode(), media_type="application/json", headers=headers)


def seen(visit: Visit) -> JobSnapshot:
    """Return the job of the address. Raises: JobNotFound, AmbiguousJob."""
    inspector = visit.inspector
    return inspector.snapshot(inspector.find_id(visit.named("id")))


def entry_of(visit: Visit, record: JobRecord) -> TaskEntry | None:
    """Return the job's task in the manifest, or None."""
    return by_any_name(tasks_or_nothing(visit.runtime.settings.manifest_file)).get(record.func_name)


def _form_of(visit: Visit, entry: TaskEntry, record: JobRecord) -> ArgumentForm | None:
    """Return the form for the arguments of a job; None if they are damaged."""
    try:
        return ArgumentForm(visit.runtime, entry, record)
    except PayloadError:
        return None


def shown(
    visit: Visit,
    found: JobSnapshot,
    entry: TaskEntry | None,
    form: ArgumentForm | None,
) -> Page:
    """Return the page of a job."""
    inspector, settings, now = visit.inspector, visit.runtime.settings, visit.now
    record, attempts = found.record, inspector.attempts(found.record.id)
    schedule, _ = fire_of(record.headers)
    arguments, damage = _arguments(visit, record)
    result = _shown(inspector.shown_result(found))
    context = {
        "job": found,
        "record": record,
        "badge": views.status_badge(found, now),
        "times": views.job_times(found),
        "whole": _whole(found, attempts),
        "taken": views.took(*views.job_times(found)),
        "can": [one for one, statuses in ALLOWED.items() if found.status in statuses],
        "attempts": attempts,
        "timeline": timeline(visit, found, attempts),
        "traces": list(_traces(visit, found, attempts)),
        "facts": facts(inspector, settings, found, now),
        "arguments": arguments,
        "damage": damage,
        "size": len(bytes(record.args)) + len(bytes(record.kwargs)),
        "result": result,
        "progress": _progress(found),
        "links": inspector.links(found),
        "schedule": schedule,
        "waited": _waited(record, attempts),
        "retries": _retries(record),
        "commands": _commands(found),
        "quoted": condition,
        "runs": _runs(visit, record),
        "python": _python(visit, record, entry),
        "entry": entry,
        "form": form,
    }
    return Page("job.html", context)


def _traces(visit: Visit, found: JobSnapshot, attempts: list[Attempt]) -> Iterator[Trace]:
    """Yield the failed attempts, the last one first."""
    root = visit.runtime.settings.root
    failed = [one for one in attempts if one.error is not None]
    if not failed and found.error is not None and found.status is not JobStatus.PARKED:
        text = views.trace_text(views.error_data(found.error, traceback=True) or {})
        yield Trace(found.record.attempt, 0, found.error.type, parts_of(text, root))
    for one in reversed(failed):
        data = views.error_data(one.error, traceback=True) or {}
        word = views.END_WORDS.get(data["type"], data["type"])
        parts = parts_of(views.trace_text(data), root)
        yield Trace(one.number, one.lease_epoch, word, parts)


def _arguments(visit: Visit, record: JobRecord) -> tuple[list[tuple[str, ShownValue]], str]:
    """Return the arguments by name, and why they cannot be read."""
    try:
        named = visit.inspector.named_arguments(record)
    except PayloadError as error:
        return [], error.what
    return [(name, _shown(value)) for name, value in named.items()], ""


def _shown(value: Any) -> ShownValue:
    """Return the beginning of a value as JSON, in one line if it is short."""
    plain = _plain(value)
    encoder = json.JSONEncoder(ensure_ascii=False, indent=2)
    text, pieces = "", encoder.iterencode(plain)
    while len(text) <= _SHOWN_CHARS and (piece := "".join(islice(pieces, 1000))):
        text += piece
    if len(text) <= _SHOWN_CHARS and len(short := json.dumps(plain, ensure_ascii=False)) <= _SHORT:
        text = short
    return ShownValue(text[:_SHOWN_CHARS], len(text) > _SHOWN_CHARS)


def _plain(value: Any) -> Any:
    """Return a value in plain JSON types; bytes as their number and the first of them."""
    match value:
        case bytes() | bytearray() | memoryview():
            data = bytes(value)
            more = " ..." * (len(data) > _HEX_BYTES)
            return f"{len(data):,} bytes: {data[:_HEX_BYTES].hex(' ')}{more}"
        case dict():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
    return editable(value)


def _progress(found: JobSnapshot) -> dict[str, Any] | None:
    if found.progress is None:
        return None
    done, total, note = found.progress
    share = views.progress_share(found.progress)
    return {"done": done, "total": total, "note": mask_text(note), "share": share}


def _waited(record: JobRecord, attempts: list[Attempt]) -> float | None:
    started_at = next((one.started_at for one in attempts if one.started_at), None)
    return None if started_at is None else max(0.0, started_at - record.created_at)


def _whole(found: JobSnapshot, attempts: list[Attempt]) -> float | None:
    """Return the seconds from the first start to the end of a job with several attempts."""
    starts = [one.started_at for one in attempts if one.started_at]
    is_known = found.status.is_final and found.finished_at and len(starts) > 1
    return max(0.0, found.finished_at - starts[0]) if is_known and found.finished_at else None


def _runs(visit: Visit, record: JobRecord) -> LastRuns:
    found = visit.inspector.newest(record.func_name, _RUNS, statuses=FINAL)
    taken = [views.took(*views.job_times(one)) for one in reversed(found)]
    secs = [one for one in taken if one is not None]
    counts = [(str(word), sum(one.status is word for one in found)) for word in JobStatus]
    return LastRuns(
        len(found), [one for one in counts if one[1]], median(secs) if secs else None, secs
    )


def _python(visit: Visit, record: JobRecord, entry: TaskEntry | None) -> str:
    """Return the call in Python; "" if the task's module is unknown or its arguments are."""
    if entry is None or "." in entry.qualname:
        return ""
    try:
        args, kwargs = visit.inspector.shown_arguments(record)
    except PayloadError:
        return ""
    words = [repr(one) for one in args] + [f"{name}={one!r}" for name, one in kwargs.items()]
    call = f"{entry.qualname}.delay({', '.join(words)})"
    lines = [line for start, line in _IMPORTS if start in call]
    lines += [f"from {entry.module} import {entry.qualname}", "", call]
    return "\n".join(lines)[:_SHOWN_CHARS]


def _retries(record: JobRecord) -> str:
    """Return how often a job is tried again, and after how long: ``3, exponential from 45 s``."""
    policy = record.retry or DEFAULT_RETRY
    if not record.max_retries:
        return "none"
    start = "" if policy.backoff == "constant" else " from"
    return f"{record.max_retries}, {policy.backoff}{start} {duration(policy.delay_secs)}"


def _commands(found: JobSnapshot) -> str:
    """Return commands that show the job and do what is most likely wanted."""
    short = views.short_id(found.record.id)
    lines = [f"nuvom inspect job {short}"]
    if found.status in ALLOWED["retry"]:
        lines.append(f"nuvom retry job {short} --edit")
    elif not found.status.is_final:
        lines.append(f"nuvom cancel {short}")
    return "\n".join(lines)
