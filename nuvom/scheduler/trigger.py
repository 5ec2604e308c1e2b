"""Fire times: what a rule says about when its schedule fires. Pure functions of data.

``checked_rule`` turns the options of a call, a decorator or a table of settings into a rule.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil, floor, inf
from typing import TYPE_CHECKING, Any
from warnings import warn

from msgspec.structs import asdict, replace

from nuvom.errors import ALL_OPTIONS, InvalidSchedule, did_you_mean
from nuvom.scheduler.cron import cron, zone_of
from nuvom.scheduler.record import ScheduleRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MOST_COUNTED = 10_000
"""How many missed fires are counted one by one; beyond that the number is a lower bound."""

_ONCE = ("at", "in_")
_TRIGGERS = (*_ONCE, "interval", "cron")
_MISFIRES, _OVERLAPS = ("skip", "latest", "all"), ("allow", "skip", "queue")
_LEAST_INTERVAL, _LEAST_GRACE, _MOST_SECS = 0.01, 1.0, 1e11
_FIRST_SPAN_SECS = 60.0
_FIRST_YEAR, _END_YEAR = 1900, 9000  # what is computed from these years can be a datetime, too
_END = datetime(_END_YEAR + 1, 1, 1, tzinfo=UTC).timestamp()


# ---- checks --------------------------------------------------------------------------------


def checked_rule(
    given: Mapping[str, Any], now: float, base: ScheduleRule | None = None
) -> ScheduleRule:
    """Return the rule that options describe; None leaves an option as it is in ``base``.

    Args:
        given: ``in_``, and the attributes of ``ScheduleRule``, by name.
        now: Where ``in_`` counts from.
        base: The rule that is changed; without one, a trigger has to be given.
    Raises: InvalidSchedule: an option is unknown or wrong, or the rule never fires.
    """
    options = {name: value for name, value in given.items() if value is not None}
    for name, value in options.items():
        if name not in OPTIONS:
            expected = f"one of the options {', '.join(OPTIONS)}"
            raise InvalidSchedule(name, value, expected, hint=did_you_mean(name, OPTIONS))
    zone = options.get("timezone_name")
    fields = {
        name: _moment(name, value, zone) if name in _MOMENTS else _CHECKS[name](name, value)
        for name, value in options.items()
    }
    triggers = [name for name in _TRIGGERS if name in options]
    if len(triggers) > 1 or not (triggers or base):
        wrong = {name: options[name] for name in triggers}
        raise InvalidSchedule(ALL_OPTIONS, wrong, "exactly one of at, in_, interval and cron")
    if "in_" in fields:
        fields["at"] = now + fields.pop("in_")
    if triggers and base is not None:
        base = replace(base, at=None, interval=None, cron=None)
    rule = ScheduleRule(**{**({} if base is None else asdict(base)), **fields})
    if rule.cron is not None:
        cron(rule.cron, rule.timezone_name)
    if (base is None or rule.trigger != base.trigger) and first_fire(rule, now) is None:
        name = "start" if rule.end is None else "end"
        expected = "bounds between which it fires: it never would"
        raise InvalidSchedule(name, options.get(name), expected)
    return rule


def rule_of_task(schedule: object, timezone_name: str | None) -> ScheduleRule:
    """Return the rule of ``@task(schedule=..., timezone_name=...)``. Raises: InvalidSchedule."""
    if isinstance(schedule, dict):
        return declared_rule({"timezone_name": timezone_name, **schedule})
    trigger = "cron" if isinstance(schedule, str) else "interval"
    return declared_rule({trigger: schedule, "timezone_name": timezone_name})


def declared_rule(given: Mapping[str, Any]) -> ScheduleRule:
    """Return the rule of a schedule that a project declares, whatever the time is.

    One that has come to its end is no mistake. Times without a zone are in ``timezone_name``.

    Args:
        given: As for ``checked_rule``, but for ``at`` and ``in_``.
    Raises: InvalidSchedule.
    """
    for name in _ONCE:
        if given.get(name) is not None:
            expected = "cron or interval instead: only programs make schedules that fire once"
            raise InvalidSchedule(name, given[name], expected)
    options = {name: value for name, value in given.items() if value is not None}
    return checked_rule({"timezone_name": "UTC", **options}, 0.0)


def stored_rule(fields: Mapping[str, Any]) -> ScheduleRule:
    """Return the rule with these fields, as others have stored it. Raises: InvalidSchedule."""
    given = dict(fields)
    for name in _MOMENTS:
        if given.get(name) is not None:
            try:
                given[name] = datetime.fromtimestamp(given[name], UTC)
            except (TypeError, ValueError, OverflowError, OSError):
                expected = "seconds since the epoch"
                raise InvalidSchedule(name, given[name], expected) from None
    checked_rule(given, 0.0)
    return ScheduleRule(**fields)


def _secs(name: str, value: object) -> float:
    secs = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(secs, bool) or not isinstance(secs, int | float) or not 0 <= secs < _MOST_SECS:
        raise InvalidSchedule(name, value, "seconds, 0 or more, or a timedelta")
    return float(secs)


def _at_least(least: float) -> Callable[[str, object], float]:
    def check(name: str, value: object) -> float:
        secs = _secs(name, value)
        if secs < least:
            raise InvalidSchedule(name, value, f"at least {least:g} s")
        return secs

    return check


def _moment(name: str, value: object, zone: str | None) -> float:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidSchedule(name, value, "a date and time as in RFC 3339") from None
    if not isinstance(value, datetime):
        raise InvalidSchedule(name, value, "a datetime")
    if value.utcoffset() is None and zone is not None:
        value = value.replace(tzinfo=zone_of(zone))
    elif value.utcoffset() is None:
        warn(
            f"{name}={value.isoformat()} has no time zone and is taken as UTC; "
            "pass an aware datetime, or timezone_name with it",
            UserWarning,
            stacklevel=5,  # where .schedule() is called
        )
        value = value.replace(tzinfo=UTC)
    if not _FIRST_YEAR <= value.year < _END_YEAR:
        raise InvalidSchedule(name, value, f"a year from {_FIRST_YEAR} to {_END_YEAR - 1}")
    return value.timestamp()


def _choice(*allowed: str) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise InvalidSchedule(name, value, f"one of {', '.join(allowed)}")
        return value

    return check


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_COUNTED:
        raise InvalidSchedule(name, value, f"a whole number from 1 to {MOST_COUNTED}")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidSchedule(name, value, "a text")
    return value


def _zone_name(name: str, value: object) -> str:
    return zone_of(_text(name, value)).key


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "in_": _secs,
    "interval": _at_least(_LEAST_INTERVAL),
    "cron": _text,
    "timezone_name": _zone_name,
    "misfire": _choice(*_MISFIRES),
    "misfire_max": _count,
    "grace": _at_least(_LEAST_GRACE),
    "overlap": _choice(*_OVERLAPS),
    "jitter": _secs,
}
_MOMENTS = ("at", "start", "end")
OPTIONS = (*_MOMENTS, *_CHECKS)
"""The names of all options of a schedule."""


# ---- fire times ----------------------------------------------------------------------------


def first_fire(rule: ScheduleRule, created_at: float) -> float | None:
    """Return the first fire time of a schedule, or None; that of ``at`` may be in the past."""
    moment = -inf if rule.at is not None else created_at
    return fire_after(rule, created_at, moment)


def fire_after(rule: ScheduleRule, created_at: float, moment: float) -> float | None:
    """Return the first fire time later than ``moment``, or None.

    Args:
        created_at: Where an interval without a start counts from.
    """
    if rule.at is not None:
        fire = rule.at if rule.at > moment else None
    elif rule.interval is not None:
        fire = _interval_after(rule.interval, rule, created_at, moment)
    else:
        earliest = moment if rule.start is None else max(moment, _just_before(rule.start))
        fire = cron(rule.cron or "", rule.timezone_name).after(earliest)
    return fire if fire is not None and _is_within(rule, fire) else None


def fires_after(rule: ScheduleRule, created_at: float, moment: float) -> Iterator[float]:
    """Yield all fire times later than ``moment``, in order."""
    fire = fire_after(rule, created_at, moment)
    while fire is not None:
        yield fire
        fire = fire_after(rule, created_at, fire)


def fires_until(
    rule: ScheduleRule, created_at: float, first: float, *, now: float, most: int
) -> tuple[list[float], int]:
    """Return the latest fire times from ``first`` up to ``now``, and how many there are in all.

    However many have passed, this takes as long as it takes to find ``MOST_COUNTED``.

    Args:
        first: A fire time.
        most: How many to return at most, the latest ones; in order.
    """
    found = [first] if first <= now else []
    for fire in fires_after(rule, created_at, first) if found else ():
        if fire > now or len(found) > MOST_COUNTED:
            break
        found.append(fire)
    if len(found) <= MOST_COUNTED:
        return found[-most:], len(found)
    return _latest(rule, created_at, now, most), len(found)


def _latest(rule: ScheduleRule, created_at: float, now: float, most: int) -> list[float]:
    """Return the last ``most`` fire times up to ``now``, of which there are more than enough."""
    span = _FIRST_SPAN_SECS
    while True:
        found = []
        for fire in fires_after(rule, created_at, now - span):
            if fire > now:
                break
            found.append(fire)
        if len(found) >= most:
            return found[-most:]
        span *= 2


def _interval_after(secs: float, rule: ScheduleRule, created_at: float, moment: float) -> float:
    """Return the next of the times that are whole intervals away from the start."""
    if rule.start is not None and moment < rule.start:
        return rule.start
    origin = created_at if rule.start is None else rule.start
    count = max(floor((moment - origin) / secs), 1)  # the quotient may be rounded up
    while (fire := origin + count * secs) <= moment:
        count += 1
    return fire


def _just_before(moment: float) -> float:
    return ceil(moment) - 1.0


def _is_within(rule: ScheduleRule, fire: float) -> bool:
    is_early = rule.start is not None and fire < rule.start
    return not is_early and (rule.end is None or fire <= rule.end) and fire < _END


# ---- words ---------------------------------------------------------------------------------


def describe(rule: ScheduleRule) -> str:
    """Return in plain English when a rule fires: ``every 5 minutes (UTC)``."""
    if rule.at is not None:
        return f"once, at {datetime.fromtimestamp(rule.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if rule.interval is not None:
        return f"every {_span(rule.interval)}"
    words = cron(rule.cron or "", "UTC").explain()  # this machine may not know the zone
    return f"{words[:1].lower()}{words[1:]} ({rule.timezone_name})"


def _span(secs: float) -> str:
    """Return seconds in the largest unit that leaves nothing over: ``10 min``, ``1.5 s``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if secs % size == 0:
            return f"{secs / size:g} {unit}"
    return f"{secs:g} s"
