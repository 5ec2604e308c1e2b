"""What a scheduler does about a schedule at a given time: pure, data in and data out.

All rules of a schedule's life are here: fire, miss, overlap, pause, end. A store only writes the
changes, and only if the schedule is still as it was seen; so whoever else has planned the same fire
has no effect.
"""

from __future__ import annotations

from hashlib import blake2b
from math import inf
from random import Random
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from msgspec.structs import replace

from nuvom.core.ids import timed_id
from nuvom.scheduler.record import (
    RECENT,
    SCHEDULE,
    SCHEDULED_FOR,
    ScheduleChange,
    ScheduleRecord,
    ScheduleRule,
)
from nuvom.scheduler.trigger import MOST_COUNTED, fire_after, fires_until, first_fire

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord

ON_TIME_SECS = 10.0
"""While the first fire that is due is no later than this, none was missed: schedulers are busy."""

WAIT_SECS = 1.0
"""How often a scheduler looks whether the job has ended that a fire waits for."""

_WANTED = ("rule", "job", "expires_secs", "origin", "project", "release")
# The rest is what has become of a schedule.


class Plan(NamedTuple):
    """What becomes of a schedule, and what it enqueues.

    Attributes:
        after: The schedule from now on; None once it has fired for the only time.
        fires: The fire times that enqueue a job now, in order.
        missed: How many fires were too late; they never enqueue anything.
        skipped: How many fires overlapped; as above.
    """

    after: ScheduleRecord | None
    fires: tuple[float, ...] = ()
    missed: int = 0
    skipped: int = 0


def plan(seen: ScheduleRecord, now: float, *, is_busy: bool = False) -> Plan:
    """Decide on a schedule that is due.

    Args:
        is_busy: Whether the job of its last fire is not final; only asked for if fires may not
            overlap.
    """
    rule = seen.rule
    made, missed, next_at = _due(seen, now)
    fires, waiting_at, skipped = _without_overlap(rule, made, seen.waiting_at, is_busy=is_busy)
    if rule.at is not None and next_at is None and waiting_at is None:
        return Plan(None, fires, missed, skipped)
    after = replace(
        seen,
        next_at=next_at,
        last_at=max(filter(None, (seen.last_at, *made, *fires)), default=seen.last_at),
        waiting_at=waiting_at,
        recent=(*seen.recent, *(fire_id(seen, at) for at in fires))[-RECENT:],
        fired=seen.fired + len(fires),
        missed=seen.missed + missed,
        skipped=seen.skipped + skipped,
    )
    return Plan(_settled(after, now), fires, missed, skipped)


def _due(seen: ScheduleRecord, now: float) -> tuple[list[float], int, float | None]:
    """Return the fires to make of those that are due, how many are missed, and the next one."""
    rule, first = seen.rule, seen.next_at
    if first is None or first > now:
        return [], 0, first
    was_outage = now - first > ON_TIME_SECS
    most = rule.misfire_max if rule.misfire == "all" else 1
    most = most if was_outage else MOST_COUNTED
    latest, count = [first], 1  # of a schedule that fires once
    if rule.at is None:
        latest, count = fires_until(rule, seen.created_at, first, now=now, most=most)
    late_secs = inf if rule.grace is None else rule.grace
    if was_outage and rule.misfire == "skip":
        late_secs = min(late_secs, ON_TIME_SECS)
    made = [at for at in latest if now - at <= late_secs]
    return made, count - len(made), fire_after(rule, seen.created_at, now)


def _without_overlap(
    rule: ScheduleRule, made: list[float], waiting_at: float | None, *, is_busy: bool
) -> tuple[tuple[float, ...], float | None, int]:
    """Return the fires to make now, the one that waits, and how many are skipped."""
    if rule.overlap == "allow":
        return tuple(made), None, 0
    wanted = made if waiting_at is None else [waiting_at, *made]
    fires = () if is_busy else tuple(wanted[:1])
    rest = wanted[len(fires) :]
    waiting_at = rest[0] if rest and rule.overlap == "queue" else None
    return fires, waiting_at, len(rest) - (waiting_at is not None)


def _settled(after: ScheduleRecord, now: float) -> ScheduleRecord:
    """Return a schedule with the time at which a scheduler has to look at it."""
    due_at = after.next_at
    if after.waiting_at is not None:
        due_at = min(now + WAIT_SECS, after.next_at or now + WAIT_SECS)
    if after.state in ("paused", "disabled"):
        due_at = None
    return replace(after, due_at=due_at, revision=after.revision + 1)


