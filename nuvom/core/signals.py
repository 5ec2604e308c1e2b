"""The signals that a task raises to control its own job: ``Retry``, ``Snooze``, ``Discard``.

They are not errors and are not part of the error hierarchy. This module is loaded by
``import nuvom``; ``nuvom.core.outcome`` decides what follows from a signal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

_MOST_SECS = 1e12  # the same limit as for task options


class Retry(Exception):  # noqa: N818  # a signal, not an error
    """Raised by a task to try again, which uses up one retry.

    Args:
        in_secs: Seconds, or a ``timedelta``, to wait; None uses the task's retry policy.
    Raises: TypeError: it is neither.
    """

    in_secs: float | None = None

    def __init__(self, in_secs: float | timedelta | None = None) -> None:
        super().__init__(in_secs)
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


def _secs(given: float | timedelta) -> float:
    """Return the seconds: at least 0, and never too many to add to a time."""
    total = getattr(given, "total_seconds", None)
    secs = given if total is None else total()
    if isinstance(secs, bool) or not isinstance(secs, int | float):
        raise TypeError(f"seconds or a timedelta are needed, not {given!r}")
    return min(max(0.0, secs), _MOST_SECS)  # in this order: max turns NaN into 0
