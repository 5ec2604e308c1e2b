"""What processes do that the lab's laws start; see ``nuvom/testing/conformance/child.py``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.conformance.child import say
from tests.lab.mixed_calls import MixedCalls

if TYPE_CHECKING:
    from nuvom.queue_backends.leased import LeasedJobQueue


def go_on(queue: LeasedJobQueue) -> None:
    """Bring a job to its end whenever told so, and tell that it was."""
    for line in sys.stdin:
        name = line.strip()
        queue.enqueue(make_job(queue=name))
        claimed = queue.claim(10, "child", [name])
        say(queue.settle([make_settlement(job) for job in claimed]))


def mix_calls(
    queue: LeasedJobQueue, *, seed: str, threads: int, calls: int, limit_secs: float
) -> None:
    """Have threads make random calls; tell what they were told."""
    mixed = MixedCalls(queue, seed, limit_secs=limit_secs)
    say(msgspec.to_builtins(mixed.run(threads=threads, calls=calls)))
