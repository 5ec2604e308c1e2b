"""What stands around every page: navigation with its counts, the store, the theme, the zone."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from nuvom.contrib.dashboard import readings
from nuvom.contrib.dashboard.visit import route_path
from nuvom.discovery.manifest import tasks_or_nothing
from nuvom.errors import InvalidSchedule
from nuvom.inspection.formats import calendar
from nuvom.inspection.overview import store_place
from nuvom.inspection.search import Search
from nuvom.scheduler.cron import zone_of as zone_named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

    from starlette.responses import Response

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.views import QueueStats

THEMES = ("system", "light", "dark")
WINDOWS = {
    "15m": (900, "15 min"),
    "1h": (3600, "1 h"),
    "24h": (86_400, "24 h"),
    "7d": (604_800, "7 d"),
}
"""What ``?window=`` may be: its seconds, and its name for people."""

_COUNTS_SECS = 5.0  # of what changes rarely, or takes long
_WAITING = ("ready", "scheduled", "retrying")
_MOST_GROUPS = 50
_YEAR_SECS = 31_536_000
_WEEK_DAYS = 7
_ROUNDED = 100  # from here on, a count that stopped early is rounded down


class Item(NamedTuple):
    """An entry of the navigation; ``starts`` a group of its own."""

    path: str
    title: str
    starts: bool = False


PAGES = (
    Item("/", "Overview"),
    Item("/jobs", "Jobs"),
    Item("/errors", "Errors"),
    Item("/queues", "Queues", starts=True),
    Item("/workers", "Workers"),
    Item("/schedules", "Schedules"),
    Item("/tasks", "Tasks"),
    Item("/audit", "Audit", starts=True),
    Item("/system", "System"),
)


def number(count: int, *, is_more: bool = False) -> str:
    """Return a count for people: ``612,480``; if there are more, a round one: ``13,000+``."""
    if is_more and count >= _ROUNDED:
        count -= count % 10 ** (len(str(count)) - 2)
    return f"{count:,}{'+' if is_more else ''}"


def waiting(stats: QueueStats) -> str:
    """Return how many jobs wait in a queue."""
    return number(stats.waiting, is_more=any(name in stats.at_least for name in _WAITING))


def counts(visit: Visit) -> Mapping[str, str]:
    """Return what stands beside entries of the navigation, by path; nothing where it is none."""
    stats = [one.stats for one in readings.queues(visit)]
    more = any(name in one.at_least for one in stats for name in _WAITING)
    workers = visit.inspector.workers()
    slow = visit.site.kept("counts", _COUNTS_SECS, lambda: _counts(visit), until_change=True)
    found = {
        "/jobs": number(sum(one.waiting for one in stats), is_more=more),
        "/queues": number(len(stats)),
        "/workers": number(sum(one.state != "silent" for one in workers)),
        **slow,
    }
    return {path: text for path, text in found.items() if text != "0"}


def _counts(visit: Visit) -> dict[str, str]:
    inspector, settings = visit.inspector, visit.runtime.settings
    groups = len(inspector.error_groups(_MOST_GROUPS))
    return {
        "/errors": number(groups, is_more=groups >= _MOST_GROUPS),
        "/schedules": number(sum(1 for _ in inspector.schedules())),
        "/tasks": number(len(tasks_or_nothing(settings.manifest_file))),
    }


def place(visit: Visit) -> str:
    """Return which environment and which store are shown: ``prod · nuvom.db``."""
    settings = visit.runtime.settings
    path = store_place(settings)
    return f"{settings.environment} · {settings.queue_backend if path is None else path.name}"


def static(visit: Visit, name: str) -> str:
    """Return the address of a file that browsers load."""
    return visit.url(f"/static/{visit.site.stamp}/{name}")


def is_at(visit: Visit, path: str) -> bool:
    """Return whether the page that is shown belongs to an entry of the navigation."""
    here = route_path(visit.request.scope)
    return here == path or (path != "/" and here.startswith(f"{path}/"))


def jobs(visit: Visit, **wanted: str) -> str:
    """Return the address of the jobs that fit a search, such as ``status="DEAD", queue="mail"``."""
    search = Search()
    for name, value in wanted.items():
        search = search.with_(name, value)
    return visit.url("/jobs", q=search.text)


def theme(visit: Visit) -> str:
    """Return the theme that this browser asked for."""
    asked = visit.asked("theme") or visit.request.cookies.get("nuvom_theme", "")
    return asked if asked in THEMES else "system"


def remember(visit: Visit, response: Response) -> None:
    """Let the browser keep the theme that a link of the navigation asked for."""
    if visit.asked("theme") in THEMES:
        path = visit.url("/")
        response.set_cookie("nuvom_theme", theme(visit), _YEAR_SECS, path=path, samesite="strict")


def zone(visit: Visit) -> tzinfo:
    """Return the browser's time zone, which its script tells in a cookie; UTC until then."""
    try:
        return zone_named(visit.request.cookies.get("nuvom_zone", "") or "UTC")
    except InvalidSchedule:
        return UTC


def offset(visit: Visit, moment: float) -> float:
    """Return how many seconds the browser's zone is ahead of UTC at a moment."""
    found = calendar(moment, zone(visit)).utcoffset()
    return 0.0 if found is None else found.total_seconds()


def clock(visit: Visit, moment: float, shape: str = "%H:%M:%S") -> str:
    """Return a moment on the clock of the browser's zone."""
    return calendar(moment, zone(visit)).strftime(shape)


def day_and_time(visit: Visit, moment: float) -> str:
    """Return a planned moment: ``14:45`` today, ``Wed 03:30`` this week, ``20 May 08:00``."""
    there, now = (calendar(one, zone(visit)) for one in (moment, visit.now))
    days = abs((there.date() - now.date()).days)
    shape = "%H:%M" if not days else "%a %H:%M" if days < _WEEK_DAYS else f"{there.day} %b %H:%M"
    return there.strftime(shape)


def window(visit: Visit, default: str = "1h") -> str:
    """Return the time window that is asked for, or ``default``."""
    asked = visit.asked("window")
    return asked if asked in WINDOWS else default
