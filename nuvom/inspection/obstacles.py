"""What keeps one job from running and what does not: the facts around ``Inspector.why``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nuvom.core.record import JobStatus
from nuvom.discovery.manifest import by_any_name, tasks_or_nothing
from nuvom.errors import plural
from nuvom.inspection.formats import ago

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.config.settings import Settings
    from nuvom.core.record import JobSnapshot
    from nuvom.core.views import WorkerInfo
    from nuvom.discovery.entries import TaskEntry
    from nuvom.inspection.inspector import Inspector


class Obstacle(NamedTuple):
    """Something that keeps a job from running, or does not.

    Attributes:
        holds: Whether it keeps the job from running.
        text: A sentence.
        more: What follows from it, or what to do; or "".
        queue: The queue to resume, if that is what to do; or "".
    """

    holds: bool
    text: str
    more: str = ""
    queue: str = ""


def facts(inspector: Inspector, settings: Settings, job: JobSnapshot, now: float) -> list[Obstacle]:
    """Return what keeps a job from running, what matters most first; empty if it runs.

    After the one reason of ``Inspector.why`` come the other facts that can keep jobs waiting.
    Those of a job that failed say what would happen to a retry.
    """
    status, reason = job.status, inspector.why(job)
    if status is JobStatus.SUCCESS or (status is JobStatus.RUNNING and reason is None):
        return []
    around = list(_around(inspector, settings, job, now))
    holding = [one for one in around if one.holds]
    others = [one for one in around if not one.holds]
    if reason is None:
        return [_final(job), *holding, *others]
    # The first that holds is what the reason says, but in one clause.
    said = next(iter(holding), None) if status is JobStatus.PENDING else None
    text = f"{reason.text[:1].upper()}{reason.text[1:].rstrip('.')}."
    first = Obstacle(True, text, reason.fix, "" if said is None else said.queue)
    return [first, *(one for one in holding if one is not said), *others]


def _final(job: JobSnapshot) -> Obstacle:
    record = job.record
    if job.status is JobStatus.CANCELLED:
        return Obstacle(True, "CANCELLED is final.", "Retry starts it again under the same id.")
    used = f"{record.attempt} of {plural(record.max_retries + 1, 'attempt')}"
    are = "All attempts are used." if record.attempt > record.max_retries else f"It used {used}."
    return Obstacle(
        True, f"{job.status} is final.", f"{are} Retry starts it again under the same id."
    )


def _around(
    inspector: Inspector, settings: Settings, job: JobSnapshot, now: float
) -> Iterator[Obstacle]:
    """Yield what is so of queue, time, workers, slots and task, in the order of the reasons."""
    record, is_final = job.record, job.status.is_final
    name = record.queue
    paused_by = {one.queue: one.paused_by for one in inspector.backlog(1)}.get(name)
    if paused_by is None:
        yield Obstacle(False, f"Queue {name} is not paused.")
    else:
        waits = "A retry would wait" if is_final else "It waits"
        yield Obstacle(
            True, f"Queue {name} is paused by {paused_by}.", f"{waits} until it is resumed.", name
        )
    if not is_final and record.run_at > now:
        yield Obstacle(True, f"It is due {ago(record.run_at, now)}.")
    if not inspector.sees_processes:
        return
    known = by_any_name(tasks_or_nothing(settings.manifest_file))
    serving = [one for one in inspector.workers() if not one.queues or name in one.queues]
    alive = [one for one in serving if one.state == "alive"]
    if not alive:
        yield Obstacle(True, f"No worker serves queue {name}.", "Start one: nuvom runworker")
    else:
        yield Obstacle(False, f"{plural(len(alive), 'worker')} {_serve(len(alive))} queue {name}.")
        entry = known.get(record.func_name)
        slots = sum(_slots_for(entry, one) for one in alive)
        free = slots - sum(one.running for one in alive)
        yield Obstacle(free <= 0, f"{max(0, free):,} of {plural(slots, 'slot')} are free.")
    if record.func_name in known:
        yield Obstacle(False, "Its task is in the manifest.")
    else:
        yield Obstacle(
            True, "Its task is not in the manifest.", "Read the code again: nuvom discover tasks"
        )


def _slots_for(entry: TaskEntry | None, worker: WorkerInfo) -> int:
    """Return how many slots the lane has in which a worker runs a task."""
    if entry is not None and entry.is_async:
        return worker.async_slots
    is_apart = entry is not None and entry.options.get("isolation") == "process"
    return worker.processes if is_apart else worker.slots


def _serve(count: int) -> str:
    return "serves" if count == 1 else "serve"