# ---- fires ---------------------------------------------------------------------------------


def fire_id(schedule: ScheduleRecord, at: float) -> str:
    """Return the id of the job of a fire: it can be told from schedule and time.

    So a store that enqueues it twice has it once, whatever has happened in between.
    """
    seed = f"{schedule.id} {at!r}".encode()
    return timed_id(at, blake2b(seed, digest_size=9).hexdigest())


def job_of(schedule: ScheduleRecord, at: float, now: float) -> JobRecord:
    """Return the job of a fire.

    Args:
        at: The fire time.
        now: When it is enqueued.
    """
    job_id, rule, job = fire_id(schedule, at), schedule.rule, schedule.job
    headers = {**(job.headers or {}), SCHEDULE: schedule.name, SCHEDULED_FOR: repr(at)}
    run_at = 0.0
    if rule.jitter:  # as random as the id, and the same for whoever fires
        run_at = at + Random(job_id).uniform(0.0, rule.jitter)  # noqa: S311  # spreads jobs
    expires_at = schedule.expires_secs and max(now, run_at) + schedule.expires_secs
    return job.replace(
        id=job_id, created_at=now, run_at=run_at, headers=headers, expires_at=expires_at
    )


# ---- changes that people make --------------------------------------------------------------


def created(schedule: ScheduleRecord, now: float) -> ScheduleChange:
    """Return the change that stores a new schedule.

    Its revisions begin at a number of its own, so that whoever still plans for a former schedule of
    the name is refused.
    """
    next_at = first_fire(schedule.rule, now)
    revision = crc32(schedule.id.encode()) >> 2  # leaves room to grow in 32 bits
    new = replace(schedule, created_at=now, next_at=next_at, revision=revision)
    return ScheduleChange(new.name, 0, _settled(new, now))


def differs(seen: ScheduleRecord, wanted: ScheduleRecord) -> bool:
    """Whether a schedule is not yet as somebody wants it; one between two stores stays as it is."""
    if is_away(seen):
        return False
    return seen.disabled is not None or any(
        getattr(seen, name) != getattr(wanted, name) for name in _WANTED
    )


def adjusted(seen: ScheduleRecord, wanted: ScheduleRecord, now: float) -> ScheduleChange:
    """Return the change that makes a schedule as somebody wants it; a pause is kept.

    What came due while it was disabled is not made up for.
    """
    after = replace(seen, disabled=None, **{name: getattr(wanted, name) for name in _WANTED})
    change = updated(replace(after, rule=seen.rule), rule=wanted.rule, now=now)
    if seen.disabled is None or change.after is None:
        return change
    return _started_again(seen, replace(change.after, revision=seen.revision), now)


def updated(seen: ScheduleRecord, *, rule: ScheduleRule, now: float) -> ScheduleChange:
    """Return the change to another rule.

    The next fire is computed anew only if the trigger has changed.
    """
    after = replace(seen, rule=rule)
    if rule.trigger != seen.rule.trigger:
        since = seen.created_at if rule.interval == seen.rule.interval else now
        after = replace(after, created_at=since, waiting_at=None)
        after = replace(after, next_at=_next_after(after, now))
    if rule.overlap == "allow":
        after = replace(after, waiting_at=None)
    return ScheduleChange(seen.name, seen.revision, _settled(after, now))


def paused(seen: ScheduleRecord, by: str, now: float) -> ScheduleChange:
    """Return the change that pauses a schedule."""
    after = replace(seen, paused_by=by, paused_at=now)
    return ScheduleChange(seen.name, seen.revision, _settled(after, now))


def resumed(seen: ScheduleRecord, now: float) -> ScheduleChange:
    """Return the change that ends a pause; what came due meanwhile was not missed, but paused."""
    return _started_again(seen, replace(seen, paused_by=None, paused_at=None), now)


def disabled(seen: ScheduleRecord, reason: str, now: float) -> ScheduleChange:
    """Return the change that keeps a schedule from firing, and says why."""
    after = replace(seen, disabled=_with_reason(seen.disabled, reason))
    return ScheduleChange(seen.name, seen.revision, _settled(after, now))


