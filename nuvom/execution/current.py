"""``current_job()``: what running code may know and do about its own job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nuvom.core.guard import engine_call
from nuvom.core.job_context import current
from nuvom.errors import LeaseLost, NoCurrentJob

if TYPE_CHECKING:
    from nuvom.execution.running import RunningJob
    from nuvom.registry.registry import TaskDefinition


class CurrentJob:
    """The job that the calling code belongs to."""

    __slots__ = ("_running",)

    def __init__(self, running: RunningJob) -> None:
        self._running = running

    @property
    def id(self) -> str:
        """UUIDv7 text."""
        return self._running.record.id

    @property
    def task(self) -> str:
        """Full name of the task."""
        return self._running.record.func_name

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self._running.record.queue

    @property
    def attempt(self) -> int:
        """From 1; the same when an attempt is delivered again after a crash."""
        return self._running.record.attempt

    @property
    def max_retries(self) -> int:
        """Further attempts allowed after the first."""
        return self._running.record.max_retries

    @property
    def fencing_token(self) -> int:
        """Raised by each delivery; pass it to services that can refuse an older one."""
        return self._running.record.lease_epoch

    @property
    def idempotency_key(self) -> str:
        """The job's id: the same for all attempts and deliveries."""
        return self._running.record.id

    @property
    def metadata(self) -> dict[str, Any]:
        """What ``.options(metadata=...)`` gave."""
        return dict(self._running.record.metadata or {})

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled, timed out or lost: nothing it does counts any more."""
        return self._running.is_cancelled

    @engine_call
    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Show how far the job is.

        Args:
            done, total: In any unit; ``total`` None where it is not known.
        Raises: LeaseLost: the job is no longer this worker's.
        """
        if not self._running.services.report_progress(self._running, done, total, message):
            self._running.is_cancelled = True
            raise LeaseLost(self.id, self.fencing_token)

    @engine_call
    def enqueue(self, task: Any, *args: Any, **kwargs: Any) -> str:
        """Enqueue a job together with this one's success, or not at all.

        Args:
            task: A task, with ``.options()`` or without.
        Returns: the id that the job will have.
        Raises: InvalidArguments, NotStorable, PayloadTooLarge: as ``.delay()``.
        """
        definition = cast("TaskDefinition", task.definition)
        record = self._running.services.make_record(definition, args, kwargs, task.call_options)
        if self._running.children is None:
            self._running.children = []
        self._running.children.append(record)
        job_id: str = record.id
        return job_id

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} {self.task} attempt {self.attempt}>"


def current_job() -> CurrentJob:
    """Return the job that the calling code belongs to.

    Raises: NoCurrentJob: it belongs to none.
    """
    running = current.get()
    if running is None:
        raise NoCurrentJob
    return CurrentJob(cast("RunningJob", running))
