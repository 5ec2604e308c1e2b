"""Memory backends that fail when a test says so, as a store does that cannot be reached."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

from nuvom.errors import BackendUnavailable
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend

DOWN = BackendUnavailable("the store", "it is down")
_QUEUE_METHODS = (
    "announce",
    "claim",
    "commands",
    "condense_history",
    "enqueue",
    "extend",
    "mark_started",
    "next_due_secs",
    "prune",
    "reap",
    "release",
    "retire",
    "settle",
    "start",
    "unpark",
    "wait_for_work",
)
_RESULT_METHODS = ("get_full", "set_error", "set_record", "set_result", "start")


class Trouble:
    """What fails, and how often it was called."""

    def __init__(self) -> None:
        self._ahead: dict[str, list[BaseException | None]] = defaultdict(list)
        self._lasting: dict[str, BaseException] = {}
        self._lock = threading.Lock()
        self.calls: dict[str, int] = defaultdict(int)

    def once(self, method: str, error: BaseException = DOWN, *, after: int = 0) -> None:
        """Fail one call, after so many that do not."""
        self._ahead[method] += [*[None] * after, error]

    def always(self, method: str, error: BaseException = DOWN) -> None:
        """Fail each call until ``ends``."""
        self._lasting[method] = error

    def ends(self) -> None:
        """Fail no more."""
        self._lasting.clear()
        self._ahead.clear()

    def meet(self, method: str) -> None:
        """Raise what is due for a call of ``method``."""
        with self._lock:
            self.calls[method] += 1
            ahead = self._ahead[method]
            error = ahead.pop(0) if ahead else self._lasting.get(method)
        if error is not None:
            raise error


class TroubledQueue(MemoryJobQueue):
    """A memory queue with ``trouble``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.trouble = Trouble()


class TroubledResults(MemoryResultBackend):
    """Memory results with ``trouble``, in a store of their own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.trouble = Trouble()

    def joins(self, queue: object) -> bool:
        return False


def _trouble(cls: Any, name: str) -> None:
    method = getattr(cls, name)

    def troubled(self: Any, *args: Any, **options: Any) -> Any:
        self.trouble.meet(name)
        return method(self, *args, **options)

    setattr(cls, name, troubled)


for _name in _QUEUE_METHODS:
    _trouble(TroubledQueue, _name)
for _name in _RESULT_METHODS:
    _trouble(TroubledResults, _name)
