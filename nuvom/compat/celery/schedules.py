"""The schedules of ``celery.schedules``, and the rules of Nuvom that they stand for.

Crontabs of Celery differ from those of cron in three points, all of which are kept: a range may go
past the end (``fri-mon``), names may be written in full, and where both the day of the month and
the day of the week are given, both have to match.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.compat.celery.exceptions import CeleryWarning, NotSupported
from nuvom.core.job_context import current
from nuvom.scheduler.cron import zone_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Field(NamedTuple):
    """A field of a crontab: its least and largest number, and names from the least on."""

    least: int
    most: int
    names: tuple[str, ...] = ()

    def text(self, given: Any) -> str:
        """Return what a field is given as in the words of cron."""
        if isinstance(given, str):
            return ",".join(map(self._part, given.replace(" ", "").split(",")))
        numbers = [given] if not isinstance(given, Iterable) else sorted(given)
        return ",".join(map(str, numbers))

    def numbers(self, text: str) -> set[int]:
        """Return the numbers of a field's text."""
        return {number for part in text.split(",") for number in self._numbers(part)}

    def _part(self, part: str) -> str:
        """Return one part; what is no part of a crontab is returned as it is, to be refused."""
        body, slash, step = part.partition("/")
        if body == "*":
            return part
        try:
            ends = [self._number(word) for word in body.split("-")]
            if ends == sorted(ends):
                return f"{'-'.join(map(str, ends))}{slash}{step}"
            return ",".join(map(str, self._numbers(part)))
        except ValueError:
            return part

    def _numbers(self, part: str) -> list[int]:
        body, _, step = part.partition("/")
        first, dash, last = body.partition("-")
        everything = range(self.least, self.most + 1)
        if first == "*":
            numbers = [*everything]
        elif not dash:
            numbers = [self._number(first)]
        else:
            begin, end = self._number(first), self._number(last)
            is_past_the_end = end < begin
            numbers = [*range(begin, (self.most if is_past_the_end else end) + 1)]
            numbers += range(self.least, end + 1) if is_past_the_end else ()
        return numbers[:: int(step or 1)]

    def _number(self, word: str) -> int:
        short = word[:3].lower()
        return self.least + self.names.index(short) if short in self.names else int(word)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS = {
    "minute": _Field(0, 59),
    "hour": _Field(0, 23),
    "day_of_month": _Field(1, 31),
    "month_of_year": _Field(1, 12, _MONTHS),
    "day_of_week": _Field(0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
}
_WEEKS = [range(first, min(first + 7, 32)) for first in range(1, 32, 7)]


@dataclass(frozen=True)
class crontab:  # noqa: N801  # Celery's name
    """Times as in a crontab, in the time zone of the application."""

    minute: Any = "*"
    hour: Any = "*"
    day_of_week: Any = "*"
    day_of_month: Any = "*"
    month_of_year: Any = "*"
    nowfun: Any = None
    app: Any = None

    @property
    def expression(self) -> str:
        """The same times as an expression of cron.

        Raises: NotSupported: no single expression says it.
        """
        fields = {name: kind.text(getattr(self, name)) for name, kind in _FIELDS.items()}
        days, weekdays = fields["day_of_month"], fields["day_of_week"]
        if not days.startswith("*") and not weekdays.startswith("*"):
            fields |= _both(days, weekdays)
        return " ".join(fields.values())


def _both(days: str, weekdays: str) -> dict[str, str]:
    """Return fields that match where both of these do; in cron, one of them would be enough."""
    numbers = _FIELDS["day_of_month"].numbers(days)
    weeks = [nth for nth, week in enumerate(_WEEKS, 1) if numbers.issuperset(week)]
    if {day for nth in weeks for day in _WEEKS[nth - 1]} == numbers:  # the second Monday, say
        chosen = sorted(_FIELDS["day_of_week"].numbers(weekdays))
        return {
            "day_of_month": "*",
            "day_of_week": ",".join(f"{day}#{nth}" for nth in weeks for day in chosen),
        }
    if 1 in numbers:  # a star in front, which adds nothing here, is how cron says both
        return {"day_of_month": f"*/31,{days}"}
    raise NotSupported(
        f"crontab(day_of_month={days!r}, day_of_week={weekdays!r})",
        "cron has no expression for days that are both; leave one out, and let the task look at "
        "the date.",
    )


@dataclass(frozen=True)
class schedule:  # noqa: N801  # Celery's name
    """A fixed interval: seconds, or a ``timedelta``.

    Attributes:
        relative: Whether runs are at whole multiples of the interval since midnight, rather than
            since the schedule was stored.
    """

    run_every: float | timedelta | None = None
    relative: bool = False
    nowfun: Any = None
    app: Any = None


class solar:  # noqa: N801  # Celery's name
    """An event of the sun at a place. Raises: NotSupported."""

    def __init__(self, event: str, lat: float, lon: float, **_: Any) -> None:
        what = f"solar({event!r}, {lat}, {lon})"
        raise NotSupported(what, "Nuvom knows no times of the sun; use a crontab().")


def rule_options(entry: Mapping[str, Any], conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of Nuvom's for an entry of ``beat_schedule``.

    Args:
        conf: The settings of the application.
    Raises: NotSupported: it is neither an interval nor a crontab; InvalidSchedule.
    """
    given = entry.get("schedule")
    if isinstance(given, crontab):
        deadline, zone = conf["beat_cron_starting_deadline"], zone_name(conf)
        return {"cron": given.expression, "timezone_name": zone, "grace": deadline}
    if isinstance(given, schedule):
        interval, is_relative = given.run_every, given.relative
    else:
        interval, is_relative = given, bool(entry.get("relative"))
    if isinstance(interval, bool) or not isinstance(interval, int | float | timedelta):
        what = f"schedule={given!r}"
        raise NotSupported(what, "give seconds, a timedelta, schedule() or crontab().")
    options: dict[str, Any] = {"interval": interval}
    if is_relative:
        options["start"] = datetime(2000, 1, 1, tzinfo=zone_of(zone_name(conf)))
    return options


def zone_name(conf: Mapping[str, Any]) -> str:
    """Return the name of the time zone of the settings.

    Raises: NotSupported: it is that of the machine, or has no name.
    """
    zone = conf["timezone"]
    if zone is None and not conf["enable_utc"]:
        raise NotSupported("enable_utc=False without timezone", "name the time zone: timezone=.")
    found = "UTC" if zone is None else zone
    for attribute in ("key", "zone"):  # of zoneinfo, and of pytz
        found = getattr(found, attribute, found)
    return str(found)


def warn_if_late(what: str) -> None:
    """Say that what is imported with a job comes too late for the worker, which has started."""
    if current.get() is not None:
        text = (
            f"{what} counts from the next start of a worker that imports this module: name it in "
            "the setting hooks."
        )
        warnings.warn(text, CeleryWarning, stacklevel=4)
