"""The signals that a task raises to steer its own job: ``Retry``, ``Snooze``, ``Discard``.

They are no errors and stand outside the error tree. This module is on the path of
``import nuvom``; what follows from a signal is decided in ``nuvom.retry``.
"""

from __future__ import annotations


class Retry(Exception):  # noqa: N818  # a signal, not an error
    """Raised by a task: try again, which uses up one retry.

    Args:
        in_secs: Seconds to wait; None waits as the task's policy says.
    """

    def __init__(self, in_secs: float | None = None) -> None:
        super().__init__(in_secs)
        self.in_secs = in_secs


class Snooze(Exception):  # noqa: N818  # a signal, not an error
    """Raised by a task: call again in ``secs`` seconds, which uses up no retry."""

    def __init__(self, secs: float) -> None:
        super().__init__(secs)
        self.secs = secs


class Discard(Exception):  # noqa: N818  # a signal, not an error
    """Raised by a task: end FAILED now, with ``reason``, whatever retries remain."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
