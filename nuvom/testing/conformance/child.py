"""The program of a process that a law starts: open a queue, wait for ``go``, act, tell.

Run as ``python -m nuvom.testing.conformance.child TASK`` by ``children.py``.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing.builders import make_job, make_settlement

if TYPE_CHECKING:
    from nuvom.queue_backends.base import BaseJobQueue


def main(task: str) -> None:
    """Do what ``children.Child`` wrote down."""
    told = json.loads(task)
    queue = _open(told["factory"])
    say("ready")
    sys.stdin.readline()
    act = getattr(import_module(told["action"][0]), told["action"][1])
    act(queue, **told["parameters"])
    queue.stop()


def claim_all(queue: BaseJobQueue, owner: str, batch: int, rounds: int) -> None:
    """Claim and settle until nothing is left; tell the id of each claimed job.

    Args:
        rounds: After so many claims there is something wrong.
    """
    store = leased(queue)
    for _ in range(rounds):
        jobs = store.claim(batch, owner)
        if not jobs:
            return
        for job in jobs:
            say(job.id)
        store.settle([make_settlement(job) for job in jobs])


def pop_all(queue: BaseJobQueue, batch: int, rounds: int) -> None:
    """Take jobs until nothing is left; tell the id of each. ``rounds`` as above."""
    for _ in range(rounds):
        jobs = queue.pop_batch(batch)
        if not jobs:
            return
        for job in jobs:
            say(job.id)


def hold(queue: BaseJobQueue, owner: str, jobs: int, started: int) -> None:
    """Claim jobs, start the first few, tell all ids, and stay until killed."""
    store = leased(queue)
    claimed = store.claim(jobs, owner)
    for job in claimed[:started]:
        store.mark_started(job)
    say([job.id for job in claimed])
    sys.stdin.read()


def stay(queue: BaseJobQueue, owner: str) -> None:
    """Announce a worker, tell its id, and stay until killed."""
    leased(queue).announce(WorkerInfo(id=owner))
    say(owner)
    sys.stdin.read()


def settle_one(queue: BaseJobQueue, owner: str) -> None:
    """Claim one job and settle it, tell its id, and stay until killed."""
    store = leased(queue)
    (job,) = store.claim(1, owner)
    store.mark_started(job)
    accepted = store.settle([make_settlement(job)])
    say([job.id, accepted])
    sys.stdin.read()


def produce(queue: BaseJobQueue, most: int) -> None:
    """Enqueue jobs one by one; tell each id once it is accepted."""
    for _ in range(most):
        job = make_job()
        queue.enqueue(job)
        say(job.id)


def produce_bulks(queue: BaseJobQueue, most: int, size: int) -> None:
    """Enqueue bulks; tell the number of jobs once a bulk is accepted."""
    for _ in range(most):
        queue.enqueue_many([make_job() for _ in range(size)])
        say(size)


def enqueue_unique(queue: BaseJobQueue, key: str) -> None:
    """Enqueue one job with a unique key; tell its id and what ``enqueue`` returned."""
    job = make_job(unique_key=key)
    say([job.id, queue.enqueue(job)])


def _open(factory: dict[str, Any]) -> BaseJobQueue:
    made = getattr(import_module(factory["module"]), factory["name"])
    queue: BaseJobQueue = made(*factory["args"], **factory["kwargs"])
    queue.start()
    return queue


def leased(queue: BaseJobQueue) -> LeasedJobQueue:
    """Return the queue, for actions that need leases."""
    assert isinstance(queue, LeasedJobQueue), "only started for laws that need leases"
    return queue


def say(value: object) -> None:
    """Tell the parent a value."""
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
