"""Errors: failures grouped by task, type and place, so that one fault is one row."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import frame
from nuvom.contrib.dashboard.pages.jobs import TypedSearch, tokens_of, typed_search
from nuvom.contrib.dashboard.visit import Page
from nuvom.core.record import JobRecord, JobSnapshot, StoredError
from nuvom.core.text import mask_text
from nuvom.errors import JobNotFound
from nuvom.inspection import views
from nuvom.inspection.formats import duration
from nuvom.inspection.search import TEXT, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.views import ErrorGroup

_MOST_GROUPS = 100
_GROUPS_SECS = 1.0  # for which all tabs share them
_MOST_EXAMPLES = 200  # failures of a group whose workers are counted
_IDS = 6
_BARS = 24
_HEAD_LINES = 12
_KNOWN = ("status", "task", "error", "after", "before", TEXT)
_MOSTLY = 0.8  # share of a group's jobs from which on one worker is named
_SOON_SECS = 600.0


class GroupRow(NamedTuple):
    """A group of failures; ``bars`` are its newest ones over the time window."""

    group: ErrorGroup
    word: str
    bars: list[int]


class WorkerShare(NamedTuple):
    """On which worker most failures of a group ran: a text around its id, or "" if unknown."""

    text: str = ""
    worker: str = ""
    rest: str = ""


class GroupDetail(NamedTuple):
    """What an open row shows: the end of a traceback, the newest jobs, and where they ran."""

    trace: str
    ids: list[str]
    share: WorkerShare


def errors(visit: Visit) -> Page:
    """Show the groups that match ``?q=``; the one that ``?show=`` names is open."""
    typed, now = typed_search(visit), visit.now
    groups = groups_of(visit)
    search = Search(tuple(one for one in typed.search.conditions if one.name in _KNOWN))
    others = [one.text for one in typed.search.conditions if one.name not in _KNOWN]
    if others and not typed.error:
        error = f"Errors cannot be filtered by {', '.join(others)}."
        typed = TypedSearch(search, " ".join(others), error)
    found = [one for one in groups if search.fits(_as_job(one), now, dict)]
    found.sort(key=lambda one: (-one.count, -one.last_at))
    secs, label = frame.WINDOWS[frame.window(visit, "24h")]
    shown = next((one for one in found if one.fingerprint == visit.asked("show")), None)
    return Page(
        "errors.html",
        {
            "typed": typed,
            "tokens": list(tokens_of(search)),
            "rows": [GroupRow(one, _word(one), _bars(one, now - secs, now)) for one in found],
            "jobs": sum(one.count for one in found),
            "first": _first(found),
            "window": frame.window(visit, "24h"),
            "label": label,
            "shown": shown,
            "detail": None if shown is None else _detail(visit, shown),
            "any": bool(groups),
            "is_more": len(groups) == _MOST_GROUPS,
            "group_query": lambda one: Search().with_("error", one.fingerprint).text,
        },
    )


def groups_of(visit: Visit) -> list[ErrorGroup]:
    """Return the latest groups of failures."""
    read = visit.inspector.error_groups
    return visit.site.kept("groups", _GROUPS_SECS, lambda: read(_MOST_GROUPS), until_change=True)


def _as_job(group: ErrorGroup) -> JobSnapshot:
    """Return a group as the job that a search looks at."""
    record = JobRecord(
        group.example_id, group.func_name, created_at=group.last_at, status=group.status
    )
    error = StoredError(group.type, group.message, None, group.fingerprint)
    return JobSnapshot(record=record, error=error)


def _word(group: ErrorGroup) -> str:
    """Return how the jobs ended: by an exception of this type, or otherwise."""
    return views.END_WORDS.get(group.type, group.type)


def _bars(group: ErrorGroup, since: float, until: float) -> list[int]:
    counts = [0] * _BARS
    for moment in group.recent:
        place = int((moment - since) / (until - since) * _BARS)
        if 0 <= place <= _BARS:
            counts[min(place, _BARS - 1)] += 1
    return counts


def _first(groups: Sequence[ErrorGroup]) -> tuple[str, ErrorGroup] | None:
    """Return what share the largest group has, if it has most of the failures."""
    jobs = sum(one.count for one in groups)
    if len(groups) < 2:  # noqa: PLR2004  # one group is all there is
        return None
    share = groups[0].count / jobs
    words = ((0.9, "Nearly all"), (0.7, "Three quarters"), (0.6, "Two thirds"), (0.45, "Half"))
    word = next((word for least, word in words if share >= least), "")
    return (word, groups[0]) if word else None


def _detail(visit: Visit, group: ErrorGroup) -> GroupDetail:
    inspector = visit.inspector
    ids = inspector.failed_ids(group.fingerprint)
    try:
        error = inspector.snapshot(group.example_id).error
    except JobNotFound:
        error = None
    data = views.error_data(error, traceback=True)
    text = views.trace_text(data) if data else f"{group.type}: {mask_text(group.message)}"
    lines = text.replace(f"{visit.runtime.settings.root}{os.sep}", "").split("\n")
    head = "\n".join(lines[-_HEAD_LINES:])
    return GroupDetail(head, ids[:_IDS], _share(visit, ids[:_MOST_EXAMPLES], group))


def _share(visit: Visit, ids: Sequence[str], group: ErrorGroup) -> WorkerShare:
    """Return on which worker most of some failures ran, and how long it had been up before."""
    ran = Counter(filter(None, (_worker_of(visit, one) for one in ids)))
    workers = visit.inspector.workers()
    if not ran or (len(ran) == 1 and len(workers) <= 1):
        return WorkerShare()
    worker, count = ran.most_common(1)[0]
    if count < _MOSTLY * ran.total():
        return WorkerShare(f"They ran on {len(ran)} workers.")
    text = f"{count} of {ran.total()} ran on worker"
    started = next((one.started_at for one in workers if one.id == worker), None)
    if started is None or not 0 <= group.first_at - started < _SOON_SECS:
        return WorkerShare(text, worker, ".")
    up = duration(group.first_at - started)
    return WorkerShare(text, worker, f", which came up {up} before the first one.")


def _worker_of(visit: Visit, job_id: str) -> str | None:
    try:
        return visit.inspector.snapshot(job_id).worker
    except JobNotFound:  # pruned meanwhile
        return None
