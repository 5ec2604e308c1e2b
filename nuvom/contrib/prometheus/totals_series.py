"""Counters and histograms made of the totals that the store keeps itself.

Series are there with 0 as soon as their queue or task is known, so that a rate tells of the
first failure, too. Where the store keeps no totals there is none of them: absent is not 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from nuvom.contrib.prometheus.families import Capped, Distribution, counter, histogram
from nuvom.core.views import TOOK_BOUNDS, WAITED_BOUNDS, Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

_OUTCOMES = ("success", "failure", "timeout", "cancelled", "dead")
_BY_TASK = {
    "enqueued": ("nuvom_jobs_enqueued_total", "Jobs stored."),
    "started": (
        "nuvom_jobs_started_total",
        "Attempts started; counted once they have ended or are lost.",
    ),
    "retried": ("nuvom_job_retries_total", "Attempts that another one follows."),
}
_BY_QUEUE = {
    "lost": ("nuvom_jobs_lost_total", "Attempts that ended without a report."),
    "redelivered": (
        "nuvom_redeliveries_total",
        "Jobs given back to their queue after such an attempt.",
    ),
}


class TotalsSeries:
    """Sums the store's totals by the labels that are shown."""

    def __init__(self, tasks: Capped, queues: Capped) -> None:
        self._tasks = tasks
        self._queues = queues

    def collect(self, totals: list[Total], queues: Iterable[str]) -> Iterator[Metric]:
        """Yield the families; none where nothing was ever counted."""
        if not totals:
            return
        sums = _Sums({self._queues.shown(queue) for queue in queues})
        # The busiest first, so that they keep their names where not all can.
        for one in sorted(totals, key=lambda total: -total.count):
            sums.add(one, self._queues.shown(one.queue), self._tasks.shown(one.task))
        yield from sums.families()


class _Sums:
    def __init__(self, queues: set[str]) -> None:
        self._queues = queues
        self._pairs: dict[tuple[str, str], None] = {}
        self._by_task: Counter[tuple[str, str, str]] = Counter()
        self._by_queue: Counter[tuple[str, str]] = Counter()
        self._finished: Counter[tuple[str, str, str]] = Counter()
        self._took: dict[tuple[str, str], Distribution] = defaultdict(
            lambda: Distribution(TOOK_BOUNDS)
        )
        self._waited: dict[str, Distribution] = defaultdict(lambda: Distribution(WAITED_BOUNDS))

    def add(self, one: Total, queue: str, task: str) -> None:
        self._queues.add(queue)
        self._pairs[queue, task] = None
        if one.kind in _BY_QUEUE:
            self._by_queue[one.kind, queue] += one.count
        if one.kind in _BY_TASK:
            self._by_task[one.kind, queue, task] += one.count
        if one.kind in ("attempt", "lost"):
            self._by_task["started", queue, task] += one.count
        if one.outcome:
            self._finished[queue, task, one.outcome] += one.count
        if one.kind == "attempt":
            self._took[queue, task].add(one.took, one.count, one.took_secs)
            self._waited[queue].add(one.waited, one.count, one.waited_secs)

    def families(self) -> Iterator[Metric]:
        for kind, (name, about) in _BY_TASK.items():
            family = counter(name, about, ["queue", "task"])
            for queue, task in self._pairs:
                family.add_metric([queue, task], self._by_task[kind, queue, task])
            yield family
        for kind, (name, about) in _BY_QUEUE.items():
            family = counter(name, about, ["queue"])
            for queue in self._queues:
                family.add_metric([queue], self._by_queue[kind, queue])
            yield family
        labels = ["queue", "task", "outcome"]
        finished = counter("nuvom_jobs_finished_total", "Jobs that have ended.", labels)
        for queue, task in self._pairs:
            for outcome in _OUTCOMES:
                key = (queue, task, outcome)
                finished.add_metric(key, self._finished[key])
        yield finished
        yield from self._histograms()

    def _histograms(self) -> Iterator[Metric]:
        took = histogram("nuvom_job_duration_seconds", "How long attempts took.", ["queue", "task"])
        for key, one in self._took.items():
            one.write(took, key)
        waited = histogram(
            "nuvom_job_wait_seconds", "How long jobs that could start had waited.", ["queue"]
        )
        for queue, one in self._waited.items():
            one.write(waited, [queue])
        yield from (took, waited)
