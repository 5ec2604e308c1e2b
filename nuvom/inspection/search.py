"""The search language of the dashboard and of ``nuvom top``: ``status:FAILED task:mail.* dur>5s``.

A search is a list of conditions that all hold; a comma means "or", ``-`` in front means "not".
Words without a name match the task and the type of the error. Nothing here knows a store:
``parse_search`` reads the text, ``Search`` says whether a job fits, and ``Lookup`` goes through
the jobs that it is given.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.ids import timed_id
from nuvom.core.record import JobStatus
from nuvom.core.text import MASK
from nuvom.errors import InvalidSearch, PayloadError, did_you_mean
from nuvom.inspection.formats import jsonable
from nuvom.inspection.views import job_times, took

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nuvom.core.clock import Clock
    from nuvom.core.record import JobRecord, JobSnapshot
    from nuvom.core.views import JobScan

TEXT = "text"
"""The name of a condition that was written without one."""

ARGUMENT = "args."
"""How the names of conditions on arguments begin: ``args.user.id``."""

SEARCH_SECS = 0.06
"""How long a search looks for jobs unless it is told otherwise."""

SEARCHED_JOBS = 100_000
"""How many of the newest jobs a search looks at unless it is told otherwise."""

_AT_ONCE = 5000  # stored jobs to look at before looking at the time
_PAGE = 500  # jobs to read at once
_DIGITS = 18  # of an id, after its time
_DURATION, _TIMES = "dur", ("before", "after")
NAMES = ("status", "task", "queue", "tag", "id", "worker", "error", *_TIMES, _DURATION)
_OTHER_NAMES = {"state": "status"}
_SINGLE = (*_TIMES, _DURATION)  # conditions with one value

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"(args\.[^\s:<>\",]+|[^\W\d][\w.-]*)([:<>])")
_BARE = re.compile(r"[^\s,\"][^\s,]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_UNITS = {
    "ms": 0.001,
    "": 1.0,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_A_MOMENT = "a date such as 2026-05-11, a time such as 2026-05-11T09:30, or an age such as 24h"


class Condition(NamedTuple):
    """One part of a search, such as ``-queue:mail,sms``.

    Attributes:
        name: One of ``NAMES``, ``TEXT``, or ``ARGUMENT`` and a path.
        values: It holds if one of them fits.
        is_not: It holds if none of them fits.
        sign: ``:``, or ``<`` or ``>`` of a duration.
    """

    name: str
    values: tuple[str, ...]
    is_not: bool = False
    sign: str = ":"

    @property
    def text(self) -> str:
        """The condition as a person writes it."""
        start = "" if self.name == TEXT else f"{self.name}{self.sign}"
        values = ",".join(_quoted(one, alone=not start) for one in self.values)
        return f"{'-' * self.is_not}{start}{values}"

    def fits(
        self, job: JobSnapshot, now: float, arguments: Callable[[], Mapping[str, Any]]
    ) -> bool:
        """Return whether it holds for a job; see ``Search.fits``."""
        if self.name.startswith(ARGUMENT):
            value = _at(arguments(), self.name.removeprefix(ARGUMENT))
            found = any(_is_value(value, one) for one in self.values)
        elif self.name == _DURATION:
            secs = _duration_of(job, now)
            limit = _secs(self.values[0]) or 0.0
            found = secs is not None and (secs > limit if self.sign == ">" else secs < limit)
        elif self.name in _TIMES:
            moment = _moment(self.values[0], now) or 0.0
            is_before = job.record.created_at < moment
            found = is_before if self.name == "before" else not is_before
        else:
            found = any(_FITS[self.name](job, one) for one in self.values)
        return found is not self.is_not


class Search(NamedTuple):
    """What a person looks for. An empty one fits all jobs.

    Attributes:
        conditions: They all hold, in the order in which they were written.
    """

    conditions: tuple[Condition, ...] = ()

    @property
    def text(self) -> str:
        """The search in its one form, from which ``parse_search`` makes an equal one."""
        return " ".join(one.text for one in self.conditions)

    def with_(self, name: str, *values: str, sign: str = ":") -> Search:
        """Return a search in which ``name`` has these values, in place of what it had.

        Conditions with "not", and other conditions, stay.
        Raises: InvalidSearch: there is no such name, or a value cannot be used.
        """
        new = _checked(Condition(name, values, sign=sign), 0)
        kept = [one for one in self.conditions if one.is_not or one.name != new.name]
        at = next((at for at, one in enumerate(self.conditions) if one not in kept), len(kept))
        return Search((*kept[:at], new, *kept[at:]))

    def without(self, condition: Condition | str) -> Search:
        """Return a search without one condition, or without all of a name."""
        return Search(tuple(one for one in self.conditions if condition not in (one, one.name)))

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values that ``name`` is to have; empty if there is no such condition."""
        return tuple(
            value
            for one in self.conditions
            if one.name == name and not one.is_not
            for value in one.values
        )

    @property
    def statuses(self) -> frozenset[JobStatus]:
        """The statuses that a fitting job may have."""
        possible = set(JobStatus)
        for one in self.conditions:
            if one.name == "status":
                named = {JobStatus(value) for value in one.values}
                possible = possible - named if one.is_not else possible & named
        return frozenset(possible)

    def only(self, name: str) -> str | None:
        """Return the one value that ``name`` must have, if there is just one without ``*``."""
        for one in self.conditions:
            is_one = one.name == name and not one.is_not and len(one.values) == 1
            if is_one and "*" not in one.values[0]:
                return one.values[0]
        return None

    def since(self, now: float) -> float:
        """Return the time before which no fitting job was created."""
        return max((_moment(one, now) or 0.0 for one in self.values("after")), default=-inf)

    def until(self, now: float) -> float:
        """Return the time from which on no fitting job was created."""
        return min((_moment(one, now) or 0.0 for one in self.values("before")), default=inf)

    @property
    def is_plain(self) -> bool:
        """Whether statuses, one queue and one task say all of it, so that a store can find it."""
        names = [one.name for one in self.conditions if one.name != "status"]
        return len(set(names)) == len(names) and all(
            one.name == "status"
            or (one.name in ("queue", "task") and self.only(one.name) is not None)
            for one in self.conditions
        )

    def fits(
        self, job: JobSnapshot, now: float, arguments: Callable[[], Mapping[str, Any]]
    ) -> bool:
        """Return whether a job is one of those looked for.

        Args:
            now: Seconds since the epoch: what ``after:24h`` counts from.
            arguments: Returns the job's arguments by name, with secrets masked. It is called only
                if the search is about them. A masked value fits nothing.
        """
        return all(one.fits(job, now, arguments) for one in self.conditions)


