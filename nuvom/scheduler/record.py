"""The data of a schedule: its rule, what it enqueues, and which fires it has made.

Plain data, as a store keeps it. A store knows only three fields, ``name``, ``revision`` and
``due_at``; only the planner and readers look at the rest.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nuvom.core.record import JobRecord
from nuvom.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RECENT = 10
"""How many of its latest jobs a schedule remembers."""

SCHEDULE, SCHEDULED_FOR = "nuvom-schedule", "nuvom-scheduled-for"
"""Headers of a job that a schedule enqueued: its name, and the fire time in seconds."""


class ScheduleRule(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When a schedule fires, and what happens to fires that are late or overlap.

    Exactly one of ``at``, ``interval`` and ``cron`` is set.

    Attributes:
        at: The only fire time; seconds since the epoch, as ``start`` and ``end``.
        interval: Seconds between two fires.
        cron: An expression with five fields, or six with seconds first.
        timezone_name: The IANA name of the zone of ``cron``.
        misfire: What to do about fires that were due while no scheduler ran: ``skip``,
            ``latest`` (one fire) or ``all``.
        misfire_max: The most fires that ``all`` makes up for.
        grace: How many seconds late a fire may be made; None for no limit.
        overlap: What to do while the job of the last fire has not ended: ``allow`` another,
            ``skip`` the fire, or ``queue`` one.
        jitter: Delays each job by a random time of up to this many seconds.
        start: The earliest fire time.
        end: The latest fire time.
    """

    at: float | None = None
    interval: float | None = None
    cron: str | None = None
    timezone_name: str = "UTC"
    misfire: str = "latest"
    misfire_max: int = 100
    grace: float | None = None
    overlap: str = "allow"
    jitter: float = 0.0
    start: float | None = None
    end: float | None = None

    @property
    def trigger(self) -> tuple[object, ...]:
        """What determines the fire times: while it stays the same, so do they."""
        return self.at, self.interval, self.cron, self.timezone_name, self.start, self.end


class ScheduleRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A schedule as stored. Times are seconds since the epoch, by the store's clock.

    Attributes:
        name: Its identity.
        id: A UUID, new for each schedule created under the name; its jobs' ids follow from it.
        rule: When it fires.
        job: What a fire enqueues, except for the id and the times.
        expires_secs: Seconds after which a job that has not started expires.
        origin: Where it is declared: ``code``, ``settings`` or ``celery`` (an application of the
            shim); ``program`` if a program made it.
        created_at: When it was created; an ``interval`` counts from there, unless it has a start.
        next_at: The next fire time; None once there is none.
        due_at: When a scheduler has to look at it: ``next_at``, or earlier while a fire waits;
            None while it is paused, disabled or has ended.
        last_at: The latest fire time that is done; no earlier one is made any more.
        waiting_at: The fire time of a fire that waits until the job of the last one has ended.
        recent: Ids of its latest jobs, oldest first, at most ``RECENT``.
        fired: How many fires enqueued a job.
        missed: How many fires were missed and not made up for.
        skipped: How many fires were skipped because of an overlap.
        paused_by, paused_at: Who paused it, and when.
        disabled: Why it is disabled, or None.
        revision: Grows with each change; a change that saw another revision is refused.
        project, release: Which project declares it, and the latest version of its code that did;
            the application of the shim has no version.
    """

    name: str
    id: str
    rule: ScheduleRule
    job: JobRecord
    expires_secs: float | None = None
    origin: str = "program"
    created_at: float = 0.0
    next_at: float | None = None
    due_at: float | None = None
    last_at: float | None = None
    waiting_at: float | None = None
    recent: tuple[str, ...] = ()
    fired: int = 0
    missed: int = 0
    skipped: int = 0
    paused_by: str | None = None
    paused_at: float | None = None
    disabled: str | None = None
    revision: int = 0
    project: str = ""
    release: str = ""

    @property
    def is_declared(self) -> bool:
        """Whether code or settings declare it, or did so."""
        return self.origin in ("code", "settings")

    @property
    def task(self) -> str:
        """Full name of the task."""
        return self.job.func_name

    @property
    def state(self) -> str:
        """``active``, ``paused``, ``disabled`` or ``ended``."""
        if self.disabled is not None:
            return "disabled"
        if self.paused_by is not None:
            return "paused"
        return "ended" if self.next_at is None and self.waiting_at is None else "active"

    def encode(self) -> bytes:
        """Return the record as bytes (MessagePack)."""
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> ScheduleRecord:
        """Return the record that ``encode`` wrote. Raises: PayloadError: the bytes are damaged."""
        try:
            return _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PayloadError(f"a schedule cannot be read ({error})") from error


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ScheduleRecord).decode


def readable(records: Iterable[bytes | memoryview]) -> list[ScheduleRecord]:
    """Return the schedules that can be read, so that a damaged one holds up no other.

    Raises: PayloadError: there are only damaged ones.
    """
    found, error = [], None
    for record in records:
        try:
            found.append(ScheduleRecord.decode(record))
        except PayloadError as damage:
            error = damage
    if error is not None and not found:
        raise error
    return found


class ScheduleChange(NamedTuple):
    """A change of one schedule, which is written only if nobody has changed it meanwhile.

    Attributes:
        name: Of the schedule.
        revision: The revision that was seen; 0 if there was no such schedule.
        after: What it becomes, with a higher revision; None removes it.
        jobs: What is enqueued in the same step. A job whose id is known already is left as it is.
    """

    name: str
    revision: int
    after: ScheduleRecord | None
    jobs: tuple[JobRecord, ...] = ()


def admitted(changes: Iterable[ScheduleChange], revisions: Mapping[str, int]) -> list[bool]:
    """Return which changes a store has to write, in order.

    Args:
        revisions: Those of the schedules in the store, by name; those of others do not matter.
    """
    current = dict(revisions)
    answers = []
    for name, revision, after, _ in changes:
        answers.append(current.get(name, 0) == revision)
        if answers[-1]:
            current[name] = 0 if after is None else after.revision
    return answers


def fire_of(headers: Mapping[str, str] | None) -> tuple[str | None, float | None]:
    """Return the schedule that enqueued a job, and the fire time, by the job's headers."""
    found, at = headers or {}, None
    with suppress(ValueError):  # a program may have written the header by itself
        at = float(found[SCHEDULED_FOR]) if SCHEDULED_FOR in found else None
    return found.get(SCHEDULE), at
