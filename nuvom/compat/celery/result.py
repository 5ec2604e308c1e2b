"""``AsyncResult``: what became of a call, read from Nuvom's store."""

from __future__ import annotations

import builtins
import json
import re
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, UUID, uuid5

from nuvom import errors
from nuvom.compat.celery import exceptions
from nuvom.compat.celery.exceptions import CeleryWarning, NotSupported, TaskRevokedError
from nuvom.compat.celery.states import (
    EXCEPTION_STATES,
    FAILURE,
    PENDING,
    READY_STATES,
    REVOKED,
    STARTED,
    SUCCESS,
    state_of,
)
from nuvom.core.job_context import current
from nuvom.job import Job
from nuvom.runtime import current_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nuvom.core.record import JobSnapshot, StoredError

_OWN_STATE = re.compile(r"(?P<state>\w+) (?P<meta>\{.*\})", re.DOTALL)
_LONG_SECS = 86_400.0
_is_allowed: ContextVar[bool] = ContextVar("nuvom_celery_join", default=False)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allow ``get()`` inside a task."""
    token = _is_allowed.set(True)
    try:
        yield
    finally:
        _is_allowed.reset(token)


def job_id_of(task_id: str) -> str:
    """Return the id of the job with a task id: the same if it is a UUID, else one made of it."""
    try:
        if str(UUID(task_id)) == task_id:
            return task_id
    except ValueError:
        pass
    return str(uuid5(NAMESPACE_OID, f"nuvom.compat.celery {task_id}"))


def encoded_state(state: str, meta: Any) -> tuple[float, float | None, str]:
    """Return what ``update_state`` reports as a job's progress: done, total and message."""
    meta = meta if isinstance(meta, dict) else {"meta": meta}
    done, total = meta.get("current", 0), meta.get("total")
    numbers = [one if isinstance(one, int | float) else None for one in (done, total)]
    return float(numbers[0] or 0), numbers[1], f"{state} {json.dumps(meta)}"


