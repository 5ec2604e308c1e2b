"""Cron expressions, and when they fire in a time zone.

cronsim parses the expression and finds matching times of a clock that is never changed. What a
change of the clocks does to them is decided here, by two rules:

- An expression whose minute and hour do not begin with a star names times of a day. Such a time
  fires once: the first time where an hour is repeated, and at the first moment after the gap where
  it is skipped.
- Any other expression names a rhythm. It follows real time: every moment at which the clock on the
  wall shows a matching time, so twice in a repeated hour, and not at all in a gap.

The rules are those of Debian's cron. cronsim has them, too, but not where clocks change by half an
hour.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field
from cronsim.explain import Expression

from nuvom.errors import InvalidSchedule, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")
_MOST_FIELDS = 6
_EVERY = {  # by the number of fields from the one with the step to the last
    6: ("Every second", "second", 60),
    5: ("Every minute", "minute", 60),
    4: ("At the start of every hour", "hour", 24),
}
_SIZES = (60, 60, 24, 31, 12, 7)  # how many values a field has
_FAULTS = (CronSimError, AssertionError, ValueError, TypeError)  # of what cronsim cannot parse
_DAY = 86_400
_SECOND = timedelta(seconds=1)


class Cron:
    """A parsed expression in a time zone. Raises: InvalidSchedule.

    Attributes:
        is_rhythm: Whether it follows real time where the clocks change; else it names times of a
            day, each of which fires once.
    """

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self._zone = zone
        self._fields = _checked(expression)
        *_, minute, hour, _, _, _ = self._fields.split()
        self.is_rhythm = minute.startswith("*") or hour.startswith("*")

    def after(self, moment: float) -> float | None:
        """Return the first fire time later than ``moment``, or None; seconds since the epoch."""
        return self._next_of_rhythm(moment) if self.is_rhythm else self._next_of_day(moment)

    def explain(self) -> str:
        """Return the expression in plain English."""
        return _explained(self._fields.upper().split())

    def _matches(self, after: datetime) -> Iterator[datetime]:
        """Yield matching times of a clock that is never changed, which is what a naive time is."""
        return iter(CronSim(self._fields, after))

    def _next_of_day(self, moment: float) -> float | None:
        for time in self._matches(self._wall(moment)):
            fire = self._first_moment_of(time)
            if fire > moment:  # else it is the second pass through a repeated hour
                return fire
        return None

    def _first_moment_of(self, time: datetime) -> float:
        """Return when the wall clock first shows ``time`` or, if it never does, a later time."""
        fire = time.replace(tzinfo=self._zone, fold=0).timestamp()
        if self._wall(fire) == time:
            return fire
        # In a gap, fold 0 stands for the offset before it: the moment is after the change.
        return float(max(self._changes(fire - _DAY, fire)))

    def _next_of_rhythm(self, moment: float) -> float | None:
        start, wall = moment, self._wall(moment)
        while True:
            time = next(self._matches(wall), None)
            if time is None:
                return None
            # As long as the offset stays what it is at the start, the two clocks run in step.
            fire = (time - self._offset(start)).replace(tzinfo=UTC).timestamp()
            change = next(self._changes(start, fire), None)
            if change is None:
                return fire
            start, wall = change, self._wall(change) - _SECOND

    def _changes(self, after: float, until: float) -> Iterator[int]:
        """Yield the moments at which the zone's offset changes, up to ``until``, in order."""
        first, last = (datetime.fromtimestamp(at, UTC).year for at in (after, until))
        for year in range(first, last + 1):
            for change in _changes_in(self._zone.key, year):
                if after < change <= until:
                    yield change

    def _wall(self, moment: float) -> datetime:
        return datetime.fromtimestamp(int(moment // 1), self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, moment: float) -> timedelta:
        return _offset_at(self._zone, moment)


def _explained(fields: list[str]) -> str:
    """Return what cronsim says, but ``Every 5 minutes`` for an even step, not ``fifth minute``."""
    if len(fields) == _MOST_FIELDS and fields[0] == "0":
        fields = fields[1:]
    place = int(fields[0] == "0")
    said, unit, size = _EVERY[len(fields) - place]
    step = int(fields[place][2:]) if re.fullmatch(r"\*/\d+", fields[place]) else 1
    if 1 < step < size and size % step == 0:
        words = str(Expression([*fields[:place], "*", *fields[place + 1 :]]).explain())
        if words.startswith(said):
            return f"Every {step} {unit}s{words.removeprefix(said)}"
    return str(Expression(fields).explain())


def _offset_at(zone: ZoneInfo, moment: float) -> timedelta:
    return datetime.fromtimestamp(moment, zone).utcoffset() or timedelta()


@lru_cache(maxsize=1024)
def _changes_in(key: str, year: int) -> tuple[int, ...]:
    """Return the moments of a year at which the offset of a zone changes: a second, exactly."""
    zone = ZoneInfo(key)
    first, end = (int(datetime(one, 1, 1, tzinfo=UTC).timestamp()) for one in (year, year + 1))
    changes = []
    for start in range(first, end, _DAY):
        low, high = start, min(start + _DAY, end)
        before = _offset_at(zone, low)
        if _offset_at(zone, high) == before:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset_at(zone, middle) == before else (low, middle)
        changes.append(high)
    return tuple(changes)


def next_change(timezone_name: str, after: float) -> tuple[float, timedelta, timedelta] | None:
    """Return when the clocks of a zone change next, and the offsets before and afterwards.

    None if they do not change until the end of the next year.
    """
    zone = zone_of(timezone_name)
    year = datetime.fromtimestamp(after, UTC).year
    for change in (*_changes_in(zone.key, year), *_changes_in(zone.key, year + 1)):
        if change > after:
            return float(change), _offset_at(zone, change - 1), _offset_at(zone, change)
    return None


@lru_cache(maxsize=1024)
def cron(expression: str, timezone_name: str) -> Cron:
    """Return a parsed expression. Raises: InvalidSchedule: it is wrong, or the zone unknown."""
    return Cron(expression, zone_of(timezone_name))


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone. Raises: InvalidSchedule: there is none of this name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        expected = "the IANA name of a time zone, such as Europe/Berlin"
        hint = did_you_mean(name, available_timezones())
        raise InvalidSchedule("timezone_name", name, expected, hint=hint) from error


def _checked(expression: str) -> str:
    """Return the fields of an expression.

    Raises: InvalidSchedule: it is wrong, and the message shows where; or it never fires.
    """
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in _NICKNAMES:
            raise InvalidSchedule("cron", expression, f"one of {', '.join(_NICKNAMES)}")
        return _NICKNAMES[text.lower()]
    words = list(re.finditer(r"\S+", expression))
    if len(words) not in (5, 6):
        expected = f"five fields, or six with seconds first, not {len(words)}"
        raise InvalidSchedule("cron", expression, expected)
    for field, word in zip(tuple(Field)[-len(words) :], words, strict=True):
        at = word.start()
        for part in word[0].split(","):
            if not _is_valid(field, part):
                _refuse(expression, field, at, part)
            at += len(part) + 1
    try:
        first = next(CronSim(text, datetime(2024, 1, 1)), None)  # noqa: DTZ001  # see Cron
    except _FAULTS:
        first = None
    if first is None:
        raise InvalidSchedule("cron", expression, "a day that some month has")
    return text


def _is_valid(field: Field, part: str) -> bool:
    try:
        field.parse(part.upper())
    except _FAULTS:
        return False
    return _step(part) <= _SIZES[field]  # cronsim takes */90 for a minute, and fires each hour


def _refuse(expression: str, field: Field, at: int, part: str) -> None:
    """Raises: InvalidSchedule, with a mark below the fault."""
    name, mark = _FIELDS[field], " " * at + "^" * max(1, len(part))
    hint = f"\n    {expression}\n    {mark} column {at + 1}"
    expected = f"a valid {name}"
    if _step(part) > _SIZES[field]:
        expected += f", with a step of at most {_SIZES[field]}"
    raise InvalidSchedule("cron", expression, expected, hint=hint)


def _step(part: str) -> int:
    step = part.partition("/")[2]
    return int(step) if step.isdecimal() else 1
