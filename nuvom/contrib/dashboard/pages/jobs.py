"""Jobs: those that match a search, page by page, and what can be done to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import readings
from nuvom.contrib.dashboard.visit import Page, whole
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import FINAL, JobStatus
from nuvom.core.transitions import RETRYABLE
from nuvom.errors import InvalidSearch, PayloadError
from nuvom.inspection import views
from nuvom.inspection.inspector import counts_by_status
from nuvom.inspection.search import Search, parse_search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.record import JobSnapshot
    from nuvom.inspection.inspector import Count, Inspector

SIZES = (25, 50, 100, 200)
_USUAL_SIZE = 50
_MOST_BYTES = 65_536  # of arguments that a list shows the beginning of
_COUNTED = 1000  # jobs at a time
_COUNTING_SECS = 0.1

ALLOWED = {
    "retry": RETRYABLE,
    "cancel": frozenset(JobStatus) - FINAL,
    "discard": FINAL,
}
"""In which statuses each action can be done to a job."""


class JobRow(NamedTuple):
    """A job in the list."""

    job: JobSnapshot
    badge: str
    arguments: str
    took: float | None
    can: tuple[str, ...]


class StatusTab(NamedTuple):
    """A status above the list: how many jobs have it, and the search for them."""

    word: str
    number: str
    q: str
    is_current: bool


class TypedSearch(NamedTuple):
    """What stands in the search box.

    Attributes:
        search: What the table shows.
        text: What was typed and cannot be understood, or "".
        error: Why not, or "".
    """

    search: Search
    text: str = ""
    error: str = ""


def typed_search(visit: Visit) -> TypedSearch:
    """Return the search of the address.

    ``q`` may be there twice: the search so far, and what was added in the box. If that makes no
    sense, the search so far stays.
    """
    parts = [one for one in visit.request.query_params.getlist("q") if one.strip()]
    try:
        return TypedSearch(parse_search(" ".join(parts)))
    except InvalidSearch as error:
        wrong = error
    try:
        return TypedSearch(
            parse_search(" ".join(parts[:-1])), parts[-1], f"{wrong.what} {wrong.fix}"
        )
    except InvalidSearch:
        return TypedSearch(Search(), " ".join(parts), f"{wrong.what} {wrong.fix}")


def jobs(visit: Visit) -> Page:
    """Show the jobs that match ``?q=``, newest first."""
    typed, inspector = typed_search(visit), visit.inspector
    search, size, now = typed.search, _size(visit), visit.now
    found = inspector.search(search, before=visit.asked("before") or None, limit=size)
    rows = [row_of(inspector, one, now) for one in found.jobs]
    counts = counts_by_status(readings.stats(visit))
    here = {"q": search.text, "size": visit.asked("size"), "compact": visit.asked("compact")}
    return Page(
        "jobs.html",
        {
            "typed": typed,
            "tokens": list(tokens_of(search)),
            "tabs": list(_tabs(search, counts)),
            "rows": rows,
            "found": found,
            "here": here,
            "size": size,
            "sizes": SIZES,
            "number": _number(search, counts),
            "is_whole": found.next_before is None and not visit.asked("before"),
            "wider": Search(search.conditions[:-1]).text if search.conditions else None,
        },
    )


def chosen(visit: Visit) -> Page:
    """Ask what to do to all jobs that match: how many there are now, up to the newest of them."""
    search = typed_search(visit).search
    counts, newest, seen = dict.fromkeys(ALLOWED, 0), "", 0
    before: str | None = None
    ends_at = SYSTEM_CLOCK.monotonic() + _COUNTING_SECS
    while (left := ends_at - SYSTEM_CLOCK.monotonic()) > 0:
        found = visit.inspector.search(search, before=before, limit=_COUNTED, secs=left)
        for one in found.jobs:
            newest = newest or one.record.id
            for action, statuses in ALLOWED.items():
                counts[action] += one.status in statuses
        seen += len(found.jobs)
        before = found.next_before
        if before is None:
            break
    asked = visit.asked("do")
    context = {"search": search, "counts": counts, "upto": newest, "seen": seen}
    return Page("chosen.html", {**context, "is_more": before is not None, "asked": asked})


def row_of(inspector: Inspector, job: JobSnapshot, now: float) -> JobRow:
    """Return a job as the list shows it."""
    can = tuple(action for action, statuses in ALLOWED.items() if job.status in statuses)
    started_at, finished_at = views.job_times(job)
    taken = views.took(started_at, now if job.status is JobStatus.RUNNING else finished_at)
    return JobRow(job, views.status_badge(job, now), arguments_of(inspector, job), taken, can)


def arguments_of(inspector: Inspector, job: JobSnapshot) -> str:
    """Return the beginning of a job's arguments in one line."""
    record = job.record
    size = len(bytes(record.args)) + len(bytes(record.kwargs))
    if size > _MOST_BYTES:
        return f"{size:,} bytes"
    try:
        return views.arguments_text(inspector.named_arguments(record))
    except PayloadError:
        return "cannot be read"


def _size(visit: Visit) -> int:
    asked = whole(visit.asked("size"))
    return _USUAL_SIZE if asked is None else min(max(asked, 1), SIZES[-1])


def tokens_of(search: Search) -> Iterator[tuple[str, str, str]]:
    """Yield name, values and the search without it for each condition."""
    for one in search.conditions:
        values = ",".join(one.values)
        name = one.text.removesuffix(values) if one.text.endswith(values) else ""
        yield name, one.text[len(name) :], search.without(one).text


def _tabs(search: Search, counts: dict[JobStatus, Count]) -> Iterator[StatusTab]:
    current = search.values("status")
    n, is_more = sum(one.n for one in counts.values()), any(one.is_more for one in counts.values())
    shown = _counted(n, is_more=is_more) if counts else ""
    yield StatusTab("All", shown, search.without("status").text, not current)
    for status in JobStatus:
        count = counts.get(status)
        shown = "" if count is None else _counted(count.n, is_more=count.is_more)
        q = search.with_("status", status).text
        yield StatusTab(str(status), shown, q, status in current)


def _number(search: Search, counts: dict[JobStatus, Count]) -> str:
    """Return how many jobs match, if that needs no look at them; else ""."""
    if not counts or any(one.name != "status" for one in search.conditions):
        return ""
    found = [counts[one] for one in search.statuses]
    return _counted(sum(one.n for one in found), is_more=any(one.is_more for one in found))


def _counted(n: int, *, is_more: bool) -> str:
    return f"{n // 1000}k+" if is_more and n >= 1000 else f"{n:,}{'+' * is_more}"  # noqa: PLR2004  # a k


def condition(name: str, value: str) -> str:
    """Return the search for one value of a name, however it is spelled; for all jobs if empty."""
    return Search().with_(name, value).text if value else ""