# ---- looking for jobs -------------------------------------------------------------------------


class Found(NamedTuple):
    """What a search has found.

    Attributes:
        jobs: Newest first.
        next_before: What to go on with as ``before``, or None at the end.
        is_partial: It stopped before it had found as many as were asked for.
        looked_at: How many stored jobs it looked at, about.
    """

    jobs: list[JobSnapshot]
    next_before: str | None
    is_partial: bool
    looked_at: int


class SearchLimits(NamedTuple):
    """When a search stops looking: after so many seconds, or after so many stored jobs."""

    secs: float = SEARCH_SECS
    within: int = SEARCHED_JOBS


class Lookup:
    """Looks for jobs part by part.

    Args:
        scan: As ``LeasedJobQueue.scan``.
        arguments: Returns a job's arguments by name, with secrets masked. Raises PayloadError.
    """

    def __init__(
        self,
        scan: Callable[..., JobScan],
        arguments: Callable[[JobRecord], Mapping[str, Any]],
        clock: Clock,
    ) -> None:
        self._scan = scan
        self._arguments = arguments
        self._clock = clock

    def find(self, search: Search, before: str | None, limit: int, limits: SearchLimits) -> Found:
        """Return jobs that fit, newest first.

        With ``after:`` it ends once a whole part of the jobs looked at is older than that.
        """
        found: list[JobSnapshot] = []
        now, looked_at = self._clock.now(), 0
        deadline, since = self._clock.monotonic() + limits.secs, search.since(now)
        if before is None and search.until(now) < inf:
            before = timed_id(max(0.0, search.until(now)), "0" * _DIGITS)
        while search.statuses:
            missing, within = limit + 1 - len(found), limits.within - looked_at
            part = self._part(search, before, missing, min(within, _AT_ONCE))
            looked_at += max(1, part.looked_at)
            found += (one for one in part.jobs if self._fits(search, one, now))
            if len(found) > limit:
                next_before = found[limit - 1].record.id
                return Found(found[:limit], next_before, is_partial=False, looked_at=looked_at)
            before = part.next_before
            is_too_old = part.jobs and all(one.record.created_at < since for one in part.jobs)
            if before is None or is_too_old:
                break
            if looked_at >= limits.within or self._clock.monotonic() >= deadline:
                return Found(found, before, is_partial=True, looked_at=looked_at)
        return Found(found, None, is_partial=False, looked_at=looked_at)

    def _part(self, search: Search, before: str | None, missing: int, within: int) -> JobScan:
        """Return the next jobs that may fit."""
        return self._scan(
            statuses=search.statuses if len(search.statuses) < len(JobStatus) else (),
            queue=search.only("queue"),
            task=search.only("task"),
            before=before,
            limit=missing if search.is_plain else _PAGE,
            within=within,
        )

    def _fits(self, search: Search, one: JobSnapshot, now: float) -> bool:
        try:
            return search.fits(one, now, lambda: self._arguments(one.record))
        except PayloadError:  # nothing is known of a damaged job's arguments
            return False


