"""The exceptions of ``celery.exceptions``, those that Nuvom raises in tasks among them."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from nuvom.core import signals

if TYPE_CHECKING:
    from datetime import datetime

SoftTimeLimitExceeded = signals.SoftTimeout


class CeleryWarning(UserWarning):
    """Something of Celery's has no effect on Nuvom; the message names it."""


class CeleryError(Exception):
    """The root of this module's exceptions."""


class NotSupported(CeleryError, NotImplementedError):
    """An option, setting or method of Celery's that Nuvom cannot keep; the message names it.

    Args:
        what: The option, setting or method.
        why: Why it cannot be kept, and what to do.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} is not supported on Nuvom: {why}")


class ImproperlyConfigured(CeleryError):
    """A setting cannot be used."""


class NotRegistered(KeyError, CeleryError):
    """No task has this name."""


class TimeoutError(CeleryError, builtins.TimeoutError):  # noqa: A001  # Celery's name
    """The result was not there in time; the task is not affected."""


class TaskError(CeleryError):
    """A task has failed."""


class MaxRetriesExceededError(TaskError):
    """A task asked for another retry, and none is left."""


class TaskRevokedError(TaskError):
    """The task was revoked, or has expired."""


class TimeLimitExceeded(TaskError):
    """The task ran longer than its ``time_limit``."""


class WorkerLostError(TaskError):
    """The process that ran the task has died too often."""


class Retry(signals.Retry, CeleryError):
    """Raised by ``self.retry()`` to run the task again.

    Args:
        message: What to say of it; the text of ``exc`` by default.
        exc: The exception because of which the task is run again.
        when: Seconds from now, or the time.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | datetime | None = None,
    ) -> None:
        super().__init__()
        self.message = message or (str(exc) if exc is not None else "Retry")
        self.exc = exc
        self.when = when
        self.args = (self.message, exc, when)
        if isinstance(when, int | float):
            self.in_secs = max(0.0, when)

    def __str__(self) -> str:
        return self.message


class Ignore(signals.Discard, CeleryError):
    """Raised by a task to end without a result. The job ends FAILED; nothing retries it."""

    def __init__(self, reason: object = "ignored") -> None:
        super().__init__(reason)


class Reject(signals.Discard, CeleryError):
    """Raised by a task to reject its message: the job ends FAILED.

    Raises: NotSupported: it is to be put back into the queue.
    """

    def __init__(self, reason: object = "rejected", requeue: bool = False) -> None:
        if requeue:
            raise NotSupported("Reject(requeue=True)", "raise nuvom.Snooze(secs) instead.")
        super().__init__(reason)
