"""Steps of a comparison that bring jobs in and deliver them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.core.record import JobStatus, StoredError
from nuvom.core.views import WorkerInfo
from nuvom.testing.builders import make_settlement
from tests.lab.comparison.draws import (
    BAD_NAMES,
    DELAYS,
    OWNERS,
    QUEUES,
    a_job,
    named,
    recent,
    some_tickets,
    stored,
    told_of,
)
from tests.lab.comparison.observation import ALL, by_id, by_queue
from tests.lab.comparison.stores import SETTINGS, Ticket

if TYPE_CHECKING:
    from random import Random

    from nuvom.core.outcome import Settlement
    from tests.lab.comparison.stores import StoreGroup

SERVED = (("a", "b", "c"), ("c", "b", "a"), ("b", "a"), ("a",), ("b",), ("c", "nowhere"))
PASSING_SECS = (0.5, 1.0, 5.0, 7.5, 15.0, 20.0, 29.5, 31.0)
LONG_SECS = (300.0, 590.0, 650.0)
ENDS: tuple[tuple[JobStatus, str], ...] = (
    (JobStatus.SUCCESS, "success"),
    (JobStatus.SUCCESS, "success"),
    (JobStatus.SUCCESS, "success"),
    (JobStatus.SUCCESS, "timeout"),
    (JobStatus.FAILED, "failure"),
    (JobStatus.FAILED, "failure"),
    (JobStatus.FAILED, "timeout"),
    (JobStatus.CANCELLED, "cancelled"),
    (JobStatus.PENDING, "failure"),
    (JobStatus.PENDING, "retry"),
    (JobStatus.PENDING, "timeout"),
    (JobStatus.PENDING, "snoozed"),
    (JobStatus.PARKED, "snoozed"),
    (JobStatus.PARKED, "snoozed"),
)
UNHARMED = frozenset({"success", "cancelled", "snoozed"})
ERRORS = (
    StoredError("ValueError", "no"),
    StoredError("ValueError", "no", "Traceback\n  ...", "4f2a"),
    StoredError("KeyError", "'x'"),
)


# ---- enqueueing ---------------------------------------------------------------------------


def enqueue(group: StoreGroup, rng: Random) -> None:
    """Enqueue a fresh job."""
    job = a_job(group, rng)
    group.same(f"enqueue({told_of(job)})", lambda queue, _: queue.enqueue(job))


def enqueue_again(group: StoreGroup, rng: Random) -> None:
    """Enqueue a job that was made before, as a client does after a lost reply."""
    if known := stored(group):
        job = recent(known, rng)
        group.same(f"enqueue again({told_of(job)})", lambda queue, _: queue.enqueue(job))


def enqueue_many(group: StoreGroup, rng: Random) -> None:
    """Enqueue a bulk; some jobs of it may be known, or be there twice."""
    jobs = [a_job(group, rng) for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.3:
        known = [*stored(group), *jobs]
        jobs += rng.sample(known, min(2, len(known)))
    told = ", ".join(map(told_of, jobs))
    group.same(f"enqueue_many({told})", lambda queue, _: queue.enqueue_many(iter(jobs)))


def enqueue_badly(group: StoreGroup, rng: Random) -> None:
    """Enqueue a job with a name that is none."""
    job = a_job(group, rng)
    bad = job.replace(**{rng.choice(("id", "queue")): rng.choice(BAD_NAMES)})
    if rng.random() < 0.5:
        group.same(f"enqueue({told_of(bad)})", lambda queue, _: queue.enqueue(bad))
    else:
        jobs = [a_job(group, rng), bad]
        group.same(f"enqueue_many({told_of(bad)})", lambda queue, _: queue.enqueue_many(jobs))


# ---- delivery -----------------------------------------------------------------------------


def claim(group: StoreGroup, rng: Random) -> None:
    """Claim a few jobs from named queues, or all that there are from any."""
    owner = rng.choice(OWNERS)
    options: dict[str, Any] = {"without": rng.choice(((), (), (), ("shop.a",)))}
    if rng.random() < 0.2:  # nobody promises in which order queues are served: take all
        options |= {"exclude": rng.choice(((), ("b",))), "suspects": 0}
        _claim(group, ALL, owner, None, **options)
        return
    options |= {"suspects": rng.randint(0, 1), "exclude": rng.choice(((), (), (), ("b",)))}
    _claim(group, rng.randint(1, 4), owner, rng.choice(SERVED), **options)


def claim_badly(group: StoreGroup, rng: Random) -> None:
    """Claim, or announce a worker, under a name that is none."""
    owner = rng.choice(BAD_NAMES)
    if rng.random() < 0.5:
        group.same(f"claim by {owner!r}", lambda queue, _: queue.claim(1, owner, QUEUES))
    else:
        info = WorkerInfo(id=owner)
        group.same(f"announce {owner!r}", lambda queue, _: queue.announce(info))


def _claim(
    group: StoreGroup, n: int, owner: str, served: tuple[str, ...] | None, **options: Any
) -> list[Ticket]:
    answers = group.same(
        f"claim({n}, {owner}, {served}, {options})",
        lambda queue, _: queue.claim(n, owner, served, **options),
        by_queue,
    )
    each = [{record.id: record for record in records} for records in answers]
    made = [
        Ticket(tuple(records[job_id] for records in each), owner, group.clock.now())
        for job_id in each[0]
    ]
    group.tickets += made
    return made


def start(group: StoreGroup, rng: Random) -> None:
    """Mark a delivery as started, also one that is lost."""
    for ticket in some_tickets(group, rng, 1):
        _start(group, ticket)


def _start(group: StoreGroup, ticket: Ticket) -> None:
    group.same(
        f"mark_started({named(ticket)})",
        lambda queue, place: queue.mark_started(ticket.records[place]),
    )


def settle(group: StoreGroup, rng: Random) -> None:
    """Settle one delivery, also one that is lost or settled already."""
    for ticket in some_tickets(group, rng, 1):
        _settle(group, rng, [ticket])


def settle_many(group: StoreGroup, rng: Random) -> None:
    """Settle several deliveries together."""
    chosen = {ticket.job_id: ticket for ticket in some_tickets(group, rng, 4)}
    _settle(group, rng, list(chosen.values()))


def work(group: StoreGroup, rng: Random) -> None:
    """Do as a worker does: claim, start, settle."""
    for ticket in _claim(group, rng.randint(1, 3), rng.choice(OWNERS), QUEUES):
        group.clock.advance(rng.choice((0.25, 1.0, 4.0)))
        _start(group, ticket)
        _settle(group, rng, [ticket])


def _settle(group: StoreGroup, rng: Random, tickets: list[Ticket]) -> None:
    ends = [_end(group, rng, ticket, is_alone=len(tickets) == 1) for ticket in tickets]

    def settlements(place: int) -> list[Settlement]:
        pairs = zip(tickets, ends, strict=True)
        return [make_settlement(ticket.records[place], **end) for ticket, end in pairs]

    told = [
        f"{named(ticket)} {end['status']} {end['outcome']} run_at {end['run_at']:g}"
        f" children {[told_of(child) for child in end['children']]}"
        for ticket, end in zip(tickets, ends, strict=True)
    ]
    group.same(f"settle({'; '.join(told)})", lambda queue, place: queue.settle(settlements(place)))


def _end(group: StoreGroup, rng: Random, ticket: Ticket, *, is_alone: bool) -> dict[str, Any]:
    """Return how a delivery is settled. A bulk has no order, so that no key passes within it."""
    status, outcome = rng.choice(ENDS)
    now, delay = group.clock.now(), rng.choice(DELAYS)
    has_run = status is not JobStatus.PARKED
    children = rng.choice((0, 0, 0, 1, 2)) if has_run else 0
    return {
        "status": status,
        "outcome": outcome,
        "value": rng.randint(0, 9),
        "error": _error(rng, status, outcome),
        "started_at": ticket.at if has_run else 0.0,
        "finished_at": now if has_run else 0.0,
        "run_at": now + (delay or 0.0) if status is JobStatus.PENDING and delay else 0.0,
        "keeps_attempt": outcome != "snoozed",
        "children": tuple(a_job(group, rng, has_key=is_alone) for _ in range(children)),
    }


def _error(rng: Random, status: JobStatus, outcome: str) -> StoredError | None:
    """Return what an attempt ended with. A failure without an error is odd, and groups, too."""
    if outcome in UNHARMED:
        return None
    return rng.choice((*ERRORS, None) if status is JobStatus.FAILED else ERRORS)


def release(group: StoreGroup, rng: Random) -> None:
    """Give deliveries back, also some that are lost."""
    give_back(group, some_tickets(group, rng, rng.randint(1, 3)))


def give_back(group: StoreGroup, tickets: list[Ticket]) -> None:
    """Release these deliveries in one call."""
    told = ", ".join(map(named, tickets))
    group.same(
        f"release({told})",
        lambda queue, place: queue.release([ticket.records[place] for ticket in tickets]),
    )


def extend(group: StoreGroup, rng: Random) -> None:
    """Renew the leases of a worker."""
    owner = rng.choice(OWNERS)
    group.same(f"extend({owner})", lambda queue, _: queue.extend(owner))


def progress(group: StoreGroup, rng: Random) -> None:
    """Report how far a delivery is, also one that is lost."""
    for ticket in some_tickets(group, rng, 1):
        _report(group, ticket, float(rng.randint(0, 9)), rng.choice((None, 10.0)))


def _report(group: StoreGroup, ticket: Ticket, done: float, total: float | None) -> None:
    group.same(
        f"report_progress({named(ticket)}, {done}, {total})",
        lambda queue, place: queue.report_progress(
            ticket.records[place], done, total, "on its way"
        ),
    )


def reap(group: StoreGroup, _: Random) -> None:
    """Take back what is lost."""
    group.same("reap()", lambda queue, _: queue.reap(), by_id)


def lose_all(group: StoreGroup, rng: Random) -> None:
    """Let all leases end at this very moment, and take back what is lost."""
    pass_secs(group, SETTINGS["lease_secs"])
    reap(group, rng)


def crash(group: StoreGroup, rng: Random) -> None:
    """Let a few workers die one after the other, each while it runs what it can get."""
    for _ in range(rng.randint(1, 4)):
        for ticket in _claim(group, rng.randint(1, 2), rng.choice(OWNERS), QUEUES):
            if rng.random() < 0.9:
                _start(group, ticket)
        lose_all(group, rng)
        pass_secs(group, rng.choice((0.0, 1.0, 2.0, 4.0)))


def pass_time(group: StoreGroup, rng: Random) -> None:
    """Let time pass, seldom much of it."""
    pass_secs(group, rng.choice(PASSING_SECS if rng.random() < 0.9 else LONG_SECS))


def pass_secs(group: StoreGroup, secs: float) -> None:
    """Let so many seconds pass."""
    group.trace.append(f"{secs:g} seconds pass")
    group.clock.advance(secs)