# ---- reading what people write ----------------------------------------------------------------


def parse_search(text: str) -> Search:
    """Return the search that a person wrote.

    Raises: InvalidSearch: with the place of the mistake in ``text`` and what may have been meant.
    """
    at, found = _skip(text, 0), dict[Condition, None]()
    while at < len(text):
        condition, at = _condition(text, at)
        found[condition] = None
        at = _skip(text, at)
    return Search(tuple(found))


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _condition(text: str, at: int) -> tuple[Condition, int]:
    """Read one condition; return it and where it ends."""
    start = at
    is_not = text[at] == "-"
    at += is_not
    named = _NAME.match(text, at)
    name, sign = (TEXT, ":") if named is None else (named[1], named[2])
    at = at if named is None else named.end()
    values, at = _values(text, start, at)
    if named is not None and name.lower() == TEXT:
        raise _unknown(name, values, start)
    return _checked(Condition(name, values, is_not, sign), start), at


def _values(text: str, start: int, at: int) -> tuple[tuple[str, ...], int]:
    """Read values separated by commas; return them and where they end."""
    values = dict[str, None]()
    while True:
        match = _QUOTED.match(text, at) or _BARE.match(text, at)
        if match is None and text[at : at + 1] == '"':
            raise InvalidSearch(at, 'the quotation mark " is not closed')
        if match is None:
            what = f'"{text[start:at]}"' if at > start else f'"{text[at]}" cannot begin it: it'
            raise InvalidSearch(start, f"{what} needs a value")
        values[_ESCAPED.sub(r"\1", match[1]) if match.re is _QUOTED else match[0]] = None
        at = match.end()
        if text[at : at + 1] != ",":
            break
        at += 1
    if at < len(text) and not text[at].isspace():
        raise InvalidSearch(at, f'"{text[at]}" cannot follow a quotation mark')
    return tuple(values), at


def _checked(condition: Condition, at: int) -> Condition:
    """Return a condition in its one form. Raises: InvalidSearch."""
    name, values, _, sign = condition
    name = _OTHER_NAMES.get(name.lower(), name if name.startswith(ARGUMENT) else name.lower())
    condition = condition._replace(name=name)
    if name not in (*NAMES, TEXT) and not (name.startswith(ARGUMENT) and name != ARGUMENT):
        raise _unknown(name, values, at)
    if not values or not all(values):
        raise InvalidSearch(at, f'"{name}{sign}" needs a value')
    if (sign == ":") == (name == _DURATION):
        wanted = "dur>5s or dur<5s" if name == _DURATION else f"{name}:{values[0]}"
        raise InvalidSearch(at, f'"{name}{sign}" is not a condition', f"Write {wanted}.")
    if name in _SINGLE and len(values) > 1:
        raise InvalidSearch(at, f'"{name}" takes one value')
    if name == "status":
        statuses = dict.fromkeys(_status(one, at) for one in values)
        return condition._replace(values=tuple(statuses))
    if name == _DURATION and _secs(values[0]) is None:
        raise InvalidSearch(
            at, f'"{values[0]}" is not a duration', "Write one such as 500ms or 2h."
        )
    if name in _TIMES and _moment(values[0], 0.0) is None:
        raise InvalidSearch(at, f'"{values[0]}" is not a time', f"Write {_A_MOMENT}.")
    return condition


