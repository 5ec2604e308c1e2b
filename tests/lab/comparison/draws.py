"""What the steps of a comparison draw: jobs, deliveries and ids, and how a trace names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from nuvom.core.record import JobRecord
    from tests.lab.comparison.stores import StoreGroup, Ticket

QUEUES = ("a", "b", "c")
TASKS = ("shop.a", "shop.b", "mail.c")
OWNERS = ("worker-a", "worker-b", "worker-c")
BAD_NAMES = ("", "../x", "a b", "x" * 65, "-x")
DELAYS = (None, None, None, None, None, -5.0, 5.0, 40.0)


def a_job(group: StoreGroup, rng: Random, *, has_key: bool = True) -> JobRecord:
    """Return a fresh job, due or not, with or without a unique key."""
    delay = rng.choice(DELAYS)
    fields: dict[str, Any] = {
        "queue": rng.choice(QUEUES),
        "priority": rng.randint(0, 2),
        "run_at": 0.0 if delay is None else group.clock.now() + delay,
        "result_ttl_secs": rng.choice((None, None, None, 5.0, 60.0)),
        "tags": rng.choice(((), ("x",))),
    }
    if has_key and rng.random() < 0.4:
        fields["unique_key"] = rng.choice("xy")
        fields["unique_for"] = rng.choice((None, 5.0, 60.0))
    if rng.random() < 0.1:
        fields["metadata"] = {"much": "x" * 1500}
    return group.new_job(rng.choice(TASKS), **fields)


def stored(group: StoreGroup) -> list[JobRecord]:
    """Return the jobs that are stored, as enqueued. An id that was removed never comes back."""
    first = next(iter(group.queues.values()))
    return [job for job in group.jobs.values() if first.get(job.id) is not None]


def recent(there: Sequence[Any], rng: Random) -> Any:
    """Return one of those that came last, as a rule."""
    return there[-1 - min(int(rng.expovariate(0.3)), len(there) - 1)]


def some_tickets(group: StoreGroup, rng: Random, most: int) -> list[Ticket]:
    """Return at most ``most`` deliveries, none of them twice."""
    if not group.tickets:
        return []
    places = range(len(group.tickets))
    return [group.tickets[place] for place in {recent(places, rng) for _ in range(most)}]


def a_job_id(group: StoreGroup, rng: Random) -> str:
    """Return the id of a job that was made, seldom of one that was not; empty if none was."""
    if not group.jobs:
        return ""
    found: str = "nobody" if rng.random() < 0.05 else recent(list(group.jobs), rng)
    return found


def told_of(job: JobRecord) -> str:
    """Return what the trace says of a job."""
    due = f" run_at {job.run_at:g}" if job.run_at else ""
    key = f" key {job.unique_key} for {job.unique_for}" if job.unique_key else ""
    return f"{job.id[-6:]} {job.func_name} on {job.queue} priority {job.priority}{due}{key}"


def named(ticket: Ticket) -> str:
    """Return what the trace says of a delivery."""
    record = ticket.records[0]
    return f"{record.id[-6:]} epoch {record.lease_epoch} of {ticket.owner}"
