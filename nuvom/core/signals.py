"""The signals between a task and its worker.

A task raises ``Retry``, ``Snooze`` and ``Discard`` to control its own job. A worker raises
``SoftTimeout`` and ``JobStopping`` in a task that asked for them. They are not errors and are not
part of the error hierarchy. This module is loaded by
``import nuvom``; ``nuvom.core.outcome`` decides what follows from a signal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

_MOST_SECS = 1e11  # the same limit as for task options


class Retry(Exception):  # noqa: N818  # a signal, not an error
    """Raised by a task to try again, which uses up one retry.

    Args:
        in_secs: Seconds, or a ``timedelta``, to wait; None uses the task's retry policy.
        max_retries: How many retries this job may use; None is the task's own limit.
    Raises: TypeError: it is neither.
    """

    in_secs: float | None = None
    max_retries: int | None = None

    def __init__(
        self, in_secs: float | timedelta | None = None, *, max_retries: int | None = None
    ) -> None:
        super().__init__(in_secs)
        self.max_retries = max_retries
        if in_secs is not None:
            self.in_secs = _secs(in_secs)


class Snooze(Exception):  # noqa: N818  # a signal, not an error
    """Raised by a task to be called again in ``secs`` seconds, without using up a retry.

    Args:
        secs: Seconds, or a ``timedelta``.
    Raises: TypeError: it is neither.
    """

    secs: float = 0.0

    def __init__(self, secs: float | timedelta) -> None:
        super().__init__(secs)
        self.secs = _secs(secs)


class Discard(Exception):  # noqa: N818  # a signal, not an error
    """Raised by a task to end as FAILED now, with ``reason``, even if retries remain."""

    reason: str = ""

    def __init__(self, reason: object = "") -> None:
        super().__init__(reason)
        self.reason = str(reason)


class SoftTimeout(Exception):  # noqa: N818  # a signal, not an error
    """Raised in a task once ``soft_timeout_secs`` have passed, so that it may clean up and return.

    It is raised once, where the code of the task stands: after a call of C code, at the next
    ``await`` of a coroutine. A task that lets it through has failed.
    """

    def __init__(self, message: str = "the task's soft_timeout_secs have passed") -> None:
        super().__init__(message)


class JobStopping(Exception):  # noqa: N818  # a signal, not an error
    """The worker was told to stop: raised by a task to hand its job back, which uses no retry.

    It is raised in a task with ``interrupt_on_stop=True``, once, as ``SoftTimeout`` is. If the
    task lets it through, another worker runs the job from its beginning.
    """

    def __init__(self, message: str = "the worker was told to stop") -> None:
        super().__init__(message)


def _secs(given: float | timedelta) -> float:
    """Return the seconds: at least 0, and never too many to add to a time."""
    total = getattr(given, "total_seconds", None)
    secs = given if total is None else total()
    if isinstance(secs, bool) or not isinstance(secs, int | float):
        raise TypeError(f"seconds or a timedelta are needed, not {given!r}")
    return min(max(0.0, secs), _MOST_SECS)  # in this order: max turns NaN into 0
