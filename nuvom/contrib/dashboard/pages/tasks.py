"""Tasks: what the code defines, how each of them does, and a form to enqueue one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import actions, frame
from nuvom.contrib.dashboard.pages.arguments import ArgumentForm
from nuvom.contrib.dashboard.pages.errors import groups_of
from nuvom.contrib.dashboard.pages.jobs import condition, row_of
from nuvom.contrib.dashboard.pages.overview import NONE, Figure
from nuvom.contrib.dashboard.visit import Done, Page
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.errors import TaskNotFound, plural
from nuvom.inspection.formats import duration
from nuvom.inspection.history import by_name, percentile, total
from nuvom.inspection.views import short_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.record import JobRecord
    from nuvom.core.views import Rollup
    from nuvom.discovery.entries import TaskEntry

_ENDED = ("success", "failed", "dead")
_BAD = ("failed", "dead")
_STEPS = {"15m": 60, "1h": 60, "24h": 3600, "7d": 3600}
_MOST_LOOKED_FOR = 500  # tasks whose newest job is looked for
_RECENT = 10
_NEWEST_SECS = 2.0


class TaskFigures(NamedTuple):
    """How a task does in a time window; times in seconds, None if unknown."""

    ended: int
    bad: int
    retried: int
    p50: float | None
    p95: float | None
    p99: float | None

    @property
    def rate(self) -> str:
        """The share of jobs that failed, for people; "" if none has ended."""
        if not self.ended:
            return ""
        share = 100 * self.bad / self.ended
        return f"{share:.0f} %" if share in (0, 100) else f"{share:.2g} %"


class TaskRow(NamedTuple):
    """A task in the list.

    Attributes:
        entry: None if jobs name it, but no manifest does.
        last_at: When its newest job was created, None if there is none.
    """

    name: str
    entry: TaskEntry | None
    figures: TaskFigures
    last_at: float | None
    queue: str


def tasks(visit: Visit) -> Page:
    """Show all tasks of the manifest, and those that only jobs name."""
    inspector = visit.inspector
    entries = tasks_or_nothing(visit.runtime.settings.manifest_file)
    rows, known = by_name(_history(visit), "task"), by_any_name(entries)
    named = rows.keys() | inspector.parked_tasks().keys()
    named |= {one.func_name for one in groups_of(visit)}
    others = sorted(named - known.keys() - {""})
    shown = [(one.name, one) for one in entries] + [(name, None) for name in others]
    newest = _newest(visit, tuple(name for name, _ in shown[:_MOST_LOOKED_FOR]))
    return Page(
        "tasks.html",
        {
            "rows": [
                _row(name, entry, rows.get(name, ()), newest.get(name)) for name, entry in shown
            ],
            "window": frame.window(visit, "24h"),
            "label": frame.WINDOWS[frame.window(visit, "24h")][1],
            "others": len(others),
            "keeps_history": inspector.keeps_history,
        },
    )


def task(visit: Visit) -> Page:
    """Show one task. Raises: TaskNotFound: neither the manifest nor a job names it."""
    entry, form = entry_named(visit), None
    if entry is not None and visit.may("enqueue") and entry.importable:
        form = ArgumentForm(visit.runtime, entry)
    return shown(visit, entry, form)


def enqueue(visit: Visit) -> Done | Page:
    """Enqueue a job with the arguments that were sent, or show what is wrong with them.

    Raises: HttpError; TaskNotFound: the manifest does not list the task.
    """
    visit.require("enqueue")
    entry = entry_named(visit)
    if entry is None:
        raise TaskNotFound(visit.named("name"), ())
    form = ArgumentForm(visit.runtime, entry, None, visit.form)
    record = form.record()
    if record is None:
        return shown(visit, entry, form)
    existing: list[str] = []

    def step() -> bool:
        found = visit.runtime.dispatcher.enqueue(record)
        existing.extend([] if found is None else [found])
        return found is None

    actions.perform(visit, "enqueue", entry.name, [step])
    if existing:
        other = short_id(existing[0])
        return Done(f"No job was made. Job {other} has the same unique key.")
    address = f"{visit.url(f'/jobs/{record.id}')}#main"
    is_seen = not visit.inspector.is_blind  # else the job has no page before it has an outcome
    return Done(f"Enqueued as job {short_id(record.id)}.", address if is_seen else "")


def entry_named(visit: Visit) -> TaskEntry | None:
    """Return the task of the address in the manifest, by its name or a former one."""
    entries = by_any_name(tasks_or_nothing(visit.runtime.settings.manifest_file))
    return entries.get(visit.named("name"))


def shown(visit: Visit, entry: TaskEntry | None, form: ArgumentForm | None) -> Page:
    """Return the page of a task."""
    inspector, now = visit.inspector, visit.now
    name = visit.named("name") if entry is None else entry.name
    newest = inspector.newest(name, _RECENT)
    history, label = _history(visit), frame.WINDOWS[frame.window(visit, "24h")][1]
    if entry is None and not newest and not any(one.task == name for one in history):
        known = [one.name for one in tasks_or_nothing(visit.runtime.settings.manifest_file)]
        raise TaskNotFound(name, known)
    return Page(
        "task.html",
        {
            "name": name,
            "entry": entry,
            "options": _options(entry),
            "row": list(_shown_figures(_figures(history, name), label))
            if inspector.keeps_history
            else [Figure(f"Ended, {label}", NONE, "", "this store keeps no history")],
            "jobs": [row_of(inspector, one, now) for one in newest],
            "form": form,
            "query": condition("task", name),
            "window": frame.window(visit, "24h"),
        },
    )


def _history(visit: Visit) -> list[Rollup]:
    word = frame.window(visit, "24h")
    step = _STEPS[word]
    until = math.ceil(visit.now / step) * step
    return visit.inspector.history(until - frame.WINDOWS[word][0], until, step)


def _newest(visit: Visit, names: Sequence[str]) -> Mapping[str, JobRecord]:
    """Return the newest job of each task that has one: to find a rare one may take a while."""

    def read() -> dict[str, JobRecord]:
        found = ((name, visit.inspector.page(task=name, limit=1)) for name in names)
        return {name: jobs[0].record for name, jobs in found if jobs}

    return visit.site.kept(("newest", names), _NEWEST_SECS, read, until_change=True)


def _row(
    name: str, entry: TaskEntry | None, rows: Sequence[Rollup], newest: JobRecord | None
) -> TaskRow:
    last_at = None if newest is None else newest.created_at
    queue = "" if newest is None else newest.queue
    if entry is not None:
        queue = str(entry.options.get("queue", "")) or queue or "default"
    return TaskRow(name, entry, _figures(rows, name), last_at, queue)


def _figures(rows: Sequence[Rollup], name: str) -> TaskFigures:
    ended = total(rows, _ENDED, task=name)
    found = [percentile(rows, share, kinds=_ENDED, task=name) for share in (0.5, 0.95, 0.99)]
    bad, retried = total(rows, _BAD, task=name), total(rows, ("retried",), task=name)
    return TaskFigures(ended, bad, retried, *found)


def _shown_figures(found: TaskFigures, label: str) -> Iterator[Figure]:
    """Yield the figures of a task; counts are of jobs, times of the attempts that ended them."""
    retried = plural(found.retried, "attempt")
    yield Figure(f"Ended, {label}", f"{found.ended:,}", "", f"{retried} retried")
    yield Figure("Failed", f"{found.bad:,}", "", f"{found.rate} of them" if found.rate else "")
    for word, secs in (("p50", found.p50), ("p95", found.p95), ("p99", found.p99)):
        number, _, unit = "–".partition(" ") if secs is None else duration(secs).partition(" ")  # noqa: RUF001  # no value
        yield Figure(word, number, unit, "run time" if secs is not None else "")


def _options(entry: TaskEntry | None) -> Mapping[str, str]:
    """Return the options of a task as its code writes them."""
    if entry is None:
        return {}
    known = {name: repr(value) for name, value in entry.options.items()}
    computed = dict.fromkeys(entry.dynamic_options, "computed in code")
    return {**known, **{("more options" if k == "**" else k): v for k, v in computed.items()}}
