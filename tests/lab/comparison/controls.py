"""Steps of a comparison that steer workers, jobs and queues, or only look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import JobStatus
from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.base import Capability
from tests.lab.comparison.deliveries import give_back
from tests.lab.comparison.draws import OWNERS, QUEUES, TASKS, a_job_id
from tests.lab.comparison.observation import ALL, observed, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.lab.comparison.stores import StoreGroup

WORDS = ("quiet", "resume", "stop", "stacks", "dance", "")

# ---- workers ------------------------------------------------------------------------------


def announce(group: StoreGroup, rng: Random) -> None:
    """Announce a worker, or announce it anew in another state."""
    owner = rng.choice(OWNERS)
    known = group.announced.get(owner, WorkerInfo(id=owner, started_at=group.clock.now()))
    info = msgspec.structs.replace(known, state=rng.choice(("alive", "quiet", "stopping")))
    group.announced[owner] = info
    group.same(f"announce({owner}, {info.state})", lambda queue, _: queue.announce(info))


def retire(group: StoreGroup, rng: Random) -> None:
    """Let a worker stop in good order: it gives back what it holds before."""
    owner = rng.choice(OWNERS)
    give_back(group, [ticket for ticket in group.tickets if ticket.owner == owner])
    group.announced.pop(owner, None)
    group.same(f"retire({owner})", lambda queue, _: queue.retire(owner))


def command(group: StoreGroup, rng: Random) -> None:
    """Leave a word for a worker, also one that is no command."""
    owner, word = rng.choice((*OWNERS, "nobody")), rng.choice(WORDS)
    _control(group, f"command({owner}, {word!r})", lambda queue: queue.command(owner, word), bool)


def commands(group: StoreGroup, rng: Random) -> None:
    """Take the words left for a worker."""
    owner = rng.choice(OWNERS)
    group.same(f"commands({owner})", lambda queue, _: queue.commands(owner))


# ---- control ------------------------------------------------------------------------------


def cancel(group: StoreGroup, rng: Random) -> None:
    """Cancel a job, whatever its status."""
    if job_id := a_job_id(group, rng):
        _control(
            group,
            f"cancel({job_id})",
            lambda queue: queue.cancel(job_id),
            lambda before: before is not None and not before.is_final,
        )


def retry(group: StoreGroup, rng: Random) -> None:
    """Retry a job by hand, mostly one that failed."""
    first = next(iter(group.queues.values()))
    over = (JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED)
    ended = [one.record.id for one in first.page(statuses=over, limit=ALL)]
    job_id = rng.choice(ended) if ended and rng.random() < 0.8 else a_job_id(group, rng)
    if job_id:
        group.same(f"retry({job_id})", lambda queue, _: queue.retry(job_id))


def pause_or_resume(group: StoreGroup, rng: Random) -> None:
    """Pause a queue, or let it go on."""
    name = rng.choice((*QUEUES, "idle", "../x"))
    if rng.random() < 0.4:
        _control(group, f"pause({name})", lambda queue: queue.pause(name, "ann"), lambda _: True)
    else:
        group.same(f"resume({name})", lambda queue, _: queue.resume(name))


def purge(group: StoreGroup, rng: Random) -> None:
    """Remove what waits in one queue, or in all."""
    if rng.random() < 0.7:
        name = rng.choice((*QUEUES, "nowhere"))
        group.same(f"purge({name})", lambda queue, _: queue.purge(name))
    else:
        group.same("clear()", lambda queue, _: queue.clear())


def prune(group: StoreGroup, rng: Random) -> None:
    """Remove what ended long ago, in portions: which come first is nobody's promise."""
    now = group.clock.now()
    times = {
        "success_before": now - rng.choice((0.0, 10.0, 60.0, 1e6)),
        "failed_before": now - rng.choice((0.0, 10.0, 60.0, 1e6)),
    }
    limit = rng.choice((1, 2, 1000))

    def remove(queue: Any, _: int) -> int:
        removed = 0
        while (count := queue.prune(**times, limit=limit)) > 0:
            removed += count
        return removed

    group.same(f"prune({times}, limit={limit})", remove)


def unpark(group: StoreGroup, rng: Random) -> None:
    """Take up parked jobs of some tasks."""
    tasks = rng.sample(TASKS, rng.choice((0, 1, 2, 3, 3)))
    group.same(f"unpark({tasks})", lambda queue, _: queue.unpark(tasks))


def _control(
    group: StoreGroup, what: str, call: Callable[[Any], Any], changes: Callable[[Any], bool]
) -> None:
    """Make a call of which workers have to hear if it changes something.

    Args:
        changes: Tells by the answer whether something has changed.
    """

    def heard(queue: Any, _: int) -> tuple[Any, bool]:
        before = queue.control_version()
        answer = call(queue)
        return answer, not changes(answer) or queue.control_version() != before

    group.same(what, heard)


# ---- looking ------------------------------------------------------------------------------


def look(group: StoreGroup, rng: Random) -> None:
    """Compare all that can be seen."""
    group.trace.append("look at everything")
    known = list(group.jobs)
    removed = ["nobody", *rng.sample(known, min(3, len(known)))]
    group.compare([observed(queue, removed) for queue in group.queues.values()])


def glance(group: StoreGroup, rng: Random) -> None:
    """Ask one short question."""
    questions: tuple[tuple[str, Callable[[Any, int], Any]], ...] = (
        ("qsize()", lambda queue, _: queue.qsize()),
        ("next_due_secs()", lambda queue, _: queue.next_due_secs()),
        ("stats()", lambda queue, _: queue.stats()),
        ("workers()", lambda queue, _: queue.workers()),
    )
    group.same(*rng.choice(questions))


def page(group: StoreGroup, rng: Random) -> None:
    """Read a page by filters drawn at random."""
    options: dict[str, Any] = {
        "statuses": rng.sample(list(JobStatus), rng.choice((0, 0, 1, 3))),
        "queue": rng.choice((None, None, *QUEUES)),
        "task": rng.choice((None, None, None, *TASKS)),
        "before": rng.choice((None, a_job_id(group, rng), "00000000-0000-7000-8000-00000000")),
        "limit": rng.choice((1, 5, 100)),
    }
    group.same(
        f"page({options})",
        lambda queue, _: queue.page(**options),
        lambda snapshots: [shown(one) for one in snapshots],
    )


def find_ids(group: StoreGroup, rng: Random) -> None:
    """Find ids by their end, of which some differ in case alone."""
    job_id = a_job_id(group, rng) or ""
    suffix = rng.choice(("", "%", "_", "a", "A", "ax", "Ax", job_id[-3:], job_id[-2:].swapcase()))
    limit = rng.choice((1, 6, 100))
    group.same(f"find_ids({suffix!r}, {limit})", lambda queue, _: queue.find_ids(suffix, limit))


def keep_totals(group: StoreGroup, _: Random) -> None:
    """Count from now on, where all stores can."""
    if all(Capability.TOTALS in queue.capabilities for queue in group.queues.values()):
        group.same("keep_totals()", lambda queue, _: queue.keep_totals())
