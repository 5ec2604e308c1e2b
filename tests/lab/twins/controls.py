"""Steps of twins that steer workers, jobs and queues, or only look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.record import JobStatus
from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.base import Capability
from tests.lab.twins.deliveries import give_back
from tests.lab.twins.draws import OWNERS, QUEUES, TASKS, a_job_id
from tests.lab.twins.observation import ALL, observed, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.lab.twins.stores import Twins

WORDS = ("quiet", "resume", "stop", "stacks", "dance", "")

# ---- workers ------------------------------------------------------------------------------


def announce(twins: Twins, rng: Random) -> None:
    """Announce a worker, or announce it anew in another state."""
    owner = rng.choice(OWNERS)
    known = twins.announced.get(owner, WorkerInfo(id=owner, started_at=twins.clock.now()))
    info = msgspec.structs.replace(known, state=rng.choice(("alive", "quiet", "stopping")))
    twins.announced[owner] = info
    twins.same(f"announce({owner}, {info.state})", lambda queue, _: queue.announce(info))


def retire(twins: Twins, rng: Random) -> None:
    """Let a worker stop in good order: it gives back what it holds before."""
    owner = rng.choice(OWNERS)
    give_back(twins, [ticket for ticket in twins.tickets if ticket.owner == owner])
    twins.announced.pop(owner, None)
    twins.same(f"retire({owner})", lambda queue, _: queue.retire(owner))


def command(twins: Twins, rng: Random) -> None:
    """Leave a word for a worker, also one that is no command."""
    owner, word = rng.choice((*OWNERS, "nobody")), rng.choice(WORDS)
    _control(twins, f"command({owner}, {word!r})", lambda queue: queue.command(owner, word), bool)


def commands(twins: Twins, rng: Random) -> None:
    """Take the words left for a worker."""
    owner = rng.choice(OWNERS)
    twins.same(f"commands({owner})", lambda queue, _: queue.commands(owner))


# ---- control ------------------------------------------------------------------------------


def cancel(twins: Twins, rng: Random) -> None:
    """Cancel a job, whatever its status."""
    if job_id := a_job_id(twins, rng):
        _control(
            twins,
            f"cancel({job_id})",
            lambda queue: queue.cancel(job_id),
            lambda before: before is not None and not before.is_final,
        )


def retry(twins: Twins, rng: Random) -> None:
    """Retry a job by hand, mostly one that failed."""
    first = next(iter(twins.queues.values()))
    over = (JobStatus.FAILED, JobStatus.DEAD, JobStatus.CANCELLED)
    ended = [one.record.id for one in first.page(statuses=over, limit=ALL)]
    job_id = rng.choice(ended) if ended and rng.random() < 0.8 else a_job_id(twins, rng)
    if job_id:
        twins.same(f"retry({job_id})", lambda queue, _: queue.retry(job_id))


def pause_or_resume(twins: Twins, rng: Random) -> None:
    """Pause a queue, or let it go on."""
    name = rng.choice((*QUEUES, "idle", "../x"))
    if rng.random() < 0.4:
        _control(twins, f"pause({name})", lambda queue: queue.pause(name, "ann"), lambda _: True)
    else:
        twins.same(f"resume({name})", lambda queue, _: queue.resume(name))


def purge(twins: Twins, rng: Random) -> None:
    """Remove what waits in one queue, or in all."""
    if rng.random() < 0.7:
        name = rng.choice((*QUEUES, "nowhere"))
        twins.same(f"purge({name})", lambda queue, _: queue.purge(name))
    else:
        twins.same("clear()", lambda queue, _: queue.clear())


def prune(twins: Twins, rng: Random) -> None:
    """Remove what ended long ago, in portions: which come first is nobody's promise."""
    now = twins.clock.now()
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

    twins.same(f"prune({times}, limit={limit})", remove)


def unpark(twins: Twins, rng: Random) -> None:
    """Take up parked jobs of some tasks."""
    tasks = rng.sample(TASKS, rng.choice((0, 1, 2, 3, 3)))
    twins.same(f"unpark({tasks})", lambda queue, _: queue.unpark(tasks))


def _control(
    twins: Twins, what: str, call: Callable[[Any], Any], changes: Callable[[Any], bool]
) -> None:
    """Make a call of which workers have to hear if it changes something.

    Args:
        changes: Tells by the answer whether something has changed.
    """

    def heard(queue: Any, _: int) -> tuple[Any, bool]:
        before = queue.control_version()
        answer = call(queue)
        return answer, not changes(answer) or queue.control_version() != before

    twins.same(what, heard)


# ---- looking ------------------------------------------------------------------------------


def look(twins: Twins, rng: Random) -> None:
    """Compare all that can be seen."""
    twins.trace.append("look at everything")
    known = list(twins.jobs)
    removed = ["nobody", *rng.sample(known, min(3, len(known)))]
    twins.compare([observed(queue, removed) for queue in twins.queues.values()])


def glance(twins: Twins, rng: Random) -> None:
    """Ask one short question."""
    questions: tuple[tuple[str, Callable[[Any, int], Any]], ...] = (
        ("qsize()", lambda queue, _: queue.qsize()),
        ("next_due_secs()", lambda queue, _: queue.next_due_secs()),
        ("stats()", lambda queue, _: queue.stats()),
        ("workers()", lambda queue, _: queue.workers()),
    )
    twins.same(*rng.choice(questions))


def page(twins: Twins, rng: Random) -> None:
    """Read a page by filters drawn at random."""
    options: dict[str, Any] = {
        "statuses": rng.sample(list(JobStatus), rng.choice((0, 0, 1, 3))),
        "queue": rng.choice((None, None, *QUEUES)),
        "task": rng.choice((None, None, None, *TASKS)),
        "before": rng.choice((None, a_job_id(twins, rng), "00000000-0000-7000-8000-00000000")),
        "limit": rng.choice((1, 5, 100)),
    }
    twins.same(
        f"page({options})",
        lambda queue, _: queue.page(**options),
        lambda snapshots: [shown(one) for one in snapshots],
    )


def find_ids(twins: Twins, rng: Random) -> None:
    """Find ids by their end, of which some differ in case alone."""
    job_id = a_job_id(twins, rng) or ""
    suffix = rng.choice(("", "%", "_", "a", "A", "ax", "Ax", job_id[-3:], job_id[-2:].swapcase()))
    limit = rng.choice((1, 6, 100))
    twins.same(f"find_ids({suffix!r}, {limit})", lambda queue, _: queue.find_ids(suffix, limit))


def keep_totals(twins: Twins, _: Random) -> None:
    """Count from now on, where all stores can."""
    if all(Capability.TOTALS in queue.capabilities for queue in twins.queues.values()):
        twins.same("keep_totals()", lambda queue, _: queue.keep_totals())