def enabled(seen: ScheduleRecord, now: float) -> ScheduleChange:
    """Return the change that undoes ``disabled``."""
    after = replace(seen, disabled=_with_reason(seen.disabled, None))
    return _started_again(seen, after, now)


def fired_now(seen: ScheduleRecord, job_id: str, now: float) -> ScheduleChange:
    """Return the change that fires a schedule once, besides its fire times.

    Args:
        job_id: A new one: a fire time may be the same.
    """
    after = replace(seen, recent=(*seen.recent, job_id)[-RECENT:], fired=seen.fired + 1)
    jobs = (job_of(seen, now, now).replace(id=job_id),)
    return ScheduleChange(seen.name, seen.revision, _settled(after, now), jobs)


def _started_again(seen: ScheduleRecord, after: ScheduleRecord, now: float) -> ScheduleChange:
    was_active = seen.state == "active"  # then what is due is still to be made
    if not was_active and after.state == "active" and after.rule.at is None:
        after = replace(after, next_at=_next_after(after, now))
    return ScheduleChange(after.name, after.revision, _settled(after, now))


def _next_after(after: ScheduleRecord, now: float) -> float | None:
    """Return the first fire that is later than now, and than all fires that were made."""
    rule = after.rule
    if rule.at is not None:
        return rule.at
    return fire_after(rule, after.created_at, max(now, after.last_at or now))


# ---- moves between stores ------------------------------------------------------------------
#
# First a held copy is stored in the other store, then the old store gives the schedule up, then
# the copy becomes the schedule. Only the second step decides, and it is one write in one store.

_ARRIVING, _MOVED = "arriving from ", "moved to "
_BESIDES = "; disabled there: "


def held(
    seen: ScheduleRecord, source: str, there: ScheduleRecord | None, now: float
) -> ScheduleChange:
    """Return the change that stores a copy, which does not fire until it has ``arrived``.

    Args:
        there: What the other store has under the name.
    """
    return _in_place_of(there, _away(seen, _ARRIVING + source, now))


def left_to(target: str, seen: ScheduleRecord, now: float) -> ScheduleChange:
    """Return the change by which a store gives a schedule up. It keeps all that is known of it."""
    return _away(seen, _MOVED + target, now)


def arrived(left: ScheduleRecord, copy: ScheduleRecord | None, now: float) -> ScheduleChange:
    """Return the change that turns a held copy into the schedule that the old store has given up.

    It goes on exactly where it was.
    """
    _, _, reason = (left.disabled or "").partition(_BESIDES)
    after = _settled(replace(left, disabled=reason or None), now)
    return _in_place_of(copy, ScheduleChange(left.name, left.revision, after))


def _in_place_of(there: ScheduleRecord | None, change: ScheduleChange) -> ScheduleChange:
    """Return the change of one store as one of another; its revisions grow from the larger."""
    seen, after = 0 if there is None else there.revision, change.after
    assert after is not None  # noqa: S101  # a move removes nothing
    return change._replace(
        revision=seen, after=replace(after, revision=max(after.revision, seen + 1))
    )


def source_of(seen: ScheduleRecord) -> str | None:
    """Return the store that a held copy arrives from; None of any other schedule."""
    return _place(seen, _ARRIVING)


def home_of(seen: ScheduleRecord) -> str | None:
    """Return the store that a schedule was moved to; None if it was not."""
    return _place(seen, _MOVED)


def is_away(seen: ScheduleRecord) -> bool:
    """Whether a schedule is a held copy or was moved: nothing but a move may make it fire."""
    return source_of(seen) is not None or home_of(seen) is not None


def _place(seen: ScheduleRecord, prefix: str) -> str | None:
    where, _, _ = (seen.disabled or "").partition(_BESIDES)
    return where.removeprefix(prefix) if where.startswith(prefix) else None


def _away(seen: ScheduleRecord, where: str, now: float) -> ScheduleChange:
    text = where if seen.disabled is None else f"{where}{_BESIDES}{seen.disabled}"
    return ScheduleChange(seen.name, seen.revision, _settled(replace(seen, disabled=text), now))


def _with_reason(given: str | None, reason: str | None) -> str | None:
    """Return why a schedule does not fire from now on; that it is between two stores stays."""
    where, _, _ = (given or "").partition(_BESIDES)
    if not where.startswith((_ARRIVING, _MOVED)):
        return reason
    return where if reason is None else f"{where}{_BESIDES}{reason}"
