"""The program of a process that a law starts: open a queue, wait for ``go``, act, tell.

Run as ``python -m nuvom.testing.conformance.child TASK`` by ``children.py``.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from nuvom.core.views import WorkerInfo
from nuvom.queue_backends.leased import LeasedJobQueue
from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.conformance.mixed_calls import MixedCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.queue_backends.base import BaseJobQueue


def main(task: str) -> None:
    """Do what ``children.Child`` wrote down."""
    told = json.loads(task)
    queue = _open(told["factory"])
    _say("ready")
    sys.stdin.readline()
    ACTIONS[told["action"]](queue, **told["parameters"])
    queue.stop()


def claim_all(queue: BaseJobQueue, owner: str, batch: int, rounds: int) -> None:
    """Claim and settle until nothing is left; tell the id of each claimed job.

    Args:
        rounds: After so many claims there is something wrong.
    """
    leased = _leased(queue)
    for _ in range(rounds):
        jobs = leased.claim(batch, owner)
        if not jobs:
            return
        for job in jobs:
            _say(job.id)
        leased.settle([make_settlement(job) for job in jobs])


def pop_all(queue: BaseJobQueue, batch: int, rounds: int) -> None:
    """Take jobs until nothing is left; tell the id of each. ``rounds`` as above."""
    for _ in range(rounds):
        jobs = queue.pop_batch(batch)
        if not jobs:
            return
        for job in jobs:
            _say(job.id)


def hold(queue: BaseJobQueue, owner: str, jobs: int, started: int) -> None:
    """Claim jobs, start the first few, tell all ids, and stay until killed."""
    leased = _leased(queue)
    claimed = leased.claim(jobs, owner)
    for job in claimed[:started]:
        leased.mark_started(job)
    _say([job.id for job in claimed])
    sys.stdin.read()


def stay(queue: BaseJobQueue, owner: str) -> None:
    """Announce a worker, tell its id, and stay until killed."""
    _leased(queue).announce(WorkerInfo(id=owner))
    _say(owner)
    sys.stdin.read()


def settle_one(queue: BaseJobQueue, owner: str) -> None:
    """Claim one job and settle it, tell its id, and stay until killed."""
    leased = _leased(queue)
    (job,) = leased.claim(1, owner)
    leased.mark_started(job)
    accepted = leased.settle([make_settlement(job)])
    _say([job.id, accepted])
    sys.stdin.read()


def produce(queue: BaseJobQueue, most: int) -> None:
    """Enqueue jobs one by one; tell each id once it is accepted."""
    for _ in range(most):
        job = make_job()
        queue.enqueue(job)
        _say(job.id)


def produce_bulks(queue: BaseJobQueue, most: int, size: int) -> None:
    """Enqueue bulks; tell the number of jobs once a bulk is accepted."""
    for _ in range(most):
        queue.enqueue_many([make_job() for _ in range(size)])
        _say(size)


def enqueue_unique(queue: BaseJobQueue, key: str) -> None:
    """Enqueue one job with a unique key; tell its id and what ``enqueue`` returned."""
    job = make_job(unique_key=key)
    _say([job.id, queue.enqueue(job)])


def go_on(queue: BaseJobQueue) -> None:
    """Bring a job to its end whenever told so, and tell that it was."""
    leased = _leased(queue)
    for line in sys.stdin:
        name = line.strip()
        leased.enqueue(make_job(queue=name))
        claimed = leased.claim(10, "child", [name])
        _say(leased.settle([make_settlement(job) for job in claimed]))


def mix_calls(
    queue: BaseJobQueue, *, seed: str, threads: int, calls: int, limit_secs: float
) -> None:
    """Have threads make random calls; tell what they were told."""
    mixed = MixedCalls(_leased(queue), seed, limit_secs=limit_secs)
    _say(msgspec.to_builtins(mixed.run(threads=threads, calls=calls)))


ACTIONS: dict[str, Callable[..., None]] = {
    action.__name__: action
    for action in (
        claim_all,
        pop_all,
        hold,
        stay,
        settle_one,
        produce,
        produce_bulks,
        enqueue_unique,
        go_on,
        mix_calls,
    )
}


def _open(factory: dict[str, Any]) -> BaseJobQueue:
    made = getattr(import_module(factory["module"]), factory["name"])
    queue: BaseJobQueue = made(*factory["args"], **factory["kwargs"])
    queue.start()
    return queue


def _leased(queue: BaseJobQueue) -> LeasedJobQueue:
    assert isinstance(queue, LeasedJobQueue), "only started for laws that need leases"
    return queue


def _say(value: object) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
