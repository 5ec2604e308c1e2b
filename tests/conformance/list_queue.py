"""The smallest backend: five methods and nothing else."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import TYPE_CHECKING

from nuvom.queue_backends.base import BaseJobQueue

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord


class ListQueue(BaseJobQueue):
    """A whole backend that delivers at most once, first in, first out."""

    def __init__(self) -> None:
        self.jobs: deque[JobRecord] = deque()
        self.changed = Condition()

    def enqueue(self, job: JobRecord) -> str | None:
        with self.changed:
            if all(job.id != one.id for one in self.jobs):
                self.jobs.append(job)
                self.changed.notify()
        return None

    def dequeue(self, timeout: float | None = None) -> JobRecord | None:
        with self.changed:
            self.changed.wait_for(lambda: self.jobs, timeout or 0)
            return self.jobs.popleft() if self.jobs else None

    def pop_batch(self, batch_size: int) -> list[JobRecord]:
        with self.changed:
            return [self.jobs.popleft() for _ in range(min(batch_size, len(self.jobs)))]

    def qsize(self) -> int:
        return len(self.jobs)

    def clear(self) -> None:
        with self.changed:
            self.jobs.clear()