class AsyncResult:
    """What became of the call with this id.

    Args:
        id: As ``apply_async`` returned it.
        app: Accepted; the store is that of the project.
    """

    TimeoutError = exceptions.TimeoutError

    def __init__(
        self,
        id: str,  # noqa: A002  # Celery's name
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
    ) -> None:
        self.id = str(id)
        self.app, self.parent, self.backend = app, None, backend
        self._name = task_name
        self._was_seen = task_name is not None  # by who made the call

    @property
    def task_id(self) -> str:
        """The id."""
        return self.id

    @property
    def job(self) -> Job[Any]:
        """Nuvom's handle of the job."""
        return Job(job_id_of(self.id), current_runtime())

    # ---- where it is ----------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The state. An id that no job has is PENDING, as in Celery, with a warning."""
        snapshot = self._snapshot()
        own = self._own_state(snapshot)
        if own is not None:
            return own[0]
        return PENDING if snapshot is None else state_of(snapshot)

    status = state

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        """Whether the task has returned."""
        return self.state == SUCCESS

    def failed(self) -> bool:
        """Whether the task has failed."""
        return self.state == FAILURE

    # ---- what came of it ------------------------------------------------------------------

    @property
    def result(self) -> Any:
        """The value that the task returned, the exception that it raised, or None."""
        snapshot = self._snapshot()
        if snapshot is None:
            return None
        own = self._own_state(snapshot)
        if own is not None:
            return own[1]
        state = state_of(snapshot)
        if state == SUCCESS:
            return self.job.result
        if state == REVOKED:
            return TaskRevokedError("revoked" if snapshot.error is None else snapshot.error.message)
        if snapshot.error is None or state not in EXCEPTION_STATES:
            return None
        return exception_of(self.id, snapshot.error)

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of the last failure as text, or None."""
        snapshot = self._snapshot()
        return None if snapshot is None or snapshot.error is None else snapshot.error.traceback

    @property
    def date_done(self) -> datetime | None:
        """When it ended, in UTC."""
        snapshot = self._snapshot()
        if snapshot is None or not snapshot.status.is_final or snapshot.finished_at is None:
            return None
        return datetime.fromtimestamp(snapshot.finished_at, UTC)

    @property
    def name(self) -> str | None:
        """Name of the task."""
        snapshot = self._snapshot()
        return self._name if snapshot is None else snapshot.record.func_name

    @property
    def args(self) -> Any:
        """Positional arguments."""
        return self.job.args

    @property
    def kwargs(self) -> Any:
        """Keyword arguments."""
        return self.job.kwargs

    @property
    def queue(self) -> str:
        """Name of the queue."""
        return self.job.queue

    @property
    def retries(self) -> int:
        """How often it was run before the last attempt."""
        return max(0, self.job.attempt - 1)

    @property
    def worker(self) -> str | None:
        """Id of the worker that has or had it."""
        snapshot = self._snapshot()
        return None if snapshot is None else snapshot.worker

    @property
    def children(self) -> list[AsyncResult]:
        """Always empty: calls made by a task are not listed here."""
        return []

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        **options: Any,
    ) -> Any:
        """Wait for the task to end, and return what it returned.

        Args:
            timeout: Maximum seconds to wait; None waits for ever.
            propagate: Raise the task's exception; else return it.
            callback: Called with the id and the value.
            disable_sync_subtasks: Refuse to wait inside a task.
            options: ``interval`` and others that concern the broker alone.
        Raises: TimeoutError: it has not ended in time; TaskRevokedError; what the task raised, if
            that is a built-in exception, else JobFailed; JobNotFound: there is no such job.
        """
        if options.get("on_message") or options.get("on_interval"):
            raise NotSupported("on_message= or on_interval= of get()", "poll the state instead.")
        if current.get() is not None and disable_sync_subtasks and not _is_allowed.get():
            raise RuntimeError(
                "Never call result.get() within a task! Its slot could wait for ever."
            )
        try:
            value = self._waited(timeout)
        except errors.JobTimeout as error:
            raise exceptions.TimeoutError(str(error)) from error
        except (errors.JobFailed, errors.JobCancelled) as error:
            result = self.result
            if not propagate:
                return result
            raise (error if isinstance(result, errors.JobFailed) else result) from error
        if callback is not None:
            callback(self.id, value)
        return value

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Return the result if it has ended, or raise what the task raised."""
        return self.get(propagate=propagate, callback=callback) if self.ready() else self.result

    # ---- what can be done -----------------------------------------------------------------

    def revoke(self, connection: Any = None, terminate: bool = False, **options: Any) -> None:
        """Cancel the job: it does not start, or its running attempt is told to stop."""
        self.job.cancel()

    def forget(self) -> None:
        """Remove the job and its result, if it has ended."""
        current_runtime().control.discard(job_id_of(self.id))

    # ---- inside ---------------------------------------------------------------------------

    def _waited(self, timeout: float | None) -> Any:
        if timeout is not None or current.get() is None:
            return self.job.get(timeout)
        while True:  # inside a task, which has said that it wants to wait
            try:
                return self.job.get(_LONG_SECS)
            except errors.JobTimeout:
                continue

    def _snapshot(self) -> JobSnapshot | None:
        try:
            return self.job.snapshot()
        except errors.JobNotFound:
            if not self._was_seen:
                self._was_seen = True
                text = f"No job has the id {self.id}: its state is given as PENDING, as in Celery."
                warnings.warn(text, CeleryWarning, stacklevel=3)
            return None

    def _own_state(self, snapshot: JobSnapshot | None) -> tuple[str, Any] | None:
        """Return what ``update_state`` of the running task has reported."""
        if snapshot is None or state_of(snapshot) != STARTED or snapshot.progress is None:
            return None
        found = _OWN_STATE.fullmatch(snapshot.progress[2])
        return None if found is None else (found["state"], json.loads(found["meta"]))

    def __eq__(self, other: object) -> bool:
        return self.id == (other if isinstance(other, str) else getattr(other, "id", None))

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"


class EagerResult(AsyncResult):
    """What came of a task that was run by ``apply()``."""

    def __init__(
        self,
        id: str,  # noqa: A002  # Celery's name
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(id, task_name=name)
        self._result, self._state, self._traceback = ret_value, state, traceback

    @property
    def state(self) -> str:
        """SUCCESS or FAILURE."""
        return self._state

    status = state

    @property
    def result(self) -> Any:
        """The value, or the exception."""
        return self._result

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of the failure as text, or None."""
        return self._traceback

    @property
    def name(self) -> str | None:
        """Name of the task."""
        return self._name

    def get(self, timeout: float | None = None, propagate: bool = True, **_: Any) -> Any:
        """Return the value, or raise the exception."""
        if self._state != SUCCESS and propagate:
            raise self._result
        return self._result

    wait = get

    def forget(self) -> None:
        """Do nothing: nothing is stored."""

    def revoke(self, *_: Any, **__: Any) -> None:
        """Do nothing: it has ended."""


def exception_of(task_id: str, error: StoredError) -> Exception:
    """Return an exception for a stored one: its class if that is built in, else JobFailed.

    A class is never imported by a stored name.
    """
    known: Any = getattr(builtins, error.type, None) or getattr(exceptions, error.type, None)
    if error.type == exceptions.SoftTimeLimitExceeded.__name__:
        known = exceptions.SoftTimeLimitExceeded
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            made: Exception = known(error.message)
        except Exception:  # noqa: BLE001  # its constructor takes something else
            made = errors.JobFailed(task_id, error.type, error.message, error.traceback)
        return made
    return errors.JobFailed(task_id, error.type, error.message, error.traceback)