def _unknown(name: str, values: tuple[str, ...], at: int) -> InvalidSearch:
    if name in ("args", ARGUMENT):
        hint = f"Name the argument, as in args.order_id:{','.join(values)}"
    else:
        hint = did_you_mean(name, (*NAMES, *_OTHER_NAMES)).strip()
        hint = hint or f"Names are {', '.join(NAMES)} and args.NAME. Put other text in quotes."
    return InvalidSearch(at, f'"{name}" cannot be searched for', hint)


def _status(text: str, at: int) -> str:
    try:
        return JobStatus(text.upper()).value
    except ValueError:
        hint = did_you_mean(text, list(JobStatus)).strip()
        hint = hint or f"Statuses are {', '.join(JobStatus)}."
        raise InvalidSearch(at, f'"{text}" is not a status', hint) from None


def _quoted(value: str, *, alone: bool) -> str:
    """Return a value so that it is read as the same one.

    Args:
        alone: No name stands before it, so it must not look like one.
    """
    is_bare = _BARE.fullmatch(value) is not None
    if is_bare and not (alone and (value[0] == "-" or _NAME.match(value))):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# ---- values -----------------------------------------------------------------------------------


def _secs(text: str) -> float | None:
    """Return the seconds of ``500ms``, ``5``, ``2h``; None if it is no duration."""
    match = _NUMBER.fullmatch(text.strip())
    unit = None if match is None else _UNITS.get(match[2].lower())
    return None if match is None or unit is None else float(match[1]) * unit


def _moment(text: str, now: float) -> float | None:
    """Return seconds since the epoch of a date, a time (UTC unless it says so), or an age."""
    age = _secs(text)
    if age is not None and not text.strip().isdigit():
        return now - age
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _duration_of(job: JobSnapshot, now: float) -> float | None:
    started_at, finished_at = job_times(job)
    return took(started_at, now if finished_at is None else finished_at)


def _at(arguments: Mapping[str, Any], path: str) -> Any:
    """Return the value at ``user.id`` or ``items.0``, or the mask, which fits nothing."""
    value: Any = arguments
    rest = path.split(".")
    while rest:
        step = rest.pop(0)
        is_place = step.isdecimal() and len(step) <= _DIGITS
        if isinstance(value, list | tuple) and is_place and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return MASK
    return value


def _is_value(value: Any, text: str) -> bool:
    """Return whether a value is what was written: its text, or the same in JSON."""
    if value == MASK:
        return False
    if isinstance(value, str):
        return _is_like(value, text)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) == text
    (plain,) = jsonable({"": value}).values()
    return (plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)) == text


def _is_like(value: str, text: str) -> bool:
    """Return whether a value is ``text``, in which ``*`` stands for any characters.

    Not with a regular expression, which some of these texts would keep busy for hours.
    """
    first, *parts = text.split("*")
    if not parts:
        return value == text
    at, end = len(first), len(value) - len(parts[-1])
    if at > end or not (value.startswith(first) and value.endswith(parts.pop())):
        return False
    for part in parts:
        found = value.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _is_error(job: JobSnapshot, text: str) -> bool:
    error = job.error
    if error is None:
        return False
    kinds = (error.type, error.type.rpartition(".")[2])
    return text == error.fingerprint or any(_is_like(one.lower(), text.lower()) for one in kinds)


def _has_text(job: JobSnapshot, text: str) -> bool:
    places = (job.record.func_name, "" if job.error is None else job.error.type)
    return any(text.casefold() in one.casefold() for one in places)


_FITS: dict[str, Callable[[JobSnapshot, str], bool]] = {
    "status": lambda job, text: job.status.value == text,
    "task": lambda job, text: _is_like(job.record.func_name, text),
    "queue": lambda job, text: _is_like(job.record.queue, text),
    "tag": lambda job, text: any(_is_like(one, text) for one in job.record.tags),
    "id": lambda job, text: job.record.id.endswith(text) or _is_like(job.record.id, text),
    "worker": lambda job, text: (
        job.worker is not None and (job.worker.endswith(text) or _is_like(job.worker, text))
    ),
    "error": _is_error,
    TEXT: _has_text,
}
