"""What the tour enqueues, and what has to come of it. How it is shown is the caller's affair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.record import JobStatus
from nuvom.demo import tasks
from nuvom.inspection import Inspector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nuvom.core.record import JobSnapshot
    from nuvom.job import Job
    from nuvom.runtime import Runtime

DELAY_SECS = 3.0
SQUARES = 16
CRUNCHES = (1.0, 1.5, 2.0, 2.5)


class Expected(NamedTuple):
    """A job of the tour, and how it has to end."""

    job_id: str
    task: str
    status: JobStatus = JobStatus.SUCCESS
    attempt: int = 1

    def is_met_by(self, snapshot: JobSnapshot) -> bool:
        """Return whether the job ended as it should."""
        return (snapshot.status, snapshot.record.attempt) == (self.status, self.attempt)


def enqueue() -> list[Expected]:
    """Store the jobs of the tour in the current runtime; return what is expected of each."""
    jobs: list[Job[Any]] = [*tasks.square.map([(number,) for number in range(SQUARES)])]
    jobs += [tasks.crunch.delay(secs) for secs in CRUNCHES]
    jobs += [tasks.later.options(delay=DELAY_SECS).delay(), tasks.fetch.delay(1.0)]
    expected = [Expected(job.id, job.func_name) for job in jobs]
    flaky, broken = tasks.flaky.delay(), tasks.broken.delay()
    expected.append(Expected(flaky.id, flaky.func_name, attempt=2))
    expected.append(Expected(broken.id, broken.func_name, JobStatus.FAILED))
    return expected


def watch(
    runtime: Runtime, expected: list[Expected], *, limit_secs: float, pause_secs: float = 0.1
) -> Iterator[list[JobSnapshot]]:
    """Yield the jobs as they are, until all have ended or the time is over."""
    inspector, clock = Inspector(runtime), runtime.clock
    deadline = clock.monotonic() + limit_secs
    while True:
        snapshots = [inspector.snapshot(one.job_id) for one in expected]
        yield snapshots
        if all(one.status.is_final for one in snapshots) or clock.monotonic() > deadline:
            return
        clock.sleep(pause_secs)
