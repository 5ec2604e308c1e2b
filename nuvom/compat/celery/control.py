"""``app.control``: what Nuvom's SDK tells of workers, and what it can do about jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from nuvom import sdk
from nuvom.compat.celery.exceptions import NotSupported
from nuvom.compat.celery.result import AsyncResult
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.record import JobStatus
from nuvom.runtime import current_runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nuvom.job import Job

_MOST = 10_000
_NO_REMOTE = "workers take no commands of Celery's; `nuvom workers` has those of Nuvom."


class AppControl:
    """``app.control``."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def revoke(
        self,
        task_id: str | Iterable[str],
        terminate: bool = False,
        signal: Any = None,
        **_: Any,
    ) -> None:
        """Cancel jobs: they do not start, or their running attempts are told to stop."""
        for one in [task_id] if isinstance(task_id, str) else task_id:
            AsyncResult(one, app=self._app).revoke()

    def terminate(self, task_id: str | Iterable[str], **_: Any) -> None:
        """Do as ``revoke``."""
        self.revoke(task_id)

    def inspect(self, destination: Any = None, timeout: float = 1.0, **_: Any) -> WorkerInspect:
        """Return an object that tells of workers.

        Args:
            destination: Ids of workers; None means all.
            timeout: Accepted; the store answers.
        """
        del timeout
        return WorkerInspect(self._app, destination)

    def ping(self, destination: Any = None, timeout: float = 1.0, **_: Any) -> list[Any]:
        """Return one answer for each worker that is alive."""
        found = self.inspect(destination, timeout).ping() or {}
        return [{worker: answer} for worker, answer in found.items()]

    def purge(self) -> int:
        """Remove all waiting jobs; return how many."""
        control = current_runtime().control
        return sum(control.purge(one.queue) for one in sdk.queue_stats())

    discard_all = purge

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupported(f"app.control.{name}", _NO_REMOTE)


class WorkerInspect:
    """What ``app.control.inspect()`` returns: each method answers by worker, or None for none."""

    def __init__(self, app: Any, destination: Any) -> None:
        self._app = app
        self._wanted = [destination] if isinstance(destination, str) else destination

    def ping(self) -> dict[str, Any] | None:
        """Return the workers that are alive."""
        return self._each(lambda _: {"ok": "pong"})

    def active(self, safe: Any = None) -> dict[str, Any] | None:
        """Return the jobs that are running, by worker."""
        del safe
        running = [(one, one.snapshot()) for one in self._jobs(JobStatus.RUNNING)]
        return self._each(
            lambda worker: [_shown(job) for job, now in running if now.worker == worker.id]
        )

    def scheduled(self, safe: Any = None) -> dict[str, Any] | None:
        """Return the jobs that wait for a time; no worker has them, so each names them all."""
        del safe
        now = SYSTEM_CLOCK.now()
        later = [one for one in self._jobs(JobStatus.PENDING) if one.record.run_at > now]
        found = [{"eta": one.record.run_at, "request": _shown(one)} for one in later]
        return self._each(lambda _: found)

    def reserved(self, safe: Any = None) -> dict[str, Any] | None:
        """Return nothing for each worker: a job is claimed when it is about to run."""
        del safe
        return self._each(lambda _: [])

    def registered(self, *_: Any) -> dict[str, Any] | None:
        """Return the names of the tasks that this process knows, for each worker."""
        names = current_runtime().registry.names()
        return self._each(lambda _: names)

    def active_queues(self) -> dict[str, Any] | None:
        """Return the queues that each worker serves; an empty list means all."""
        return self._each(lambda worker: [{"name": one} for one in worker.queues or ()])

    def stats(self) -> dict[str, Any] | None:
        """Return what is known of each worker."""
        return self._each(lambda worker: {"pid": worker.pid, "hostname": worker.host})

    def _each(self, answer: Any) -> dict[str, Any] | None:
        found = {
            one.id: answer(one)
            for one in sdk.workers()
            if self._wanted is None or one.id in self._wanted
        }
        return found or None

    def _jobs(self, status: JobStatus) -> Iterator[Job[Any]]:
        yield from sdk.list_jobs(status=status, limit=_MOST)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupported(f"app.control.inspect().{name}", _NO_REMOTE)


def _shown(job: Job[Any]) -> dict[str, Any]:
    return {"id": job.id, "name": job.func_name, "args": job.args, "kwargs": job.kwargs}
