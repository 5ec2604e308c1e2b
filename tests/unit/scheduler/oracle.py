"""When a cron expression fires, found by looking at a clock on the wall, minute after minute.

It shares no code with the package and takes as long as it takes: the expression is read anew here,
and changes of the clocks are whatever the wall clock does between two minutes.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_MINUTE = timedelta(minutes=1)
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {
    name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))
}
_HOUR = 3600


class Oracle:
    """One expression, read by hand."""

    def __init__(self, expression: str) -> None:
        *seconds, minute, hour, day, month, weekday = expression.upper().split()
        self._seconds = sorted(_numbers(seconds[0], 59)) if seconds else [0]
        self._minutes = _numbers(minute, 59)
        self._hours = _numbers(hour, 23)
        self._months = _numbers(month, 12, least=1, names=_MONTHS)
        self._days, self._weekdays = day.split(","), weekday.split(",")
        self._needs_both_days = day[0] == "*" or weekday[0] == "*"
        self._follows_real_time = minute[0] == "*" or hour[0] == "*"
        self.is_on = lru_cache(maxsize=None)(self._is_on)

    def _is_on(self, day: date) -> bool:
        """Whether it fires on a day of the calendar."""
        of_month = any(_is_day(part, day) for part in self._days)
        of_week = any(_is_weekday(part, day) for part in self._weekdays)
        matches = of_month and of_week if self._needs_both_days else of_month or of_week
        return matches and day.month in self._months

    def fires(self, walk: list[tuple[int, datetime]]) -> list[int]:
        """Return the fire times of a walk: moments a minute apart, each with the wall clock."""
        fires: set[int] = set()
        seen: set[datetime] = set()
        before: datetime | None = None
        for moment, wall in walk:
            if self._follows_real_time or wall not in seen:
                fires |= self._at(moment, wall)
            if not self._follows_real_time and before is not None:
                skipped = before + _MINUTE
                while skipped < wall:
                    if self._at(moment, skipped):
                        fires.add(moment)
                    skipped += _MINUTE
            seen.add(wall)
            before = wall
        return sorted(fires)

    def _at(self, moment: int, wall: datetime) -> set[int]:
        if wall.minute not in self._minutes or wall.hour not in self._hours:
            return set()
        return {moment + second for second in self._seconds} if self.is_on(wall.date()) else set()


def _numbers(
    field: str, most: int, *, least: int = 0, names: dict[str, int] | None = None
) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            low, high = least, most
        else:
            low = _number(first, names)
            high = _number(last, names) if last else most if step else low
        found.update(range(low, high + 1, int(step or 1)))
    return found


def _number(text: str, names: dict[str, int] | None) -> int:
    return (names or {}).get(text) or int({"SUN": "0"}.get(text, text))


def _is_day(part: str, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    if part == "L":
        return day.day == last
    if part == "LW":
        workdays = [n for n in range(1, last + 1) if day.replace(day=n).weekday() < 5]
        return day.day == workdays[-1]
    return day.day in _numbers(part, 31, least=1)


def _is_weekday(part: str, day: date) -> bool:
    weekday = day.isoweekday() % 7  # Sunday is 0
    if "#" in part:
        wanted, _, count = part.partition("#")
        return weekday == _number(wanted, _DAYS) % 7 and (day.day - 1) // 7 + 1 == int(count)
    if part[-1] == "L":
        is_last = (day + timedelta(days=7)).month != day.month
        return weekday == int(part[:-1]) % 7 and is_last
    return weekday in {number % 7 for number in _numbers(part, 7, names=_DAYS)}


def walk(zone: ZoneInfo, first: int, last: int) -> list[tuple[int, datetime]]:
    """Return what the wall clock shows at each minute."""
    moments = range(first - first % 60, last, 60)
    return [
        (moment, datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0))
        for moment in moments
    ]


def transitions(zone: ZoneInfo, first_year: int, last_year: int) -> list[int]:
    """Return the moments at which the clocks of a zone are changed; two a year where they are not.

    Those are about midnight of the last day of February and of the year.
    """
    start = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(last_year + 1, 1, 1, tzinfo=UTC).timestamp())
    found = []
    for hour in range(start, end, _HOUR):
        if _offset(zone, hour) != _offset(zone, hour + _HOUR):
            minutes = range(hour + 60, hour + _HOUR + 1, 60)
            found.append(next(one for one in minutes if _offset(zone, one) != _offset(zone, hour)))
    if found:
        return found
    years = range(first_year, last_year + 1)
    days = [date(year, month, 1) for year in years for month in (3, 12)]
    return [int(datetime(*one.timetuple()[:3], tzinfo=UTC).timestamp()) for one in days]


def _offset(zone: ZoneInfo, moment: int) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).utcoffset()
