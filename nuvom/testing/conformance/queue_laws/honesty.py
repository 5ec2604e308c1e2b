"""A backend declares what it can do: no more and no less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuvom.core.ids import valid_name
from nuvom.errors import CapabilityMissing
from nuvom.queue_backends.base import BaseJobQueue, Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.testing.conformance.queue_bench import QueueBench

# Methods that belong to a capability, each with a call that changes nothing on an empty queue.
_CALLS: dict[Capability, dict[str, Callable[[Any], object]]] = {
    Capability.LEASES: {
        "claim": lambda queue: queue.claim(1, "worker-a"),
        "settle": lambda queue: queue.settle([]),
        "release": lambda queue: queue.release([]),
        "extend": lambda queue: queue.extend("worker-a"),
        "reap": lambda queue: queue.reap(),
        "next_due_secs": lambda queue: queue.next_due_secs(),
        "workers": lambda queue: queue.workers(),
        "command": lambda queue: queue.command("worker-a", "stop"),
        "commands": lambda queue: queue.commands("worker-a"),
        "control_version": lambda queue: queue.control_version(),
        "unpark": lambda queue: queue.unpark([]),
    },
    Capability.WAKE_UP: {"wait_for_work": lambda queue: queue.wait_for_work(0.0)},
    Capability.INSPECTION: {
        "get": lambda queue: queue.get("no-such-job"),
        "find_ids": lambda queue: queue.find_ids("no-such-job"),
        "page": lambda queue: queue.page(),
        "attempts": lambda queue: queue.attempts("no-such-job"),
        "stats": lambda queue: queue.stats(),
        "error_groups": lambda queue: queue.error_groups(),
        "failed_ids": lambda queue: queue.failed_ids("no-such-group"),
        "parked_tasks": lambda queue: queue.parked_tasks,
    },
    Capability.CONTROL: {
        "cancel": lambda queue: queue.cancel("no-such-job"),
        "retry": lambda queue: queue.retry("no-such-job"),
        "resume": lambda queue: queue.resume("nowhere"),
        "purge": lambda queue: queue.purge("nowhere"),
        "prune": lambda queue: queue.prune(success_before=0.0, failed_before=0.0),
    },
    Capability.TOTALS: {"keep_totals": lambda queue: queue.keep_totals()},
}


class Honesty(QueueKit):
    """The engine asks for capabilities; a wrong answer loses jobs."""

    @law()
    def test_capabilities_are_known_ones(self, bench: QueueBench) -> None:
        """``capabilities`` is a frozenset of ``Capability``."""
        declared = bench.queue.capabilities
        assert isinstance(declared, frozenset), f"capabilities is a {type(declared).__name__}"
        unknown = [one for one in declared if not isinstance(one, Capability)]
        assert unknown == [], f"unknown capabilities: {unknown}"

    @law()
    def test_declared_methods_are_there(self, bench: QueueBench) -> None:
        """Every method that belongs to a declared capability does something."""
        queue = bench.open(real_time=True)
        missing = [
            f"{name} ({capability})"
            for capability in queue.capabilities & _CALLS.keys()
            for name, call in _CALLS[capability].items()
            if not _works(queue, name, call)
        ]
        assert missing == [], f"declared, but missing: {', '.join(sorted(missing))}"

    @law()
    def test_nothing_is_kept_undeclared(self, bench: QueueBench) -> None:
        """A capability that is implemented as a whole is declared, too."""
        queue = bench.open(real_time=True)
        undeclared = [
            str(capability)
            for capability, calls in _CALLS.items()
            if capability not in queue.capabilities
            and all(_works(queue, name, call) for name, call in calls.items())
        ]
        for capability, has in _BEHAVIOURS.items():
            if capability not in queue.capabilities and has(bench, bench.open(real_time=True)):
                undeclared.append(str(capability))
        assert undeclared == [], f"implemented, but not declared: {', '.join(undeclared)}"

    @law()
    def test_a_backend_has_a_name(self, bench: QueueBench) -> None:
        """A backend's name, if it gives one, can be used in the settings."""
        name = bench.queue.name
        assert isinstance(name, str), f"the name is {name!r}"
        if name:
            valid_name("backend", name)


def _works(queue: BaseJobQueue, name: str, call: Callable[[Any], object]) -> bool:
    """Tell whether a method is more than the default, which does without the capability."""
    if getattr(type(queue), name, None) in (None, getattr(BaseJobQueue, name, None)):
        return False
    try:
        call(queue)
    except (CapabilityMissing, NotImplementedError):
        return False
    return True


def _orders_by_priority(bench: QueueBench, queue: BaseJobQueue) -> bool:
    numbers = [5, 9, 1, 7, 3, 8, 2]
    queue.enqueue_many([bench.job(priority=number) for number in numbers])
    return [job.priority for job in queue.pop_batch(9)] == sorted(numbers)


def _keeps_keys(bench: QueueBench, queue: BaseJobQueue) -> bool:
    job = bench.job(unique_key="once")
    queue.enqueue(job)
    return queue.enqueue(bench.job(unique_key="once")) == job.id


def _keeps_back(bench: QueueBench, queue: BaseJobQueue) -> bool:
    try:
        queue.enqueue(bench.job(run_at=bench.clock.now() + 3600.0))
    except CapabilityMissing:
        return False
    return queue.dequeue() is None and queue.qsize() == 1


_BEHAVIOURS: dict[Capability, Callable[[QueueBench, BaseJobQueue], bool]] = {
    Capability.PRIORITY: _orders_by_priority,
    Capability.UNIQUE: _keeps_keys,
    Capability.SCHEDULED: _keeps_back,
}
