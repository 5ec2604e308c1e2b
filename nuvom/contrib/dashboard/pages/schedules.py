"""Schedules: what runs next, and whether the last one worked."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import charts, frame
from nuvom.contrib.dashboard.visit import Page, whole
from nuvom.core.record import JobStatus
from nuvom.errors import InvalidSchedule, JobNotFound, PayloadError, plural
from nuvom.inspection.views import call_text
from nuvom.scheduler.schedule import store_of
from nuvom.scheduler.trigger import describe, fires_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.contrib.dashboard.charts import Fires
    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.record import JobSnapshot
    from nuvom.inspection.inspector import Inspector
    from nuvom.scheduler.record import ScheduleRecord

_PAGE = 100
_NEXT = 5
_FIRES_SECS = 20.0  # so long are fire times not computed again
_BAD = (JobStatus.FAILED, JobStatus.DEAD)
_NEVER = float("inf")


class ScheduleRow(NamedTuple):
    """What is shown of a schedule.

    Attributes:
        when: When it fires, in plain English.
        cron: The expression, or empty.
        next_at: None if it will not fire.
        runs: Its latest jobs, oldest first; those that are gone are left out.
        short, tall: Paths of their outcomes; see ``charts.outcomes``.
    """

    record: ScheduleRecord
    when: str
    cron: str
    zone: str
    next_at: float | None
    axis: Fires
    runs: list[JobSnapshot]
    short: str
    tall: str

    @property
    def last(self) -> JobSnapshot | None:
        """Its latest job that is still stored."""
        return self.runs[-1] if self.runs else None

    @property
    def failures(self) -> int:
        """How many of the latest jobs failed."""
        return sum(one.status in _BAD for one in self.runs)


def schedules(visit: Visit) -> Page:
    """Show all schedules on one axis of the next 24 hours, the next one first."""
    found = sorted(visit.inspector.schedules(), key=lambda one: (_next(one) or _NEVER, one.name))
    first = whole(visit.asked("from")) or 0
    rows = [_row(visit, one) for one in found[first : first + _PAGE]]
    now = visit.now
    context = {
        "rows": rows,
        "count": len(found),
        "summary": _summary(found, rows),
        "upcoming": next((one for one in found if _next(one)), None),
        "quarters": _quarters(visit, now),
        "next_from": first + _PAGE if first + _PAGE < len(found) else None,
        "keeps_schedules": visit.runtime.schedule_store is not None,
    }
    return Page("schedules.html", context)


def schedule(visit: Visit) -> Page:
    """Show one schedule: everything about it, its next fires, its latest jobs.

    Raises: ScheduleNotFound.
    """
    one = visit.inspector.schedule(visit.named("name"))
    row = _row(visit, one)
    context = {
        "row": row,
        "one": one,
        "call": _call(visit.inspector, one),
        "fires": list(islice(_fires(one, visit.now), _NEXT)),
        "runs": row.runs[::-1],
        "quarters": _quarters(visit, visit.now),
    }
    return Page("schedule.html", context)


def _next(one: ScheduleRecord) -> float | None:
    return one.next_at if one.state == "active" else None


def _fires(one: ScheduleRecord, now: float) -> Iterator[float]:
    """Yield the next fire times; none if it does not fire, or its zone is unknown here."""
    if one.state != "active":
        return
    try:
        if one.next_at is not None and one.next_at <= now:
            yield one.next_at
        yield from fires_after(one.rule, one.created_at, now)
    except InvalidSchedule:
        return


def _row(visit: Visit, one: ScheduleRecord) -> ScheduleRow:
    now, rule = store_of(visit.runtime).clock.now(), one.rule
    axis = visit.site.kept(
        ("fires", one.id, one.revision, one.state),
        _FIRES_SECS,
        lambda: charts.fires(_fires(one, now), now),
    )
    runs = [job for id_ in one.recent if (job := _look(visit.inspector, id_)) is not None]
    short, tall = charts.outcomes([job.status in _BAD for job in runs])
    words = describe(rule).removesuffix(f" ({rule.timezone_name})")
    zone = rule.timezone_name if rule.cron else ""
    when = f"{words[:1].upper()}{words[1:]}"
    return ScheduleRow(one, when, rule.cron or "", zone, _next(one), axis, runs, short, tall)


def _look(inspector: Inspector, job_id: str) -> JobSnapshot | None:
    try:
        return inspector.look(job_id)
    except JobNotFound:  # it was pruned
        return None


def _call(inspector: Inspector, one: ScheduleRecord) -> str:
    try:
        return f"{one.task}{call_text(*inspector.shown_arguments(one.job))}"
    except PayloadError as error:
        return error.what


def _summary(found: list[ScheduleRecord], rows: list[ScheduleRow]) -> str:
    """Return the sentence above the table, up to the next fire."""
    others = {state: sum(one.state == state for one in found) for state in ("paused", "disabled")}
    states = "".join(f", {count} {state}" for state, count in others.items() if count)
    bad = sum(row.last is not None and row.last.status in _BAD for row in rows)
    failed = f" {bad} of the last runs failed." if bad else ""
    return f"{plural(len(found), 'schedule')}{states}.{failed}"


def _quarters(visit: Visit, now: float) -> list[tuple[str, float]]:
    """Return the labels of the axis: every six hours, the day's name at midnight."""
    offset = frame.offset(visit, now)
    found = []
    for moment, percent in charts.days_quarters(now, offset):
        clock = frame.clock(visit, moment + 1, "%H:%M")
        found.append((frame.clock(visit, moment + 1, "%a") if clock == "00:00" else clock, percent))
    return found
