"""How long a pump leaves a store alone that has failed, and how that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.errors import StorageFull
from nuvom.events import BackendFailed
from nuvom.execution.bell import Nap
from nuvom.execution.failures import stored_error

if TYPE_CHECKING:
    from nuvom.errors import NuvomError
    from nuvom.events import EventBus

_WAITS_SECS = (0.1, 0.5, 1.0, 2.0, 5.0)  # after failures that follow each other
_FULL_SECS = 1.0  # at most, on a full disk: room may come back at any moment


class BackOff:
    """The waits after failures of the store, longer with each until it works again.

    Attributes:
        doing: What is being asked of the store, as one word.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._failures = 0
        self.doing = ""

    def failed(self, error: NuvomError) -> Nap:
        """Tell of a failure; return how long to wait."""
        wait = _WAITS_SECS[min(self._failures, len(_WAITS_SECS) - 1)]
        self._failures += 1
        if BackendFailed in self._bus.active:
            self._bus.emit(BackendFailed(self.doing, stored_error(self.doing, error)))
        return Nap(min(wait, _FULL_SECS) if isinstance(error, StorageFull) else wait)

    def works(self) -> None:
        """Take note that the store has answered."""
        self._failures = 0
